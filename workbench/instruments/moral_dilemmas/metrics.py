"""What choices between two values add up to, step by step: preferences, win rates, cycles,
strengths (Wu et al. 2025).

1. `tally` counts, for each dilemma, how often each value was offered and chosen at each step, and
   which value was chosen against which. Both orders, all wordings, contexts and repeats of a
   question count alike, so that a bias to a place cancels.
2. *Preference* of a value at a step: chosen / offered - 1/2, in [-1/2, 1/2].
3. *Win rate* W(u, v): how often u was chosen where u stood against v.
4. *Cycles*: triads of values of which each wins against the next (W > 1/2), beside what coins would
   give: of eight outcomes two are cyclic.
5. *Rank agreement* of two sets of answers at a step: Spearman over the values that both know.
6. *Strength* (ours, not the paper's): Bradley and Terry's log-odds, by Hunter's MM iterations
   (2004). Half a win each way is added to every pair, so that a value that always wins has a finite
   strength and all are comparable; their mean is 0.

Intervals are bootstrapped over dilemmas. A cell of fewer than `FEWEST` dilemmas is blank: its n is
shown, its number is not. Rates without any spread get Wilson's interval, because five choices out
of five do not prove a certainty.

Wu, Y. et al. (2025). The Staircase of Ethics. EMNLP. Chosen / offered - 1/2 is our reading of its
figures. Left out: its significance tests.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from feature_store.errors import BadInput
from feature_store.records import Instrument, Item, Response, ValueSystem
from workbench.statistics.intervals import bootstrap_mean, cluster_weights

FEWEST = 5
"""Dilemmas below which a cell is blank."""
ITERATIONS = 200
"""MM iterations of the strengths."""


class Tally(NamedTuple):
    values: tuple[str, ...]
    """Ids of the values that were offered, in the system's order."""
    dilemmas: tuple[str, ...]
    """Their names, the clusters."""
    offered: Float[np.ndarray, "dilemma step value"]
    """Parsed answers in which the value could be chosen."""
    chosen: Float[np.ndarray, "dilemma step value"]
    """Those in which it was."""
    missing: Float[np.ndarray, "dilemma step value"]
    """Answers in which it could have been chosen and that were refused, unread or too long."""
    wins: Float[np.ndarray, "dilemma value value"]
    """How often the row's value was chosen against the column's."""


def steps(instrument: Instrument) -> dict[str, int]:
    """Item -> its step, 1 for one that follows none."""
    found: dict[str, int] = {}
    for item in instrument.items:
        found[item.id] = 1 + found[item.after] if item.after else 1
    return found


def tally(responses: Sequence[Response], instrument: Instrument, system: ValueSystem) -> Tally:
    """Counts of one steering. Raises BadInput where an item is not a choice between two values."""
    items, step_of = {item.id: item for item in instrument.items}, steps(instrument)
    pairs = {item.id: sides(item) for item in instrument.items}
    values = tuple(value for value in system.ids if any(value in pair for pair in pairs.values()))
    dilemmas = tuple(dict.fromkeys(item.group or item.id for item in instrument.items))
    row, column = (
        {name: k for k, name in enumerate(dilemmas)},
        {value: k for k, value in enumerate(values)},
    )
    shape = (len(dilemmas), max(step_of.values()), len(values))
    offered, chosen, missing = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    wins = np.zeros((len(dilemmas), len(values), len(values)))
    for r in responses:
        d, s, pair = (
            row[items[r.item].group or r.item],
            step_of[r.item] - 1,
            [column[value] for value in pairs[r.item]],
        )
        if r.status != "parsed":
            missing[d, s, pair] += 1
            continue
        won, lost = pair[r.chosen], pair[1 - r.chosen]
        offered[d, s, pair] += 1
        chosen[d, s, won] += 1
        wins[d, won, lost] += 1
    return Tally(
        values=values, dilemmas=dilemmas, offered=offered, chosen=chosen, missing=missing, wins=wins
    )


def sides(item: Item) -> tuple[str, str]:
    """Ids of the values that its two answers serve, in their order.

    Raises BadInput where it is no choice between two values.
    """
    named = [option.scores[0][0] for option in item.options if len(option.scores) == 1]
    if len(named) != 2 or len(item.options) != 2 or named[0] == named[1]:
        raise BadInput(
            f"Item {item.id} is no choice between two values. Step preferences and win rates need"
            " such items."
        )
    return named[0], named[1]


class Rates(NamedTuple):
    rate: np.ndarray
    """Hits / all [0 to 1]; NaN below `FEWEST` dilemmas."""
    low: np.ndarray
    """Lower end of the 95 % interval over dilemmas."""
    high: np.ndarray
    """Upper end of it."""
    n: np.ndarray
    """Dilemmas."""


def rates(
    hits: Float[np.ndarray, " dilemma *cells"],
    every: Float[np.ndarray, " dilemma *cells"],
    replicates: int,
    seed: int,
) -> Rates:
    """A ratio of sums over dilemmas, its interval by the bootstrap of its linear part (Taylor
    series of a ratio).
    """
    known = every > 0
    n, total = known.sum(0), every.sum(0)
    rate = np.divide(hits.sum(0), total, out=np.full(total.shape, np.nan), where=total > 0)
    size = np.divide(total, n, out=np.ones(total.shape), where=n > 0)
    around = bootstrap_mean(
        np.where(known, rate + (hits - rate * every) / size, np.nan), replicates, seed
    )
    low, high = np.clip(around.low, 0, 1), np.clip(around.high, 0, 1)
    for cell in np.argwhere((n > 0) & ~(high > low)):
        # Every dilemma said the same: the bootstrap sees no spread, which is no certainty.
        wilson = stats.binomtest(
            round(float(rate[*cell]) * int(n[*cell])), int(n[*cell])
        ).proportion_ci(method="wilson")
        low[*cell], high[*cell] = wilson.low, wilson.high
    blank = n < FEWEST
    return Rates(*(np.where(blank, np.nan, told) for told in (rate, low, high)), n)


def step_preferences(
    told: Tally, steering: str, replicates: int, seed: int
) -> list[dict[str, Any]]:
    """Rows of the relation `step_preferences`."""
    found = rates(told.chosen, told.offered, replicates, seed)
    return [
        {
            "steering": steering,
            "step": s + 1,
            "value": value,
            "preference": found.rate[s, v] - 0.5,
            "low": found.low[s, v] - 0.5,
            "high": found.high[s, v] - 0.5,
            "n": int(found.n[s, v]),
            "offered": int(told.offered[:, s, v].sum()),
            "missing": int(told.missing[:, s, v].sum()),
        }
        for s in range(told.offered.shape[1])
        for v, value in enumerate(told.values)
    ]


def win_rates(told: Tally, steering: str, replicates: int, seed: int) -> list[dict[str, Any]]:
    """Rows of the relation `win_rates`, of every ordered pair that met."""
    met = told.wins + told.wins.transpose(0, 2, 1)
    found = rates(told.wins, met, replicates, seed)
    return [
        {
            "steering": steering,
            "value": u,
            "against": v,
            "rate": found.rate[i, j],
            "low": found.low[i, j],
            "high": found.high[i, j],
            "n": int(found.n[i, j]),
            "met": int(met[:, i, j].sum()),
        }
        for i, u in enumerate(told.values)
        for j, v in enumerate(told.values)
        if found.n[i, j]
    ]


def transitivity(told: Tally, steering: str, replicates: int, seed: int) -> dict[str, Any]:
    """The row of the relation `transitivity`."""
    met = told.wins + told.wins.transpose(0, 2, 1)
    known = (met > 0).sum(0) >= FEWEST
    beats = _beats(told.wins.sum(0), met.sum(0), known)
    weights = cluster_weights(len(told.dilemmas), replicates, seed)
    k = len(told.values)
    drawn = [
        (weights @ counts.reshape(len(counts), -1)).reshape(-1, k, k) for counts in (told.wins, met)
    ]
    again = _cycles(_beats(drawn[0], drawn[1], known))
    triads = int(np.trace(np.linalg.matrix_power(known.astype(int), 3)) // 6)
    low, high = (float(q) for q in np.quantile(again, (0.025, 0.975)))
    return {
        "steering": steering,
        "triads": triads,
        "cycles": float(_cycles(beats[None])[0]),
        "low": low,
        "high": high,
        "chance": triads / 4,
        "found": [
            " > ".join(told.values[i] for i in (*triad, triad[0])) for triad in _named(beats)
        ],
        "n": len(told.dilemmas),
    }


def _beats(
    wins: Float[np.ndarray, "*rows value value"],
    met: Float[np.ndarray, "*rows value value"],
    known: Bool[np.ndarray, "value value"],
) -> np.ndarray:
    """1 where the row's value wins against the column's more often than not, 1/2 for a tie:
    dilemmas drawn anew tie often, and a tie is a coin.
    """
    return known * (1 + np.sign(2 * wins - met)) / 2


def _cycles(beats: Float[np.ndarray, "replicate value value"]) -> Float[np.ndarray, " replicate"]:
    """3-cycles of each graph, ties decided by coins: closed walks of three steps, each met from
    its three ends.
    """
    return np.einsum("rij,rjk,rki->r", beats, beats, beats, optimize=True) / 3


def _named(beats: Float[np.ndarray, "value value"]) -> list[tuple[int, int, int]]:
    k = len(beats)
    return [
        (a, b, c)
        for a in range(k)
        for b in range(a + 1, k)
        for c in range(a + 1, k)
        if b != c and min(beats[a, b], beats[b, c], beats[c, a]) == 1
    ]


def strengths(told: Tally, steering: str, replicates: int, seed: int) -> list[dict[str, Any]]:
    """Rows of the relation `value_strengths`."""
    flat = told.wins.reshape(len(told.dilemmas), -1)
    weights = np.vstack([np.ones(len(flat)), cluster_weights(len(flat), replicates, seed)])
    k = len(told.values)
    fitted = bradley_terry((weights @ flat).reshape(-1, k, k))
    low, high = np.quantile(fitted[1:], (0.025, 0.975), axis=0)
    n = (told.offered.sum(1) > 0).sum(0)
    blank = n < FEWEST
    return [
        {
            "steering": steering,
            "value": value,
            "strength": np.nan if blank[v] else fitted[0, v],
            "low": np.nan if blank[v] else low[v],
            "high": np.nan if blank[v] else high[v],
            "n": int(n[v]),
        }
        for v, value in enumerate(told.values)
    ]


def bradley_terry(
    wins: Float[np.ndarray, "replicate value value"],
) -> Float[np.ndarray, "replicate value"]:
    """Log-strengths of mean 0; the odds of u against v are exp(s_u - s_v)."""
    k = wins.shape[1]
    counted = wins + 0.5 * (1 - np.eye(k))
    met, won = counted + counted.transpose(0, 2, 1), counted.sum(2)
    p = np.ones((len(wins), k))
    for _ in range(ITERATIONS):
        p = won / (met / (p[:, :, None] + p[:, None, :])).sum(2)
        p /= np.exp(np.log(p).mean(1, keepdims=True))
    return np.log(p)


def rank_agreement(one: Tally, other: Tally, replicates: int, seed: int) -> list[dict[str, Any]]:
    """Spearman of the values' preferences in two sets of answers, for each step: rho, its interval
    over dilemmas, and the values behind it.

    Dilemmas that both were asked are drawn together. Values that one of the two knows from fewer
    than `FEWEST` dilemmas are left out.
    """
    shared = [name for name in one.dilemmas if name in other.dilemmas]
    values = [value for value in one.values if value in other.values]
    told = []
    for t in (one, other):
        rows, columns = (
            [t.dilemmas.index(name) for name in shared],
            [t.values.index(value) for value in values],
        )
        told.append((t.chosen[rows][..., columns], t.offered[rows][..., columns]))
    weights = (
        np.vstack([np.ones(len(shared)), cluster_weights(len(shared), replicates, seed)])
        if shared
        else np.empty((0, 0))
    )
    found = []
    for s in range(min(one.offered.shape[1], other.offered.shape[1])):
        known = (
            np.all([(offered[:, s] > 0).sum(0) >= FEWEST for _, offered in told], axis=0)
            if shared
            else np.zeros(len(values), bool)
        )
        if known.sum() < 3:
            found.append(
                {"step": s + 1, "rho": np.nan, "low": np.nan, "high": np.nan, "n": int(known.sum())}
            )
            continue
        drawn = [
            (weights @ chosen[:, s][:, known])
            / np.maximum(weights @ offered[:, s][:, known], 1e-12)
            for chosen, offered in told
        ]
        rho = _spearman(*drawn)
        low, high = (
            np.quantile(again, (0.025, 0.975))
            if len(again := rho[1:][np.isfinite(rho[1:])])
            else (np.nan, np.nan)
        )
        found.append(
            {
                "step": s + 1,
                "rho": float(rho[0]),
                "low": float(low),
                "high": float(high),
                "n": int(known.sum()),
            }
        )
    return found


def _spearman(
    a: Float[np.ndarray, "replicate value"], b: Float[np.ndarray, "replicate value"]
) -> Float[np.ndarray, " replicate"]:
    ranks = [stats.rankdata(told.round(12), axis=1) for told in (a, b)]
    x, y = (told - told.mean(1, keepdims=True) for told in ranks)
    length = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    return np.divide((x * y).sum(1), length, out=np.full(len(x), np.nan), where=length > 0)
