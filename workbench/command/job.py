"""A job file as the stages of a whole study: `workbench study STUDY --job FILE`.

1. Every table of the file is a stage, in the order of the file: `[effects]` runs the verb
   `effects`. A verb that is needed several times has tables with a name each, such as
   `[effects.directions]`. Top-level keys are settings of every stage that has them; `system` is the
   value system of a new study.
2. A stage builds on the newest earlier stage that makes what it needs. A setting whose value is an
   earlier stage's name, such as `effects = "effects.directions"`, means that stage's run; so does a
   name in a list of runs.
3. Verbs, settings and what each stage needs are checked before the first stage runs.
4. Stages run in order. Finished ones are skipped, interrupted ones go on. One that fails is noted;
   what builds on it is left out, and the rest goes on.

Left out: stages side by side, and stages that depend on a result.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from feature_store.errors import BadInput, NotFound, WorkbenchError
from feature_store.files import listed, read_toml
from feature_store.progress import Progress, part
from feature_store.records import Run
from workbench import settings, verbs
from workbench.study import Study
from workbench.verb_table import VERBS, makers, verb_named

LATEST = "latest"
"""What a setting that names a run is by default."""


class Stage(NamedTuple):
    """A step of a job."""

    name: str
    """Its table: a verb, or a verb and a name, such as `effects.directions`."""
    verb: str
    """What it runs."""
    given: Mapping[str, Any]
    """Settings of its table, and of the file's top that its verb knows."""
    builds_on: Mapping[str, str]
    """Setting -> name of the earlier stage whose run it means."""


class Job(NamedTuple):
    """What a job file says."""

    stages: list[Stage]
    """In the order in which they run."""
    system: str
    """Value system of a new study; empty: the usual one."""


class JobOutcome(NamedTuple):
    """What became of a job's stages."""

    runs: dict[str, Run]
    """Stage -> the run that it made, or had made before."""
    failed: dict[str, str]
    """Stage -> why it has no run."""


def read_job(file: Path) -> Job:
    """Read a job file, and check all that the file alone decides.

    Raises BadInput or NotFound for a table that is no verb, for a setting that its verb does not
    take, and for a file without stages.

        [stage.name for stage in read_job(Path("jobs/smollm2.toml")).stages]
    """
    if not file.exists():
        raise NotFound(f"There is no job file {file}. `jobs/` holds examples.")
    job = read_toml(file)
    shared = {key: value for key, value in job.items() if not isinstance(value, dict)}
    system = str(shared.pop("system", ""))
    stages: list[Stage] = []
    for verb, table in job.items():
        if isinstance(table, dict):
            verb_named(verb)
            for name, table_of_stage in _tables(verb, table).items():
                stages.append(_stage(name, verb, shared, table_of_stage, stages))
    if not stages:
        raise BadInput(
            f"{file} names no stage. Write a table for each verb, such as [train], in the order in"
            " which they run."
        )
    unused = _spelt(shared).keys() - {name for stage in stages for name in _fields(stage.verb)}
    if unused:
        raise NotFound(f"{file}: no stage has a setting {listed(sorted(unused))}.")
    return Job(stages=stages, system=system)


def _tables(verb: str, table: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Split the table of a verb that is needed several times; name of the stage -> settings."""
    parts = {name: value for name, value in table.items() if isinstance(value, dict)}
    if not parts:
        return {verb: dict(table)}
    if loose := [name for name in table if name not in parts]:
        raise BadInput(
            f"[{verb}] has stages of its own ({listed(parts)}) and the setting {listed(loose)}"
            f" beside them. Write it into each of the stages, as in [{verb}.{next(iter(parts))}]."
        )
    return {f"{verb}.{name}": value for name, value in parts.items()}


def _fields(verb: str) -> dict[str, Any]:
    """Give the settings of a verb with their defaults."""
    fields: Sequence[dataclasses.Field[Any]] = dataclasses.fields(verbs.load(verb).settings)
    return {field.name: field.default for field in fields}


def _stage(
    name: str,
    verb: str,
    shared: Mapping[str, Any],
    table: Mapping[str, Any],
    earlier: Sequence[Stage],
) -> Stage:
    """Make a stage of its table and of what all stages share, its settings checked."""
    fields = _fields(verb)
    known = {key: value for key, value in _spelt(shared).items() if key in fields}
    known |= _spelt(table)
    names = {stage.name for stage in earlier}
    builds_on = {
        key: value
        for key, value in known.items()
        if fields.get(key) == LATEST and isinstance(value, str) and value in names
    }
    for kind in VERBS[verb].needs:
        makes = [stage.name for stage in earlier if VERBS[stage.verb].makes == kind]
        if makes and fields.get(kind) == LATEST and kind not in known:
            builds_on[kind] = makes[-1]
    _check_references(name, builds_on, earlier)
    known = {key: value for key, value in known.items() if key not in builds_on}
    try:
        settings.make(verbs.load(verb).settings, known)
    except WorkbenchError as error:
        raise type(error)(f"[{name}]: {error}") from None
    return Stage(name=name, verb=verb, given=known, builds_on=builds_on)


def _check_references(name: str, builds_on: Mapping[str, str], earlier: Sequence[Stage]) -> None:
    """Refuse a stage whose runs are of the wrong kind, or do not belong together."""
    stages = {stage.name: stage for stage in earlier}
    for kind, source in builds_on.items():
        made = VERBS[stages[source].verb].makes
        if made != kind:
            raise BadInput(
                f"[{name}] needs a run of kind {kind}, and [{source}] makes one of kind {made}."
                f" Name a stage of {' or '.join(makers(kind))}."
            )
        for other, meant in stages[source].builds_on.items():
            if builds_on.get(other, meant) != meant:
                raise BadInput(
                    f"[{name}] builds on [{builds_on[other]}], and its {kind} [{source}] on"
                    f' [{meant}]. Write {other} = "{meant}" into [{name}], or name another {kind}.'
                )


def _spelt(table: Mapping[str, Any]) -> dict[str, Any]:
    """Write the names of settings as fields are called."""
    return {key.replace("-", "_"): value for key, value in table.items()}


def _several(stage: Stage, stages: Sequence[Stage]) -> dict[str, list[str]]:
    """Give the settings of a stage that list runs, each with the stages of the job among them."""
    fields, names = _fields(stage.verb), {other.name for other in stages}
    return {
        key: [name for name in value if name in names]
        for key, value in stage.given.items()
        if fields[key] == (LATEST,)
    }


def check_needs(study: Study, stages: Sequence[Stage]) -> None:
    """Refuse a stage that needs, or names, what neither the study nor an earlier stage has."""
    for place, stage in enumerate(stages):
        _check_named(study, stage, stages[place + 1 :])
        verb = VERBS[stage.verb]
        for kind in verb.needs:
            named = kind in stage.given or (kind == "sae" and stage.given.get("model"))
            made = any(VERBS[before.verb].makes == kind for before in stages[:place])
            if named or made or study.runs.all(f"{kind}-"):
                continue
            later = [after.name for after in stages[place:] if VERBS[after.verb].makes == kind]
            advice = (
                f"Move [{later[0]}] above [{stage.name}]."
                if later
                else f"Add {' or '.join(f'[{maker}]' for maker in makers(kind))} above it."
            )
            raise BadInput(
                f"[{stage.name}] needs a run of kind {kind}, and no earlier stage makes one."
                f" {advice}"
            )


def _check_named(study: Study, stage: Stage, after: Sequence[Stage]) -> None:
    """Refuse a setting that names neither an earlier stage nor a run of the study."""
    fields = _fields(stage.verb)
    later = {stage.name for stage in after}
    for named in [name for names in _several(stage, after).values() for name in names]:
        raise BadInput(f"[{stage.name}] builds on [{named}]. Move [{named}] above [{stage.name}].")
    for key, named in stage.given.items():
        if fields[key] != LATEST or named in ("", LATEST):
            continue
        if named in later:
            raise BadInput(
                f"[{stage.name}] builds on [{named}]. Move [{named}] above [{stage.name}]."
            )
        if not study.runs.exists(named):
            raise NotFound(
                f"[{stage.name}]: {key} names neither an earlier stage nor a run: {named!r}."
            )


def run_job(study: Study, stages: Sequence[Stage], progress: Progress) -> JobOutcome:
    """Run the stages, as far as they can go.

    What a stage raises for a person's mistake is noted, and the stages that build on it are left
    out. Ctrl-C ends the job; asked again, it goes on.
    """
    outcome = JobOutcome(runs={}, failed={})
    for number, stage in enumerate(stages, 1):
        several = _several(stage, stages)
        used = [*stage.builds_on.values(), *(name for names in several.values() for name in names)]
        missing = [name for name in used if name in outcome.failed]
        if missing:
            outcome.failed[stage.name] = f"it builds on {listed(missing)}"
            continue
        pinned: dict[str, Any] = {
            key: outcome.runs[name].id for key, name in stage.builds_on.items()
        }
        for key in several:
            names = stage.given[key]
            pinned[key] = [outcome.runs[n].id if n in outcome.runs else n for n in names]
        shown = part(progress, f"{number} of {len(stages)}, {stage.name}")
        try:
            outcome.runs[stage.name] = study.do(stage.verb, {**stage.given, **pinned}, shown)
        except WorkbenchError as error:
            outcome.failed[stage.name] = str(error)
    return outcome
