"""Models that are known by a short name, and where a fetched one lies.

1. `known` lists them (`catalogue.toml`): what each is, its licence, from which file on PyPI it
   comes, and the digest of that file.
2. `place` gives the folder of a fetched one, in the user's cache (`$WORKBENCH_CACHE` moves it).
3. A name that was not fetched is refused with the command that fetches it. A folder of that name
   where the user works goes before it.

Left out: fetching (`fetching.py`), and the hub, whose files of the same model are others.
"""

import functools
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import platformdirs

from feature_store.errors import BadInput, NotFound

VARIABLE = "WORKBENCH_CACHE"
"""Variable of the environment that names another folder for what is fetched."""


ModelKind = Literal["model", "embedder"]
KINDS: Mapping[ModelKind, str] = {
    "model": "a language model",
    "embedder": "a sentence encoder",
}
"""Kind -> what it is, for people."""


@dataclass(frozen=True, kw_only=True)
class NamedModel:
    """A model that is known by a short name."""

    name: str
    """Its short name."""
    kind: ModelKind
    """A language model, or a sentence encoder."""
    title: str
    """What it is, in words."""
    origin: str
    """Hub id of the model that it was made from."""
    licence: str
    """Under which it may be used."""
    package: str
    """Name of the distribution on PyPI whose wheel holds it."""
    version: str
    """Version of the distribution."""
    wheel_bytes: int
    """Size of the wheel [bytes]."""
    wheel_sha256: str
    """Digest of the wheel [SHA-256]."""
    member: str
    """File in the wheel that holds the model."""
    member_sha256: str
    """Digest of that file [SHA-256]."""
    folder_bytes: int
    """Size of the folder that is made of it [bytes]."""

    @property
    def folder(self) -> Path:
        """Where it lies once it was fetched."""
        return cache() / "models" / self.name

    @property
    def is_fetched(self) -> bool:
        """Whether it is there, whole."""
        return self.folder.is_dir()


def cache() -> Path:
    """Name the folder of what is fetched."""
    place = os.environ.get(VARIABLE)
    return Path(place).expanduser() if place else platformdirs.user_cache_path("values-workbench")


@functools.cache
def known() -> Mapping[str, NamedModel]:
    """Give the models by name."""
    content = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    return {name: NamedModel(name=name, **entry) for name, entry in content.items()}


def place(address: str, kind: ModelKind) -> str:
    """Give the folder that a short name means; any other address stays as it is.

    Raises NotFound where the model was not fetched, BadInput where the name is of the other kind.

        place("smollm2", "model")  # "/home/me/.cache/values-workbench/models/smollm2"
    """
    model = known().get(address)
    if model is None or Path(address).is_dir():
        return address
    if model.kind != kind:
        others = ", ".join(name for name, other in known().items() if other.kind == kind)
        raise BadInput(
            f"{address} is {KINDS[model.kind]}, needed is {KINDS[kind]}. Named are {others}."
        )
    if not model.is_fetched:
        raise NotFound(
            f"{address} is not here yet. Fetch it: `workbench fetch {address}`"
            f" ({megabytes(model.wheel_bytes)} to download, {megabytes(model.folder_bytes)} on"
            " disk)."
        )
    return str(model.folder)


def megabytes(size: int) -> str:
    """Write a size for people."""
    return f"{size / 1e6:,.0f} MB"
