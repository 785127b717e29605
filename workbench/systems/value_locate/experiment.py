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
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float

from feature_store.errors import BadInput
from feature_store.progress import Progress
from feature_store.records import Instrument, ValueSystem
from feature_store.runs import Work
from sae_training.engine.answers import by_answers
from sae_training.engine.generate import decode, prompt_ids
from sae_training.engine.model import Model
from sae_training.engine.neurons import Group, NeuronEdit, Neurons, answer, percentiles
from sae_training.engine.scoring import sweep_ids
from workbench.measuring.questions import Question, expected_ratings, option_texts
from workbench.systems.value_locate.descriptions import POLES, Descriptions
from workbench.systems.value_locate.effects import Planned
from workbench.systems.value_locate.locate import Located, Shares, amounts, locate, shares

TEXTS = 16
"""Neutral texts read together."""


@dataclass(frozen=True, eq=False)
class Found:
    """The neurons of one value."""

    value: str
    """Id of the value."""
    own: Located
    """Its target and opposing neurons."""
    controls: tuple[Located, ...]
    """Draws of the control."""
    u: Float[np.ndarray, " neuron"]
    """Scale of each neuron's edit, over all neurons; 0 for those in no set [activation units, or
    a share]."""
    poles: tuple[Shares, Shares]
    """Shares under the value and under its reverse, over all neurons."""

    def edit(
        self, planned: Planned, dropout: float, seed: int, groups: Sequence[Group]
    ) -> NeuronEdit:
        """What the engine does to the neurons."""
        located = self.controls[planned.draw] if planned.condition == "random" else self.own
        located = located.reverse() if planned.condition == "reversed" else located
        return NeuronEdit(
            neurons=places(groups, located.neuron),
            add=amounts(located, self.u[located.neuron], planned.gamma),
            opposing=located.opposing,
            dropout=dropout,
            seed=seed,
        )

    def rows(self, groups: Sequence[Group]) -> list[dict[str, Any]]:
        """Rows of `neurons`."""
        held, denied = self.poles
        where = places(groups, self.own.neuron)
        reach = 1.96 * np.sqrt(held.error**2 + denied.error**2)
        return [
            {
                "value": self.value,
                "layer": groups[group].layer,
                "neuron": int(index),
                "role": "target" if delta > 0 else "opposing",
                "p_value": float(held.share[n]),
                "p_reversed": float(denied.share[n]),
                "delta": float(delta),
                "low": float(delta - reach[n]),
                "high": float(delta + reach[n]),
                "tokens_value": held.tokens,
                "tokens_reversed": denied.tokens,
                "u": float(self.u[n]),
            }
            for n, delta, group, index in zip(
                self.own.neuron, self.own.delta, where.group, where.index, strict=True
            )
        ]


def group_of(groups: Sequence[Group]) -> np.ndarray:
    """Group of every neuron, group by group [neuron]."""
    return np.repeat(np.arange(len(groups)), [group.width for group in groups])


def places(groups: Sequence[Group], neurons: np.ndarray) -> Neurons:
    """Neurons numbered over all groups, as group and place within it."""
    starts = np.concatenate([[0], np.cumsum([group.width for group in groups])])
    group = np.searchsorted(starts, neurons, side="right") - 1
    return Neurons(group, neurons - starts[group])


def answer_all(
    work: Work,
    model: Model,
    groups: Sequence[Group],
    values: Sequence[str],
    told: Descriptions,
    n: int,
    new_tokens: int,
    temperature: float,
    seed: int,
    progress: Progress,
) -> None:
    """Parts `neuron_answers`, `counts` and `tokens`, two a value; those that an interrupted run
    kept are not made again.
    """
    jobs = [(value, pole) for value in values for pole in POLES]
    for number, (value, pole) in enumerate(jobs):
        if number not in work.done("neuron_answers"):
            asked = told.asked(value, pole, n, seed)
            found = answer(
                model,
                groups,
                prompt_ids(model, [one.prompt for one in asked]),
                new_tokens,
                temperature,
                seed,
            )
            active = np.concatenate(found.active, axis=1).astype(np.int64)
            tokens = found.tokens.astype(np.int64)
            work.part(
                "counts",
                number,
                pa.table(
                    {
                        "active": active.sum(0),
                        "squares": (active**2).sum(0),
                        "products": tokens @ active,
                    }
                ),
            )
            work.part(
                "tokens",
                number,
                pa.table(
                    {"prompt": found.prompts, "new": pa.array(found.new, pa.list_(pa.int64()))}
                ),
            )
            work.part(
                "neuron_answers",
                number,
                pa.table(
                    {
                        "value": [value] * n,
                        "pole": [pole] * n,
                        "answer": np.arange(n, dtype=np.int32),
                        "description": [one.description for one in asked],
                        "question": [one.question for one in asked],
                        "prompt": [one.prompt for one in asked],
                        "text": decode(model, found.prompts, found.new),
                        "tokens": found.tokens,
                    }
                ),
            )
        progress("answering", number + 1, len(jobs))


def find(
    work: Work,
    model: Model,
    groups: Sequence[Group],
    number: int,
    value: str,
    top: int,
    least: float,
    draws: int,
    u: Literal["percentile", "share"],
    seed: int,
) -> Found:
    """The neurons of `value`, whose answers are parts 2 `number` and 2 `number` + 1."""
    parts = [2 * number, 2 * number + 1]
    poles = []
    for part in parts:
        counts = work.kept("counts", part)
        poles.append(
            shares(
                *(counts[name].to_numpy() for name in ("active", "squares", "products")),
                work.kept("neuron_answers", part)["tokens"].to_numpy().astype(np.int64),
            )
        )
    held, denied = poles
    own = locate(held.share - denied.share, top, least)
    group, alive = group_of(groups), (held.share > 0) | (denied.share > 0)
    controls = tuple(own.control(group, alive, seed + 1 + draw) for draw in range(draws))
    scale = np.zeros(len(group))
    used = np.unique(np.concatenate([own.neuron, *(control.neuron for control in controls)]))
    if u == "share":
        scale[used] = np.maximum(held.share, denied.share)[used]
    else:
        kept = pa.concat_tables(work.kept("tokens", part) for part in parts)
        scale[used] = percentiles(
            model, groups, kept["prompt"].to_pylist(), kept["new"].to_pylist(), places(groups, used)
        )
    return Found(value=value, own=own, controls=controls, u=scale, poles=(held, denied))


@dataclass(frozen=True, eq=False)
class Bench:
    """What every edit is measured with."""

    model: Model
    instrument: Instrument
    asked: Sequence[Question]
    """The instrument's questions, under every context."""
    neutral: Sequence[str]
    """Texts whose loss is the damage."""
    system: ValueSystem
    """In which ratings are told."""

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """Values of the system that the instrument measures, in circle order."""
        measured = {self.system.resolve(q.item.value) for q in self.asked}
        return tuple(value for value in self.system.ids if value in measured)

    @cached_property
    def _options(self) -> list[tuple[list[int], list[list[int]], list[list[int]]]]:
        """(questions, their tokens, options as tokens) for each way in which the options are
        tokenized.
        """
        prompts = [q.prompt for q in self.asked]
        ids = prompt_ids(self.model, prompts)
        return [
            (rows, [ids[row] for row in rows], options)
            for rows, options in by_answers(
                self.model, prompts, ids, option_texts(self.instrument, self.model)
            )
        ]

    @cached_property
    def _texts(self) -> list[list[int]]:
        texts = [ids[: self.model.context] for ids in self.model.tokenize(self.neutral)]
        if short := [k + 1 for k, ids in enumerate(texts) if len(ids) < 2]:
            raise BadInput(
                f"Neutral text {short[0]} has fewer than two tokens, so it has no loss. Drop it."
            )
        return texts

    def ratings(self) -> Float[np.ndarray, " question"]:
        """Expected rating of every question [1 to number of options]."""
        logprobs = np.empty((len(self.asked), len(self.instrument.options)))
        for rows, ids, options in self._options:
            logprobs[rows] = sweep_ids(self.model, ids, options).base.double().numpy()
        return expected_ratings(logprobs, self.asked)

    def losses(self) -> Float[np.ndarray, " text"]:
        """Mean next-token loss of every neutral text [nats a token]."""
        found = []
        for start in range(0, len(self._texts), TEXTS):
            some = self._texts[start : start + TEXTS]
            width = max(map(len, some))
            ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in some])
            mask = torch.arange(width) < torch.tensor([[len(row)] for row in some])
            found.append(self.model.loss(ids, mask).double().cpu().numpy())
        return np.concatenate(found)

    def fold(self, ratings: Float[np.ndarray, " question"]) -> Float[np.ndarray, "context target"]:
        """Mean rating of each value under each context [rating points]."""
        context = np.array([q.context for q in self.asked])
        target = np.array(
            [self.targets.index(self.system.resolve(q.item.value)) for q in self.asked]
        )
        total, count = np.zeros((2, context.max() + 1, len(self.targets)))
        np.add.at(total, (context, target), ratings)
        np.add.at(count, (context, target), 1)
        return total / count
