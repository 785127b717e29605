"""AdAEM on four steered variants of the organism: how much better its questions separate them than
its seeds do.

1. Variants: power and benevolence, each steered up and down along its labelled features.
2. Seeds are situations of no value (a place and something that happens there). Sixty pulls refine
   them in the organism's own language.
3. The ten best questions and all seeds are asked anew, 30 opinions a variant each: the ratio of
   their generalised Jensen-Shannon divergence, with the interval over questions. Beside it: chance,
   what the search believed, and what choosing the ten best seeds would have brought.
4. A harder start: the same from texts that already end in the first words of a behaviour
   (`openings`), half as many pulls.
"""

import tempfile
from pathlib import Path

from benchmarks._study import made
from feature_store.progress import in_terminal
from feature_store.records import Run
from workbench import organism
from workbench.study import Study

NAME = "adaem"
REACH = 1.5
"""Least ratio of the separations, found over seeds."""
POPULATION = ("power+", "power-", "benevolence+", "benevolence-")


def main() -> dict:
    """Reach: the questions found separate the four variants at least 1.5 times as well as the
    seeds, interval above 1.
    """
    told = made()
    return measure(told.study, told.runs["train"], told.runs["label"])


def measure(study: Study, sae: Run, labels: Run, budget: int = 60) -> dict:
    """The figures of a study whose labels steer."""
    with in_terminal("adaem") as progress, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "openings.txt"
        file.write_text("\n".join(organism.openings(20, 0)) + "\n", encoding="utf-8")
        run = study.adaem(
            progress, population=POPULATION, labels=labels.id, sae=sae.id, budget=budget
        )
        harder = study.adaem(
            progress,
            population=POPULATION,
            labels=labels.id,
            sae=sae.id,
            budget=budget // 2,
            seeds=str(file),
        )
    sets = study.store.sql(
        "SELECT * EXCLUDE (run) FROM adaem_separation WHERE run = ?", [run.id]
    ).set_index("questions")
    print(sets.round(3).T.to_string())
    ratings = study.store.sql(
        "SELECT member, value, mu, low, high, win_rate, share, n FROM adaem_ratings WHERE run = ?",
        [run.id],
    )
    print(ratings[ratings.value.isin([name[:-1] for name in POPULATION])].round(2).to_string())
    s = run.summary
    return {
        "name": NAME,
        "value": s["ratio"],
        "low": s["ratio_low"],
        "high": s["ratio_high"],
        "reach": REACH,
        "holds": bool(s["ratio"] >= REACH and s["ratio_low"] > 1),
        "found": s["separation"],
        "seeds": s["seed_separation"],
        "chance": s["chance"],
        "beyond_chance": s["beyond"],
        "beyond_low": s["beyond_low"],
        "beyond_high": s["beyond_high"],
        "searched": float(sets.searched["found"]),
        "best_seeds": float(sets.ratio["best-seed"]),
        "from_openings": harder.summary["ratio"],
        "from_openings_low": harder.summary["ratio_low"],
        "from_openings_high": harder.summary["ratio_high"],
        "n": {name: int(n) for name, n in sets.n.items()},
        "questions": s["questions"],
        "opinions": s["opinions"],
        "missing": s["missing"],
        "classifier": s["classifier"],
        "seed": run.seed,
        "seconds": run.seconds + harder.seconds,
    }
