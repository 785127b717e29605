"""Labels on arguments that nobody has seen: Touché'23's validation split, on a real chat model.

1. `SMOLLM2_STUDY` names the folder of a study of SmolLM2 with an SAE; Touché'23 lies beside the
   project. Features are labelled, and groups are made, on arguments of the training split.
2. Each value's group and its best feature rank the arguments of the validation split. Figure:
   average precision, by value, and the 97.5 % quantile of the same under permuted marks.
3. Beside them, fitted on the same training arguments: logistic regressions on TF-IDF and on the
   mean residual of the SAE's layer.
4. The same groups, features, words and residuals from the texts that ship: everyday texts and
   sentences in two poles. Figure: their mean average precision over that from Touché'23's own
   training arguments.

Reach: at least 6 of 10 values' groups are above the permutation null.
"""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from feature_store.progress import in_terminal, stage
from workbench import material
from workbench.features.labelers import LabelledActivations
from workbench.features.units import units_of
from workbench.study import Study
from workbench.workspace import site_of

NAME = "touche"
TOUCHE = Path(__file__).parents[2] / "shared" / "data" / "touche23"
TRAINING = 2_500
PERMUTATIONS = 1_000
SEED = 0
BY = ("group", "feature", "tf-idf", "residual probe")
"""What ranks the arguments."""
BUILT_IN = ("situations", "poles")
"""Labelled texts that ship."""


def main() -> dict:
    """Reach: six of ten values are ranked better than by chance."""
    folder = os.environ.get("SMOLLM2_STUDY", "")
    if not folder or not TOUCHE.is_dir():
        raise SystemExit("Name a study of SmolLM2 with an SAE in SMOLLM2_STUDY, beside Touché'23.")
    study = Study(folder, create=False)
    validation = _read(study, _touche("validation"), 0)
    marks = validation.active.values > 0
    rows = []
    for source, named in (
        ("touche", _touche("training")),
        ("situations", material.LabelledSource("situations")),
        ("poles", material.LabelledSource("poles")),
    ):
        training = _read(study, named, TRAINING if source == "touche" else 0)
        for name, scores in _scores(study, training, validation).items():
            for k, value in enumerate(study.system.ids):
                rows.append({"of": source} | _row(name, value, scores[:, k], marks[:, k]))
        print(source, _means(rows, source), flush=True)
    above = {
        name: sum(row["above"] for row in rows if (row["of"], row["by"]) == ("touche", name))
        for name in BY
    }
    whole = _means(rows, "touche")
    return {
        "name": NAME,
        "value": above["group"],
        "reach": 6,
        "holds": above["group"] >= 6,
        "values_above_null": above,
        "mean_average_precision": {of: _means(rows, of) for of in ("touche", *BUILT_IN)},
        "share_of_touche": {
            of: {name: mean / whole[name] for name, mean in _means(rows, of).items()}
            for of in BUILT_IN
        },
        "mean_base_rate": float(marks.mean()),
        "rows": rows,
        "training": TRAINING,
        "validation": len(validation.texts),
        "permutations": PERMUTATIONS,
        "seed": SEED,
    }


def _means(rows: list[dict[str, Any]], source: str) -> dict[str, float]:
    """Mean average precision over the values, of all that one source of labels makes.

    A value that a group is missing for counts with the share of texts that it marks.
    """
    return {
        name: float(
            np.mean(
                [
                    row["base"] if np.isnan(row["ap"]) else row["ap"]
                    for row in rows
                    if (row["of"], row["by"]) == (source, name)
                ]
            )
        )
        for name in BY
    }


def _scores(study: Study, training: "_Split", validation: "_Split") -> dict[str, np.ndarray]:
    """Rank the validation arguments by what training texts tell of every value."""
    values = study.system.ids
    units = units_of(training.active, training.residuals, study.system, SEED)
    scores = {name: np.full((len(validation.texts), len(values)), np.nan) for name in BY}
    for group in units.groups:
        if group.compared.part != "topic":
            continue
        column = values.index(group.compared.value)
        sd = training.active.activations[:, group.features].toarray().std(0)
        weights = group.weights / np.where(sd > 0, sd, 1.0)
        scores["group"][:, column] = validation.active.activations[:, group.features] @ weights
        best = group.features[group.weights.argmax()]
        scores["feature"][:, column] = validation.active.activations[:, [best]].toarray()[:, 0]
    spoken_of = training.active.values != 0
    words = make_pipeline(TfidfVectorizer(min_df=2, sublinear_tf=True), _regression(10.0))
    probe = make_pipeline(StandardScaler(), _regression(0.001))
    for column in range(len(values)):
        scores["tf-idf"][:, column] = _fitted(
            words, training.texts, spoken_of[:, column], validation.texts
        )
        scores["residual probe"][:, column] = _fitted(
            probe, training.residuals, spoken_of[:, column], validation.residuals
        )
    return scores


def _touche(split: str) -> material.LabelledSource:
    """Name a split of Touché'23."""
    return material.LabelledSource(
        texts=str(TOUCHE / f"arguments-{split}.tsv"),
        marks=str(TOUCHE / f"labels-{split}.tsv"),
        text_column="Premise",
        context_column="Conclusion",
        ignored_columns=("Face",),
    )


@dataclasses.dataclass(frozen=True)
class _Split:
    """A split of Touché'23 as model and SAE read it."""

    texts: list[str]
    active: LabelledActivations
    residuals: np.ndarray


def _read(study: Study, source: material.LabelledSource, n: int) -> _Split:
    """Read `n` labelled texts (0: all)."""
    from sae_training.dictionary.harvest import pooled
    from sae_training.dictionary.texts import Corpus

    run = study.resolve("sae", "latest")
    model = study.model_of(run)
    documents = material.labelled(source, study.system, n, SEED, model)
    with in_terminal("touche") as progress:
        seen = pooled(
            model,
            study.sae(run),
            Corpus(documents.texts, 128, 256),
            site_of(run),
            stage(progress, f"reading {Path(source.texts).name}"),
            start=len(model.tokenize([documents.before])[0]) if documents.before else 0,
        )
    active = LabelledActivations(
        activations=seen.activations,
        values=documents.values,
        contexts=documents.contexts,
        pairs=documents.pairs,
    )
    texts = [text.removeprefix(documents.before) for text in documents.texts]
    return _Split(texts, active, seen.residuals)


def _regression(c: float) -> LogisticRegression:
    return LogisticRegression(C=c, max_iter=2_000, class_weight="balanced")


def _fitted(model: Any, texts: Any, marks: np.ndarray, others: Any) -> np.ndarray:
    """Fit a classifier and give its decision values on other texts."""
    decide: Callable[[Any], np.ndarray] = model.fit(texts, marks).decision_function
    return decide(others)


def _row(name: str, value: str, scores: np.ndarray, marks: np.ndarray) -> dict[str, Any]:
    """Average precision of one ranking, beside that of permuted marks."""
    row: dict[str, Any] = {"by": name, "value": value, "marked": int(marks.sum())}
    row["base"] = float(marks.mean())
    if np.isnan(scores).any():
        return row | {"ap": float("nan"), "null": float("nan"), "above": False}
    rng = np.random.default_rng(SEED)
    ap = float(average_precision_score(marks, scores))
    by_chance = [
        average_precision_score(rng.permutation(marks), scores) for _ in range(PERMUTATIONS)
    ]
    null = float(np.quantile(by_chance, 0.975))
    return row | {"ap": ap, "null": null, "above": ap > null}
