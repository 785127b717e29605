"""The organism chooses in dilemmas as the texts before them lean: planted leanings against its profile, for each memory.

1. A leaning holds three values, rejects three and leaves four. Texts say so by one behaviour a value, other facets in each text.
2. After the texts come the organism's own dilemmas, in which every two values meet once a step. Its profile is the mean over the texts.
3. Figure: correlation of the profile with the leaning, over leanings and values, without memory; interval bootstrapped over leanings. With memory it reads its own choices
   besides, and is drawn to what it has chosen: that figure stands beside, and carries no claim.

The planted graph does not enter: it says how ratings follow from behaviours, not which behaviour comes next.
"""

import tempfile
from pathlib import Path

import numpy as np

from workbench import organism
from workbench.organism.generate import behaviour
from workbench.progress import in_terminal
from workbench.study import Study

NAME = "dilemmas"
REACH = 0.95
LEANINGS, TEXTS, SEED = 6, 8, 0


def texts(leaning: dict[str, int], rng: np.random.Generator) -> list[str]:
    """Texts of one who holds and rejects what the leaning says."""
    rows = {value: [k for k, facet in enumerate(organism.truth().facets) if facet.value == value] for value in leaning}
    said = [[behaviour(rng, int(rng.choice(rows[value])), sign, hedged=False).text for value, sign in leaning.items() if sign] for _ in range(TEXTS)]
    return [" ".join(rng.permutation(one)) for one in said]


def main() -> dict:
    """Reach: r of at least 0.95 without memory."""
    rng, values = np.random.default_rng((SEED, 31)), organism.truth().values
    study = Study(Path(tempfile.mkdtemp(prefix="workbench-")) / "study")
    planted = np.zeros((LEANINGS, len(values)))
    found = {memory: np.full(planted.shape, np.nan) for memory in ("none", "causal", "full")}
    for k in range(LEANINGS):
        planted[k] = rng.permutation([1] * 3 + [-1] * 3 + [0] * (len(values) - 6))
        file = study.folder.with_name(f"{k}.txt")
        file.write_text("\n".join(texts(dict(zip(values, planted[k].astype(int).tolist(), strict=True)), rng)), encoding="utf-8")
        for memory, rows in found.items():
            with in_terminal(f"leaning {k}, {memory}") as progress:
                run = study.measure(
                    progress, model="organism", instrument="moral-dilemmas", settings=("items=organism", f"memory={memory}"), contexts=str(file), n_contexts=TEXTS,
                    length="sum", seed=SEED,
                )  # fmt: skip
            told = study.store.sql("SELECT value, mean FROM profiles WHERE run = ? AND centred", [run.id]).set_index("value")["mean"]
            rows[k] = told.loc[list(values)]
        print(k, {memory: round(_r(planted[k], rows[k]), 3) for memory, rows in found.items()}, flush=True)
    drawn = np.random.default_rng(SEED).integers(LEANINGS, size=(2000, LEANINGS))
    each = {
        memory: {"r": _r(planted, rows), **dict(zip(("low", "high"), np.quantile([_r(planted[d], rows[d]) for d in drawn], (0.025, 0.975)), strict=True))}
        for memory, rows in found.items()
    }
    value = each["none"]["r"]
    return {"name": NAME, "value": value, "reach": REACH, "holds": value >= REACH, "memory": each, "leanings": LEANINGS, "texts": TEXTS, "seed": SEED}


def _r(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])
