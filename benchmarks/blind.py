"""Steering with features of an SAE that never saw the planted directions, chosen by their labels
alone.

1. The demo's SAE is trained on text residuals; its features are chosen by accepted labels, the most
   specific on held-out texts first.
2. Each is steered at the norm at which a planted facet is one unit; effects are turned by the
   label's polarity and averaged over a value's features.
3. They are laid beside the planted total effects: correlation off the diagonal, size of the
   diagonal.
"""

import numpy as np

from benchmarks._study import made
from workbench import organism

NAME = "blind"


def main() -> dict:
    """Reach: correlation >= 0.97 off the diagonal, diagonal within 15 % of the planted."""
    told, truth = made(), organism.truth()
    run = told.study.effects(
        unit="raw", doses=(truth.norm,), delta=1e6, seed=1, random_features=12, random_directions=12
    )
    cells = told.study.store.sql(
        "SELECT value, target, avg(points * polarity) AS points, count(DISTINCT feature) AS"
        " features FROM dose_effects WHERE run = ? AND kind = 'feature' GROUP BY ALL",
        [run.id],
    )
    realised = np.full((10, 10), np.nan)
    for cell in cells.itertuples():
        realised[truth.values.index(cell.value), truth.values.index(cell.target)] = cell.points
    off = ~np.eye(10, dtype=bool) & np.isfinite(realised)
    r = float(np.corrcoef(realised[off], truth.effects[off])[0, 1])
    own = float(np.nanmean(np.diag(realised)) / np.diag(truth.effects).mean())
    sae = told.study.sae(told.runs["train"])
    chosen = told.study.store.sql(
        "SELECT DISTINCT feature, value, polarity FROM interventions WHERE run = ? AND kind ="
        " 'feature'",
        [run.id],
    )
    decoder = sae.directions(chosen.feature.tolist()).numpy()
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    facets = {
        value: truth.directions[[f.direction for f in truth.facets if f.value == value]]
        for value in truth.values
    }
    cosines = [
        (p * facets[v] @ d).max()
        for d, v, p in zip(decoder, chosen.value, chosen.polarity, strict=True)
    ]
    print(np.round(realised, 2))
    return {
        "name": NAME,
        "value": r,
        "reach": 0.97,
        "holds": bool(r >= 0.97 and abs(own - 1) <= 0.15 and off.sum() == 90),
        "cells": int(off.sum()),
        "diagonal_over_planted": own,
        "median_cosine": float(np.median(cosines)),
        "features": len(chosen),
        "contexts": run.summary["contexts"],
    }
