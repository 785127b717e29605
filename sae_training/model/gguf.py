"""GGUF: the file in which llama.cpp keeps a model, weights and tokenizer together.

1. The file is read for its family before anything is built of it; a family that transformers does
   not read, a torn file and one that is none are refused in one line.
2. transformers turns its weights into plain numbers, and makes the tokenizer of it. The record that
   they were quantised is taken away: they are not any more.
3. The revision is the file's digest.

The file is opened where nothing else lies, so that a tokenizer beside it is not taken for its own.
Left out: steering in quantised arithmetic. What runs here is the dequantised model.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from feature_store.errors import BadInput, Incompatible
from feature_store.files import shown

MAGIC = b"GGUF"
"""First bytes of every file."""


def family(file: Path) -> str:
    """Read which family of models a file holds, `llama` for one.

    Raises BadInput for a file that is torn or none, Incompatible for a family that is not read or
    where the package that reads it is missing.
    """
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise Incompatible(
            f"{shown(file, 300)} is a GGUF file, which the package `gguf` reads. Install it: pip"
            " install gguf."
        ) from error
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    with file.open("rb") as opened:
        if opened.read(4) != MAGIC:
            raise BadInput(f"{shown(file, 300)} is no GGUF file. Copy or download it again.")
    try:
        reader = GGUFReader(file)
        name = str(reader.fields["general.architecture"].contents())
        tensors = len(reader.tensors)
    except Exception as error:  # a torn file fails wherever it was torn
        raise BadInput(
            f"{shown(file, 300)} is no whole GGUF file ({shown(error, 120)}). Copy or download it"
            " again."
        ) from error
    if name not in GGUF_SUPPORTED_ARCHITECTURES or not tensors:
        families = ", ".join(sorted(set(GGUF_SUPPORTED_ARCHITECTURES) - {"general", "tokenizer"}))
        raise Incompatible(
            f"{shown(file, 300)} holds a {shown(name)} model, which transformers does not read from"
            f" GGUF. Read are {families}. Give the folder or hub id of its safetensors."
        )
    return name


@contextlib.contextmanager
def alone(file: Path) -> Iterator[tuple[str, str]]:
    """Lay a file where nothing else lies: the folder, and the file's name in it."""
    with tempfile.TemporaryDirectory(prefix="workbench-gguf-") as folder:
        (Path(folder) / "model.gguf").symlink_to(file.resolve())
        yield folder, "model.gguf"


def as_plain(module: nn.Module) -> nn.Module:
    """Give a dequantised model as one that was never quantised."""
    config: Any = module.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    return module
