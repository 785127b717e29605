"""Measure whether a folder of the organism obeys the planted truth.

1. *Injected*: each facet's direction is added to the bus, both signs, under several contexts; half
   the difference of the ratings is the realised effect of the facet.
2. *Written*: the same with the facet's sentences put behind a filler, and nothing added.
3. Both are compared with the plant, value by value (facets without a leak) and facet by facet
   (leaks included).
4. What must move nothing: topic sentences, and value-free attributes, injected or written.
5. *Chosen*: the log odds of saying the + rather than the - pole of a value, asked what it does,
   under some of the same injections and sentences. They follow the planted graph as ratings do.

What it leaves out: steering with features of an autoencoder, labels, graphs, intervals. Those are
judged by the workbench's own verbs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from .choices import CHOICE
from .decisions import CHOOSE
from .generate import contexts, neutral_texts
from .planted import Facet, Truth, planted_language

REACH = 0.98
"""Lowest correlation of planted and realised effects at which the organism holds [-1, 1]."""


@dataclass(frozen=True, eq=False)
class Report:
    """How well a folder obeys its plant. Effects in rating points per unit, row = source."""

    injected: float
    """Correlation of planted and realised effects of injected values, off the diagonal [-1, 1]."""
    written: float
    """The same for values written as text."""
    injected_facets: float
    """Correlation over all facets with their leaks, own value left out [-1, 1]."""
    written_facets: float
    """The same for facets written as text."""
    diagonal_injected: float
    """Mean effect of a value on itself [rating points]; planted is `diagonal_planted`."""
    diagonal_written: float
    """The same for values written as text."""
    diagonal_planted: float
    """What was planted there [rating points]."""
    diagonal_worst: float
    """Largest relative miss of one value's diagonal, injected or written [0, 1]."""
    topics: float
    """Mean absolute effect of a topic sentence on a value [rating points]."""
    free: float
    """Mean absolute effect of a value-free attribute on a value, injected or written [rating
    points]."""
    free_own: float
    """Mean effect of an injected value-free attribute on its own question [rating points]."""
    bend: float
    """Diagonal at one and a half units over one and a half diagonals at one: 1 is linear."""
    damage: float
    """Rise of the next-token loss on neutral text under one injected unit [nat per token]."""
    chosen_injected: float
    """Correlation of planted effects and effects on what is chosen, injected facets, own value
    left out [-1, 1]."""
    chosen_written: float
    """The same for facets written as text."""
    chosen_slope: float
    """Slope of realised on planted effects on choices, all cells; 1 is exact."""
    effects_injected: Float[np.ndarray, "facet value"]
    """Effects of injected facets [rating points per unit]."""
    effects_written: Float[np.ndarray, "facet value"]
    """Effects of facets written as text [rating points]."""

    @property
    def holds(self) -> bool:
        """Whether the organism may be shipped: every figure is near what was planted."""
        followed = (
            self.injected,
            self.written,
            self.injected_facets,
            self.written_facets,
            self.chosen_injected,
            self.chosen_written,
        )
        return (
            min(followed) >= REACH
            and abs(self.chosen_slope - 1) <= 0.15
            and self.diagonal_worst <= 0.1
            and max(self.topics, self.free) < 0.1
        )

    def figures(self) -> dict[str, float]:
        """List the scalar figures by name."""
        return {name: value for name, value in asdict(self).items() if isinstance(value, float)}


class LoadedOrganism:
    """An organism that can be asked, with or without a push on its bus.

    organism = LoadedOrganism(folder())
    push = organism.directions[:1] * organism.truth.norm  # one unit of the first facet
    organism.ratings(["I washed the cups."], push)
    """

    def __init__(self, folder: Path, items: int = 4) -> None:
        """Load the organism in `folder`; each value is asked with at most `items` items."""
        self.truth, self.language, self.items = Truth.load(folder), planted_language(), items
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.digits = self.tokenizer.convert_tokens_to_ids([str(n) for n in range(1, 7)])
        self.directions = torch.tensor(self.truth.directions, dtype=torch.float)

    @contextmanager
    def pushed(self, push: Float[Tensor, "row d_model"] | None) -> Iterator[list[Tensor]]:
        """Add a vector per row at every position after `<s>` while the block runs.

        The list that it gives collects the bus before that.
        """
        seen: list[Tensor] = []

        def hook(module: torch.nn.Module, inputs: object, output: Tensor) -> Tensor:
            """Note the bus, and push it."""
            seen.append(output)
            if push is None:
                return output
            return torch.cat([output[:, :1], output[:, 1:] + push[:, None]], 1)

        handle = self.model.model.layers[self.truth.layer].register_forward_hook(hook)
        try:
            yield seen
        finally:
            handle.remove()

    def questions(self) -> tuple[list[str], Float[np.ndarray, "question asked"]]:
        """List the questions, wordings alternating, and the matrix that averages them.

        Its columns are the values, then the value-free attributes.
        """
        names = self.truth.values + self.truth.free
        texts, owners = [], []
        for k, name in enumerate(names):
            for n, item in enumerate(self.language.items[name][: self.items]):
                texts.append(self.language.wordings[n % 2].format(item=item))
                owners.append(k)
        share = np.eye(len(names))[owners]
        return texts, share / share.sum(0)

    @torch.no_grad()
    def ratings(
        self, prefixes: list[str], push: Float[Tensor, "prefix d_model"] | None = None
    ) -> Float[np.ndarray, "prefix asked"]:
        """Compute the expected rating [1-6] of every value and attribute under each prefix.

        `push` has a row for each prefix.
        """
        texts, share = self.questions()
        ids = [self.tokenizer.encode(f"{prefix} {text}") for prefix in prefixes for text in texts]
        expected = np.zeros(len(ids))
        order = np.argsort([len(tokens) for tokens in ids], kind="stable")
        for part in np.array_split(order, max(len(ids) // 128, 1)):
            size = max(len(ids[k]) for k in part)
            x = torch.tensor([ids[k] + [0] * (size - len(ids[k])) for k in part])
            last = torch.tensor([len(ids[k]) - 1 for k in part])
            with self.pushed(push[part // len(texts)] if push is not None else None):
                # Right padding lies behind the last token, which a causal model does not see.
                hidden = self.model.model(x, use_cache=False).last_hidden_state
            answers = self.model.lm_head(hidden[torch.arange(len(part)), last])[:, self.digits]
            expected[part] = (answers.softmax(-1) @ torch.arange(1.0, 7.0)).numpy()
        return expected.reshape(len(prefixes), len(texts)) @ share

    def steering_effects(
        self,
        plus: Float[Tensor, "n d_model"],
        minus: Float[Tensor, "n d_model"],
        prefixes: list[str],
    ) -> Float[np.ndarray, "n asked"]:
        """Measure the effects of pushes: half the difference of the ratings under both signs.

        They are averaged over prefixes [rating points].
        """
        pushes = torch.cat([plus, minus]).repeat_interleave(len(prefixes), 0)
        rated = self.ratings(prefixes * (2 * len(plus)), pushes).reshape(
            2, len(plus), len(prefixes), -1
        )
        return (rated[0] - rated[1]).mean(1) / 2

    def written_effects(
        self, pairs: list[tuple[tuple[str, ...], tuple[str, ...]]], fillers: list[str]
    ) -> Float[np.ndarray, "n asked"]:
        """Measure the effects of sentences of the + and of the - pole [rating points].

        Each sentence stands behind or before a filler, by turns.
        """
        prefixes, owner, sign = [], [], []
        for k, poles in enumerate(pairs):
            for s, sentences in zip((1, -1), poles, strict=True):
                for n, sentence in enumerate(sentences):
                    filler = fillers[n % len(fillers)]
                    prefixes.append(f"{filler} {sentence}" if n % 2 else f"{sentence} {filler}")
                    owner.append(k)
                    sign.append(s / len(sentences))
        rated = self.ratings(prefixes) * np.array(sign)[:, None]
        effects = np.zeros((len(pairs), rated.shape[1]))
        np.add.at(effects, owner, rated)
        return effects / 2

    @torch.no_grad()
    def leanings(
        self, prefixes: list[str], push: Float[Tensor, "prefix d_model"] | None = None
    ) -> Float[np.ndarray, "prefix value"]:
        """Read from its choices what the organism holds of every value [units].

        That is the log odds of a value's + poles over its - poles, with a sentence of each facet.
        """
        values = self.truth.values
        rows = [row for row in self.language.rows if row.owner in values]
        rows.sort(key=lambda row: values.index(row.owner))
        poles = [(row, sign) for row in rows for sign in (1, -1)]
        sentences = [(row.plus if sign > 0 else row.minus)[0] for row, sign in poles]
        tokens = [self.tokenizer.encode(text, add_special_tokens=False) for text in sentences]
        share = np.zeros((len(poles), len(values)))
        for k, (row, sign) in enumerate(poles):
            share[k, values.index(row.owner)] = sign * 2 / (len(poles) / len(values)) / (2 * CHOICE)
        size, logprobs = max(map(len, tokens)), []
        for number, prefix in enumerate(prefixes):
            ids = self.tokenizer.encode(f"{prefix} {CHOOSE}")
            x = torch.tensor([ids + words + [0] * (size - len(words)) for words in tokens])
            with self.pushed(push[number].expand(len(x), -1) if push is not None else None):
                p = self.model(x, use_cache=False).logits[:, len(ids) - 1 : -1].log_softmax(-1)
            of_words = p.gather(-1, x[:, len(ids) :, None])[..., 0]
            logprobs.append(
                [of_words[k, : len(words)].sum().item() for k, words in enumerate(tokens)]
            )
        return np.array(logprobs) @ share

    @torch.no_grad()
    def losses(
        self, texts: list[str], push: Float[Tensor, " d_model"] | None = None
    ) -> Float[np.ndarray, " text"]:
        """Compute the mean next-token loss of each text [nat per token]."""
        means = []
        for text in texts:
            x = torch.tensor([self.tokenizer.encode(text)])
            with self.pushed(push[None] if push is not None else None):
                means.append(self.model(x, labels=x).loss.item())
        return np.array(means)


def by_value(
    truth: Truth, effects: Float[np.ndarray, "facet value"]
) -> Float[np.ndarray, "value value"]:
    """Average the effects of the facets of each value that leak nowhere."""
    means = []
    for value in truth.values:
        pure = [k for k, f in enumerate(truth.facets) if f.value == value and not f.leak]
        means.append(np.mean([effects[k] for k in pure], 0))
    return np.stack(means)


def planted_agreement(
    planted: Float[np.ndarray, "n value"],
    realised: Float[np.ndarray, "n value"],
    sources: Int[np.ndarray, " n"],
) -> float:
    """Correlate planted and realised effects, the value of each row's source left out [-1, 1]."""
    off = np.ones(planted.shape, dtype=bool)
    off[np.arange(len(planted)), sources] = False
    return float(np.corrcoef(planted[off], realised[off])[0, 1])


def check(folder: Path, prefixes: int = 4, items: int = 4) -> Report:
    """Measure the organism in `folder`: each push under so many contexts, with so many items."""
    organism = LoadedOrganism(folder, items)
    truth, language = organism.truth, organism.language
    values, facets = len(truth.values), len(truth.facets)
    under = [*neutral_texts(prefixes - prefixes // 2, seed=5), *contexts(prefixes // 2, seed=5)]
    poles = organism.directions * truth.norm
    injected = organism.steering_effects(poles, -poles, under)
    written = organism.written_effects(
        [(row.plus, row.minus) for row in language.rows], list(language.fillers[:3])
    )
    inner = {"injected": injected[:facets, :values], "written": written[:facets, :values]}
    free = np.stack([injected[facets:, :values], written[facets:, :values]])
    every_seventh = np.arange(0, facets, 7)
    neutral = neutral_texts(20, seed=6)
    base = organism.losses(neutral).mean()
    pushed = [organism.losses(neutral, poles[k]).mean() - base for k in every_seventh]
    return Report(
        **_value_figures(truth, inner),
        **_choice_figures(organism, under[-1], every_seventh),
        topics=_topic_effect(organism),
        free=float(np.abs(free).mean()),
        free_own=float(np.diag(injected[facets:, values:]).mean()),
        bend=_bend(organism, injected, every_seventh, under),
        damage=float(np.mean(pushed)),
        effects_injected=inner["injected"],
        effects_written=inner["written"],
    )


def _sources(truth: Truth, facets: Sequence[Facet]) -> Int[np.ndarray, " facet"]:
    """The column of each facet's value."""
    return np.array([truth.values.index(facet.value) for facet in facets])


def _value_figures(
    truth: Truth, effects: Mapping[str, Float[np.ndarray, "facet value"]]
) -> dict[str, float]:
    """How injected and written effects follow the plant, by value and by facet."""
    injected, written = by_value(truth, effects["injected"]), by_value(truth, effects["written"])
    planted, diagonal = truth.facet_effects(), np.diag(truth.effects)
    values, sources = np.arange(len(truth.values)), _sources(truth, truth.facets)
    misses = [np.abs(np.diag(matrix) / diagonal - 1).max() for matrix in (injected, written)]
    return {
        "injected": planted_agreement(truth.effects, injected, values),
        "written": planted_agreement(truth.effects, written, values),
        "injected_facets": planted_agreement(planted, effects["injected"], sources),
        "written_facets": planted_agreement(planted, effects["written"], sources),
        "diagonal_injected": float(np.diag(injected).mean()),
        "diagonal_written": float(np.diag(written).mean()),
        "diagonal_planted": float(diagonal.mean()),
        "diagonal_worst": float(max(misses)),
    }


def _choice_figures(
    organism: LoadedOrganism, context: str, facets: Int[np.ndarray, " n"]
) -> dict[str, float]:
    """How choices follow the plant, under some facets injected or written."""
    truth, language = organism.truth, organism.language
    poles = organism.directions[facets] * truth.norm
    turned = [organism.leanings([context] * len(facets), sign * poles) for sign in (1, -1)]
    filler = language.fillers[0]
    plus = organism.leanings([f"{filler} {language.rows[k].plus[-1]}" for k in facets])
    minus = organism.leanings([f"{filler} {language.rows[k].minus[-1]}" for k in facets])
    injected, written = (turned[0] - turned[1]) / 2, (plus - minus) / 2
    planted = truth.facet_effects()[facets]
    sources = _sources(truth, [truth.facets[k] for k in facets])
    realised = np.concatenate([injected, written]) * truth.scale
    slope = (realised * np.tile(planted, (2, 1))).sum() / (2 * (planted**2).sum())
    return {
        "chosen_injected": planted_agreement(planted, injected, sources),
        "chosen_written": planted_agreement(planted, written, sources),
        "chosen_slope": float(slope),
    }


def _topic_effect(organism: LoadedOrganism) -> float:
    """Mean absolute effect of a topic's line behind a filler on a value [rating points]."""
    language = organism.language
    fillers = list(language.fillers[:2])
    texts = []
    for lines in language.topics.values():
        texts += [f"{filler} {line}" for line in lines for filler in fillers]
    base = np.tile(organism.ratings(fillers), (len(texts) // len(fillers), 1))
    moved = organism.ratings(texts) - base
    return float(np.abs(moved[:, : len(organism.truth.values)]).mean())


def _bend(
    organism: LoadedOrganism,
    injected: Float[np.ndarray, "direction asked"],
    facets: Int[np.ndarray, " n"],
    contexts: list[str],
) -> float:
    """The effect of one and a half units over one and a half effects of one unit: 1 is linear."""
    poles = 1.5 * (organism.directions * organism.truth.norm)[facets]
    sources = _sources(organism.truth, [organism.truth.facets[k] for k in facets])
    strong = organism.steering_effects(poles, -poles, contexts)
    strong = strong[np.arange(len(facets)), sources]
    return float((strong / (1.5 * injected[facets, sources])).mean())


def show(report: Report) -> None:
    """Print the figures of a report beside what they should be."""
    from rich.console import Console
    from rich.table import Table as Grid

    near = f"{report.diagonal_planted:.2f} +- 10 %"
    wanted = {
        "injected": ">= 0.98",
        "written": ">= 0.98",
        "injected_facets": ">= 0.98",
        "written_facets": ">= 0.98",
        "diagonal_injected": near,
        "diagonal_written": near,
        "diagonal_worst": "<= 0.10",
        "topics": "< 0.1",
        "free": "< 0.1",
        "bend": "1",
        "chosen_injected": ">= 0.98",
        "chosen_written": ">= 0.98",
        "chosen_slope": "1 +- 0.15",
    }
    table = Grid("figure", "seen", "wanted", title="The organism: planted against realised")
    for name, value in report.figures().items():
        table.add_row(name, f"{value:.4f}", wanted.get(name, ""))
    Console().print(table)
