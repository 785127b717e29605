"""What the features of an SAE of the organism read: the planted meaning of each, from documents of
which every sentence is known."""

from typing import NamedTuple

import numpy as np

from feature_store.records import Run
from workbench import organism
from workbench.organism.generate import Sentence, study_document
from workbench.organism.planted import planted_language
from workbench.study import Study

DOCUMENTS = 6_000
LIVE = 30
"""Documents in which a feature must be active to be asked for [documents]."""

Meaning = tuple[str, str, int]
"""Kind (value, attribute, topic, filler), name and sign of what a sentence says."""


class PlantedMeanings(NamedTuple):
    """The planted meaning of every feature."""

    meanings: list[Meaning]
    """All meanings."""
    best: np.ndarray
    """Number of the meaning that explains most of each feature's variance [feature]."""
    most: np.ndarray
    """The share of its variance that it explains [feature; at most 1]."""
    active: np.ndarray
    """Largest activation in each document [document, feature; activation units]."""

    @property
    def wanted(self) -> list[int]:
        """Live features more than half of whose variance one value and sign explains."""
        often = (self.active > 0).sum(0) >= LIVE
        return [
            feature
            for feature in np.flatnonzero(often & (self.most > 0.5)).tolist()
            if self.meanings[self.best[feature]][0] == "value"
        ]


def _meaning(sentence: Sentence) -> Meaning:
    """(kind, name, sign) of a planted sentence."""
    if sentence.row >= 0:
        owner = planted_language().rows[sentence.row].owner
        return (
            "value" if owner in organism.truth().values else "attribute",
            owner,
            int(np.sign(sentence.amount)),
        )
    topics = {text: topic for topic, texts in planted_language().topics.items() for text in texts}
    return (
        ("topic", topics[sentence.text], 0)
        if sentence.text in topics
        else ("filler", sentence.text, 0)
    )


def planted_meanings(study: Study, run: Run) -> PlantedMeanings:
    """Regress the features of an SAE's run on the planted sentence types of fresh documents."""
    from sae_training.dictionary.harvest import pooled
    from sae_training.dictionary.texts import Corpus
    from workbench.workspace import site_of

    rng = np.random.default_rng(7)
    documents = [study_document(rng) for _ in range(DOCUMENTS)]
    types = sorted({(_meaning(s), s.row) for d in documents for s in d.sentences})
    place = {kind: column for column, kind in enumerate(types)}
    present = np.zeros((DOCUMENTS, len(types)))
    for row, document in enumerate(documents):
        for sentence in document.sentences:
            present[row, place[_meaning(sentence), sentence.row]] = 1
    active = pooled(
        study.model_of(run),
        study.sae(run),
        Corpus([d.text for d in documents], 128, 128),
        site_of(run),
    ).activations.toarray()
    x, y = present - present.mean(0), active - active.mean(0)
    share = np.linalg.lstsq(x, y, rcond=None)[0] * (x.T @ y / DOCUMENTS) / (y.var(0) + 1e-12)
    meanings = sorted({meaning for meaning, _ in types})
    explained = np.stack(
        [
            share[[i for i, (m, _) in enumerate(types) if m == meaning]].sum(0)
            for meaning in meanings
        ]
    )
    return PlantedMeanings(meanings, explained.argmax(0), explained.max(0), active)
