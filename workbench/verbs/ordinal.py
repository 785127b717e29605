"""What models, or steerings of one model, value: the Bayesian ordinal regression over stored
answers (after Segerer 2025).

    workbench measure STUDY --instrument pvq40 --settings file=items.csv --model A \\
        --contexts none --mode generate --temperature 1 --repeats 10
    workbench ordinal STUDY --runs PROFILE_OF_A,PROFILE_OF_B

1. Every steering of every profile run is a condition (`workbench/comparing/conditions.py`): models,
   personas, or one model unsteered and at several strengths. All must have been asked the same
   items.
2. An answer in words is what it is. One that was scored by log-probability is drawn from the
   probabilities of the options, as sampling at temperature 1 would: each question once, and again
   while an item has fewer than `answers`.
3. `workbench/statistics/ordinal.py` fits. Stored are theta as it is and centred, contrasts of the
   higher-order values in each condition and between conditions, what each value differs by between
   conditions, the thresholds, and R-hat and effective sample size of each.
4. `workbench/statistics/circle.py` says whether contexts, taken as respondents, lie on Schwartz's
   circle, and in which direction of it the profile moved.

Left out: refused and unreadable answers. They are counted beside each value; a condition that
answers nothing of a value is refused.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
import pandas as pd

from feature_store import registry
from feature_store.bounds import MANY, Between, Permutations, Seed
from feature_store.errors import BadInput, Incompatible, NotFound
from feature_store.progress import Progress
from feature_store.records import Instrument, Run, ValueSystem
from feature_store.work import Work
from workbench.comparing import conditions
from workbench.measuring.questionnaire import as_asked
from workbench.statistics import circle, ordinal
from workbench.workspace import Workspace

Rows = list[dict[str, Any]]
"""Rows of a relation."""
PAIRS = (("self-transcendence", "self-enhancement"), ("openness-to-change", "conservation"))
"""The two axes of the circle: the first less the second."""
RESPONDENTS = 10
"""Contexts below which correlations over them say nothing."""
LIKENESSES: dict[str, Callable[..., circle.Likeness]] = {
    "congruence": circle.congruence,
    "agreement": circle.agreement,
}
"""How the values of respondents are laid beside the circle."""


@dataclasses.dataclass(frozen=True)
class OrdinalSettings:
    """Which profiles are compared, and how long the sampler runs."""

    runs: tuple[str, ...] = ("latest",)
    """Profile runs; each steering in each of them is a condition."""
    answers: Annotated[int, Between(1, 10_000)] = 10
    """Answers an item and condition, at least, where they are drawn from log-probabilities."""
    chains: Annotated[int, Between(2, 1000)] = 4
    """Chains of the sampler."""
    warmup: Annotated[int, Between(100, MANY)] = 600
    """Iterations a chain that are thrown away."""
    draws: Annotated[int, Between(100, MANY)] = 1000
    """Iterations a chain that are kept."""
    permutations: Permutations = 4999
    """Permutations of the circle's null."""
    seed: Seed = 0
    """Seed of drawn answers, sampler and permutations."""


def run(study: Workspace, settings: OrdinalSettings, progress: Progress) -> Run:
    """Make a run of kind `ordinal`."""
    ids = dict.fromkeys(study.resolve("profile", name).id for name in settings.runs)
    profiles = [study.resolve("profile", id) for id in ids]
    if voiced := [run.id for run in profiles if run.config.get("mode") == "voice"]:
        raise BadInput(
            f"{', '.join(voiced)} asked in mode voice, whose ratings are on no scale of answers."
            " Measure with --mode logprob or generate, or compare with `workbench contrast`."
        )
    if not profiles:
        raise BadInput("An ordinal regression compares profile runs, got none. Name some: --runs.")
    instrument = _instrument(study, profiles)
    material = _material(study, profiles, instrument, settings)
    pinned = dataclasses.replace(settings, runs=tuple(ids))
    inputs = {f"profile_{number}": id for number, id in enumerate(ids)}
    return study.make(
        "ordinal",
        pinned,
        inputs,
        lambda work: _build(work, study, settings, material, progress),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Material:
    """Answers on one scale, and what their rows and columns are."""

    instrument: Instrument
    responses: pd.DataFrame
    """Every response, with the column `condition`."""
    answers: pd.DataFrame
    """Parsed ones, a row an answer on the scale."""
    conditions: tuple[str, ...]
    """Names of the conditions, the first one the reference."""
    values: tuple[str, ...]
    """Ids of the values, in circle order."""
    asked_alike: bool
    """Whether every run asked the same prompts."""

    def coded(self) -> ordinal.OrdinalAnswers:
        """Give the answers as numbers."""
        items = tuple(dict.fromkeys(self.answers.item))
        value_of = dict(zip(self.answers.item, self.answers.value, strict=True))
        return ordinal.OrdinalAnswers(
            condition=_numbers(self.answers.condition, self.conditions),
            item=_numbers(self.answers.item, items),
            answer=self.answers.answer.to_numpy(),
            value_of=np.array([self.values.index(value_of[item]) for item in items]),
            options=len(self.instrument.options),
        )


def _material(
    study: Workspace, profiles: Sequence[Run], instrument: Instrument, settings: OrdinalSettings
) -> _Material:
    """Read the answers of profile runs. Raises BadInput where they cannot be fitted."""
    responses = _responses(study, profiles)
    answers = conditions.answers(responses, instrument, settings.answers, settings.seed)
    material = _Material(
        instrument=instrument,
        responses=responses,
        answers=answers,
        conditions=tuple(dict.fromkeys(responses.condition)),
        values=tuple(value for value in study.system.ids if value in set(responses.value)),
        asked_alike=len({_prompts_digest(study, run.id) for run in profiles}) == 1,
    )
    _check(material)
    return material


def _build(
    work: Work,
    study: Workspace,
    settings: OrdinalSettings,
    material: _Material,
    progress: Progress,
) -> dict[str, Any]:
    """Fit the regression, write the tables and return the run's figures."""
    sampler = ordinal.SamplerSettings(
        chains=settings.chains,
        warmup=settings.warmup,
        draws=settings.draws,
        seed=settings.seed,
    )
    posterior = ordinal.fit(material.coded(), sampler, progress)
    thetas = _thetas(posterior, material)
    contrasts = _contrasts(posterior, material)
    work.table("ordinal_thetas", thetas)
    work.table("ordinal_contrasts", contrasts)
    work.table("ordinal_parameters", _parameters(posterior, len(material.answers)))
    work.table("ordinal_circle", _circle(posterior, material, study.system, settings))
    shown = [row for row in thetas if row["centred"]] + contrasts
    return {
        "instrument": material.instrument.id,
        "conditions": len(material.conditions),
        "items": material.answers.item.nunique(),
        "answers": len(material.answers),
        "missing": int((material.responses.status != "parsed").sum()),
        "asked_alike": material.asked_alike,
        "worst_r_hat": max(row["r_hat"] for row in shown),
        "least_ess": min(row["ess"] for row in shown),
    }


def _instrument(study: Workspace, profiles: Sequence[Run]) -> Instrument:
    """Open the instrument that all runs asked. Raises where they asked different items."""
    digests = {run.inputs.get("items", "") for run in profiles}
    if len(digests) > 1:
        raise Incompatible(
            f"{', '.join(run.id for run in profiles)} were asked different items. Name runs of"
            " one instrument with the same items."
        )
    instrument = as_asked(profiles[0], study.system, study.folder).instrument
    if instrument.answer != "rating" or any(item.tags for item in instrument.items):
        raise BadInput(
            "An ordinal regression needs ratings of items of one value each, those of"
            f" {instrument.id} are not. Choose another instrument."
        )
    return instrument


def _prompts_digest(study: Workspace, run: str) -> str:
    """Give a checksum of what a run asked."""
    prompts = study.store.sql(
        "SELECT DISTINCT item, prompt FROM prompts WHERE run = ? ORDER BY ALL", [run]
    )
    return hashlib.sha256(prompts.to_csv(index=False).encode()).hexdigest()


def _responses(study: Workspace, profiles: Sequence[Run]) -> pd.DataFrame:
    """Read all responses, unsteered ones first, each with the name of its condition."""
    by_id = {run.id: run for run in profiles}
    responses = study.store.sql(
        'SELECT run, steering, persona, item, value, context, wording, "order", seed, text,'
        " logprobs, rating, status FROM responses WHERE run IN (SELECT unnest(?)) ORDER BY"
        " list_position(?, run), steering <> 'base', steering, item, context, wording, \"order\","
        " seed",
        [list(by_id), list(by_id)],
    )
    return conditions.conditions(conditions.marked(responses, by_id))


def _check(material: _Material) -> None:
    """Raise BadInput where a condition answers nothing of a value."""
    answers = material.answers
    answered = set(zip(answers.condition, answers.value, strict=True))
    for name in material.conditions:
        unanswered = [value for value in material.values if (name, value) not in answered]
        if unanswered:
            raise BadInput(
                f"{name} gives no answer that can be read for {', '.join(unanswered)}. Leave its"
                " run out, or measure it another way."
            )


def _numbers(column: pd.Series, names: Sequence[str]) -> np.ndarray:
    """Give the 0-based number of each name in a column."""
    return column.map({name: number for number, name in enumerate(names)}).to_numpy(int)


def _figures(summary: ordinal.Summary, *place: int) -> dict[str, float]:
    """Give the figures of one cell."""
    names = ("mean", "low", "high", "below", "r_hat", "ess")
    return {name: float(getattr(summary, name)[place]) for name in names}


def _thetas(posterior: ordinal.Posterior, material: _Material) -> Rows:
    """Give the rows of `ordinal_thetas`: theta of every condition and value, raw and centred."""
    answers, responses = material.answers, material.responses
    n = answers.groupby(["condition", "value"]).size()
    is_missing = responses.status != "parsed"
    missing = is_missing.groupby([responses.condition, responses.value]).sum()
    rows = []
    for centred in (False, True):
        theta = ordinal.centred(posterior.theta) if centred else posterior.theta
        summary = ordinal.summarise(theta)
        for c, name in enumerate(material.conditions):
            for v, value in enumerate(material.values):
                rows.append(
                    {
                        "condition": name,
                        "value": value,
                        "centred": centred,
                        **_figures(summary, c, v),
                        "n": int(n[name, value]),
                        "missing": int(missing[name, value]),
                    }
                )
    return rows


def _groups(values: Sequence[str]) -> dict[str, list[str]]:
    """Give the values that each higher-order value holds; Face is in none."""
    higher_order = registry.get("values", "higher-order")
    groups: dict[str, list[str]] = {}
    for value in values:
        try:
            groups.setdefault(higher_order.resolve(value), []).append(value)
        except NotFound:
            continue
    return groups


def _contrasts(posterior: ordinal.Posterior, material: _Material) -> Rows:
    """Give the rows of `ordinal_contrasts`."""
    values, names, answers = material.values, material.conditions, material.answers
    groups = _groups(values)
    pairs = [pair for pair in PAIRS if set(pair) <= set(groups)]
    draws = ordinal.contrasts(posterior.theta, values, groups, pairs)
    if not draws:
        return []
    summary = ordinal.summarise(np.stack(list(draws.values()), axis=-1))
    rows = []
    for number, (contrast, c, other) in enumerate(draws):
        behind = [contrast]
        if contrast not in values:
            behind = [value for group in contrast.split(" - ") for value in groups[group]]
        compared = [names[c]] if other < 0 else [names[c], names[other]]
        is_used = answers.value.isin(behind) & answers.condition.isin(compared)
        rows.append(
            {
                "contrast": contrast,
                "condition": names[c],
                "other": names[other] if other >= 0 else "",
                **_figures(summary, number),
                "n": int(is_used.sum()),
            }
        )
    return rows


def _parameters(posterior: ordinal.Posterior, n: int) -> Rows:
    """Give the rows of `ordinal_parameters`: thresholds and the spread of the items."""
    draws = np.concatenate([posterior.tau, posterior.sigma_u[..., None]], axis=-1)
    summary = ordinal.summarise(draws)
    names = [*(f"tau_{k + 1}" for k in range(posterior.tau.shape[-1])), "sigma_u"]
    return [
        {"parameter": name, **_figures(summary, number), "n": n}
        for number, name in enumerate(names)
    ]


def _circle(
    posterior: ordinal.Posterior,
    material: _Material,
    system: ValueSystem,
    settings: OrdinalSettings,
) -> Rows:
    """Give the rows of `ordinal_circle`.

    Contexts as respondents on the circle, and the change from the first condition around it.
    """
    values, names = material.values, material.conditions
    theta = circle.angles(system, values)
    means = posterior.theta.mean((0, 1))
    rows: Rows = []
    if len(values) < 4:
        return rows
    for c, name in enumerate(names):
        of_condition = material.responses[material.responses.condition == name]
        scores = conditions.respondents(of_condition, values)
        if len(scores) >= RESPONDENTS:
            for measure, judge in LIKENESSES.items():
                likeness = judge(scores, theta, settings.permutations, settings.seed)
                rows.append(_likeness_row(name, measure, likeness))
        if c:
            change = circle.fit(means[c] - means[0], theta, settings.permutations, settings.seed)
            rows.append(
                {
                    "condition": name,
                    "other": names[0],
                    "measure": "change",
                    "estimate": change.r2,
                    "null": 2 / (len(values) - 1),
                    "p": change.p,
                    "n": len(values),
                    "phi": change.phi,
                    "b": change.b,
                }
            )
    return rows


def _likeness_row(condition: str, measure: str, likeness: circle.Likeness) -> dict[str, Any]:
    """Give the row of how alike a condition's contexts and the circle are."""
    return {
        "condition": condition,
        "other": "",
        "measure": measure,
        "estimate": likeness.estimate,
        "null": likeness.null,
        "p": likeness.p,
        "n": likeness.n,
        "phi": float("nan"),
        "b": float("nan"),
    }
