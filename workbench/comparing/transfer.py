"""Does a label carry over? What independent ears hear in texts that a steered model wrote.

An *ear* (`ears.py`) gives every text a number for every value. It knows nothing of the labels.

1. An effect is the change of an ear's number against the unsteered text of the same opening, in SD
   of the ear's numbers over human texts that it never saw; openings are the clusters.
2. Each unit is steered up and down. A third turn, `between`, is half of up less down: what any
   damage does to a text is in both and cancels there.
3. Controls (random features, random directions) were steered at equal damage. Their effects give
   the null band of each value; an effect less the controls' mean is paired by opening, and its p
   goes into q (Benjamini-Hochberg), the steered value's cells and the others' apart.
   An effect is *heard* where it lies outside the band and q is below 0.05.
4. The rank of the steered value is the share of the other values that change less; effects are
   taken less their mean over the steered values, else a value that every steering moves would rank
   high in every row. Its null permutes the values' names.
5. A text that the unsteered model finds much stranger than its own counts as broken: nothing is
   heard in it, and its opening is left out of the effect.

Left out: the uncertainty of the matched strength and of the ear's fit, and any verdict on whether a
prompt's text holds the value or repeats the prompt's words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from workbench.statistics.intervals import (
    benjamini_hochberg,
    bootstrap_mean,
    cluster_weights,
    known_mean,
    replicate_means,
)
from workbench.sweeps.ratings import SLACK

Turn = Literal["up", "down", "between"]
"""Which way a unit is steered; `between` is half of up less down."""
CONTROLS = ("random-feature", "random-direction")
"""Arms that carry no value."""
CERTAIN = 0.05
"""q below which an effect outside the null band is heard."""


class Drawing(NamedTuple):
    """How often intervals and nulls are drawn."""

    replicates: int
    """Bootstrap replicates."""
    permutations: int
    """Permutations behind the p of a rank."""
    seed: int
    """Seed of both."""


@dataclass(frozen=True, eq=False)
class EarScores:
    """What an ear hears in the texts of all interventions."""

    ear: str
    """Name of the ear."""
    values: tuple[str, ...]
    """Ids of the values that it rates, in circle order."""
    unit: Float[np.ndarray, " value"]
    """SD of its scores over human texts that it never saw; NaN for a value it is deaf to."""
    unsteered: Float[np.ndarray, "opening value"]
    """Scores of the unsteered texts; NaN for a broken text."""
    steered: Float[np.ndarray, "intervention opening value"]
    """Scores of the steered texts; NaN for a broken text."""


@dataclass(frozen=True, eq=False)
class HeardState:
    """One unit steered one way, as an ear hears it."""

    arm: str
    """Name of the arm."""
    value: str
    """Id of the steered value; empty for a control."""
    turn: Turn
    """Which way it is steered."""
    changes: Float[np.ndarray, "opening value"]
    """Change against the unsteered text [SD]; NaN where either text is broken."""


class SteeredArm(NamedTuple):
    """What an intervention is, as far as its effect depends on it."""

    arm: str
    """Name of the arm."""
    value: str
    """Id of the steered value; empty for a control."""
    unit_id: int
    """0-based number of what is steered; both ways of it share it."""
    turn: Turn
    """`up` or `down`."""


class Transfer(NamedTuple):
    """What an ear says of a study's labels, as rows of relations."""

    effects: list[dict[str, Any]]
    """Rows of `transfer_effects`."""
    ranks: list[dict[str, Any]]
    """Rows of `transfer_ranks`."""


class TargetRank(NamedTuple):
    """How high the steered values stand among all values, in the mean over steered values."""

    rank: float
    """Share of the other values that change less [0 to 1, 0.5 = chance]."""
    low: float
    """Lower end of the 95 % interval over openings."""
    high: float
    """Upper end."""
    p: float
    """One-sided permutation p of a rank as high [0 to 1]."""


def is_broken(
    losses: Float[np.ndarray, "*texts"], usual: Float[np.ndarray, " opening"]
) -> Bool[np.ndarray, "*texts"]:
    """Say which texts are broken: empty, or much stranger to the unsteered model than its texts.

    `losses` are the unsteered model's [nats per token], NaN for an empty text; `usual` those of
    its own texts. The limit is their 95 % quantile and `SLACK` beyond it.
    """
    return ~(losses <= np.nanquantile(usual, 0.95) + SLACK)


def judge(scores: EarScores, arms: Sequence[SteeredArm], drawing: Drawing) -> Transfer:
    """Say what an ear hears of every steered value, beside the controls.

    `arms[k]` is what intervention `k` of the scores steers.
    """
    states = _states(scores, arms)
    subjects = [state for state in states if state.arm not in CONTROLS]
    effects = _effect_rows(scores, subjects, states, drawing)
    ranks = []
    for arm, turn in dict.fromkeys((state.arm, state.turn) for state in subjects):
        group = [state for state in subjects if (state.arm, state.turn) == (arm, turn)]
        rows = [row for row in effects if (row["arm"], row["turn"]) == (arm, turn)]
        ranks.append(
            {"ear": scores.ear, "arm": arm, "turn": turn}
            | _rank_row(scores.values, group, drawing)
            | _count(rows)
        )
    return Transfer(effects, ranks)


def _states(scores: EarScores, arms: Sequence[SteeredArm]) -> list[HeardState]:
    """Every unit steered up, down, and half of up less down [SD]."""
    changes = (scores.steered - scores.unsteered) / scores.unit
    by_unit: dict[int, dict[Turn, int]] = {}
    for number, arm in enumerate(arms):
        by_unit.setdefault(arm.unit_id, {})[arm.turn] = number
    states = []
    for turns in by_unit.values():
        first = arms[next(iter(turns.values()))]
        by_turn = {turn: changes[number] for turn, number in turns.items()}
        if {"up", "down"} <= set(by_turn):
            by_turn["between"] = (by_turn["up"] - by_turn["down"]) / 2
        states += [
            HeardState(arm=first.arm, value=first.value, turn=turn, changes=change)
            for turn, change in by_turn.items()
        ]
    return states


def _controls(
    states: Sequence[HeardState], subject: HeardState
) -> Float[np.ndarray, "control opening value"]:
    """The controls that a state is laid beside, with either sign: theirs means nothing.

    Features are laid beside random features where there are any, all else beside random directions.
    """
    kinds = {state.arm for state in states} & set(CONTROLS)
    wanted = CONTROLS[0] if subject.arm.startswith("sae-") else CONTROLS[1]
    kind = wanted if wanted in kinds else next(iter(kinds), "")
    turns = ("between",) if subject.turn == "between" else ("up", "down")
    rows = [state.changes for state in states if state.arm == kind and state.turn in turns]
    if subject.turn == "between":
        rows += [-row for row in rows]
    return np.stack(rows) if rows else np.full((1, *subject.changes.shape), np.nan)


def _effect_rows(
    scores: EarScores,
    subjects: Sequence[HeardState],
    states: Sequence[HeardState],
    drawing: Drawing,
) -> list[dict[str, Any]]:
    """Rows of `transfer_effects`: every steering on every value."""
    if not subjects:
        return []
    changes = np.stack([state.changes for state in subjects], axis=1)
    controls = [_controls(states, state) for state in subjects]
    bands = [_band(known_mean(rows, 1)) for rows in controls]
    above = changes - np.stack([known_mean(rows, 0) for rows in controls], axis=1)
    # Without controls the effect itself is what is tested.
    compared = np.where(np.isfinite(above).any(0), above, changes)
    cells = bootstrap_mean(changes, drawing.replicates, drawing.seed)
    over = bootstrap_mean(compared, drawing.replicates, drawing.seed)
    q = _q(over.p, subjects, scores.values)
    return [
        {
            "ear": scores.ear,
            "arm": state.arm,
            "turn": state.turn,
            "value": state.value,
            "target": target,
            "effect": float(cells.mean[k, j]),
            "low": float(cells.low[k, j]),
            "high": float(cells.high[k, j]),
            "n": int(cells.n[k, j]),
            "points": float(cells.mean[k, j] * scores.unit[j]),
            "null_low": float(bands[k][0, j]),
            "null_high": float(bands[k][1, j]),
            "controls": len(controls[k]),
            "above": float(over.mean[k, j]),
            "above_low": float(over.low[k, j]),
            "above_high": float(over.high[k, j]),
            "p": float(over.p[k, j]),
            "q": float(q[k, j]),
            "heard": bool(
                q[k, j] < CERTAIN and not bands[k][0, j] <= cells.mean[k, j] <= bands[k][1, j]
            ),
        }
        for k, state in enumerate(subjects)
        for j, target in enumerate(scores.values)
    ]


def _band(means: Float[np.ndarray, "control value"]) -> Float[np.ndarray, "2 value"]:
    """Give the 2.5 % and the 97.5 % quantile of the controls' effects on each value; NaN without
    any.
    """
    band = np.full((2, means.shape[1]), np.nan)
    known = np.isfinite(means).any(0)
    band[:, known] = np.nanquantile(means[:, known], (0.025, 0.975), axis=0)
    return band


def _q(
    p: Float[np.ndarray, "state value"], subjects: Sequence[HeardState], values: tuple[str, ...]
) -> Float[np.ndarray, "state value"]:
    """Correct p within each arm and turn, the steered value's cells apart from the others."""
    q = np.full(p.shape, np.nan)
    on_target = np.array([[state.value == value for value in values] for state in subjects])
    groups = [(state.arm, state.turn) for state in subjects]
    for group in dict.fromkeys(groups):
        rows = np.array([other == group for other in groups])[:, None]
        for family in (on_target, ~on_target):
            q[rows & family] = benjamini_hochberg(p[rows & family])
    return q


def _rank_row(
    values: tuple[str, ...], group: Sequence[HeardState], drawing: Drawing
) -> dict[str, Any]:
    """Columns `rank`, `low`, `high`, `p`, `n` and `n_values` of an arm steered one way.

    Steered down, the value should change least, so the row is turned round.
    """
    hearable = [state for state in group if state.value in values]
    if not hearable:
        nothing = dict.fromkeys(("rank", "low", "high", "p"), float("nan"))
        return nothing | {"n": 0, "n_values": 0}
    sign = -1 if hearable[0].turn == "down" else 1
    changes = sign * np.stack([state.changes for state in hearable], axis=1)
    targets = np.array([values.index(state.value) for state in hearable])
    rank = target_rank(changes, targets, drawing)
    return rank._asdict() | {"n": len(changes), "n_values": len(hearable)}


def _count(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Columns `heard`, `others_moved` and `others` of an arm steered one way."""
    itself = [row for row in rows if row["value"] == row["target"]]
    others = [row for row in rows if row["value"] != row["target"]]
    towards = [row for row in itself if (row["effect"] < 0) == (row["turn"] == "down")]
    return {
        "heard": sum(row["heard"] for row in towards),
        "others_moved": sum(row["heard"] for row in others),
        "others": sum(np.isfinite(row["effect"]) for row in others),
    }


def target_rank(
    changes: Float[np.ndarray, "opening source value"],
    targets: Int[np.ndarray, " source"],
    drawing: Drawing,
) -> TargetRank:
    """Rank each steered value's change among those of all values; give the mean over them.

    `targets[s]` is the column of the value that row `s` steers. Values without an effect anywhere
    (an ear that is deaf to them) take no part. Drawing openings anew adds noise, which pulls ranks
    towards chance: the interval leans that way from the rank.
    """
    means = known_mean(changes, 0)
    places = _ranks(_centred(means))
    rows = np.arange(len(targets))
    hearable = np.flatnonzero(np.isfinite(means).any(0))
    count = min(len(targets), len(hearable))
    if count == 0 or not np.isfinite(places[rows, targets]).any():
        return TargetRank(*[float("nan")] * 4)
    rank = float(known_mean(places[rows, targets], 0))
    weights = cluster_weights(len(changes), drawing.replicates, drawing.seed)
    drawn = _ranks(_centred(replicate_means(changes, weights)))[:, rows, targets]
    low, high = np.nanquantile(known_mean(drawn, 1), (0.025, 0.975))
    rng = np.random.default_rng((drawing.seed, 17))
    drawn_cells = [
        places[rng.permutation(rows)[:count], rng.permutation(hearable)[:count]]
        for _ in range(drawing.permutations)
    ]
    null = known_mean(np.stack(drawn_cells), 1)
    p = (1 + int((null >= rank - 1e-12).sum())) / (1 + drawing.permutations)
    return TargetRank(rank=rank, low=float(low), high=float(high), p=p)


def _centred(means: Float[np.ndarray, "*rows source value"]) -> Float[np.ndarray, "*rows s v"]:
    """Subtract each value's mean over the steered values, where there are several."""
    if means.shape[-2] < 2:
        return means
    return means - known_mean(means, -2)[..., None, :]


def _ranks(means: Float[np.ndarray, "*rows value"]) -> Float[np.ndarray, "*rows value"]:
    """Rank every cell among the others of its row [0 to 1]; ties count half, NaN stays NaN."""
    others = np.isfinite(means).sum(-1, keepdims=True) - 1
    below = (means[..., None] > means[..., None, :]).sum(-1)
    equal = (means[..., None] == means[..., None, :]).sum(-1) - 1
    share = np.divide(below + equal / 2, others, out=np.full(means.shape, np.nan), where=others > 0)
    return np.where(np.isfinite(means), share, np.nan)
