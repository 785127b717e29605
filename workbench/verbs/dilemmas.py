"""Write moral dilemmas in steps, each choice between two values, for the instrument
`moral-dilemmas` (after Wu et al. 2025).

1. The two values of every step are drawn, all pairs in turn; a norm comes from a file, or the
   writer chooses one.
2. A language model writes; the same one reads every dilemma blind and says what each choice stands
   for. Or the organism's own generator writes, whose truth is planted, and nobody reads.
3. Filters: no word names a value, and the blind reader finds the values that were meant. What is
   filtered, refused or unread stays in the table with the reason.
4. What passed stands in the run's `dilemmas.json`, in the released format: `workbench measure
   --instrument moral-dilemmas --settings items=FILE`.

Answers are kept in the study's `answers.jsonl`, so the same command resumes what was interrupted
and asks nothing twice.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from feature_store.bounds import Between, Count, CountOrZero, Seed, Temperature
from feature_store.errors import BadInput
from feature_store.files import digest
from feature_store.progress import Progress
from feature_store.records import Run, ValueSystem
from feature_store.work import Work
from workbench import organism
from workbench.llm import LLM, Conversation, open_llm, room_for
from workbench.llm.cached import CachedLLM
from workbench.material import ORGANISM, lines
from workbench.systems.value_pilot.dilemmas import (
    InferredPairs,
    Pairs,
    WrittenDilemma,
    infer_prompt,
    leaked,
    pairs,
    read_inferred,
    read_written,
    write_prompt,
)
from workbench.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class DilemmasSettings:
    """Settings of `dilemmas`: who writes how many, of how many steps."""

    llm: str = ""
    """Language model that writes and reads blind: local:FOLDER-OR-HUB-ID or
    https://host/v1#model; or `organism` for that model's own generator."""
    norms: str = ""
    """File with one norm a line, taken in turn; empty: the writer chooses."""
    n: CountOrZero = 20
    """Dilemmas to write."""
    steps: Annotated[int, Between(1, 100)] = 5
    """Steps of a dilemma."""
    temperature: Temperature = 0.7
    """Sampling temperature of the writer; the reader is greedy."""
    new_tokens: Count = 3000
    """Longest answer [tokens]."""
    seed: Seed = 0
    """Seed of the values and of the writer."""


def run(
    study: Workspace, settings: DilemmasSettings, progress: Progress, llm: LLM | None = None
) -> Run:
    """Make a run of kind `dilemmas`. `llm` stands in for the model that `settings.llm` names."""
    name = llm.name if llm else settings.llm
    is_organism = name == ORGANISM
    _check(settings, name, study.system)
    norms = lines(settings.norms) if settings.norms else [""]
    if name.startswith("local:") and not llm:
        # Its files are pinned by the name that it has when it is open.
        llm = open_llm(name, study.model)
    inputs = {"llm": llm.name if llm else name}
    if settings.norms:
        inputs["norms"] = digest(Path(settings.norms))

    def build(work: Work) -> dict[str, Any]:
        """Write the dilemmas, and those that passed as a file of the released format."""
        if is_organism:
            outcomes = _planted(settings)
        else:
            writer = _Writer(
                llm=CachedLLM(llm or open_llm(name, study.model), study.folder / "answers.jsonl"),
                settings=settings,
                progress=progress,
            )
            outcomes = _write(writer, study.system, norms)
        rows = [_row(number, outcome) for number, outcome in enumerate(outcomes)]
        work.table("dilemmas", rows, sort=("number",))
        passed = [
            outcome.written.dilemma
            for outcome, row in zip(outcomes, rows, strict=True)
            if row["passed"]
        ]
        text = json.dumps(passed, ensure_ascii=False, indent=1)
        (work.folder / "dilemmas.json").write_text(text, encoding="utf-8")
        return _summary(rows, name)

    return study.make("dilemmas", dataclasses.replace(settings, llm=name), inputs, build)


def _check(settings: DilemmasSettings, name: str, system: ValueSystem) -> None:
    """Raise BadInput where nobody writes, or where what is asked for cannot be written."""
    if not name:
        raise BadInput("Nobody was told to write. Give --llm with a language model or `organism`.")
    if settings.n < 1 or settings.steps < 1:
        raise BadInput(
            f"At least one dilemma of at least one step is written, got n={settings.n} and"
            f" steps={settings.steps}."
        )
    if name == ORGANISM and (settings.norms or system.ids != organism.truth().values):
        raise BadInput(
            "The organism's dilemmas have no norms and are about Schwartz's ten values. Leave"
            " --norms out, in a study of schwartz10."
        )


@dataclasses.dataclass(frozen=True)
class _Outcome:
    """What became of one dilemma that was asked for."""

    pairs: Pairs
    """Values that the choices were to stand for."""
    source: str
    """Name of the writer."""
    written: WrittenDilemma
    """What was written."""
    answer: str = ""
    """The writer's raw answer."""
    leaks: tuple[str, ...] = ()
    """Words that name a value."""
    inferred: InferredPairs | None = None
    """What the blind reader found; None where nobody read it."""
    inference: str = ""
    """The blind reader's raw answer."""
    is_planted: bool = False
    """Whether the values are planted, so that nobody has to read it blind."""


def _planted(settings: DilemmasSettings) -> list[_Outcome]:
    """Take dilemmas from the organism's own generator."""
    steps = range(1, settings.steps + 1)
    outcomes = []
    for dilemma in organism.dilemmas(settings.n, settings.seed, settings.steps):
        values = [
            (dilemma[f"step {step}_choiceA_value"], dilemma[f"step {step}_choiceB_value"])
            for step in steps
        ]
        written = WrittenDilemma(dilemma, "parsed", "")
        outcomes.append(
            _Outcome(pairs=tuple(values), source=ORGANISM, written=written, is_planted=True)
        )
    return outcomes


@dataclasses.dataclass(frozen=True)
class _Writer:
    """Asks a language model whose answers are kept in the study."""

    llm: CachedLLM
    """The language model."""
    settings: DilemmasSettings
    """Length and seed."""
    progress: Progress
    """Shows how many are answered."""

    def ask(
        self, stage: str, conversations: Sequence[Conversation], temperature: float
    ) -> list[str | None]:
        """Answer conversations; None where a request is too long for the model.

        One at a time, each with a seed of its own: two dilemmas of one norm are two answers.
        """
        room = room_for(self.llm, stage, list(conversations))
        answers: list[str | None] = []
        for number, conversation in enumerate(conversations):
            answer = None
            if room[number]:
                (answer,) = self.llm.chat(
                    [conversation],
                    max_new_tokens=self.settings.new_tokens,
                    temperature=temperature,
                    seed=self.settings.seed + number if temperature else 0,
                )
            answers.append(answer)
            self.progress(stage, number + 1, len(conversations))
        return answers


def _write(writer: _Writer, system: ValueSystem, norms: Sequence[str]) -> list[_Outcome]:
    """Ask for every dilemma, then ask a blind reader what the choices stand for."""
    settings = writer.settings
    wanted = pairs(system, settings.n, settings.steps, settings.seed)
    turn = [norms[number % len(norms)] for number in range(settings.n)]
    prompts = [
        write_prompt(system, values, norm) for values, norm in zip(wanted, turn, strict=True)
    ]
    answers = writer.ask("writing", prompts, settings.temperature)
    too_long = WrittenDilemma(
        None, "too-long", f"The request is longer than {writer.llm.name} reads."
    )
    outcomes = []
    for number, answer in enumerate(answers):
        written = too_long
        if answer is not None:
            written = read_written(answer, wanted[number], f"d{number:04d}", turn[number])
        leaks = leaked(written.dilemma, settings.steps, system) if written.dilemma else ()
        outcomes.append(
            _Outcome(
                pairs=wanted[number],
                source=writer.llm.name,
                written=written,
                answer=answer or "",
                leaks=leaks,
            )
        )
    return _read_blind(writer, system, outcomes)


def _read_blind(
    writer: _Writer, system: ValueSystem, outcomes: Sequence[_Outcome]
) -> list[_Outcome]:
    """Ask what the choices of every dilemma stand for, and write the answer beside it."""
    steps = writer.settings.steps
    prompts = {
        number: infer_prompt(system, outcome.written.dilemma, steps)
        for number, outcome in enumerate(outcomes)
        if outcome.written.dilemma
    }
    answers = writer.ask("reading blind", list(prompts.values()), 0.0)
    read = list(outcomes)
    for number, answer in zip(prompts, answers, strict=True):
        if answer is None:
            inferred = InferredPairs((), "too-long")
        else:
            inferred = read_inferred(answer, system, steps)
        read[number] = dataclasses.replace(read[number], inferred=inferred, inference=answer or "")
    return read


def _row(number: int, outcome: _Outcome) -> dict[str, Any]:
    """Write the row of `dilemmas`.

    Where the values are planted nobody reads it blind, and the other filter decides alone.
    """
    dilemma = outcome.written.dilemma
    inferred = outcome.inferred
    is_about_values = outcome.is_planted or (
        inferred is not None and inferred.pairs == outcome.pairs
    )
    return {
        "number": number,
        "dilemma": str(dilemma["idx"]) if dilemma else f"d{number:04d}",
        "norm": dilemma["norm"] if dilemma else "",
        "pairs": _shown(outcome.pairs),
        "source": outcome.source,
        "answer": outcome.answer,
        "status": outcome.written.status,
        "reason": outcome.written.reason,
        "leaks": outcome.leaks,
        "reader": outcome.source if inferred else "",
        "inferred": _shown(inferred.pairs) if inferred else [],
        "inference": outcome.inference,
        "inference_status": inferred.status if inferred else "",
        "passed": dilemma is not None and not outcome.leaks and is_about_values,
    }


def _shown(pairs: Pairs) -> list[str]:
    return [f"{a} / {b}" for a, b in pairs]


def _summary(rows: Sequence[Mapping[str, Any]], source: str) -> dict[str, Any]:
    """Count what became of the dilemmas that were asked for."""
    status = [row["status"] for row in rows]
    inference = [row["inference_status"] for row in rows]
    return {
        "source": source,
        "asked": len(rows),
        "parsed": status.count("parsed"),
        "refused": status.count("refused"),
        "unparsed": status.count("unparsed"),
        "too_long": sum("too-long" in pair for pair in zip(status, inference, strict=True)),
        "leaked": sum(len(row["leaks"]) > 0 for row in rows),
        "inference_unread": sum(read in ("refused", "unparsed", "too-long") for read in inference),
        "not_inferred": sum(
            row["inference_status"] == "parsed" and row["inferred"] != row["pairs"] for row in rows
        ),
        "passed": sum(row["passed"] for row in rows),
    }
