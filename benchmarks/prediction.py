"""Joint steerings that no fit has seen, predicted from single ones: R2 of both models, and
coverage of the intervals."""

from benchmarks._study import made

NAME = "prediction"
REACH = 0.9


def main() -> dict:
    """Reach: R2 over all values of both models, and of the worst value of the linear one, at
    least 0.9.
    """
    told = made()
    run = told.study.predict(
        effects=told.runs["effects"].id, graph=told.runs["graph"].id, steerings=120
    )
    scores = told.study.store.sql(
        "SELECT * EXCLUDE (run) FROM prediction_scores WHERE run = ? ORDER BY model, value",
        [run.id],
    )
    print(scores.round(3).to_string(index=False))
    by = scores.set_index(["model", "value"]).sort_index()
    worst = {
        model: own[own.value != "all"].set_index("value").r2.sort_values().head(1).to_dict()
        for model, own in scores.groupby("model")
    }
    value = {model: float(by.r2[model, "all"]) for model in worst}
    holds = min(value.values()) >= REACH and min(worst["linear"].values()) >= REACH
    return {
        "name": NAME,
        "value": value,
        "reach": REACH,
        "holds": holds,
        "worst": worst,
        "steerings": run.summary["steerings"],
        "interval": {
            model: [float(by.low[model, "all"]), float(by.high[model, "all"])] for model in worst
        },
        "chance": {model: float(by.chance[model, "all"]) for model in worst},
        "mae_points": {model: float(by.mae[model, "all"]) for model in worst},
        "coverage": {model: float(by.coverage[model, "all"]) for model in worst},
        "coverage_in_fresh_contexts": {
            model: float(by.fresh_coverage[model, "all"]) for model in worst
        },
        "damage": [
            run.summary["damage_predicted"],
            run.summary["damage_measured"],
            run.summary["damage_error"],
        ],
        "seconds": run.seconds,
    }
