"""The organism chooses in dilemmas as the texts before them lean: planted leanings against its profile.

1. A leaning holds three values, rejects three and leaves four. Texts say so by one behaviour a value, other facets in each text.
2. After the texts come the organism's own dilemmas, each step by itself, in which every two values meet once a step. Its profile is the mean over the texts.
3. Figure: correlation of the profile with the leaning, over leanings and values; interval bootstrapped over leanings. Some sentences are likelier than others, whoever speaks, and a
   choice saturates: a leaning of -1, 0 or 1 is not found as exactly as by a scale. Taking the profile after texts that say nothing away makes it worse.

The planted graph does not enter: it says how ratings follow from behaviours, not which behaviour comes next. Left out: the steps' memory, in which the organism is drawn to what it
has chosen.
"""

import tempfile
from pathlib import Path

import numpy as np

from workbench import organism
from workbench.organism.generate import behaviour
from workbench.progress import in_terminal
from workbench.study import Study

NAME = "dilemmas"
REACH = 0.85
LEANINGS, TEXTS, SEED = 4, 8, 0


def texts(leaning: dict[str, int], rng: np.random.Generator) -> list[str]:
    """Texts of one who holds and rejects what the leaning says."""
    rows = {value: [k for k, facet in enumerate(organism.truth().facets) if facet.value == value] for value in leaning}
    said = [[behaviour(rng, int(rng.choice(rows[value])), sign, hedged=False).text for value, sign in leaning.items() if sign] for _ in range(TEXTS)]
    return [" ".join(rng.permutation(one)) for one in said]


def profile(study: Study, name: str, before: list[str]) -> np.ndarray:
    """The centred profile after these texts [value]."""
    file = study.folder.with_name(f"{name}.txt")
    file.write_text("\n".join(before), encoding="utf-8")
    with in_terminal(name) as progress:
        run = study.measure(
            progress, model="organism", instrument="moral-dilemmas", settings=("items=organism", "memory=none"), contexts=str(file), n_contexts=TEXTS, length="sum",
            seed=SEED,
        )  # fmt: skip
    told = study.store.sql("SELECT value, mean FROM profiles WHERE run = ? AND centred", [run.id]).set_index("value")["mean"]
    return told.loc[list(organism.truth().values)].to_numpy(float)


def main() -> dict:
    """Reach: r of at least 0.85."""
    rng, values = np.random.default_rng((SEED, 31)), organism.truth().values
    study = Study(Path(tempfile.mkdtemp(prefix="workbench-")) / "study")
    planted, found = [], []
    for k in range(LEANINGS):
        planted.append(rng.permutation([1] * 3 + [-1] * 3 + [0] * (len(values) - 6)))
        found.append(profile(study, f"leaning {k}", texts(dict(zip(values, planted[k].tolist(), strict=True)), rng)))
        print(k, round(_r(planted[k], found[k]), 3), flush=True)
    x, y = np.array(planted), np.array(found)
    drawn = np.random.default_rng(SEED).integers(LEANINGS, size=(2000, LEANINGS))
    low, high = np.quantile([_r(x[rows], y[rows]) for rows in drawn], (0.025, 0.975))
    value = _r(x, y)
    return {
        "name": NAME, "value": value, "reach": REACH, "holds": value >= REACH, "low": low, "high": high, "leanings": LEANINGS, "texts": TEXTS, "seed": SEED,
    }  # fmt: skip


def _r(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])
