"""The response step: of the opinions that were sampled, the telling ones are kept (Duan et al.,
ICLR 2026).

1. Every member gives several opinions on a question; a classifier reads the values of each.
2. Four criteria, each in [0, 1], are added up, and each member's best opinions are kept:
   *conformity*: the mean, over the values that the opinion holds, of the member's own p_i(v|x);
   *coherence*: how well the opinion goes with the question (`Coherence`);
   *value difference*: total variation between the opinion's values and the mean p(v|x) of the other
   members; *semantic difference*: 1 less the mean cosine of TF-IDF vectors to the other members'
   opinions.
3. What stands in for each is named on every row. An opinion without a value has neither conformity
   nor value difference.

A score from kept opinions is tilted towards difference on purpose: it steers the search. What is
reported comes from fresh opinions, all of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from feature_store.records import Status
from workbench.systems.adaem.divergence import distribution, spread

CRITERIA = ("conformity", "coherence", "value_difference", "semantic_difference")


@dataclass(frozen=True)
class Opinion:
    """What one member said to one question."""

    member: int
    """0-based number of the member of the population."""
    text: str
    """What it said."""
    status: Status
    """`parsed`, `refused`, `unparsed` (also: not read by the classifier) or `too-long`; only
    parsed ones count."""
    seed: int
    """Seed of the sampling."""


@dataclass(frozen=True)
class Coherence:
    """How well an opinion goes with its question, and by whose word."""

    name: str
    """What stands in for coherence; written on every row."""
    rate: Callable[[Sequence[str], Sequence[str]], Float[np.ndarray, " opinion"]]
    """From questions and opinions to coherence [0 to 1]; NaN where it is not known."""


def criteria(
    member: Int[np.ndarray, " opinion"],
    held: Float[np.ndarray, "opinion value"],
    coherence: Float[np.ndarray, " opinion"],
    texts: Sequence[str],
) -> Float[np.ndarray, "opinion criterion"]:
    """Compute the four criteria of parsed opinions on one question [0 to 1].

    `member` numbers the member that gave each opinion; columns are as in `CRITERIA`.
    """
    mass = spread(held)
    members = np.unique(member)
    p = {m: distribution(held[member == m]) for m in members}
    holds_any = held.sum(1) > 0
    criteria = np.zeros((len(held), len(CRITERIA)))
    likeness = _likeness(texts)
    for m in members:
        mine = member == m
        rest = member != m
        others = p[m]
        if len(members) > 1:
            others = np.mean([p[k] for k in members if k != m], axis=0)
        # Opinions spread their mass evenly, so the mean of p over what is held is a dot product.
        conformity = mass[mine] @ p[m]
        difference = np.abs(mass[mine] - others).sum(1) / 2
        criteria[mine, 0] = np.where(holds_any[mine], conformity, 0.0)
        criteria[mine, 2] = np.where(holds_any[mine], difference, 0.0)
        if rest.any():
            criteria[mine, 3] = 1 - likeness[np.ix_(mine, rest)].mean(1)
    criteria[:, 1] = np.nan_to_num(coherence)
    return criteria


def _likeness(texts: Sequence[str]) -> Float[np.ndarray, "opinion opinion"]:
    """Compare opinions by the cosine of their TF-IDF vectors [0 to 1]; 1 where none has a word."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b")
    try:
        vectors = words.fit_transform(texts)
    except ValueError:  # not a word in any of them
        return np.ones((len(texts), len(texts)))
    return np.asarray((vectors @ vectors.T).todense())


def keep(
    member: Int[np.ndarray, " opinion"], total: Float[np.ndarray, " opinion"], n: int
) -> Bool[np.ndarray, " opinion"]:
    """Mark each member's `n` opinions of the largest sum of criteria.

    Where sums are equal, earlier opinions come first.
    """
    kept = np.zeros(len(member), bool)
    for m in np.unique(member):
        rows = np.flatnonzero(member == m)
        kept[rows[np.argsort(-total[rows], kind="stable")[:n]]] = True
    return kept
