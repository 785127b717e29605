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

Action and theta are in `causal/counterfactual.py`. `Switches` leave out one part each. A reply that
cannot be read, or a prompt that the model's context does not hold, ends its question there, with
its status. Ours where the paper is silent: which value a concept stems from is asked together with
the concepts, and scores are compared on the rubric's whole steps.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
    """Which parts of the structural model are at work; each can be left out by itself."""

    abduction: bool = True
    """Use the original answer: its concepts, residual and how its values led to them."""
    concepts: bool = True
    """Make concepts between values and response; else the response is planned from the values
    themselves."""
    importance: bool = True
    """Sigma: order concepts by importance and say so."""


@dataclass(frozen=True)
class AnsweredQuestion:
    """A question and an answer to it."""

    id: str
    """Id of the question."""
    question: str
    """What is asked."""
    response: str
    """The answer: observed, or counterfactual."""


@dataclass(frozen=True)
class Exogenous:
    """What abduction takes from an answer: what its values show, and what they do not explain."""

    observed: AnsweredQuestion
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
    """Id of the question."""
    step: str
    """What is asked or worked out here."""
    value: str
    """Id of the value that it is about; empty for none."""
    prompt: str
    """What the language model was asked; empty where it was worked out."""
    text: str
    """What it replied."""
    reading: str
    """What the reply says, as JSON."""
    status: Status
    """Whether the reply could be read."""
    llm: str
    """Name of the language model; empty where the step was worked out."""


class Dialogue:
    """Asks a language model and keeps every step."""

    def __init__(self, llm: LLM, steps: list[Step], progress: Progress = silent) -> None:
        """Ask `llm`, and append what becomes of it to `steps`."""
        self.llm = llm
        self.steps = steps
        self.progress = progress

    def ask(
        self,
        step: str,
        about: Sequence[tuple[str, str]],
        prompts: Sequence[str],
        read: Callable[[str], Any],
    ) -> list[Any]:
        """Put prompts to the language model and read each reply; None where it cannot be read.

        `about` gives the (question id, value id) of each prompt. A prompt too long for the model is
        not cut and has no reply.
        """
        readings = []
        for start in range(0, len(prompts), CHUNK):
            chunk = slice(start, start + CHUNK)
            conversations = [ask(prompt) for prompt in prompts[chunk]]
            replies = ask_fitting(self.llm, conversations, max_new_tokens=TOKENS)
            for (question, value), prompt, reply in zip(
                about[chunk], prompts[chunk], replies, strict=True
            ):
                reading, status = _read(reply, read)
                self.steps.append(
                    Step(
                        question=question,
                        step=step,
                        value=value,
                        prompt=prompt,
                        text=reply or "",
                        reading=json.dumps(reading, ensure_ascii=False),
                        status=status,
                        llm=self.llm.name,
                    )
                )
                readings.append(reading)
            self.progress(step, start + len(conversations), len(prompts))
        return readings

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


def _read(reply: str | None, read: Callable[[str], Any]) -> tuple[Any, Status]:
    """Read a reply: what it says, None where it says nothing, and its status.

    A reply of None means that the prompt was too long to be asked.
    """
    if reply is None:
        return None, "too-long"
    refused = is_refusal(reply)
    # A long reply with "I cannot" somewhere is an answer.
    if refused and len(reply.split()) < REFUSAL_WORDS:
        return None, "refused"
    reading = read(reply)
    if reading is not None:
        return reading, "parsed"
    return None, "refused" if refused else "unparsed"


def score(
    dialogue: Dialogue,
    answers: Sequence[AnsweredQuestion],
    values: Sequence[str],
    system: ValueSystem,
    step: str = "score",
) -> list[dict[str, float] | None]:
    """Have every value in each answer scored by the rubric, all values rated together.

    Gives value id -> score [1 to 5] for each answer, None where the reply could not be read.
    """
    prompts = [say.scores(a.question, a.response, values, system) for a in answers]
    return dialogue.ask(step, [(a.id, "") for a in answers], prompts, say.read_scores(system))


Relations = Mapping[tuple[str, str], Relation]
"""G: (value id, value id) -> how the two are related; a pair that is not in it is irrelevant."""


class TextSCM:
    """The structural model over text, a `StructuralModel` of `causal/counterfactual.py`."""

    def __init__(
        self, dialogue: Dialogue, system: ValueSystem, relations: Relations, switches: Switches
    ) -> None:
        """Simulate the model by a language model; `relations` is G."""
        self.dialogue = dialogue
        self.system = system
        self.relations = relations
        self.switches = switches

    def abduct(self, observed: Sequence[AnsweredQuestion]) -> list[Exogenous | None]:
        """Take scores, concepts and residual from each answer; None where a reply was not read."""
        values = set(self.system.ids)
        scores: dict[int, dict[str, float]] = {}
        for number, reading in enumerate(
            score(self.dialogue, observed, self.system.ids, self.system)
        ):
            if reading is not None and values <= set(reading):
                scores[number] = reading
        concepts: dict[int, list[say.Concept]] = {number: [] for number in scores}
        residuals = dict.fromkeys(scores, "")
        if self.switches.abduction:
            scored = {number: observed[number] for number in scores}
            concepts = self._concepts(scored)
            residuals = self._residuals(scored, concepts)
        return [
            Exogenous(
                observed=answer,
                scores=scores[number],
                concepts=tuple(concepts[number]),
                residual=residuals[number],
            )
            if number in residuals
            else None
            for number, answer in enumerate(observed)
        ]

    def predict(
        self, exogenous: Sequence[Exogenous], objectives: Sequence[Objective]
    ) -> list[AnsweredQuestion | None]:
        """Give each question with its counterfactual answer; None where a reply was not read."""
        changed = [_changed(e, o) for e, o in zip(exogenous, objectives, strict=True)]
        for e, objective in zip(exogenous, objectives, strict=True):
            self.dialogue.note(e.observed.id, "action", "", dict(objective.targets))
        ideas = self._ideas(exogenous, objectives, changed)
        rows = [number for number, changes in enumerate(changed) if changes]
        plans = self._plans({i: exogenous[i] for i in rows}, ideas)
        responses = self._responses({i: exogenous[i] for i in rows}, plans)
        outcomes: list[AnsweredQuestion | None] = []
        for number, (e, changes) in enumerate(zip(exogenous, changed, strict=True)):
            if not changes:
                # The terms that were abducted give back what they were abducted from.
                outcomes.append(e.observed)
            elif number in responses:
                outcomes.append(replace(e.observed, response=responses[number]))
            else:
                outcomes.append(None)
        return outcomes

    def _concepts(self, answers: Mapping[int, AnsweredQuestion]) -> dict[int, list[say.Concept]]:
        """Ask for the concepts of each answer; number of the answer -> concepts, where read."""
        prompts = {
            number: say.concepts(a.question, a.response, self.system)
            for number, a in answers.items()
        }
        return self._ask("concepts", answers, prompts, say.read_concepts(self.system))

    def _residuals(
        self,
        answers: Mapping[int, AnsweredQuestion],
        concepts: Mapping[int, Sequence[say.Concept]],
    ) -> dict[int, str]:
        """Ask what the concepts leave over of each answer; number -> residual, where read."""
        prompts = {
            number: say.residual(answers[number].question, answers[number].response, ideas)
            for number, ideas in concepts.items()
        }
        return self._ask("residual", answers, prompts, say.read_residual)

    def _ideas(
        self,
        exogenous: Sequence[Exogenous],
        objectives: Sequence[Objective],
        changed: Sequence[Mapping[str, int]],
    ) -> dict[int, list[str]]:
        """Give the ideas that each new answer rests on, most important first.

        Gives number of the answer -> ideas, where all of them were read.
        """
        if not self.switches.concepts:
            return {
                number: [say.idea_line(objective, value, self.system) for value in objective.values]
                for number, objective in enumerate(objectives)
            }
        new_ideas = self._new_ideas(exogenous, objectives, changed)
        ideas = {}
        for number, changes in enumerate(changed):
            made = new_ideas[number]
            if changes and all(idea is not None for idea in made.values()):
                ideas[number] = self._ordered(exogenous[number], objectives[number], changes, made)
        return ideas

    def _new_ideas(
        self,
        exogenous: Sequence[Exogenous],
        objectives: Sequence[Objective],
        changed: Sequence[Mapping[str, int]],
    ) -> list[dict[str, str | None]]:
        """Ask for one idea for each value that changes and is not to be absent: value -> idea."""
        places, prompts = [], []
        for number, (e, objective) in enumerate(zip(exogenous, objectives, strict=True)):
            for value, target in changed[number].items():
                if target == ABSENT:
                    continue
                places.append((number, value))
                prompts.append(
                    say.concept(
                        e.observed.question,
                        value,
                        target,
                        say.PastReasoning(e.scores, e.concepts),
                        self._interplay(value, target, objective),
                        self.system,
                    )
                )
        about = [(exogenous[number].observed.id, value) for number, value in places]
        readings = self.dialogue.ask("concept", about, prompts, say.read_idea)
        made: list[dict[str, str | None]] = [{} for _ in exogenous]
        for (number, value), reading in zip(places, readings, strict=True):
            made[number][value] = reading
        return made

    def _ordered(
        self,
        exogenous: Exogenous,
        objective: Objective,
        changed: Mapping[str, int],
        made: Mapping[str, str | None],
    ) -> list[str]:
        """Put the concepts that stay and the new ideas in order, and note what became of each."""
        question = exogenous.observed.id
        for value in changed:
            for idea, source in exogenous.concepts:
                if source == value:
                    self.dialogue.note(question, "dropped", value, idea)
        ideas = [(idea, value) for idea, value in exogenous.concepts if value not in changed]
        for idea, value in ideas:
            self.dialogue.note(question, "kept", value, idea)
        ideas += [(str(idea), value) for value, idea in made.items()]
        if self.switches.importance:
            weights = dict(exogenous.scores) | dict(objective.targets)
            # What stems from no value comes last; values of one weight in the objective's order,
            # then the circle's.
            order = [*objective.values, *self.system.ids, ""]
            ideas.sort(key=lambda pair: (-weights.get(pair[1], 0.0), order.index(pair[1])))
        return [idea for idea, _ in ideas]

    def _interplay(self, value: str, weight: int, objective: Objective) -> list[str]:
        """Say what the other values of the objective do to this one's concept, by G."""
        lines = []
        for other, target in objective.targets:
            if other == value:
                continue
            relation = self.relations.get((value, other), "irrelevant")
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

    def _plans(
        self, exogenous: Mapping[int, Exogenous], ideas: Mapping[int, list[str]]
    ) -> dict[int, str]:
        """Ask for stance and key points of each new answer; number -> plan, where read."""
        answers, prompts = {}, {}
        for number, e in exogenous.items():
            if number not in ideas:
                continue
            answers[number] = e.observed
            original = e.observed.response if self.switches.abduction else ""
            prompts[number] = say.outline(
                e.observed.question,
                ideas[number] or ["(no idea in particular)"],
                self.switches.importance,
                original,
            )
        return self._ask("outline", answers, prompts, say.read_text)

    def _responses(
        self, exogenous: Mapping[int, Exogenous], plans: Mapping[int, str]
    ) -> dict[int, str]:
        """Ask for each new answer; number -> answer, where read."""
        answers = {number: exogenous[number].observed for number in plans}
        prompts = {
            number: say.response(answers[number].question, plan, exogenous[number].residual)
            for number, plan in plans.items()
        }
        return self._ask("response", answers, prompts, say.read_text)

    def _ask(
        self,
        step: str,
        answers: Mapping[int, AnsweredQuestion],
        prompts: Mapping[int, str],
        read: Callable[[str], Any],
    ) -> dict[int, Any]:
        """Put one prompt an answer; number of the answer -> what the reply says, where read."""
        about = [(answers[number].id, "") for number in prompts]
        readings = self.dialogue.ask(step, about, list(prompts.values()), read)
        return {
            number: reading
            for number, reading in zip(prompts, readings, strict=True)
            if reading is not None
        }


def _changed(exogenous: Exogenous, objective: Objective) -> dict[str, int]:
    """Find the values whose step on the rubric changes: value id -> its new step."""
    changed = {}
    for value, target in objective.targets:
        step = say.rounded(target)
        if step != say.rounded(exogenous.scores[value]):
            changed[value] = step
    return changed


def circle_relations(system: ValueSystem) -> dict[tuple[str, str], Relation]:
    """Read G off the circle: congruent up to 60 degrees, opposite from 120, irrelevant between."""
    relations: dict[tuple[str, str], Relation] = {}
    for a in system.ids:
        for b in system.ids:
            degrees = np.degrees(system.distance(a, b))
            relations[a, b] = "irrelevant"
            if degrees <= 60 + 1e-9:
                relations[a, b] = "congruent"
            elif degrees >= 120 - 1e-9:
                relations[a, b] = "opposite"
    return relations


def graph_relations(
    values: Sequence[str], direct: Float[np.ndarray, "source target"]
) -> dict[tuple[str, str], Relation]:
    """Read G off an estimated graph: the sign of the larger total effect between two values.

    `direct` holds the effects of the edges. Two values are irrelevant to each other where the
    effect is below the smallest of interest.
    """
    total = np.linalg.inv(np.eye(len(values)) - direct)
    relations: dict[tuple[str, str], Relation] = {}
    for i, a in enumerate(values):
        for j, b in enumerate(values):
            effect = max(total[i, j], total[j, i], key=abs)
            relations[a, b] = "irrelevant"
            if abs(effect) >= SMALLEST:
                relations[a, b] = "congruent" if effect > 0 else "opposite"
    return relations
