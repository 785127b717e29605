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
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import pyarrow as pa

from feature_store.bounds import Between, Count, CountOrZero, Seed, Share, Temperature
from feature_store.errors import BadInput
from feature_store.progress import Progress
from feature_store.records import Run
from feature_store.runs import Work, digest
from workbench import organism
from workbench.llm import LLM, Conversation, open_llm, room_for
from workbench.material import ORGANISM
from workbench.settings import plain
from workbench.systems.value_pilot.kept import Asked, rows
from workbench.systems.value_pilot.scenarios import read, subsets
from workbench.systems.value_pilot.writing import (
    Inferred,
    infer_prompt,
    read_inferred,
    read_written,
    write_prompt,
)
from workbench.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class ScenariosSettings:
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
    study: Workspace, config: ScenariosSettings, progress: Progress, llm: LLM | None = None
) -> Run:
    """A run of kind `scenarios`. `llm` stands in for the model that `config.llm` names."""
    name = llm.name if llm else config.llm
    if not name and not config.file:
        raise BadInput(
            "Nobody was told to write. Give --llm with a language model or `organism`, or --file"
            " with scenarios."
        )
    if name == ORGANISM and config.file:
        raise BadInput(
            "The organism cannot read scenarios from a file. Give --llm with a language model, or"
            " leave it out."
        )
    if not 0 <= config.agreement <= 1 or config.actions < 2 or config.batch < 1 or config.n < 0:
        raise BadInput(
            "An agreement lies in [0, 1], actions are at least 2, a batch at least 1 and n at least"
            " 0; got others."
        )
    system = study.system
    given = read(Path(config.file), system) if config.file else None
    wanted = subsets(system, config.n, config.smallest, config.largest, config.seed)
    if name == ORGANISM:
        given = organism.scenarios(wanted, config.actions, config.seed)
    inputs = {"llm": name} | ({"file": digest(Path(config.file))} if config.file else {})
    plainly = plain(dataclasses.replace(config, llm=name))
    if study.runs.exists(id := study.runs.find("scenarios", plainly, inputs, config.seed)):
        return study.runs.get(id)
    speaker = None if not name or name == ORGANISM else llm or open_llm(name, study.model)
    with study.runs.begin("scenarios", plainly, inputs, config.seed) as work:
        if given is not None:
            asked = [
                Asked(number=number, id=s.id, values=s.values, source=s.source, scenario=s)
                for number, s in enumerate(given)
            ]
        else:
            asked = []
            told = {
                number: write_prompt(system, values, config.actions)
                for number, values in enumerate(wanted)
            }
            for number, answer in _ask(
                work, "writing", told, speaker, config, config.temperature, progress
            ).items():
                id, values = f"s{number:04d}", wanted[number]
                if answer is None:
                    asked.append(
                        Asked(
                            number=number,
                            id=id,
                            values=values,
                            source=name,
                            scenario=None,
                            answer="",
                            status="too-long",
                            reason=f"The request is longer than {name} reads.",
                        )
                    )
                    continue
                came = read_written(answer, system, values, config.actions, id, name)
                asked.append(
                    Asked(
                        number=number,
                        id=id,
                        values=values,
                        source=name,
                        scenario=came.scenario,
                        answer=answer,
                        status=came.status,
                        reason=came.reason,
                    )
                )
        if speaker:
            told = {
                one.number: infer_prompt(system, one.scenario.text) for one in asked if one.scenario
            }
            for number, answer in _ask(
                work, "reading blind", told, speaker, config, 0.0, progress
            ).items():
                found = (
                    Inferred((), "too-long") if answer is None else read_inferred(answer, system)
                )
                asked[number] = dataclasses.replace(
                    asked[number],
                    reader=name,
                    inferred=found.values,
                    inference=answer or "",
                    inference_status=found.status,
                )
        made = [rows(one, system, config.agreement) for one in asked]
        work.table("scenarios", [row for row, _ in made], sort=("number",))
        work.table(
            "actions",
            [action for _, actions in made for action in actions],
            sort=("scenario", "action"),
        )
        kept = [row for row, _ in made]
        return work.finish(
            {
                "source": name or Path(config.file).name,
                "asked": len(kept),
                "parsed": sum(r["status"] == "parsed" for r in kept),
                "refused": sum(r["status"] == "refused" for r in kept),
                "unparsed": sum(r["status"] == "unparsed" for r in kept),
                "too_long": sum("too-long" in (r["status"], r["inference_status"]) for r in kept),
                "leaked": sum(len(r["leaks"]) > 0 for r in kept),
                "inference_unread": sum(
                    r["inference_status"] in ("refused", "unparsed", "too-long") for r in kept
                ),
                "not_inferred": sum(r["agreement"] < config.agreement for r in kept),
                "passed": sum(r["passed"] for r in kept),
            }
        )


def _ask(
    work: Work,
    stage: str,
    told: Mapping[int, Conversation],
    llm: LLM,
    config: ScenariosSettings,
    temperature: float,
    progress: Progress,
) -> dict[int, str | None]:
    """Number -> answer, None where the request is too long for the model, in order of the
    numbers. What an earlier, interrupted call was answered is not asked again. Raises BadInput
    where every request is too long."""
    room = dict(zip(told, room_for(llm, stage, list(told.values())), strict=True))
    done = work.done(stage)
    waiting = [number for number in told if number not in done and room[number]]
    for start in range(0, len(waiting), config.batch):
        some = waiting[start : start + config.batch]
        answers = llm.chat(
            [told[number] for number in some],
            max_new_tokens=config.new_tokens,
            temperature=temperature,
            seed=config.seed + some[0],
        )
        for number, answer in zip(some, answers, strict=True):
            work.part(stage, number, pa.table({"number": [number], "answer": [answer]}))
        progress(stage, len(told) - len(waiting) + start + len(some), len(told))
    if not told:
        return {}
    kept = work.parts(stage).to_pydict()
    return dict.fromkeys(told) | dict(zip(kept["number"], kept["answer"], strict=True))
