"""SAEs of other projects: their tensors under our names, and their files from the hub.

1. `place` reads an address: a folder on this machine, or `hub:ORG/NAME[/PATH]`.
2. `Hub` fetches single files of a repository into the hub's own cache, and lists what it has.
3. `Tensors` says of each tensor of ours under which name another project keeps it, and whether it
   is turned; `named` checks names, shapes and number formats against the configuration before any
   weight is used, and gives the tensors under our names.

Left out: what a format's configuration means. Each loader reads its own.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from feature_store.errors import BadInput, Incompatible, NotFound
from feature_store.files import listed, on_line, shown
from sae_training.dictionary import memory
from sae_training.dictionary.configuration import Configuration
from sae_training.dictionary.loaders.folder import FLOATS, Described

HUB = "hub:"
REASON = 200
"""Longest reason of the hub's that is shown [letters]."""


class Counterpart(NamedTuple):
    """Where another project keeps a tensor of ours."""

    name: str
    """Its name there."""
    shape: tuple[int, ...]
    """Its shape there, by the configuration."""
    turned: bool = False
    """Whether its axes are the other way round."""


class Hub(NamedTuple):
    """A repository of the Hugging Face hub, and a folder within it."""

    repository: str
    """ORG/NAME."""
    path: str
    """Folder within the repository; empty: its top."""

    @classmethod
    def parse(cls, address: str) -> "Hub":
        """Read `ORG/NAME[/PATH]`. Raises BadInput for what is none."""
        parts = address.split("/")
        if len(parts) < 2 or not all(parts):
            raise BadInput(
                f"A place on the hub is hub:ORG/NAME[/PATH], got {shown(HUB + address, 200)}."
            )
        return cls("/".join(parts[:2]), "/".join(parts[2:]))

    def file(self, name: str) -> Path:
        """Fetch a file of the folder, or find it in the cache.

        Raises NotFound where it cannot be had, with the hub's reason.
        """
        from huggingface_hub import hf_hub_download

        inside = f"{self.path}/{name}" if self.path else name
        with self._explained(inside):
            return Path(hf_hub_download(self.repository, inside))

    def optional(self, name: str) -> Path | None:
        """Fetch a file of the folder, or None where it cannot be had."""
        with contextlib.suppress(NotFound):
            return self.file(name)
        return None

    def folders_with(self, name: str) -> list[str]:
        """List the folders of the repository that hold a file of this name; empty offline."""
        from huggingface_hub import HfApi

        try:
            names = HfApi().list_repo_files(self.repository)
        except Exception:  # the client raises dozens of kinds; all mean: nobody can say
            return []
        return sorted(file[: -len(name) - 1] for file in names if file.endswith(f"/{name}"))

    @contextlib.contextmanager
    def _explained(self, inside: str) -> Iterator[None]:
        """Say in one line what the hub's client complains of."""
        try:
            yield
        except Exception as error:  # the client raises dozens of kinds; all mean: not to be had
            reason = on_line(" ".join(str(error).split()), REASON) or type(error).__name__
            raise NotFound(
                f"{inside} of {on_line(self.repository)} could not be fetched: {reason}. Check the"
                " name, the network and HF_TOKEN."
            ) from error


def place(address: str) -> Path | Hub:
    """Read where an SAE lies: a path on this machine, or a folder of a hub repository.

    A path that is not there is never asked of the hub.

        place("hub:EleutherAI/sae-pythia-70m-32k/layers.3").path  # "layers.3"
    """
    if address.startswith(HUB):
        return Hub.parse(address.removeprefix(HUB))
    return Path(os.path.expanduser(address))


@dataclass(frozen=True)
class Tensors:
    """Which tensors an SAE of another project has, and what they are called here."""

    kept: Mapping[str, Counterpart]
    """Name of ours -> where it is kept."""
    beside: Sequence[str] = ()
    """Further tensors that it may hold, and that decide nothing or are read by the loader."""

    def check(self, described: Mapping[str, Described], where: str) -> None:
        """Hold the tensors of a file against the configuration, before they are read.

        Raises BadInput where a tensor lacks, Incompatible where one is of another shape or not
        known.
        """
        names = [kept.name for kept in self.kept.values()]
        if missing := [name for name in names if name not in described]:
            raise BadInput(
                f"{where} lacks {listed(missing)}: its configuration asks for {listed(names)}. It"
                f" has {listed(sorted(described))}. Take a complete SAE."
            )
        if strange := sorted(set(described) - {*names, *self.beside}):
            raise Incompatible(
                f"{where} has {listed(strange)}, which an SAE of its configuration has not. Needed"
                f" is one with {listed(names)} alone."
            )
        for kept in self.kept.values():
            shape, number_format = described[kept.name]
            if shape != kept.shape:
                raise Incompatible(
                    f"{where}: {kept.name} should be {kept.shape} by its configuration, it is"
                    f" {shown(shape)}. Take weights and configuration of one training."
                )
            if number_format not in FLOATS:
                raise Incompatible(
                    f"{where}: {kept.name} holds {shown(number_format)}; weights are"
                    f" {', '.join(FLOATS)}. Save them again in float32."
                )

    def named(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give the tensors under our names, turned where they are kept turned."""
        return {
            name: tensors[kept.name].T.contiguous() if kept.turned else tensors[kept.name]
            for name, kept in self.kept.items()
        }


def require_memory(config: Configuration, where: str) -> None:
    """Raise BadInput where an SAE of this size does not fit into memory."""
    memory.require(
        2 * 4 * 2 * config.n_features * config.d_model,
        f"{where}, an SAE of {config.n_features} features of width {config.d_model},",
        "Adopt it on a machine with more, or take a narrower SAE.",
    )
