"""Does an instrument hear a value that is there? Personas prime one value at a time; a profile is
believed where the primed value's answers rise.

1. `change[t, i, j]`: how much the answers on item j rise when a persona of template t primes value
   i, less the mean over the values that personas of the template prime: what any persona does to an
   item cancels.
2. *Rank*: for each primed value the share of the other values whose mean change lies below that of
   its own; the mean over values. 0.5 is chance; 1: every persona moves its own value most.
3. Its interval is bootstrapped over the templates and over each value's items, jointly.
4. It has two nulls. One permutes which value each persona primed. Kin values, though, have personas
   and items that are alike, so that ten values are fewer chances than ten: a model that takes
   personas for something else, kin ones alike, would pass it in up to one case of eight. The other
   turns round the signs of the changes' singular vectors, which leaves all likeness of personas and
   of items as it is, and looks at the mean shift of the primed value (`_shares_of_diagonal`).
5. Several ways of asking are tried and the best counts. So p is the share of draws from a null in
   which the best of a mode's ways does as well (single-step maxT: Westfall & Young 1993,
   Resampling-Based Multiple Testing), of the null in which it is larger, times the number of modes
   that are tried (Bonferroni). Where nothing is heard, any way comes out below 0.05 in at most 5 %
   of hearings.
6. *Resolution*: the 97.5 % quantile of the size of a change, less the row's mean, among the values
   that a persona does not prime. A difference between two values that is smaller comes about when
   the model is told of something else, and may not be claimed.
7. *Shares of variance* of the unprimed answers: the items', and the position's (the order in which
   a scale is shown). A model that always answers the same number agrees the one way round and
   disagrees the other: its position's share is near 1.
8. *Agreement*: the correlation of the changes under two wordings.

An instrument is heard where p is below 0.05, the rank at least 0.75, and the lower end of its
interval above 0.5 (`Heard.passes`). A mode's verdict needs no other mode's answers, only their
number: who stops at the first that is heard keeps the 5 %. Fewer than seven values leave too few
signs for that p. Left out: a correction for hearings that are made anew with other settings, and
whether what a persona makes a model say is what it values.
"""

import functools
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from feature_store.errors import Incompatible
from feature_store.records import Instrument, ValueSystem

LEAST_RANK = 0.75
"""Least rank of an instrument that is heard."""
MOST_P = 0.05
"""Largest p of an instrument that is heard."""
TINY = 1e-9
"""Sums of shares of a diagonal that differ by less are the same."""
_FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a all almost an and any are as at be by do does for from give has have how i if in is it
        me my no not of on one or other others people person self so than that the their them they
        this to up was what when where who whose will with would you your""",
    )
)
"""Words whose stems say nothing about a topic."""


class Personas(NamedTuple):
    """Texts that tell a model who it is, one value at a time."""

    primed: Mapping[str, tuple[str, ...]]
    """Value -> its personas, one a template."""
    neutral: tuple[str, ...]
    """Personas that prime nothing."""


class Heard(NamedTuple):
    """What priming says of one instrument, asked in one way."""

    rank: float
    """Rank of the primed value [0 to 1; 0.5 is chance]."""
    low: float
    """Lower end of its 95 % interval."""
    high: float
    """Upper end of it."""
    p: float
    """Share of draws from a null in which the best way does as well, times the modes [0 to 1]."""
    null_high: float
    """97.5 % quantile of the rank under permutation [0 to 1]."""
    resolution: float
    """Smallest difference that priming tells from talk about something else [rating]."""
    shift: float
    """Mean change of the primed value, less the row's mean [rating]."""

    @property
    def passes(self) -> bool:
        """Whether the instrument may be believed."""
        return self.p < MOST_P and self.rank >= LEAST_RANK and self.low > 0.5


@functools.cache
def _file() -> Mapping[str, object]:
    return tomllib.loads(Path(__file__).with_name("personas.toml").read_text(encoding="utf-8"))


def has_personas(system: ValueSystem) -> bool:
    """Whether there are personas that prime the values of a system."""
    return isinstance(_file().get(system.id), dict)


def personas(system: ValueSystem, templates: int) -> Personas:
    """Write the personas of every value of a system, by the first `templates` templates.

    Raises Incompatible for a system that has none.
    """
    content: Mapping[str, object] = _file()
    phrases = content.get(system.id)
    if not isinstance(phrases, dict):
        raise Incompatible(
            f"There are no personas for {system.id}, only for schwartz10 and schwartz19. Use"
            " a study of one of these."
        )
    forms = content["templates"]
    neutral = content["neutral"]
    assert isinstance(forms, list)
    assert isinstance(neutral, list)
    return Personas(
        primed={
            value: tuple(_capital(form.format(phrase=phrases[value])) for form in forms[:templates])
            for value in system.ids
        },
        neutral=tuple(neutral),
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def shared_stems(texts: Sequence[str], instrument: Instrument) -> tuple[str, ...]:
    """List the word stems that texts share with an instrument's items, function words left out.

    A persona that repeats an item's words is heard by any instrument.
    """
    ours = {stem for text in texts for stem in _stems(text)}
    theirs = {stem for item in instrument.items for stem in _stems(item.text)}
    return tuple(sorted(ours & theirs))


def _stems(text: str) -> set[str]:
    """Give the stems of the words of a text (Porter's, as NLTK's Snowball has them)."""
    from nltk.stem.snowball import SnowballStemmer

    stem = SnowballStemmer("english").stem
    words = re.findall(r"[a-z]+", text.lower())
    return {stem(word) for word in words if word not in _FUNCTION_WORDS and len(word) > 2}


def rank(matrix: Float[np.ndarray, "value value"]) -> float:
    """Average over rows how often the diagonal beats the rest of its row; a tie counts half."""
    return float(_ranks(matrix[None])[0])


def _ranks(matrices: Float[np.ndarray, "draw value value"]) -> Float[np.ndarray, " draw"]:
    """Give the rank (`rank`) of each of several matrices."""
    values = matrices.shape[1]
    diagonal = np.diagonal(matrices, axis1=1, axis2=2)[:, :, None]
    wins = (matrices < diagonal) + 0.5 * (matrices == diagonal)
    wins[:, range(values), range(values)] = 0.0  # where a value meets itself
    return wins.sum((1, 2)) / (values * (values - 1))


def change_of(
    primed: Float[np.ndarray, "template value item"],
) -> Float[np.ndarray, "template value item"]:
    """Give what priming each value does to the answers, less the mean over the values primed."""
    return primed - primed.mean(1, keepdims=True)


def listen(
    changes: Sequence[Float[np.ndarray, "template value item"]],
    of: Int[np.ndarray, " item"],
    replicates: int,
    seed: int,
    modes: int = 1,
) -> list[Heard]:
    """Judge the ways in which a mode was asked by how answers change under personas (`change_of`).

    `of` is the number of the value that each item measures. Values without an item are not primed.
    `modes` is the number of modes that are tried, of which this is one.

        (heard,) = listen([change_of(primed)], of, replicates=1000, seed=0)
        heard.rank, heard.passes
    """
    means = [value_means(change, of) for change in changes]
    rng = np.random.default_rng((seed, 1))
    orders = np.array([rng.permutation(len(means[0])) for _ in range(replicates)])
    signs = rng.choice([-1.0, 1.0], size=orders.shape)
    permuted = np.array([_ranks(mean[orders]) for mean in means])
    parts = np.array([_shares_of_diagonal(mean) for mean in means])
    best_permuted, best_signed = permuted.max(0), (parts @ signs.T).max(0)
    verdicts = []
    for change, mean, null, part in zip(changes, means, permuted, parts, strict=True):
        observed = rank(mean)
        as_good = max((best_permuted >= observed).sum(), (best_signed >= part.sum() - TINY).sum())
        share = (1 + as_good) / (1 + replicates)
        low, high = np.quantile(_ranks(_resampled(change, of, replicates, seed)), (0.025, 0.975))
        centred = mean - mean.mean(1, keepdims=True)
        others = np.abs(centred[~np.eye(len(mean), dtype=bool)])
        verdicts.append(
            Heard(
                rank=observed,
                low=float(low),
                high=float(high),
                p=float(min(1.0, modes * share)),
                null_high=float(np.quantile(null, 0.975)),
                resolution=float(np.quantile(others, 0.975)),
                shift=float(np.diag(centred).mean()),
            )
        )
    return verdicts


def _shares_of_diagonal(mean: Float[np.ndarray, "value value"]) -> Float[np.ndarray, " vector"]:
    """Split the sum of the primed values' shifts among singular vectors, by their sizes' sum.

    Turning round a vector's sign leaves the products of rows and of columns as they are. A random
    map from personas to items is as likely with either; a model that hears has a diagonal to which
    all of them add. At most 1 together, zeros where nothing changes.
    """
    left, sizes, right = np.linalg.svd(mean - mean.mean(1, keepdims=True))
    total = sizes.sum()
    if total == 0:
        return np.zeros(len(sizes))
    return sizes * (left * right.T).sum(0) / total


def value_means(
    change: Float[np.ndarray, "template value item"], of: Int[np.ndarray, " item"]
) -> Float[np.ndarray, "value value"]:
    """Average changes over templates and over each value's items."""
    mean = change.mean(0)
    return np.stack([mean[:, of == value].mean(1) for value in range(change.shape[1])], axis=1)


def _resampled(
    change: Float[np.ndarray, "template value item"],
    of: Int[np.ndarray, " item"],
    replicates: int,
    seed: int,
) -> Float[np.ndarray, "draw value value"]:
    """Draw templates and each value's items anew, and give the mean changes of values."""
    rng = np.random.default_rng(seed)
    templates = _shares(rng, replicates, len(change))
    columns = []
    for value in range(change.shape[1]):
        of_value = change[:, :, of == value]
        items = _shares(rng, replicates, of_value.shape[2])
        columns.append(np.einsum("rt,tvi,ri->rv", templates, of_value, items, optimize=True))
    return np.stack(columns, axis=2)


def _shares(rng: np.random.Generator, draws: int, n: int) -> Float[np.ndarray, "draw n"]:
    """Draw n of n with replacement, many times: the share that each has in a draw."""
    return rng.multinomial(n, np.full(n, 1 / n), size=draws) / n


def variance_shares(answers: Float[np.ndarray, "item order"]) -> tuple[float, float]:
    """Say which share of the variance of unprimed answers is the items', and the position's.

    `answers` are ratings, those of a scale that was turned round put right: an answer of the same
    number both ways is agreement and disagreement. NaN where a scale was shown one way only, or
    nothing varies.
    """
    total = ((answers - answers.mean()) ** 2).sum()
    if answers.shape[1] < 2 or total == 0:
        return float("nan"), float("nan")
    by_item = answers.shape[1] * ((answers.mean(1) - answers.mean()) ** 2).sum()
    by_order = answers.shape[0] * ((answers.mean(0) - answers.mean()) ** 2).sum()
    return float(by_item / total), float(by_order / total)


def agreement(changes: Sequence[Float[np.ndarray, "value value"]]) -> float:
    """Correlate the changes under every two wordings; the mean, NaN with one wording."""
    pairs = [
        np.corrcoef(a.ravel(), b.ravel())[0, 1]
        for k, a in enumerate(changes)
        for b in changes[k + 1 :]
        if a.std() > 0 and b.std() > 0
    ]
    return float(np.mean(pairs)) if pairs else float("nan")
