"""Write scenarios in which values are at stake, with scored actions, and filter them (ValuePilot's
data, Luo et al. 2025).

1. Sets of values are drawn, sizes in turns. A language model writes a scenario for each, with at
   least ten actions and a score of every action on every value; or the organism's own generator
   does; or they come from a file.
2. A language model reads every situation blind and says which values are at stake. The organism's
   are not read: their truth is planted.
3. Filters: no word names a value, and the blind reader finds the values that were meant. What is
   filtered, refused, unread or too long to ask stays, with the reason.

Every answer is kept as it comes, so an interrupted run asks nothing twice. A person's word is a run
of its own (`review`).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa

from feature_store.bounds import Between, Count, CountOrZero, Seed, Share, Temperature
from feature_store.errors import BadInput
from feature_store.files import digest
from feature_store.progress import Progress
from feature_store.records import Run, Scenario, ValueSystem
from feature_store.work import Work
from workbench import organism
from workbench.llm import LLM, Conversation, open_llm, room_for
from workbench.material import ORGANISM
from workbench.systems.value_pilot.scenarios import read, subsets
from workbench.systems.value_pilot.stored import ScenarioRequest, action_rows, scenario_row
from workbench.systems.value_pilot.writing import (
    InferredValues,
    WrittenScenario,
    infer_prompt,
    read_inferred,
    read_written,
    write_prompt,
)
from workbench.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class ScenariosSettings:
    """Settings of `scenarios`: who writes, about how many values, and what passes."""

    llm: str = ""
    """Language model that writes the scenarios and reads them blind, or `organism` for that
    model's own generator."""
    file: str = ""
    """JSON-lines file with scenarios; then the language model, if one is given, only reads."""
    n: CountOrZero = 60
    """Scenarios to write; 0: one for every set of values."""
    smallest: int = 1
    """Fewest values of a scenario."""
    largest: int = 6
    """Most values of a scenario."""
    actions: Annotated[int, Between(2, 1000)] = 10
    """Fewest actions of a scenario."""
    agreement: Share = 1.0
    """Least Jaccard index of the values meant and found by the blind reader [0 to 1]; 1: the
    same ones."""
    temperature: Temperature = 0.7
    """Sampling temperature of the writer; the reader is greedy."""
    new_tokens: Count = 3000
    """Longest answer [tokens]."""
    batch: Count = 1
    """Scenarios asked for at once; an interruption loses at most so many answers."""
    seed: Seed = 0
    """Seed of the sets of values and of the writer."""


def run(
    study: Workspace, settings: ScenariosSettings, progress: Progress, llm: LLM | None = None
) -> Run:
    """Make a run of kind `scenarios`. `llm` stands in for the model that `settings.llm` names."""
    name = llm.name if llm else settings.llm
    _check(settings, name)
    system = study.system
    given = read(Path(settings.file), system) if settings.file else None
    value_sets = subsets(system, settings.n, settings.smallest, settings.largest, settings.seed)
    if name == ORGANISM:
        given = organism.scenarios(value_sets, settings.actions, settings.seed)
    if name.startswith("local:") and not llm:
        # Its files are pinned by the name that it has when it is open.
        llm = open_llm(name, study.model)
    inputs = {"llm": llm.name if llm else name}
    if settings.file:
        inputs["file"] = digest(Path(settings.file))

    def build(work: Work) -> dict[str, Any]:
        """Have the scenarios written and read blind, and filter them."""
        asker = None
        if name and name != ORGANISM:
            asker = _Asker(
                llm=llm or open_llm(name, study.model),
                name=name,
                work=work,
                settings=settings,
                progress=progress,
            )
        if given is not None:
            requests = _requests_of(given)
        else:
            assert asker is not None  # `_check` lets no run through that has nobody to write
            requests = _write(asker, system, value_sets)
        if asker:
            requests = _read_blind(asker, system, requests)
        rows = [scenario_row(request, system, settings.agreement) for request in requests]
        actions = [row for request in requests for row in action_rows(request)]
        work.table("scenarios", rows, sort=("number",))
        work.table("actions", actions, sort=("scenario", "action"))
        return _summary(rows, name or Path(settings.file).name, settings.agreement)

    return study.make("scenarios", dataclasses.replace(settings, llm=name), inputs, build)


def _check(settings: ScenariosSettings, name: str) -> None:
    """Raise BadInput where nobody writes, or where a number is out of range."""
    if not name and not settings.file:
        raise BadInput(
            "Nobody was told to write. Give --llm with a language model or `organism`, or --file"
            " with scenarios."
        )
    if name == ORGANISM and settings.file:
        raise BadInput(
            "The organism cannot read scenarios from a file. Give --llm with a language model, or"
            " leave it out."
        )
    agreement_fits = 0 <= settings.agreement <= 1
    if not agreement_fits or settings.actions < 2 or settings.batch < 1 or settings.n < 0:
        raise BadInput(
            "An agreement lies in [0, 1], actions are at least 2, a batch at least 1 and n at least"
            " 0; got others."
        )


def _requests_of(scenarios: Sequence[Scenario]) -> list[ScenarioRequest]:
    """Turn scenarios that exist already into requests that were answered."""
    return [
        ScenarioRequest(
            number=number,
            id=scenario.id,
            values=scenario.values,
            source=scenario.source,
            scenario=scenario,
        )
        for number, scenario in enumerate(scenarios)
    ]


@dataclasses.dataclass(frozen=True)
class _Asker:
    """Asks a language model, a stage at a time, and keeps every answer in the run."""

    llm: LLM
    """The language model."""
    name: str
    """Its name as it stands on every row: as it was typed, where it was."""
    work: Work
    """The run that is made."""
    settings: ScenariosSettings
    """Length, seed, and how many are asked at once."""
    progress: Progress
    """Shows how many are answered."""

    def ask(
        self, stage: str, conversations: Mapping[int, Conversation], temperature: float
    ) -> dict[int, str | None]:
        """Answer numbered conversations, in order of their numbers.

        The answer is None where a request is too long for the model. What an earlier, interrupted
        call was answered is not asked again. Raises BadInput where every request is too long.
        """
        fits = room_for(self.llm, stage, list(conversations.values()))
        room = dict(zip(conversations, fits, strict=True))
        done = self.work.done(stage)
        able = [number for number in conversations if room[number]]
        for start in range(0, len(able), self.settings.batch):
            # The same batches whatever is done: a batch and its first number decide its answers.
            batch = able[start : start + self.settings.batch]
            if done.issuperset(batch):
                continue
            answers = self.llm.chat(
                [conversations[number] for number in batch],
                max_new_tokens=self.settings.new_tokens,
                temperature=temperature,
                seed=self.settings.seed + batch[0],
            )
            for number, answer in zip(batch, answers, strict=True):
                if number not in done:
                    part = pa.table({"number": [number], "answer": [answer]})
                    self.work.part(stage, number, part)
            total = len(conversations)
            self.progress(stage, total - len(able) + start + len(batch), total)
        if not conversations:
            return {}
        parts = self.work.parts(stage).to_pydict()
        answered = dict(zip(parts["number"], parts["answer"], strict=True))
        return dict.fromkeys(conversations) | answered


def _write(
    asker: _Asker, system: ValueSystem, value_sets: Sequence[tuple[str, ...]]
) -> list[ScenarioRequest]:
    """Ask for a scenario about each set of values."""
    settings = asker.settings
    name = asker.name
    prompts = {
        number: write_prompt(system, values, settings.actions)
        for number, values in enumerate(value_sets)
    }
    requests = []
    for number, answer in asker.ask("writing", prompts, settings.temperature).items():
        id, values = f"s{number:04d}", value_sets[number]
        if answer is None:
            reason = f"The request is longer than {name} reads."
            written = WrittenScenario(None, "too-long", reason)
        else:
            written = read_written(answer, system, values, settings.actions, id, name)
        requests.append(
            ScenarioRequest(
                number=number,
                id=id,
                values=values,
                source=name,
                scenario=written.scenario,
                answer=answer or "",
                status=written.status,
                reason=written.reason,
            )
        )
    return requests


def _read_blind(
    asker: _Asker, system: ValueSystem, requests: Sequence[ScenarioRequest]
) -> list[ScenarioRequest]:
    """Ask which values each situation is about, and write the answer beside it."""
    prompts = {
        request.number: infer_prompt(system, request.scenario.text)
        for request in requests
        if request.scenario
    }
    read = list(requests)
    for number, answer in asker.ask("reading blind", prompts, 0.0).items():
        if answer is None:
            inferred = InferredValues((), "too-long")
        else:
            inferred = read_inferred(answer, system)
        read[number] = dataclasses.replace(
            read[number],
            reader=asker.name,
            inferred=inferred.values,
            inference=answer or "",
            inference_status=inferred.status,
        )
    return read


def _summary(rows: Sequence[Mapping[str, Any]], source: str, agreement: float) -> dict[str, Any]:
    """Count what became of the scenarios that were asked for."""
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
        "not_inferred": sum(row["agreement"] < agreement for row in rows),
        "passed": sum(row["passed"] for row in rows),
    }
