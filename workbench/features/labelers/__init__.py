"""Labelers decide which features carry which value, and say on what evidence. One labeler a module.

A labeler is registered under kind `labelers` and is anything with `config` (a frozen dataclass of
its settings) and `label`. It sees activations pooled by document, and may look at the strongest
contexts of features; it never sees the items that later measure values. A labeler with `judges` set
sees no text at all: it reads what runs of labels and people say.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int, Num, Shaped
from scipy import sparse

from feature_store import registry
from feature_store.errors import BadInput
from feature_store.records import Label, ValueSystem
from feature_store.registry import Registry
from workbench.features.contexts import FeatureContexts
from workbench.features.judgements import Judgements
from workbench.llm import LLM
from workbench.statistics.marked import held_out


@dataclass(frozen=True, eq=False)
class LabelledActivations:
    """What a labeler sees: activations pooled by document, and which values a document carries."""

    activations: sparse.csr_matrix
    """Largest activation of each feature in each document [document, feature; activation units,
    >= 0]."""
    values: Num[np.ndarray, "document value"]
    """1: the value is held, -1: it is rejected, 0: neither, numbers between them: in part; columns
    in circle order."""
    contexts: Shaped[np.ndarray, " document"]
    """What documents are compared within: a topic; one empty string for all where none is known."""
    pairs: Int[np.ndarray, " document"] | None = None
    """Number of each document's pair: those that differ in the pole alone are held out together.
    None: every document is on its own."""
    strongest: Callable[[], FeatureContexts] | None = None
    """Reads the features' strongest contexts, for a labeler that looks at words: it may take
    seconds. None: there are none."""

    open_model: Callable[[str], LLM] | None = None
    """Opens the language model at an address, its answers kept in the study. None: there is nothing
    to keep them in."""
    notes: "LabelNotes" = field(default_factory=lambda: LabelNotes())
    """Where a labeler notes what it leaves besides labels."""
    judged: Callable[[], Judgements] | None = None
    """Reads what runs of labels and people say of the features. None: nobody says anything."""

    def read_judgements(self) -> Judgements:
        """Read what runs of labels and people say. Raises BadInput where there is nothing."""
        if self.judged is None:
            raise BadInput("This labeler reads runs of labels and verdicts, and there are none.")
        return self.judged()

    def read_contexts(self) -> FeatureContexts:
        """Read the features' strongest contexts. Raises BadInput where there are none."""
        contexts = self.strongest() if self.strongest else None
        if not contexts:
            raise BadInput(
                "This labeler reads the features' strongest contexts, and none were kept. Use a"
                " labeler of marked texts, such as contrast."
            )
        return contexts

    def is_held_out(self, share: float, rng: np.random.Generator) -> Bool[np.ndarray, " document"]:
        """Draw a random `share` of every context's documents, pairs together."""
        strata = np.unique(self.contexts, return_inverse=True)[1]
        if self.pairs is None:
            return held_out(strata, share, rng)
        _, first, pair = np.unique(self.pairs, return_index=True, return_inverse=True)
        return held_out(strata[first], share, rng)[pair]

    def __post_init__(self) -> None:
        rows = self.activations.shape[0]
        if len(self.values) != rows or len(self.contexts) != rows:
            raise BadInput(
                f"Activations of {rows} documents came with marks of {len(self.values)} and"
                f" contexts of {len(self.contexts)}. Give one row a document to each."
            )
        if not (np.abs(self.values) <= 1).all():
            raise BadInput(
                f"Marks lie from -1 to 1, got {sorted(set(np.unique(self.values).tolist()))[:5]}."
                " Recode the table."
            )
        entries = self.activations.data
        if len(entries) and not (np.isfinite(entries).all() and entries.min() >= 0):
            raise BadInput(
                "Activations must be finite and not negative, got others. Check the SAE on these"
                " texts."
            )


@dataclass
class LabelNotes:
    """What a labeler leaves besides labels."""

    explanations: list[dict[str, Any]] = field(default_factory=list)
    """Rows of the relation `explanations`."""
    figures: dict[str, Any] = field(default_factory=dict)
    """Figures of the run: what was asked, and what it cost."""


@runtime_checkable
class Labeler(Protocol):
    """A plug-in that decides which features carry which value.

    The smallest one, `workbench/features/labelers/none.py`:

        @register("labelers", "none")
        class NoLabels:
            config = NoSettings  # a frozen dataclass without fields

            @staticmethod
            def label(data, system, settings):
                return []
    """

    config: type
    """Frozen dataclass of the labeler's settings, each with a default. A labeler whose versions
    decide its labels besides names them in a mapping `inputs`."""

    def label(self, data: LabelledActivations, system: ValueSystem, settings: Any) -> list[Label]:
        """Give rows of evidence, accepted or not; at least one for every accepted feature."""


LABELERS: Registry[Labeler] = registry.of("labelers")
"""The labelers by name."""
