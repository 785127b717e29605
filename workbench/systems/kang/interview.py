"""Interviews: every role answers its items, unsteered, under each steering, and after outright
instructions; resumable.

1. `ask` writes what one role is asked. On the organism instructions and roles are both documents,
   so they stand side by side.
2. `measure` takes a few roles at a time. Log-probabilities of all steerings come from one sweep of
   the engine; written answers are generated steering by steering and read by `roles.read`.
3. Every answer is a row, whatever became of it; every prompt is kept.

Left out: what the answers mean (`causal/kang.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from feature_store.errors import BadInput
from feature_store.progress import Progress
from feature_store.records import Instrument, Point, Site, Steering, Value
from feature_store.runs import Work
from workbench import material
from workbench.llm import Judge
from workbench.measuring.questions import Question, expected_ratings, option_texts, questions
from workbench.systems.kang import roles
from workbench.systems.kang.roles import Answer, Items, Role

if TYPE_CHECKING:
    from sae_training.engine.model import Model
    from sae_training.model.edits import Edit

Mode = Literal["generate", "yes-no", "rating"]
CHUNK = 4
"""Roles between two checkpoints."""
ORDERS: dict[int, str] = {1: "held", -1: "rejected"}
"""Kinds of outright instruction."""


@dataclass(frozen=True)
class Interview:
    model: str
    """Address of the model; the organism is asked in its own words."""
    mode: Mode
    """How answers are obtained."""
    instrument: Instrument
    """Gives wordings and options in mode `rating`."""
    wording: str
    """Name of its wording there."""
    items: Items
    """What is asked."""
    roles: list[Role]
    """Who is asked, no role included."""
    sample: float
    """Share of a value's training items that one training role is asked [0 to 1]."""
    max_new_tokens: int
    """Length of a written answer [tokens]."""
    seed: int
    """Seed of samples and instructions."""


@dataclass(frozen=True)
class Treatment:
    kind: str
    """`none`, `feature`, `random-direction`, `held` or `rejected`."""
    feature: int
    """0-based feature index, number of a random direction, -1 otherwise."""
    steering: Steering
    """What is done to the residual; the base where nothing is."""


UNSTEERED = Treatment("none", -1, Steering())


def ask(told: Interview, role: Role, value: Value | None = None, sign: int = 0) -> list[Question]:
    """The questions of a role; with `value`, those of its items alone, after an instruction to
    hold (+1) or reject (-1) it.
    """
    order = roles.inclination(told.model, value, sign, told.seed) if value else ""
    items = [
        item
        for item in roles.asked_of(role, told.items, told.sample, told.seed)
        if value is None or item.value == value.id
    ]
    before = (" " if told.model == material.ORGANISM else "\n").join(
        filter(None, (role.text, order))
    )
    name = ORDERS[sign] if value else told.mode
    if told.mode == "rating":
        asked = questions(replace(told.instrument, items=tuple(items)), [before], [told.wording])
        return [replace(question, context=role.number, wording=name) for question in asked]
    thought = told.mode == "generate"
    return [
        Question(
            item=item,
            context=role.number,
            wording=name,
            order="ascending",
            prompt=roles.prompt(before, item.text, thought),
        )
        for item in items
    ]


def measure(
    work: Work,
    model: "Model",
    edit: "Edit",
    layer: int,
    point: Point,
    told: Interview,
    treatments: Sequence[Treatment],
    progress: Progress,
    judge: Judge | None = None,
) -> tuple[pa.Table, pa.Table]:
    """`(answers, prompts)`: rows of `kang_answers` and of `prompts`.

    Row i of `edit` is `treatments[i]`. Chunks that an earlier, interrupted call kept are not asked
    again.
    """
    done = work.done("kang_answers")
    for number, start in enumerate(range(0, len(told.roles), CHUNK)):
        some = told.roles[start : start + CHUNK]
        if number not in done:
            asked = [(role, question) for role in some for question in ask(told, role)]
            ordered = [
                (role, question)
                for role in some
                if role.split == "test"
                for value in told.items.values
                for sign in ORDERS
                for question in ask(told, role, value, sign)
            ]
            rows = _rows(
                asked,
                [UNSTEERED, *treatments],
                _answers(model, told, [q for _, q in asked], edit, layer, point, judge),
                told.mode,
            )
            if ordered:
                for kind in ORDERS.values():
                    own = [
                        (role, question) for role, question in ordered if question.wording == kind
                    ]
                    said = _answers(model, told, [q for _, q in own], None, layer, point, judge)
                    rows += _rows(own, [Treatment(kind, -1, Steering())], said, told.mode)
            prompts = [
                {
                    "context": q.context,
                    "item": q.item.id,
                    "wording": q.wording,
                    "order": q.order,
                    "value": q.item.value,
                    "prompt": q.prompt,
                }
                for _, q in asked + ordered
            ]
            work.part("prompts", number, pa.Table.from_pylist(prompts))
            work.part("kang_answers", number, pa.Table.from_pylist(rows))
        progress("asking roles", start + len(some), len(told.roles))
    return work.parts("kang_answers"), work.parts("prompts")


def _answers(
    model: "Model",
    told: Interview,
    asked: Sequence[Question],
    edit: "Edit | None",
    layer: int,
    point: Point,
    judge: Judge | None,
) -> list[list[Answer]]:
    """Answers unsteered, then under each row of `edit` [1 + treatment][question]."""
    import torch

    from sae_training.engine import scoring

    prompts, rows = [q.prompt for q in asked], 0 if edit is None else edit.rows
    if told.mode == "generate":
        texts = [model.generate(prompts, told.max_new_tokens)]
        for row in range(rows):
            with model.steered(edit.take(torch.tensor([row])), Site(layer, point)):
                texts.append(model.generate(prompts, told.max_new_tokens))
        return [roles.read(said, [q.item.text for q in asked], judge) for said in texts]
    options = option_texts(told.instrument, model) if told.mode == "rating" else [" yes", " no"]
    scores = scoring.sweep(model, prompts, options, edit, Site(layer, point))
    whole = torch.cat([scores.base[None], scores.steered]).double().numpy()
    if not np.isfinite(whole).all():
        raise BadInput("Under some steering the model gives NaN. Use a smaller coef.")
    return [_by_logprob(logprobs, asked, told.mode) for logprobs in whole]


def _by_logprob(
    logprobs: Float[np.ndarray, "question option"], asked: Sequence[Question], mode: Mode
) -> list[Answer]:
    if mode == "yes-no":
        return roles.from_yes_no(logprobs)
    return roles.from_ratings(expected_ratings(logprobs, asked), logprobs.shape[1])


def _rows(
    asked: Sequence[tuple[Role, Question]],
    treatments: Sequence[Treatment],
    answers: Sequence[Sequence[Answer]],
    mode: Mode,
) -> list[dict[str, Any]]:
    # Expected ratings have their reverse-keyed items turned round already.
    return [
        {
            "split": role.split,
            "role": role.number,
            "kind": treatment.kind,
            "feature": treatment.feature,
            "item": q.item.id,
            "value": q.item.value,
            "agreement": q.item.key,
            "score": answer.score * (1 if mode == "rating" else q.item.key),
            "status": answer.status,
            "reader": answer.reader,
            "text": answer.text,
        }
        for treatment, said in zip(treatments, answers, strict=True)
        for (role, q), answer in zip(asked, said, strict=True)
    ]
