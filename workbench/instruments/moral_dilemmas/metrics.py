"""What choices between two values add up to, step by step (Wu et al. 2025).

They give preferences, win rates, cycles and strengths.

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
    """What one steering was offered and chose, dilemma by dilemma."""

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
    """Number the steps: item -> its step, 1 for an item that follows none."""
    numbers: dict[str, int] = {}
    for item in instrument.items:
        numbers[item.id] = 1 + numbers[item.after] if item.after else 1
    return numbers


def tally(responses: Sequence[Response], instrument: Instrument, system: ValueSystem) -> Tally:
    """Count the choices of one steering.

    Raises BadInput where an item is not a choice between two values.
    """
    items, step_of = {item.id: item for item in instrument.items}, steps(instrument)
    pairs = {item.id: sides(item) for item in instrument.items}
    values = tuple(value for value in system.ids if any(value in pair for pair in pairs.values()))
    dilemmas = tuple(dict.fromkeys(item.group or item.id for item in instrument.items))
    row = {name: k for k, name in enumerate(dilemmas)}
    column = {value: k for k, value in enumerate(values)}
    shape = (len(dilemmas), max(step_of.values()), len(values))
    offered, chosen, missing = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    wins = np.zeros((len(dilemmas), len(values), len(values)))
    for r in responses:
        d = row[items[r.item].group or r.item]
        s = step_of[r.item] - 1
        pair = [column[value] for value in pairs[r.item]]
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
    """Name the values that the two answers of an item serve, in their order.

    Raises BadInput where it is not a choice between two values.
    """
    named = [option.scores[0][0] for option in item.options if len(option.scores) == 1]
    if len(named) != 2 or len(item.options) != 2 or named[0] == named[1]:
        raise BadInput(
            f"Item {item.id} is no choice between two values. Step preferences and win rates need"
            " such items."
        )
    return named[0], named[1]


class Rates(NamedTuple):
    """Ratios of sums over dilemmas, with their intervals."""

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
    """Divide sums over dilemmas, and bootstrap the interval of each ratio's linear part.

    The linear part is that of the Taylor series of a ratio: it needs no division by a resampled
    sum, which can be 0.

        rates(tally.chosen, tally.offered, 1000, 0).rate  # step x value
    """
    counted = every > 0
    n, total = counted.sum(0), every.sum(0)
    rate = np.divide(hits.sum(0), total, out=np.full(total.shape, np.nan), where=total > 0)
    size = np.divide(total, n, out=np.ones(total.shape), where=n > 0)
    around = bootstrap_mean(
        np.where(counted, rate + (hits - rate * every) / size, np.nan), replicates, seed
    )
    low, high = np.clip(around.low, 0, 1), np.clip(around.high, 0, 1)
    for cell in np.argwhere((n > 0) & ~(high > low)):
        # Every dilemma said the same: the bootstrap sees no spread, which is no certainty.
        dilemmas = int(n[*cell])
        test = stats.binomtest(round(float(rate[*cell]) * dilemmas), dilemmas)
        wilson = test.proportion_ci(method="wilson")
        low[*cell] = wilson.low
        high[*cell] = wilson.high
    blank = n < FEWEST
    return Rates(
        rate=np.where(blank, np.nan, rate),
        low=np.where(blank, np.nan, low),
        high=np.where(blank, np.nan, high),
        n=n,
    )


def step_preferences(
    tally: Tally, steering: str, replicates: int, seed: int
) -> list[dict[str, Any]]:
    """Compute how often each value is chosen at each step: rows of `step_preferences`."""
    ratios = rates(tally.chosen, tally.offered, replicates, seed)
    rows = []
    for s in range(tally.offered.shape[1]):
        for v, value in enumerate(tally.values):
            rows.append(
                {
                    "steering": steering,
                    "step": s + 1,
                    "value": value,
                    "preference": ratios.rate[s, v] - 0.5,
                    "low": ratios.low[s, v] - 0.5,
                    "high": ratios.high[s, v] - 0.5,
                    "n": int(ratios.n[s, v]),
                    "offered": int(tally.offered[:, s, v].sum()),
                    "missing": int(tally.missing[:, s, v].sum()),
                }
            )
    return rows


def win_rates(tally: Tally, steering: str, replicates: int, seed: int) -> list[dict[str, Any]]:
    """Compute how often each value wins against each that it met: rows of `win_rates`."""
    met = tally.wins + tally.wins.transpose(0, 2, 1)
    ratios = rates(tally.wins, met, replicates, seed)
    rows = []
    for i, u in enumerate(tally.values):
        for j, v in enumerate(tally.values):
            if not ratios.n[i, j]:
                continue
            rows.append(
                {
                    "steering": steering,
                    "value": u,
                    "against": v,
                    "rate": ratios.rate[i, j],
                    "low": ratios.low[i, j],
                    "high": ratios.high[i, j],
                    "n": int(ratios.n[i, j]),
                    "met": int(met[:, i, j].sum()),
                }
            )
    return rows


def transitivity(tally: Tally, steering: str, replicates: int, seed: int) -> dict[str, Any]:
    """Count triads of values, and the cycles among them: the row of `transitivity`.

    Only pairs that met in at least `FEWEST` dilemmas count. Ties are decided by coins, half a cycle
    at a time, and `chance` is what coins alone give.
    """
    met = tally.wins + tally.wins.transpose(0, 2, 1)
    compared = (met > 0).sum(0) >= FEWEST
    beats = _beats(tally.wins.sum(0), met.sum(0), compared)
    weights = cluster_weights(len(tally.dilemmas), replicates, seed)
    k = len(tally.values)
    drawn_wins, drawn_met = (
        (weights @ counts.reshape(len(counts), -1)).reshape(-1, k, k)
        for counts in (tally.wins, met)
    )
    drawn_cycles = _cycles(_beats(drawn_wins, drawn_met, compared))
    triads = int(np.trace(np.linalg.matrix_power(compared.astype(int), 3)) // 6)
    low, high = (float(q) for q in np.quantile(drawn_cycles, (0.025, 0.975)))
    named = [[tally.values[i] for i in (*triad, triad[0])] for triad in _named(beats)]
    return {
        "steering": steering,
        "triads": triads,
        "cycles": float(_cycles(beats[None])[0]),
        "low": low,
        "high": high,
        "chance": triads / 4,
        "found": [" > ".join(names) for names in named],
        "n": len(tally.dilemmas),
    }


def _beats(
    wins: Float[np.ndarray, "*rows value value"],
    met: Float[np.ndarray, "*rows value value"],
    compared: Bool[np.ndarray, "value value"],
) -> np.ndarray:
    """1 where the row's value wins against the column's more often than not, 1/2 for a tie.

    Dilemmas drawn anew tie often, and a tie is a coin.
    """
    return compared * (1 + np.sign(2 * wins - met)) / 2


def _cycles(beats: Float[np.ndarray, "replicate value value"]) -> Float[np.ndarray, " replicate"]:
    """3-cycles of each graph: its closed walks of three steps, each met from its three ends."""
    return np.einsum("rij,rjk,rki->r", beats, beats, beats, optimize=True) / 3


def _named(beats: Float[np.ndarray, "value value"]) -> list[tuple[int, int, int]]:
    """The cycles without a tie, each from its first value on."""
    k = len(beats)
    return [
        (a, b, c)
        for a in range(k)
        for b in range(a + 1, k)
        for c in range(a + 1, k)
        if b != c and min(beats[a, b], beats[b, c], beats[c, a]) == 1
    ]


def strengths(tally: Tally, steering: str, replicates: int, seed: int) -> list[dict[str, Any]]:
    """Fit the strength of each value [log-odds]: rows of `value_strengths`."""
    flat = tally.wins.reshape(len(tally.dilemmas), -1)
    weights = np.vstack([np.ones(len(flat)), cluster_weights(len(flat), replicates, seed)])
    k = len(tally.values)
    fitted = bradley_terry((weights @ flat).reshape(-1, k, k))
    low, high = np.quantile(fitted[1:], (0.025, 0.975), axis=0)
    n = (tally.offered.sum(1) > 0).sum(0)
    blank = n < FEWEST
    rows = []
    for v, value in enumerate(tally.values):
        rows.append(
            {
                "steering": steering,
                "value": value,
                "strength": np.nan if blank[v] else fitted[0, v],
                "low": np.nan if blank[v] else low[v],
                "high": np.nan if blank[v] else high[v],
                "n": int(n[v]),
            }
        )
    return rows


def bradley_terry(
    wins: Float[np.ndarray, "replicate value value"],
) -> Float[np.ndarray, "replicate value"]:
    """Fit Bradley and Terry's log-strengths, of mean 0; the odds of u against v are exp(s_u - s_v).

    `wins`: how often the row's value was chosen against the column's, in each replicate.
    """
    k = wins.shape[1]
    counted = wins + 0.5 * (1 - np.eye(k))
    met = counted + counted.transpose(0, 2, 1)
    won = counted.sum(2)
    p = np.ones((len(wins), k))
    for _ in range(ITERATIONS):
        p = won / (met / (p[:, :, None] + p[:, None, :])).sum(2)
        p /= np.exp(np.log(p).mean(1, keepdims=True))
    return np.log(p)


def rank_agreement(
    reference: Tally, other: Tally, replicates: int, seed: int
) -> list[dict[str, Any]]:
    """Correlate the ranks of the values' preferences in two sets of answers, step by step.

    Gives for each step Spearman's rho, its interval over dilemmas, and the number of values behind
    it. Dilemmas that both were asked are drawn together. Values that either knows from fewer than
    `FEWEST` dilemmas are left out.
    """
    shared = [name for name in reference.dilemmas if name in other.dilemmas]
    values = [value for value in reference.values if value in other.values]
    counts = [_restricted(tally, shared, values) for tally in (reference, other)]
    weights = np.empty((0, 0))
    if shared:
        weights = np.vstack([np.ones(len(shared)), cluster_weights(len(shared), replicates, seed)])
    rows = []
    for s in range(min(reference.offered.shape[1], other.offered.shape[1])):
        compared = np.zeros(len(values), bool)
        if shared:
            often = [(offered[:, s] > 0).sum(0) >= FEWEST for _, offered in counts]
            compared = np.all(often, axis=0)
        row = {"step": s + 1, "rho": np.nan, "low": np.nan, "high": np.nan}
        if compared.sum() >= 3:
            shares = [
                (weights @ chosen[:, s][:, compared])
                / np.maximum(weights @ offered[:, s][:, compared], 1e-12)
                for chosen, offered in counts
            ]
            row |= _with_interval(_spearman(*shares))
        rows.append(row | {"n": int(compared.sum())})
    return rows


def _restricted(
    tally: Tally, dilemmas: Sequence[str], values: Sequence[str]
) -> tuple[Float[np.ndarray, "dilemma step value"], Float[np.ndarray, "dilemma step value"]]:
    """How often these values were chosen and offered in these dilemmas."""
    rows = [tally.dilemmas.index(name) for name in dilemmas]
    columns = [tally.values.index(value) for value in values]
    return tally.chosen[rows][..., columns], tally.offered[rows][..., columns]


def _with_interval(rho: Float[np.ndarray, " replicate"]) -> dict[str, float]:
    """The first correlation, with the 95 % interval of the others that are defined."""
    drawn = rho[1:][np.isfinite(rho[1:])]
    low, high = np.quantile(drawn, (0.025, 0.975)) if len(drawn) else (np.nan, np.nan)
    return {"rho": float(rho[0]), "low": float(low), "high": float(high)}


def _spearman(
    a: Float[np.ndarray, "replicate value"], b: Float[np.ndarray, "replicate value"]
) -> Float[np.ndarray, " replicate"]:
    # Rounded, so that shares which are equal but for the last digit tie.
    ranks = [stats.rankdata(shares.round(12), axis=1) for shares in (a, b)]
    x, y = (rank - rank.mean(1, keepdims=True) for rank in ranks)
    length = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    return np.divide((x * y).sum(1), length, out=np.full(len(x), np.nan), where=length > 0)
