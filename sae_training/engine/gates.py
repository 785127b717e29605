"""Gates: an edit that acts only where a condition holds (conditional steering).

1. `PromptGate`: each prompt is steered or not, as decided beforehand (a text detector on the raw
   prompt).
2. `ProbeGate`: a linear probe reads the residual at the prompt's last token and decides there.
3. `ActivationGate`: each token is steered only where a feature of an SAE is active above a
   threshold before the edit.

A gate wraps any edit, a gate too. Where it is closed the residual keeps its exact bits, so logits
are bit-identical to those of the unsteered model. The probe gates what is generated as well: it
decides once, at the prompt.

In a steered block row i of a `PromptGate` is prompt i. A sweep crosses every intervention with
every prompt instead; there `gated_scores` puts the unsteered scores back where the gate is closed,
which is the same to the bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from feature_store.errors import BadInput
from feature_store.records import Where
from sae_training.engine.scoring import Scores
from sae_training.model.edits import Edit, Encoder, by_prompt, settle


def spread(edit: Edit, rows: int) -> Edit:
    """Give each of `rows` prompts an intervention; an edit of as many rows is kept as it is."""
    if edit.rows not in (1, rows):
        raise BadInput(
            f"A gate of {rows} rows needs an edit of as many, or of one; got {edit.rows}. Give one"
            " intervention a prompt."
        )
    return edit if edit.rows == rows else edit.take(torch.zeros(rows, dtype=torch.long))


def gated_scores(scores: Scores, open: Bool[Tensor, " prompt"]) -> Scores:
    """Close the gate of some prompts in a sweep's scores, under every intervention."""
    return Scores(scores.base, torch.where(open[None, :, None], scores.steered, scores.base))


@dataclass(frozen=True)
class GatedEdit:
    """An edit that acts only where a gate is open: what every gate hands on to it."""

    edit: Edit
    """What is done where the gate is open."""

    @property
    def positions(self) -> Sequence[Where]:
        """Tokens that each row of the wrapped edit changes."""
        return self.edit.positions

    @property
    def rows(self) -> int:
        """Interventions of the wrapped edit."""
        return self.edit.rows

    def take(self, rows: Int[Tensor, " n"]) -> "GatedEdit":
        """Choose rows of the wrapped edit; the gate stays."""
        return replace(self, edit=self.edit.take(rows))

    @property
    def by_prompt(self) -> bool:
        """Whether the wrapped edit depends on the prompt."""
        return by_prompt(self.edit)

    def settle(self, last: Float[Tensor, "row d_model"]) -> "GatedEdit":
        """Settle the wrapped edit; the gate stays."""
        return replace(self, edit=settle(self.edit, last))

    def __call__(
        self, hidden: Float[Tensor, "row tok d_model"], where: Bool[Tensor, "row tok"]
    ) -> Float[Tensor, "row tok d_model"]:
        """Apply the wrapped edit where the gate is open; each gate says where that is."""
        raise NotImplementedError


@dataclass(frozen=True)
class PromptGate(GatedEdit):
    """Opens prompt by prompt, as decided beforehand; its edit has a row for each prompt."""

    open: Bool[Tensor, " row"]
    """Whether each prompt is steered."""

    @property
    def rows(self) -> int:
        """Prompts that the gate decides about."""
        return len(self.open)

    def take(self, rows: Int[Tensor, " n"]) -> "PromptGate":
        """Choose prompts, each with its intervention."""
        return PromptGate(self.edit.take(rows), self.open[rows])

    def __call__(
        self, hidden: Float[Tensor, "row tok d_model"], where: Bool[Tensor, "row tok"]
    ) -> Float[Tensor, "row tok d_model"]:
        """Change what the wrapped edit changes, where its gate is open."""
        return self.edit(hidden, where & self.open.to(where.device)[:, None])


@dataclass(frozen=True)
class ProbeGate(GatedEdit):
    """Opens for a prompt whose last token a linear probe says yes to."""

    weight: Float[Tensor, " d_model"]
    """Normal of the probe."""
    bias: float
    """Its bias [nats of log-odds]."""
    threshold: float
    """Probability of the probe from which on the gate is open [0 to 1, exclusive]."""

    @property
    def by_prompt(self) -> bool:
        """Always: the probe reads the prompt."""
        return True

    def opens(self, residual: Float[Tensor, "*any d_model"]) -> Bool[Tensor, "*any"]:
        """Say of each residual whether the probe's probability of it reaches the threshold."""
        odds = residual.to(self.weight.dtype) @ self.weight.to(residual.device) + self.bias
        return torch.sigmoid(odds) >= self.threshold

    def settle(self, last: Float[Tensor, "row d_model"]) -> PromptGate:
        """Decide about each prompt by its last token."""
        return PromptGate(settle(spread(self.edit, len(last)), last), self.opens(last).cpu())

    def __call__(
        self, hidden: Float[Tensor, "row tok d_model"], where: Bool[Tensor, "row tok"]
    ) -> Float[Tensor, "row tok d_model"]:
        """Change what the wrapped edit changes, where its gate is open."""
        return self.edit(hidden, where & self.opens(hidden))


@dataclass(frozen=True)
class ActivationGate(GatedEdit):
    """Opens token by token, where a feature of an SAE is active."""

    sae: Encoder
    """Reads the feature."""
    feature: int
    """0-based feature index."""
    threshold: float = 0.0
    """Activation above which a token is steered [activation units, >= 0]."""

    def __post_init__(self) -> None:
        """Raises BadInput where the SAE has no such feature."""
        if not 0 <= self.feature < self.sae.n_features:
            raise BadInput(
                f"The SAE has features 0 to {self.sae.n_features - 1}, got gate feature"
                f" {self.feature}."
            )

    def __call__(
        self, hidden: Float[Tensor, "row tok d_model"], where: Bool[Tensor, "row tok"]
    ) -> Float[Tensor, "row tok d_model"]:
        """Change what the wrapped edit changes, where its gate is open."""
        # One residual under many interventions is encoded once.
        alike = len(hidden) > 1 and hidden.stride(0) == 0
        features = self.sae.encode((hidden[:1] if alike else hidden).to(self.sae.W_dec))
        active = features[..., self.feature]
        return self.edit(hidden, where & (active > self.threshold).to(where.device))
