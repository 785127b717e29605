"""Value neurons of the organism (ValueLocate), on MLP neurons and on SAE features: edit, reverse
edit, matched random control."""

from benchmarks._study import made
from feature_store.progress import in_terminal

NAME = "neurons"
VALUES = ("power", "security", "stimulation")
SETTINGS = {"values": VALUES, "n_answers": 100, "gammas": (0.5, 1.0), "min_delta": 1.0}
"""Neurons are chosen by rank alone: on a model of 1,536 neurons more than half differ by the
paper's 0.1."""
TOP = {"mlp": 150, "sae": 20}
"""Neurons a value and role."""
GAMMA = 1.0


def main() -> dict:
    """No reach is set. It holds where, over the values, the edit lies above the random control
    and the reverse edit below it.
    """
    study, figures, apart = made().study, {}, []
    for on, top in TOP.items():
        with in_terminal(f"neurons on {on}") as progress:
            run = study.neurons(progress, on=on, top=top, **SETTINGS)
        rows = study.store.sql(
            "SELECT value, condition, gamma, neurons, effect, low, high, excess_low, excess_high,"
            " draw_sd, damage FROM neuron_effects WHERE run = ? AND (value = target OR target ="
            " 'own') ORDER BY value, condition, gamma",
            [run.id],
        )
        print(
            f"{on}: effect on the value itself [rating"
            f" points]\n{rows.round(3).to_string(index=False)}"
        )
        at = {(r.value, r.condition): r for r in rows[rows.gamma == GAMMA].itertuples()}
        clear = {
            value: (
                at[value, "edited"].low > at[value, "random"].high
                and at[value, "reversed"].high < at[value, "random"].low
            )
            for value in (*VALUES, "all")
        }
        apart.append(clear["all"])
        figures[on] = {
            kind: {
                "effect": at["all", kind].effect,
                "low": at["all", kind].low,
                "high": at["all", kind].high,
                "damage": at["all", kind].damage,
            }
            for kind in ("edited", "reversed", "random")
        } | {
            "draw_sd": at["all", "random"].draw_sd,
            "values_apart": [v for v in VALUES if clear[v]],
            "neurons": int(at["all", "edited"].neurons),
            "of": run.summary["neurons"],
            "seconds": run.seconds,
        }
    return {
        "name": NAME,
        "value": figures["mlp"]["edited"]["effect"],
        "reach": None,
        "holds": all(apart),
        "gamma": GAMMA,
        **figures,
    }
