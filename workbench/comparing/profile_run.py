"""Measure one model on one instrument: a run of kind `profile`.

1. The instrument's questions are asked in every context, unsteered and, where a steering is given,
   steered; by log-probability or in words. What was asked before is not asked again.
2. With a gate, a detector reads every question, and only those it opens for are steered.
3. Free answers are rated by a judge. Every answer is kept as a response, the profile is their mean
   with an interval, raw and centred.
4. In mode `voice` statements are scored as the model's own words; what is likely after a request
   that asks for no opinion is subtracted, the topic's part stands beside (`measuring/voice.py`).
5. Beside every profile stands what speaks against it: answers that are missing, reliability and
   biases (`measuring/quality.py`).

The verb `measure` makes one such run, the verb `contrast` one a subject and instrument.
"""

import dataclasses
import hashlib
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast

from feature_store.bounds import MANY, Between, Plugin
from feature_store.errors import BadInput
from feature_store.files import digest
from feature_store.progress import Progress
from feature_store.records import Response, Run, Steering, Unit
from feature_store.work import Work
from sae_training.engine.vision import VisionModel
from workbench import material
from workbench.llm import LLM, Judge, open_llm
from workbench.llm.cached import answered_as
from workbench.llm.judges import LLMJudge, inputs_of, open_judge
from workbench.llm.reading import RULES
from workbench.measuring import voice
from workbench.measuring.administer import Elicitation, Mode, administer
from workbench.measuring.defaults import AskingSettings, open_question_names
from workbench.measuring.heard import AskedMode, resolved, tried, verdict
from workbench.measuring.quality import change_quality, quality
from workbench.measuring.questionnaire import Opened, open_instrument
from workbench.measuring.questions import Question, prompt_rows, questions
from workbench.measuring.respondents import LocalRespondent, RemoteRespondent, Respondent
from workbench.measuring.seeing import VisionRespondent
from workbench.settings import LocalModelSettings
from workbench.steering import gates
from workbench.steering.apply import one_steering, respondent
from workbench.workspace import Workspace

if TYPE_CHECKING:
    from sae_training.engine.model import Model


@dataclasses.dataclass(frozen=True)
class MeasureSettings(AskingSettings, LocalModelSettings):
    """Which model is asked which instrument, under which steering."""

    model: str = ""
    """Folder or hub id of the model, with `vision:` before it if it sees, or `organism`; empty:
    the model of `sae`."""
    sae: str = "latest"
    """Run of the SAE; needed for steering, and for the model where none is given."""
    features: tuple[str, ...] = ()
    """Features to steer, as index or index:weight; none: the model as it is."""
    method: Annotated[str, Plugin("steerings")] = "add"
    """Steering plug-in."""
    strength: Annotated[float, Between(-MANY, MANY)] = 0.0
    """How far to steer [unit]."""
    unit: Unit = "norm_share"
    """raw: residual units; feature_max: multiples of the feature's maximum; norm_share: share of
    the median residual norm."""
    gate: Annotated[str, Plugin("detectors")] = ""
    """Detector plug-in that decides which questions are steered (conditional steering); empty:
    all are."""
    gate_value: str = ""
    """Value that the detector looks for."""
    gate_options: tuple[str, ...] = ()
    """The detector's own settings, as key=value."""
    threshold: float = 0.5
    """Score from which on a question is steered [0 to 1]."""
    instrument: Annotated[str, Plugin("instruments")] = "standin"
    """Instrument plug-in."""
    settings: tuple[str, ...] = ()
    """The instrument's own settings, as key=value: the file of its items, for one."""


@dataclasses.dataclass(frozen=True)
class ProfileMeasurement:
    """One model and one instrument, ready to be asked."""

    study: Workspace
    """Where answers are kept."""
    settings: MeasureSettings
    """How it is asked, with the model's name and the SAE's run filled in."""
    opened: Opened
    """The instrument with its items."""
    questions: list[Question]
    """Every question, in the order in which it is asked."""
    base: Respondent
    """The model as it is."""
    steered: Respondent | None
    """The model under the steering; None where there is no steering."""
    steering: Steering
    """What was changed; named `base` where nothing was."""
    judge: Judge | None
    """Rates free answers; None where the instrument reads them by rule."""
    detector: gates.Detector | None
    """Decides which questions are steered; None: all are."""

    def build(self, work: Work, progress: Progress) -> dict[str, Any]:
        """Ask every question, write the tables of the run and return its figures."""
        is_open = self._gate() if self.steered else []  # a gate that cannot be opened asks nothing
        states = [self._answers(self.base, "base", self.questions, progress)]
        figures: dict[str, Any] = {}
        if self.steered:
            states.append(self._steered_answers(states[0], is_open, progress))
            figures = {"gated": sum(is_open)} if self.settings.gate else {}
        plugin, instrument = self.opened.plugin, self.opened.instrument
        reference: list[Response] = []
        if self.settings.mode == "voice":
            reference = self._answers(self.base, voice.REFERENCE, self._reference, progress)
            states = [voice.relative(state, reference) for state in states]
            self._write_topics(work, states, reference)
        if self.judge:
            # Once all are there: a judge may find several values in a text, each a response.
            states = [plugin.rate(state, instrument, self.judge) for state in states]
        responses = [*itertools.chain.from_iterable(states), *reference]
        work.table("prompts", prompt_rows(self.questions), sort=("context", "wording", "order"))
        work.table("responses", responses, sort=("steering", "value", "context"))
        self._write_scores(work, states)
        return {
            "instrument": self.settings.instrument,
            "steering": self.steering.name,
            "answers": len(responses),
            "missing": sum(r.status != "parsed" for r in responses),
            "contexts": len({q.context for q in self.questions}),
            **_too_long(responses),
            **self._heard(),
            **answered_as(*self._talkers()),
            **figures,
        }

    def _talkers(self) -> list[LLM]:
        """Give the language models behind the respondent and the judge, where there are any."""
        talkers = [self.base.llm] if isinstance(self.base, RemoteRespondent) else []
        return [*talkers, self.judge.llm] if isinstance(self.judge, LLMJudge) else [*talkers]

    def _answers(
        self,
        respondent: Respondent,
        steering: str,
        questions: list[Question],
        progress: Progress,
    ) -> list[Response]:
        """Ask a respondent; no questions, no answers."""
        if not questions:
            return []
        return administer(
            respondent,
            self.opened.instrument,
            questions,
            steering,
            progress,
            elicitation=Elicitation(
                mode=cast(Mode, self.settings.mode),
                length=self.settings.length,
                temperature=self.settings.temperature,
                new_tokens=self.settings.new_tokens,
                read=self.opened.plugin.read,
            ),
        )

    def _gate(self) -> list[bool]:
        """Decide for each question whether it is steered."""
        if self.detector is None:
            return [True] * len(self.questions)
        prompts = [q.prompt for q in self.questions]
        return gates.gate(self.detector, prompts, self.settings.threshold).open.tolist()

    def _steered_answers(
        self, base: list[Response], is_open: list[bool], progress: Progress
    ) -> list[Response]:
        """Ask the steered model where the gate is open.

        Behind a closed gate the model is as it was, to the bit, and so is its answer.
        """
        assert self.steered is not None
        gate = self.settings.gate
        steering = self.steering.name + (f" gated by {gate}" if gate else "")
        opened = list(itertools.compress(self.questions, is_open))
        changed = iter(self._answers(self.steered, steering, opened, progress))
        return [
            next(changed) if open else dataclasses.replace(response, steering=steering)
            for response, open in zip(base, is_open, strict=True)
        ]

    def _heard(self) -> Mapping[str, Any]:
        """Say whether priming moves the answers, and which difference may be claimed."""
        settings = self.settings
        if not _of_statements(self.opened):
            return {}
        return verdict(self.study, settings.mode, settings.model, settings.instrument)

    @property
    def _reference(self) -> list[Question]:
        """The items after a request that asks for no opinion (mode `voice`)."""
        return voice.reference_questions(self.opened.instrument, self._model.chat)

    @property
    def _model(self) -> "Model":
        """The model that runs here, in mode `voice`, which no other kind answers in."""
        assert isinstance(self.base, LocalRespondent)
        return self.base.model

    def _write_topics(
        self, work: Work, states: Sequence[list[Response]], reference: list[Response]
    ) -> None:
        """Write what talk about each value became likelier by, and the reversals that were used."""
        replicates, seed = self.settings.replicates, self.settings.seed
        rows = [
            row for state in states for row in voice.topic_rows(state, reference, replicates, seed)
        ]
        work.table("topics", rows)
        work.table("reversals", voice.reversal_rows(self.opened.instrument))

    def _write_scores(self, work: Work, states: Sequence[list[Response]]) -> None:
        """Write the profiles, what speaks against them, and what else the instrument reports.

        `states`: the answers of the model as it is, then of the steered one where there is one.
        """
        plugin, instrument, system = self.opened.plugin, self.opened.instrument, self.study.system
        replicates, seed = self.settings.replicates, self.settings.seed
        profiles, qualities = [], []
        reports: dict[str, list[Any]] = {}
        for state in states:
            profiles += plugin.score(state, instrument, system, replicates, seed)
            qualities += quality(state, instrument, system, replicates, seed)
        for state in states[1:]:
            qualities += change_quality(states[0], state, instrument, system, seed)
        for state in states:
            for relation, rows in plugin.tables(
                state, instrument, system, replicates, seed
            ).items():
                reports.setdefault(relation, []).extend(rows)
        work.table("profiles", profiles)
        work.table("quality", qualities)
        for relation, rows in reports.items():
            work.table(relation, rows)


def measure_profile(study: Workspace, settings: MeasureSettings, progress: Progress) -> Run:
    """Measure a model on an instrument, or give the finished run of the same measurement.

    The run's id follows from the settings, the model's revision, the items, the SAE and the judge.
    Raises BadInput where settings do not go together.

        run = measure_profile(study, MeasureSettings(model="organism", n_contexts=4), silent)
        study.store.sql("SELECT value, mean FROM profiles WHERE run = ? AND centred", [run.id])
    """
    steering = one_steering(settings.features, settings.method, settings.strength, settings.unit)
    opened = open_instrument(settings.instrument, settings.settings, study.system, study.folder)
    _check(settings, opened, steering, study)
    sae_run = _sae_run(study, settings, steering)
    name = settings.model or (sae_run.config["model"] if sae_run else "")
    source = sae_run.config if sae_run else vars(settings)
    settings = resolved(study, settings, source, progress)
    _check_mode(settings, opened)
    base, steered, revision = _respondents(study, settings, name, sae_run, steering)
    asked = _questions(settings, opened, name, base)
    judge = None
    if settings.judge:
        judge = open_judge(settings.judge, study.model, study.folder / "answers.jsonl")
    items = hashlib.sha256(repr(opened.instrument).encode()).hexdigest()
    inputs = {"model": revision, "items": items}
    if sae_run:
        inputs["sae"] = sae_run.id
    later = dict(opened.instrument.later_wordings)
    if asked_later := sorted({question.wording for question in asked} & later.keys()):
        texts = repr([(wording, later[wording]) for wording in asked_later])
        inputs["wordings"] = hashlib.sha256(texts.encode()).hexdigest()
    if settings.mode == "voice":
        inputs["statements"] = voice.digest(asked)
    if _of_statements(opened):
        inputs |= tried(study, settings.mode, name, settings.instrument)
    if settings.mode == "generate" or not all(question.answers for question in asked):
        inputs["reading"] = RULES
    if judge:
        inputs |= inputs_of(judge)
    if os.path.isfile(settings.contexts):
        inputs["contexts"] = digest(settings.contexts)
    detector = None
    if settings.gate:
        detector = gates.make(study, settings.gate, settings.gate_value, settings.gate_options)
        inputs["gate"] = gates.pinned(detector, settings.gate_options)
    pinned = dataclasses.replace(settings, model=name, sae=sae_run.id if sae_run else "")
    measurement = ProfileMeasurement(
        study=study,
        settings=pinned,
        opened=opened,
        questions=asked,
        base=base,
        steered=steered,
        steering=steering,
        judge=judge,
        detector=detector,
    )
    return study.make("profile", pinned, inputs, lambda work: measurement.build(work, progress))


def _of_statements(opened: Opened) -> bool:
    """Whether an instrument is made of statements, whose ratings personas can prime."""
    return opened.instrument.answer == "rating"


def _check(settings: MeasureSettings, opened: Opened, steering: Steering, study: Workspace) -> None:
    """Raise BadInput where settings do not go together."""
    is_steered = steering.name != "base"
    _check_gate(settings, is_steered, study)
    # What is not resolved yet asks on the scale, or, where that is heard better, by voice.
    mode: AskedMode = "logprob" if settings.mode == "auto" else settings.mode
    _check_mode(dataclasses.replace(settings, mode=mode), opened)
    if opened.plugin.judged and not settings.judge:
        raise BadInput(
            f"{settings.instrument}'s free answers are rated by a judge. Name its language model"
            " with --judge."
        )
    if settings.judge and not opened.plugin.judged:
        raise BadInput(
            f"{settings.instrument} needs no judge: its answers are read by rule. Leave --judge"
            " out."
        )
    if "://" in settings.model and is_steered:
        raise BadInput(
            f"{settings.model} runs elsewhere and cannot be steered. Steer a model that runs here,"
            " or leave --features out."
        )


def _check_gate(settings: MeasureSettings, is_steered: bool, study: Workspace) -> None:
    """Raise BadInput where a gate has nothing to decide, or does not know what to look for."""
    if settings.gate and not is_steered:
        raise BadInput(
            "A gate decides where a steering acts, and none was given. Name one with --features and"
            " --strength, or leave --gate out."
        )
    if not settings.gate and (settings.gate_value or settings.gate_options):
        raise BadInput(
            "--gate-value and --gate-options belong to a gate. Name it with --gate, or leave them"
            " out."
        )
    if settings.gate and not settings.gate_value:
        raise BadInput(
            "Which value does the gate look for? Name it with --gate-value:"
            f" {', '.join(study.system.ids)}."
        )


def _check_mode(settings: MeasureSettings, opened: Opened) -> None:
    """Raise BadInput where answers cannot be brought forth in the mode that is set."""
    if settings.mode == "logprob" and opened.instrument.answer == "text":
        raise BadInput(f"{settings.instrument} asks for free answers. Use --mode generate.")
    if settings.mode != "generate" and "://" in settings.model:
        raise BadInput(f"{settings.model} answers in words only. Use --mode generate.")
    if settings.mode == "voice":
        voice.reversible(opened.instrument)
        if settings.length != "mean":
            raise BadInput(
                "Mode voice counts log-probabilities per token: a statement and its reversal differ"
                " in length. Leave --length out."
            )
    is_sampled = settings.mode == "generate" and settings.temperature != 0
    if settings.repeats != 1 and (not is_sampled or settings.repeats < 1):
        raise BadInput(
            "Repeats of an answer that is not sampled are the same answer. Use --mode generate with"
            " --temperature 1, or --repeats 1."
        )


def _sae_run(study: Workspace, settings: MeasureSettings, steering: Steering) -> Run | None:
    """Give the SAE's run; None where a model is named and nothing is steered."""
    if settings.model and steering.name == "base":
        return None
    sae_run = study.resolve("sae", settings.sae)
    if settings.model and settings.model != sae_run.config["model"]:
        raise BadInput(
            f"{sae_run.id} belongs to {sae_run.config['model']}, not to {settings.model}. Name its"
            " SAE with --sae, or leave --model out."
        )
    return sae_run


def _questions(
    settings: MeasureSettings, opened: Opened, name: str, base: Respondent
) -> list[Question]:
    """Write the questions for a model: its wordings and contexts unless others are named."""
    source = material.default_source(name)
    bare = settings.contexts == "none" or not (settings.contexts or opened.plugin.contexts)
    if settings.mode == "voice":
        bare = bare or not settings.contexts  # open questions are the clusters
    contexts = [""]
    if not bare:
        contexts = material.contexts(
            settings.contexts or source,
            settings.n_contexts,
            settings.seed,
            settings.text_column,
        )
    if settings.mode == "voice":
        assert isinstance(base, LocalRespondent)
        chat = base.model.chat
        names = open_question_names(settings.wordings, settings.n_contexts, chat)
        return voice.voice_questions(opened.instrument, chat, names, contexts, settings.persona)
    wordings = settings.wordings or opened.plugin.wordings(
        opened.instrument, material.is_organism(name)
    )
    repeats = range(settings.seed, settings.seed + settings.repeats)
    return questions(opened.instrument, contexts, wordings, repeats, settings.persona)


def _too_long(responses: list[Response]) -> dict[str, int | str]:
    """How many questions were longer than the model reads, and which items; nothing where none
    was.
    """
    items = list(dict.fromkeys(r.item for r in responses if r.status == "too-long"))
    if not items:
        return {}
    return {
        "too_long": sum(r.status == "too-long" for r in responses),
        "too_long_items": ", ".join(items[:5]) + (", ..." if len(items) > 5 else ""),
    }


def _respondents(
    study: Workspace,
    settings: MeasureSettings,
    name: str,
    sae_run: Run | None,
    steering: Steering,
) -> tuple[Respondent, Respondent | None, str]:
    """Give the model as it is, the steered model where one is steered, and what is pinned of it."""
    if "://" in name:
        remote = RemoteRespondent(open_llm(name, study.model), study.folder)
        return remote, None, remote.name
    model = study.model_for(name, sae_run, settings.revision, settings.dtype, settings.device)
    kind = VisionRespondent if isinstance(model, VisionModel) else LocalRespondent
    base = kind(model, study.folder)
    if sae_run is None or steering.name == "base":
        return base, None, model.pinned
    return base, respondent(study, sae_run, steering, kind), model.pinned
