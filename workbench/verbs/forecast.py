"""Forecast how cleanly each feature will steer, from what is known of it without steering.

1. What steering did to the features of a sweep, labelled and random alike, says how stable their
   effect was over contexts and how much of it spread over other values (`causal/forecast.py`).
2. Predictors are what the SAE's run and `describe` know of every feature: how often and how
   strongly it is active, its decoder row's length and nearest neighbours, the features active on
   the same tokens, and what it writes into the logits.
3. Every live feature gets a forecast; that of a steered one comes from fits that did not see it.
4. How good the forecasts are on features they did not see stands beside those of the feature's
   frequency alone and of its magnitude alone, with intervals.

The app's list of features can be sorted by it, and `effects --choose clean` begins with the
cleanest. A matrix of side effects of features that were chosen for small ones is smaller than that
of all.
"""

import dataclasses
from functools import partial
from typing import Annotated, Any

import numpy as np
import pandas as pd

from feature_store import queries
from feature_store.bounds import Between, Replicates, Seed
from feature_store.errors import Incompatible
from feature_store.progress import Progress
from feature_store.records import Run
from feature_store.work import Work
from workbench.causal import forecast
from workbench.causal.causal_scores import SteeredFeatures
from workbench.sweeps.damage import match
from workbench.sweeps.stored import read_sweep
from workbench.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class ForecastSettings:
    """Which sweep the forecast is fitted on, and how it is tried."""

    effects: str = "latest"
    """Run of the sweep, of features one by one; random features count as well."""
    descriptions: str = "latest"
    """Run of the descriptions of the same SAE."""
    folds: Annotated[int, Between(2, 100)] = 10
    """Parts of the features that are left out in turn."""
    replicates: Replicates = 2000
    """Bootstrap replicates over features."""
    seed: Seed = 0
    """Seed of the folds, of the trees and of the bootstrap."""


def run(study: Workspace, settings: ForecastSettings, progress: Progress) -> Run:
    """Forecast how cleanly features steer; make a run of kind `forecast`."""
    sweep_run = study.resolve("effects", settings.effects)
    described = study.resolve("descriptions", settings.descriptions)
    sae = study.runs.get(sweep_run.inputs["labels"]).inputs["sae"]
    if described.inputs["sae"] != sae:
        raise Incompatible(
            f"{described.id} describes features of {described.inputs['sae']}, {sweep_run.id}"
            f" steered those of {sae}. Run `workbench describe --sae {sae}`."
        )
    read_sweep(study, sweep_run.id)  # one that was asked in rounds is refused at once
    pinned = dataclasses.replace(settings, effects=sweep_run.id, descriptions=described.id)
    inputs = {"effects": sweep_run.id, "descriptions": described.id, "sae": sae}
    build = partial(_forecast, study, pinned, sweep_run, sae, progress)
    return study.make("forecast", pinned, inputs, build)


def first_lines(study: Workspace, run: Run) -> list[str]:
    """Say how good the forecasts are on features that they did not see, beside the baselines."""
    lines = []
    for row in queries.forecast_skills(study.store, run.id).itertuples():
        lead = ""
        if row.predictors != "all":
            surely = "" if row.lead_low > 0 or row.lead_high < 0 else ", which may be none"
            lead = f"; all lead it by {row.lead:+.2f} [{row.lead_low:+.2f}, {row.lead_high:+.2f}]"
            lead += surely
        lines.append(
            f"{row.target} by {row.predictors}: Spearman {row.spearman:+.2f} [{row.low:+.2f},"
            f" {row.high:+.2f}] over {row.n} features{lead}"
        )
    return lines


def _forecast(
    study: Workspace,
    settings: ForecastSettings,
    sweep_run: Run,
    sae: str,
    progress: Progress,
    work: Work,
) -> dict[str, Any]:
    """Fit, try and write the forecasts, and return the run's figures."""
    progress("forecasting", 0, 1)
    sweep = read_sweep(study, sweep_run.id)
    matched = match(sweep, sweep_run.config["delta"])
    steered = SteeredFeatures.of(matched, sweep.values, sweep.unsteered_sd())
    single = steered.features >= 0
    known = np.isfinite(steered.changes).all((1, 2))
    measured = forecast.measured_axes(
        steered.features[single & known], steered.changes[single & known]
    )
    table = predictors_of(study, sae, settings.descriptions)
    rows = pd.DataFrame(index=table.index)
    skills: list[forecast.Skill] = []
    shares = []
    for target in forecast.TARGETS:
        truth = getattr(measured, target)
        is_there = np.isfinite(truth) & np.isin(measured.features, table.index)
        features, truth = measured.features[is_there], truth[is_there]
        sets = {
            "all": table,
            "frequency": table[[name for name in forecast.FREQUENCY if name in table]],
            "magnitude": table[[name for name in forecast.MAGNITUDE if name in table]],
        }
        by_set = {
            name: forecast.predictions(columns, features, truth, settings.folds, settings.seed)
            for name, columns in sets.items()
        }
        place = table.index.get_indexer(features)
        held_out = {name: values[place] for name, values in by_set.items()}
        skills += forecast.skills(target, truth, held_out, settings.replicates, settings.seed)
        rows[target] = by_set["all"]
        rows[f"measured_{target}"] = pd.Series(truth, index=features)
        of_target = forecast.importances(table, features, truth, settings.seed)
        shares += [
            {"target": target, "predictor": name, "share": share}
            for name, share in of_target.items()
        ]
    rows["clean"] = forecast.cleanness(rows.stability.to_numpy(), rows.collateral.to_numpy())
    work.table("forecasts", rows.reset_index(names="feature").to_dict("records"), ("feature",))
    work.table("forecast_skills", [skill._asdict() for skill in skills])
    work.table("forecast_weights", shares)
    progress("forecasting", 1, 1)
    best = {skill.target: skill for skill in skills if skill.predictors == "all"}
    leads = [skill.lead_low for skill in skills if skill.predictors != "all"]
    return {
        "features": len(rows),
        "steered": len(measured.features),
        **{f"{target}_spearman": skill.spearman for target, skill in best.items()},
        "beats_baselines": sum(lead > 0 for lead in leads),
        "baselines": len(leads),
    }


def predictors_of(study: Workspace, sae: str, descriptions: str) -> pd.DataFrame:
    """Read what is known of every live feature without steering (index: feature)."""
    store = study.store
    statistics = store.sql(
        """
        SELECT feature, density, max_activation, mean_activation, decoder_norm FROM features
        WHERE run = ? AND n_active > 0 ORDER BY feature""",
        [sae],
    )
    near = store.sql(
        """
        SELECT feature, max(cosine) AS cosine, avg(cosine) AS mean_cosine FROM decoder_neighbours
        WHERE run = ? GROUP BY feature""",
        [descriptions],
    )
    together = store.sql(
        """
        SELECT feature, max(jaccard) AS jaccard, max(pmi) AS pmi,
            count(*) FILTER (measure = 'jaccard') AS partners
        FROM coactivations WHERE run = ? GROUP BY feature""",
        [descriptions],
    )
    written = store.sql(
        """
        SELECT feature, sd AS logit_sd, skewness AS logit_skewness, kurtosis AS logit_kurtosis,
            largest / sd AS logit_peak
        FROM logit_shapes WHERE run = ?""",
        [descriptions],
    )
    first = statistics.set_index("feature")
    parts = [part.set_index("feature").reindex(first.index) for part in (near, together, written)]
    return forecast.predictor_table([first, *parts])
