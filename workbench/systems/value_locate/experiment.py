"""The model's part of a search for value neurons: answers, neurons, edits, ratings and losses.

1. `answer_all` lets the model answer under every value and pole and keeps counts, texts and tokens,
   part by part.
2. `find` turns the counts of one value into its neurons, the draws of its control, and the scale u
   of all of them.
3. `Bench` asks the instrument's questions and reads the neutral texts, edited or not. The unedited
   model goes through the same passes, so that a difference is the edit's alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float

from feature_store.progress import Progress
from feature_store.records import Instrument, ValueSystem
from feature_store.work import Work
from sae_training.engine.answers import by_answers
from sae_training.engine.generate import decode, prompt_ids
from sae_training.engine.model import Model
from sae_training.engine.neurons import (
    CountedAnswers,
    Group,
    NeuronEdit,
    Neurons,
    answer,
    percentiles,
)
from sae_training.engine.scoring import sweep_ids
from workbench.measuring.questions import Question, expected_ratings, option_texts
from workbench.sweeps.sweep import neutral_tokens
from workbench.systems.value_locate.descriptions import POLES, Descriptions
from workbench.systems.value_locate.effects import PlannedEdit
from workbench.systems.value_locate.locate import Located, Shares, amounts, locate, shares

TEXTS = 16
"""Neutral texts read together."""


@dataclass(frozen=True, eq=False)
class NeuronModel:
    """A model and the neurons of it that are counted and edited."""

    model: Model
    """The live model."""
    groups: Sequence[Group]
    """Its neurons: those of one layer each, or the SAE's features."""


@dataclass(frozen=True)
class AnswerSettings:
    """How many answers are written, and how."""

    n: int
    """Answers a value and pole."""
    new_tokens: int
    """Longest answer [tokens]."""
    temperature: float
    """Sampling temperature; 0: greedy."""
    seed: int
    """Seed of descriptions and sampling."""


@dataclass(frozen=True)
class LocateSettings:
    """Which neurons are chosen, and how their controls and scales are found."""

    top: int
    """Neurons a role, the largest differences first."""
    least: float
    """Difference of the shares from which a neuron is chosen whatever its rank [0 to 1]."""
    draws: int
    """Draws of the control."""
    u: Literal["percentile", "share"]
    """Scale of an edit: a neuron's 95th percentile, or the larger of its two shares."""
    seed: int
    """Seed of the controls."""


@dataclass(frozen=True, eq=False)
class ValueNeurons:
    """The neurons of one value, its controls, and how far each is moved."""

    value: str
    """Id of the value."""
    located: Located
    """Its target and opposing neurons."""
    controls: tuple[Located, ...]
    """Draws of the control."""
    u: Float[np.ndarray, " neuron"]
    """Scale of each neuron's edit, over all neurons; 0 for those in no set [activation units, or
    a share]."""
    poles: tuple[Shares, Shares]
    """Shares under the value and under its reverse, over all neurons."""

    def edit(
        self, planned: PlannedEdit, dropout: float, seed: int, groups: Sequence[Group]
    ) -> NeuronEdit:
        """Say what the engine does to the neurons."""
        located = self.controls[planned.draw] if planned.condition == "random" else self.located
        located = located.reverse() if planned.condition == "reversed" else located
        return NeuronEdit(
            neurons=places(groups, located.neuron),
            add=amounts(located, self.u[located.neuron], planned.gamma),
            opposing=located.opposing,
            dropout=dropout,
            seed=seed,
        )

    def rows(self, groups: Sequence[Group]) -> list[dict[str, Any]]:
        """Write the rows of `neurons`."""
        held, denied = self.poles
        where = places(groups, self.located.neuron)
        reach = 1.96 * np.sqrt(held.error**2 + denied.error**2)
        rows = []
        for number, neuron in enumerate(self.located.neuron):
            delta = self.located.delta[number]
            rows.append(
                {
                    "value": self.value,
                    "layer": groups[where.group[number]].layer,
                    "neuron": int(where.index[number]),
                    "role": "target" if delta > 0 else "opposing",
                    "p_value": float(held.share[neuron]),
                    "p_reversed": float(denied.share[neuron]),
                    "delta": float(delta),
                    "low": float(delta - reach[neuron]),
                    "high": float(delta + reach[neuron]),
                    "tokens_value": held.tokens,
                    "tokens_reversed": denied.tokens,
                    "u": float(self.u[neuron]),
                }
            )
        return rows


def group_of(groups: Sequence[Group]) -> np.ndarray:
    """Number the group of every neuron, group by group [neuron]."""
    return np.repeat(np.arange(len(groups)), [group.width for group in groups])


def places(groups: Sequence[Group], neurons: np.ndarray) -> Neurons:
    """Find neurons that are numbered over all groups: the group, and the place within it."""
    starts = np.concatenate([[0], np.cumsum([group.width for group in groups])])
    group = np.searchsorted(starts, neurons, side="right") - 1
    return Neurons(group, neurons - starts[group])


def answer_all(
    work: Work,
    subject: NeuronModel,
    values: Sequence[str],
    descriptions: Descriptions,
    settings: AnswerSettings,
    progress: Progress,
) -> None:
    """Let the model answer under every value and pole, and count its active neurons.

    Writes the parts `neuron_answers`, `counts` and `tokens`, two a value. Parts of an interrupted
    run are not made again.
    """
    jobs = [(value, pole) for value in values for pole in POLES]
    for value, pole in jobs:  # a question that is too long is refused before any is asked
        questions = descriptions.described(value, pole, settings.n, settings.seed)
        prompt_ids(subject.model, [question.prompt for question in questions])
    for number, (value, pole) in enumerate(jobs):
        if number not in work.done("counts", "tokens", "neuron_answers"):
            questions = descriptions.described(value, pole, settings.n, settings.seed)
            answers = answer(
                subject.model,
                subject.groups,
                prompt_ids(subject.model, [question.prompt for question in questions]),
                settings.new_tokens,
                settings.temperature,
                settings.seed,
            )
            texts = decode(subject.model, answers.prompts, answers.new)
            work.part("counts", number, _counts(answers))
            new = pa.array(answers.new, pa.list_(pa.int64()))
            work.part("tokens", number, pa.table({"prompt": answers.prompts, "new": new}))
            rows = {
                "value": [value] * settings.n,
                "pole": [pole] * settings.n,
                "answer": np.arange(settings.n, dtype=np.int32),
                "description": [question.description for question in questions],
                "question": [question.question for question in questions],
                "prompt": [question.prompt for question in questions],
                "text": texts,
                "tokens": answers.tokens,
            }
            work.part("neuron_answers", number, pa.table(rows))
        progress("answering", number + 1, len(jobs))


def _counts(answers: CountedAnswers) -> pa.Table:
    """Sum over answers what `shares` needs: active tokens, their squares, and times the length."""
    active = np.concatenate(answers.active, axis=1).astype(np.int64)
    tokens = answers.tokens.astype(np.int64)
    return pa.table(
        {
            "active": active.sum(0),
            "squares": (active**2).sum(0),
            "products": tokens @ active,
        }
    )


def find(
    work: Work, subject: NeuronModel, value: str, number: int, settings: LocateSettings
) -> ValueNeurons:
    """Find the neurons of a value, whose answers are parts 2 `number` and 2 `number` + 1."""
    parts = [2 * number, 2 * number + 1]
    held, denied = (_shares(work, part) for part in parts)
    located = locate(held.share - denied.share, settings.top, settings.least)
    group = group_of(subject.groups)
    alive = (held.share > 0) | (denied.share > 0)
    controls = tuple(
        located.control(group, alive, settings.seed + 1 + draw) for draw in range(settings.draws)
    )
    used = np.unique(np.concatenate([chosen.neuron for chosen in (located, *controls)]))
    scale = np.zeros(len(group))
    if settings.u == "share":
        scale[used] = np.maximum(held.share, denied.share)[used]
    else:
        tokens = pa.concat_tables(work.kept("tokens", part) for part in parts)
        scale[used] = percentiles(
            subject.model,
            subject.groups,
            tokens["prompt"].to_pylist(),
            tokens["new"].to_pylist(),
            places(subject.groups, used),
        )
    return ValueNeurons(
        value=value, located=located, controls=controls, u=scale, poles=(held, denied)
    )


def _shares(work: Work, part: int) -> Shares:
    """Estimate how often neurons are active in the answers of one part."""
    counts = work.kept("counts", part)
    tokens = work.kept("neuron_answers", part)["tokens"]
    return shares(
        counts["active"].to_numpy(),
        counts["squares"].to_numpy(),
        counts["products"].to_numpy(),
        tokens.to_numpy().astype(np.int64),
    )


class _OptionBatch(NamedTuple):
    """Questions whose options are tokenized in the same way."""

    rows: list[int]
    """0-based numbers of the questions."""
    prompts: list[list[int]]
    """Tokens of each question."""
    options: list[list[int]]
    """Tokens of each option."""


@dataclass(frozen=True, eq=False)
class Bench:
    """What every edit is measured with: an instrument's questions and neutral texts."""

    model: Model
    """The live model, edited or not."""
    instrument: Instrument
    """The instrument that asks."""
    questions: Sequence[Question]
    """The instrument's questions, under every context."""
    neutral: Sequence[str]
    """Texts whose loss is the damage."""
    system: ValueSystem
    """Values by which ratings are given."""

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """Name the values of the system that the instrument measures, in circle order."""
        measured = {self.system.resolve(q.item.value) for q in self.questions}
        return tuple(value for value in self.system.ids if value in measured)

    @cached_property
    def _options(self) -> list[_OptionBatch]:
        prompts = [q.prompt for q in self.questions]
        ids = prompt_ids(self.model, prompts)
        texts = option_texts(self.instrument, self.model)
        return [
            _OptionBatch(rows, [ids[row] for row in rows], options)
            for rows, options in by_answers(self.model, prompts, ids, texts)
        ]

    @cached_property
    def _texts(self) -> list[list[int]]:
        """Tokens of the neutral texts, as far as the model reads."""
        return neutral_tokens(self.model, self.neutral)

    def ratings(self) -> Float[np.ndarray, " question"]:
        """Measure the expected rating of every question [1 to number of options]."""
        logprobs = np.empty((len(self.questions), len(self.instrument.options)))
        for batch in self._options:
            scores = sweep_ids(self.model, batch.prompts, batch.options)
            logprobs[batch.rows] = scores.base.double().numpy()
        return expected_ratings(logprobs, self.questions)

    def losses(self) -> Float[np.ndarray, " text"]:
        """Measure the mean next-token loss of every neutral text [nats a token]."""
        losses = []
        for start in range(0, len(self._texts), TEXTS):
            batch = self._texts[start : start + TEXTS]
            width = max(map(len, batch))
            ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in batch])
            mask = torch.arange(width) < torch.tensor([[len(row)] for row in batch])
            losses.append(self.model.loss(ids, mask).double().cpu().numpy())
        return np.concatenate(losses)

    def fold(self, ratings: Float[np.ndarray, " question"]) -> Float[np.ndarray, "context target"]:
        """Average the ratings of each value under each context [rating points]."""
        context = np.array([q.context for q in self.questions])
        values = [self.system.resolve(q.item.value) for q in self.questions]
        target = np.array([self.targets.index(value) for value in values])
        total, count = np.zeros((2, context.max() + 1, len(self.targets)))
        np.add.at(total, (context, target), ratings)
        np.add.at(count, (context, target), 1)
        return total / count
