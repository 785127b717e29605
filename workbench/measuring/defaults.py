"""What is asked unless something else is named: settings of a measurement, wordings and contexts.

1. `AskingSettings` says how an instrument is administered once, to a model as it is or steered.
2. `SweepAskingSettings` says what a sweep asks again under every intervention: one instrument on
   one scale, its first wording, a few contexts.
3. `default_wordings` and `sweep_questions` turn them into wordings and questions for a model: the
   organism has wordings and contexts of its own, other models are asked with both ends of the
   scale named.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from feature_store.bounds import (
    Between,
    Count,
    CountOrZero,
    Later,
    Plugin,
    Seed,
    Temperature,
    TextColumn,
)
from workbench import material
from workbench.measuring import voice
from workbench.measuring.heard import AskedMode, mode_for
from workbench.measuring.questionnaire import one_scale, open_instrument
from workbench.measuring.questions import Question, questions
from workbench.measuring.respondents import Length
from workbench.settings import Resampling
from workbench.workspace import Workspace

ScoredMode = Literal["logprob", "voice"]
"""How a sweep's questions are scored."""
CHOOSING = 2
"""Open questions that choose features, and that no sweep asks unless it names them."""


@dataclasses.dataclass(frozen=True)
class AskingSettings(Resampling):
    """How an instrument is administered."""

    wordings: tuple[str, ...] = ()
    """Wordings to ask; none: those made for the model."""
    contexts: str = ""
    """File with one context a line, or a table; empty: those made for the model, or none where
    the instrument wants none. `none`: no context, items are the clusters."""
    text_column: TextColumn = ""
    """Column of the texts in a table of contexts; empty: `text`, or the only one."""
    n_contexts: CountOrZero = 24
    """Contexts, the clusters of the intervals."""
    persona: str = ""
    """What the model is told it is, before everything else; empty: nothing."""
    mode: AskedMode = "auto"
    """`logprob`: score the offered answers; `generate`: let the model write; `voice`: score each
    statement, less its reversal, as the model's own words after open questions; `auto`: as
    `workbench hear` finds that the model is heard, which it tries first where it was not tried."""
    length: Length = "mean"
    """Log-probability of an answer per token, which does not favour short ones, or summed over
    its tokens."""
    temperature: Temperature = 0.0
    """Sampling temperature when it writes; 0: greedy."""
    repeats: Annotated[int, Between(1, 10_000)] = 1
    """How often each question is asked when answers are sampled; their agreement is the
    test-retest reliability."""
    new_tokens: Count = 0
    """Longest answer when it writes [tokens]; 0: 12 on a scale or among answers, 128 in free
    text."""
    judge: str = ""
    """Language model that rates free answers: organism, local:FOLDER-OR-HUB-ID or
    https://host/v1#model."""
    seed: Seed = 0
    """Seed of contexts, sampling and bootstrap."""


BY_SYSTEM: Mapping[str, str] = {"schwartz10": "standin", "schwartz19": "standin19"}
"""Value system -> the instrument of ours that is asked in it where none is named."""


def in_system(system: str, config: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Complete what is given of a verb's settings by the instrument that suits a value system.

    >>> in_system("schwartz19", SweepAskingSettings, {})
    {'instrument': 'standin19'}
    """
    usual = BY_SYSTEM.get(system, "standin")
    suited: dict[str, Any] = {}
    if usual != "standin":
        for field in dataclasses.fields(config):
            if field.default in ("standin", ("standin",)):
                suited[field.name] = usual if field.default == "standin" else (usual,)
    return suited | dict(given)


@dataclasses.dataclass(frozen=True)
class SweepAskingSettings:
    """What a sweep asks under every intervention: single items on one scale."""

    instrument: Annotated[str, Plugin("instruments")] = "standin"
    """Instrument plug-in."""
    wordings: tuple[str, ...] = ()
    """Wordings to ask; none: the first of those made for the model."""
    contexts: str = ""
    """File with one context a line, or a table; empty: those made for the model."""
    text_column: TextColumn = ""
    """Column of the texts in tables of contexts and of neutral texts; empty: `text`, or the only
    one."""
    n_contexts: CountOrZero = 24
    """Contexts, the clusters of the intervals; in mode `voice` open questions."""
    mode: Annotated[Literal["auto", "logprob", "voice"], Later(before="logprob")] = "auto"
    """`logprob`: score the answers of the scale; `voice`: each statement, less its reversal, as the
    model's own words after open questions, which `wordings` then names; `auto`: as `workbench hear`
    finds that the model is heard, which it tries first where it was not tried."""
    seed: Seed = 0
    """Seed of the contexts."""


def default_wordings(study: Workspace, instrument: str, model_name: str) -> tuple[str, ...]:
    """Name the wordings in which an instrument asks a model unless others are named.

    The organism knows wordings of its own; other models are asked with both ends of the scale
    named.
    """
    opened = open_instrument(instrument, (), study.system)
    return opened.plugin.wordings(opened.instrument, material.is_organism(model_name))


def open_question_names(
    names: Sequence[str], n_contexts: int, chat: bool, held: bool = False
) -> tuple[str, ...]:
    """Name the open questions of mode `voice`: those named, else at most `n_contexts` of all.

    They are the clusters of intervals. With `held` the last two, which then choose features, else
    the others.
    """
    if names:
        return tuple(names)
    known = tuple(voice.open_questions(chat))
    return known[-CHOOSING:] if held else known[:-CHOOSING][: n_contexts or None]


def sweep_questions(
    study: Workspace, model_name: str, settings: SweepAskingSettings, held: bool = False
) -> list[Question]:
    """Write a sweep's questions for a model, in the order context, wording, order, item.

    Wordings and contexts are those made for the model unless the settings name others. With
    `held`, the contexts are those kept for choosing features, which no measurement with the same
    seed asks in. Raises BadInput where the instrument does not ask single items on one scale.
    """
    if mode_for(study, settings.mode, model_name, settings.instrument) == "voice":
        instrument = one_scale(settings.instrument, study.system)
        chat = study.model(model_name).chat
        names = open_question_names(settings.wordings, settings.n_contexts, chat, held)
        return voice.voice_questions(instrument, chat, names)
    source = settings.contexts or material.default_source(model_name)
    draw = material.held_contexts if held else material.contexts
    wordings = settings.wordings or default_wordings(study, settings.instrument, model_name)[:1]
    return questions(
        one_scale(settings.instrument, study.system),
        draw(source, settings.n_contexts, settings.seed, settings.text_column),
        wordings,
    )
