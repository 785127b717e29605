"""Which mode hears a model: what the study's runs of kind `hearing` say, for whoever asks next.

1. `resolved` resolves the mode `auto` for a verb: a model that was not tried is tried first, once,
   briefly (`BRIEFLY`) and as a run of its own; then the mode that is heard counts, the scale where
   none is. A longer `workbench hear` takes its place, and is a second chance: chance passes one of
   the two in up to twice 5 % of models.
2. `mode_for` does so without trying.
3. `verdict` says of the mode that is used whether it was tried and passed, and warns where not: a
   profile that no priming moves says nothing about the model.

The organism answers its scale by construction (`workbench/organism`), so it is never in doubt. What
the verb `hear` refuses, or would take long over (`MOST_ITEMS`), is not tried unless it is wanted.
Left out: making a run of kind `hearing`; the verb `hear` does.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, Protocol, TypeVar, cast, runtime_checkable

from feature_store.errors import BadInput, Incompatible
from feature_store.progress import Progress
from feature_store.records import Instrument, Run
from feature_store.runs import warn_of
from workbench import material
from workbench.measuring import voice
from workbench.measuring.administer import Mode
from workbench.measuring.hearing import has_personas, personas
from workbench.measuring.questionnaire import open_instrument
from workbench.workspace import Workspace


@runtime_checkable
class Asks(Protocol):
    """Settings of a verb that asks an instrument."""

    @property
    def mode(self) -> Any:
        """How answers are scored, or `auto`."""

    @property
    def instrument(self) -> str:
        """Name of the instrument."""


Asking = TypeVar("Asking", bound=Asks)
AskedMode = Literal["auto", "logprob", "generate", "voice"]
"""A mode, or `auto`: the one that hears the model."""


MOST_ITEMS = 100
"""Most items of an instrument that is tried unbidden; each is asked under every persona."""
BRIEFLY: Mapping[str, Any] = {
    "modes": ("voice", "logprob"),
    "until_heard": True,
    "open_questions": 1,
    "templates": 2,
}
"""How a model is tried unbidden. Voice comes first: its statements share a prompt, where each on
the scale has one of its own, and it hears more."""


def mode_for(study: Workspace, mode: AskedMode, address: str, instrument: str) -> Mode:
    """Resolve `auto` for a model at an address; other modes stay as they are."""
    if mode != "auto":
        return mode
    run = _hearing(study, address, instrument)
    return "voice" if run and run.summary["heard"] == "voice" else "logprob"


def resolved(
    study: Workspace, settings: Asking, source: Mapping[str, Any], progress: Progress
) -> Asking:
    """Give settings whose mode `auto` is resolved for a model, as their run keeps them.

    `source` names the model as a run's configuration does: model, revision, dtype, device. One
    that was not tried is tried first, which `progress` shows.
    """
    address = source["model"]
    if settings.mode == "auto":
        _try_first(study, settings, source, progress)
    mode = mode_for(study, settings.mode, address, settings.instrument)
    return cast(Asking, dataclasses.replace(cast(Any, settings), mode=mode))


def _try_first(
    study: Workspace, settings: Asks, source: Mapping[str, Any], progress: Progress
) -> None:
    """Find out which mode hears a model where it can be found out and was not."""
    address, name = source["model"], settings.instrument
    own_settings = getattr(settings, "settings", ())
    if not _in_doubt(study, "auto", address) or _hearing(study, address, name):
        return
    instrument = open_instrument(name, own_settings, study.system, study.folder).instrument
    if not _is_primed(instrument):
        return
    flags: dict[str, Any] = {"instrument": name, "settings": own_settings, **BRIEFLY}
    flags |= {key: source[key] for key in ("model", "revision", "dtype", "device")}
    try:
        voice.reversible(instrument)
    except BadInput:  # it is asked on its scale alone
        flags["modes"] = ("logprob",)
    warn_of(
        [
            f"It is tried first which way of asking {name} hears {address} (`workbench hear`), once"
            f" for all that asks it: {', then '.join(flags['modes'])}, until it is heard;"
            f" {len(instrument.items)} statements under {_n_personas(study, instrument)} personas."
            " --mode logprob or voice asks without."
        ]
    )
    try:
        study.hear_first(flags, progress)
    except (BadInput, Incompatible) as error:
        warn_of([f"It could not be tried whether {name} hears {address}: {error}"])


def _n_personas(study: Workspace, instrument: Instrument) -> int:
    """Count the personas under whom an instrument is tried briefly."""
    texts = personas(study.system, BRIEFLY["templates"])
    measured = {item.value for item in instrument.items}
    return len(texts.neutral) + sum(len(texts.primed[value]) for value in measured)


def _is_primed(instrument: Instrument) -> bool:
    """Whether an instrument is made of few single statements on a scale, which personas move."""
    items = instrument.items
    single = all(item.value and not item.after and not item.image for item in items)
    return instrument.answer == "rating" and single and len(items) <= MOST_ITEMS


def tried(study: Workspace, mode: AskedMode, address: str, instrument: str) -> dict[str, str]:
    """Give the run that says whether a model is heard, as an input: its verdict is in the id."""
    if not _in_doubt(study, mode, address):
        return {}
    run = _hearing(study, address, instrument)
    return {"hearing": run.id} if run else {}


def _in_doubt(study: Workspace, mode: AskedMode, address: str) -> bool:
    """Whether priming could tell if a way of asking hears a model."""
    elsewhere = material.is_organism(address) or "://" in address
    return mode != "generate" and not elsewhere and has_personas(study.system)


def verdict(study: Workspace, mode: AskedMode, address: str, instrument: str) -> Mapping[str, Any]:
    """Say whether a mode hears a model: figures for a run's summary, and a warning where not.

    Nothing of the organism, of models behind an endpoint, of words that a model writes, and of
    values that no persona primes.
    """
    if not _in_doubt(study, mode, address):
        return {}
    run = _hearing(study, address, instrument)
    rows = study.store.sql(
        "SELECT passes, resolution, rank FROM hearings WHERE run = ? AND mode = ?"
        " AND part <> 'topic' ORDER BY wording = 'all', \"order\" = 'both'",
        [run.id if run else "", mode],
    )
    longer = f"`workbench hear {study.folder} --model {address}`"
    if rows.empty:
        # A mode that was named, or one that could not be tried.
        warn_of(
            [
                f"It is not known whether {instrument} hears {address} in mode {mode}: priming was"
                f" not tried. Run {longer}."
            ]
        )
        return {"heard": "not tried"}
    whole = rows.iloc[-1]
    if not whole.passes:
        more = f" It was tried briefly; {longer} asks more." if _was_brief(run) else ""
        warn_of(
            [
                f"{instrument} does not hear {address} in mode {mode}: the value that a persona"
                f" primes ranks at {whole['rank']:.2f} (0.5 is chance). No difference below may be"
                f" claimed.{more}"
            ]
        )
    return {
        "heard": "yes" if whole.passes else "no",
        "resolution": float(whole.resolution),
    }


def _was_brief(run: Run | None) -> bool:
    """Whether a model was tried unbidden."""
    return bool(run and run.config.get("until_heard", False))


def _hearing(study: Workspace, address: str, instrument: str) -> Run | None:
    """Find the newest run that tried an instrument on a model as it is now; None without one."""
    runs = [
        run
        for run in study.runs.all("hearing-")
        if run.config["model"] == address and run.config["instrument"] == instrument
    ]
    if not runs:
        return None
    run = runs[-1]
    config = run.config
    model = study.model(address, config["revision"], config["dtype"], config["device"])
    return run if run.inputs["model"] == model.pinned else None
