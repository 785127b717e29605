"""Measures whether a folder obeys the planted truth.

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

from collections.abc import Iterator
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
from .planted import Truth, plan

REACH = 0.98


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
    diagonal_injected: float
    """Mean effect of a value on itself [rating points]; planted is `diagonal_planted`."""
    diagonal_written: float
    diagonal_planted: float
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
    effects_written: Float[np.ndarray, "facet value"]

    @property
    def holds(self) -> bool:
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
        """The scalar figures by name."""
        return {name: value for name, value in asdict(self).items() if isinstance(value, float)}


class Subject:
    """A loaded organism that can be asked, with or without a push on its bus."""

    def __init__(self, folder: Path, items: int = 4) -> None:
        self.truth, self.plan, self.items = Truth.load(folder), plan(), items
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.digits = self.tokenizer.convert_tokens_to_ids([str(n) for n in range(1, 7)])
        self.directions = torch.tensor(self.truth.directions, dtype=torch.float)

    @contextmanager
    def pushed(self, push: Float[Tensor, "row d_model"] | None) -> Iterator[list[Tensor]]:
        """Adds a vector per row at every position after `<s>`; the list collects the bus before
        that.
        """
        seen: list[Tensor] = []

        def hook(module, inputs, output):
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
        """The questions, wordings alternating, and the matrix that averages them: values, then
        value-free ones.
        """
        asked = self.truth.values + self.truth.free
        texts, owners = [], []
        for k, name in enumerate(asked):
            for n, item in enumerate(self.plan.items[name][: self.items]):
                texts.append(self.plan.wordings[n % 2].format(item=item))
                owners.append(k)
        share = np.eye(len(asked))[owners]
        return texts, share / share.sum(0)

    @torch.no_grad()
    def ratings(
        self, prefixes: list[str], push: Float[Tensor, "prefix d_model"] | None = None
    ) -> Float[np.ndarray, "prefix asked"]:
        """Expected rating [1-6] of every value and value-free attribute under each prefix, each
        with its own push.
        """
        texts, share = self.questions()
        ids = [self.tokenizer.encode(f"{prefix} {text}") for prefix in prefixes for text in texts]
        found, order = np.zeros(len(ids)), np.argsort([len(one) for one in ids], kind="stable")
        for some in np.array_split(order, max(len(ids) // 128, 1)):
            size = max(len(ids[k]) for k in some)
            x = torch.tensor([ids[k] + [0] * (size - len(ids[k])) for k in some])
            last = torch.tensor([len(ids[k]) - 1 for k in some])
            with self.pushed(push[some // len(texts)] if push is not None else None):
                # right padding lies behind the last token, which a causal model does not see
                hidden = self.model.model(x, use_cache=False).last_hidden_state
            answers = self.model.lm_head(hidden[torch.arange(len(some)), last])[:, self.digits]
            found[some] = (answers.softmax(-1) @ torch.arange(1.0, 7.0)).numpy()
        return found.reshape(len(prefixes), len(texts)) @ share

    def steering_effects(
        self,
        plus: Float[Tensor, "n d_model"],
        minus: Float[Tensor, "n d_model"],
        prefixes: list[str],
    ) -> Float[np.ndarray, "n asked"]:
        """Half the difference of the ratings under the pushes `plus` and `minus`, averaged over
        prefixes.
        """
        pushes = torch.cat([plus, minus]).repeat_interleave(len(prefixes), 0)
        rated = self.ratings(prefixes * (2 * len(plus)), pushes).reshape(
            2, len(plus), len(prefixes), -1
        )
        return (rated[0] - rated[1]).mean(1) / 2

    def written_effects(
        self, pairs: list[tuple[tuple[str, ...], tuple[str, ...]]], fillers: list[str]
    ) -> Float[np.ndarray, "n asked"]:
        """The same for sentences of the + and of the - pole, each put behind and before a
        filler.
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
        """What is held of every value, read from what is chosen [units]: log odds of its + poles
        over its - poles, a sentence a facet.
        """
        rows = [
            (value, sign, texts[0])
            for value in self.truth.values
            for row in self.plan.rows
            if row.owner == value
            for sign, texts in ((1, row.plus), (-1, row.minus))
        ]
        told = [self.tokenizer.encode(text, add_special_tokens=False) for *_, text in rows]
        share = np.zeros((len(rows), len(self.truth.values)))
        for k, (value, sign, _) in enumerate(rows):
            share[k, self.truth.values.index(value)] = (
                sign * 2 / (len(rows) / len(self.truth.values)) / (2 * CHOICE)
            )
        size, found = max(map(len, told)), []
        for number, prefix in enumerate(prefixes):
            ids = self.tokenizer.encode(f"{prefix} {CHOOSE}")
            x = torch.tensor([ids + one + [0] * (size - len(one)) for one in told])
            with self.pushed(push[number].expand(len(x), -1) if push is not None else None):
                p = self.model(x, use_cache=False).logits[:, len(ids) - 1 : -1].log_softmax(-1)
            each = p.gather(-1, x[:, len(ids) :, None])[..., 0]
            found.append([each[k, : len(one)].sum().item() for k, one in enumerate(told)])
        return np.array(found) @ share

    @torch.no_grad()
    def losses(
        self, texts: list[str], push: Float[Tensor, " d_model"] | None = None
    ) -> Float[np.ndarray, " text"]:
        """Mean next-token loss of each text [nat per token]."""
        found = []
        for text in texts:
            x = torch.tensor([self.tokenizer.encode(text)])
            with self.pushed(push[None] if push is not None else None):
                found.append(self.model(x, labels=x).loss.item())
        return np.array(found)


def by_value(
    truth: Truth, effects: Float[np.ndarray, "facet value"]
) -> Float[np.ndarray, "value value"]:
    """Mean effect of the facets of each value that leak nowhere."""
    return np.stack(
        [
            np.mean(
                [effects[k] for k, f in enumerate(truth.facets) if f.value == value and not f.leak],
                0,
            )
            for value in truth.values
        ]
    )


def agreement(
    planted: Float[np.ndarray, "n value"],
    realised: Float[np.ndarray, "n value"],
    own: Int[np.ndarray, " n"],
) -> float:
    """Correlation of planted and realised effects, the source's own value left out."""
    off = np.ones(planted.shape, dtype=bool)
    off[np.arange(len(planted)), own] = False
    return float(np.corrcoef(planted[off], realised[off])[0, 1])


def check(folder: Path, prefixes: int = 4, items: int = 4) -> Report:
    """Measures the organism in `folder`, each push under so many contexts and with so many items
    of each value.
    """
    subject = Subject(folder, items)
    truth, made = subject.truth, subject.plan
    values, facets = len(truth.values), len(truth.facets)
    own = np.array([truth.values.index(facet.value) for facet in truth.facets])
    under = [*neutral_texts(prefixes - prefixes // 2, seed=5), *contexts(prefixes // 2, seed=5)]
    poles = subject.directions * truth.norm
    injected = subject.steering_effects(poles, -poles, under)
    written = subject.written_effects(
        [(row.plus, row.minus) for row in made.rows], list(made.fillers[:3])
    )
    some = np.arange(0, facets, 7)
    strong = subject.steering_effects(1.5 * poles[some], -1.5 * poles[some], under)[
        np.arange(len(some)), own[some]
    ]
    plain = list(made.fillers[:2])
    talk = [
        (topic, f"{filler} {line}")
        for topic, lines in made.topics.items()
        for line in lines
        for filler in plain
    ]
    moved = subject.ratings([text for _, text in talk]) - np.tile(
        subject.ratings(plain), (len(talk) // len(plain), 1)
    )
    matrices = {
        "injected": by_value(truth, injected[:facets, :values]),
        "written": by_value(truth, written[:facets, :values]),
    }
    planted, diagonal = truth.facet_effects(), np.diag(truth.effects)
    turned = [subject.leanings([under[-1]] * len(some), sign * poles[some]) for sign in (1, -1)]
    said = [
        subject.leanings([f"{made.fillers[0]} {getattr(made.rows[k], pole)[-1]}" for k in some])
        for pole in ("plus", "minus")
    ]
    chosen = {"injected": (turned[0] - turned[1]) / 2, "written": (said[0] - said[1]) / 2}
    told = np.concatenate([*chosen.values()]) * truth.scale
    neutral = neutral_texts(20, seed=6)
    base = subject.losses(neutral).mean()
    return Report(
        injected=agreement(truth.effects, matrices["injected"], np.arange(values)),
        written=agreement(truth.effects, matrices["written"], np.arange(values)),
        injected_facets=agreement(planted, injected[:facets, :values], own),
        written_facets=agreement(planted, written[:facets, :values], own),
        diagonal_injected=float(np.diag(matrices["injected"]).mean()),
        diagonal_written=float(np.diag(matrices["written"]).mean()),
        diagonal_planted=float(diagonal.mean()),
        diagonal_worst=float(
            max(np.abs(np.diag(m) / diagonal - 1).max() for m in matrices.values())
        ),
        topics=float(np.abs(moved[:, :values]).mean()),
        free=float(
            np.abs(np.stack([injected[facets:, :values], written[facets:, :values]])).mean()
        ),
        free_own=float(np.diag(injected[facets:, values:]).mean()),
        bend=float((strong / (1.5 * injected[some, own[some]])).mean()),
        damage=float(np.mean([subject.losses(neutral, poles[k]).mean() - base for k in some])),
        chosen_injected=agreement(planted[some], chosen["injected"], own[some]),
        chosen_written=agreement(planted[some], chosen["written"], own[some]),
        chosen_slope=float(
            (told * np.tile(planted[some], (2, 1))).sum() / (2 * (planted[some] ** 2).sum())
        ),
        effects_injected=injected[:facets, :values],
        effects_written=written[:facets, :values],
    )


def show(report: Report) -> None:
    """Prints the figures with what they should be."""
    from rich.console import Console
    from rich.table import Table

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
    table = Table("figure", "seen", "wanted", title="The organism: planted against realised")
    for name, value in report.figures().items():
        table.add_row(name, f"{value:.4f}", wanted.get(name, ""))
    Console().print(table)
