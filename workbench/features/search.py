"""Search over a study: the features that a question is about, and those that fire on a text.

1. `search` answers a question by meaning (`meaning.py`), or lists the features with a context that
   holds its words; a filter narrows the answer before it is cut.
2. `firing` reads a text with the SAE's model (`firing.py`).

Both speak of the newest SAE, and of its newest labels where there are some.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from feature_store import queries, words
from feature_store.errors import BadInput
from feature_store.progress import StageProgress, silent_stage
from workbench.features import meaning
from workbench.workspace import Workspace

if TYPE_CHECKING:  # reading a text needs torch, reading what was measured does not
    from workbench.features.firing import FiringFeatures

ANY = queries.FeatureFilter()
"""Any live feature."""
SEARCH_BY = ("meaning", "words")
"""By what features are sought."""


class FoundFeatures(NamedTuple):
    """The features that a search gave, and how they were sought."""

    rows: pd.DataFrame
    """One row a feature: its statistics, its best accepted label, and `likeness` [SD above the mean
    feature] where it was sought by meaning."""
    total: int
    """Features that pass, those beyond `rows` counted [features]."""
    how: str
    """A sentence: by what they were sought."""


def search(
    study: Workspace,
    question: str,
    by: str = "meaning",
    wanted: queries.FeatureFilter = ANY,
    most: int = 25,
    progress: StageProgress = silent_stage,
) -> FoundFeatures:
    """Find the features of the newest SAE that a question is about, the nearest first.

    `by`: `meaning` (a sentence encoder, or the values' definitions where none was fetched) or
    `words` (a context holds all of them). `wanted` narrows by value, polarity, score and density.

        study.search("where is loyalty to family?").rows
    """
    if by not in SEARCH_BY:
        raise BadInput(f"Features are sought by meaning or by words, got {by!r}.")
    sae = study.resolve("sae", "latest").id
    labels = _labels_of(study, sae)
    words.ensure(study.store, sae)
    if by == "words":
        wanted = replace(wanted, text=question)
        order = queries.FeatureOrder(limit=most)
        page = queries.features(study.store, sae, labels, wanted, order)
        return FoundFeatures(page.rows, page.total, "Features with a context of all these words.")
    answer = meaning.search(study.store, sae, labels, study.system, question, progress)
    wanted = replace(wanted, among=answer.features.tolist())
    order = queries.FeatureOrder(sort="given", descending=False, limit=most)
    page = queries.features(study.store, sae, labels, wanted, order)
    likeness = dict(zip(answer.features.tolist(), answer.likeness.tolist(), strict=True))
    rows = page.rows.assign(likeness=page.rows.feature.map(likeness))
    return FoundFeatures(rows, page.total, answer.how)


def firing(study: Workspace, text: str) -> "FiringFeatures":
    """Read a text with the newest SAE's model: which features fire on each token, of which value.

    study.firing("I locked the doors twice.").rows
    """
    from workbench.features import firing as of_text

    run = study.resolve("sae", "latest")
    sae = study.sae(run)
    return of_text.firing(
        study.store, run, (study.model_of(run), sae), _labels_of(study, run.id), text
    )


def _labels_of(study: Workspace, sae: str) -> str:
    """Name the newest run of labels of an SAE; empty where there is none."""
    runs = queries.label_runs(study.store, sae)
    return "" if runs.empty else str(runs.run.iloc[0])
