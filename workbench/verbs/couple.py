"""Rewrite a language model's answers towards a value profile by counterfactual reasoning, and score
them. LLM-simulated.

1. Each question gets an objective: the target's values that it bears on, at most five, in order of
   their score.
2. Three answers a question: `raw`; `value-prompt`, where the target is simply stated (what COUPLE
   must beat); and `couple`, the counterfactual of the raw one (`causal/couple.py`).
3. A judge scores every value in every answer, twice, the second time in reverse order: how far the
   two agree bounds what the scores can say. Distance to the target is MAE and Spearman over the
   objective's values, with intervals over questions.
4. Every reply goes through `answers.jsonl` of the study, so an interrupted run goes on, and nothing
   is paid for twice.

Left out: whether people with these values would answer so. Nobody was asked.
"""

import dataclasses
import hashlib
import itertools
import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Annotated, Literal

import numpy as np

from feature_store.bounds import MANY, Between, NotNegative, Replicates, Seed
from feature_store.errors import BadInput
from feature_store.progress import Progress
from feature_store.records import Run, ValueSystem
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
from workbench.llm.answered import CachedLLM
from workbench.llm.endpoint import Endpoint, Limits
from workbench.settings import plain
from workbench.statistics.intervals import bootstrap_mean
from workbench.systems.couple import texts as say
from workbench.systems.couple.text_scm import (
    Asked,
    Interview,
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


@dataclasses.dataclass(frozen=True)
class CoupleSettings:
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
    theta: float = 2.0
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


def run(study: Workspace, config: CoupleSettings, progress: Progress) -> Run:
    """A run of kind `couple`."""
    if not config.llm:
        raise BadInput(
            "Which language model? Name it with --llm: local:FOLDER-OR-HUB-ID, or"
            " https://host/v1#model."
        )
    limits = Limits(
        concurrency=config.concurrency,
        per_minute=config.per_minute,
        timeout=config.timeout,
        input_price=config.input_price,
        output_price=config.output_price,
    )
    asked, scores = (
        targets.questions(config.questions, study.system),
        targets.target_scores(config.target, config.presets, config.preset, study.system),
    )
    graph_run = study.resolve("graph", config.graph) if config.relations == "graph" else None
    writer = open_llm(config.llm, study.model, limits)
    marker = open_llm(config.judge, study.model, limits) if config.judge else writer
    told = hashlib.sha256(repr([asked, sorted(scores.items())]).encode()).hexdigest()
    inputs = {"llm": writer.name, "judge": marker.name, "texts": told} | (
        {"graph": graph_run.id} if graph_run else {}
    )
    # How fast it was asked and at what price changes no answer.
    same = dataclasses.replace(
        config,
        graph=graph_run.id if graph_run else "",
        concurrency=4,
        per_minute=0.0,
        timeout=120.0,
        input_price=0.0,
        output_price=0.0,
    )
    if study.runs.exists(id := study.runs.find("couple", plain(same), inputs, config.seed)):
        return study.runs.get(id)
    with study.runs.begin("couple", plain(same), inputs, config.seed) as work:
        file = study.folder / "answers.jsonl"
        llm = CachedLLM(writer, file)
        judge = llm if marker is writer else CachedLLM(marker, file)
        steps: list[Step] = []
        talk, rating = Interview(llm, steps, progress), Interview(judge, steps, progress)
        objectives = _objectives(talk, asked, scores, study.system)
        relations = {} if config.relations == "none" else circle_relations(study.system)
        if graph_run:
            scm = read_scm(study, graph_run)[0]
            relations = graph_relations(scm.values, scm.direct)
        model = TextSCM(
            talk,
            study.system,
            relations,
            Switches(config.abduction, config.concepts, config.importance),
        )
        answers = {
            c: _answers(talk, c, asked, objectives, study.system) for c in ("raw", "value-prompt")
        }
        ready = [q.id for q in asked if q.id in answers["raw"]]
        found = dict(
            zip(
                ready,
                counterfactuals(
                    model,
                    [answers["raw"][q] for q in ready],
                    [objectives[q] for q in ready],
                    config.theta,
                ),
                strict=True,
            )
        )
        answers["couple"] = {q: c.outcome for q, c in found.items() if c.outcome is not None}
        for q, c in found.items():
            if c.exogenous is not None and not c.intervened:
                talk.note(q, "action", "", {})
        marks = {c: _marks(rating, c, answers[c], study.system) for c in CONDITIONS}
        long = [step for step in steps if step.status == "too-long"]
        if len(long) == sum(bool(step.prompt) for step in steps):
            raise BadInput(
                f"None of the {len(long)} prompts fits into what {writer.name} reads (the first:"
                f" {long[0].step} of question {long[0].question}). Name a model with a longer"
                " context, or ask shorter questions."
            )
        rows = _answer_rows(asked, objectives, answers, found, marks, steps, writer, marker)
        work.table("couple_answers", rows)
        work.table(
            "couple_scores",
            _score_rows(objectives, marks, study.system, marker.name),
            sort=("question", "condition"),
        )
        work.table("couple_steps", _step_rows(steps), sort=("question", "number"))
        metrics = _metrics(rows, config)
        work.table("couple_metrics", metrics)
        agreement = _agreement(marks, marker.name)
        summary = {
            "answered_by": "LLM-simulated",
            "questions": len(asked),
            "intervened": sum(c.intervened for c in found.values()),
            "unread": sum(row["status"] != "parsed" for row in rows),
            "too_long": len(long),
            "too_long_questions": _first({s.question: 1 for s in long}),
        }
        summary |= {
            f"{m['metric']}_{m['condition']}": m["estimate"]
            for m in metrics
            if m["condition"] in CONDITIONS
        }
        summary |= agreement | {"own_work_marked": writer.name == marker.name}
        summary |= _spent([llm] if judge is llm else [llm, judge])
        return work.finish(summary)


def _objectives(
    talk: Interview,
    asked: Sequence[targets.EverydayQuestion],
    scores: dict[str, float],
    system: ValueSystem,
) -> dict[str, Objective]:
    """Question id -> what it sets; questions whose relevant values could not be read are left
    out.
    """
    chosen = {q.id: tuple(v for v in q.values if v in scores) or tuple(scores) for q in asked}
    many = [q for q in asked if len(chosen[q.id]) > MOST]
    prompts = [say.relevance(q.text, tuple(scores), system) for q in many]
    read = talk.ask(
        "relevance", [(q.id, "") for q in many], prompts, say.read_values(tuple(scores), system)
    )
    chosen |= {q.id: found for q, found in zip(many, read, strict=True)}
    return {
        question: Objective(
            tuple(sorted(((v, scores[v]) for v in values), key=lambda pair: -pair[1]))
        )
        for question, values in chosen.items()
        if values is not None
    }


def _answers(
    talk: Interview,
    condition: str,
    asked: Sequence[targets.EverydayQuestion],
    objectives: dict[str, Objective],
    system: ValueSystem,
) -> dict[str, Asked]:
    """Question id -> the answer under a condition, where there is one."""
    rows = [q for q in asked if q.id in objectives]
    given = {q.id: Asked(q.id, q.text, q.answer) for q in rows if q.answer and condition == "raw"}
    rows = [q for q in rows if q.id not in given]
    prompts = [
        (
            say.raw(q.text)
            if condition == "raw"
            else say.value_prompt(q.text, objectives[q.id], system)
        )
        for q in rows
    ]
    read = talk.ask(condition, [(q.id, "") for q in rows], prompts, say.read_text)
    return given | {
        q.id: Asked(q.id, q.text, text)
        for q, text in zip(rows, read, strict=True)
        if text is not None
    }


Marks = dict[str, tuple[dict[str, float], dict[str, float]]]
"""Question id -> scores of its answer, read in the circle's order and in reverse."""


def _marks(
    rating: Interview, condition: str, answers: dict[str, Asked], system: ValueSystem
) -> Marks:
    rows = list(answers.values())
    once = score(rating, rows, system.ids, system, f"score {condition}")
    again = score(rating, rows, system.ids[::-1], system, f"again {condition}")
    return {row.id: (a or {}, b or {}) for row, a, b in zip(rows, once, again, strict=True)}


def _answer_rows(
    asked: Sequence[targets.EverydayQuestion],
    objectives: dict[str, Objective],
    answers: dict[str, dict[str, Asked]],
    found: dict[str, Counterfactual],
    marks: dict[str, Marks],
    steps: Sequence[Step],
    writer: LLM,
    marker: LLM,
) -> list[dict]:
    failures = {
        (step.question, step.step): step for step in reversed(steps) if step.status != "parsed"
    }
    rows = []
    for question, condition in itertools.product(asked, CONDITIONS):
        own, objective = answers[condition].get(question.id), objectives.get(question.id)
        scores = marks[condition].get(question.id, ({}, {}))[0]
        scored = objective is not None and set(objective.values) <= set(scores)
        unread = [
            failures[question.id, step]
            for step in STEPS[condition]
            if (question.id, step) in failures
        ]
        # A reply that was read and lacks a value fails no step by itself: then it was the scoring.
        failed = unread[0] if unread else None
        about = found.get(question.id) if condition == "couple" else None
        rows.append(
            {
                "question": question.id,
                "asked": question.text,
                "condition": condition,
                "text": own.response if own else "",
                "status": "parsed" if scored else failed.status if failed else "unparsed",
                "failed": "" if scored else failed.step if failed else "score",
                "distance": known(about.distance) if about else None,
                "intervened": bool(about and about.intervened),
                "mae": mae(scores, objective) if scored else None,
                "spearman": known(spearman(scores, objective)) if scored else None,
                "simulated_by": writer.name,
                "scored_by": marker.name,
            }
        )
    return rows


def _score_rows(
    objectives: dict[str, Objective], marks: dict[str, Marks], system: ValueSystem, judge: str
) -> list[dict]:
    return [
        {
            "question": question,
            "condition": condition,
            "value": value,
            "score": once.get(value),
            "again": again.get(value),
            "target": dict(objectives[question].targets).get(value),
            "scored_by": judge,
        }
        for condition, of in marks.items()
        for question, (once, again) in of.items()
        for value in system.ids
    ]


def _step_rows(steps: Sequence[Step]) -> list[dict]:
    seen: Counter[str] = Counter()
    rows = []
    for step in steps:
        rows.append(dataclasses.asdict(step) | {"number": seen[step.question]})
        seen[step.question] += 1
    return rows


def known(number: float | np.ndarray) -> float | None:
    """None for NaN: SQL leaves a NULL out of averages and comparisons, and a NaN not."""
    return float(number) if np.isfinite(number) else None


def _metrics(rows: Sequence[dict], config: CoupleSettings) -> list[dict]:
    """Means over questions, and COUPLE's paired difference from each of the others."""
    found = []
    for metric in ("mae", "spearman"):
        of = {
            c: np.array([row[metric] for row in rows if row["condition"] == c], float)
            for c in CONDITIONS
        }
        of |= {f"couple - {c}": of["couple"] - of[c] for c in ("raw", "value-prompt")}
        for name, numbers in of.items():
            interval = bootstrap_mean(numbers, config.replicates, config.seed)
            found.append(
                {
                    "condition": name,
                    "metric": metric,
                    "estimate": known(interval.mean),
                    "low": known(interval.low),
                    "high": known(interval.high),
                    "n": int(interval.n),
                    "missing": int(len(numbers) - interval.n),
                }
            )
    return found


def _agreement(marks: dict[str, Marks], judge: str) -> dict[str, float | int | None]:
    """How far two readings of the same answers differ, each answer once.

    Warns where that is much.
    """
    pairs = [
        (once[v], again[v])
        for of in marks.values()
        for once, again in of.values()
        for v in once
        if v in again
    ]
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
    return ", ".join(list(questions)[:5]) + (", ..." if len(questions) > 5 else "")


def _spent(cached: Sequence[CachedLLM]) -> dict[str, float | int]:
    """What was asked this time, and the endpoints' own count of it."""
    used = [c.llm.usage for c in cached if isinstance(c.llm, Endpoint)]
    spent = {
        "asked_now": sum(c.asked for c in cached),
        "tokens_read": sum(u.read for u in used),
        "tokens_written": sum(u.written for u in used),
    }
    return spent | {"cost": sum(u.cost for u in used), "uncounted": sum(u.uncounted for u in used)}
