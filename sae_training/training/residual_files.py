"""Residuals on disk: the model reads a corpus once, for several sites, and whoever needs residuals
reads the files.

1. The documents that are held out are read first, then the training documents in a seeded order,
   until the training's tokens are there or the corpus ends. One forward pass of a batch gives the
   residuals of every site (`Runtime.residuals_at`), each appended to a file of float32.
2. A description beside each file says how far it goes, with a checksum. It is written every
   `MARK` batches and when the reading is stopped, so that the same call goes on from there; a file
   that is not as described is made again.
3. Where a token stands in the corpus is not kept: cutting the texts into batches says it again, at
   a small share of the cost of the model. `ResidualFile.everything` gives the whole corpus in the
   order of the reading: from the file as far as it goes, then from the model.

Left out: sharing files among trainings that were not asked for together.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from feature_store.errors import BadInput
from feature_store.files import write_atomically
from feature_store.progress import StageProgress, silent_stage
from feature_store.records import Site
from sae_training.dictionary.stream import (
    Places,
    Tokens,
    picked,
    placed,
    places,
    residual_tokens,
)
from sae_training.dictionary.texts import Corpus, TextBatch, batches
from sae_training.engine.model import Model
from sae_training.model import sites
from sae_training.training.config import DictionarySettings

MARK = 16
"""Batches between descriptions of how far a file goes."""
SAMPLE = 512
"""Documents whose tokens are counted to say how long a reading takes."""
BLOCK = 2**24
"""Bytes read at once for a checksum."""


class CorpusSplit(NamedTuple):
    """The documents of a corpus that are never trained on, and the others."""

    held_out: list[int]
    """Numbers of the documents that are held out, ascending."""
    trained: list[int]
    """Numbers of the others, ascending."""

    @classmethod
    def of(cls, texts: Sequence[str], settings: DictionarySettings) -> "CorpusSplit":
        """Hold a seeded share of the documents out. Raises BadInput for fewer than two."""
        if len(texts) < 2:
            raise BadInput(
                f"Training needs at least 2 documents, one of them held out; got {len(texts)}. Give"
                " a larger corpus."
            )
        order = np.random.default_rng([settings.seed, 0]).permutation(len(texts)).tolist()
        count = min(len(texts) - 1, max(1, round(settings.held_out * len(texts))))
        return cls(sorted(order[:count]), sorted(order[count:]))

    def shuffled(self, settings: DictionarySettings, epoch: int) -> list[int]:
        """Give the numbers of the training documents in the order of an epoch."""
        order = np.random.default_rng([settings.seed, 1, epoch]).permutation(len(self.trained))
        return [self.trained[i] for i in order]


class CorpusBatch(NamedTuple):
    """A batch of the reading."""

    batch: TextBatch
    """Its rows; documents by their number in the corpus."""
    held_out: bool
    """Whether its documents are held out."""


class ResidualFile(NamedTuple):
    """The residuals of a corpus at a site, from a file that is there and whole."""

    x: Float[Tensor, "tok d_model"]
    """Residual of each token [residual units], mapped into memory: held-out ones first."""
    held_out: int
    """Tokens of held-out documents."""

    def everything(
        self, model: Model, texts: Sequence[str], settings: DictionarySettings, site: Site
    ) -> Iterator[Tokens]:
        """Give every token of the corpus in the order of the reading.

        What the file does not hold is read from the model. Raises BadInput where the texts are cut
        into other tokens than those that were read, as another version of a tokenizer may do.
        """
        at = 0
        for batch, _ in reading_order(model, texts, settings):
            where = places(model, batch)
            end = at + len(where.row)
            if at < len(self.x) < end:
                raise BadInput(
                    f"The residuals of {len(self.x)} tokens that were read are not those of the"
                    " texts as they are cut into tokens now. Remove the folder `residuals` of the"
                    " study, and run the same command again."
                )
            if end <= len(self.x):
                yield placed(batch, where, self.x[at:end].to(model.device))
            else:
                yield residual_tokens(model, batch, site)
            at = end


class KnownResiduals(NamedTuple):
    """Residuals of every token of a corpus whose documents are each one row."""

    first: Int[Tensor, " document"]
    """Where each document begins in `x`."""
    x: Mapping[Site, Float[Tensor, "tok d_model"]]
    """Residuals by site, the first token of each document included."""

    def of(self, batch: TextBatch, at: Places, site: Site) -> Float[Tensor, "tok d_model"]:
        """Give the residuals of some tokens of a batch."""
        document = batch.document[at.row]
        return self.x[site][self.first[document] + batch.start[at.row] + at.column]


def reading_order(
    model: Model, texts: Sequence[str], settings: DictionarySettings
) -> Iterator[CorpusBatch]:
    """Cut a corpus into batches in the order of the reading: what is held out comes first.

    for batch, held_out in reading_order(model, texts, settings):
        model.residuals(batch.ids, batch.mask, site)
    """
    split = CorpusSplit.of(texts, settings)
    for held_out, numbers in ((True, split.held_out), (False, split.shuffled(settings, 0))):
        corpus = Corpus([texts[number] for number in numbers], settings.rows, settings.context)
        numbered = torch.tensor(numbers)
        for batch in batches(model, corpus):
            yield CorpusBatch(batch._replace(document=numbered[batch.document]), held_out=held_out)


def read_residuals(
    model: Model,
    texts: Sequence[str],
    settings: DictionarySettings,
    files: dict[Site, Path],
    progress: StageProgress = silent_stage,
    known: "KnownResiduals | None" = None,
) -> None:
    """Read a corpus once for the sites whose files are not there yet, and write the files.

    `known` are residuals that the model has given before; it is not run for their sites again.
    `progress` counts tokens of the corpus. Raises BadInput where the disk is full, or where the
    corpus holds too little.

        read_residuals(model, texts, settings, {Site(8): folder / "8.f32", Site(15): ...})
    """
    writers = [ResidualWriter(file, model.d_model, site) for site, file in files.items()]
    writers = [writer for writer in writers if not writer.whole]
    if not writers:
        return
    # A stop may come between two files of a batch: all go on from where the shortest ends.
    place = min((writer.place for writer in writers), key=lambda place: place.batches)
    with written_together(writers, place):
        _read(model, texts, settings, writers, progress, known)
    for writer in writers:
        writer.close()


def _read(
    model: Model,
    texts: Sequence[str],
    settings: DictionarySettings,
    writers: "Sequence[ResidualWriter]",
    progress: StageProgress,
    known: "KnownResiduals | None",
) -> None:
    """Read batch after batch from where the files end, until the training's tokens are there."""
    first = writers[0]
    done = first.place.batches
    where = [writer.site for writer in writers]
    # A small corpus ends before the training's tokens are there.
    whole = min(settings.tokens, tokens_in_training(model, texts, settings))
    for number, (batch, held_out) in enumerate(reading_order(model, texts, settings)):
        if number < done:
            continue
        if not held_out and first.trained >= settings.tokens:
            break
        at = places(model, batch)
        if known and known.x.keys() >= set(where):
            pieces = [known.of(batch, at, site) for site in where]
        else:
            residuals = model.residuals_at(batch.ids, batch.mask, where)
            pieces = [
                picked(hidden, batch, at, site)
                for hidden, site in zip(residuals, where, strict=True)
            ]
        for writer, piece in zip(writers, pieces, strict=True):
            writer.add(piece, held_out, len(writers))
        if not held_out:
            progress(first.trained, max(first.trained, whole))
    if first.place.held_out == 0:
        raise BadInput(
            "The held-out documents hold no token beyond the first of each. Give more or longer"
            " texts."
        )
    if first.trained == 0:
        raise BadInput(
            "The texts hold no token beyond the first of each: nothing to train on. Give longer"
            " texts."
        )
    progress(first.trained, first.trained)


def tokens_in_training(model: Model, texts: Sequence[str], settings: DictionarySettings) -> int:
    """Estimate how many tokens the training documents give: by their letters, from a sample."""
    numbers = CorpusSplit.of(texts, settings).shuffled(settings, 0)
    sample = [texts[number] for number in numbers[:SAMPLE]]
    corpus = Corpus(sample, settings.rows, settings.context)
    tokens = sum(int(batch.mask.sum()) - len(batch.mask) for batch in batches(model, corpus))
    letters = sum(len(texts[number]) for number in numbers)
    return round(tokens * letters / max(1, sum(len(text) for text in sample)))


def open_residuals(file: Path, d_model: int) -> ResidualFile:
    """Map a file that `read_residuals` has written into memory."""
    place = FilePlace.read(_described(file))
    size = place.tokens * d_model
    flat = torch.from_file(str(file), shared=False, size=size, dtype=torch.float32)
    return ResidualFile(flat.view(place.tokens, d_model), place.held_out)


def file_of(folder: Path, site: Site) -> Path:
    """Name the file of a site's residuals in a folder."""
    return folder / f"{sites.saelens_name(site)}.f32"


@contextlib.contextmanager
def written_together(writers: "Sequence[ResidualWriter]", place: "FilePlace") -> Iterator[None]:
    """Go on with all files from one place inside the block."""
    with contextlib.ExitStack() as opened:
        for writer in writers:
            opened.enter_context(writer.begun(place))
        yield


class FilePlace(NamedTuple):
    """How far a file goes."""

    tokens: int = 0
    """Tokens in it."""
    held_out: int = 0
    """Those of held-out documents, which come first."""
    batches: int = 0
    """Batches in it."""
    whole: bool = False
    """Whether nothing is to come."""
    sha256: str = ""
    """Checksum of the tokens."""

    @classmethod
    def read(cls, description: Path) -> "FilePlace":
        """Read a description; the beginning where there is none that can be read."""
        try:
            return cls(**json.loads(description.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return cls()  # none yet, or torn by a loss of power: the residuals are read anew


def _described(file: Path) -> Path:
    return file.with_suffix(".json")


class ResidualWriter:
    """The file of one site while it is written."""

    def __init__(self, file: Path, d_model: int, site: Site) -> None:
        """Find out how far the file goes; what is not as described counts as nothing."""
        self.file, self.site, self.d_model = file, site, d_model
        self.place = FilePlace.read(_described(file))
        self._checksum = self._begin_checksum()
        if self._checksum.hexdigest() != self.place.sha256:
            self.place = FilePlace()
        self.whole = self.place.whole
        self._opened: Any = None

    @property
    def trained(self) -> int:
        """Tokens of training documents so far."""
        return self.place.tokens - self.place.held_out

    @contextlib.contextmanager
    def begun(self, place: FilePlace) -> Iterator[None]:
        """Go on from a place inside the block; what is there stays when the reading is stopped."""
        if place.batches != self.place.batches:
            self.place = place
            self._checksum = self._begin_checksum()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        if place.batches == 0:
            _described(self.file).unlink(missing_ok=True)
        with self.file.open("r+b" if place.batches else "wb") as self._opened:
            self._opened.truncate(self._bytes)
            self._opened.seek(self._bytes)
            try:
                yield
            finally:
                self.mark()

    def add(self, x: Float[Tensor, "tok d_model"], held_out: bool, files: int) -> None:
        """Append the residuals of a batch; `files` are written beside one another."""
        piece = x.cpu().numpy().tobytes()
        if shutil.disk_usage(self.file.parent).free < 2 * files * len(piece):
            raise BadInput(
                f"The residuals of {self.place.tokens} tokens fill the disk at {self.file.parent}."
                " Make room, take fewer documents or fewer layers at once, or stream from the model"
                " with --no-cache."
            )
        self._opened.write(piece)
        self._checksum.update(piece)
        place = self.place
        self.place = place._replace(
            tokens=place.tokens + len(x),
            held_out=place.held_out + held_out * len(x),
            batches=place.batches + 1,
        )
        if self.place.batches % MARK == 0:
            self.mark()

    def close(self) -> None:
        """Say that the file is whole."""
        self.whole = True
        self._describe(self.place._replace(whole=True))

    def mark(self) -> None:
        """Say how far the file goes."""
        self._opened.flush()
        os.fsync(self._opened.fileno())
        self._describe(self.place)

    def _describe(self, place: FilePlace) -> None:
        self.place = place._replace(sha256=self._checksum.hexdigest())
        write_atomically(_described(self.file), json.dumps(self.place._asdict()))

    @property
    def _bytes(self) -> int:
        return 4 * self.place.tokens * self.d_model

    def _begin_checksum(self) -> Any:
        """Give the checksum of the file up to its place, ready for what is appended."""
        checksum, left = hashlib.sha256(), self._bytes
        with contextlib.suppress(OSError), self.file.open("rb") as opened:
            while left > 0 and (block := opened.read(min(left, BLOCK))):
                checksum.update(block)
                left -= len(block)
        return checksum
