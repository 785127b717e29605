"""Compare the value profiles of models and steerings, on one or several instruments, and see
whether the instruments agree.

1. Every subject (`workbench/comparing/subjects.py`) answers every instrument: one run of kind
   `profile` each (`comparing/profile_run.py`), or found where it was made before.
2. On each instrument every subject's centred profile less that of the first subject, by value, with
   interval, p and q (`contrasts.py`). An instrument may add what its paper reports of subjects
   beside each other (`Questionnaire.between`).
3. What a subject changed laid over the motivational circle: which way, how much, and how well a
   circle explains it (`causal/circumplex.py`).
4. Between every two instruments: do they see the same (`validity.py`)?

Left out: agreement with people, and instruments of different value systems.
"""

import dataclasses
import itertools
import json
from typing import Annotated, Any

import numpy as np

from feature_store import queries
from feature_store.bounds import MANY, Between, Count, Plugin
from feature_store.errors import BadInput
from feature_store.progress import Progress
from feature_store.records import Response, Run, Unit
from workbench.comparing.contrasts import difference, rows
from workbench.comparing.profile_run import MeasureSettings, measure_profile
from workbench.comparing.subjects import EVERY, Subject, subjects
from workbench.comparing.validity import FEWEST, mtmm, validity
from workbench.features.output_scores import with_outputs
from workbench.measuring.defaults import AskingSettings
from workbench.measuring.profiles import Cells
from workbench.measuring.questionnaire import open_instrument
from workbench.settings import make, plain
from workbench.statistics import circle
from workbench.statistics.intervals import known_mean
from workbench.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class ContrastSettings(AskingSettings):
    subjects: tuple[str, ...] = ("base",)
    """Who is compared, the reference first: base, power+, f12+f40*-1@0.4, organism, a folder, a
    hub id, https://host/v1#model; `values`: base and every value up and down."""
    instruments: Annotated[tuple[str, ...], Plugin("instruments")] = ("standin",)
    """Instrument plug-ins."""
    settings: tuple[str, ...] = ()
    """The instruments' own settings, as instrument.key=value."""
    labels: str = "latest"
    """Run of the labels whose features are turned where subjects are values; its SAE is steered."""
    sae: str = "latest"
    """Run of the SAE whose model is `base`, where no value is turned."""
    features_per_value: Count = 8
    """Features of each value, steered as one direction."""
    method: Annotated[str, Plugin("steerings")] = "add"
    """Steering plug-in."""
    strength: Annotated[float, Between(-MANY, MANY)] = 0.3
    """How far values are turned [unit]."""
    unit: Unit = "norm_share"
    """raw: residual units; feature_max: multiples of the feature's maximum; norm_share: share of
    the median residual norm."""


def run(study: Workspace, config: ContrastSettings, progress: Progress) -> Run:
    """A run of kind `contrast`."""
    if not config.instruments:
        raise BadInput("Name at least one instrument with --instruments, such as standin.")
    opened = {
        name: open_instrument(name, _settings(config, name), study.system, study.folder)
        for name in config.instruments
    }
    label_run = (
        study.resolve("labels", config.labels)
        if any(name == EVERY or name[-1:] in "+-" for name in config.subjects)
        else None
    )
    labels = with_outputs(study, label_run.id if label_run else "")
    sae = label_run.inputs["sae"] if label_run else config.sae
    who = subjects(
        config.subjects, labels, study.system, config.features_per_value, config.strength
    )
    made = {
        (name, one.name): _measure(study, config, name, one, sae, progress)
        for name in opened
        for one in who
    }
    inputs = {f"{name} {subject}": run.id for (name, subject), run in made.items()} | (
        {"labels": label_run.id} if label_run else {}
    )
    plainly = plain(dataclasses.replace(config, labels=label_run.id if label_run else "", sae=sae))
    if study.runs.exists(id := study.runs.find("contrast", plainly, inputs, config.seed)):
        return study.runs.get(id)
    with study.runs.begin("contrast", plainly, inputs, config.seed) as work:
        progress("comparing", 0, len(opened))
        said = {key: _steering(study, run) for key, run in made.items()}
        work.table(
            "subjects",
            [
                {
                    "instrument": name,
                    "subject": subject,
                    "profile": run.id,
                    "steering": said[name, subject],
                }
                for (name, subject), run in made.items()
            ],
        )
        contrasts, circles, means = [], [], {}
        more: dict[str, list[Any]] = {}
        for number, (name, one) in enumerate(opened.items()):
            told = {s.name: _responses(study, made[name, s.name], said[name, s.name]) for s in who}
            cells = {
                subject: one.plugin.cells(responses, one.instrument, study.system)
                for subject, responses in told.items()
            }
            for relation, lines in one.plugin.between(
                told, one.instrument, study.system, config.replicates, config.seed
            ).items():
                more.setdefault(relation, []).extend(lines)
            asked = {s.name: _asked(study, made[name, s.name]) for s in who}
            first = who[0].name
            found = {
                s.name: (
                    difference(
                        cells[first],
                        cells[s.name],
                        asked[first] == asked[s.name],
                        config.replicates,
                        config.seed,
                    ),
                    asked[first] == asked[s.name],
                )
                for s in who[1:]
            }
            contrasts += rows(name, first, found, cells)
            for subject, (change, _) in found.items():
                known = {
                    study.system[value].angle
                    for value, x in zip(cells[first].values, change.mean, strict=True)
                    if np.isfinite(x)
                }
                if study.system.circular and len(known) > 2:
                    circles.append(
                        _circle(study, name, subject, cells[first].values, change.mean, config)
                    )
            means[name] = np.stack([_means(cells[s.name], study.system.ids) for s in who])
            progress("comparing", number + 1, len(opened))
        work.table("contrasts", contrasts)
        work.table("circle_fits", circles)
        for relation, lines in more.items():
            work.table(relation, lines)
        enough = len(who) >= FEWEST
        work.table("mtmm", mtmm(means, study.system.ids) if enough else [])
        agreed = [
            {"instrument": a, "other_instrument": b, **told._asdict()}
            for a, b in itertools.combinations(means, 2)
            for told in validity(means[a], means[b], config.replicates, config.seed)
        ]
        work.table("validity", agreed)
        return work.finish(
            {
                "subjects": len(who),
                "instruments": len(opened),
                "profiles": len(made),
                "differences": len(contrasts),
                "differ": sum(row["q"] < 0.05 for row in contrasts),
                "missing": sum(run.summary["missing"] for run in made.values()),
            }
            | {
                f"{row['metric']}_{row['instrument']}_{row['other_instrument']}": row["value"]
                for row in agreed
                if row["metric"] in ("convergent", "profile")
            }
        )


def _settings(config: ContrastSettings, instrument: str) -> tuple[str, ...]:
    """The settings of one instrument. Raises BadInput where some setting belongs to none."""
    for told in config.settings:
        if told.split(".")[0] not in config.instruments:
            raise BadInput(
                "A setting is written instrument.key=value with one of"
                f" {', '.join(config.instruments)}, got {told!r}."
            )
    return tuple(
        told.removeprefix(f"{instrument}.")
        for told in config.settings
        if told.startswith(f"{instrument}.")
    )


def _measure(
    study: Workspace,
    config: ContrastSettings,
    instrument: str,
    subject: Subject,
    sae: str,
    progress: Progress,
) -> Run:
    """The subject's profile on the instrument."""
    # What is left as it is stays so: 0 new tokens stand for as many as the instrument needs, and
    # may not be said.
    asking: dict[str, Any] = {
        field.name: told
        for field in dataclasses.fields(AskingSettings)
        if (told := getattr(config, field.name)) != field.default
    }
    more: dict[str, Any] = dict(subject.settings)
    if "model" not in more:
        more["sae"] = sae
    if subject.steered:
        more |= {"method": config.method, "unit": config.unit}
    if (
        open_instrument(
            instrument, _settings(config, instrument), study.system, study.folder
        ).instrument.answer
        != "text"
    ):
        asking["judge"] = ""

    def told(stage: str, done: int, total: int) -> None:
        progress(f"{stage} {subject.name}, {instrument}", done, total)

    flags = {"instrument": instrument, "settings": _settings(config, instrument), **asking, **more}
    return measure_profile(study, make(MeasureSettings, flags), told)


def _steering(study: Workspace, profile: Run) -> str:
    """What was changed in the state that the subject is: the steered one where there are two."""
    names = study.store.sql(
        "SELECT DISTINCT steering FROM profiles WHERE run = ? ORDER BY steering = 'base'",
        [profile.id],
    ).steering
    return str(names[0])


def _responses(study: Workspace, profile: Run, steering: str) -> list[Response]:
    told = queries.responses(study.store, profile.id, steering).to_dict("records")
    return [
        Response(
            **{
                **row,
                "logprobs": tuple(row["logprobs"]),
                "rating": np.nan if row["rating"] is None else row["rating"],
            }
        )
        for row in told
    ]


def _asked(study: Workspace, profile: Run) -> frozenset[str]:
    """What was asked, to see whether two profiles are paired."""
    told = study.store.sql(
        'SELECT context, item, wording, "order", prompt FROM prompts WHERE run = ?', [profile.id]
    )
    return frozenset(json.dumps(row) for row in told.astype(str).values.tolist())


def _means(cells: Cells, values: tuple[str, ...]) -> np.ndarray:
    """Centred mean of every value of the system; NaN where it was not measured."""
    known = dict(zip(cells.values, known_mean(cells.centred, 0), strict=True))
    return np.array([known.get(value, np.nan) for value in values])


def _circle(
    study: Workspace,
    instrument: str,
    subject: str,
    values: tuple[str, ...],
    change: np.ndarray,
    config: ContrastSettings,
) -> dict[str, Any]:
    """The row of `circle_fits`."""
    fit = circle.fit(change, circle.angles(study.system, values), config.replicates, config.seed)
    nearest = min(
        values, key=lambda value: abs(np.angle(np.exp(1j * (study.system[value].angle - fit.phi))))
    )
    return {
        "instrument": instrument,
        "subject": subject,
        "towards": nearest,
        **fit._asdict(),
        "n": int(np.isfinite(change).sum()),
    }
