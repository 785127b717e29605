"""What a person says of a feature."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

VerdictWord = Literal["accept", "reject", "change", "both", "unsure", "undo"]
"""What can be said of a feature's label; `undo` withdraws an earlier verdict."""


@dataclass(frozen=True, kw_only=True)
class HumanVerdict:
    """What a person said of a feature, kept for ever: a later one does not overwrite it."""

    id: str
    """Id of the verdict, unlike that of any other."""
    sae: str
    """Id of the run that holds the SAE."""
    feature: int
    """0-based feature index."""
    verdict: VerdictWord
    """`accept`: it carries `value`, as a label says; `change`: it carries `value`, as no label
    offered; `both`: it carries `value` on both sides; `reject`: it carries no value; `unsure`: the
    person cannot say; `undo`: the verdict `withdraws` no longer counts."""
    value: str = ""
    """Id of the value that the feature carries, or that is rejected; empty: none is named."""
    polarity: Literal[-1, 0, 1] = 0
    """+1: active where the value is held; -1: where it is rejected; 0: on both sides, or no
    value."""
    labels: str = ""
    """Id of the run of labels whose label it speaks of; empty: of none."""
    method: str = ""
    """Labeler of that run; empty: of none."""
    labeller: str
    """Name of the person."""
    desk: str
    """What tells two people of the same name apart: where the name was used first."""
    note: str = ""
    """Why, in the person's words."""
    given: datetime
    """When [UTC, without a zone]."""
    withdraws: str = ""
    """Id of the verdict that an `undo` withdraws; empty otherwise."""
