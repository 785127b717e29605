"""Questions that AdAEM found to separate a population of models (Duan et al., ICLR 2026).

They are open questions; a judge reads the opinions in the answers.

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
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from feature_store.errors import BadInput, NotFound
from feature_store.files import read_json, shown
from feature_store.records import Instrument, Item, Response, Status, ValueProfile, ValueSystem
from feature_store.registry import register
from workbench.llm import Judge
from workbench.measuring.questionnaire import Questionnaire
from workbench.statistics.intervals import bootstrap_mean, known_mean
from workbench.systems.adaem import WORDINGS
from workbench.systems.adaem.classifiers import JudgeClassifier

EXPECTED = (
    'a JSON object like {"format": 1, "system": "schwartz10", "questions": [{"id": "q0001", "text":'
    ' "..."}]}'
)
"""What `items.json` holds, for messages."""


@dataclasses.dataclass(frozen=True)
class AdaemItemsSettings:
    """Where the questions stand, and how several opinions on one are pooled."""

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
        """Begin without questions; `load` sets how opinions are pooled and which values count."""
        self.pool = AdaemItemsSettings.pool
        self.system: ValueSystem | None = None

    def load(self, settings: AdaemItemsSettings, system: ValueSystem) -> Instrument:
        """Read the questions of a search. Raises BadInput or NotFound without a fitting file."""
        self.pool, self.system = settings.pool, system
        content, file = _read(settings.items)
        items = tuple(
            Item(
                id=str(question["id"]),
                text=question["text"].strip(),
                value="",
                source=str(question.get("writer", "")),
            )
            for question in content["questions"]
        )
        models = ", ".join(map(str, content.get("population", ()))) or "an unnamed population"
        return Instrument(
            id="adaem",
            title=f"AdAEM questions for {models}",
            items=items,
            options=(),
            wordings=WORDINGS,
            system=str(content["system"]),
            source=f"{content.get('run') or file.name} (AdAEM, Duan et al. 2026)",
            licence="as the seed questions and the rewriter's",
            answer="text",
        )

    def wordings(self, instrument: Instrument, is_organism: bool) -> tuple[str, ...]:
        """Name the wording: the organism goes on where a question ends, others give an opinion."""
        return ("plain",) if is_organism else ("opinion",)

    def rate(
        self, responses: Sequence[Response], instrument: Instrument, judge: Judge
    ) -> list[Response]:
        """Ask the judge of every opinion which values it holds.

        Gives a response for each opinion and value. What could not be read is unparsed for all
        values.
        """
        assert self.system is not None, "`load` comes first"
        parsed = [k for k, r in enumerate(responses) if r.status == "parsed"]
        held = np.full((len(responses), len(self.system.ids)), np.nan)
        if parsed:
            classifier = JudgeClassifier(judge, self.system)
            held[parsed] = classifier.read([responses[k].text for k in parsed])
        rated = []
        for response, marks in zip(responses, held, strict=True):
            for value, mark in zip(self.system.ids, marks, strict=True):
                unread = response.status == "parsed" and np.isnan(mark)
                status: Status = "unparsed" if unread else response.status
                rated.append(
                    dataclasses.replace(response, value=value, rating=float(mark), status=status)
                )
        return rated

    def score(
        self,
        responses: Sequence[Response],
        instrument: Instrument,
        system: ValueSystem,
        replicates: int,
        seed: int,
    ) -> list[ValueProfile]:
        """Average over questions, or contexts, what their opinions add up to [0 to 1]."""
        raw = _cells(responses, system.ids, self.pool)
        rows = []
        for centred in (False, True):
            cells = raw - known_mean(raw, 1)[:, None] if centred else raw
            interval = bootstrap_mean(cells, replicates, seed)
            for column, value in enumerate(system.ids):
                parsed = [r.status == "parsed" for r in responses if r.value == value]
                rows.append(
                    ValueProfile(
                        steering=responses[0].steering,
                        value=value,
                        mean=float(interval.mean[column]),
                        low=float(interval.low[column]),
                        high=float(interval.high[column]),
                        n=int(interval.n[column]),
                        parsed=sum(parsed),
                        missing=len(parsed) - sum(parsed),
                        centred=centred,
                    )
                )
        return rows


def _cells(
    responses: Sequence[Response], values: Sequence[str], pool: str
) -> Float[np.ndarray, "cluster value"]:
    """What each cluster's answers hold [0 to 1]; all opinions on a question in a context are one.

    Clusters are the contexts, or the questions where one context was asked.
    """
    by_context = len({r.context for r in responses}) > 1
    answers: dict[tuple[Any, ...], list[float]] = {}
    for r in responses:
        cluster = r.context if by_context else r.item
        answers.setdefault((cluster, r.value, r.item, r.context, r.wording, r.order), []).append(
            r.rating if r.status == "parsed" else float("nan")
        )
    clusters = {key: row for row, key in enumerate(dict.fromkeys(key[0] for key in answers))}
    held: list[list[list[float]]] = [[[] for _ in values] for _ in clusters]
    for (cluster, value, *_), marks in answers.items():
        read = [mark for mark in marks if not np.isnan(mark)]
        if read:
            pooled = max(read) if pool == "or" else float(np.mean(read))
            held[clusters[cluster]][values.index(value)].append(pooled)
    means = [[np.mean(cell) if cell else np.nan for cell in row] for row in held]
    return np.array(means, float)


def _read(name: str) -> tuple[dict[str, Any], Path]:
    """The content of `items.json`, and its path. Raises NotFound, or BadInput with the reason."""
    if not name:
        raise BadInput(
            "Which questions? Give --settings items=FILE, the items.json that `workbench adaem`"
            " wrote, or the folder of its run."
        )
    file = Path(name) / "items.json" if Path(name).is_dir() else Path(name)
    if not file.is_file():
        raise NotFound(
            f"There is no file {file}. Give the items.json that `workbench adaem` wrote, or the"
            " folder of its run."
        )
    content = read_json(file)
    questions = content.get("questions") if isinstance(content, dict) else None
    if not isinstance(questions, list) or not questions:
        raise BadInput(f"{file} should hold {EXPECTED}; it lacks its system or its questions.")
    if not isinstance(content.get("system"), str):
        raise BadInput(f"{file} should hold {EXPECTED}; it lacks its system or its questions.")
    if content.get("format") != 1:
        raise BadInput(
            f"{file} is of format {content.get('format')!r}, this version reads 1. Write it anew"
            " with `workbench adaem`."
        )
    _check_questions(questions, file)
    return content, file


def _check_questions(questions: Sequence[Any], file: Path) -> None:
    """Raises BadInput for a question without an id or a text, or an id that stands there twice."""
    for number, question in enumerate(questions, 1):
        if not _is_question(question):
            raise BadInput(
                f"{file}: question {number} should have an id and a text, got {shown(question)}."
            )
    ids = [str(question["id"]) for question in questions]
    if twice := sorted(id for id, times in Counter(ids).items() if times > 1):
        raise BadInput(
            f"{file} has {len(twice)} ids more than once, {twice[0]} among them. Give every"
            " question its own."
        )


def _is_question(question: Any) -> bool:
    if not isinstance(question, dict) or not question.get("id"):
        return False
    text = question.get("text")
    return isinstance(text, str) and bool(text.strip())
