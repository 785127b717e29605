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
    """OR over opinions; unread ones (NaN) are left out, NaN where none was read."""
    known = np.isfinite(held)
    return np.where(known.any(-2), np.where(known, held, 0.0).max(-2), np.nan)


def skills(
    won: Float[np.ndarray, "match member"], seed: int
) -> tuple[Float[np.ndarray, " member"], Float[np.ndarray, " member"]]:
    """Means and standard deviations of the members' TrueSkill; `won` is 1 for the first place
    and 0 for the last, NaN spoils a match.
    """
    matches = won[np.isfinite(won).all(1)]
    first, second = np.triu_indices(won.shape[1], 1)
    draws = float((matches[:, first] == matches[:, second]).mean()) if len(matches) else 0.5
    world = trueskill.TrueSkill(draw_probability=min(max(draws, 0.01), 0.99))
    ratings = [world.create_rating() for _ in range(won.shape[1])]
    for match in np.random.default_rng((seed, 3)).permutation(len(matches)):
        ranked = world.rate([(one,) for one in ratings], ranks=(1 - matches[match]).tolist())
        ratings = [one for (one,) in ranked]
    return np.array([r.mu for r in ratings]), np.array([r.sigma for r in ratings])


def win_rates(won: Float[np.ndarray, "match member"]) -> Float[np.ndarray, "match member"]:
    """Each member's share of wins against the others in every match, a draw half a win; NaN
    where someone did not answer.
    """
    beaten = (won[:, :, None] > won[:, None, :]) + 0.5 * (won[:, :, None] == won[:, None, :])
    rate = (beaten.sum(2) - 0.5) / (won.shape[1] - 1)
    return np.where(np.isfinite(won).all(1, keepdims=True), rate, np.nan)


def _shares(data: Float[np.ndarray, " question *cells"], replicates: int, seed: int) -> Interval:
    """Mean shares over questions; a studentised interval may reach beyond what a share can be,
    and is cut there.
    """
    found = bootstrap_mean(data, replicates, seed)
    return found._replace(low=np.clip(found.low, 0, 1), high=np.clip(found.high, 0, 1))


def rate(
    held: Float[np.ndarray, "question member opinion value"],
    answer: int,
    members: Sequence[str],
    values: Sequence[str],
    replicates: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Rows of `adaem_ratings`: every member on every value; `answer` opinions make one answer."""
    questions, n_members, opinions, n_values = held.shape
    turns = max(opinions // answer, 1)
    parts = [held[:, :, turn * answer : (turn + 1) * answer] for turn in range(turns)]
    won = np.stack([pooled(part) for part in parts], 1)  # question, turn, member, value
    share = _shares(known_mean(held, 2), replicates, seed)
    rows = []
    for column, value in enumerate(values):
        flat = won[..., column].reshape(-1, n_members)
        mu, sigma = skills(flat, seed)
        wins = _shares(
            known_mean(win_rates(flat).reshape(questions, turns, n_members), 1), replicates, seed
        )
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
