"""The corpus of `train` and `adopt`: a person's file, what the model writes, or rows of the hub.

1. `self`: a chat model answers requests as many persons would; another model continues openings
   (`material/requests.py`). The seed draws them. The residuals that the model has while it writes
   are kept for a training at the sites it names, until that training is over.
2. `hub:ORG/NAME`: the first rows of a dataset are streamed, then read like a person's table.
3. Both stay in `STUDY/corpora`, so that the same command means the same texts, and one that was
   stopped goes on. Everything else is a path, or the organism's generator (`material.texts`).

Left out: corpora shared between studies.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from feature_store.errors import BadInput
from feature_store.progress import Progress, stage
from feature_store.records import Site
from sae_training.dictionary import hub_texts
from sae_training.dictionary.texts import read_corpus
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
HUB_ROWS = 20_000
"""Rows of a dataset that are streamed unless another number is named."""
CORPORA = "corpora"
"""Folder of a study with what its models wrote."""
RESIDUALS = "residuals"
"""Folder in a study where residuals lie while SAEs are trained on them."""


@runtime_checkable
class CorpusSource(Protocol):
    """What the settings of `train` and `adopt` say of texts."""

    @property
    def texts(self) -> str:
        """`self`, `hub:ORG/NAME`, `organism` or a path."""

    @property
    def text_column(self) -> str:
        """Column of a table; empty: the usual one."""

    @property
    def documents(self) -> int:
        """Texts; 0: as many as is usual."""

    @property
    def context(self) -> int:
        """Longest text [tokens]."""

    @property
    def seed(self) -> int:
        """Seed of the requests and of the texts."""


class StudyCorpus(NamedTuple):
    """Texts, and what is known of them already."""

    texts: list[str]
    """The documents."""
    account: str
    """One line: what was read, and what was not."""
    known: KnownResiduals | None = None
    """Their residuals, where the model wrote them and the residuals were kept."""
    residuals: Path | None = None
    """The folder in which residuals are kept."""

    def forget(self) -> None:
        """Remove the residuals; the texts stay."""
        if self.residuals:
            shutil.rmtree(self.residuals, ignore_errors=True)


def source_of(texts: str, model: str) -> str:
    """Name the source of a corpus where none is named: what suits the model."""
    return texts or (material.ORGANISM if material.is_organism(model) else SELF)


def open_corpus(
    study: Workspace,
    model: "Model",
    settings: CorpusSource,
    where: Sequence[Site],
    progress: Progress,
) -> StudyCorpus:
    """Read, stream or write the corpus that settings name.

    Of what the model writes, residuals are kept for the sites `where`. Raises BadInput or NotFound
    in one line for what cannot be had.
    """
    if settings.texts == SELF:
        return _written(study, model, settings, where, progress)
    if settings.texts.startswith(hub_texts.PREFIX):
        return _streamed(study, model, settings, progress)
    read = material.texts(
        settings.texts, settings.documents, settings.seed, settings.text_column, model
    )
    return StudyCorpus(texts=read.texts, account=read.account)


def _streamed(
    study: Workspace, model: "Model", settings: CorpusSource, progress: Progress
) -> StudyCorpus:
    """Stream rows of the hub, and read them as a table."""
    table = hub_texts.HubTable.parse(settings.texts)
    rows = hub_texts.streamed(
        table,
        settings.documents or HUB_ROWS,
        study.folder / CORPORA,
        stage(progress, "streaming rows"),
    )
    read = read_corpus(rows.file, table.column or settings.text_column, model)
    return StudyCorpus(texts=read.texts, account=f"{read.account}, commit {rows.commit[:12]}")


def _written(
    study: Workspace,
    model: "Model",
    settings: CorpusSource,
    where: Sequence[Site],
    progress: Progress,
) -> StudyCorpus:
    """Let the study's model write a corpus, or give what it has written."""
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
    return StudyCorpus(
        texts=written.texts, account=account, known=written.known, residuals=residuals
    )
