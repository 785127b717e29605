"""What models, or steerings of one model, value: the Bayesian ordinal regression over stored
answers (after Segerer 2025).

    workbench measure STUDY --instrument pvq40 --settings file=items.csv --model A --contexts none
    --mode generate --temperature 1 --repeats 10 workbench ordinal STUDY --runs
    PROFILE_OF_A,PROFILE_OF_B

1. Every steering of every profile run is a condition (`workbench/comparing/conditions.py`): models,
   personas, or one model unsteered and at several strengths. All must have been asked the same
   items.
2. An answer in words is what it is. One that was scored by log-probability is drawn from the
   probabilities of the options, as sampling at temperature 1 would: each question once, and again
   while an item has fewer than `answers`.
3. `workbench/statistics/ordinal.py` fits. Stored are theta as it is and centred, contrasts of the
   higher-order values in each condition and between conditions, what each value differs by between
   conditions, the thresholds, and R-hat and effective sample size of each.
4. `causal/circumplex.py` says whether contexts, taken as respondents, lie on Schwartz's circle, and
   in which direction of it the profile moved.

Left out: refused and unreadable answers. They are counted beside each value; a condition that
answers nothing of a value is refused.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import pandas as pd

from feature_store import registry
from feature_store.bounds import Between, Count, CountOrZero, Seed
from feature_store.errors import BadInput, Incompatible, NotFound
from feature_store.progress import Progress
from feature_store.records import Instrument, Run, ValueSystem
from workbench.comparing import conditions
from workbench.measuring.questionnaire import as_asked
from workbench.settings import plain
from workbench.statistics import circle, ordinal
from workbench.workspace import Workspace

PAIRS = (("self-transcendence", "self-enhancement"), ("openness-to-change", "conservation"))
"""The two axes of the circle: the first less the second."""
RESPONDENTS = 10
"""Contexts below which correlations over them say nothing."""


@dataclasses.dataclass(frozen=True)
class OrdinalSettings:
    runs: tuple[str, ...] = ("latest",)
    """Profile runs; each steering in each of them is a condition."""
    answers: Annotated[int, Between(1, 10_000)] = 10
    """Answers an item and condition, at least, where they are drawn from log-probabilities."""
    chains: Annotated[int, Between(2, 1000)] = 4
    """Chains of the sampler."""
    warmup: CountOrZero = 600
    """Iterations a chain that are thrown away."""
    draws: CountOrZero = 1000
    """Iterations a chain that are kept."""
    permutations: Count = 4999
    """Permutations of the circle's null."""
    seed: Seed = 0
    """Seed of drawn answers, sampler and permutations."""


def run(study: Workspace, config: OrdinalSettings, progress: Progress) -> Run:
    """A run of kind `ordinal`."""
    profiles = list(
        {
            found.id: found for found in (study.resolve("profile", name) for name in config.runs)
        }.values()
    )
    if not profiles or config.answers < 1 or config.permutations < 100:
        raise BadInput(
            "An ordinal regression needs a profile run, an answer an item and 100 permutations,"
            f" got {len(profiles)}, {config.answers} and {config.permutations}. Give more."
        )
    instrument = _instrument(study, profiles)
    inputs = {f"profile_{number}": found.id for number, found in enumerate(profiles)}
    plainly = plain(dataclasses.replace(config, runs=tuple(found.id for found in profiles)))
    if study.runs.exists(id := study.runs.find("ordinal", plainly, inputs, config.seed)):
        return study.runs.get(id)
    told = _responses(study, profiles)
    parsed = conditions.answers(told, instrument, config.answers, config.seed)
    names, items = tuple(dict.fromkeys(told.condition)), tuple(dict.fromkeys(parsed.item))
    values = tuple(value for value in study.system.ids if value in set(told.value))
    of = dict(zip(parsed.item, parsed.value, strict=True))
    _check(parsed, names, values)
    with study.runs.begin("ordinal", plainly, inputs, config.seed) as work:
        fitted = ordinal.fit(
            _places(parsed.condition, names),
            _places(parsed.item, items),
            parsed.answer.to_numpy(),
            np.array([values.index(of[item]) for item in items]),
            len(instrument.options),
            ordinal.SamplerSettings(
                chains=config.chains, warmup=config.warmup, draws=config.draws, seed=config.seed
            ),
            progress,
        )
        thetas, contrasts = (
            _thetas(fitted, told, parsed, names, values),
            _contrasts(fitted, parsed, names, values),
        )
        work.table("ordinal_thetas", thetas)
        work.table("ordinal_contrasts", contrasts)
        work.table("ordinal_parameters", _parameters(fitted, len(parsed)))
        work.table("ordinal_circle", _circle(fitted, told, names, values, study.system, config))
        shown = [row for row in thetas if row["centred"]] + contrasts
        return work.finish(
            {
                "instrument": instrument.id,
                "conditions": len(names),
                "items": len(items),
                "answers": len(parsed),
                "missing": int((told.status != "parsed").sum()),
                "asked_alike": len({_asked(study, found.id) for found in profiles}) == 1,
                "worst_r_hat": max(row["r_hat"] for row in shown),
                "least_ess": min(row["ess"] for row in shown),
            }
        )


def _instrument(study: Workspace, profiles: Sequence[Run]) -> Instrument:
    """The instrument that all runs asked, with the same items."""
    asked = {found.inputs.get("items", "") for found in profiles}
    if len(asked) > 1:
        raise Incompatible(
            f"{', '.join(found.id for found in profiles)} were asked different items. Name runs of"
            " one instrument with the same items."
        )
    instrument = as_asked(profiles[0], study.system, study.folder).instrument
    if instrument.answer != "rating" or any(item.tags for item in instrument.items):
        raise BadInput(
            "An ordinal regression needs ratings of items of one value each, those of"
            f" {instrument.id} are not. Choose another instrument."
        )
    return instrument


def _asked(study: Workspace, run: str) -> str:
    """Checksum of what a run asked."""
    prompts = study.store.sql(
        "SELECT DISTINCT item, prompt FROM prompts WHERE run = ? ORDER BY ALL", [run]
    )
    return hashlib.sha256(prompts.to_csv(index=False).encode()).hexdigest()


def _responses(study: Workspace, profiles: Sequence[Run]) -> pd.DataFrame:
    """All responses, unsteered ones first, each with the name of its condition."""
    of = {found.id: found for found in profiles}
    told = study.store.sql(
        'SELECT run, steering, persona, item, value, context, wording, "order", seed, text,'
        " logprobs, rating, status FROM responses WHERE run IN (SELECT unnest(?)) ORDER BY"
        " list_position(?, run), steering <> 'base', steering, item, context, wording, \"order\","
        " seed",
        [list(of), list(of)],
    )
    return conditions.conditions(conditions.marked(told, of))


def _check(parsed: pd.DataFrame, names: Sequence[str], values: Sequence[str]) -> None:
    """Raises BadInput where a condition answers nothing of a value."""
    answered = set(zip(parsed.condition, parsed.value, strict=True))
    for name in names:
        if nothing := [value for value in values if (name, value) not in answered]:
            raise BadInput(
                f"{name} gives no answer that can be read for {', '.join(nothing)}. Leave its run"
                " out, or measure it another way."
            )


def _places(column: pd.Series, names: Sequence[str]) -> np.ndarray:
    return column.map({name: place for place, name in enumerate(names)}).to_numpy(int)


def _row(found: ordinal.Summary, *place: int) -> dict[str, float]:
    return {
        name: float(getattr(found, name)[place])
        for name in ("mean", "low", "high", "below", "r_hat", "ess")
    }


def _thetas(
    fitted: ordinal.Posterior,
    told: pd.DataFrame,
    parsed: pd.DataFrame,
    names: tuple[str, ...],
    values: tuple[str, ...],
) -> list[dict[str, Any]]:
    n = parsed.groupby(["condition", "value"]).size()
    missing = (told.status != "parsed").groupby([told.condition, told.value]).sum()
    rows = []
    for centred in (False, True):
        found = ordinal.summarise(ordinal.centred(fitted.theta) if centred else fitted.theta)
        rows += [
            {"condition": name, "value": value, "centred": centred}
            | _row(found, c, v)
            | {"n": int(n[name, value]), "missing": int(missing[name, value])}
            for c, name in enumerate(names)
            for v, value in enumerate(values)
        ]
    return rows


def _groups(values: Sequence[str]) -> dict[str, list[str]]:
    """Higher-order value -> those of `values` that it holds; Face is in none."""
    four, groups = registry.get("values", "higher-order"), dict[str, list[str]]()
    for value in values:
        try:
            groups.setdefault(four.resolve(value), []).append(value)
        except NotFound:
            continue
    return groups


def _contrasts(
    fitted: ordinal.Posterior, parsed: pd.DataFrame, names: tuple[str, ...], values: tuple[str, ...]
) -> list[dict[str, Any]]:
    groups, rows = _groups(values), []
    drawn = ordinal.contrasts(
        fitted.theta, values, groups, [pair for pair in PAIRS if set(pair) <= set(groups)]
    )
    if not drawn:
        return []
    found = ordinal.summarise(np.stack(list(drawn.values()), axis=-1))
    for place, (contrast, c, other) in enumerate(drawn):
        behind = (
            [contrast]
            if contrast in values
            else [value for group in contrast.split(" - ") for value in groups[group]]
        )
        used = parsed.value.isin(behind) & parsed.condition.isin(
            [names[c], *([names[other]] if other >= 0 else [])]
        )
        rows.append(
            {
                "contrast": contrast,
                "condition": names[c],
                "other": names[other] if other >= 0 else "",
            }
            | _row(found, place)
            | {"n": int(used.sum())}
        )
    return rows


def _parameters(fitted: ordinal.Posterior, n: int) -> list[dict[str, Any]]:
    found = ordinal.summarise(np.concatenate([fitted.tau, fitted.sigma_u[..., None]], axis=-1))
    names = [*(f"tau_{k + 1}" for k in range(fitted.tau.shape[-1])), "sigma_u"]
    return [{"parameter": name} | _row(found, place) | {"n": n} for place, name in enumerate(names)]


def _circle(
    fitted: ordinal.Posterior,
    told: pd.DataFrame,
    names: tuple[str, ...],
    values: tuple[str, ...],
    system: ValueSystem,
    config: OrdinalSettings,
) -> list[dict[str, Any]]:
    """Contexts as respondents on the circle, and the change from the first condition around it."""
    theta, rows = circle.angles(system, values), []
    mean = fitted.theta.mean((0, 1))
    for c, name in enumerate(names):
        scores = conditions.respondents(told[told.condition == name], values)
        if len(scores) >= RESPONDENTS and len(values) > 3:
            for measure, judge in (
                ("congruence", circle.congruence),
                ("agreement", circle.agreement),
            ):
                found = judge(scores, theta, config.permutations, config.seed)
                rows.append(
                    {
                        "condition": name,
                        "other": "",
                        "measure": measure,
                        "estimate": found.estimate,
                        "null": found.null,
                        "p": found.p,
                        "n": found.n,
                        "phi": float("nan"),
                        "b": float("nan"),
                    }
                )
        if c and len(values) > 3:
            moved = circle.fit(mean[c] - mean[0], theta, config.permutations, config.seed)
            rows.append(
                {
                    "condition": name,
                    "other": names[0],
                    "measure": "change",
                    "estimate": moved.r2,
                    "null": 2 / (len(values) - 1),
                    "p": moved.p,
                    "n": len(values),
                    "phi": moved.phi,
                    "b": moved.b,
                }
            )
    return rows
