"""What is done to a residual stream, and at which positions.

An `Edit` is a batch of interventions: row i of the residual gets intervention i. It is a pure
function of the residual and of `where`, the positions to change; the engine works `where` out from
each row's `positions` and the `Frame` of the forward pass, so that an edit knows nothing of
padding, prompts and caches.

What the four names mean, the first token of a sequence (a sink in most models) always left alone:
`all`: every token; `prompt`: the tokens that were given; `last`: the last token of the prompt, the
one that predicts the answer; `generated`: the tokens after the prompt, sampled or scored. A `Span`
means the tokens of a piece of the prompt's text, wherever it stands (`spans.py`).

Some edits depend on the prompt: how far they push, or whether at all, is read off the residual at
its last token. Such a `PromptEdit` is *settled* by that residual into a plain edit, which then
holds for the prompt and all that follows it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from feature_store.errors import BadInput
from feature_store.records import Span, Where


@runtime_checkable
class Edit(Protocol):
    """A batch of interventions on a residual stream: what is done, and to which tokens.

    For example:

        edit = Add(vectors, ("all",) * len(vectors))
        with model.steered(edit, Site(8)):
            model.logits(ids, mask)
    """

    @property
    def positions(self) -> Sequence[Where]:
        """Which tokens each row changes, one entry a row."""
        ...

    @property
    def rows(self) -> int:
        """Number of interventions; 1 applies to every row of a batch."""
        ...

    def take(self, rows: Int[Tensor, " n"]) -> "Edit":
        """Make the edit whose row i is row `rows[i]` of this one."""
        ...

    def __call__(
        self, hidden: Float[Tensor, "row tok d_model"], where: Bool[Tensor, "row tok"]
    ) -> Float[Tensor, "row tok d_model"]:
        """Change a residual, as a new tensor; positions outside `where` keep their exact bits."""
        ...


@runtime_checkable
class PromptEdit(Edit, Protocol):
    """An edit that reads off the prompt's last token how far it pushes, or whether at all.

    For example:

        plain = prompt_edit.settle(residual_at_last_token)
    """

    @property
    def by_prompt(self) -> bool:
        """Whether it must be settled; a batch or wrapper of plain edits need not be."""
        ...

    def settle(self, last: Float[Tensor, "row d_model"]) -> Edit:
        """Make the plain edit for prompts whose last token has these residuals.

        Row i of it steers the prompt whose last token has residual `last[i]` before it is edited.
        """
        ...


def by_prompt(edit: Edit) -> bool:
    """Say whether the edit depends on the prompt."""
    return isinstance(edit, PromptEdit) and edit.by_prompt


def settle(edit: Edit, last: Float[Tensor, "row d_model"]) -> Edit:
    """Make the plain edit for prompts with these residuals at their last token.

    An edit that does not depend on the prompt stays what it is.
    """
    if isinstance(edit, PromptEdit) and edit.by_prompt:
        return edit.settle(last)
    return edit


class Frame(NamedTuple):
    """What each token of a forward pass is: padding, first, last of the prompt, generated."""

    real: Bool[Tensor, "row tok"]
    """True at tokens, False at padding."""
    first: Bool[Tensor, "row tok"]
    """True at the first token of each sequence."""
    last: Bool[Tensor, "row tok"]
    """True at the last token of each prompt."""
    generated: Bool[Tensor, "row tok"]
    """True at tokens after the prompt."""
    spans: Mapping[Span, Bool[Tensor, "row tok"]] = MappingProxyType({})
    """Span -> True at its tokens; empty where no prompt's text is known."""

    def where(self, positions: Sequence[str | Span]) -> Bool[Tensor, "row tok"]:
        """Mark the tokens that each row changes.

        Raises BadInput for a position that this pass does not know, and where rows and batch do
        not fit.
        """
        given: dict[str | Span, Tensor] = {
            "all": self.real & ~self.first,
            "prompt": self.real & ~self.first & ~self.generated,
            "last": self.last & ~self.first,
            "generated": self.generated & self.real,
            **{
                span: marked.to(self.real.device) & self.real & ~self.first
                for span, marked in self.spans.items()
            },
        }
        if unknown := [where for where in dict.fromkeys(positions) if where not in given]:
            if isinstance(unknown[0], Span):
                raise BadInput(
                    f"The span {unknown[0].text!r} is steered in prompts, and this is a pass over"
                    " bare tokens. Use positions all."
                )
            raise BadInput(
                f"Steered positions are {', '.join(map(str, given))}; got"
                f" {', '.join(map(str, unknown))}."
            )
        rows = self.real.shape[0]
        if len(positions) not in (1, rows):
            raise BadInput(
                f"The edit has {len(positions)} rows, the batch has {rows}: give one intervention a"
                " row, or one."
            )
        if len(set(positions)) == 1:
            return given[positions[0]]
        return torch.stack([given[kind][row] for row, kind in enumerate(positions)])


def prompt_frame(mask: Bool[Tensor, "row tok"]) -> Frame:
    """Make the frame of whole sequences, padded on either side, all of which was given."""
    seen = mask.long().cumsum(-1)
    return Frame(
        real=mask,
        first=mask & (seen == 1),
        last=mask & (seen == seen[:, -1:]),
        generated=torch.zeros_like(mask),
    )


@runtime_checkable
class Encoder(Protocol):
    """What an edit needs of an SAE to read a feature and write it.

    For example:

        active = encoder.encode(residual)  # [... feat]
        change = (target - active) @ encoder.W_dec
    """

    @property
    def W_dec(self) -> Float[Tensor, "feat d_model"]:
        """Direction that each feature writes [residual units per activation unit]."""
        ...

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        ...

    @property
    def n_features(self) -> int:
        """Features of the dictionary."""
        ...

    def encode(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... feat"]:
        """Read the activations of all features [activation units]."""
        ...


@dataclass(frozen=True)
class Add:
    """One vector a row, added to every steered token."""

    vectors: Float[Tensor, "row d_model"]
    """Added to every steered token [residual units]."""
    positions: tuple[Where, ...]
    """Tokens that each row steers."""

    @property
    def rows(self) -> int:
        """Number of vectors."""
        return len(self.vectors)

    def take(self, rows: Int[Tensor, " n"]) -> "Add":
        """Choose vectors by their rows."""
        return Add(self.vectors[rows], tuple(self.positions[row] for row in rows.tolist()))

    def __call__(
        self, hidden: Float[Tensor, "row tok d_model"], where: Bool[Tensor, "row tok"]
    ) -> Float[Tensor, "row tok d_model"]:
        """Change the residual of the tokens that are steered."""
        moved = hidden + self.vectors.to(hidden)[:, None]
        return moved if where.all() else torch.where(where[..., None], moved, hidden)


@dataclass(frozen=True)
class Delta:
    """Features read before they are changed: h + sum_k (target_k - f_k(h)) * W_dec[k].

    Only the difference that the features make is added, so whatever the SAE fails to reconstruct
    stays in the residual untouched. A random or stored direction has no encoder; its activation is
    the residual's component along it.
    """

    sae: Encoder
    """Encodes the residual and holds the directions."""
    index: Int[Tensor, "row slot"]
    """Feature of each slot."""
    target: Float[Tensor, "row slot"]
    """Activation that the feature is set to [activation units]."""
    used: Float[Tensor, "row slot"]
    """1 where the slot holds a feature, 0 where the row has fewer."""
    random: Float[Tensor, "row d_model"]
    """Unit direction of a random control or a stored direction, whose target stands in slot 0;
    zero where features are used."""
    positions: tuple[Where, ...]
    """Tokens that each row steers."""

    @property
    def rows(self) -> int:
        """Number of interventions."""
        return len(self.index)

    def take(self, rows: Int[Tensor, " n"]) -> "Delta":
        """Choose interventions by their rows."""
        return replace(
            self,
            index=self.index[rows],
            target=self.target[rows],
            used=self.used[rows],
            random=self.random[rows],
            positions=tuple(self.positions[row] for row in rows.tolist()),
        )

    def __call__(
        self, hidden: Float[Tensor, "row tok d_model"], where: Bool[Tensor, "row tok"]
    ) -> Float[Tensor, "row tok d_model"]:
        """Change the residual of the tokens that are steered."""
        W_dec = self.sae.W_dec
        batch = len(hidden)
        # One residual under many interventions is encoded once.
        alike = batch > 1 and hidden.stride(0) == 0
        features = self.sae.encode((hidden[:1] if alike else hidden).to(W_dec))
        active = features.expand(batch, -1, -1).gather(
            -1, self.index[:, None].expand(batch, hidden.shape[1], -1)
        )
        along = torch.einsum("rtd,rd->rt", hidden.to(W_dec), self.random.expand(batch, -1))
        control = self.random.any(-1)[:, None, None]
        active = torch.where(control, along[..., None], active)
        amount = self.used[:, None] * (self.target[:, None] - active)
        directions = torch.where(control, self.random[:, None], W_dec[self.index])
        change = torch.einsum("rtk,rkd->rtd", amount, directions.expand(batch, -1, -1))
        return torch.where(where[..., None], hidden + change.to(hidden), hidden)


class Stack:
    """Rows of different steering methods in one batch."""

    def __init__(
        self, parts: Sequence[Edit], part: Int[Tensor, " row"], row: Int[Tensor, " row"]
    ) -> None:
        """Stack rows: row i of the stack is row `row[i]` of `parts[part[i]]`."""
        self.parts = list(parts)
        self.part = part
        self.row = row
        self.positions = tuple(
            self.parts[p].positions[r] for p, r in zip(part.tolist(), row.tolist(), strict=True)
        )

    @property
    def rows(self) -> int:
        """Rows of all methods together."""
        return len(self.part)

    def take(self, rows: Int[Tensor, " n"]) -> Edit:
        """Choose rows; the parts stay as they are."""
        return Stack(self.parts, self.part[rows], self.row[rows])

    @property
    def by_prompt(self) -> bool:
        """Whether a row of the stack depends on the prompt."""
        # A part without a row has no say.
        return any(by_prompt(self.parts[part]) for part in set(self.part.tolist()))

    def settle(self, last: Float[Tensor, "row d_model"]) -> Edit:
        """Settle each row by the part it belongs to.

        The settled parts hold the rows of this stack, in its order.
        """
        parts: list[Edit] = []
        row = torch.zeros_like(self.row)
        for index, part in enumerate(self.parts):
            mine = (self.part == index).nonzero().flatten()
            if len(mine):
                part = settle(part.take(self.row[mine]), last[mine.to(last.device)])
            parts.append(part)
            row[mine] = torch.arange(len(mine))
        return Stack(parts, self.part, row)

    def __call__(
        self, hidden: Float[Tensor, "row tok d_model"], where: Bool[Tensor, "row tok"]
    ) -> Float[Tensor, "row tok d_model"]:
        """Change the residual of the tokens that are steered."""
        if self.rows == 1:
            return self.parts[int(self.part)].take(self.row)(hidden, where)
        out = torch.empty_like(hidden, memory_format=torch.contiguous_format)
        for index, part in enumerate(self.parts):
            mine = (self.part == index).nonzero().flatten()
            if len(mine):
                # One residual under many interventions stays one, so that a part sees that too.
                alike = hidden.stride(0) == 0
                residuals = hidden[:1].expand(len(mine), -1, -1) if alike else hidden[mine]
                out[mine] = part.take(self.row[mine])(residuals, where[mine])
        return out
