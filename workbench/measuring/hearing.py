"""Does an instrument hear a value that is there? Personas prime one value at a time; a profile is
believed where the primed value's answers rise.

1. `change[t, i, j]`: how much the answers on item j rise when a persona of template t primes value
   i, less the mean over the values that personas of the template prime: what any persona does to an
   item cancels.
2. *Rank*: for each primed value the share of the other values whose mean change lies below that of
   its own; the mean over values. 0.5 is chance; 1: every persona moves its own value most.
3. Its interval is bootstrapped over the templates and over each value's items, jointly. Its null
   permutes which value each persona primed: p is the share of permutations that rank as high.
4. *Resolution*: the 97.5 % quantile of the size of a change, less the row's mean, among the values
   that a persona does not prime. A difference between two values that is smaller comes about when
   the model is told of something else, and may not be claimed.
5. *Shares of variance* of the unprimed answers: the items', and the position's (the order in which
   a scale is shown). A model that always answers the same number agrees the one way round and
   disagrees the other: its position's share is near 1.
6. *Agreement*: the correlation of the changes under two wordings.

An instrument is heard (`PASSES`) where p is below 0.05, the rank at least 0.75, and the lower end
of its interval above 0.5. Left out: whether what a persona makes a model say is what it values.
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
    """Share of permutations that rank as high [0 to 1]."""
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
    diagonal = np.diag(matrix)[:, None]
    wins = (matrix < diagonal) + 0.5 * (matrix == diagonal)
    np.fill_diagonal(wins, 0.0)
    return float(wins.sum(1).mean() / (len(matrix) - 1))


def change_of(
    primed: Float[np.ndarray, "template value item"],
) -> Float[np.ndarray, "template value item"]:
    """Give what priming each value does to the answers, less the mean over the values primed."""
    return primed - primed.mean(1, keepdims=True)


def listen(
    change: Float[np.ndarray, "template value item"],
    of: Int[np.ndarray, " item"],
    replicates: int,
    seed: int,
) -> Heard:
    """Judge an instrument by how its answers change under personas (`change_of`).

    `of` is the number of the value that each item measures. Values without an item are not primed.

        heard = listen(change_of(primed), of, replicates=1000, seed=0)
        heard.rank, heard.passes
    """
    values = change.shape[1]
    weights = np.zeros((change.shape[2], values))
    weights[np.arange(len(of)), of] = 1.0
    mean = change.mean(0) @ (weights / weights.sum(0))
    rng = np.random.default_rng(seed)
    draws = np.array([rank(_resampled(change, of, rng)) for _ in range(replicates)])
    null = np.array([rank(mean[rng.permutation(values)]) for _ in range(replicates)])
    observed = rank(mean)
    low, high = np.quantile(draws, (0.025, 0.975))
    centred = mean - mean.mean(1, keepdims=True)
    others = np.abs(centred[~np.eye(values, dtype=bool)])
    return Heard(
        rank=observed,
        low=float(low),
        high=float(high),
        p=float((1 + (null >= observed).sum()) / (1 + replicates)),
        null_high=float(np.quantile(null, 0.975)),
        resolution=float(np.quantile(others, 0.975)),
        shift=float(np.diag(centred).mean()),
    )


def _resampled(
    change: Float[np.ndarray, "template value item"],
    of: Int[np.ndarray, " item"],
    rng: np.random.Generator,
) -> Float[np.ndarray, "value value"]:
    """Draw templates and each value's items anew, and give the mean change of values."""
    templates = rng.integers(len(change), size=len(change))
    drawn = change[templates].mean(0)
    columns = []
    for value in range(change.shape[1]):
        items = np.flatnonzero(of == value)
        columns.append(drawn[:, rng.choice(items, size=len(items))].mean(1))
    return np.stack(columns, axis=1)


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
