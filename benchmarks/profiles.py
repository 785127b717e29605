"""The organism under personas whose profile was planted: how well each text instrument that it can
answer finds it again.

1. A persona is a document of two or three behaviours; what follows from them through the planted
   graph is its true profile.
2. Each instrument is asked under every persona by `workbench measure`. Its profile against the true
   one, both less the persona's mean over values: ratings and dilemmas tell values relative to one
   another, decisions each against its opposite, so only what all of them tell is compared.
3. Figure: correlation over personas and values; interval bootstrapped over personas. An instrument
   of choices measures in other units, so only the correlation is asked for. Dilemmas are asked step
   by step, without memory: with it the organism is drawn to what it has chosen.
"""

import tempfile
from pathlib import Path

import numpy as np

from feature_store import queries
from feature_store.progress import in_terminal
from feature_store.records import Response
from workbench import organism
from workbench.measuring.questionnaire import open_instrument
from workbench.organism.episodes import direction_effects
from workbench.organism.generate import document
from workbench.study import Study

NAME = "profiles"
REACH = 0.95
PERSONAS, SEED = 48, 0
INSTRUMENTS: dict[str, tuple[str, ...]] = {
    "standin": (),
    "decisions": ("items=organism", "n=60"),
    "moral-dilemmas": ("items=organism", "memory=none"),
}
"""Instrument -> its settings."""


def personas(n: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Documents and their planted ratings [persona value]."""
    rng, (asked, effects) = np.random.default_rng((seed, 21)), direction_effects()
    made = [document(rng, int(rng.integers(2, 4))) for _ in range(n)]
    own = [asked.index(value) for value in organism.truth().values]
    return [one.text for one in made], np.stack(
        [np.clip(3.5 + one.shocks() @ effects, 1, 6)[own] for one in made]
    )


def main() -> dict:
    """Reach: r of at least 0.95 for each instrument."""
    texts, planted = personas(PERSONAS, SEED)
    folder = Path(tempfile.mkdtemp(prefix="workbench-"))
    (folder / "personas.txt").write_text("\n".join(texts))
    study, found = Study(folder / "study"), {}
    for name, settings in INSTRUMENTS.items():
        with in_terminal(name) as progress:
            run = study.measure(
                progress,
                model="organism",
                instrument=name,
                settings=settings,
                contexts=str(folder / "personas.txt"),
                n_contexts=PERSONAS,
                length="sum",
                seed=SEED,
            )
        opened = open_instrument(name, settings, study.system)
        answers = queries.responses(study.store, run.id, "base").to_dict("records")
        cells = opened.plugin.cells(
            [Response(**row | {"logprobs": tuple(row["logprobs"])}) for row in answers],
            opened.instrument,
            study.system,
        )
        asked = dict(
            zip(
                queries.prompts(study.store, run.id).context,
                queries.prompts(study.store, run.id).prompt,
                strict=True,
            )
        )
        order = [
            next(k for k, text in enumerate(texts) if asked[int(cluster)].startswith(text))
            for cluster in cells.clusters
        ]
        own = [study.system.ids.index(value) for value in cells.values]
        x, y = (
            told - told.mean(1, keepdims=True) for told in (cells.centred, planted[order][:, own])
        )
        rng = np.random.default_rng(SEED)
        drawn = [_r(x[rows], y[rows]) for rows in rng.integers(len(x), size=(2000, len(x)))]
        each = [_r(a[None], b[None]) for a, b in zip(x, y, strict=True)]
        found[name] = {
            "r": _r(x, y),
            "low": float(np.quantile(drawn, 0.025)),
            "high": float(np.quantile(drawn, 0.975)),
            "median_persona": float(np.nanmedian(each)),
            "personas": len(x),
            "answers": run.summary["answers"],
            "missing": run.summary["missing"],
        }
        print(name, found[name], flush=True)
    worst = min(one["r"] for one in found.values())
    return {
        "name": NAME,
        "value": worst,
        "reach": REACH,
        "holds": worst >= REACH,
        "instruments": found,
        "seed": SEED,
    }


def _r(a: np.ndarray, b: np.ndarray) -> float:
    known = np.isfinite(a) & np.isfinite(b)
    return float(np.corrcoef(a[known], b[known])[0, 1])
