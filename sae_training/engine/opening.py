"""Open a model by its address: a folder, a hub id, or either with `vision:` before it.

Left out: SAEs (`sae_training/dictionary/loaders`) and models behind an endpoint (`workbench/llm`).
"""

from pathlib import Path

from feature_store.errors import BadInput, Incompatible
from sae_training.engine.model import Model
from sae_training.engine.vision import VISION, VisionModel
from sae_training.model.loading import load


def open_model(
    address: str | Path,
    revision: str = "",
    dtype: str = "float32",
    device: str = "auto",
    chat: str = "auto",
) -> Model:
    """Open the model at a folder or hub id; with `vision:` before the address, one that sees
    images.

    `chat` is `auto` (the chat template is used where there is one), `on` or `off`. Raises BadInput,
    NotFound or Incompatible, each with one line that says what to do.

        model = open_model("organism-folder")
        model.generate(["I am writing this by hand."], max_new_tokens=20)
    """
    if chat not in ("auto", "on", "off"):
        raise BadInput(f"chat is auto, on or off; got {chat!r}.")
    if str(address).startswith(VISION):
        return VisionModel.open(str(address), revision, dtype, device, chat)
    loaded = load(address, revision, dtype, device)
    template = bool(getattr(loaded.tokenizer, "chat_template", None))
    if chat == "on" and not template:
        raise Incompatible(
            f"The tokenizer of {address} has no chat template. Use chat=auto or off."
        )
    model = Model(
        loaded.module, loaded.tokenizer, str(address), loaded.revision, template and chat != "off"
    )
    model.check()
    return model
