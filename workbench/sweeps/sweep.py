"""The side-effect sweep: features x doses x questions x controls, measured with damage, resumable.

1. `plan` takes units (each value's best labelled features, groups of features, or directions), as
   many random features, or groups of them, and random directions as asked, and crosses them with
   the doses. A control is steered with the same norms as the units.
2. `measure` scores every question under every intervention, a chunk of interventions at a time. The
   engine resumes from the steered layer, and every finished chunk is kept, so a killed sweep goes
   on where it was.
3. Damage is the rise of the mean next-token loss on neutral texts under the same intervention, text
   by text.

Left out: what the numbers mean; `causal/effects.py` turns them into effects.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float

from feature_store.errors import BadInput
from feature_store.progress import Progress, StageProgress, in_turn, missing_chunks, stage, step
from feature_store.records import Site, Steering
from workbench.measuring.questions import Question
from workbench.measuring.scored import ScoredQuestions

if TYPE_CHECKING:
    from sae_training.engine.model import Model
    from sae_training.model.edits import Edit

Kind = Literal[
    "feature", "group", "random-feature", "random-direction", "joint", "direction", "prompt"
]
"""What an intervention steers with."""
Steered = Literal["features", "groups", "directions"]
"""What a sweep steers for the values."""
SteeredPart = Literal["any", "pole", "topic"]
"""Of which part of a value that is: pole, topic, or whatever was labelled."""
ChosenBy = Literal["output", "input"]
"""By which score of the labels a value's features come first."""
FirstSteered = Literal["output", "input", "clean"]
"""The same, or by how cleanly a feature is forecast to steer."""
CHUNK = 48
"""Interventions between two checkpoints."""


@dataclass(frozen=True)
class Intervention:
    """One steering at one strength, and what it is steered for."""

    unit_id: int
    """0-based number of what is steered; its doses share it."""
    kind: Kind
    """What is steered."""
    feature: int
    """0-based feature index; -1 for a random direction."""
    value: str
    """Value the feature is labelled with; empty for controls."""
    polarity: int
    """Polarity of the label; +1 for controls."""
    steering: Steering
    """Method, strength and unit."""


@dataclass(frozen=True)
class SweepMaterial:
    """Questions and neutral texts that are put to a model under every intervention."""

    questions: Sequence[Question]
    """Questions of the instrument, in every context and wording."""
    neutral: Sequence[str]
    """Texts on which damage is measured."""

    @property
    def contexts(self) -> int:
        """Number of contexts, or of open questions in mode `voice`: the clusters of intervals."""
        return len({question.context for question in self.questions})

    @property
    def digest(self) -> str:
        """Checksum of all texts [SHA-256]."""
        prompts = [question.identity for question in self.questions]
        return hashlib.sha256(repr([*prompts, *self.neutral]).encode()).hexdigest()


class EditedModel(NamedTuple):
    """A model, and an edit of its residual stream for every intervention."""

    model: "Model"
    """The live model."""
    edit: "Edit"
    """What is done to the residual; row i is intervention i."""
    site: Site
    """Where it is done."""


class Controls(NamedTuple):
    """How many controls a sweep steers beside the labelled features."""

    unlabelled: Sequence[int]
    """Live features without a label, from which random features are drawn."""
    features: int
    """Random features."""
    directions: int
    """Random directions, as long as a feature's."""
    seed: int
    """Seed of both."""


def choose_features(
    labels: pd.DataFrame, per_value: int, by: FirstSteered = "output"
) -> pd.DataFrame:
    """Choose each value's best accepted features, `per_value` of them.

    The best raise the value most (`output`), are the most specific on held-out texts (`input`), or
    are forecast to steer the most cleanly (`clean`, a column of that name). Where no output score
    was measured, specificity decides. What a feature reads besides the value it is likely to write
    besides it, so of the input scores specificity (`gain`) counts: a feature of one of a value's
    many behaviours has a low AUROC and can be perfectly specific.
    """
    accepted = labels[labels.accepted]
    if accepted.empty:
        raise BadInput(
            f"No feature is labelled with a value, so there is nothing to steer.{_nearest(labels)}"
            " Label with more texts, or steer what several features say together: `workbench"
            " effects --steer groups`."
        )
    order = ([by] if by != "input" else []) + ["gain", "rank"]
    # A labeler that reads no marked texts has no score; then the effect ranks its features.
    ranked = accepted.assign(rank=accepted.score.fillna(accepted.effect))
    best = ranked.sort_values(
        [*order, "feature"], ascending=[False] * len(order) + [True], na_position="last"
    )
    best = best.drop(columns="rank").drop_duplicates("feature")
    return best.groupby("value", sort=False).head(per_value)


def _nearest(labels: pd.DataFrame) -> str:
    """Say which label that was not accepted has the best evidence on held-out texts."""
    if labels.gain.isna().all():
        return ""
    best = labels.loc[labels.gain.idxmax()]
    return (
        f" The nearest is feature {best.feature} for {best.value}: held-out AUROC"
        f" {best.score:.2f}, gain {best.gain:.2f}."
    )


def as_direction(chosen: pd.DataFrame, value: str, sign: int = 1) -> tuple[tuple[int, float], ...]:
    """Give a value's chosen features as (feature, weight) pairs of one direction.

    Each is turned by its polarity, so that the value rises with `sign` 1 and falls with -1; none
    where the value has no feature. Weights are 1 / sqrt(K), so that K orthogonal features clamped
    one by one are as long together as their sum added.
    """
    of_value = chosen[chosen.value == value]
    length = np.sqrt(len(of_value))
    return tuple(
        (int(row.feature), float(sign * row.polarity / length)) for row in of_value.itertuples()
    )


def feature_units(chosen: pd.DataFrame, template: Steering) -> list[Intervention]:
    """List chosen features (columns feature, value, polarity) as units, without a strength."""
    return [
        Intervention(
            unit_id=number,
            kind="feature",
            feature=int(row.feature),
            value=row.value,
            polarity=int(row.polarity),
            steering=replace(template, features=((int(row.feature), 1.0),)),
        )
        for number, row in enumerate(chosen.itertuples())
    ]


def plan(
    units: Sequence[Intervention],
    controls: Controls,
    template: Steering,
    doses: Sequence[float],
) -> list[Intervention]:
    """List every unit and control at every dose.

    Method, unit and positions are those of `template`; doses are positive and rising [unit of the
    template].
    """
    if not doses or any(dose <= 0 for dose in doses) or list(doses) != sorted(set(doses)):
        raise BadInput(
            "Doses are positive, rising numbers, got"
            f" {', '.join(f'{d:g}' for d in doses) or 'none'}. Give them as 0.1,0.3."
        )
    steered = [*units, *_controls(controls, template, units)]
    return [
        replace(unit, steering=replace(unit.steering, strength=float(dose)))
        for unit in steered
        for dose in doses
    ]


def _controls(
    controls: Controls, template: Steering, units: Sequence[Intervention]
) -> list[Intervention]:
    """Random features and random directions, numbered after the units, without a strength.

    Beside groups, random features come in groups of as many, with the groups' weights.
    """
    first = len(units)
    rng = np.random.default_rng(controls.seed)
    weights = [[weight for _, weight in unit.steering.features] for unit in units]
    drawn = rng.permutation(np.asarray(controls.unlabelled))
    # A group may hold features without a label: they are no control.
    drawn = drawn[~np.isin(drawn, [f for unit in units for f, _ in unit.steering.features])]
    features: list[Intervention] = []
    for number in range(controls.features):
        like = weights[number % len(weights)] if weights else []
        size = max(len(like), 1)
        members, drawn = drawn[:size], drawn[size:]
        if len(members) < size:
            break
        pairs = zip(members.tolist(), like or [1.0], strict=True)
        features.append(
            Intervention(
                unit_id=first + number,
                kind="random-feature",
                feature=int(members[0]) if size == 1 else -1,
                value="",
                polarity=1,
                steering=replace(template, features=tuple(pairs)),
            )
        )
    directions = [
        Intervention(
            unit_id=first + len(features) + number,
            kind="random-direction",
            feature=-1,
            value="",
            polarity=1,
            steering=replace(template, random=controls.seed * 100_000 + number),
        )
        for number in range(controls.directions)
    ]
    return features + directions


@runtime_checkable
class Parts(Protocol):
    """Where the parts of a sweep are kept: a run's work, or the parts of one round in it.

    For example:

        work.part("ratings", 0, table)
        work.done("ratings")  # {0}
    """

    def part(self, relation: str, number: int, rows: pa.Table) -> None:
        """Keep a part of a relation."""
        ...

    def done(self, *relations: str) -> set[int]:
        """Give the numbers of the parts that are kept in every one of the relations."""
        ...

    def parts(self, relation: str) -> pa.Table:
        """Give all kept parts of a relation, in order."""
        ...


def measure(
    work: Parts,
    edited: EditedModel,
    texts: SweepMaterial,
    interventions: Sequence[Intervention],
    progress: Progress,
) -> tuple[pa.Table, pa.Table]:
    """Measure every intervention: give the tables `(ratings, damage)`.

    Ratings have one row a question and intervention, damage one a neutral text and intervention.
    Row i of the edit is intervention i. In mode `voice` the run's parts `topic_ratings` hold how
    likely talk about the topic is, as `ratings` holds what is held less reversed. Chunks that an
    earlier, interrupted call kept are not measured again. `progress` counts interventions, those of
    the kept chunks at once.
    """
    from sae_training.engine.losses import losses_work
    from sae_training.model.overflow import not_finite

    scored = ScoredQuestions.of(texts.questions, edited.model)
    neutral = neutral_tokens(edited.model, texts.neutral)
    done, shown = work.done("ratings", "damages"), stage(progress, "sweeping")
    for number, chunk, chunk_shown in missing_chunks(done, len(interventions), CHUNK, shown):
        rows = np.array(chunk)
        damage_work = losses_work(edited.model, neutral, len(rows), edited.site)
        scores_shown, damage_shown = in_turn(chunk_shown, damage_work)
        base, steered = _score(edited, scored, rows, scores_shown)
        ratings = scored.ratings(steered)
        if not np.isfinite(base).all():
            raise not_finite(edited.model, "Unsteered", steered=False)
        strange = np.argwhere(~np.isfinite(ratings))
        if len(strange):
            name = interventions[chunk[strange[0][0]]].steering.name
            raise BadInput(f"Under {name} the model gives NaN. Use smaller doses.")
        damage = _damage(edited, neutral, rows, damage_shown)
        # Ratings come last: a chunk counts as done where they are kept.
        work.part("damages", number, damage_table(rows, damage))
        if scored.voiced:
            topics = scored.topics(steered), scored.topics(base)
            work.part("topic_ratings", number, ratings_table(rows, texts.questions, *topics))
        table = ratings_table(rows, texts.questions, ratings, scored.ratings(base))
        work.part("ratings", number, table)
    return work.parts("ratings"), work.parts("damages")


def unsteered(
    model: "Model", questions: Sequence[Question], progress: Progress
) -> Float[np.ndarray, " question"]:
    """Measure the rating of every question without steering [rating points, or nats per token]."""
    from sae_training.engine import scoring

    scored = ScoredQuestions.of(questions, model)
    shown, total = stage(progress, "asking unsteered"), len(questions)
    asked = step(shown, 0, total, total)
    scores = scoring.sweep(model, scored.prompts, scored.options, progress=asked)
    shown(total, total)
    return scored.ratings(scores.base.double().numpy())


def _score(
    edited: EditedModel, scored: ScoredQuestions, rows: np.ndarray, progress: StageProgress
) -> tuple[Float[np.ndarray, "question option"], Float[np.ndarray, "row question option"]]:
    """Log-probabilities of the answers, unsteered and under some rows of the edit [nats].

    The unsteered pass is made again for each chunk: a few per cent of its time, and nothing to
    keep.
    """
    import torch

    from sae_training.engine import scoring

    part = edited.edit.take(torch.from_numpy(rows))
    scores = scoring.sweep(
        edited.model, scored.prompts, scored.options, part, edited.site, progress
    )
    return scores.base.double().numpy(), scores.steered.double().numpy()


def neutral_tokens(model: "Model", texts: Sequence[str]) -> list[list[int]]:
    """Give the tokens of neutral texts, as far as the model reads.

    Raises BadInput for a text of a single token: it has no loss, which is said before anything is
    measured.
    """
    tokens = [ids[: model.context] for ids in model.tokenize(texts)]
    short = [number for number, ids in enumerate(tokens, 1) if len(ids) < 2]
    if short:
        raise BadInput(
            f"Neutral text {short[0]} has fewer than two tokens, so it has no loss. Drop it."
        )
    return tokens


def _damage(
    edited: EditedModel, neutral: Sequence[list[int]], rows: np.ndarray, progress: StageProgress
) -> np.ndarray:
    """Rise of the loss on each neutral text, by row of the edit [row text; nats per token]."""
    import torch

    from sae_training.engine.losses import losses

    part = edited.edit.take(torch.from_numpy(rows))
    loss = losses(edited.model, neutral, part, edited.site, progress)
    return (loss.steered - loss.base).double().numpy()


def damage_table(rows: np.ndarray, damage: np.ndarray) -> pa.Table:
    """Lay out `damage` [intervention text; nats per token] as rows of `damages`.

    `rows` are the numbers of the interventions.
    """
    texts = np.arange(damage.shape[1], dtype=np.int32)
    return pa.table(
        {
            "intervention": np.repeat(rows.astype(np.int32), len(texts)),
            "text": np.tile(texts, len(rows)),
            "damage": damage.ravel(),
        }
    )


def ratings_table(
    rows: np.ndarray, questions: Sequence[Question], ratings: np.ndarray, base: np.ndarray
) -> pa.Table:
    """Lay out `ratings` [intervention question] beside the unsteered `base` [question] as rows of
    `ratings`.

    `rows` are the numbers of the interventions; ratings are in rating points.
    """
    columns = {
        "context": np.array([q.context for q in questions], np.int32),
        "item": np.array([q.item.id for q in questions]),
        "wording": np.array([q.wording for q in questions]),
        "order": np.array([q.order for q in questions]),
        "value": np.array([q.item.value for q in questions]),
    }
    columns = {"intervention": np.repeat(rows.astype(np.int32), len(base))} | {
        name: np.tile(column, len(rows)) for name, column in columns.items()
    }
    return pa.table(
        columns
        | {
            "rating": ratings.astype(np.float32).ravel(),
            "base": np.tile(base.astype(np.float32), len(rows)),
        }
    )
