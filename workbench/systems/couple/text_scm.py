"""COUPLE: counterfactual answers of a language model to questions about values (Guo et al. 2025).
LLM-simulated.

The structural model is `v, q -> c_v` (concepts; noise eps1) and `c_v, q -> r` (response; noise
eps2), with G, which pairs of values are congruent, opposite or irrelevant to each other, and Sigma,
their order of importance.

1. *Abduction*: the concepts C_r of the response, each with its value; what they leave over of it
   (eps2); the scores v' of all values together. That v' led to C_r stands in for eps1 and is shown
   whenever a concept is made.
2. *Prediction*: each value whose score changes gets one new concept; an opposed value that weighs
   more holds it back, a congruent one is blended in. A value wanted at 2 (absent) loses its
   concept. Concepts of values that stay, or are not in the objective, stay. Then stance and key
   points from concepts and the original answer, then the answer from these and eps2.
3. Where no score changes, no concept does, and the response is the original: do(V = v') gives r by
   construction.

Action and theta are in `counterfactual.py`. `Switches` leave out one part each. A reply that cannot
be read, or a prompt that the model's context does not hold, ends its question there, with its
status. Ours where the paper is silent: which value a concept stems from is asked together with the
concepts, and scores are compared on the rubric's whole steps.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from feature_store.progress import Progress, silent
from feature_store.records import Status, ValueSystem
from workbench.causal.counterfactual import Objective
from workbench.causal.graph import SMALLEST
from workbench.llm import LLM, ask, ask_fitting
from workbench.llm.reading import is_refusal
from workbench.systems.couple import texts as say

Relation = Literal["congruent", "opposite", "irrelevant"]
TOKENS = 320
"""Longest reply [tokens]."""
CHUNK = 32
"""Replies between two marks of progress."""
REFUSAL_WORDS = 40
"""A reply of so many words is no refusal [words]."""
ABSENT = 2
"""Score of the rubric at which a value plays no part."""


@dataclass(frozen=True)
class Switches:
    abduction: bool = True
    """Use the original answer: its concepts, residual and how its values led to them."""
    concepts: bool = True
    """Make concepts between values and response; else the response is planned from the values
    themselves."""
    importance: bool = True
    """Sigma: order concepts by importance and say so."""


@dataclass(frozen=True)
class Asked:
    id: str
    """Id of the question."""
    question: str
    """What is asked."""
    response: str
    """The answer that was observed."""


@dataclass(frozen=True)
class Exogenous:
    asked: Asked
    """Question and observed answer."""
    scores: Mapping[str, float]
    """v': value id -> score of the answer [1 to 5]."""
    concepts: tuple[say.Concept, ...]
    """C_r: (idea, value id) pairs; with v' the proxy of eps1."""
    residual: str
    """eps2: what the concepts leave over of the answer."""


@dataclass(frozen=True)
class Step:
    """One row of the relation `couple_steps`, less its number."""

    question: str
    step: str
    value: str
    prompt: str
    text: str
    reading: str
    status: Status
    llm: str


class Interview:
    """Asks a language model and keeps every step; a reply that is refused or cannot be read is
    None.
    """

    def __init__(self, llm: LLM, steps: list[Step], progress: Progress = silent) -> None:
        self.llm, self.steps, self.progress = llm, steps, progress

    def ask(
        self,
        step: str,
        about: Sequence[tuple[str, str]],
        prompts: Sequence[str],
        read: Callable[[str], Any],
    ) -> list[Any]:
        """What each reply says; `about` gives the (question id, value id) of each prompt. A
        prompt too long for the model is not cut and has no reply.
        """
        found = []
        for start in range(0, len(prompts), CHUNK):
            part = [ask(prompt) for prompt in prompts[start : start + CHUNK]]
            for (question, value), (message,), reply in zip(
                about[start : start + CHUNK],
                part,
                ask_fitting(self.llm, part, max_new_tokens=TOKENS),
                strict=True,
            ):
                text = reply or ""
                # A long reply with "I cannot" somewhere is an answer.
                reading = (
                    None
                    if reply is None or (is_refusal(text) and len(text.split()) < REFUSAL_WORDS)
                    else read(text)
                )
                status: Status = (
                    "parsed"
                    if reading is not None
                    else (
                        "too-long"
                        if reply is None
                        else "refused"
                        if is_refusal(text)
                        else "unparsed"
                    )
                )
                self.steps.append(
                    Step(
                        question=question,
                        step=step,
                        value=value,
                        prompt=message.content,
                        text=text,
                        reading=json.dumps(reading, ensure_ascii=False),
                        status=status,
                        llm=self.llm.name,
                    )
                )
                found.append(reading)
            self.progress(step, start + len(part), len(prompts))
        return found

    def note(self, question: str, step: str, value: str, reading: Any) -> None:
        """Keep a step that was worked out, not asked."""
        self.steps.append(
            Step(
                question=question,
                step=step,
                value=value,
                prompt="",
                text="",
                reading=json.dumps(reading, ensure_ascii=False),
                status="parsed",
                llm="",
            )
        )


def score(
    interview: Interview,
    answers: Sequence[Asked],
    values: Sequence[str],
    system: ValueSystem,
    step: str = "score",
) -> list[dict[str, float] | None]:
    """The rubric score of every value in each answer, all rated together; None where nothing was
    read.
    """
    prompts = [say.scores(a.question, a.response, values, system) for a in answers]
    return interview.ask(step, [(a.id, "") for a in answers], prompts, say.read_scores(system))


class TextSCM:
    """The structural model over text; `relations` is G."""

    def __init__(
        self,
        interview: Interview,
        system: ValueSystem,
        relations: Mapping[tuple[str, str], Relation],
        switches: Switches,
    ) -> None:
        self.interview, self.system, self.relations, self.switches = (
            interview,
            system,
            relations,
            switches,
        )

    def abduct(self, observed: Sequence[Asked]) -> list[Exogenous | None]:
        """Scores, concepts and residual of each answer; None where a reply was not read."""
        values = self.system.ids
        scores = score(self.interview, observed, values, self.system)
        known = [
            number
            for number, found in enumerate(scores)
            if found is not None and set(values) <= set(found)
        ]
        ideas: dict[int, Any] = {number: [] for number in known}
        rest: dict[int, Any] = dict.fromkeys(known, "")
        if self.switches.abduction:
            seen = [observed[i] for i in known]
            prompts = [say.concepts(a.question, a.response, self.system) for a in seen]
            ideas = dict(
                zip(
                    known,
                    self._ask("concepts", seen, prompts, say.read_concepts(self.system)),
                    strict=True,
                )
            )
            known = [i for i in known if ideas[i] is not None]
            seen = [observed[i] for i in known]
            prompts = [
                say.residual(observed[i].question, observed[i].response, ideas[i]) for i in known
            ]
            rest = dict(
                zip(known, self._ask("residual", seen, prompts, say.read_residual), strict=True)
            )
        return [
            (
                Exogenous(
                    asked=asked,
                    scores=scores[i],
                    concepts=tuple(map(tuple, ideas[i])),
                    residual=rest[i],
                )
                if rest.get(i) is not None
                else None
            )
            for i, asked in enumerate(observed)
        ]

    def predict(
        self, exogenous: Sequence[Exogenous], objectives: Sequence[Objective]
    ) -> list[Asked | None]:
        """Each question with its counterfactual answer; None where a reply was not read."""
        changed = [self._changed(e, o) for e, o in zip(exogenous, objectives, strict=True)]
        for e, objective in zip(exogenous, objectives, strict=True):
            self.interview.note(e.asked.id, "action", "", dict(objective.targets))
        ideas = self._ideas(exogenous, objectives, changed)
        # Without a change, the terms that were abducted give back what they were abducted from.
        out: list[Asked | None] = [
            e.asked if not c else None for e, c in zip(exogenous, changed, strict=True)
        ]
        rows = [i for i, c in enumerate(changed) if c and ideas[i] is not None]
        asked = [exogenous[i].asked for i in rows]
        original = [a.response if self.switches.abduction else "" for a in asked]
        prompts = [
            say.outline(
                a.question, ideas[i] or ["(no idea in particular)"], self.switches.importance, text
            )
            for i, a, text in zip(rows, asked, original, strict=True)
        ]
        plans = self._ask("outline", asked, prompts, say.read_text)
        planned = [(i, plan) for i, plan in zip(rows, plans, strict=True) if plan is not None]
        asked = [exogenous[i].asked for i, _ in planned]
        prompts = [
            say.response(a.question, plan, exogenous[i].residual)
            for a, (i, plan) in zip(asked, planned, strict=True)
        ]
        for (i, _), a, text in zip(
            planned, asked, self._ask("response", asked, prompts, say.read_text), strict=True
        ):
            out[i] = None if text is None else Asked(a.id, a.question, text)
        return out

    def _changed(self, exogenous: Exogenous, objective: Objective) -> dict[str, int]:
        """Values whose step on the rubric changes, with the new one."""
        return {
            v: say.rounded(t)
            for v, t in objective.targets
            if say.rounded(t) != say.rounded(exogenous.scores[v])
        }

    def _ideas(
        self,
        exogenous: Sequence[Exogenous],
        objectives: Sequence[Objective],
        changed: Sequence[Mapping[str, int]],
    ) -> list[list[str] | None]:
        """The ideas that each new answer rests on, most important first; None where one was not
        read.
        """
        if not self.switches.concepts:
            return [
                [say.idea_line(o, value, self.system) for value in o.values] for o in objectives
            ]
        wanted = [
            (i, value)
            for i, change in enumerate(changed)
            for value in change
            if change[value] != ABSENT
        ]
        prompts = [
            say.concept(
                exogenous[i].asked.question,
                value,
                changed[i][value],
                exogenous[i].scores,
                exogenous[i].concepts,
                self._interplay(value, changed[i][value], objectives[i]),
                self.system,
            )
            for i, value in wanted
        ]
        about = [(exogenous[i].asked.id, value) for i, value in wanted]
        made = dict(
            zip(wanted, self.interview.ask("concept", about, prompts, say.read_idea), strict=True)
        )
        return [
            (
                self._ordered(e, o, c, {value: made[i, value] for value in c if (i, value) in made})
                if c
                else []
            )
            for i, (e, o, c) in enumerate(zip(exogenous, objectives, changed, strict=True))
        ]

    def _ordered(
        self,
        exogenous: Exogenous,
        objective: Objective,
        changed: Mapping[str, int],
        made: Mapping[str, str | None],
    ) -> list[str] | None:
        if any(idea is None for idea in made.values()):
            return None
        weights = dict(exogenous.scores) | dict(objective.targets)
        ideas = [
            (idea, value, "kept") for idea, value in exogenous.concepts if value not in changed
        ]
        for value in changed:
            for idea, source in exogenous.concepts:
                if source == value:
                    self.interview.note(exogenous.asked.id, "dropped", value, idea)
        for idea, value, step in ideas:
            self.interview.note(exogenous.asked.id, step, value, idea)
        ideas += [(str(idea), value, "concept") for value, idea in made.items()]
        if self.switches.importance:
            # What stems from no value comes last; values of one weight in the objective's order,
            # then the circle's.
            order = [*objective.values, *self.system.ids, ""]
            ideas.sort(key=lambda row: (-weights.get(row[1], 0.0), order.index(row[1])))
        return [idea for idea, _, _ in ideas]

    def _interplay(self, value: str, weight: int, objective: Objective) -> list[str]:
        """What the other values of the objective do to this one's concept, by G."""
        lines = []
        for other, target in objective.targets:
            relation = (
                self.relations.get((value, other), "irrelevant") if other != value else "irrelevant"
            )
            name = self.system[other].name
            if relation == "opposite" and target > weight:
                lines.append(
                    f"{name} weighs {target:g} and pulls the other way: hold the idea back."
                )
            elif relation == "congruent" and say.rounded(target) > ABSENT:
                lines.append(
                    f"{name} weighs {target:g} and points the same way: let the idea serve both."
                )
        return lines

    def _ask(
        self, step: str, asked: Sequence[Asked], prompts: Sequence[str], read: Callable[[str], Any]
    ) -> list[Any]:
        return self.interview.ask(step, [(a.id, "") for a in asked], prompts, read)


def circle_relations(system: ValueSystem) -> dict[tuple[str, str], Relation]:
    """G from the circle: congruent up to 60 degrees, opposite from 120, irrelevant between."""
    found: dict[tuple[str, str], Relation] = {}
    for a in system.ids:
        for b in system.ids:
            degrees = np.degrees(system.distance(a, b))
            found[a, b] = (
                "congruent"
                if degrees <= 60 + 1e-9
                else "opposite"
                if degrees >= 120 - 1e-9
                else "irrelevant"
            )
    return found


def graph_relations(
    values: Sequence[str], direct: Float[np.ndarray, "source target"]
) -> dict[tuple[str, str], Relation]:
    """G from an estimated graph: the sign of the larger total effect between two values,
    irrelevant below the smallest of interest.
    """
    total = np.linalg.inv(np.eye(len(values)) - direct)
    found: dict[tuple[str, str], Relation] = {}
    for i, a in enumerate(values):
        for j, b in enumerate(values):
            effect = max(total[i, j], total[j, i], key=abs)
            found[a, b] = (
                "irrelevant"
                if abs(effect) < SMALLEST
                else "congruent"
                if effect > 0
                else "opposite"
            )
    return found
