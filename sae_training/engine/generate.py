"""Text from a model, token by token.

1. Prompts of a batch are padded on the left, so that every row's next token stands in the same
   column; a family that reads padding as text gets rows of one length.
2. The prompt runs once; after it each step feeds one token a row and reads the rest from what the
   family remembers (keys and values, the state of a Mamba). A family without a memory that is right
   reads the whole text at each step. Under `steered`, the edit sees the prompt's tokens as prompt
   and the others as generated.
3. Greedy at temperature 0. Otherwise each row draws from its own generator, seeded by (seed, row):
   the text does not depend on the device or on the batch, and a steered row is paired with the
   unsteered one of its number. With a seed a row, each draws as if it were alone, and its text does
   not depend on its number either.
4. A row ends at a stop token or where the context does; what is fed after its end counts as
   padding.

Left out: beams, top-k and top-p (they hide what steering does to the distribution).
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from feature_store.errors import BadInput, Incompatible
from feature_store.progress import StageProgress, silent_stage
from sae_training.model import families, spans
from sae_training.model.edits import Frame, prompt_frame
from sae_training.model.overflow import not_finite
from sae_training.model.runtime import Runtime
from sae_training.model.text_reader import Prompt

ROWS = 32
"""Prompts generated together; more rows are cut into batches of this size."""
COLDEST = 1e-4
"""Temperature below which sampling is greedy: logits divided by less leave the range of their
numbers."""
ANCHOR = 8
"""Tokens of the prompt that are decoded along, so that a continuation keeps its first space."""


class PromptBatch(NamedTuple):
    """Prompts that go through together, and what each needs to be continued."""

    ids: Sequence[list[int]]
    """Token ids of each prompt."""
    rows: Sequence[int]
    """Number of each among all prompts: row `i` of an open edit steers prompt `i`."""
    seeds: Sequence[int]
    """From what each prompt's own generator draws."""
    marks: spans.Marks = MappingProxyType({})
    """Where spans that are steered stand, in all prompts."""
    inputs: Mapping[str, Tensor] = MappingProxyType({})
    """What else the pass over the prompts takes, images for one."""


def prompt_ids(model: Runtime, prompts: Sequence[Prompt]) -> list[list[int]]:
    """Tokenize prompts, through the chat template where the model has one.

    Each has at least one token, and at most as many as leave room for an answer in the context;
    raises BadInput where that cannot be.

        prompt_ids(model, ["Once upon a time"])  # [[1, 403, 2501, 263, 931]]
    """
    rows = model.tokenize(prompts, prompt=True)
    for index, ids in enumerate(rows):
        if len(ids) >= model.context:
            raise BadInput(
                f"Prompt {index + 1} ({str(prompts[index])[:40]!r}...) has {len(ids)} tokens;"
                f" {model.name} reads {model.context}, and the answer needs room. Shorten it, or"
                " choose a model that reads more."
            )
        if not ids:
            starts = (model.tokenizer.bos_token_id, model.tokenizer.eos_token_id)
            start = next((token for token in starts if token is not None), None)
            if start is None:
                raise BadInput(
                    f"Prompt {index + 1} is empty and {model.name} has no start token. Give it a"
                    " word."
                )
            ids += model.checked([[start]])[0]
    return rows


def generate(
    model: Runtime,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    temperature: float,
    seed: int | Sequence[int],
    progress: StageProgress = silent_stage,
) -> list[str]:
    """Write the continuation of each prompt; `seed` is one for all, or one a prompt.

    Greedy at temperature 0. `progress` counts steps of one token a row.

        generate(model, ["Once upon a time"], 20, temperature=0.0, seed=0)
    """
    rows = prompt_ids(model, prompts)
    asked = PromptBatch(
        ids=rows,
        rows=range(len(rows)),
        seeds=_seeds(rows, seed),
        marks=_marks(model, prompts),
    )
    return decode(model, rows, _continued(model, asked, max_new_tokens, temperature, progress))


def continuations(
    model: Runtime,
    prompts: Sequence[list[int]],
    max_new_tokens: int,
    temperature: float,
    seed: int | Sequence[int],
) -> list[list[int]]:
    """Continue the token ids of each prompt; greedy at temperature 0."""
    seeds = _seeds(prompts, seed)
    asked = PromptBatch(ids=prompts, rows=range(len(prompts)), seeds=seeds)
    return _continued(model, asked, max_new_tokens, temperature, silent_stage)


def _seeds(prompts: Sequence[list[int]], seed: int | Sequence[int]) -> list[int]:
    """Make the seed of each prompt, of one for all or of its own."""
    return [
        row_seed(seed, row) if isinstance(seed, int) else row_seed(seed[row], 0)
        for row in range(len(prompts))
    ]


def _continued(
    model: Runtime,
    asked: PromptBatch,
    max_new_tokens: int,
    temperature: float,
    progress: StageProgress,
) -> list[list[int]]:
    """Continue prompts of any number, `ROWS` at a time."""
    new: list[list[int]] = [[] for _ in asked.ids]
    groups = batches(model, list(map(len, asked.ids)), ROWS)
    # A step takes as long for one row as for all, and one row of many seldom ends early.
    done, total = 0, len(groups) * max_new_tokens
    for rows in groups:
        batch = PromptBatch(
            ids=[asked.ids[row] for row in rows],
            rows=rows,
            seeds=[asked.seeds[row] for row in rows],
            marks=asked.marks,
        )
        for number, tokens in enumerate(steps(model, batch, max_new_tokens, temperature), 1):
            for row, token in tokens:
                new[rows[row]].append(token)
            progress(done + number, total)
        done += max_new_tokens
        progress(done, total)
    return new


def batches(model: Runtime, lengths: Sequence[int], size: int) -> list[list[int]]:
    """Cut rows of these lengths into batches of at most `size` that go through together.

    Rows are padded on the left, so those of a family that reads such padding are of one length.
    """
    rows = range(len(lengths))
    groups: dict[int, list[int]] = {}
    equal = len(set(lengths)) > 1 and "left" in model.padding_read
    for row in rows:
        groups.setdefault(lengths[row] if equal else 0, []).append(row)
    return [group[at : at + size] for group in groups.values() for at in range(0, len(group), size)]


def decode(model: Runtime, prompts: Sequence[list[int]], new: Sequence[list[int]]) -> list[str]:
    """Turn the tokens of continuations into texts, as they read after their prompts."""
    return [_decode(model, ids, tokens) for ids, tokens in zip(prompts, new, strict=True)]


def stream(
    model: Runtime, prompt: str, max_new_tokens: int, temperature: float, seed: int
) -> Iterator[str]:
    """Write the continuation of a prompt in pieces; a piece never ends inside a character.

    For example:

        for piece in stream(model, "Once upon a time", 20, temperature=0.0, seed=0):
            print(piece, end="")
    """
    ids = prompt_ids(model, [prompt])[0]
    new: list[int] = []
    shown = ""
    batch = PromptBatch(
        ids=[ids], rows=[0], seeds=[row_seed(seed, 0)], marks=_marks(model, [prompt])
    )
    for step in steps(model, batch, max_new_tokens, temperature):
        new += [token for _, token in step]
        text = _decode(model, ids, new)
        if not text.endswith("\ufffd") and len(text) > len(shown):
            yield text[len(shown) :]
            shown = text
    rest = _decode(model, ids, new)[len(shown) :]
    if rest:
        yield rest


def steps(
    model: Runtime, batch: PromptBatch, max_new_tokens: int, temperature: float
) -> Iterator[list[tuple[int, int]]]:
    """Continue prompts token by token, greedily at temperature 0.

    Yields for each step the (row, token) pairs of the rows that are not finished; a row is the
    number of a prompt in the batch.
    """
    if not temperature >= 0 or temperature == float("inf"):
        raise BadInput(f"A temperature is a number >= 0, got {temperature}. 0 is greedy.")
    draws = [torch.Generator().manual_seed(seed) for seed in batch.seeds]
    room = [min(max_new_tokens, model.context - len(row)) for row in batch.ids]
    passes = _Passes(model, batch)
    going = list(range(len(batch.ids)))
    step = 0
    while going := [row for row in going if step < room[row]]:
        logits = passes.logits()
        if not bool(logits.amax(-1)[going].isfinite().all()):
            raise not_finite(model, f"At token {step + 1} of the answer", model.is_steered)
        tokens = _choose(logits, temperature, draws).tolist()
        step += 1
        going = [row for row in going if tokens[row] not in model.stop_tokens]
        yield [(row, tokens[row]) for row in going]
        passes.add(tokens, [row in going and step < room[row] for row in range(len(tokens))])


class _Passes:
    """Forward passes that continue a batch: the prompts first, then one token a row.

    A family whose memory is right (`Runtime.memory`) reads each token once; another one reads the
    whole text again for every token.
    """

    def __init__(self, model: Runtime, batch: PromptBatch) -> None:
        self.model, self.batch = model, batch
        width = max(map(len, batch.ids))
        self.ids = torch.tensor([[0] * (width - len(row)) + row for row in batch.ids])
        """Tokens of the next pass [row tok]."""
        self.mask = torch.tensor(
            [[False] * (width - len(row)) + [True] * len(row) for row in batch.ids]
        )
        """True at tokens of the whole text so far, False at padding [row tok]."""
        self.frame = prompt_frame(self.mask.to(model.device))._replace(
            spans=spans.padded(batch.marks, batch.rows, width)
        )
        """What the tokens of the next pass are."""
        self.rows = torch.tensor(batch.rows)
        # A model that sees counts the positions of an image its own way, and of what follows it.
        self.counted: dict[str, Any] = {"position_ids": None} if batch.inputs else {}
        self.more: dict[str, Any] = {**batch.inputs, **self.counted}
        self.memory = model.memory
        if batch.inputs and not self.memory:
            raise Incompatible(
                f"{model.name} keeps no memory that is right, so it cannot write about an image."
                " Have it score answers, or choose another model."
            )
        self.held = families.fresh_memory(model, self.memory)
        """What the family remembers; None before the first pass where it makes its own."""

    def logits(self) -> Float[Tensor, "row vocab"]:
        """Run the next pass: the logits after the last token of each row, on the CPU."""
        remembered: dict[str, Any] = {"use_cache": True} if self.memory else {}
        if self.held is not None:
            remembered[self.memory] = self.held
        with self.model.lock:
            out = self.model.forward(
                self.ids,
                self.mask,
                rows=self.rows,
                frame=self.frame,
                logits_to_keep=1,
                **remembered,
                **self.more,
            )
        if self.memory:
            self.held = getattr(out, self.memory)
            self.more = self.counted
        return out.logits[:, -1].float().cpu()

    def add(self, tokens: list[int], alive: list[bool]) -> None:
        """Continue each row by a token; in rows that are not `alive` it counts as padding."""
        new = torch.tensor(tokens)[:, None]
        # A row that fills the context has no further position, which learned positions lack.
        has_room = self.mask.sum(1, keepdim=True) < self.model.context
        self.mask = torch.cat([self.mask, has_room], dim=1)
        real = torch.tensor(alive, device=self.model.device)[:, None]
        no = torch.zeros_like(real)
        nowhere = dict.fromkeys(self.batch.marks, no)
        frame = Frame(real=real, first=no, last=no, generated=real, spans=nowhere)
        if self.memory:
            self.ids, self.frame = new, frame
        else:
            self.ids, self.frame = torch.cat([self.ids, new], dim=1), _joined(self.frame, frame)


def _joined(before: Frame, after: Frame) -> Frame:
    """Put two frames side by side."""

    def side_by_side(left: Tensor, right: Tensor) -> Tensor:
        """Join two marks along the tokens."""
        return torch.cat([left.to(right.device), right], dim=1)

    marks = {span: side_by_side(before.spans[span], after.spans[span]) for span in before.spans}
    return Frame(
        real=side_by_side(before.real, after.real),
        first=side_by_side(before.first, after.first),
        last=side_by_side(before.last, after.last),
        generated=side_by_side(before.generated, after.generated),
        spans=marks,
    )


def row_seed(seed: int, row: int) -> int:
    """Make the seed from which a row draws, as if it were alone."""
    return (seed * 1_000_003 + row) % 2**63


def _marks(model: Runtime, prompts: Sequence[Prompt]) -> spans.Marks:
    """Find where the spans of the open `steered` blocks stand in the prompts."""
    # Another thread's block is over once the lock is ours.
    with model.lock:
        return spans.find(model, prompts, spans.of_rows(model.edits, len(prompts)))


def _choose(
    logits: Float[Tensor, "row vocab"], temperature: float, draws: Sequence[torch.Generator]
) -> Int[Tensor, " row"]:
    """Choose each row's next token: the likeliest, or one drawn from its softmax."""
    if temperature < COLDEST:
        return logits.argmax(-1)
    below = torch.softmax(logits / temperature, -1).double().cumsum(-1)
    drawn = torch.cat([torch.rand(1, generator=draw, dtype=torch.float64) for draw in draws])
    point = drawn[:, None] * below[:, -1:]
    return torch.searchsorted(below, point, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)


def _decode(model: Runtime, prompt: Sequence[int], new: Sequence[int]) -> str:
    """Turn one continuation into text, decoded behind the end of its prompt."""
    anchor = list(prompt[-ANCHOR:])
    before = model.tokenizer.decode(anchor, skip_special_tokens=True)
    whole = model.tokenizer.decode([*anchor, *new], skip_special_tokens=True)
    if whole.startswith(before):
        return whole[len(before) :]
    return model.tokenizer.decode(list(new), skip_special_tokens=True)
