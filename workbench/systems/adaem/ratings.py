"""Who holds which value most: TrueSkill over a population's answers (Duan et al., ICLR 2026;
Herbrich et al. 2006).

1. An answer is several opinions; its value vector is their OR: a value is in it where one of them
   holds it.
2. On every question and value the members' answers play one match: those that hold the value tie
   for first, the others for last.
3. TrueSkill rates each member on each value from all matches, in a seeded random order (it updates
   match by match); its chance of a draw is the share of pairs that tie, since many do. A rating's
   interval is that of its own posterior.
4. Beside it: the win rate against the others (a draw is half a win) and the share of opinions that
   hold the value, with bootstrap intervals over questions.

Left out: opinions that were not read; a match needs an answer of every member.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import trueskill
from jaxtyping import Float

from workbench.statistics.intervals import Interval, bootstrap_mean, known_mean


def pooled(held: Float[np.ndarray, "*rows opinion value"]) -> Float[np.ndarray, "*rows value"]:
    """Pool opinions into one answer by OR.

    Opinions that could not be read (NaN) are left out; NaN where none was read.
    """
    read = np.isfinite(held)
    return np.where(read.any(-2), np.where(read, held, 0.0).max(-2), np.nan)


def skills(
    won: Float[np.ndarray, "match member"], seed: int
) -> tuple[Float[np.ndarray, " member"], Float[np.ndarray, " member"]]:
    """Rate the members by TrueSkill: means and standard deviations [points].

    `won` is 1 for the first place of a match and 0 for the last; NaN spoils a match.
    """
    matches = won[np.isfinite(won).all(1)]
    first, second = np.triu_indices(won.shape[1], 1)
    draws = float((matches[:, first] == matches[:, second]).mean()) if len(matches) else 0.5
    world = trueskill.TrueSkill(draw_probability=min(max(draws, 0.01), 0.99))
    ratings = [world.create_rating() for _ in range(won.shape[1])]
    for match in np.random.default_rng((seed, 3)).permutation(len(matches)):
        teams = [(rating,) for rating in ratings]
        ranked = world.rate(teams, ranks=(1 - matches[match]).tolist())
        ratings = [rating for (rating,) in ranked]
    means = np.array([rating.mu for rating in ratings])
    return means, np.array([rating.sigma for rating in ratings])


def win_rates(won: Float[np.ndarray, "match member"]) -> Float[np.ndarray, "match member"]:
    """Compute each member's share of wins against the others in every match; a draw is half a win.

    NaN where somebody did not answer.
    """
    beaten = (won[:, :, None] > won[:, None, :]) + 0.5 * (won[:, :, None] == won[:, None, :])
    rate = (beaten.sum(2) - 0.5) / (won.shape[1] - 1)
    return np.where(np.isfinite(won).all(1, keepdims=True), rate, np.nan)


def _shares(data: Float[np.ndarray, " question *cells"], replicates: int, seed: int) -> Interval:
    """Average shares over questions.

    A studentised interval may reach beyond what a share can be, and is cut there.
    """
    interval = bootstrap_mean(data, replicates, seed)
    return interval._replace(low=np.clip(interval.low, 0, 1), high=np.clip(interval.high, 0, 1))


def rate(
    held: Float[np.ndarray, "question member opinion value"],
    answer: int,
    members: Sequence[str],
    values: Sequence[str],
    replicates: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Write the rows of `adaem_ratings`: every member on every value.

    `answer` opinions make one answer.
    """
    questions, n_members, opinions, n_values = held.shape
    turns = max(opinions // answer, 1)
    parts = [held[:, :, turn * answer : (turn + 1) * answer] for turn in range(turns)]
    won = np.stack([pooled(part) for part in parts], 1)  # question, turn, member, value
    share = _shares(known_mean(held, 2), replicates, seed)
    rows = []
    for column, value in enumerate(values):
        flat = won[..., column].reshape(-1, n_members)
        mu, sigma = skills(flat, seed)
        rates = win_rates(flat).reshape(questions, turns, n_members)
        wins = _shares(known_mean(rates, 1), replicates, seed)
        for number, member in enumerate(members):
            cell = number, column
            rows.append(
                {
                    "member": member,
                    "value": value,
                    "mu": mu[number],
                    "sigma": sigma[number],
                    "low": mu[number] - 1.96 * sigma[number],
                    "high": mu[number] + 1.96 * sigma[number],
                    "win_rate": wins.mean[number],
                    "win_low": wins.low[number],
                    "win_high": wins.high[number],
                    "share": share.mean[cell],
                    "share_low": share.low[cell],
                    "share_high": share.high[cell],
                    "n": int(share.n[cell]),
                    "matches": int(np.isfinite(flat).all(1).sum()),
                    "missing": int((~np.isfinite(held[:, number, :, column])).sum()),
                }
            )
    return rows
