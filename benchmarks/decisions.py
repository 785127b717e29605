"""The effect of steering each value on the organism's own decisions, against random directions
of equal norm."""

import pandas as pd

from benchmarks._study import made
from feature_store.progress import in_terminal
from feature_store.records import Run
from workbench.features.output_scores import with_outputs
from workbench.study import Study
from workbench.sweeps.sweep import choose_features

NAME = "decisions"
REACH = 0.9
"""Least share of the values whose own effect is clear."""
STRENGTH = 0.45
"""Step of every steering [share of the median residual norm]."""


def main() -> dict:
    """Reach: in nine of ten values the interval of steering the value on its own score excludes
    0 above, beyond all random directions.
    """
    told = made()
    return measure(told.study, told.runs["train"], told.runs["label"], 60)


def measure(study: Study, sae: Run, labels: Run, n: int) -> dict:
    """The figures of a study whose labels steer: one run of decisions a value, over the same `n`
    scenarios.
    """
    known = with_outputs(study, labels.id)
    chosen = choose_features(known, 8).groupby("value")
    scenarios = study.scenarios(llm="organism", n=n)
    rows, seconds = [], 0.0
    with in_terminal("decisions") as progress:
        for value in study.system.ids:
            features = tuple(
                f"{f.feature}:{f.polarity}" for f in chosen.get_group(value).itertuples()
            )
            run = study.decide(
                progress,
                scenarios=scenarios.id,
                sae=sae.id,
                features=features,
                strength=STRENGTH,
                controls=12,
            )
            seconds += run.seconds
            found = study.store.sql(
                "SELECT value, base, steered, effect, low, high, null_low, null_high, n FROM"
                " decision_effects WHERE run = ? AND kind = 'steering' AND outcome = 'expected'",
                [run.id],
            ).set_index("value")
            others = found.effect.drop(value)
            rows.append(
                found.loc[[value]].assign(
                    others=others.abs().mean(), largest_other=others.abs().max()
                )
            )
    table = pd.concat(rows)
    print(table.round(3).to_string())
    clear = (table.low > 0) & (table.effect > table.null_high)
    return {
        "name": NAME,
        "value": float(clear.mean()),
        "reach": REACH,
        "holds": bool(clear.mean() >= REACH),
        "excludes_0": float((table.low > 0).mean()),
        "effects": table.effect.to_dict(),
        "mean_effect": float(table.effect.mean()),
        "null_high": float(table.null_high.max()),
        "mean_other": float(table.others.mean()),
        "n": table.n.to_dict(),
        "scenarios": scenarios.summary["passed"],
        "strength": STRENGTH,
        "seed": 0,
        "seconds": seconds,
    }
