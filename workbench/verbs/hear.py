"""Find out which instrument hears a model, before its profile is believed.

1. Personas prime one value at a time (`measuring/personas.toml`); others prime nothing.
2. The instrument is asked under each persona, in each mode, wording and order of its scale. The
   answers under a persona are kept as soon as they are there: an interruption loses one persona.
   `--until-heard` stops at the first mode that is heard.
3. `measuring/hearing.py` says how often the primed value rises most, beside a permutation null;
   what share of the answers is the scale's; and the smallest difference that may be claimed.
4. The mode that is heard best is the one in which `measure` and `effects` then ask this model,
   unless they are told another (`--mode`). In mode `voice` only what is held less reversed counts:
   the topic's part is reported, and never chosen by.
"""

import dataclasses
import hashlib
import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from feature_store.bounds import Between, Later, Replicates, Seed
from feature_store.errors import BadInput
from feature_store.progress import Progress, silent
from feature_store.records import Response, Run
from feature_store.runs import warn_of
from feature_store.work import Work
from workbench import material
from workbench.measuring import hearing, voice
from workbench.measuring.administer import Elicitation, administer
from workbench.measuring.defaults import BY_SYSTEM, ScoredMode, open_question_names
from workbench.measuring.questionnaire import Opened, open_instrument
from workbench.measuring.questions import Question, questions
from workbench.measuring.respondents import LocalRespondent
from workbench.settings import LocalModelSettings
from workbench.workspace import Workspace

RULE = "the best way of a mode against permutations and against signs, times the modes"
"""How a verdict is reached: it decides a run's figures, so it is in the run's id."""
WORTH_SAYING = 60
"""A mode that takes longer is said beforehand [s]."""
ALL = "all"
"""Name of the mean over wordings."""
Part = Literal["rating", "held", "topic"]


@dataclasses.dataclass(frozen=True)
class HearSettings(LocalModelSettings):
    """Which model is primed, and in which ways it is asked."""

    sae: str = "latest"
    """Run of the SAE; its model is asked where none is named."""
    instrument: str = ""
    """Instrument plug-in of statements on a scale; empty: `standin`, or `standin19` for nineteen
    values."""
    settings: tuple[str, ...] = ()
    """The instrument's own settings, as key=value."""
    modes: tuple[ScoredMode, ...] = ("logprob", "voice")
    """Ways of asking that are tried, in this order."""
    until_heard: Annotated[bool, Later()] = False
    """Stop at the first mode that is heard. It is judged as if the others were tried as well."""
    wordings: tuple[str, ...] = ()
    """Wordings on the scale; none: those made for the model."""
    open_questions: Annotated[int, Between(1, 6)] = 3
    """Open questions of mode `voice`."""
    templates: Annotated[int, Between(2, 4)] = 3
    """Templates of personas; each primes every value once."""
    replicates: Replicates = 1000
    """Bootstrap replicates, and permutations."""
    seed: Seed = 0
    """Seed of bootstrap and permutations."""


class Way(NamedTuple):
    """One way of asking, and the answers to it under every persona."""

    mode: ScoredMode
    """`logprob` or `voice`."""
    wording: str
    """Name of the wording or open question, or `all`."""
    order: str
    """`ascending`, `descending` or `both`."""
    part: Part
    """What of the answers is looked at."""
    primed: Float[np.ndarray, "template value item"]
    """Answers under personas that prime a value."""
    neutral: Float[np.ndarray, " item"]
    """Mean answers under personas that prime nothing: whose variance is looked at."""

    @property
    def change(self) -> Float[np.ndarray, "template value item"]:
        """What priming each value does to the answers, less what priming any value does."""
        return hearing.change_of(self.primed)


def run(study: Workspace, settings: HearSettings, progress: Progress) -> Run:
    """Make a run of kind `hearing`."""
    if not settings.modes or len(set(settings.modes)) < len(settings.modes):
        raise BadInput(
            f"Name each mode that is tried once, got {', '.join(settings.modes) or 'none'}: --modes"
            " logprob,voice."
        )
    name = settings.instrument or BY_SYSTEM.get(study.system.id, "standin")
    opened = open_instrument(name, settings.settings, study.system, study.folder)
    if opened.instrument.answer != "rating" or any(i.after for i in opened.instrument.items):
        raise BadInput(
            f"{name} is not made of single statements on a scale, which personas could move. Choose"
            " one that is, such as standin."
        )
    sae_run = None if settings.model else study.resolve("sae", settings.sae)
    address = settings.model or (sae_run.config["model"] if sae_run else "")
    if "://" in address:
        raise BadInput(
            f"{address} answers in words only, so its statements cannot be scored. Name a model"
            " that runs here."
        )
    model = study.model_for(address, sae_run, settings.revision, settings.dtype, settings.device)
    personas = hearing.personas(study.system, settings.templates)
    inputs = {
        "model": model.pinned,
        "items": hashlib.sha256(repr(opened.instrument).encode()).hexdigest(),
        "personas": hashlib.sha256(repr(personas).encode()).hexdigest(),
        "rule": RULE,
    }
    if "voice" in settings.modes:
        inputs["statements"] = voice.digest(
            voice.voice_questions(opened.instrument, model.chat, ())
        )
    pinned = dataclasses.replace(
        settings, model=address, instrument=name, sae=sae_run.id if sae_run else ""
    )
    listener = _Listener(
        study=study,
        settings=pinned,
        opened=opened,
        personas=personas,
        respondent=LocalRespondent(model, study.folder),
        progress=progress,
    )
    return study.make("hearing", pinned, inputs, listener.build)


def first_lines(study: Workspace, run: Run) -> list[str]:
    """Say of every mode how well it hears the model, and what follows, for the terminal."""
    rows = study.store.sql(
        "SELECT * FROM hearings WHERE run = ? ORDER BY wording = 'all', \"order\" = 'both'",
        [run.id],
    )
    # The last of a mode and part is the mean over its wordings and orders.
    whole = rows.groupby(["mode", "part"], sort=False).tail(1).sort_values(["mode", "part"])
    lines = []
    for row in whole.itertuples():
        what = {"held": "held less reversed", "rating": "on the scale"}.get(row.part, "topic alone")
        verdict = "heard" if row.passes else "not heard"
        lines.append(
            f"{row.mode:8} {what:18}  rank {row.rank:.2f} [{row.low:.2f}, {row.high:.2f}], chance"
            f" to {row.null_high:.2f}: {'talk' if row.part == 'topic' else verdict}"
        )
    name, address = run.config["instrument"], run.config["model"]
    if run.summary["heard"] == "none":
        return [
            *lines,
            f"No way of asking {name} hears {address}: what a profile or sweep of it shows is not"
            " the model's. Try --wordings, another instrument, or a larger model.",
        ]
    return [
        *lines,
        f"{address} is asked {name} in mode {run.summary['heard']} unless --mode says otherwise;"
        f" differences below {run.summary['resolution']:.3g} may not be claimed.",
    ]


@dataclasses.dataclass(frozen=True)
class _Listener:
    """A model, an instrument and personas, ready to be tried."""

    study: Workspace
    """Where answers are kept."""
    settings: HearSettings
    """How it is tried, with names filled in."""
    opened: Opened
    """The instrument with its items."""
    personas: hearing.Personas
    """Whom the model is told it is."""
    respondent: LocalRespondent
    """The model."""
    progress: Progress
    """Told of every persona that was asked."""

    def build(self, work: Work) -> dict[str, Any]:
        """Ask under every persona, write what was heard, and return the best way of asking."""
        rows: list[dict[str, Any]] = []
        changes: list[dict[str, Any]] = []
        for mode in self.settings.modes:
            ways = self._ways(work, mode)
            rows += self._rows(ways)
            changes += [change for way in ways for change in self._changes(way)]
            if self.settings.until_heard and _whole(rows)[ways[0].mode, ways[0].part]["passes"]:
                break
        work.table("hearings", rows)
        work.table("primed_changes", changes)
        work.table("personas", self._persona_rows())
        return _figures(self.settings, rows)

    @property
    def _values(self) -> tuple[str, ...]:
        """Values with an item, in circle order."""
        measured = {item.value for item in self.opened.instrument.items}
        return tuple(value for value in self.study.system.ids if value in measured)

    @property
    def _of(self) -> Int[np.ndarray, " item"]:
        """Number of the value that each item measures."""
        return np.array([self._values.index(i.value) for i in self.opened.instrument.items])

    def _questions(self, mode: ScoredMode, persona: str) -> list[Question]:
        """Write the questions of a mode under a persona."""
        instrument, model = self.opened.instrument, self.respondent.model
        if mode == "voice":
            names = open_question_names((), self.settings.open_questions, model.chat)
            return voice.voice_questions(instrument, model.chat, names, persona=persona)
        is_organism = material.is_organism(self.settings.model)
        wordings = self.settings.wordings or self.opened.plugin.wordings(instrument, is_organism)
        return questions(instrument, [""], wordings, persona=persona)

    def _ways(self, work: Work, mode: ScoredMode) -> list[Way]:
        """Ask in a mode under every persona; give each way of asking, and their mean."""
        texts = [
            *self.personas.neutral,
            *itertools.chain.from_iterable(self.personas.primed[v] for v in self._values),
        ]
        kept = f"answers-{mode}"
        stage = f"priming, asking by {mode}"
        done = work.done(kept)
        self.progress(stage, len(done), len(texts))
        for number in [number for number in range(len(texts)) if number not in done]:
            start = time.monotonic()
            work.part(kept, number, self._asked(mode, texts[number]))
            if len(done) == 1:  # the first persona's time is also that of opening the model
                self._say_cost(mode, len(texts), time.monotonic() - start)
            done.add(number)
            self.progress(stage, len(done), len(texts))
        by_persona = {t: work.kept(kept, k).to_pylist() for k, t in enumerate(texts)}
        parts: list[Part] = ["held", "topic"] if mode == "voice" else ["rating"]
        return [way for part in parts for way in self._ways_of(mode, part, by_persona)]

    def _asked(self, mode: ScoredMode, persona: str) -> pa.Table:
        """Ask in a mode under one persona: within one administration a question is asked once."""
        responses = administer(
            self.respondent,
            self.opened.instrument,
            self._questions(mode, persona),
            "base",
            silent,
            Elicitation(mode=mode),
        )
        _refuse_unread(responses, self.respondent.model.name)
        rows = [
            {
                "item": r.item,
                "wording": r.wording,
                "order": r.order,
                "rating": r.rating,
                "topic": float(np.mean(r.logprobs)),
            }
            for r in responses
        ]
        return pa.Table.from_pylist(rows)

    def _say_cost(self, mode: ScoredMode, personas: int, seconds: float) -> None:
        """Say how long a mode takes, from the second of its personas, where that is long."""
        if personas * seconds > WORTH_SAYING:
            warn_of(
                [
                    f"Asking by {mode} under {personas} personas takes about"
                    f" {personas * seconds:.0f} s. Interrupted, it goes on when it is run again."
                ]
            )

    def _ways_of(
        self, mode: ScoredMode, part: Part, by_persona: Mapping[str, Sequence[Mapping[str, Any]]]
    ) -> list[Way]:
        """Lay out one part of the answers by wording and order, then their means."""
        first = next(iter(by_persona.values()))
        keys = list(dict.fromkeys((r["wording"], r["order"]) for r in first))
        groups: dict[tuple[str, str], list[tuple[str, str]]] = {key: [key] for key in keys}
        for wording in dict.fromkeys(wording for wording, _ in keys):
            shown = [key for key in keys if key[0] == wording]
            groups[wording, "both" if len(shown) > 1 else shown[0][1]] = shown
        if len({wording for wording, _ in keys}) > 1:
            groups[ALL, "both" if len({order for _, order in keys}) > 1 else keys[0][1]] = keys
        ways = []
        for (wording, order), members in groups.items():
            neutral = np.mean(
                [self._answers(by_persona[t], members, part) for t in self.personas.neutral], 0
            )
            primed = np.array(
                [
                    [
                        self._answers(by_persona[self.personas.primed[v][k]], members, part)
                        for v in self._values
                    ]
                    for k in range(self.settings.templates)
                ]
            )
            ways.append(
                Way(
                    mode=mode,
                    wording=wording,
                    order=order,
                    part=part,
                    primed=primed,
                    neutral=neutral,
                )
            )
        return ways

    def _answers(
        self, answers: Sequence[Mapping[str, Any]], members: Sequence[tuple[str, str]], part: Part
    ) -> Float[np.ndarray, " item"]:
        """Average the answers to each item over some wordings and orders; NaN where none."""
        cells: dict[str, list[float]] = {item.id: [] for item in self.opened.instrument.items}
        for answer in answers:
            if (answer["wording"], answer["order"]) in members:
                cells[answer["item"]].append(answer["topic" if part == "topic" else "rating"])
        return np.array([np.mean(cell) if cell else np.nan for cell in cells.values()])

    def _rows(self, ways: Sequence[Way]) -> list[dict[str, Any]]:
        """Judge a mode's ways of asking, those of one part against each other."""
        rows = []
        for part in dict.fromkeys(way.part for way in ways):
            of_part = [way for way in ways if way.part == part]
            verdicts = hearing.listen(
                [way.change for way in of_part],
                self._of,
                self.settings.replicates,
                self.settings.seed,
                len(self.settings.modes),
            )
            rows += [self._row(w, v, ways) for w, v in zip(of_part, verdicts, strict=True)]
            self.progress("judging", len(rows), len(ways))
        return rows

    def _row(self, way: Way, verdict: hearing.Heard, ways: Sequence[Way]) -> dict[str, Any]:
        """Give the row of `hearings` of one way of asking."""
        items_share, position_share = self._shares(way, ways)
        alike = [w for w in ways if (w.mode, w.part) == (way.mode, way.part)]
        return {
            "instrument": self.settings.instrument,
            "mode": way.mode,
            "wording": way.wording,
            "order": way.order,
            "part": way.part,
            **verdict._asdict(),
            "passes": verdict.passes and way.part != "topic",
            "items_share": items_share,
            "position_share": position_share,
            "agreement": self._agreement(way, alike),
            "templates": self.settings.templates,
            "items": len(self.opened.instrument.items),
            "seed": self.settings.seed,
        }

    def _shares(self, way: Way, ways: Sequence[Way]) -> tuple[float, float]:
        """Say whose the variance of the unprimed answers is, where the scale is shown both ways."""
        of_order = {
            w.order: w.neutral
            for w in ways
            if (w.mode, w.part, w.wording) == (way.mode, way.part, way.wording)
        }
        if not {"ascending", "descending"} <= of_order.keys() or way.part != "rating":
            return float("nan"), float("nan")
        return hearing.variance_shares(np.stack([of_order["ascending"], of_order["descending"]], 1))

    def _agreement(self, way: Way, alike: Sequence[Way]) -> float:
        """Correlate the changes of the wordings that a mean is of."""
        if way.wording != ALL:
            return float("nan")
        orders_of = {w.wording: [v.order for v in alike if v.wording == w.wording] for w in alike}
        whole = [
            w
            for w in alike
            if w.wording != ALL and (w.order == "both" or "both" not in orders_of[w.wording])
        ]
        return hearing.agreement([self._by_value(w) for w in whole])

    def _by_value(self, way: Way) -> Float[np.ndarray, "value value"]:
        """Average the changes over templates and over each value's items."""
        return hearing.value_means(way.change, self._of)

    def _changes(self, way: Way) -> list[dict[str, Any]]:
        """Give the rows of `primed_changes` of one way of asking."""
        matrix = self._by_value(way)
        return [
            {
                "instrument": self.settings.instrument,
                "mode": way.mode,
                "wording": way.wording,
                "order": way.order,
                "part": way.part,
                "primed": primed,
                "value": value,
                "change": float(matrix[i, j]),
            }
            for i, primed in enumerate(self._values)
            for j, value in enumerate(self._values)
        ]

    def _persona_rows(self) -> list[dict[str, Any]]:
        """Give the rows of `personas`, with the stems that each shares with the items."""
        texts = [("", k, text) for k, text in enumerate(self.personas.neutral)]
        texts += [
            (value, k, text)
            for value in self._values
            for k, text in enumerate(self.personas.primed[value])
        ]
        instrument = self.opened.instrument
        return [
            {
                "primed": value,
                "template": k,
                "text": text,
                "shared": ", ".join(hearing.shared_stems([text], instrument)),
            }
            for value, k, text in texts
        ]


def _refuse_unread(responses: Sequence[Response], model: str) -> None:
    """Raise BadInput where a statement could not be scored: a change of it has no number."""
    unread = [response.item for response in responses if response.status != "parsed"]
    if unread:
        raise BadInput(
            f"{len(unread)} of {len(responses)} questions are longer than {model} reads, the first"
            f" of item {unread[0]}. Choose an instrument of shorter items."
        )


def _whole(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Give the row of each mode and part that is the mean over its wordings and orders."""
    return {(row["mode"], row["part"]): row for row in rows}  # it is the last of them


def _figures(settings: HearSettings, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Give the run's few figures: the best mode that is heard, and how well each is."""
    whole = _whole(rows)
    passing = [row for row in whole.values() if row["passes"]]
    best = max(passing, key=lambda row: (row["rank"], -row["p"]), default=None)
    figures: dict[str, Any] = {
        "instrument": settings.instrument,
        "heard": best["mode"] if best else "none",
    }
    for (mode, part), row in whole.items():
        name = part if mode == "voice" else mode
        figures[f"{name}_rank"] = row["rank"]
        figures[f"{name}_p"] = row["p"]
    if best:
        figures["resolution"] = best["resolution"]
    return figures
