"""Do labels carry over to text? Steered features heard by ears that know nothing of the labels: on
the organism, and on a real chat model where a study of it is named.

1. The organism: an assessor fitted on its labelled texts, and its known language. Reach: the rank
   of the steered value, up less down, is 0.9 or more for both ears, at least 5 values are heard,
   and random features in the labels' place rank at 0.5 (0.35 to 0.65).
2. A real model: `SMOLLM2_STUDY` names the folder of its study, `MINILM` a sentence encoder (minilm,
   where it was fetched), Touché'23 lies beside the project. Labels are of the training split, ears
   learn from and are held against the validation split. What so small a model writes is a finding:
   no reach.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._study import made
from feature_store import queries
from feature_store.progress import in_terminal
from feature_store.records import Run
from sae_training.model.catalogue import known
from workbench.comparing.transfer import Drawing, target_rank
from workbench.study import Study

NAME = "transfer"
TOUCHE = Path(__file__).parents[2] / "shared" / "data" / "touche23"
REAL = {
    "features_per_value": 5,
    "controls": 8,
    "n_neutral": 6,
    "doses": (0.1, 0.2, 0.4),
    "n_texts": 12,
    "new_tokens": 32,
    "assess_text_column": "Premise",
    "assess_context": "Conclusion",
    "assess_ignore": ("Face",),
}
"""Settings on the real model, sized for two cores."""


def main() -> dict:
    """Reach: the steered value ranks at 0.9 on the organism, random features at chance."""
    study = made().study
    with in_terminal("transfer") as progress:
        run = study.transfer(controls=12, progress=progress)
    figures = _figures(study, run)
    chance = {ear: _random_rank(study, run, ear) for ear in figures["ranks"]["sae-add"]}
    between = {ear: rows["between"] for ear, rows in figures["ranks"]["sae-add"].items()}
    holds = all(
        rows["rank"] >= 0.9 and rows["heard"] >= 5 and 0.35 <= chance[ear] <= 0.65
        for ear, rows in between.items()
    )
    return {
        "name": NAME,
        "value": {ear: rows["rank"] for ear, rows in between.items()},
        "reach": 0.9,
        "holds": holds,
        "random_features_rank": chance,
        "organism": figures,
        "real": _real(),
    }


def _real() -> dict[str, Any] | str:
    """The figures of the real model's study, or why there are none."""
    folder = os.environ.get("SMOLLM2_STUDY", "")
    if not folder or not TOUCHE.is_dir():
        return f"SMOLLM2_STUDY names no study, or {TOUCHE.name} does not lie beside the project"
    study = Study(folder, create=False)
    values = study.labels().frame.value.nunique()
    # Steering a value needs features; with too few labels the best evidence stands in for them.
    evidence = "accepted" if values >= 8 else "best"
    with in_terminal("transfer") as progress:
        run = study.transfer(
            **REAL,
            evidence=evidence,
            encoder=os.environ.get("MINILM", "minilm" if known()["minilm"].is_fetched else ""),
            assess_texts=str(TOUCHE / "arguments-validation.tsv"),
            assess_labels=str(TOUCHE / "labels-validation.tsv"),
            progress=progress,
        )
    return {"values_labelled": values, "evidence": evidence, **_figures(study, run)}


def _figures(study: Study, run: Run) -> dict[str, Any]:
    """Ranks by arm, ear and turn; quality of the ears; what was written; and the small table."""
    ranks = queries.transfer_ranks(study.store, run.id)
    quality = queries.transfer_ears(study.store, run.id)
    arms = queries.transfer_arms(study.store, run.id)
    table = queries.verdicts(study.store, run.id, run.inputs["labels"])
    print(ranks.round(3).to_string(index=False))
    print(quality.round(3).to_string(index=False))
    numbers = ["damage", "strange", "tokens", "broken", "texts"]
    written = arms.groupby(["arm", "turn"])[numbers].mean()
    print(written.round(3).to_string())
    print(
        table.pivot_table(index="value", columns=["arm", "judge"], values="effect")
        .round(2)
        .to_string()
    )
    columns = ["rank", "low", "high", "p", "heard", "n_values", "others_moved", "others", "n"]
    nested: dict[str, dict[str, dict[str, Any]]] = {}
    for row in ranks.to_dict("records"):
        cell = {name: row[name] for name in columns}
        nested.setdefault(row["arm"], {}).setdefault(row["ear"], {})[row["turn"]] = cell
    return {
        "ranks": nested,
        "auroc": quality.groupby("ear").auroc.mean().to_dict(),
        "precision": quality.groupby("ear").precision.mean().to_dict(),
        "share": quality.groupby("ear").share.mean().to_dict(),
        "held_out_texts": int(quality.n.max()),
        "written": {" ".join(key): row for key, row in written.to_dict("index").items()},
        "summary": {
            name: run.summary[name] for name in ("values", "left_out", "matched", "labelled_texts")
        },
        "seconds": run.seconds,
        "seed": run.seed,
    }


def _random_rank(study: Study, run: Run, ear: str) -> float:
    """Mean rank of values that are dealt to groups of random features, half of up less down."""
    scores = study.store.sql(
        "SELECT unit_id, turn, opening, s.value, score FROM transfer_scores s JOIN transfer_arms a"
        " USING (run, intervention) WHERE run = ? AND ear = ? AND arm = 'random-feature'",
        [run.id, ear],
    )
    wide = scores.pivot_table(index=["opening", "unit_id", "value"], columns="turn", values="score")
    changes = ((wide["up"] - wide["down"]) / 2).unstack("value")[list(study.system.ids)]
    by_unit = np.stack([rows.to_numpy() for _, rows in changes.groupby("unit_id")], axis=1)
    sd = queries.transfer_ears(study.store, run.id).query("ear == @ear").set_index("value").sd
    by_unit = by_unit / sd[list(study.system.ids)].to_numpy()
    rng, drawing = np.random.default_rng(0), Drawing(replicates=100, permutations=100, seed=0)
    units = min(by_unit.shape[1], len(study.system.ids))
    dealt = [rng.permutation(len(study.system.ids))[:units] for _ in range(50)]
    return float(
        np.mean([target_rank(by_unit[:, :units], targets, drawing).rank for targets in dealt])
    )
