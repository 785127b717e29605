"""Compare the value profiles of models and steerings, on one or several instruments, and see
whether the instruments agree.

1. Every subject (`workbench/comparing/subjects.py`) answers every instrument: one run of kind
   `profile` each (`comparing/profile_run.py`), or found where it was made before.
2. On each instrument every subject's centred profile less that of the first subject, by value, with
   interval, p and q (`contrasts.py`). An instrument may add what its paper reports of subjects
   beside each other (`Questionnaire.between`).
3. What a subject changed laid over the motivational circle: which way, how much, and how well a
   circle explains it (`statistics/circle.py`).
4. Between every two instruments: do they see the same (`validity.py`)?

Left out: agreement with people, and instruments of different value systems.
"""

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float

from feature_store import queries
from feature_store.bounds import MANY, Between, Count, Plugin
from feature_store.errors import BadInput
from feature_store.progress import Progress
from feature_store.records import Response, Run, Unit
from feature_store.work import Work
from workbench.comparing.contrasts import Difference, difference, rows
from workbench.comparing.profile_run import MeasureSettings, measure_profile
from workbench.comparing.subjects import ComparedSubject, Steerable, subjects, turns_value
from workbench.comparing.validity import FEWEST, mtmm, validity
from workbench.features.output_scores import with_outputs
from workbench.measuring.defaults import AskingSettings
from workbench.measuring.profiles import Cells
from workbench.measuring.questionnaire import Opened, open_instrument
from workbench.settings import make
from workbench.statistics import circle
from workbench.statistics.intervals import known_mean
from workbench.workspace import Workspace

Profiles = Mapping[tuple[str, str], Run]
"""(instrument, subject) -> the run of its profile."""
Rows = list[dict[str, Any]]
"""Rows of a relation."""


@dataclasses.dataclass(frozen=True)
class ContrastSettings(AskingSettings):
    """Who is compared on which instruments."""

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


def run(study: Workspace, settings: ContrastSettings, progress: Progress) -> Run:
    """Make a run of kind `contrast`."""
    if not settings.instruments:
        raise BadInput("Name at least one instrument with --instruments, such as standin.")
    instruments = {
        name: open_instrument(name, _settings_of(settings, name), study.system, study.folder)
        for name in settings.instruments
    }
    label_run = None
    if any(map(turns_value, settings.subjects)):
        label_run = study.resolve("labels", settings.labels)
    compared = subjects(settings.subjects, _steerable(study, settings, label_run))
    pinned = dataclasses.replace(
        settings,
        labels=label_run.id if label_run else "",
        sae=label_run.inputs["sae"] if label_run else settings.sae,
    )
    profiles = {
        (name, subject.name): _measure(study, pinned, name, opened, subject, progress)
        for name, opened in instruments.items()
        for subject in compared
    }
    modes = {run.config["mode"] for run in profiles.values()}
    if len(modes) == 1:
        pinned = dataclasses.replace(pinned, mode=modes.pop())
    inputs = {f"{name} {subject}": run.id for (name, subject), run in profiles.items()}
    if label_run:
        inputs["labels"] = label_run.id
    names = [subject.name for subject in compared]
    comparison = _Comparison(
        study=study,
        settings=pinned,
        instruments=instruments,
        subjects=names,
        profiles=profiles,
    )
    return study.make("contrast", pinned, inputs, lambda work: comparison.build(work, progress))


def _steerable(study: Workspace, settings: ContrastSettings, label_run: Run | None) -> Steerable:
    """Say what values can be turned by: the features of the labels, if there are any."""
    return Steerable(
        labels=with_outputs(study, label_run.id if label_run else ""),
        system=study.system,
        features_per_value=settings.features_per_value,
        strength=settings.strength,
    )


def _settings_of(settings: ContrastSettings, instrument: str) -> tuple[str, ...]:
    """Give the settings of one instrument. Raises BadInput where some setting belongs to none."""
    for pair in settings.settings:
        if pair.split(".")[0] not in settings.instruments:
            raise BadInput(
                "A setting is written instrument.key=value with one of"
                f" {', '.join(settings.instruments)}, got {pair!r}."
            )
    prefix = f"{instrument}."
    return tuple(pair.removeprefix(prefix) for pair in settings.settings if pair.startswith(prefix))


def _measure(
    study: Workspace,
    settings: ContrastSettings,
    name: str,
    opened: Opened,
    subject: ComparedSubject,
    progress: Progress,
) -> Run:
    """Make the run of the subject's profile on the instrument `name`, as `measure` would."""
    flags: dict[str, Any] = {"instrument": name, "settings": _settings_of(settings, name)}
    for field in dataclasses.fields(AskingSettings):
        value = getattr(settings, field.name)
        # What is left as it is stays so: 0 new tokens stand for as many as the instrument needs,
        # and may not be written out.
        if value != field.default:
            flags[field.name] = value
    if opened.instrument.answer != "text":
        flags["judge"] = ""
    flags |= subject.settings
    if "model" not in subject.settings:
        flags["sae"] = settings.sae
    if subject.steered:
        flags |= {"method": settings.method, "unit": settings.unit}

    def show(stage: str, done: int, total: int) -> None:
        """Name subject and instrument beside the stage."""
        progress(f"{stage} {subject.name}, {name}", done, total)

    return measure_profile(study, make(MeasureSettings, flags), show)


@dataclasses.dataclass(frozen=True)
class _Comparison:
    """Profiles of several subjects on several instruments, ready to be compared."""

    study: Workspace
    settings: ContrastSettings
    instruments: Mapping[str, Opened]
    subjects: Sequence[str]
    """Names of the subjects, the reference first."""
    profiles: Profiles

    def build(self, work: Work, progress: Progress) -> dict[str, Any]:
        """Compare subjects on every instrument and instruments over subjects; write the tables."""
        progress("comparing", 0, len(self.instruments))
        steerings = {key: _steering(self.study, run) for key, run in self.profiles.items()}
        work.table("subjects", _subject_rows(self.profiles, steerings))
        contrasts: Rows = []
        circles: Rows = []
        means: dict[str, Float[np.ndarray, "subject value"]] = {}
        reports: dict[str, list[Mapping[str, Any]]] = {}
        for number, (name, opened) in enumerate(self.instruments.items()):
            responses = {
                subject: _responses(
                    self.study, self.profiles[name, subject], steerings[name, subject]
                )
                for subject in self.subjects
            }
            for relation, lines in self._between(opened, responses).items():
                reports.setdefault(relation, []).extend(lines)
            cells = {
                subject: opened.plugin.cells(answers, opened.instrument, self.study.system)
                for subject, answers in responses.items()
            }
            differences = self._differences(name, cells)
            contrasts += rows(name, self.subjects[0], differences, cells)
            circles += self._circles(name, cells[self.subjects[0]].values, differences)
            means[name] = np.stack(
                [_means(cells[subject], self.study.system.ids) for subject in self.subjects]
            )
            progress("comparing", number + 1, len(self.instruments))
        work.table("contrasts", contrasts)
        work.table("circle_fits", circles)
        for relation, lines in reports.items():
            work.table(relation, lines)
        enough = len(self.subjects) >= FEWEST
        work.table("mtmm", mtmm(means, self.study.system.ids) if enough else [])
        agreement = self._agreement(means)
        work.table("validity", agreement)
        return self._figures(contrasts, agreement)

    def _between(
        self, opened: Opened, responses: Mapping[str, list[Response]]
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Give what the instrument's paper reports of subjects beside each other."""
        settings = self.settings
        return opened.plugin.between(
            responses, opened.instrument, self.study.system, settings.replicates, settings.seed
        )

    def _differences(
        self, instrument: str, cells: Mapping[str, Cells]
    ) -> dict[str, tuple[Difference, bool]]:
        """Give every other subject's difference to the first, and whether it is paired."""
        reference = self.subjects[0]
        prompts = {
            subject: _prompts(self.study, self.profiles[instrument, subject])
            for subject in self.subjects
        }
        differences = {}
        for subject in self.subjects[1:]:
            paired = prompts[subject] == prompts[reference]
            change = difference(
                cells[reference],
                cells[subject],
                paired,
                self.settings.replicates,
                self.settings.seed,
            )
            differences[subject] = change, paired
        return differences

    def _circles(
        self,
        instrument: str,
        values: tuple[str, ...],
        differences: Mapping[str, tuple[Difference, bool]],
    ) -> Rows:
        """Lay each subject's change over the circle, where it has changes at three angles."""
        system = self.study.system
        circles = []
        for subject, (change, _) in differences.items():
            changes = zip(values, change.mean, strict=True)
            places = {system[value].angle for value, x in changes if np.isfinite(x)}
            if system.circular and len(places) > 2:
                row = {"instrument": instrument, "subject": subject}
                circles.append(row | self._circle(values, change.mean))
        return circles

    def _circle(
        self, values: tuple[str, ...], change: Float[np.ndarray, " value"]
    ) -> dict[str, Any]:
        """Lay one change over the circle: towards which value, how far, and how well it fits."""
        system = self.study.system
        fit = circle.fit(
            change, circle.angles(system, values), self.settings.replicates, self.settings.seed
        )

        def distance(value: str) -> float:
            """Give the angle between a value and the direction of the change [radians]."""
            return abs(np.angle(np.exp(1j * (system[value].angle - fit.phi))))

        towards = min(values, key=distance)
        return {"towards": towards, **fit._asdict(), "n": int(np.isfinite(change).sum())}

    def _agreement(self, means: Mapping[str, Float[np.ndarray, "subject value"]]) -> Rows:
        """Give the rows of `validity`: how far every two instruments agree."""
        return [
            {"instrument": a, "other_instrument": b, **figure._asdict()}
            for a, b in itertools.combinations(means, 2)
            for figure in validity(means[a], means[b], self.settings.replicates, self.settings.seed)
        ]

    def _figures(self, contrasts: Rows, agreement: Rows) -> dict[str, Any]:
        """Give the run's few figures."""
        figures = {
            "subjects": len(self.subjects),
            "instruments": len(self.instruments),
            "profiles": len(self.profiles),
            "differences": len(contrasts),
            "differ": sum(row["q"] < 0.05 for row in contrasts),
            "missing": sum(run.summary["missing"] for run in self.profiles.values()),
        }
        for row in agreement:
            if row["metric"] in ("convergent", "profile"):
                name = f"{row['metric']}_{row['instrument']}_{row['other_instrument']}"
                figures[name] = row["value"]
        return figures


def _subject_rows(profiles: Profiles, steerings: Mapping[tuple[str, str], str]) -> Rows:
    """Give the rows of `subjects`: the run behind every subject on every instrument."""
    return [
        {
            "instrument": name,
            "subject": subject,
            "profile": run.id,
            "steering": steerings[name, subject],
        }
        for (name, subject), run in profiles.items()
    ]


def _steering(study: Workspace, profile: Run) -> str:
    """Name what was changed in the subject: of two states in a run the steered one."""
    names = study.store.sql(
        "SELECT DISTINCT steering FROM profiles WHERE run = ? ORDER BY steering = 'base'",
        [profile.id],
    ).steering
    return str(names[0])


def _responses(study: Workspace, profile: Run, steering: str) -> list[Response]:
    """Read the answers of one steering from the store."""
    responses = []
    for row in queries.responses(study.store, profile.id, steering).to_dict("records"):
        row["logprobs"] = tuple(row["logprobs"])
        row["rating"] = np.nan if row["rating"] is None else row["rating"]
        responses.append(Response(**row))
    return responses


def _prompts(study: Workspace, profile: Run) -> frozenset[str]:
    """Give what was asked, by which two profiles are seen to be paired."""
    prompts = study.store.sql(
        'SELECT context, item, wording, "order", prompt FROM prompts WHERE run = ?', [profile.id]
    )
    return frozenset(json.dumps(row) for row in prompts.astype(str).values.tolist())


def _means(cells: Cells, values: tuple[str, ...]) -> Float[np.ndarray, " value"]:
    """Give the centred mean of every value of the system; NaN where it was not measured."""
    means = dict(zip(cells.values, known_mean(cells.centred, 0), strict=True))
    return np.array([means.get(value, np.nan) for value in values])
