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
from pathlib import Path
from typing import Annotated, Any

from feature_store.bounds import Between, Count, CountOrZero, Seed, Temperature
from feature_store.errors import BadInput
from feature_store.progress import Progress
from feature_store.records import Run
from feature_store.runs import digest
from workbench import organism
from workbench.llm import LLM, Conversation, open_llm, room_for
from workbench.llm.answered import CachedLLM
from workbench.material import ORGANISM, lines
from workbench.settings import plain
from workbench.systems.value_pilot.dilemmas import (
    Inferred,
    Pairs,
    Written,
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
    study: Workspace, config: DilemmasSettings, progress: Progress, llm: LLM | None = None
) -> Run:
    """A run of kind `dilemmas`. `llm` stands in for the model that `config.llm` names."""
    name = llm.name if llm else config.llm
    if not name:
        raise BadInput("Nobody was told to write. Give --llm with a language model or `organism`.")
    if config.n < 1 or config.steps < 1:
        raise BadInput(
            f"At least one dilemma of at least one step is written, got n={config.n} and"
            f" steps={config.steps}."
        )
    own, system = name == ORGANISM, study.system
    if own and (config.norms or system.ids != organism.truth().values):
        raise BadInput(
            "The organism's dilemmas have no norms and are about Schwartz's ten values. Leave"
            " --norms out, in a study of schwartz10."
        )
    norms = lines(config.norms) if config.norms else [""]
    inputs = {"llm": name} | ({"norms": digest(Path(config.norms))} if config.norms else {})
    plainly = plain(dataclasses.replace(config, llm=name))
    if study.runs.exists(id := study.runs.find("dilemmas", plainly, inputs, config.seed)):
        return study.runs.get(id)
    with study.runs.begin("dilemmas", plainly, inputs, config.seed) as work:
        if own:
            rows = [
                _row(k, told, _pairs_of(told, config.steps), name)
                for k, told in enumerate(organism.dilemmas(config.n, config.seed, config.steps))
            ]
        else:
            rows = _written(study, config, llm or open_llm(name, study.model), norms, progress)
        passed = [row.pop("told") for row in rows if row["passed"]]
        work.table(
            "dilemmas",
            [{key: value for key, value in row.items() if key != "told"} for row in rows],
            sort=("number",),
        )
        (work.folder / "dilemmas.json").write_text(
            json.dumps(passed, ensure_ascii=False, indent=1), encoding="utf-8"
        )
        return work.finish(
            {
                "source": name,
                "asked": len(rows),
                "parsed": sum(r["status"] == "parsed" for r in rows),
                "refused": sum(r["status"] == "refused" for r in rows),
                "unparsed": sum(r["status"] == "unparsed" for r in rows),
                "too_long": sum("too-long" in (r["status"], r["inference_status"]) for r in rows),
                "leaked": sum(len(r["leaks"]) > 0 for r in rows),
                "inference_unread": sum(
                    r["inference_status"] in ("refused", "unparsed", "too-long") for r in rows
                ),
                "not_inferred": sum(
                    r["inference_status"] == "parsed" and r["inferred"] != r["pairs"] for r in rows
                ),
                "passed": len(passed),
            }
        )


def _written(
    study: Workspace, config: DilemmasSettings, llm: LLM, norms: list[str], progress: Progress
) -> list[dict[str, Any]]:
    """One row a dilemma, written and read blind."""
    system, kept = study.system, CachedLLM(llm, study.folder / "answers.jsonl")
    wanted = pairs(system, config.n, config.steps, config.seed)
    turn = [norms[k % len(norms)] for k in range(config.n)]

    def asked(stage: str, told: list[Conversation], temperature: float) -> list[str | None]:
        # One at a time, each with a seed of its own: two dilemmas of one norm are two answers. None
        # where the request is too long for the model.
        room, answers = room_for(llm, stage, told), []
        for k, conversation in enumerate(told):
            seed = config.seed + k if temperature else 0
            answers += (
                kept.chat(
                    [conversation],
                    max_new_tokens=config.new_tokens,
                    temperature=temperature,
                    seed=seed,
                )
                if room[k]
                else [None]
            )
            progress(stage, k + 1, len(told))
        return answers

    answers = asked(
        "writing",
        [write_prompt(system, some, norm) for some, norm in zip(wanted, turn, strict=True)],
        config.temperature,
    )
    too_long = Written(None, "too-long", f"The request is longer than {llm.name} reads.")
    came = [
        too_long if answer is None else read_written(answer, some, f"d{k:04d}", norm)
        for k, (answer, some, norm) in enumerate(zip(answers, wanted, turn, strict=True))
    ]
    there = [k for k, one in enumerate(came) if one.dilemma]
    said = dict(
        zip(
            there,
            asked(
                "reading blind",
                [infer_prompt(system, came[k].dilemma or {}, config.steps) for k in there],
                0.0,
            ),
            strict=True,
        )
    )
    rows = []
    for k, (one, some) in enumerate(zip(came, wanted, strict=True)):
        leaks = leaked(one.dilemma, config.steps, system) if one.dilemma else ()
        read = said.get(k)
        found = (
            read_inferred(read, system, config.steps)
            if read is not None
            else Inferred((), "too-long")
            if k in said
            else None
        )
        rows.append(
            _row(k, one.dilemma, some, llm.name, answers[k] or "", one, leaks, found, read or "")
        )
    return rows


def _row(
    number: int,
    told: dict[str, Any] | None,
    some: Pairs,
    source: str,
    answer: str = "",
    came: Written | None = None,
    leaks: tuple[str, ...] = (),
    found: Inferred | None = None,
    inference: str = "",
) -> dict[str, Any]:
    """The row of `dilemmas`, and the dilemma itself.

    Where nobody read it blind, as the organism's, the other filter decides alone.
    """
    return {
        "number": number,
        "dilemma": str(told["idx"]) if told else f"d{number:04d}",
        "norm": told["norm"] if told else "",
        "pairs": _shown(some),
        "source": source,
        "answer": answer,
        "status": came.status if came else "parsed",
        "reason": came.reason if came else "",
        "leaks": leaks,
        "reader": source if found else "",
        "inferred": _shown(found.pairs) if found else [],
        "inference": inference,
        "inference_status": found.status if found else "",
        "passed": (
            told is not None
            and not leaks
            and (came is None or (found is not None and found.pairs == some))
        ),
        "told": told,
    }


def _shown(some: Pairs) -> list[str]:
    return [f"{a} / {b}" for a, b in some]


def _pairs_of(told: dict[str, Any], steps: int) -> Pairs:
    return tuple(
        (told[f"step {s}_choiceA_value"], told[f"step {s}_choiceB_value"])
        for s in range(1, steps + 1)
    )
