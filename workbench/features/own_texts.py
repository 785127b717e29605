"""The corpus that a study's model writes itself: `--texts self`.

1. A chat model answers requests as many persons would; another model continues openings
   (`material/requests.py`). The seed draws them.
2. Texts stay in `STUDY/corpora`, so the same model with the same settings writes once. What was
   being written when the command was stopped goes on there.
3. The residuals that the model has while it writes are kept for a training at the sites it names,
   until that training is over.

Left out: corpora shared between studies.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from feature_store.errors import BadInput
from feature_store.progress import Progress, stage
from feature_store.records import Site
from sae_training.dictionary.texts import ReadTexts
from sae_training.training.residual_files import KnownResiduals, file_of
from sae_training.training.written import Assignment, write_corpus
from workbench import material
from workbench.material.requests import requests
from workbench.workspace import Workspace

if TYPE_CHECKING:
    from sae_training.engine.model import Model

SELF = "self"
"""The source of texts that means: the model writes them."""
DOCUMENTS = 800
"""Texts that a model writes unless another number is named."""
CORPORA = "corpora"
"""Folder of a study with what its models wrote."""
RESIDUALS = "residuals"
"""Folder in a study where residuals lie while SAEs are trained on them."""


class Writes(Protocol):
    """What the settings of `train` and `adopt` say of texts."""

    @property
    def documents(self) -> int:
        """Texts; 0: as many as is usual."""

    @property
    def context(self) -> int:
        """Longest text [tokens]."""

    @property
    def seed(self) -> int:
        """Seed of the requests and of the texts."""


class OwnTexts(NamedTuple):
    """What a model wrote."""

    read: ReadTexts
    """The texts, and what is said of them."""
    known: KnownResiduals | None
    """Their residuals, where they were kept."""
    residuals: Path
    """The folder in which residuals are kept."""

    def forget(self) -> None:
        """Remove the residuals; the texts stay."""
        shutil.rmtree(self.residuals, ignore_errors=True)


def source_of(texts: str, model: str) -> str:
    """Name the source of a corpus where none is named: what suits the model."""
    return texts or (material.ORGANISM if material.is_organism(model) else SELF)


def own_texts(
    study: Workspace, model: "Model", settings: Writes, where: Sequence[Site], progress: Progress
) -> OwnTexts:
    """Let the study's model write a corpus, or give what it has written.

    Residuals are kept for the sites `where`. Raises BadInput for the organism, and for a model that
    writes nothing of use.
    """
    if material.is_organism(model.name):
        raise BadInput(
            "The organism understands a small language of its own, and no request in English. Train"
            " on what its generator writes: --texts organism."
        )
    prompts = requests(model.chat, settings.documents or DOCUMENTS, settings.seed)
    decided = [
        *(model.pinned, str(model.dtype), prompts),
        *(settings.context, settings.seed),
    ]
    name = hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()[:10]
    residuals = study.folder / RESIDUALS / f"written-{name}"
    written = write_corpus(
        model,
        Assignment(prompts, settings.context, settings.seed),
        study.folder / CORPORA / name,
        {site: file_of(residuals, site) for site in where},
        stage(progress, "writing a corpus"),
    )
    account = (
        f"{len(written.texts)} texts that {model.name} wrote on {len(prompts)} requests,"
        f" {written.tokens} tokens"
    )
    if written.left_out:
        account += f"; {written.left_out} left out, which are cut into other tokens when read again"
    return OwnTexts(ReadTexts(written.texts, account), written.known, residuals)
