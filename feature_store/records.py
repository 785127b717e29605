"""The frozen nouns that every floor of the workbench speaks.

Records cross folders, tensors do not. A record is a value: it is compared by content, changed with
`dataclasses.replace`, and becomes a row of a table (`schema.sql` gives each column its unit). Each field is
documented beneath it, with its unit and range.

Left out on purpose: behaviour. What is done with a record stands where it is done; only geometry that
belongs to the noun itself (the distance of two values on the circle, the name of a steering) is here.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from feature_store.errors import BadInput, NotFound, nearest

Point = Literal["resid_pre", "resid_post"]
Unit = Literal["raw", "feature_max", "norm_share"]
Combine = Literal["direction", "sum"]
Positions = Literal["all", "prompt", "last", "generated"]
Status = Literal["parsed", "refused", "unparsed", "too-long"]
Answer = Literal["rating", "choice", "text"]
Memory = Literal["full", "causal", "none"]


@dataclass(frozen=True)
class Span:
    text: str
    """A piece of the prompt: steered are its tokens, at each place where it occurs, in the pass over the prompt alone."""

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise BadInput(f"A span is a piece of the prompt with at least one word, got {self.text!r}.")

    def __str__(self) -> str:
        return f"at {self.text!r}"


Where = Positions | Span


@dataclass(frozen=True)
class Value:
    id: str
    """Lower-case identifier, words joined by hyphens: `self-direction`."""
    name: str
    """Name for people: `Self-Direction`."""
    angle: float
    """Place on the motivational circle [radians, 0 to 2 pi, counter-clockwise from Self-Direction]."""
    definition: str
    """The motivational goal in one sentence."""
    parent: str
    """Id of the value of the coarser system that contains it; empty in the coarsest."""


@dataclass(frozen=True)
class ValueSystem:
    id: str
    """`schwartz10`, `schwartz19`, `higher-order`, `moral-foundations`."""
    values: tuple[Value, ...]
    """In circle order."""
    source: str
    """The publication that defines the system."""
    aliases: tuple[tuple[str, str], ...] = ()
    """(normalised other name, id) pairs, finer values and published spellings among them."""
    circular: bool = True
    """Whether the angles are places on a circle that the theory gives; false: even steps that order the values in figures."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The values' ids in circle order."""
        return tuple(value.id for value in self.values)

    def __getitem__(self, id: str) -> Value:
        return self.values[self.ids.index(self.resolve(id))]

    def resolve(self, name: str) -> str:
        """The id that `name` means, whatever its spelling. Raises NotFound with the nearest id."""
        key = normalise(name)
        known = dict(self.aliases) | {id: id for id in self.ids}
        if key not in known:
            raise NotFound(f"{name!r} is no value of {self.id}.{nearest(key, known)}")
        return known[key]

    def distance(self, a: str, b: str) -> float:
        """Angle between two values on the circle [radians, 0 to pi]; NaN between different values of a system without one."""
        if not self.circular:
            return 0.0 if self.resolve(a) == self.resolve(b) else math.nan
        gap = abs(self[a].angle - self[b].angle) % (2 * math.pi)
        return min(gap, 2 * math.pi - gap)


def normalise(name: str) -> str:
    """`Self-direction: thought` -> `self-direction-thought`: lower case, runs of other signs become one hyphen."""
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


@dataclass(frozen=True)
class Site:
    model: str
    """Folder or hub id of the language model."""
    layer: int
    """0-based decoder layer."""
    point: Point = "resid_post"
    """`resid_post`: what the layer writes to the residual stream; `resid_pre`: what it reads."""
    revision: str = ""
    """Commit of the hub snapshot, or checksum of a folder's configuration; empty until loaded."""


@dataclass(frozen=True)
class Feature:
    sae: str
    """Id of the run that holds the SAE."""
    index: int
    """0-based row of the decoder."""
    density: float
    """Share of tokens on which the feature is active [0 to 1]."""
    max_activation: float
    """Largest activation seen [activation units, > 0 if ever active]."""
    decoder_norm: float
    """Length of the decoder row [residual units]."""


@dataclass(frozen=True)
class Label:
    feature: int
    """0-based feature index."""
    value: str
    """Id of the value."""
    polarity: Literal[-1, 1]
    """+1: active where the value is held; -1: active where it is rejected."""
    effect: float
    """Standardised mean difference of the feature between texts with and without the value, within contexts [SD]."""
    low: float
    """Lower end of the 95 % interval of `effect` [SD]."""
    high: float
    """Upper end of the 95 % interval of `effect` [SD]."""
    p: float
    """Two-sided p of `effect` = 0 [0 to 1]."""
    q: float
    """`p` after Benjamini-Hochberg over all features x values of the run [0 to 1]."""
    score: float
    """Held-out area under the ROC curve, within contexts [0 to 1, 0.5 = chance]."""
    gain: float
    """Held-out specificity: share of the feature's activation on texts with the value, above its base rate within
    contexts [at most 1: active on the value alone; 0: as if by chance]."""
    n: int
    """Texts that carry the value, held-out ones not counted."""
    method: str
    """Name of the labeler."""
    accepted: bool
    """Whether the labeler's own thresholds are met; rows that are not accepted stay as evidence."""
    evidence: str
    """JSON: thresholds, counts, runner-up value, or a person's note."""


@dataclass(frozen=True)
class Steering:
    features: tuple[tuple[int, float], ...] = ()
    """(0-based feature index, weight) pairs; `combine` says what several of them mean."""
    method: str = "add"
    """Name of a steering plug-in."""
    strength: float = 0.0
    """How far, in `unit`; 0 changes nothing. Must be finite."""
    unit: Unit = "norm_share"
    """`raw`: length in residual units; `feature_max`: multiples of each feature's largest activation;
    `norm_share`: share of the median residual norm at the site."""
    positions: Where = "all"
    """Token positions that are steered, by name or as a span of the prompt's text (the first token of a sequence, a sink in most models, never is)."""
    random: int = -1
    """Seed of a random unit direction used instead of features [>= 0]; -1: features are used."""
    direction: str = ""
    """Direction of a probes run used instead of features, as `run/value/kind`; empty: features are used."""
    combine: Combine = "direction"
    """What several features mean. `direction`: one direction, which `strength` makes so long. `sum`: each feature as if
    steered alone, at `strength` times its weight, and the vectors added."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.strength):
            raise BadInput(
                f"A steering strength must be a finite number, got {self.strength}. Give a dose such as 0.5."
            )
        if not all(math.isfinite(weight) for _, weight in self.features):
            raise BadInput(f"Feature weights must be finite numbers, got {self.features}.")
        if self.direction and (self.features or self.random >= 0):
            raise BadInput(f"A steering goes along {self.direction} or along features or a random direction. Give one of them.")

    @property
    def by_direction(self) -> bool:
        """Whether it goes along a random or a stored direction, which has no activation of its own."""
        return self.random >= 0 or bool(self.direction)

    @property
    def name(self) -> str:
        """Readable and unique: `add f12+f7*-1 @0.5 norm_share`; `base` when nothing is changed."""
        if (self.strength == 0 and self.method == "add") or not (self.features or self.by_direction):
            return "base"  # other methods change something at strength 0: they remove the feature
        return self._named(lambda number: f"{number:g}")

    @property
    def key(self) -> str:
        """The name with every digit, and with what `combine` does to a single weight: two steerings that differ never share one."""
        alone = " alone" if self.combine == "sum" and len(self.features) == 1 and self.features[0][1] != 1 else ""
        return self.name if self.name == "base" else self._named(_exact) + alone

    def _named(self, shown: Callable[[float], str]) -> str:
        what = self.direction or (
            f"random{self.random}"
            if self.random >= 0
            else ("+" if self.combine == "direction" else " & ").join(f"f{i}" if w == 1 else f"f{i}*{shown(w)}" for i, w in self.features)
        )
        where = "" if self.positions == "all" else f" {self.positions}"
        return f"{self.method} {what} @{shown(self.strength)} {self.unit}{where}"


def _exact(number: float) -> str:
    """Six digits where they are the number, as in a shown name, else all of them."""
    return short if float(short := f"{number:g}") == number else repr(float(number))


@dataclass(frozen=True)
class Action:
    text: str
    """What is done or answered, in one sentence."""
    scores: tuple[tuple[str, float], ...]
    """(id of the value, score) pairs: how far it serves the value [-1 to 1]; a value that is not named has 0."""


@dataclass(frozen=True)
class Item:
    id: str
    """Unique within the instrument."""
    text: str
    """What is asked."""
    value: str
    """Id of the value it measures; empty where `tags` or the answers' scores say it, or where a judge finds it."""
    key: Literal[-1, 1] = 1
    """+1: agreement means the value is held; -1: reverse-keyed."""
    tags: tuple[str, ...] = ()
    """Ids of the values it measures where they are several."""
    options: tuple[Action, ...] = ()
    """Its own answers, each with the values it serves; empty: the instrument's scale."""
    group: str = ""
    """What it shares with other items, a passage or a dilemma: the cluster of intervals where one context is asked. Empty: itself."""
    after: str = ""
    """Id of the item whose question and answer go before it in the conversation; empty: it opens one."""
    image: str = ""
    """File of the image shown with it; empty: none."""
    language: str = "en"
    """Language of the text [BCP 47]."""
    source: str = ""
    """Where the item comes from; empty: as the instrument."""
    licence: str = ""
    """Under which it may be used; empty: as the instrument."""

    @property
    def values(self) -> tuple[str, ...]:
        """Ids of the values it measures by its rating."""
        return self.tags or ((self.value,) if self.value else ())


@dataclass(frozen=True)
class Instrument:
    id: str
    """Registered name."""
    title: str
    """Name for people."""
    items: tuple[Item, ...]
    """In the order of the source; an item stands after the one it follows."""
    options: tuple[str, ...]
    """Answer texts from least to most agreement, numbers or phrases; empty where items bring their own or answers are free."""
    wordings: tuple[tuple[str, str], ...]
    """(name, template) pairs; a template holds `{item}` and, optionally, the ends of the scale, `{low}` and `{high}`, or all answers, `{options}`."""
    system: str
    """Id of the value system it measures."""
    source: str
    """Where the items come from."""
    licence: str
    """Under which they may be used."""
    answer: Answer = "rating"
    """`rating`: on the scale; `choice`: among the item's own answers; `text`: free, rated by a judge."""
    memory: Memory = "full"
    """What an item that follows others is told of them: `full`: every question and answer; `causal`: the answers alone; `none`."""


@dataclass(frozen=True)
class Response:
    item: str
    """Id of the item."""
    value: str
    """Id of the value the item measures."""
    context: int
    """Number of the prompt context under which it was asked; contexts are the clusters of every interval."""
    wording: str
    """Name of the wording."""
    order: Literal["ascending", "descending"]
    """Order in which the answers were offered; `ascending`: as in the instrument, least agreement first."""
    seed: int
    """Seed of the sampling, one a repeat; 0 where nothing is sampled."""
    steering: str
    """`Steering.name`."""
    text: str
    """The raw answer, or the most likely option when scored by log-probability."""
    logprobs: tuple[float, ...]
    """Log-probability of each answer per token [nats], in the order of the instrument or of the item; empty when generated."""
    rating: float
    """Agreement, reverse-keyed items turned round [1 to number of options], or a judge's rating of a free text; NaN for choices and unless parsed."""
    status: Status
    """`parsed`, `refused`, `unparsed`, or `too-long` for the model's context; only parsed answers enter a mean."""
    chosen: int = -1
    """0-based number of the answer, in the order of the instrument or of the item; -1 unless parsed, and for free texts."""
    persona: str = ""
    """What the model was told it is; empty: nothing."""


@dataclass(frozen=True)
class ValueProfile:
    steering: str
    """`Steering.name`."""
    value: str
    """Id of the value."""
    mean: float
    """Mean over items and clusters [rating points; scores of what was chosen, -1 to 1, for choices; what the instrument's page says, where it scores itself]."""
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


@dataclass(frozen=True)
class Scenario:
    id: str
    """Unique within its run or file."""
    text: str
    """The situation; it names no value."""
    values: tuple[str, ...]
    """Ids of the values at stake in it, in circle order."""
    actions: tuple[Action, ...]
    """What one could do; at least two."""
    source: str
    """Who wrote and scored it: name of the language model, the generator or the file."""


@dataclass(frozen=True)
class Choice:
    scenario: str
    """Id of the scenario."""
    steering: str
    """`Steering.name`."""
    kind: Literal["base", "steering", "random-direction"]
    """What was changed."""
    order: Literal["given", "reversed"]
    """Order in which the actions were offered; always `given` where they were not listed."""
    logprobs: tuple[float, ...]
    """Log-probability of each action, in the scenario's order [nats]; empty when generated."""
    tokens: tuple[int, ...]
    """Tokens of each action [tokens]; empty when generated."""
    probabilities: tuple[float, ...]
    """Softmax over the actions [0 to 1]; empty when generated."""
    chosen: int
    """0-based number of the chosen action; -1 unless parsed."""
    text: str
    """The raw answer when generated; empty otherwise."""
    status: Status
    """`parsed`, `refused` or `unparsed`; only parsed answers enter a mean."""


@dataclass(frozen=True)
class DecisionEffect:
    steering: str
    """`Steering.name`."""
    kind: Literal["steering", "random-direction"]
    """`random-direction`: a control of equal norm."""
    outcome: Literal["expected", "chosen"]
    """Score of the actions weighted by their probability, or of the chosen action alone."""
    value: str
    """Id of the value."""
    base: float
    """Mean unsteered score over the scenarios [-1 to 1]."""
    steered: float
    """Mean steered score over the same scenarios [-1 to 1]."""
    effect: float
    """Mean paired difference, steered less base [score points, -2 to 2]."""
    low: float
    """Lower end of its 95 % interval, bootstrapped over scenarios [score points]."""
    high: float
    """Upper end of it [score points]."""
    p: float
    """Two-sided p of `effect` = 0 [0 to 1]."""
    q: float
    """`p` after Benjamini-Hochberg over the values of the same outcome and steering."""
    null_low: float
    """2.5 % quantile of the effect under the run's random directions [score points]; NaN for a control."""
    null_high: float
    """97.5 % quantile of it [score points]; NaN for a control."""
    n: int
    """Scenarios (clusters): those whose actions differ on the value and that both states answered."""
    missing: int
    """Scenarios whose actions differ on the value and that one of the two states left unanswered."""


@dataclass(frozen=True)
class SideEffect:
    source: str
    """Id of the value whose features were steered."""
    target: str
    """Id of the value that was measured."""
    effect: float
    """Mean change at damage-matched strength, turned so that the source value rises [unsteered SD of the target]."""
    low: float
    """Lower end of the 95 % interval, bootstrapped over contexts, paired."""
    high: float
    """Upper end of it."""
    p: float
    """Two-sided p of `effect` = 0, over contexts and over features, the larger one [0 to 1]."""
    q: float
    """`p` after Benjamini-Hochberg over the off-diagonal cells."""
    null_low: float
    """2.5 % quantile of the same mean over random features and directions of equal damage."""
    null_high: float
    """97.5 % quantile of it."""
    n: int
    """Contexts (clusters)."""
    features: int
    """Features of the source value."""


@dataclass(frozen=True)
class Edge:
    source: str
    """Id of the cause."""
    target: str
    """Id of the effect."""
    weight: float
    """Direct effect: change of the target per change of the source [rating points per rating point]."""
    low: float
    """Lower end of the 95 % interval, bootstrapped over contexts and features."""
    high: float
    """Upper end of it."""
    z: float
    """`weight` over its bootstrap standard deviation."""
    q: float
    """Two-sided p after Benjamini-Hochberg over all ordered pairs."""
    frequency: float
    """Share of bootstrap replicates in which the edge is found [0 to 1]."""
    present: bool
    """Whether the edge belongs to the graph."""


@dataclass(frozen=True)
class CausalGraph:
    values: tuple[str, ...]
    """Ids, in circle order."""
    edges: tuple[Edge, ...]
    """Every ordered pair, present or not."""
    level: Literal["value", "feature"]
    """`feature` where some value has fewer than five features: such edges may be one feature's leak."""
    n: int
    """Contexts (clusters)."""
    seed: int
    """Seed of the bootstrap."""


@dataclass(frozen=True)
class Run:
    id: str
    """`kind-digest`; the digest is that of kind, configuration and inputs."""
    kind: str
    """What the verb made: `sae`, `labels`, `profile`, `effects`, `graph`, `probes`, `prediction`, `plan`, `decisions`, ..."""
    status: Literal["finished", "interrupted"]
    """`finished`: visible in the store; `interrupted`: kept aside, to be resumed."""
    config: Mapping[str, Any]
    """The verb's configuration, flags and job file merged."""
    inputs: Mapping[str, str]
    """Role -> run id or checksum of a file."""
    seed: int
    """Seed from which every random choice of the run derives."""
    created: str
    """Start [ISO 8601, UTC]."""
    seconds: float
    """Working time, interruptions not counted [s]."""
    summary: Mapping[str, Any] = field(default_factory=dict)
    """The run's few figures, as the lists show them."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Package versions, code version, device, platform."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Relative path -> SHA-256."""
    format: int = 1
    """Version of the folder's layout."""


def row(record: Any) -> dict[str, Any]:
    """A record as one row of a table."""
    return dataclasses.asdict(record)


def figures(summary: Mapping[str, Any]) -> str:
    """A run's few figures in one line: `fvu 0.0124, l0 20`; lists and tables are left out."""
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in summary.items()
        if not isinstance(value, (list, dict))
    )
