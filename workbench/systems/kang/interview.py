"""Interviews: every role answers its items, unsteered, under each steering, and after outright
instructions; resumable.

1. `ask` writes what one role is asked. On the organism instructions and roles are both documents,
   so they stand side by side.
2. `measure` takes a few roles at a time. Log-probabilities of all steerings come from one sweep of
   the engine; written answers are generated steering by steering and read by `roles.read`.
3. Every answer is a row, whatever became of it; every prompt is kept.

Left out: what the answers mean (`metrics.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from feature_store.errors import BadInput
from feature_store.progress import (
    Progress,
    StageProgress,
    missing_chunks,
    silent_stage,
    stage,
)
from feature_store.records import Instrument, Site, Steering, Value
from feature_store.work import Work
from workbench import material
from workbench.llm import Judge
from workbench.measuring.questions import Question, expected_ratings, option_texts, questions
from workbench.systems.kang import roles
from workbench.systems.kang.roles import Answer, Items, Role

if TYPE_CHECKING:  # torch is loaded when a model is, not when the flags are read
    from sae_training.engine.model import Model
    from sae_training.model.edits import Edit

Mode = Literal["generate", "yes-no", "rating"]
CHUNK = 4
"""Roles between two checkpoints."""
ORDERS: dict[int, str] = {1: "held", -1: "rejected"}
"""Kinds of outright instruction."""


@dataclass(frozen=True)
class RoleInterview:
    """What is asked of which roles, and how the answers are obtained."""

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
    """What is done to the model, or said to it, before a role answers."""

    kind: str
    """`none`, `feature`, `random-direction`, `held` or `rejected`."""
    feature: int
    """0-based feature index, number of a random direction, -1 otherwise."""
    steering: Steering
    """What is done to the residual; the base where nothing is."""


UNSTEERED = Treatment("none", -1, Steering())


@dataclass(frozen=True)
class SteeredModel:
    """A live model, and the treatments under which it answers."""

    model: "Model"
    """The model as it is."""
    site: Site
    """Place on its residual stream that is edited."""
    edit: "Edit | None"
    """One row for each treatment; None where the model answers unsteered alone."""
    treatments: Sequence[Treatment]
    """What each row of the edit is."""


def ask(
    interview: RoleInterview, role: Role, value: Value | None = None, sign: int = 0
) -> list[Question]:
    """Write the questions of a role.

    With `value` they are those of this value's items alone, after an instruction to hold (sign +1)
    or reject (-1) it.
    """
    order = roles.inclination(interview.model, value, sign, interview.seed) if value else ""
    items = [
        item
        for item in roles.items_for(role, interview.items, interview.sample, interview.seed)
        if value is None or item.value == value.id
    ]
    # To the organism role and instruction are both documents: they stand side by side.
    between = " " if interview.model == material.ORGANISM else "\n"
    before = between.join(text for text in (role.text, order) if text)
    name = ORDERS[sign] if value else interview.mode
    if interview.mode == "rating":
        instrument = replace(interview.instrument, items=tuple(items))
        rated = questions(instrument, [before], [interview.wording])
        return [replace(question, context=role.number, wording=name) for question in rated]
    thought = interview.mode == "generate"
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


def ask_ordered(interview: RoleInterview, role: Role) -> list[Question]:
    """Write the questions of a role after every outright instruction, value by value."""
    return [
        question
        for value in interview.items.values
        for sign in ORDERS
        for question in ask(interview, role, value, sign)
    ]


def measure(
    work: Work,
    interview: RoleInterview,
    steered: SteeredModel,
    progress: Progress,
    judge: Judge | None = None,
) -> tuple[pa.Table, pa.Table]:
    """Interview every role, a few at a time; gives rows of `kang_answers` and of `prompts`.

    Roles that an earlier, interrupted call has finished are not asked again.
    """
    from sae_training.engine.generate import prompt_ids

    for role in interview.roles:  # a prompt that is too long is refused before any role is asked
        prompt_ids(steered.model, [question.prompt for question in ask(interview, role)])
    done, shown = work.done("kang_answers", "prompts"), stage(progress, "asking roles")
    for number, rows, chunk_shown in missing_chunks(done, len(interview.roles), CHUNK, shown):
        people = [interview.roles[row] for row in rows]
        prompts, answers = _measure_roles(interview, steered, people, chunk_shown, judge)
        work.part("prompts", number, pa.Table.from_pylist(prompts))
        work.part("kang_answers", number, pa.Table.from_pylist(answers))
    return work.parts("kang_answers"), work.parts("prompts")


RoleQuestion = tuple[Role, Question]
"""A question and the role to which it is put."""


def _measure_roles(
    interview: RoleInterview,
    steered: SteeredModel,
    people: Sequence[Role],
    progress: StageProgress,
    judge: Judge | None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Interview a few roles; gives rows of `prompts` and of `kang_answers`."""
    plain = [(role, question) for role in people for question in ask(interview, role)]
    ordered = [
        (role, question)
        for role in people
        if role.split == "test"
        for question in ask_ordered(interview, role)
    ]
    answers = _answers(interview, steered, plain, progress, judge)
    rows = _answer_rows(plain, [UNSTEERED, *steered.treatments], answers, interview.mode)
    if ordered:
        # What is answered after outright instructions is answered unsteered.
        unsteered = replace(steered, edit=None)
        for kind in ORDERS.values():
            of_kind = [(role, question) for role, question in ordered if question.wording == kind]
            answers = _answers(interview, unsteered, of_kind, silent_stage, judge)
            treatment = Treatment(kind, -1, Steering())
            rows += _answer_rows(of_kind, [treatment], answers, interview.mode)
    return [_prompt_row(question) for _, question in plain + ordered], rows


def _answers(
    interview: RoleInterview,
    steered: SteeredModel,
    pairs: Sequence[RoleQuestion],
    progress: StageProgress,
    judge: Judge | None,
) -> list[list[Answer]]:
    """Obtain the answers unsteered, then under each row of the edit [1 + treatment][question]."""
    import torch

    from sae_training.engine import scoring
    from sae_training.model.overflow import not_finite

    model, edit = steered.model, steered.edit
    prompts = [question.prompt for _, question in pairs]
    if interview.mode == "generate":
        texts = [model.generate(prompts, interview.max_new_tokens)]
        if edit is not None:
            for row in range(edit.rows):
                with model.steered(edit.take(torch.tensor([row])), steered.site):
                    texts.append(model.generate(prompts, interview.max_new_tokens))
        statements = [question.item.text for _, question in pairs]
        return [roles.read(written, statements, judge) for written in texts]
    options = [" yes", " no"]
    if interview.mode == "rating":
        options = option_texts(interview.instrument, model)
    scores = scoring.sweep(model, prompts, options, edit, steered.site, progress)
    by_treatment = torch.cat([scores.base[None], scores.steered]).double().numpy()
    if not np.isfinite(by_treatment[0]).all():
        raise not_finite(model, "Unsteered", steered=False)
    if not np.isfinite(by_treatment).all():
        raise BadInput("Under some steering the model gives NaN. Use a smaller coef.")
    rated = [question for _, question in pairs]
    return [_by_logprob(logprobs, rated, interview.mode) for logprobs in by_treatment]


def _by_logprob(
    logprobs: Float[np.ndarray, "question option"], rated: Sequence[Question], mode: Mode
) -> list[Answer]:
    """Read answers off the log-probabilities of yes and no, or of an instrument's options."""
    if mode == "yes-no":
        return roles.from_yes_no(logprobs)
    return roles.from_ratings(expected_ratings(logprobs, rated), logprobs.shape[1])


def _prompt_row(question: Question) -> dict[str, Any]:
    """Give the row of the relation `prompts`."""
    return {
        "context": question.context,
        "item": question.item.id,
        "wording": question.wording,
        "order": question.order,
        "value": question.item.value,
        "prompt": question.prompt,
    }


def _answer_rows(
    pairs: Sequence[RoleQuestion],
    treatments: Sequence[Treatment],
    answers: Sequence[Sequence[Answer]],
    mode: Mode,
) -> list[dict[str, Any]]:
    """Give the rows of the relation `kang_answers`; `answers` is [treatment][question]."""
    rows = []
    for treatment, under_treatment in zip(treatments, answers, strict=True):
        for (role, question), answer in zip(pairs, under_treatment, strict=True):
            item = question.item
            # Expected ratings have their reverse-keyed items turned round already.
            agreement = 1 if mode == "rating" else item.key
            rows.append(
                {
                    "split": role.split,
                    "role": role.number,
                    "kind": treatment.kind,
                    "feature": treatment.feature,
                    "item": item.id,
                    "value": item.value,
                    "agreement": item.key,
                    "score": answer.score * agreement,
                    "status": answer.status,
                    "reader": answer.reader,
                    "text": answer.text,
                }
            )
    return rows
