"""Questions that AdAEM found to separate a population of models: open questions, opinions read by a
judge (Duan et al., ICLR 2026).

1. `items` is the `items.json` that `workbench adaem` wrote, or the folder of that run.
2. Every question is answered in words, with `--repeats` several times; a judge says for each of the
   values whether the opinion holds it: a response for each opinion and value, rated 1 or 0.
3. `pool` is what a question's opinions add up to. `or`: the value is held where one of them holds
   it, as the paper scores an answer; `share`: the share of opinions that hold it. The profile is
   the mean over questions (over contexts where several are asked); centred: less its mean over
   values.

Left out: TrueSkill, which rates several models against each other; `workbench adaem` does.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from feature_store.errors import BadInput, NotFound
from feature_store.records import Instrument, Item, Response, ValueProfile, ValueSystem
from feature_store.registry import register
from workbench.llm import Judge
from workbench.measuring.questionnaire import Questionnaire
from workbench.statistics.intervals import bootstrap_mean, known_mean
from workbench.systems.adaem import WORDINGS
from workbench.systems.adaem.classifiers import Judged

EXPECTED = (
    'a JSON object like {"format": 1, "system": "schwartz10", "questions": [{"id": "q0001", "text":'
    ' "..."}]}'
)


@dataclasses.dataclass(frozen=True)
class AdaemItemsSettings:
    items: str = ""
    """File `items.json` that `workbench adaem` wrote, or the folder of its run."""
    pool: Literal["or", "share"] = "or"
    """What several opinions on a question add up to: `or`: held in one of them; `share`: share
    that hold it."""


@register("instruments", "adaem")
class Adaem(Questionnaire):
    """Questions that AdAEM found to separate a population of models; opinions read by a judge."""

    config = AdaemItemsSettings
    judged = True

    def __init__(self) -> None:
        self.pool = AdaemItemsSettings.pool
        self.system: ValueSystem | None = None

    def load(self, settings: AdaemItemsSettings, system: ValueSystem) -> Instrument:
        self.pool, self.system = settings.pool, system
        told, file = _read(settings.items)
        items = tuple(
            Item(
                id=str(one["id"]),
                text=one["text"].strip(),
                value="",
                source=str(one.get("writer", "")),
            )
            for one in told["questions"]
        )
        who = ", ".join(map(str, told.get("population", ()))) or "an unnamed population"
        return Instrument(
            id="adaem",
            title=f"AdAEM questions for {who}",
            items=items,
            options=(),
            wordings=WORDINGS,
            system=str(told["system"]),
            source=f"{told.get('run') or file.name} (AdAEM, Duan et al. 2026)",
            licence="as the seed questions and the rewriter's",
            answer="text",
        )

    def wordings(self, instrument: Instrument, own: bool) -> tuple[str, ...]:
        """The organism goes on where a question ends, others are asked for an opinion."""
        return ("plain",) if own else ("opinion",)

    def rate(
        self, responses: Sequence[Response], instrument: Instrument, judge: Judge
    ) -> list[Response]:
        """A response for each opinion and value; what could not be read is unparsed for all
        values.
        """
        assert self.system is not None
        parsed = [k for k, r in enumerate(responses) if r.status == "parsed"]
        held = np.full((len(responses), len(self.system.ids)), np.nan)
        if parsed:
            held[parsed] = Judged(judge, self.system).read([responses[k].text for k in parsed])
        return [
            dataclasses.replace(
                r,
                value=value,
                rating=float(mark),
                status="unparsed" if r.status == "parsed" and np.isnan(mark) else r.status,
            )
            for r, marks in zip(responses, held, strict=True)
            for value, mark in zip(self.system.ids, marks, strict=True)
        ]

    def score(
        self,
        responses: Sequence[Response],
        instrument: Instrument,
        system: ValueSystem,
        replicates: int,
        seed: int,
    ) -> list[ValueProfile]:
        """Mean over questions, or contexts, of what their opinions add up to [0 to 1]."""
        cells = _cells(responses, system.ids, self.pool)
        rows = []
        for centred, told in ((False, cells), (True, cells - known_mean(cells, 1)[:, None])):
            interval = bootstrap_mean(told, replicates, seed)
            for column, value in enumerate(system.ids):
                own = [r.status == "parsed" for r in responses if r.value == value]
                rows.append(
                    ValueProfile(
                        steering=responses[0].steering,
                        value=value,
                        mean=float(interval.mean[column]),
                        low=float(interval.low[column]),
                        high=float(interval.high[column]),
                        n=int(interval.n[column]),
                        parsed=sum(own),
                        missing=len(own) - sum(own),
                        centred=centred,
                    )
                )
        return rows


def _cells(
    responses: Sequence[Response], values: Sequence[str], pool: str
) -> Float[np.ndarray, "cluster value"]:
    """What each cluster's answers hold [0 to 1]; an answer is all opinions on a question in one
    context.
    """
    by_context = len({r.context for r in responses}) > 1
    answers: dict[tuple[Any, ...], list[float]] = {}
    for r in responses:
        cluster = r.context if by_context else r.item
        answers.setdefault((cluster, r.value, r.item, r.context, r.wording, r.order), []).append(
            r.rating if r.status == "parsed" else float("nan")
        )
    clusters = {key: row for row, key in enumerate(dict.fromkeys(key[0] for key in answers))}
    found: list[list[list[float]]] = [[[] for _ in values] for _ in clusters]
    for (cluster, value, *_), marks in answers.items():
        known = [mark for mark in marks if mark == mark]
        if known:
            found[clusters[cluster]][values.index(value)].append(
                max(known) if pool == "or" else float(np.mean(known))
            )
    return np.array([[np.mean(cell) if cell else np.nan for cell in row] for row in found], float)


def _read(told: str) -> tuple[dict[str, Any], Path]:
    if not told:
        raise BadInput(
            "Which questions? Give --settings items=FILE, the items.json that `workbench adaem`"
            " wrote, or the folder of its run."
        )
    file = Path(told) / "items.json" if Path(told).is_dir() else Path(told)
    if not file.is_file():
        raise NotFound(
            f"There is no file {file}. Give the items.json that `workbench adaem` wrote, or the"
            " folder of its run."
        )
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadInput(
            f"{file} should hold {EXPECTED}; it cannot be read as JSON in UTF-8 ({error})."
        ) from None
    questions = found.get("questions") if isinstance(found, dict) else None
    if not isinstance(questions, list) or not questions or not isinstance(found.get("system"), str):
        raise BadInput(f"{file} should hold {EXPECTED}; it lacks its system or its questions.")
    if found.get("format") != 1:
        raise BadInput(
            f"{file} is of format {found.get('format')!r}, this version reads 1. Write it anew with"
            " `workbench adaem`."
        )
    for number, one in enumerate(questions, 1):
        if (
            not isinstance(one, dict)
            or not one.get("id")
            or not isinstance(one.get("text"), str)
            or not one["text"].strip()
        ):
            raise BadInput(
                f"{file}: question {number} should have an id and a text, got {str(one)[:80]}."
            )
    ids = [str(one["id"]) for one in questions]
    if twice := sorted({id for id in ids if ids.count(id) > 1}):
        raise BadInput(
            f"{file} has {len(twice)} ids more than once, {twice[0]} among them. Give every"
            " question its own."
        )
    return found, file
