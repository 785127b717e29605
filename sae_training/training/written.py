"""A corpus that a model writes itself, with the residuals that it has while writing.

1. Prompts are continued `ROWS` at a time, each until the model ends its text or the context is
   full. Every row draws from a seed of its own: prompts, seed and machine decide the texts.
2. A document is a prompt with its continuation, as the model reads it. The forward passes that
   write it have its residuals, which are kept for the sites that are named: no token is run twice.
3. A document ends where it would be cut into other tokens when it is read again. One that still
   would be after that is left out, and counted.
4. What is written is kept after each batch; a writing that was stopped goes on with the next one.
5. A model that writes nothing, or the same over and over, is refused: its SAE would know nothing.

Left out: judging what is written. Texts of a small model wander; they are what the model says.
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from feature_store.errors import BadInput, NotFound
from feature_store.files import CORPUS, read_json, write_atomically
from feature_store.progress import StageProgress, silent_stage, step
from feature_store.records import Site
from sae_training.engine.generate import PromptBatch, batches, decode, prompt_ids, row_seed, steps
from sae_training.engine.model import Model
from sae_training.model import sites
from sae_training.model.text_reader import Prompt
from sae_training.training.residual_files import (
    FilePlace,
    KnownResiduals,
    ResidualWriter,
    open_residuals,
    written_together,
)

ROWS = 128
"""Prompts that are continued together; more rows make better use of a processor."""
TEMPERATURE = 1.0
"""The model's own distribution."""
SEQUENCE = 4
"""Length of the sequences that are compared to find out whether a model repeats itself [tokens]."""
FEWEST_DIFFERENT = 0.1
"""Share of such sequences that differ, below which a corpus is refused."""
MOST_LEFT_OUT = 0.5
"""Share of documents that may be left out for their tokens."""


class Assignment(NamedTuple):
    """What a model is to write."""

    prompts: Sequence[Prompt]
    """What it continues, a document each."""
    context: int
    """Longest document, its prompt included [tokens]."""
    seed: int
    """From what the documents' own seeds are made."""


class WrittenCorpus(NamedTuple):
    """What a model has written."""

    texts: list[str]
    """The documents, each a prompt with its continuation."""
    left_out: int
    """Documents that would be cut into other tokens when they are read again."""
    tokens: int
    """Tokens of the documents, prompts included."""
    known: KnownResiduals | None
    """Their residuals; None where none were kept, or where they are gone."""


class _WrittenBatch(NamedTuple):
    """What is kept of a batch."""

    texts: list[str]
    """Documents."""
    tokens: list[int]
    """Tokens of each."""
    left_out: int
    """Documents that were left out."""
    sequences: int
    """Sequences of `SEQUENCE` new tokens."""
    different: int
    """Those of them that differ within the batch."""
    empty: int
    """Continuations without a token."""


def write_corpus(
    model: Model,
    assignment: Assignment,
    folder: Path,
    files: Mapping[Site, Path] | None = None,
    progress: StageProgress = silent_stage,
) -> WrittenCorpus:
    """Let a model continue prompts into documents.

    `folder` keeps what is written: the same call with the same folder goes on, or gives what is
    there. `files` are where residuals are kept, by site. `progress` counts documents. Raises
    BadInput for a model that writes nothing, or the same over and over.

        asked = Assignment(["Tell me about your day."] * 500, context=128, seed=0)
        write_corpus(model, asked, folder).texts
    """
    prompts = assignment.prompts
    context = min(assignment.context, model.context - 1)
    ids = prompt_ids(model, prompts)
    longest = max(map(len, ids), default=0)
    if longest >= context:
        raise BadInput(
            f"A prompt has {longest} tokens, and a document is to have {context}. Take a longer"
            " --context, or a model that reads more."
        )
    # Prompts of one length go together, so that no row waits for another's.
    order = sorted(range(len(prompts)), key=lambda row: len(ids[row]))
    units = [order[at : at + ROWS] for at in range(0, len(order), ROWS)]
    parts = _kept(folder, len(units))
    writers = [ResidualWriter(file, model.d_model, site) for site, file in (files or {}).items()]
    if len(parts) < len(units):
        parts = parts[: min([len(parts), *(writer.place.batches for writer in writers)])]
        place = FilePlace(tokens=_tokens(parts), batches=len(parts))
        with written_together(writers, place):
            for number, rows in enumerate(units[len(parts) :], len(parts)):
                part = _Writing(model, [ids[row] for row in rows], context, writers).write(
                    [model.render(prompts[row]) for row in rows],
                    [row_seed(assignment.seed, row) for row in rows],
                    step(progress, number * ROWS, len(rows), len(prompts)),
                )
                folder.mkdir(parents=True, exist_ok=True)
                write_atomically(_file(folder, number), json.dumps(part._asdict()))
                parts.append(part)
                _refuse_poor(model, parts)
    _refuse_poor(model, parts)
    progress(len(prompts), len(prompts))
    return WrittenCorpus(
        texts=[text for part in parts for text in part.texts],
        left_out=sum(part.left_out for part in parts),
        tokens=_tokens(parts),
        known=_known(parts, writers),
    )


class _Writing:
    """A batch that is being written."""

    def __init__(
        self,
        model: Model,
        prompts: Sequence[list[int]],
        context: int,
        writers: Sequence[ResidualWriter],
    ) -> None:
        """Begin with nothing written."""
        self.model, self.prompts, self.context, self.writers = model, prompts, context, writers
        self.seen: dict[int, list[tuple[Tensor, Tensor]]] = {}
        """Boundary -> residuals [row tok d_model] and which of them are text, of each pass."""

    def write(
        self, rendered: Sequence[str], seeds: Sequence[int], shown: StageProgress
    ) -> _WrittenBatch:
        """Continue the prompts, keep the residuals of what is kept, and give the documents."""
        model = self.model
        new: list[list[int]] = [[] for _ in self.prompts]
        residuals: dict[int, dict[int, Tensor]] = {}
        groups = batches(model, list(map(len, self.prompts)), ROWS)
        for number, rows in enumerate(groups):
            batch = PromptBatch(
                ids=[self.prompts[row] for row in rows],
                rows=rows,
                seeds=[seeds[row] for row in rows],
            )
            # One more than is kept: the pass that chooses it reads the last that is.
            room = 1 + self.context - min(map(len, batch.ids))
            with self._watched():
                for written, tokens in enumerate(steps(model, batch, room, TEMPERATURE), 1):
                    for row, token in tokens:
                        if len(batch.ids[row]) + len(new[rows[row]]) < self.context:
                            new[rows[row]].append(token)
                    shown(number * room + written, len(groups) * room)
            for at in self.seen:
                for row, x in zip(rows, self._rows(at), strict=True):
                    residuals.setdefault(at, {})[row] = x
        return self._keep(rendered, new, residuals)

    @contextlib.contextmanager
    def _watched(self) -> Any:
        """Keep the residuals of every pass inside the block."""
        model = self.model
        self.seen = {sites.boundary(writer.site, model.n_layers): [] for writer in self.writers}

        def keep(at: int, hidden: Tensor) -> Tensor:
            """Keep what passes, and which of it is text."""
            assert model.frame is not None
            pass_ = (hidden.float().cpu(), model.frame.real.cpu())
            # A family without a memory reads the whole text in every pass.
            self.seen[at] = [*self.seen[at], pass_] if model.memory else [pass_]
            return hidden

        with model.lock, contextlib.ExitStack() as hooks:
            for at in self.seen:
                hooks.enter_context(model.hooked(at, partial(keep, at)))
            yield

    def _rows(self, at: int) -> list[Float[Tensor, "tok d_model"]]:
        """Join what the passes had of each row."""
        hidden = torch.cat([x for x, _ in self.seen[at]], dim=1)
        real: Bool[Tensor, "row tok"] = torch.cat([real for _, real in self.seen[at]], dim=1)
        return [x[text] for x, text in zip(hidden, real, strict=True)]

    def _documents(
        self, rendered: Sequence[str], new: Sequence[list[int]]
    ) -> tuple[list[str], list[list[int]]]:
        """Join prompts and continuations: the texts, and their tokens."""
        model = self.model
        before = "".join(model.tokenizer.convert_ids_to_tokens(model.set_around[0]))
        written = decode(model, self.prompts, new)
        texts = [(a + b).removeprefix(before) for a, b in zip(rendered, written, strict=True)]
        return texts, [[*a, *b] for a, b in zip(self.prompts, new, strict=True)]

    def _keep(
        self,
        rendered: Sequence[str],
        new: Sequence[list[int]],
        residuals: Mapping[int, Mapping[int, Tensor]],
    ) -> _WrittenBatch:
        """Keep documents that are cut into the same tokens again, and their residuals."""
        model = self.model
        texts, ids = self._documents(rendered, new)
        again = model.tokenize(texts)
        # A text ends where other tokens than those that were written begin.
        shorter = [
            tokens[: max(0, _alike(ids[row], again[row]) - len(self.prompts[row]))]
            for row, tokens in enumerate(new)
        ]
        texts, ids = self._documents(rendered, shorter)
        kept = [
            row
            for row, read in enumerate(model.tokenize(texts))
            if read == ids[row] and shorter[row]
        ]
        for writer in self.writers:
            rows = residuals[sites.boundary(writer.site, model.n_layers)]
            pieces = [rows[row][: len(ids[row])] for row in kept]
            # A batch of which nothing is kept is a batch nevertheless.
            x = torch.cat([torch.zeros(0, model.d_model), *pieces])
            writer.add(x, False, len(self.writers))
            writer.mark()
        sequences = [
            tuple(tokens[at : at + SEQUENCE])
            for tokens in new
            for at in range(len(tokens) - SEQUENCE + 1)
        ]
        return _WrittenBatch(
            texts=[texts[row] for row in kept],
            tokens=[len(ids[row]) for row in kept],
            left_out=sum(map(bool, new)) - len(kept),
            sequences=len(sequences),
            different=len(set(sequences)),
            empty=sum(not tokens for tokens in new),
        )


def _alike(written: Sequence[int], read: Sequence[int]) -> int:
    """Count the tokens that two texts begin with alike."""
    pairs = zip(written, read, strict=False)
    differ = (at for at, (token, other) in enumerate(pairs) if token != other)
    return next(differ, min(len(written), len(read)))


def _file(folder: Path, number: int) -> Path:
    """Name the file of a batch."""
    return folder / f"{number:05}.json"


def _kept(folder: Path, units: int) -> list[_WrittenBatch]:
    """Read what is kept: batches from the first on, as far as they are there and whole."""
    parts: list[_WrittenBatch] = []
    with contextlib.suppress(BadInput, NotFound, TypeError):
        for number in range(units):
            content: Any = read_json(_file(folder, number), CORPUS)
            parts.append(_WrittenBatch(**content))
    return parts


def _tokens(parts: Sequence[_WrittenBatch]) -> int:
    """Count the tokens of documents."""
    return sum(sum(part.tokens) for part in parts)


def _known(
    parts: Sequence[_WrittenBatch], writers: Sequence[ResidualWriter]
) -> KnownResiduals | None:
    """Open the residuals where each file has those of every document."""
    whole = _tokens(parts)
    there = all(w.place.tokens == whole and w.place.batches == len(parts) for w in writers)
    if not writers or not there:
        return None
    lengths = torch.tensor([0, *(length for part in parts for length in part.tokens)])
    x = {writer.site: open_residuals(writer.file, writer.d_model).x for writer in writers}
    return KnownResiduals(lengths.cumsum(0)[:-1], x)


def _refuse_poor(model: Model, parts: Sequence[_WrittenBatch]) -> None:
    """Raise BadInput where a corpus is of no use."""
    texts = sum(len(part.texts) for part in parts)
    empty = sum(part.empty for part in parts)
    left_out = sum(part.left_out for part in parts)
    sequences = sum(part.sequences for part in parts)
    different = sum(part.different for part in parts)
    advice = "Give texts of another source with --texts."
    if empty > texts + left_out:
        raise BadInput(
            f"{model.name} writes nothing: {empty} of {texts + left_out + empty} texts end before"
            f" their first word. {advice}"
        )
    if left_out > MOST_LEFT_OUT * (texts + left_out):
        raise BadInput(
            f"{left_out} of {texts + left_out} texts that {model.name} has written are cut into"
            f" other tokens when they are read again. {advice}"
        )
    if different < FEWEST_DIFFERENT * sequences:
        raise BadInput(
            f"{model.name} writes the same over and over: of {sequences} sequences of {SEQUENCE}"
            f" tokens {different} differ. {advice}"
        )
