"""Where an SAE reads, its features, and what speaks for their labels."""

from dataclasses import dataclass
from typing import Literal

Point = Literal["resid_pre", "resid_post"]


@dataclass(frozen=True)
class Site:
    """A place on the residual stream, where a model is read and steered: `Site(5)`.

    The site of an SAE also says whose residual stream it is.
    """

    layer: int
    """0-based decoder layer."""
    point: Point = "resid_post"
    """`resid_post`: what the layer writes to the residual stream; `resid_pre`: what it reads."""
    model: str = ""
    """Folder or hub id of the language model; empty where it is the model at hand."""
    revision: str = ""
    """Commit of the hub snapshot, or checksum of a folder's configuration; empty until loaded."""


@dataclass(frozen=True)
class Feature:
    """One feature of an SAE: a row of its decoder."""

    sae: str
    """Id of the run that holds the SAE."""
    index: int
    """0-based row of the decoder."""
    density: float
    """Share of tokens on which the feature is active [0 to 1]."""
    max_activation: float
    """Largest activation seen [activation units, > 0 if ever active]."""
    decoder_norm: float
    """Length of the decoder row [residual units]."""


@dataclass(frozen=True)
class Label:
    """What speaks for a feature carrying a value."""

    feature: int
    """0-based feature index."""
    value: str
    """Id of the value."""
    polarity: Literal[-1, 1]
    """+1: active where the value is held, or spoken of; -1: active where it is rejected."""
    part: Literal["pole", "topic"]
    """`pole`: of texts on one side of the value, while the other side was looked at; `topic`: of
    texts that speak of the value, on either side or on the only one that was there."""
    effect: float
    """Standardised mean difference of the feature between texts with and without the value, within
    contexts [SD]; of a label from the feature's strongest contexts their mean score, against those
    of all features [SD over features]."""
    low: float
    """Lower end of the 95 % interval of `effect` [SD]; NaN where there is none."""
    high: float
    """Upper end of the 95 % interval of `effect` [SD]; NaN where there is none."""
    p: float
    """p of the labeler's own test [0 to 1]; of `contrast` two-sided, of `effect` = 0."""
    q: float
    """`p` after Benjamini-Hochberg over all that the labeler tests in the run [0 to 1]."""
    score: float
    """Held-out area under the ROC curve, within contexts [0 to 1, 0.5 = chance]; NaN where the
    labeler reads no marked texts."""
    gain: float
    """Held-out specificity: share of the feature's activation on texts with the value, above its
    base rate within contexts [at most 1: active on the value alone; 0: as if by chance]; NaN where
    the labeler reads no marked texts."""
    n: int
    """Texts that carry the value, held-out ones not counted; of a label from contexts, the contexts
    that were read."""
    method: str
    """Name of the labeler."""
    accepted: bool
    """Whether the labeler's own thresholds are met; rows that are not accepted stay as evidence."""
    evidence: str
    """JSON: thresholds, counts, runner-up value, or a person's note."""
