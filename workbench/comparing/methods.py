"""Steering methods beside each other: strength chosen on one half of the contexts, effects reported
on the other.

An *arm* is a way to steer (features of an SAE, a stored direction, a prompt, a control); each arm
was measured at several strengths for every value, on the same questions.

1. Both halves of the contexts, and both halves of the neutral texts, are kept apart: the first
   chooses, the second reports.
2. Per arm and value the strength with the largest mean effect on the value itself is chosen among
   those whose damage is at most delta; where none is, the one of least damage is, and flagged. An
   arm that reverses another one takes the strength of that one.
3. Effects are paired changes in unsteered SD with intervals bootstrapped over
   contexts; leakage is that of `sweeps/leakage.py`.
4. The baseline (a prompt, a difference of means) with the best chosen effect is picked on the first
   half; on the second every other arm is laid beside it, paired by context, with q over all arms
   and values (Benjamini-Hochberg), and once over the mean of values.

Left out: the uncertainty of the choice itself and of the halves, so that a small difference can
turn with the seed however small its q. The SD is that of all contexts: unsteered, it knows no arm.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from feature_store.errors import BadInput
from feature_store.records import ValueSystem
from workbench.statistics.intervals import (
    Interval,
    benjamini_hochberg,
    bootstrap_mean,
    cluster_weights,
    known_mean,
    replicate_means,
)
from workbench.sweeps.damage import Sweep
from workbench.sweeps.leakage import PARTS, EffectMatrix, leakage
from workbench.sweeps.ratings import ASPECTS as RATED

ALL = "all"
"""Name of the mean over values in `arm_contrasts`."""
ASPECTS = (*RATED, "harmonic")
"""Columns of `arm_scores`: the three aspects of a rating, and their harmonic mean."""
Halves = tuple[np.ndarray, np.ndarray]
"""Numbers that choose, numbers that report."""


class ComparisonDesign(NamedTuple):
    """How arms are compared: what chooses and reports, and what is allowed."""

    contexts: Halves
    """Contexts that choose a strength, and contexts that report its effect."""
    texts: Halves
    """Neutral texts on which damage counts for choosing, and for reporting."""
    delta: float
    """Largest damage of a chosen strength [nats per token]."""
    baselines: Sequence[str]
    """Arms of which the best is laid beside every other one."""
    reverses: Mapping[str, str]
    """Arm -> the arm that it reverses, whose strength it takes."""
    replicates: int
    """Bootstrap replicates."""
    seed: int
    """Seed of the bootstrap."""


class ChosenStrengths(NamedTuple):
    """The strength of every arm for every value, as the intervention that has it."""

    row: Int[np.ndarray, "arm value"]
    """Intervention that was chosen; -1 where the arm was not measured for the value."""
    within: Bool[np.ndarray, "arm value"]
    """Whether its damage is at most delta on the texts that choose."""
    score: Float[np.ndarray, "arm value"]
    """Mean effect on the value in the contexts that choose [SD]; NaN where there is none."""

    @property
    def rows(self) -> set[int]:
        """Numbers of all chosen interventions."""
        return {int(row) for row in self.row.ravel() if row >= 0}

    def of(
        self, effects: Float[np.ndarray, "intervention unit"], units: Int[np.ndarray, " used"]
    ) -> Float[np.ndarray, "arm value used"]:
        """Pick the chosen interventions' effects in some contexts or openings; NaN without one."""
        measured = np.where(self.row >= 0, 1.0, np.nan)[..., None]
        return measured * effects[self.row][:, :, units]


class MethodComparison(NamedTuple):
    """All that a comparison of steering methods says, as rows of relations."""

    arms: list[dict[str, Any]]
    """Rows of `arms` but for prompt, tokens and seconds: every intervention."""
    arm_effects: list[dict[str, Any]]
    """Rows of `arm_effects`: every value at the chosen strength."""
    arm_contrasts: list[dict[str, Any]]
    """Rows of `arm_contrasts`: against the best baseline."""
    arm_means: list[dict[str, Any]]
    """Rows of `arm_means` but for its costs: the mean over values."""


class TextScores(NamedTuple):
    """How steered texts were rated, as AxBench reports it."""

    rows: list[dict[str, Any]]
    """Rows of `arm_scores` but for the judge's name: every intervention."""
    means: dict[str, dict[str, float]]
    """Arm -> its harmonic score in the mean over values, with the interval over openings."""


def arms_of(sweep: Sweep) -> list[str]:
    """Names of the arms of a sweep, in the order of their first intervention."""
    return list(dict.fromkeys(sweep.kind.tolist()))


def values_of(sweep: Sweep) -> list[str]:
    """Ids of the values that arms were steered for, in circle order."""
    return [value for value in sweep.values if (sweep.source == value).any()]


def on_target(
    changes: Float[np.ndarray, "intervention context value"], sweep: Sweep
) -> Float[np.ndarray, "intervention context"]:
    """Pick each intervention's change of the value that it is for."""
    target = np.array([sweep.values.index(source) for source in sweep.source])
    return changes[np.arange(len(target)), :, target]


def choose(
    sweep: Sweep,
    score: Float[np.ndarray, " intervention"],
    damage: Float[np.ndarray, " intervention"],
    delta: float,
    reverses: Mapping[str, str],
) -> ChosenStrengths:
    """Choose the strength of every arm for every value: the best score within the damage `delta`.

    Where no strength is within it, the one of least damage is chosen. `reverses`: arm -> the arm
    whose strength it takes.
    """
    arms, values = arms_of(sweep), values_of(sweep)
    row = np.full((len(arms), len(values)), -1)
    for a, arm in enumerate(arms):
        for v, value in enumerate(values):
            of_cell = (sweep.kind == arm) & (sweep.source == value) & np.isfinite(score)
            candidates = np.flatnonzero(of_cell)
            if len(candidates) and arm not in reverses:
                allowed = candidates[damage[candidates] <= delta]
                # Of equal scores the smaller strength is taken.
                order = allowed[np.lexsort((sweep.dose[allowed], -score[allowed]))]
                least = candidates[np.argmin(damage[candidates])]
                row[a, v] = order[0] if len(order) else least
    for arm, origin in reverses.items():
        if arm in arms and origin in arms:
            for v, value in enumerate(values):
                row[arms.index(arm), v] = _of_same_dose(
                    sweep, arm, value, int(row[arms.index(origin), v])
                )
    is_chosen = row >= 0
    return ChosenStrengths(
        row=row,
        within=is_chosen & (damage[row] <= delta),
        score=np.where(is_chosen, score[row], np.nan),
    )


def _of_same_dose(sweep: Sweep, arm: str, value: str, origin: int) -> int:
    """The arm's intervention for a value at the dose of intervention `origin`; -1 without one."""
    if origin < 0:
        return -1
    candidates = np.flatnonzero((sweep.kind == arm) & (sweep.source == value))
    same = candidates[sweep.dose[candidates] == sweep.dose[origin]]
    return int(same[0]) if len(same) else -1


def compare(sweep: Sweep, system: ValueSystem, design: ComparisonDesign) -> MethodComparison:
    """Compare the arms of a sweep: choose strengths on one half, report effects on the other.

    `sweep.kind` names the arm of each intervention, `sweep.source` the value it is for.
    """
    _refuse(design)
    changes = sweep.changes() / sweep.unsteered_sd()
    effects = on_target(changes, sweep)
    score = known_mean(effects[:, design.contexts[0]], 1)
    damage = sweep.damage[:, design.texts[0]].mean(1)
    chosen = choose(sweep, score, damage, design.delta, design.reverses)
    reported = changes[:, design.contexts[1]].transpose(1, 0, 2)
    cells = bootstrap_mean(reported, design.replicates, design.seed)
    rows = _arm_rows(sweep, chosen, cells, design)
    leaks = _leaks(sweep, system, reported, cells, design)
    for k, row in enumerate(rows):
        row["within"] = bool(damage[k] <= design.delta)
        row["selected"] = float(score[k])
        row |= leaks[k]
    shown = chosen.of(effects, design.contexts[1])
    return MethodComparison(
        arms=rows,
        arm_effects=_effect_rows(sweep, chosen, cells),
        arm_contrasts=_contrasts(sweep, shown, chosen.score, design),
        arm_means=_means(sweep, shown, chosen, rows, design),
    )


def _refuse(design: ComparisonDesign) -> None:
    """Raise BadInput where a design cannot choose and report."""
    if not design.delta > 0:
        raise BadInput(
            f"The damage budget must be positive, got {design.delta:g} nats. Give a limit such as"
            " 0.1."
        )
    if min(map(len, (*design.contexts, *design.texts))) < 2:
        raise BadInput(
            "Choosing and reporting need two contexts and two neutral texts each. Give four or more"
            " of both."
        )


def _arm_rows(
    sweep: Sweep, chosen: ChosenStrengths, cells: Interval, design: ComparisonDesign
) -> list[dict[str, Any]]:
    """Rows of `arms`: effect on the value itself, and damage, of every intervention.

    `within`, `selected` and leakage are filled in by the caller.
    """
    sd = sweep.unsteered_sd()
    damage = bootstrap_mean(sweep.damage[:, design.texts[1]].T, design.replicates, design.seed)
    picked = chosen.rows
    rows: list[dict[str, Any]] = []
    for k, source in enumerate(sweep.source):
        j = sweep.values.index(source)
        rows.append(
            {
                "value": str(source),
                "arm": str(sweep.kind[k]),
                "intervention": k,
                "dose": float(sweep.dose[k]),
                "chosen": k in picked,
                "effect": float(cells.mean[k, j]),
                "low": float(cells.low[k, j]),
                "high": float(cells.high[k, j]),
                "points": float(cells.mean[k, j] * sd[j]),
                "n": int(cells.n[k, j]),
                "damage": float(damage.mean[k]),
                "damage_low": float(damage.low[k]),
                "damage_high": float(damage.high[k]),
                "damage_n": int(damage.n[k]),
            }
        )
    return rows


def _leaks(
    sweep: Sweep,
    system: ValueSystem,
    reported: Float[np.ndarray, "context intervention value"],
    cells: Interval,
    design: ComparisonDesign,
) -> list[dict[str, Any]]:
    """Columns `leakage...` and `reason` of `arms`, of every intervention."""
    weights = cluster_weights(len(reported), design.replicates, design.seed)
    matrix = EffectMatrix(
        cells=cells,
        replicates=replicate_means(reported, weights),
        sources=tuple(sweep.source.tolist()),
        values=sweep.values,
    )
    parts = leakage(matrix, system)
    columns = []
    for start in range(0, len(parts), len(PARTS)):
        whole, *places = parts[start : start + len(PARTS)]
        row = {
            "leakage": whole["leakage"],
            "leakage_low": whole["low"],
            "leakage_high": whole["high"],
            "reason": whole["reason"],
        }
        row |= {f"leakage_{place['part']}": place["leakage"] for place in places}
        columns.append(row)
    return columns


def _effect_rows(sweep: Sweep, chosen: ChosenStrengths, cells: Interval) -> list[dict[str, Any]]:
    """Rows of `arm_effects`: every value under every chosen intervention."""
    sd = sweep.unsteered_sd()
    return [
        {
            "value": str(sweep.source[k]),
            "arm": str(sweep.kind[k]),
            "target": target,
            "effect": float(cells.mean[k, j]),
            "low": float(cells.low[k, j]),
            "high": float(cells.high[k, j]),
            "points": float(cells.mean[k, j] * sd[j]),
            "n": int(cells.n[k, j]),
        }
        for k in sorted(chosen.rows)
        for j, target in enumerate(sweep.values)
    ]


def _contrasts(
    sweep: Sweep,
    shown: Float[np.ndarray, "arm value context"],
    score: Float[np.ndarray, "arm value"],
    design: ComparisonDesign,
) -> list[dict[str, Any]]:
    """Rows of `arm_contrasts`: each arm less the best baseline, by value and in the mean of all."""
    arms, columns = arms_of(sweep), [*values_of(sweep), ALL]
    baselines = [a for a, arm in enumerate(arms) if arm in design.baselines]
    if not baselines:
        return []
    whole = np.concatenate([shown, known_mean(shown, 1)[:, None]], axis=1)
    scores = np.concatenate([score, known_mean(score, 1)[:, None]], axis=1)
    places: list[tuple[int, int, int]] = []
    differences = []
    for v in range(len(columns)):
        best = baselines[int(np.argmax(np.nan_to_num(scores[baselines, v], nan=-np.inf)))]
        for a in range(len(arms)):
            if a != best:
                places.append((v, a, best))
                differences.append(whole[a, v] - whole[best, v])
    interval = bootstrap_mean(np.stack(differences, axis=1), design.replicates, design.seed)
    pooled = np.array([columns[v] == ALL for v, _, _ in places])
    q = np.full(len(places), np.nan)
    # The mean over values is a question of another kind: it is corrected among its like.
    for family in (pooled, ~pooled):
        q[family] = benjamini_hochberg(interval.p[family])
    return [
        {
            "value": columns[v],
            "arm": arms[a],
            "baseline": arms[best],
            "difference": float(interval.mean[k]),
            "low": float(interval.low[k]),
            "high": float(interval.high[k]),
            "p": float(interval.p[k]),
            "q": float(q[k]),
            "n": int(interval.n[k]),
        }
        for k, (v, a, best) in enumerate(places)
    ]


def _means(
    sweep: Sweep,
    shown: Float[np.ndarray, "arm value context"],
    chosen: ChosenStrengths,
    rows: list[dict[str, Any]],
    design: ComparisonDesign,
) -> list[dict[str, Any]]:
    """Rows of `arm_means`: the mean over values of every arm at its chosen strengths.

    Values count equally, contexts are the clusters.
    """
    arms = arms_of(sweep)
    effect = bootstrap_mean(known_mean(shown, 1).T, design.replicates, design.seed)
    measured = chosen.row >= 0
    damage = sweep.damage[:, design.texts[1]]
    arm_damage = [damage[chosen.row[a][measured[a]]].mean(0) for a in range(len(arms))]
    harm = bootstrap_mean(np.stack(arm_damage, axis=1), design.replicates, design.seed)
    means = []
    for a, arm in enumerate(arms):
        leaks = np.array([rows[k]["leakage"] for k in chosen.row[a][measured[a]]])
        means.append(
            {
                "arm": arm,
                "effect": float(effect.mean[a]),
                "low": float(effect.low[a]),
                "high": float(effect.high[a]),
                "n": int(effect.n[a]),
                "damage": float(harm.mean[a]),
                "damage_low": float(harm.low[a]),
                "damage_high": float(harm.high[a]),
                "damage_n": int(harm.n[a]),
                "leakage": float(known_mean(leaks, 0)),
                "leakage_values": int(np.isfinite(leaks).sum()),
                "n_values": int(measured[a].sum()),
                "within": int(chosen.within[a].sum()),
            }
        )
    return means


def score_texts(
    scores: Float[np.ndarray, "intervention opening aspect"],
    sweep: Sweep,
    halves: Halves,
    reverses: Mapping[str, str],
    replicates: int,
    seed: int,
) -> TextScores:
    """Make AxBench's table of steered texts (Wu et al. 2025), by intervention and by arm.

    Aspects are concept, instruct and fluency [0 to 2], NaN where the judge was not read. The
    harmonic mean is taken text by text; the strength with the best mean over the first half of
    openings is chosen, whatever the damage, and the second half reports.
    """
    joint = harmonic(scores)
    first, second = halves
    selected = known_mean(joint[:, first], 1)
    chosen = choose(sweep, selected, np.zeros(len(selected)), np.inf, reverses)
    four = np.concatenate([scores, joint[..., None]], axis=2)
    picked = chosen.rows
    interval = bootstrap_mean(four[:, second].transpose(1, 0, 2), replicates, seed)
    rows = [
        {
            "value": str(sweep.source[k]),
            "arm": str(sweep.kind[k]),
            "intervention": k,
            "dose": float(sweep.dose[k]),
            "chosen": k in picked,
            "selected": float(selected[k]),
            **_aspects(interval, k),
            "n": int(interval.n[k, 3]),
            "missing": int(len(second) - interval.n[k, 3]),
        }
        for k in range(len(selected))
    ]
    pooled = bootstrap_mean(known_mean(chosen.of(joint, second), 1).T, replicates, seed)
    means = {
        arm: {
            "harmonic": float(pooled.mean[a]),
            "harmonic_low": float(pooled.low[a]),
            "harmonic_high": float(pooled.high[a]),
        }
        for a, arm in enumerate(arms_of(sweep))
    }
    return TextScores(rows, means)


def _aspects(interval: Interval, row: int) -> dict[str, float]:
    """Columns of `arm_scores`: every aspect of one intervention, with its interval."""
    columns: dict[str, float] = {}
    for aspect, name in enumerate(ASPECTS):
        columns[name] = float(interval.mean[row, aspect])
        columns[f"{name}_low"] = float(interval.low[row, aspect])
        columns[f"{name}_high"] = float(interval.high[row, aspect])
    return columns


def harmonic(scores: Float[np.ndarray, "*texts aspect"]) -> Float[np.ndarray, "*texts"]:
    """Compute the harmonic mean over the last axis; 0 where any is 0, NaN where any is.

    harmonic(np.array([2.0, 2.0, 1.0]))        # 1.5
    """
    inverse = np.divide(1.0, scores, out=np.full_like(scores, np.inf), where=scores != 0)
    return np.where(
        np.isnan(scores).any(-1),
        np.nan,
        scores.shape[-1] / np.where(np.isnan(inverse), 1.0, inverse).sum(-1),
    )
