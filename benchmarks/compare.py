"""Seven steering methods and three controls x ten values x five strengths on the organism,
questions, damage and texts: wall time."""

from benchmarks._study import made
from feature_store import queries
from feature_store.progress import in_terminal

NAME, REACH = "compare", 600


def main() -> dict:
    """Reach: probes and comparison together in ten minutes on two cores."""
    study = made().study
    with in_terminal("probe") as progress:
        probes = study.probe(progress=progress)
    with in_terminal("compare") as progress:
        run = study.compare(progress=progress)
    means = queries.arm_means(study.store, run.id)
    print(means.drop(columns=["needs"]).round(3).to_string(index=False))
    told = means.set_index("arm")
    value = probes.seconds + run.seconds
    return {
        "name": NAME,
        "value": value,
        "reach": REACH,
        "holds": value <= REACH and run.summary["methods"] == 7 and run.summary["values"] == 10,
        "probe_s": probes.seconds,
        "compare_s": run.seconds,
        "methods": run.summary["methods"],
        "values": run.summary["values"],
        "interventions": run.summary["interventions"],
        "contexts": run.summary["contexts"],
        "openings": run.summary["texts"],
        "effects": told.effect.to_dict(),
        "harmonic": told.harmonic.to_dict(),
        "leakage": told.leakage.to_dict(),
    }
