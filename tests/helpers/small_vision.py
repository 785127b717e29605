"""Small random models that see: a CLIP, vision-language models of two families, and drawings to
show them."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from tests.helpers.small_models import LAYERS, VOCABULARY, WIDTH, tokenizer

SIDE, PATCH, CONTEXT = 32, 8, 512
TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{% if m.content is string %}{{ m.content }}{% else %}{%"
    " for part in m.content %}{% if part.type == 'image' %}IMAGE{% else %}{{ part.text }}{% endif"
    " %}{% endfor %}{% endif %}{% endfor %}{% if add_generation_prompt %}[model]{% endif %}"
)
_sees = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "patch_size": PATCH,
    "projection_dim": 16,
}
_text = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "eos_token_id": 1,
}


def _images():
    return CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )


def clip(folder: Path) -> Path:
    """A random CLIP, saved in `folder`."""
    torch.manual_seed(0)
    made = tokenizer()
    made.pad_token = made.eos_token
    text = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 32,
        "projection_dim": 16,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    config = CLIPConfig(
        text_config=text, vision_config=_sees | {"num_hidden_layers": 2}, projection_dim=16
    )
    CLIPModel(config).save_pretrained(folder)
    CLIPProcessor(_images(), made).save_pretrained(folder)
    return folder


def llava(folder: Path, chat: bool = True) -> Path:
    """A random LLaVA, saved in `folder`; its vision tower has as many layers as its language
    model.
    """
    torch.manual_seed(0)
    made = _tokenizer(["<image>"])
    image = made.convert_tokens_to_ids("<image>")
    config = LlavaConfig(
        vision_config=_sees | {"model_type": "clip_vision_model", "num_hidden_layers": LAYERS},
        text_config=_text | {"model_type": "llama", "vocab_size": len(made)},
        image_token_index=image,
        image_seq_length=(SIDE // PATCH) ** 2,
        vision_feature_layer=-1,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    template = TEMPLATE.replace("IMAGE", "<image>") if chat else None
    processor = LlavaProcessor(
        _images(),
        made,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )
    processor.save_pretrained(folder)
    return folder


def idefics(folder: Path) -> Path:
    """A random Idefics3, the family of SmolVLM, saved in `folder`: an image is cut into tiles,
    which are marked in the prompt.
    """
    torch.manual_seed(0)
    made = _tokenizer(
        ["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
    )
    config = Idefics3Config(
        vision_config={k: v for k, v in _sees.items() if k != "projection_dim"}
        | {"num_hidden_layers": LAYERS},
        text_config=_text | {"model_type": "llama", "vocab_size": len(made), "pad_token_id": 1},
        image_token_id=made.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=1,
    )
    Idefics3ForConditionalGeneration(config).save_pretrained(folder)
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": SIDE}, max_image_size={"longest_edge": SIDE}, do_image_splitting=False
    )
    Idefics3Processor(
        images,
        made,
        image_seq_len=(SIDE // PATCH // 2) ** 2,
        chat_template=TEMPLATE.replace("IMAGE", "<image>"),
    ).save_pretrained(folder)
    return folder


def _tokenizer(special: list[str]):
    made = tokenizer()
    made.pad_token = made.eos_token
    made.add_special_tokens({"additional_special_tokens": special})
    return made


COLOURS = {
    "power": ("gold", "purple"),
    "benevolence": ("pink", "lightgreen"),
    "security": ("navy", "gray"),
    "stimulation": ("orange", "red"),
}
"""Value -> colours that stand for it in the drawings."""


def words(file: Path) -> str:
    """The colours as a file of keywords; returns its name."""
    file.write_text(
        "".join(
            f"[{value}]\nkeywords = {json.dumps(list(colours))}\n"
            for value, colours in COLOURS.items()
        )
    )
    return str(file)


def drawings(folder: Path, each: int = 8, seed: int = 0) -> dict[str, str]:
    """`each` drawings of every colour, shapes on a background of another shade: file -> colour."""
    rng, found = np.random.default_rng(seed), {}
    folder.mkdir(parents=True, exist_ok=True)
    for colour in [colour for pair in COLOURS.values() for colour in pair]:
        for number in range(each):
            image = Image.new("RGB", (int(rng.integers(40, 64)), int(rng.integers(40, 64))), colour)
            pen = ImageDraw.Draw(image)
            for _ in range(3):
                x, y = (int(v) for v in rng.integers(0, 40, 2))
                pen.ellipse(
                    (x, y, x + 8, y + 8), fill=tuple(int(v) for v in rng.integers(0, 256, 3))
                )
            image.save(folder / f"{number:02d}-{colour}.png")
            found[f"{number:02d}-{colour}.png"] = colour
    return found
