"""Search by meaning: the features whose contexts are about what a question asks.

1. A sentence encoder embeds a window of each feature's strongest contexts, once for an SAE; the
   mean of a feature's points is kept beside the runs (`.derived/`), and can be thrown away.
2. A question is embedded likewise. A feature's likeness is the mean cosine of its contexts with the
   question; it is shown in SD above the mean feature, since any English sentence is a little like
   any other.
3. Where no encoder was fetched the question's words are held against the words of the values'
   names and definitions, and the features with an accepted label of the nearest value answer. The
   answer says so.

Left out: explanations of features by a language model, which few features have.
"""

import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float16, Int

from feature_store import queries
from feature_store.errors import BadInput, NotFound
from feature_store.progress import StageProgress, silent_stage
from feature_store.records import ValueSystem
from feature_store.store import Store
from workbench.features.contexts import read
from workbench.features.stems import meaning_words, stem

ENCODER = "minilm"
"""The sentence encoder that is fetched by `workbench fetch minilm`."""
CONTEXTS, WINDOWS = 4, 40_000
"""Contexts of a feature that are embedded, at most; and windows of an SAE, about."""
REACH = 12
"""Tokens on either side of a peak that are embedded [tokens]."""
TOGETHER = 256
"""Windows between two reports of progress."""
MOST = 1_000
"""Features of an answer, at most: the nearest ones."""


class SoughtFeatures(NamedTuple):
    """The features that answer a question, the nearest first."""

    features: Int[np.ndarray, " n"]
    """0-based features."""
    likeness: Float[np.ndarray, " n"]
    """Likeness to the question [SD above the mean feature]; NaN where no encoder was asked."""
    how: str
    """A sentence: by what they were sought."""


class Points(NamedTuple):
    """The features of an SAE that have contexts, and where these lie in the encoder's space."""

    features: Int[np.ndarray, " n"]
    """0-based features, ascending."""
    points: Float16[np.ndarray, "n dim"]
    """Mean of the points of a feature's contexts, at most of length one."""


def ready(store: Store, sae: str) -> bool:
    """Whether the contexts of an SAE are embedded already."""
    return _file(store, sae).exists()


def encoder_is_fetched() -> bool:
    """Whether there is a sentence encoder to ask."""
    from sae_training.model import catalogue

    return catalogue.known()[ENCODER].is_fetched


def search(
    store: Store,
    sae: str,
    labels: str,
    system: ValueSystem,
    question: str,
    progress: StageProgress = silent_stage,
) -> SoughtFeatures:
    """Find the features of an SAE that are about a question, the nearest first.

    `labels` is the id of a run of labels, or empty. Raises BadInput for a question without words,
    NotFound where neither an encoder nor a label can answer.
    """
    if not question.strip():
        raise BadInput("The question is empty. Ask in words, such as: where is loyalty to family?")
    if not encoder_is_fetched():
        return _by_definitions(store, labels, system, question)
    features, points = embedded(store, sae, progress)
    if not len(features):
        raise NotFound(f"{sae} kept no contexts to search.")
    cosines = points.astype(np.float32) @ _encode([question])[0]
    spread = float(cosines.std())
    likeness = (cosines - cosines.mean()) / (spread if spread > 0 else 1.0)
    order = np.argsort(-likeness, kind="stable")[:MOST]
    how = f"Sought by meaning: {ENCODER} over each feature's strongest contexts."
    return SoughtFeatures(features=features[order], likeness=likeness[order].astype(float), how=how)


def embedded(store: Store, sae: str, progress: StageProgress = silent_stage) -> Points:
    """Give the point of each feature that has contexts, embedding them where it is not done.

    A point is a mean, not of length one: its product with a question is a mean cosine.
    """
    file = _file(store, sae)
    if file.exists() and (kept := _load(file, file.stat().st_mtime_ns)):
        return kept
    contexts = read(store, sae)
    count = len(np.unique(contexts.features))
    contexts = contexts.strongest(max(1, min(CONTEXTS, WINDOWS // max(count, 1))))
    windows = [contexts.around_peak(k, REACH) for k in range(len(contexts))]
    rows = []
    progress(0, len(windows))
    for start in range(0, len(windows), TOGETHER):
        rows.append(_encode(windows[start : start + TOGETHER]))
        progress(start + len(rows[-1]), len(windows))
    features, starts = np.unique(contexts.features, return_index=True)
    if not len(features):
        return Points(features, np.zeros((0, 1), np.float16))
    sums = np.add.reduceat(np.concatenate(rows), starts)
    counts = np.diff([*starts, len(windows)])
    points = (sums / counts[:, None]).astype(np.float16)
    made = Points(features, points)
    _save(file, made)
    return made


def _by_definitions(
    store: Store, labels: str, system: ValueSystem, question: str
) -> SoughtFeatures:
    """Answer with the features of the value whose definition shares most words with a question."""
    fetch = "`workbench fetch minilm` fetches the encoder that reads it."
    asked = {stem(word) for word in meaning_words(question)}
    shared = {
        value.id: len(asked & {stem(w) for w in meaning_words(f"{value.name} {value.definition}")})
        for value in system.values
    }
    nearest = max(shared, key=lambda value: shared[value])
    if not shared[nearest]:
        raise NotFound(f"No value's definition shares a word with the question. {fetch}")
    if not labels:
        raise NotFound(f"The question is nearest to {nearest}, but nothing is labelled. {fetch}")
    rows = queries.accepted_labels(store, labels, nearest).drop_duplicates("feature")
    how = (
        f"No sentence encoder is there, so the question's words were held against the values'"
        f" definitions: these are the features of {system[nearest].name}. {fetch}"
    )
    features = rows.feature.to_numpy(np.int64)
    return SoughtFeatures(features=features, likeness=np.full(len(features), np.nan), how=how)


def _encode(texts: Sequence[str]) -> Float[np.ndarray, "text dim"]:
    return _encoder().texts(texts)


@lru_cache(maxsize=1)
def _encoder():  # type: ignore[no-untyped-def]
    from sae_training.model.sentences import SentenceEncoder

    return SentenceEncoder(ENCODER)


def _file(store: Store, sae: str) -> Path:
    """Name the file of an SAE's points; another encoder or another way to embed has another."""
    return store.runs.folder / ".derived" / sae / f"meaning-{ENCODER}-{CONTEXTS}-{REACH}.npz"


def _save(file: Path, points: Points) -> None:
    """Write points whole or not at all; a folder that cannot be written costs their keeping."""
    beside = file.with_suffix(".part.npz")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(beside, features=points.features, points=points.points)
        beside.replace(file)
    except OSError:
        beside.unlink(missing_ok=True)


@lru_cache(maxsize=2)
def _load(file: Path, changed: int) -> Points | None:
    """Read points; None where the file is no such file, which is then made again."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            features, points = arrays["features"], arrays["points"]
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    fits = features.ndim == 1 and points.ndim == 2 and len(features) == len(points)
    whole = fits and features.dtype.kind == "i" and points.dtype == np.float16
    return Points(features, points) if whole and np.isfinite(points).all() else None
