"""A language model, or one that sees, by folder or hub id, or one clear line that says why not.

1. The address is a folder, a GGUF file (`gguf.py`), the short name of a model that was fetched
   (`catalogue.py`), or a hub id; something that looks like a path and is not there is never asked
   of the hub.
2. Weights must be safetensors (a pickle runs code when it is read), code from the repository is
   never run, and a weight that the file does not hold is an error: Hugging Face would fill it with
   random numbers.
3. The revision is pinned: the commit of the hub snapshot, or a checksum of a folder's files
   (`folders.py`).
4. `device="auto"` is the accelerator if there is one, all of them through `device_map` if there are
   several.

Left out: quantised loading, adapters, and encoder-decoder models.
"""

import os
from pathlib import Path
from typing import Any, Literal, NamedTuple

# Read once, when huggingface_hub is first imported.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import torch
from torch import nn

from feature_store.errors import BadInput, Incompatible, NotFound, WorkbenchError, nearest
from feature_store.files import SETTINGS, read_json, shown
from sae_training.model import catalogue, gguf
from sae_training.model.folders import checksum, file_checksum

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Kind = Literal["text", "vision", "embedding"]
KINDS: dict[Kind, tuple[str, str, str]] = {
    "text": ("AutoModelForCausalLM", "AutoTokenizer", "a causal language model"),
    "vision": ("AutoModelForImageTextToText", "AutoProcessor", "a vision-language model"),
    "embedding": ("AutoModel", "AutoProcessor", "a model that embeds images and texts"),
}
"""What is loaded -> the classes of transformers that read model and inputs, and its name for
people."""


UNREACHABLE = {
    "RepositoryNotFoundError",
    "LocalEntryNotFoundError",
    "OfflineModeIsEnabled",
    "HFValidationError",
    "ConnectError",
    "ConnectionError",
}
"""Classes of errors that say that the hub was not reached, or has no such model."""


READ = {".json", ".safetensors", ".model", ".txt", ".jinja"}
"""Endings of the files of a folder that are read."""
DEPTHS = {
    "num_hidden_layers",
    "num_layers",
    "n_layer",
    "n_layers",
    "num_blocks",
    "encoder_layers",
    "decoder_layers",
    "num_encoder_layers",
    "num_decoder_layers",
}
"""How configurations call the number of layers."""
DEEPEST = 10_000
"""Most layers that a configuration may ask for."""
TOKENIZERS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
    "preprocessor_config.json",
    "processor_config.json",
)
"""Files that a tokenizer or processor is read from."""


class Loaded(NamedTuple):
    """A model as transformers gives it, and the revision that it has."""

    module: nn.Module
    """The Hugging Face model, in evaluation mode, without gradients."""
    tokenizer: Any
    """Its Hugging Face tokenizer; the processor, which holds it, of a model that sees."""
    revision: str
    """Commit of the hub snapshot, or checksum of the folder."""


def load(
    address: str | Path, revision: str, dtype: str, device: str, kind: Kind = "text"
) -> Loaded:
    """Load the model and its tokenizer, or processor, from a folder or the hub.

    `revision` is the checksum that a folder must have or the commit to take, empty for whatever is
    there; `device` is `auto`, `cpu`, `cuda` or `cuda:N`. Raises a WorkbenchError for whatever a
    person can have got wrong.

        loaded = load("org/name", "", "bfloat16", "auto")
    """
    if dtype not in DTYPES:
        raise BadInput(
            f"A model's dtype is {', '.join(DTYPES)}; got {dtype!r}.{nearest(dtype, DTYPES)}"
        )
    placement = _placement(device)
    address = catalogue.place(str(address), "model")
    folder = Path(os.path.expanduser(address))
    if folder.is_dir():
        identity = _check_folder(folder)
        if revision and revision != identity:
            raise Incompatible(
                f"The model in {address} has checksum {identity}, expected {revision}: its files"
                " have changed. Leave the revision empty to take it as it is."
            )
        return Loaded(*_read(str(folder), None, dtype, placement, kind), identity)
    if folder.is_file() and folder.suffix.lower() == ".gguf" and kind == "text":
        return _read_gguf(folder, revision, dtype, placement)
    if folder.is_file():
        raise BadInput(
            f"{shown(address, 300)} is a file; a model is a folder with config.json and"
            " *.safetensors, a GGUF file of a language model, or a hub id."
        )
    if folder.suffix.lower() == ".gguf":
        raise NotFound(f"There is no file {shown(address, 300)}. Give the path of the GGUF file.")
    if address.startswith((".", "/", "~")) or address.count("/") > 1 or "\\" in address:
        raise NotFound(
            f"There is no model folder at {address}. Give a folder with config.json, or a hub id"
            " such as org/name."
        )
    commit = _commit(address, revision or None)
    return Loaded(*_read(address, commit, dtype, placement, kind), commit)


def _commit(address: str, revision: str | None) -> str:
    """Choose the commit to load, weights and tokenizer alike.

    The cached one if there is one, else what the hub has now.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    try:
        cached = try_to_load_from_cache(address, "config.json", revision=revision)
        if isinstance(cached, str):
            return Path(cached).parent.name
        return HfApi().model_info(address, revision=revision, timeout=10).sha or revision or "main"
    except Exception as error:  # see _read
        raise _explain(address, revision, error, "a model") from error


def _check_folder(folder: Path) -> str:
    packed = next(iter(folder.glob("*.gguf")), None)
    if packed and not list(folder.glob("*.safetensors")):
        raise BadInput(
            f"{folder} has its weights as GGUF ({shown(packed.name)}). Name the file itself:"
            f" {shown(packed, 300)}."
        )
    if not (folder / "config.json").exists():
        raise BadInput(
            f"{folder} is no model folder: it has no config.json. Give the folder that"
            " save_pretrained wrote."
        )
    if not list(folder.glob("*.safetensors")):
        pickles = [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]
        if pickles:
            raise BadInput(
                f"{folder} has its weights as a pickle ({pickles[0].name}), which runs code when it"
                " is read; expected safetensors. Convert it once with save_pretrained(...,"
                " safe_serialization=True)."
            )
        raise BadInput(f"{folder} has no weights: expected *.safetensors beside config.json.")
    for file in folder.iterdir():
        if file.suffix in READ and not file.is_file():
            raise BadInput(
                f"{shown(file, 300)} is no file that can be read (a pipe, a device, a folder or a"
                " broken link). Copy the model again."
            )
    _check_config(folder / "config.json")
    if (folder / "adapter_config.json").exists():
        raise BadInput(
            f"{folder} holds an adapter (adapter_config.json), which is not read. Merge it into the"
            " weights (merge_and_unload, save_pretrained), or take its files away."
        )
    return checksum(folder)


def _check_config(file: Path) -> None:
    """Refuse a configuration that is none, or that would build layers without end."""
    config = read_json(file, SETTINGS, finite=False)
    if not isinstance(config, dict):
        raise BadInput(f"{shown(file, 300)} holds no object of settings. Copy the model again.")
    parts = [config, *(part for part in config.values() if isinstance(part, dict))]
    for part in parts:
        for name in DEPTHS & part.keys():
            if isinstance(part[name], int | float) and part[name] > DEEPEST:
                raise BadInput(
                    f"{shown(file, 300)} asks for {shown(part[name])} layers ({name}); expected at"
                    f" most {DEEPEST}. Copy the model again."
                )


def _placement(device: str) -> dict[str, Any]:
    if device == "auto":
        if torch.cuda.device_count() > 1:
            return {"device_map": "auto"}
        return {"device": "cuda" if torch.cuda.is_available() else "cpu"}
    try:
        wanted = torch.device(device)
        if wanted.type == "cuda" and not torch.cuda.is_available():
            raise BadInput(
                f"This machine has no CUDA device, got device {device!r}. Use auto or cpu."
            )
    except RuntimeError as error:
        raise BadInput(f"A device is auto, cpu, cuda or cuda:N; got {device!r}.") from error
    return {"device": device}


def _read_gguf(file: Path, revision: str, dtype: str, placement: dict[str, Any]) -> Loaded:
    """Read a GGUF file: its weights as plain numbers, and the tokenizer that it holds."""
    gguf.family(file)
    identity = file_checksum(file)
    if revision and revision != identity:
        raise Incompatible(
            f"The model in {file} has checksum {identity}, expected {revision}: the file has"
            " changed. Leave the revision empty to take it as it is."
        )
    with gguf.alone(file) as (folder, name):
        module, tokenizer = _read(folder, None, dtype, placement, "text", name)
    return Loaded(gguf.as_plain(module), tokenizer, identity)


def _read(
    address: str,
    revision: str | None,
    dtype: str,
    placement: dict[str, Any],
    kind: Kind,
    gguf_file: str = "",
) -> tuple[nn.Module, Any]:
    import transformers
    from transformers.utils import logging

    reader, inputs, name = KINDS[kind]
    shared: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    if gguf_file:
        shared["gguf_file"] = gguf_file
    bar = logging.is_progress_bar_enabled()
    verbosity = logging.get_verbosity()
    logging.disable_progress_bar()
    # Its load report and warnings would repeat what our own errors say.
    logging.set_verbosity_error()
    try:
        module, info = getattr(transformers, reader).from_pretrained(
            address,
            **shared,
            dtype=DTYPES[dtype],
            **({} if gguf_file else {"use_safetensors": True}),
            output_loading_info=True,
            device_map=placement.get("device_map"),
        )
        tokenizer = _read_inputs(getattr(transformers, inputs), address, shared)
    except WorkbenchError:
        raise
    except Exception as error:  # a dozen kinds from four packages; each is turned into its line
        raise _explain(address, revision, error, name) from error
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
    if missing := sorted(info["missing_keys"]):
        raise BadInput(
            f"The weights of {address} lack {len(missing)} tensors of its configuration, such as"
            f" {missing[0]}. They belong to another model, or the file is incomplete."
        )
    if "device" in placement:
        module = module.to(placement["device"])
    return module.eval().requires_grad_(False), tokenizer


def _read_inputs(reader: Any, address: str, shared: dict[str, Any]) -> Any:
    """Read the tokenizer, or the processor that holds it.

    Raises BadInput where there is none: transformers then makes one without a word in it.
    """
    try:
        inputs = reader.from_pretrained(address, **shared)
        empty = _is_empty(getattr(inputs, "tokenizer", inputs))
    except BaseException as error:  # see _read; a panic of the tokenizers' Rust is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        if any((Path(address) / name).is_file() for name in TOKENIZERS):
            raise BadInput(
                f"The tokenizer of {address} cannot be read: {shown(error, 240)}"
                f" ({type(error).__name__}). Copy or download it again."
            ) from error
        if not Path(address).is_dir():
            raise
        empty = True
    if empty:
        raise BadInput(
            f"{address} has no tokenizer: expected tokenizer.json, or the vocabulary of an older"
            " one, beside the weights. Copy the tokenizer of the model that it was made from."
        )
    return inputs


def _is_empty(tokenizer: Any) -> bool:
    """Say whether a tokenizer knows nothing but its special tokens and the sign for a space.

    One with words is tried, because settings of a wrong type show only in use.
    """
    if len(tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens)) <= 1:
        return True
    for special in (True, False):
        ids = tokenizer(["a b"], add_special_tokens=special, verbose=False)["input_ids"][0]
        tokenizer.decode(ids, skip_special_tokens=special)
    return False


class _Failure(NamedTuple):
    """What went wrong while a model was loaded."""

    address: str
    revision: str | None
    text: str
    """The error's message in one line."""
    kinds: set[str]
    """Names of the classes of the error and of those that led to it."""

    def says(self, *texts: str) -> bool:
        """Whether the message holds one of some lower-case texts."""
        return any(text in self.text.lower() for text in texts)


def _explain(address: str, revision: str | None, error: Exception, name: str) -> Exception:
    """Turn whatever transformers and its neighbours raise into one line that says what to do."""
    text = " ".join(str(error).split())
    kinds = {cls.__name__ for link in _chain(error) for cls in type(link).__mro__}
    failure = _Failure(address=address, revision=revision, text=text, kinds=kinds)
    for explained in (
        _refused(failure),
        _unreadable(failure),
        _unreachable(failure),
        _unfit(failure),
    ):
        if explained is not None:
            return explained
    hint = (
        " A model that sees is named vision:FOLDER-OR-HUB-ID."
        if name == KINDS["text"][2] and "Config'> for this kind" in text
        else ""
    )
    return BadInput(
        f"{address} cannot be loaded as {name}: {text[:240] or type(error).__name__}.{hint}"
    )


def _refused(failure: _Failure) -> Exception | None:
    """Explain that the hub has the model and does not give it."""
    if "GatedRepoError" in failure.kinds or failure.says("gated repo"):
        return NotFound(
            f"The hub model {failure.address} is gated. Accept its licence on its page, then log in"
            " with `hf auth login`."
        )
    if "RevisionNotFoundError" in failure.kinds:
        return NotFound(
            f"The hub model {failure.address} has no revision {failure.revision!r}. Give a branch,"
            " tag or commit of it."
        )
    return None


def _unreadable(failure: _Failure) -> Exception | None:
    """Explain that the weights are no safetensors."""
    header = failure.says("safetensors") and failure.says("header")
    if "SafetensorError" in failure.kinds or header:
        return BadInput(
            f"The weights of {failure.address} are no valid safetensors file"
            f" ({failure.text[:120]}). Copy or download it again."
        )
    if failure.says("safetensors") and failure.says("no file named", "does not appear to have"):
        return BadInput(
            f"The hub model {failure.address} has no safetensors weights; pickles are not read."
            " Choose another revision."
        )
    return None


def _unreachable(failure: _Failure) -> Exception | None:
    """Explain that the model is not there, or that the hub cannot be asked."""
    if failure.kinds & UNREACHABLE or failure.says(
        "couldn't connect",
        "not a valid model identifier",
        "is not a local folder",
        "cached files",
    ):
        return NotFound(
            f"{failure.address} is neither a folder here nor a hub model that can be reached or is"
            " cached. Check the spelling, connect, or download it first with `hf download`."
        )
    return None


def _unfit(failure: _Failure) -> Exception | None:
    """Explain that the files are there and make no model that can be run here."""
    if failure.says("size mismatch", "mismatched"):
        return BadInput(
            f"The weights of {failure.address} do not fit its configuration ({failure.text[:160]})."
        )
    if failure.says("trust_remote_code"):
        return BadInput(
            f"{failure.address} needs code from its repository, which the workbench does not run."
            " Choose a model that transformers knows."
        )
    if failure.says("torchvision"):
        return BadInput(
            f"The images of {failure.address} are prepared by torchvision, which is not installed."
            " Install the build that fits torch (https://pytorch.org), or choose a model that does"
            " without."
        )
    return None


def _chain(error: BaseException | None) -> list[BaseException]:
    links: list[BaseException] = []
    while error is not None and error not in links:
        links.append(error)
        error = error.__cause__ or error.__context__
    return links
