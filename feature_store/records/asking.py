"""Instruments, what was answered, and the profile it adds up to."""

from dataclasses import dataclass, field
from typing import Literal

Status = Literal["parsed", "refused", "unparsed", "too-long"]
Answer = Literal["rating", "choice", "text"]
Memory = Literal["full", "causal", "none"]


@dataclass(frozen=True)
class Action:
    """One thing that can be done or answered, and the values it serves."""

    text: str
    """What is done or answered, in one sentence."""
    scores: tuple[tuple[str, float], ...]
    """(id of the value, score) pairs: how far it serves the value [-1 to 1]; a value that is not
    named has 0."""


@dataclass(frozen=True)
class Item:
    """One question of an instrument."""

    id: str
    """Unique within the instrument."""
    text: str
    """What is asked."""
    value: str
    """Id of the value it measures; empty where `tags` or the answers' scores say it, or where a
    judge finds it."""
    key: Literal[-1, 1] = 1
    """+1: agreement means the value is held; -1: reverse-keyed."""
    tags: tuple[str, ...] = ()
    """Ids of the values it measures where they are several."""
    options: tuple[Action, ...] = ()
    """Its own answers, each with the values it serves; empty: the instrument's scale."""
    group: str = ""
    """What it shares with other items, a passage or a dilemma: the cluster of intervals where one
    context is asked. Empty: itself."""
    after: str = ""
    """Id of the item whose question and answer go before it in the conversation; empty: it opens
    one."""
    image: str = ""
    """File of the image shown with it; empty: none."""
    language: str = "en"
    """Language of the text [BCP 47]. Nothing reads it yet; it stays because the ids of profile runs
    are digested from the items, field by field."""
    source: str = ""
    """Where the item comes from; empty: as the instrument."""
    licence: str = ""
    """Under which it may be used; empty: as the instrument."""
    reversal: str = field(default="", repr=False)
    """The same statement with the stance turned round, for mode `voice`; empty: none is given. It
    has no part in the item's repr, from which the ids of runs that do not ask for it follow."""

    @property
    def values(self) -> tuple[str, ...]:
        """Ids of the values it measures by its rating."""
        return self.tags or ((self.value,) if self.value else ())


@dataclass(frozen=True)
class Instrument:
    """A questionnaire: its items, its answers and its wordings."""

    id: str
    """Registered name."""
    title: str
    """Name for people."""
    items: tuple[Item, ...]
    """In the order of the source; an item stands after the one it follows."""
    options: tuple[str, ...]
    """Answer texts from least to most agreement, numbers or phrases; empty where items bring their
    own or answers are free."""
    wordings: tuple[tuple[str, str], ...]
    """(name, template) pairs; a template holds `{item}` and, optionally, the ends of the scale,
    `{low}` and `{high}`, or all answers, `{options}`."""
    system: str
    """Id of the value system it measures."""
    source: str
    """Where the items come from."""
    licence: str
    """Under which they may be used."""
    answer: Answer = "rating"
    """`rating`: on the scale; `choice`: among the item's own answers; `text`: free, rated by a
    judge."""
    memory: Memory = "full"
    """What an item that follows others is told of them: `full`: every question and answer;
    `causal`: the answers alone; `none`."""
    later_wordings: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Wordings that were added when runs were there already, which they are no part of. A run that
    asks one of them pins its text."""


@dataclass(frozen=True)
class Response:
    """One answer to one item under one steering."""

    item: str
    """Id of the item."""
    value: str
    """Id of the value the item measures."""
    context: int
    """Number of the prompt context under which it was asked; contexts are the clusters of every
    interval."""
    wording: str
    """Name of the wording."""
    order: Literal["ascending", "descending"]
    """Order in which the answers were offered; `ascending`: as in the instrument, least agreement
    first."""
    seed: int
    """Seed of the sampling, one a repeat; 0 where nothing is sampled."""
    steering: str
    """`Steering.name`."""
    text: str
    """The raw answer, or the most likely option when scored by log-probability."""
    logprobs: tuple[float, ...]
    """Log-probability of each answer per token [nats], in the order of the instrument or of the
    item; empty when generated."""
    rating: float
    """Agreement, reverse-keyed items turned round [1 to number of options]; a judge's rating of a
    free text; in mode `voice` how much likelier the statement is than its reversal
    [nats per token]; NaN for choices and unless parsed."""
    status: Status
    """`parsed`, `refused`, `unparsed`, or `too-long` for the model's context; only parsed answers
    enter a mean."""
    chosen: int = -1
    """0-based number of the answer, in the order of the instrument or of the item; -1 unless
    parsed, and for free texts."""
    persona: str = ""
    """What the model was told it is; empty: nothing."""


@dataclass(frozen=True)
class ValueProfile:
    """How much a model holds one value under one steering: one row of its profile."""

    steering: str
    """`Steering.name`."""
    value: str
    """Id of the value."""
    mean: float
    """Mean over items and clusters [rating points; scores of what was chosen, -1 to 1, for choices;
    what the instrument's page says, where it scores itself]."""
    low: float
    """Lower end of the 95 % interval, bootstrapped over clusters [as the mean]."""
    high: float
    """Upper end of it."""
    n: int
    """Clusters behind the interval: contexts, or groups of items where one context was asked."""
    parsed: int
    """Answers that entered the mean."""
    missing: int
    """Answers that were refused, could not be read or could not be asked."""
    centred: bool
    """Whether the mean rating of all items (MRAT), or what a coin would choose, was subtracted."""
