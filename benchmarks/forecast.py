"""How well is clean steering forecast, before anything is steered?

1. A wide sweep of the organism, its leaky facets among the features: labelled and random features
   at two doses. The verb `forecast` is fitted on it with its defaults.
2. For each axis, stability and collateral, Spearman's correlation of forecasts with what was
   measured, on features that the fits did not see; beside it what frequency alone and magnitude
   alone reach, and the paired difference with its interval.
3. `python -m benchmarks.forecast STUDY` does the same on the newest sweep of features of a study on
   disk, a real model's: the study is copied and stays as it is.

Whatever comes out is printed; a difference whose interval holds 0 is none.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks._study import trained
from feature_store import queries
from feature_store.progress import in_terminal
from workbench import verbs
from workbench.study import Study

NAME = "forecast"
SWEEP = {
    "n_contexts": 12,
    "features_per_value": 16,
    "doses": (0.3, 0.6),
    "random_features": 80,
    "random_directions": 8,
}


def skills(study: Study, effects: str = "latest") -> dict[str, Any]:
    """Describe the features, forecast, print the lines, and give the figures by axis."""
    with in_terminal("forecast") as progress:
        study.do("describe", {}, progress)
        run = study.do("forecast", {"effects": effects}, progress)
    for line in verbs.load("forecast").first_lines(study, run):
        print(line, flush=True)
    table = queries.forecast_skills(study.store, run.id)
    return {
        f"{row.target} {row.predictors}": row._asdict() for row in table.itertuples(index=False)
    }


def leads(figures: dict[str, Any]) -> bool:
    """Whether collateral is forecast surely better than by both baselines."""
    baselines = ("collateral frequency", "collateral magnitude")
    return all(figures[name]["lead_low"] > 0 for name in baselines)


def main() -> dict:
    """Reach: collateral is forecast better than by both baselines, intervals above 0."""
    study, _ = trained()
    with in_terminal("sweep") as progress:
        study.do("label", {"n_contexts": 0}, progress)
        study.do("effects", dict(SWEEP), progress)
    figures = skills(study)
    return {
        "name": NAME,
        "value": figures["collateral all"]["spearman"],
        "reach": 0.0,
        "holds": leads(figures),
        "skills": figures,
    }


def on_a_study(folder: Path) -> int:
    """Forecast on a copy of a study; 0, also where there is none, which is said."""
    if not (folder / "study.json").is_file():
        print(f"There is no study in {folder}: nothing was forecast.")
        return 0
    with tempfile.TemporaryDirectory(prefix="workbench-") as place:
        study = Study(shutil.copytree(folder, Path(place) / "study"), create=False)
        print({"leads": leads(skills(study)), "study": folder.name})
    return 0


if __name__ == "__main__":
    sys.exit(on_a_study(Path(sys.argv[1])))
