"""Rewrite a language model's answers towards a value profile by counterfactual reasoning, and score
them. LLM-simulated.

1. Each question gets an objective: the target's values that it bears on, at most five, in order of
   their score.
2. Three answers a question: `raw`; `value-prompt`, where the target is simply stated (what COUPLE
   must beat); and `couple`, the counterfactual of the raw one (`text_scm.py`).
3. A judge scores every value in every answer, twice, the second time in reverse order: how far the
   two agree bounds what the scores can say. Distance to the target is MAE and Spearman over the
   objective's values, with intervals over questions.
4. Every reply goes through `answers.jsonl` of the study, so an interrupted run goes on, and nothing
   is paid for twice.

Left out: whether people with these values would answer so. Nobody was asked.
"""

import hashlib
import itertools
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np

from feature_store.bounds import MANY, Between, NotNegative, Replicates, Seed
from feature_store.errors import BadInput
from feature_store.progress import Progress
from feature_store.records import Run, ValueSystem
from feature_store.work import Work
from workbench.causal import targets
from workbench.causal.counterfactual import (
    MOST,
    Counterfactual,
    Objective,
    counterfactuals,
    mae,
    spearman,
)
from workbench.causal.linear_scm import read_scm
from workbench.llm import LLM, open_llm
from workbench.llm.cached import CachedLLM, answered_as
from workbench.llm.endpoint import Endpoint, Limits
from workbench.llm.reading import RULES
from workbench.statistics.intervals import bootstrap_mean
from workbench.systems.couple import texts as say
from workbench.systems.couple.text_scm import (
    AnsweredQuestion,
    Dialogue,
    Relation,
    Step,
    Switches,
    TextSCM,
    circle_relations,
    graph_relations,
    score,
)
from workbench.workspace import Workspace

CONDITIONS = ("raw", "value-prompt", "couple")
STEPS = {
    "raw": ("relevance", "raw", "score raw"),
    "value-prompt": ("relevance", "value-prompt", "score value-prompt"),
    "couple": (
        "relevance",
        "raw",
        "score",
        "concepts",
        "residual",
        "concept",
        "outline",
        "response",
        "score couple",
    ),
}
"""Condition -> the steps without which it has no scored answer."""
UNSTEADY = 0.5
"""Mean difference of two readings of one answer above which the judge is warned of [rubric
points]."""


@dataclass(frozen=True)
class CoupleSettings:
    """Which model answers which questions, and towards which profile it is moved."""

    llm: str = ""
    """Language model that answers: organism, local:FOLDER-OR-HUB-ID, or https://host/v1#model
    (http on this machine)."""
    judge: str = ""
    """Language model that scores the answers, named likewise; empty: the same, which then marks
    its own work."""
    questions: str = ""
    """TOML file of questions, or text with one a line; empty: the shipped ones."""
    target: tuple[str, ...] = ()
    """Wanted scores, each as value=score [1 to 5]; none: those of `preset`."""
    presets: str = ""
    """TOML or CSV file of presets; empty: the shipped ones."""
    preset: str = "caring"
    """Name of the preset, where no target is given."""
    theta: NotNegative = 2.0
    """Nothing is changed where the answer is this near to the target [rubric points, summed over
    the values set]."""
    abduction: bool = True
    """Use the original answer's concepts and residual; without it answers are made anew."""
    concepts: bool = True
    """Go from values to the answer by way of concepts."""
    importance: bool = True
    """Order the concepts by importance (Sigma)."""
    relations: Literal["circle", "graph", "none"] = "circle"
    """Which values oppose each other (G): by the circle, by a graph run's total effects, or not
    at all."""
    graph: str = "latest"
    """Run of the graph, for relations=graph."""
    concurrency: Annotated[int, Between(1, 1000)] = 4
    """Requests to an endpoint at once."""
    per_minute: NotNegative = 0.0
    """Requests to an endpoint a minute; 0: no limit."""
    timeout: Annotated[float, Between(0.001, MANY)] = 120.0
    """Longest wait for one answer [s]."""
    input_price: NotNegative = 0.0
    """Price of what the endpoint reads [currency per million tokens]."""
    output_price: NotNegative = 0.0
    """Price of what it writes [currency per million tokens]."""
    replicates: Replicates = 1000
    """Bootstrap replicates over questions."""
    seed: Seed = 0
    """Seed of the bootstrap."""


@dataclass(frozen=True)
class _Task:
    """What is asked, of whom, and who marks it."""

    questions: list[targets.EverydayQuestion]
    """Questions that are answered."""
    scores: dict[str, float]
    """Value id -> wanted score [1 to 5]."""
    writer: LLM
    """Language model that answers."""
    marker: LLM
    """Language model that scores; the same object where it marks its own work."""

    @property
    def digest(self) -> str:
        """SHA-256 of questions and target."""
        texts = repr([self.questions, sorted(self.scores.items())])
        return hashlib.sha256(texts.encode()).hexdigest()


Marks = dict[str, tuple[dict[str, float], dict[str, float]]]
"""Question id -> scores of its answer, read in the circle's order and in reverse."""


@dataclass(frozen=True)
class _Results:
    """All that was answered and scored."""

    questions: list[targets.EverydayQuestion]
    """Questions that were asked."""
    objectives: dict[str, Objective]
    """Question id -> what it sets."""
    answers: dict[str, dict[str, AnsweredQuestion]]
    """Condition -> question id -> the answer, where there is one."""
    rewritten: dict[str, Counterfactual]
    """Question id -> how its counterfactual answer came about."""
    marks: dict[str, Marks]
    """Condition -> scores of its answers."""
    steps: list[Step]
    """Every reply and what was made of it, in order."""
    writer: str
    """Name of the language model that answered."""
    marker: str
    """Name of the one that scored."""

    @property
    def too_long(self) -> list[Step]:
        """Steps whose prompt was longer than the language model reads."""
        return [step for step in self.steps if step.status == "too-long"]


def run(study: Workspace, settings: CoupleSettings, progress: Progress) -> Run:
    """Make a run of kind `couple`."""
    if not settings.llm:
        raise BadInput(
            "Which language model? Name it with --llm: local:FOLDER-OR-HUB-ID, or"
            " https://host/v1#model."
        )
    limits = Limits(
        concurrency=settings.concurrency,
        per_minute=settings.per_minute,
        timeout=settings.timeout,
        input_price=settings.input_price,
        output_price=settings.output_price,
    )
    questions = targets.questions(settings.questions, study.system)
    scores = targets.target_scores(settings.target, settings.presets, settings.preset, study.system)
    graph = study.resolve("graph", settings.graph).id if settings.relations == "graph" else ""
    writer = open_llm(settings.llm, study.model, limits)
    marker = open_llm(settings.judge, study.model, limits) if settings.judge else writer
    task = _Task(questions=questions, scores=scores, writer=writer, marker=marker)
    inputs = {"llm": writer.name, "judge": marker.name, "texts": task.digest}
    inputs["reading"] = RULES
    if graph:
        inputs["graph"] = graph
    pinned = _without_limits(replace(settings, graph=graph))
    return study.make("couple", pinned, inputs, partial(_build, study, pinned, task, progress))


def _without_limits(settings: CoupleSettings) -> CoupleSettings:
    """Give the settings that name a run: how fast it is asked, and the price, change no answer."""
    usual = CoupleSettings()
    return replace(
        settings,
        concurrency=usual.concurrency,
        per_minute=usual.per_minute,
        timeout=usual.timeout,
        input_price=usual.input_price,
        output_price=usual.output_price,
    )


def _build(
    study: Workspace, settings: CoupleSettings, task: _Task, progress: Progress, work: Work
) -> dict[str, Any]:
    """Ask everything, write the run's tables, and give its figures."""
    file = study.folder / "answers.jsonl"
    writer = CachedLLM(task.writer, file)
    marker = writer if task.marker is task.writer else CachedLLM(task.marker, file)
    results = _answer(study, settings, task, (writer, marker), progress)
    _refuse_too_long(results)
    rows = _answer_rows(results)
    metrics = _metrics(rows, settings)
    work.table("couple_answers", rows)
    work.table("couple_scores", _score_rows(results, study.system), sort=("question", "condition"))
    work.table("couple_steps", _step_rows(results.steps), sort=("question", "number"))
    work.table("couple_metrics", metrics)
    figures = {
        "answered_by": "LLM-simulated",
        "questions": len(results.questions),
        "intervened": sum(c.intervened for c in results.rewritten.values()),
        "unread": sum(row["status"] != "parsed" for row in rows),
        "too_long": len(results.too_long),
        "too_long_questions": _first({step.question: 1 for step in results.too_long}),
    }
    for row in metrics:
        if row["condition"] in CONDITIONS:
            figures[f"{row['metric']}_{row['condition']}"] = row["estimate"]
    figures |= _agreement(results.marks, marker.name)
    figures["own_work_marked"] = writer.name == marker.name
    figures |= answered_as(writer, marker)
    return figures | _spent([writer] if marker is writer else [writer, marker])


# Asking


def _answer(
    study: Workspace,
    settings: CoupleSettings,
    task: _Task,
    llms: tuple[LLM, LLM],
    progress: Progress,
) -> _Results:
    """Ask the questions in every condition, and have the answers scored."""
    system = study.system
    steps: list[Step] = []
    writing, marking = (Dialogue(llm, steps, progress) for llm in llms)
    objectives = _objectives(writing, task, system)
    switches = Switches(
        abduction=settings.abduction, concepts=settings.concepts, importance=settings.importance
    )
    model = TextSCM(writing, system, _relations(study, settings), switches)
    answers = {
        condition: _answers(writing, condition, task.questions, objectives, system)
        for condition in ("raw", "value-prompt")
    }
    observed = [q.id for q in task.questions if q.id in answers["raw"]]
    outcomes = counterfactuals(
        model,
        [answers["raw"][id] for id in observed],
        [objectives[id] for id in observed],
        settings.theta,
    )
    rewritten = dict(zip(observed, outcomes, strict=True))
    answers["couple"] = {}
    for id, counterfactual in rewritten.items():
        if counterfactual.outcome is not None:
            answers["couple"][id] = counterfactual.outcome
        if counterfactual.exogenous is not None and not counterfactual.intervened:
            writing.note(id, "action", "", {})
    return _Results(
        questions=task.questions,
        objectives=objectives,
        answers=answers,
        rewritten=rewritten,
        marks={c: _marks(marking, c, answers[c], system) for c in CONDITIONS},
        steps=steps,
        writer=task.writer.name,
        marker=task.marker.name,
    )


def _relations(study: Workspace, settings: CoupleSettings) -> dict[tuple[str, str], Relation]:
    """Give G, which values oppose each other and which agree."""
    if settings.relations == "none":
        return {}
    if settings.relations == "circle":
        return circle_relations(study.system)
    scm = read_scm(study, study.resolve("graph", settings.graph))[0]
    return graph_relations(scm.values, scm.direct)


def _objectives(writing: Dialogue, task: _Task, system: ValueSystem) -> dict[str, Objective]:
    """Give what each question sets, by its id.

    The language model chooses among more than five values; questions where its choice could not be
    read are left out.
    """
    wanted = tuple(task.scores)
    chosen: dict[str, Sequence[str] | None] = {}
    for question in task.questions:
        relevant = tuple(value for value in question.values if value in task.scores)
        chosen[question.id] = relevant or wanted
    many = [q for q in task.questions if len(chosen[q.id] or ()) > MOST]
    prompts = [say.relevance(question.text, wanted, system) for question in many]
    readings = writing.ask(
        "relevance", [(q.id, "") for q in many], prompts, say.read_values(wanted, system)
    )
    for question, reading in zip(many, readings, strict=True):
        chosen[question.id] = reading
    objectives = {}
    for id, values in chosen.items():
        if values is not None:
            pairs = [(value, task.scores[value]) for value in values]
            objectives[id] = Objective(targets=tuple(sorted(pairs, key=lambda pair: -pair[1])))
    return objectives


def _answers(
    writing: Dialogue,
    condition: str,
    questions: Sequence[targets.EverydayQuestion],
    objectives: Mapping[str, Objective],
    system: ValueSystem,
) -> dict[str, AnsweredQuestion]:
    """Obtain the answers under a condition, by question id; unread ones are left out.

    A question may bring its raw answer along.
    """
    answers, left = {}, []
    for question in questions:
        if question.id not in objectives:
            continue
        if question.answer and condition == "raw":
            answers[question.id] = AnsweredQuestion(question.id, question.text, question.answer)
        else:
            left.append(question)
    prompts = []
    for question in left:
        if condition == "raw":
            prompts.append(say.raw(question.text))
        else:
            prompts.append(say.value_prompt(question.text, objectives[question.id], system))
    readings = writing.ask(condition, [(q.id, "") for q in left], prompts, say.read_text)
    for question, text in zip(left, readings, strict=True):
        if text is not None:
            answers[question.id] = AnsweredQuestion(question.id, question.text, text)
    return answers


def _marks(
    marking: Dialogue,
    condition: str,
    answers: Mapping[str, AnsweredQuestion],
    system: ValueSystem,
) -> Marks:
    """Have every answer scored twice, the second time with the values in reverse order."""
    rows = list(answers.values())
    first = score(marking, rows, system.ids, system, f"score {condition}")
    again = score(marking, rows, system.ids[::-1], system, f"again {condition}")
    return {row.id: (a or {}, b or {}) for row, a, b in zip(rows, first, again, strict=True)}


def _refuse_too_long(results: _Results) -> None:
    """Raise BadInput where the language model could read none of the prompts."""
    long = results.too_long
    if len(long) == sum(bool(step.prompt) for step in results.steps):
        raise BadInput(
            f"None of the {len(long)} prompts fits into what {results.writer} reads (the first:"
            f" {long[0].step} of question {long[0].question}). Name a model with a longer"
            " context, or ask shorter questions."
        )


# Rows and figures


def _answer_rows(results: _Results) -> list[dict[str, Any]]:
    """Give the rows of the relation `couple_answers`."""
    failures: dict[tuple[str, str], Step] = {}
    for step in results.steps:
        if step.status != "parsed":
            failures.setdefault((step.question, step.step), step)
    rows = []
    for question, condition in itertools.product(results.questions, CONDITIONS):
        answer = results.answers[condition].get(question.id)
        row: dict[str, Any] = {
            "question": question.id,
            "asked": question.text,
            "condition": condition,
            "text": answer.response if answer else "",
            "distance": None,
            "intervened": False,
            "simulated_by": results.writer,
            "scored_by": results.marker,
        }
        if condition == "couple" and question.id in results.rewritten:
            counterfactual = results.rewritten[question.id]
            row["distance"] = _number(counterfactual.distance)
            row["intervened"] = bool(counterfactual.intervened)
        rows.append(row | _score_cells(results, question.id, condition, failures))
    return rows


def _score_cells(
    results: _Results, question: str, condition: str, failures: Mapping[tuple[str, str], Step]
) -> dict[str, Any]:
    """Give the cells of `couple_answers` that say how near an answer came, or where it failed."""
    objective = results.objectives.get(question)
    scores = results.marks[condition].get(question, ({}, {}))[0]
    if objective is not None and set(objective.values) <= set(scores):
        return {
            "status": "parsed",
            "failed": "",
            "mae": mae(scores, objective),
            "spearman": _number(spearman(scores, objective)),
        }
    # A reply that was read and lacks a value fails no step by itself: then it was the scoring.
    status, failed = "unparsed", "score"
    unread = [step for step in STEPS[condition] if (question, step) in failures]
    if unread:
        failure = failures[question, unread[0]]
        status, failed = failure.status, failure.step
    return {"status": status, "failed": failed, "mae": None, "spearman": None}


def _score_rows(results: _Results, system: ValueSystem) -> list[dict[str, Any]]:
    """Give the rows of the relation `couple_scores`."""
    rows = []
    for condition, marks in results.marks.items():
        for question, (first, again) in marks.items():
            wanted = dict(results.objectives[question].targets)
            for value in system.ids:
                rows.append(
                    {
                        "question": question,
                        "condition": condition,
                        "value": value,
                        "score": first.get(value),
                        "again": again.get(value),
                        "target": wanted.get(value),
                        "scored_by": results.marker,
                    }
                )
    return rows


def _step_rows(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Give the rows of the relation `couple_steps`, numbered within each question."""
    seen: Counter[str] = Counter()
    rows = []
    for step in steps:
        rows.append(asdict(step) | {"number": seen[step.question]})
        seen[step.question] += 1
    return rows


def _number(number: float | np.ndarray) -> float | None:
    """Give None for NaN: SQL leaves a NULL out of averages and comparisons, and a NaN not."""
    return float(number) if np.isfinite(number) else None


def _metrics(rows: Sequence[dict[str, Any]], settings: CoupleSettings) -> list[dict[str, Any]]:
    """Give means over questions, and COUPLE's paired difference from each of the others."""
    metrics = []
    for metric in ("mae", "spearman"):
        columns = {}
        for condition in CONDITIONS:
            cells = [row[metric] for row in rows if row["condition"] == condition]
            columns[condition] = np.array(cells, float)
        for condition in ("raw", "value-prompt"):
            columns[f"couple - {condition}"] = columns["couple"] - columns[condition]
        for name, numbers in columns.items():
            interval = bootstrap_mean(numbers, settings.replicates, settings.seed)
            metrics.append(
                {
                    "condition": name,
                    "metric": metric,
                    "estimate": _number(interval.mean),
                    "low": _number(interval.low),
                    "high": _number(interval.high),
                    "n": int(interval.n),
                    "missing": int(len(numbers) - interval.n),
                }
            )
    return metrics


def _agreement(marks_of: Mapping[str, Marks], judge: str) -> dict[str, float | int | None]:
    """Say how far two readings of the same answers differ, each answer once.

    Warns where that is much.
    """
    pairs = []
    for marks in marks_of.values():
        for first, again in marks.values():
            pairs += [(first[value], again[value]) for value in first if value in again]
    if not pairs:
        return {"judge_difference": None, "judge_pairs": 0}
    difference = float(np.mean([abs(a - b) for a, b in pairs]))
    if difference > UNSTEADY:
        warnings.warn(
            f"{judge} moves its own scores by {difference:.2f} points on average when the values"
            f" are listed in reverse ({len(pairs)} pairs); differences of this size between"
            " conditions say nothing.",
            stacklevel=2,
        )
    return {"judge_difference": difference, "judge_pairs": len(pairs)}


def _first(questions: Collection[str]) -> str:
    """Name the first five questions."""
    return ", ".join(list(questions)[:5]) + (", ..." if len(questions) > 5 else "")


def _spent(cached: Sequence[CachedLLM]) -> dict[str, float | int]:
    """Count what was asked this time, and give the endpoints' own count of it."""
    used = [c.llm.usage for c in cached if isinstance(c.llm, Endpoint)]
    spent = {
        "asked_now": sum(c.asked for c in cached),
        "tokens_read": sum(u.read for u in used),
        "tokens_written": sum(u.written for u in used),
    }
    return spent | {"cost": sum(u.cost for u in used), "uncounted": sum(u.uncounted for u in used)}
