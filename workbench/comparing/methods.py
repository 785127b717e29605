"""Steering methods beside each other: strength chosen on one half of the contexts, effects reported
on the other.

An *arm* is a way to steer (features of an SAE, a stored direction, a prompt, a control); each arm
was measured at several strengths for every value, on the same questions.

1. Both halves of the contexts, and both halves of the neutral texts, are kept apart: the first
   chooses, the second reports.
2. Per arm and value the strength with the largest mean effect on the value itself is chosen among
   those whose damage is at most delta; where none is, the one of least damage is, and flagged. An
   arm that reverses another one takes the strength of that one.
3. Effects are paired changes in unsteered SD (`effects.py`) with intervals bootstrapped over
   contexts; leakage is that of `effects.py`.
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
from workbench.causal.effects import PARTS, leakage, unsteered_sd
from workbench.statistics.intervals import (
    benjamini_hochberg,
    bootstrap_mean,
    cluster_weights,
    known_mean,
    replicate_means,
)
from workbench.sweeps.damage import Sweep

ALL = "all"
"""Name of the mean over values in `arm_contrasts`."""
Halves = tuple[np.ndarray, np.ndarray]
"""Numbers that choose, numbers that report."""


class Chosen(NamedTuple):
    row: Int[np.ndarray, "arm value"]
    """Intervention that was chosen; -1 where the arm was not measured for the value."""
    within: Bool[np.ndarray, "arm value"]
    """Whether its damage is at most delta on the texts that choose."""
    score: Float[np.ndarray, "arm value"]
    """Mean effect on the value in the contexts that choose [SD]; NaN where there is none."""


class Compared(NamedTuple):
    arms: list[dict[str, Any]]
    """Rows of `arms` but for prompt, tokens and seconds: every intervention."""
    arm_effects: list[dict[str, Any]]
    """Rows of `arm_effects`: every value at the chosen strength."""
    arm_contrasts: list[dict[str, Any]]
    """Rows of `arm_contrasts`: against the best baseline."""
    arm_means: list[dict[str, Any]]
    """Rows of `arm_means` but for its costs: the mean over values."""


def on_target(
    changes: Float[np.ndarray, "intervention context value"], sweep: Sweep
) -> Float[np.ndarray, "intervention context"]:
    """Each intervention's change of the value that it is for."""
    own = np.array([sweep.values.index(source) for source in sweep.source])
    return changes[np.arange(len(own)), :, own]


def choose(
    score: Float[np.ndarray, " intervention"],
    damage: Float[np.ndarray, " intervention"],
    delta: float,
    sweep: Sweep,
    arms: Sequence[str],
    values: Sequence[str],
    reverses: Mapping[str, str],
) -> Chosen:
    """The strength of every arm for every value.

    `reverses`: arm -> the arm whose strength it takes.
    """
    row = np.full((len(arms), len(values)), -1)
    for a, arm in enumerate(arms):
        for v, value in enumerate(values):
            mine = np.flatnonzero(
                (sweep.kind == arm) & (sweep.source == value) & np.isfinite(score)
            )
            if len(mine) and arm not in reverses:
                allowed = mine[damage[mine] <= delta]
                # Of equal scores the smaller strength is taken.
                order = allowed[np.lexsort((sweep.dose[allowed], -score[allowed]))]
                row[a, v] = order[0] if len(order) else mine[np.argmin(damage[mine])]
    for arm, origin in reverses.items():
        if arm in arms and origin in arms:
            for v, value in enumerate(values):
                like = row[arms.index(origin), v]
                mine = np.flatnonzero((sweep.kind == arm) & (sweep.source == value))
                same = mine[sweep.dose[mine] == sweep.dose[like]] if like >= 0 else mine[:0]
                row[arms.index(arm), v] = same[0] if len(same) else -1
    known = row >= 0
    return Chosen(row, known & (damage[row] <= delta), np.where(known, score[row], np.nan))


def compare(
    sweep: Sweep,
    system: ValueSystem,
    contexts: Halves,
    texts: Halves,
    delta: float,
    baselines: Sequence[str],
    reverses: Mapping[str, str],
    replicates: int,
    seed: int,
) -> Compared:
    """All that a comparison says.

    `sweep.kind` names the arm of each intervention, `sweep.source` the value it is for.
    """
    if not delta > 0:
        raise BadInput(
            f"The damage budget must be positive, got {delta:g} nats. Give a limit such as 0.1."
        )
    if min(map(len, (*contexts, *texts))) < 2:
        raise BadInput(
            "Choosing and reporting need two contexts and two neutral texts each. Give four or more"
            " of both."
        )
    sd = unsteered_sd(sweep)
    changes = sweep.changes() / sd
    arms = list(dict.fromkeys(sweep.kind.tolist()))
    values = [value for value in sweep.values if (sweep.source == value).any()]
    own = on_target(changes, sweep)
    score, hurt = known_mean(own[:, contexts[0]], 1), sweep.damage[:, texts[0]].mean(1)
    chosen = choose(score, hurt, delta, sweep, arms, values, reverses)
    reported = changes[:, contexts[1]].transpose(1, 0, 2)
    cells = bootstrap_mean(reported, replicates, seed)
    drawn = replicate_means(reported, cluster_weights(len(reported), replicates, seed))
    leaks = leakage(cells, drawn, tuple(sweep.source.tolist()), system, sweep.values)
    leaks = [leaks[at : at + len(PARTS)] for at in range(0, len(leaks), len(PARTS))]
    harm = bootstrap_mean(sweep.damage[:, texts[1]].T, replicates, seed)
    place = [sweep.values.index(source) for source in sweep.source]
    picked = {
        int(row): bool(chosen.within[cell]) for cell, row in np.ndenumerate(chosen.row) if row >= 0
    }
    rows = []
    for k, j in enumerate(place):
        leak = {part["part"]: part for part in leaks[k]}
        rows.append(
            {
                "value": str(sweep.source[k]),
                "arm": str(sweep.kind[k]),
                "intervention": k,
                "dose": float(sweep.dose[k]),
                "chosen": k in picked,
                "within": bool(hurt[k] <= delta),
                "selected": float(score[k]),
                "effect": float(cells.mean[k, j]),
                "low": float(cells.low[k, j]),
                "high": float(cells.high[k, j]),
                "points": float(cells.mean[k, j] * sd[j]),
                "n": int(cells.n[k, j]),
                "damage": float(harm.mean[k]),
                "damage_low": float(harm.low[k]),
                "damage_high": float(harm.high[k]),
                "damage_n": int(harm.n[k]),
                "leakage": leak["all"]["leakage"],
                "leakage_low": leak["all"]["low"],
                "leakage_high": leak["all"]["high"],
                **{f"leakage_{part}": leak[part]["leakage"] for part in PARTS[1:]},
                "reason": leak["all"]["reason"],
            }
        )
    effects = [
        {
            "value": rows[k]["value"],
            "arm": rows[k]["arm"],
            "target": target,
            "effect": float(cells.mean[k, j]),
            "low": float(cells.low[k, j]),
            "high": float(cells.high[k, j]),
            "points": float(cells.mean[k, j] * sd[j]),
            "n": int(cells.n[k, j]),
        }
        for k in sorted(picked)
        for j, target in enumerate(sweep.values)
    ]
    shown = np.where(chosen.row >= 0, 1.0, np.nan)[..., None] * own[chosen.row][:, :, contexts[1]]
    contrasts = _contrasts(shown, chosen.score, arms, values, baselines, replicates, seed)
    return Compared(
        arms=rows,
        arm_effects=effects,
        arm_contrasts=contrasts,
        arm_means=_means(shown, chosen, sweep.damage[:, texts[1]], rows, arms, replicates, seed),
    )


def _contrasts(
    shown: Float[np.ndarray, "arm value context"],
    score: Float[np.ndarray, "arm value"],
    arms: list[str],
    values: list[str],
    baselines: Sequence[str],
    replicates: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Each arm less the best baseline, value by value and in the mean over values."""
    known = [a for a, arm in enumerate(arms) if arm in baselines]
    if not known:
        return []
    places, differences = [], []
    whole = np.concatenate([shown, known_mean(shown, 1)[:, None]], axis=1)
    scores = np.concatenate([score, known_mean(score, 1)[:, None]], axis=1)
    for v in range(len(values) + 1):
        best = known[int(np.argmax(np.nan_to_num(scores[known, v], nan=-np.inf)))]
        for a in range(len(arms)):
            if a != best:
                places.append((v, a, best))
                differences.append(whole[a, v] - whole[best, v])
    found = bootstrap_mean(np.stack(differences, axis=1), replicates, seed)
    pooled = np.array([v == len(values) for v, _, _ in places])
    q = np.full(len(places), np.nan)
    for family in (pooled, ~pooled):
        q[family] = benjamini_hochberg(found.p[family])
    return [
        {
            "value": [*values, ALL][v],
            "arm": arms[a],
            "baseline": arms[best],
            "difference": float(found.mean[k]),
            "low": float(found.low[k]),
            "high": float(found.high[k]),
            "p": float(found.p[k]),
            "q": float(q[k]),
            "n": int(found.n[k]),
        }
        for k, (v, a, best) in enumerate(places)
    ]


def _means(
    shown: Float[np.ndarray, "arm value context"],
    chosen: Chosen,
    damage: Float[np.ndarray, "intervention text"],
    rows: list[dict[str, Any]],
    arms: list[str],
    replicates: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Mean over values of every arm at its chosen strengths; values count equally, contexts are
    the clusters.
    """
    effect = bootstrap_mean(known_mean(shown, 1).T, replicates, seed)
    measured = chosen.row >= 0
    hurt = np.stack([damage[chosen.row[a][measured[a]]].mean(0) for a in range(len(arms))], axis=1)
    harm = bootstrap_mean(hurt, replicates, seed)
    found = []
    for a, arm in enumerate(arms):
        leaks = np.array([rows[k]["leakage"] for k in chosen.row[a][measured[a]]])
        found.append(
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
    return found


class Scored(NamedTuple):
    rows: list[dict[str, Any]]
    """Rows of `arm_scores` but for the judge's name: every intervention."""
    means: dict[str, dict[str, float]]
    """Arm -> its harmonic score in the mean over values, with the interval over openings."""


def score_texts(
    scores: Float[np.ndarray, "intervention opening aspect"],
    sweep: Sweep,
    halves: Halves,
    reverses: Mapping[str, str],
    replicates: int,
    seed: int,
) -> Scored:
    """AxBench's table (Wu et al. 2025): aspects are concept, instruct and fluency [0 to 2], NaN
    where the judge was not read.

    The harmonic mean is taken text by text; the strength with the best mean over the first half of
    openings is chosen, whatever the damage, and the second half reports.
    """
    joint = harmonic(scores)
    four = np.concatenate([scores, joint[..., None]], axis=2)
    first, second = halves
    arms = list(dict.fromkeys(sweep.kind.tolist()))
    values = [value for value in sweep.values if (sweep.source == value).any()]
    selected = known_mean(joint[:, first], 1)
    chosen = choose(selected, np.zeros(len(selected)), np.inf, sweep, arms, values, reverses)
    picked = set(chosen.row.ravel().tolist())
    found = bootstrap_mean(four[:, second].transpose(1, 0, 2), replicates, seed)
    rows = []
    for k in range(len(selected)):
        row = {
            "value": str(sweep.source[k]),
            "arm": str(sweep.kind[k]),
            "intervention": k,
            "dose": float(sweep.dose[k]),
            "chosen": k in picked,
            "selected": float(selected[k]),
        }
        for aspect, name in enumerate(("concept", "instruct", "fluency", "harmonic")):
            row |= {
                name: float(found.mean[k, aspect]),
                f"{name}_low": float(found.low[k, aspect]),
                f"{name}_high": float(found.high[k, aspect]),
            }
        rows.append(row | {"n": int(found.n[k, 3]), "missing": int(len(second) - found.n[k, 3])})
    shown = np.where(chosen.row >= 0, 1.0, np.nan)[..., None] * joint[chosen.row][:, :, second]
    pooled = bootstrap_mean(known_mean(shown, 1).T, replicates, seed)
    means = {
        arm: {
            "harmonic": float(pooled.mean[a]),
            "harmonic_low": float(pooled.low[a]),
            "harmonic_high": float(pooled.high[a]),
        }
        for a, arm in enumerate(arms)
    }
    return Scored(rows, means)


def harmonic(scores: Float[np.ndarray, "*texts aspect"]) -> Float[np.ndarray, "*texts"]:
    """Harmonic mean over the last axis; 0 where any is 0, NaN where any is."""
    inverse = np.divide(1.0, scores, out=np.full_like(scores, np.inf), where=scores != 0)
    return np.where(
        np.isnan(scores).any(-1),
        np.nan,
        scores.shape[-1] / np.where(np.isnan(inverse), 1.0, inverse).sum(-1),
    )
