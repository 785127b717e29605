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
    """The four criteria of parsed opinions on one question [0 to 1]."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    own = spread(held)
    members = np.unique(member)
    p = {m: distribution(held[member == m]) for m in members}
    told = held.sum(1) > 0
    found = np.zeros((len(held), len(CRITERIA)))
    words = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b")
    try:
        vectors = words.fit_transform(texts)
        likeness = np.asarray((vectors @ vectors.T).todense())
    except ValueError:  # not a word in any of them
        likeness = np.ones((len(texts), len(texts)))
    for m in members:
        mine, rest = member == m, member != m
        others = np.mean([p[k] for k in members if k != m], axis=0) if len(members) > 1 else p[m]
        # Opinions spread their mass evenly, so the mean of p over what is held is a dot product.
        found[mine, 0] = np.where(told[mine], own[mine] @ p[m], 0.0)
        found[mine, 2] = np.where(told[mine], np.abs(own[mine] - others).sum(1) / 2, 0.0)
        found[mine, 3] = 1 - likeness[np.ix_(mine, rest)].mean(1) if rest.any() else 0.0
    found[:, 1] = np.nan_to_num(coherence)
    return found


def keep(
    member: Int[np.ndarray, " opinion"], total: Float[np.ndarray, " opinion"], n: int
) -> Bool[np.ndarray, " opinion"]:
    """Each member's `n` opinions of the largest sum of criteria; earlier ones first where sums
    are equal.
    """
    kept = np.zeros(len(member), bool)
    for m in np.unique(member):
        rows = np.flatnonzero(member == m)
        kept[rows[np.argsort(-total[rows], kind="stable")[:n]]] = True
    return kept
