"""A small study made of invented numbers: every relation filled, no model behind it.

For tests and benchmarks of what only reads: queries, figures and pages. The same seed gives the
same study. Its tokens are as hostile as a stranger's corpus: markup, a script, emoji, right-to-left
text, line breaks.
"""

import json
from pathlib import Path

import numpy as np

from feature_store.runs import Runs
from workbench.study import Study

FEATURES, PER_VALUE, CONTEXTS, ITEMS, DOSES = 200, 6, 12, 3, (0.15, 0.3, 0.45, 0.6, 0.9)
CONTROLS = 8
HOSTILE = [
    "<script>alert(1)</script>",
    " **bold**",
    " 🦉",
    " שלום",
    " مرحبا",
    "\n",
    "<img src=x onerror=alert(2)>",
    " $x^2$",
    " [link](javascript:alert(3))",
    " `code`",
]
WORDS = [
    "I",
    "locked",
    "the",
    "doors",
    "twice",
    "and",
    "then",
    "came",
    "to",
    "care",
    "about",
    "order",
    "because",
    "my",
    "neighbours",
    "trust",
    "me",
    "to",
    "keep",
    "watch",
]
PLANTED = [
    ("power", "universalism", -0.5),
    ("security", "conformity", 0.5),
    ("stimulation", "security", -0.4),
    ("benevolence", "universalism", 0.4),
    ("achievement", "power", 0.45),
    ("tradition", "stimulation", -0.35),
    ("hedonism", "stimulation", 0.4),
    ("self-direction", "tradition", -0.4),
]


def tokens(rng: np.random.Generator, n: int) -> list[str]:
    """A window of `n` tokens, about one in eight of them hostile."""
    return [
        str(rng.choice(HOSTILE)) if rng.random() < 0.12 else " " + str(rng.choice(WORDS))
        for _ in range(n)
    ]


def synthetic(folder: Path, seed: int = 0) -> Study:
    """A study with one finished run of every kind, and one that was interrupted."""
    study = Study(folder)
    rng = np.random.default_rng(seed)
    sae = _sae(study.runs, rng)
    _descriptions(study.runs, np.random.default_rng([seed, 1]), sae)
    values = study.system.ids
    labels = _labels(study.runs, rng, sae, values)
    _profile(study.runs, rng, sae, values)
    effects = _effects(study.runs, rng, labels, values)
    _graph(study.runs, rng, effects, values)
    _prediction(study.runs, rng, effects, values)
    _plan(study.runs, rng, effects, values)
    _comparison(study.runs, rng, labels, values)
    with study.runs.begin(
        "profile", {"model": "organism", "n_contexts": 48, "sae": sae}, {"sae": sae}, seed
    ):
        pass  # left unfinished
    return study


def _sae(runs: Runs, rng: np.random.Generator) -> str:
    with runs.begin(
        "sae", {"model": "organism", "revision": "", "layer": 1}, {"model": "0" * 40}, 0
    ) as work:
        n = FEATURES
        dead = np.arange(n) % 25 == 24
        density = np.where(dead, 0, 10 ** rng.uniform(-4, -1, n))
        largest = np.where(dead, 0, rng.uniform(2, 9, n))
        angle = np.arange(n) % 10 / 10 * 2 * np.pi
        place = np.stack([np.cos(angle), np.sin(angle)], 1) * 4 + rng.normal(0, 0.7, (n, 2))
        work.table(
            "features",
            [
                {
                    "feature": i,
                    "n_active": int(density[i] * 400_000),
                    "density": density[i],
                    "max_activation": largest[i],
                    "mean_activation": largest[i] / 3,
                    "decoder_norm": 1.0,
                    "x": None if dead[i] else place[i, 0],
                    "y": None if dead[i] else place[i, 1],
                }
                for i in range(n)
            ],
            sort=("feature",),
        )
        rows, bins, fired = [], [], []
        for feature in np.flatnonzero(~dead):
            for rank in range(8):
                shape = (
                    np.exp(-0.5 * ((np.arange(18) - 9) / 1.4) ** 2) * largest[feature] * 0.97**rank
                )
                window = tokens(rng, 18)
                window[9] = (
                    HOSTILE[feature % len(HOSTILE)]
                    if rank == 0
                    else " " + WORDS[feature % len(WORDS)]
                )
                rows.append(
                    {
                        "feature": feature,
                        "rank": rank,
                        "activation": shape[9],
                        "document": int(rng.integers(2000)),
                        "position": int(rng.integers(60)),
                        "tokens": window,
                        "activations": np.where(shape > 0.3, shape, 0),
                        "peak": 9,
                    }
                )
            edges = np.linspace(0, largest[feature], 21)
            counts = (1e4 * density[feature] * np.exp(-np.arange(20) / 5) * 40).astype(int)
            bins += [
                {
                    "feature": feature,
                    "bin": b,
                    "low": edges[b],
                    "high": edges[b + 1],
                    "count": int(counts[b]),
                }
                for b in range(20)
            ]
            fired += [
                {
                    "feature": feature,
                    "document": int(rng.integers(2000)),
                    "position": int(rng.integers(60)),
                    "activation": float(rng.uniform(0.1, largest[feature])),
                }
                for _ in range(30)
            ]
        work.table("contexts", rows)
        work.table("samples", [_as_sample(row) for row in rows])
        work.table("histograms", bins)
        work.table("activations", fired)
        work.table(
            "training",
            [
                {"step": s, "metric": m, "value": v0 * np.exp(-s / 300) + v1}
                for m, v0, v1 in (("fvu", 0.8, 0.012), ("l0", 0, 12.0), ("loss", 2.0, 0.3))
                for s in range(0, 2001, 100)
            ],
        )
        return work.finish(
            {
                "n_features": n,
                "layer": 1,
                "point": "resid_post",
                "fvu": 0.0124,
                "l0": 12.0,
                "dead_share": float(dead.mean()),
                "loss_recovered": 0.994,
                "median_norm": 14.2,
                "tokens": 400_000,
            }
        ).id


def _as_sample(context: dict) -> dict:
    """A context as if it were drawn, from another text."""
    rest = {name: value for name, value in context.items() if name != "rank"}
    drawn = {"draw": context["rank"], "quantile": 9 - context["rank"] % 10}
    return rest | drawn | {"document": 2000 + context["document"]}


def _descriptions(runs: Runs, rng: np.random.Generator, sae: str) -> None:
    """Descriptions of all features: a dead one writes tokens, and is active with no other."""
    with runs.begin("descriptions", {"top": 4, "least": 5}, {"sae": sae}, 0) as work:
        written, shapes, near, together = [], [], [], []
        for feature in range(FEATURES):
            for side, sign in (("promoted", 1), ("suppressed", -1)):
                written += [
                    {
                        "feature": feature,
                        "side": side,
                        "rank": rank,
                        "id": rank,
                        "token": HOSTILE[(feature + rank) % len(HOSTILE)],
                        "logit": sign * (1.5 - 0.1 * rank),
                    }
                    for rank in range(4)
                ]
            shapes.append(
                {
                    "feature": feature,
                    "sd": 0.3,
                    "skewness": 0.1,
                    "kurtosis": 3.2,
                    "smallest": -1.5,
                    "largest": 1.5,
                    "bins": rng.integers(1, 900, 40),
                }
            )
            others = (feature + 1 + rng.permutation(FEATURES - 1)[:4]) % FEATURES
            near += [
                {
                    "feature": feature,
                    "rank": rank,
                    "neighbour": int(other),
                    "cosine": 0.8 - 0.1 * rank,
                    "null_high": 0.4,
                }
                for rank, other in enumerate(others)
            ]
            if feature % 25 == 24:
                continue
            together += [
                {
                    "feature": feature,
                    "measure": measure,
                    "rank": rank,
                    "partner": int(other),
                    "together": 40,
                    "jaccard": 0.5 - 0.1 * rank,
                    "pmi": 3.0 - 0.1 * rank,
                }
                for measure in ("jaccard", "pmi")
                for rank, other in enumerate(others[::-1])
            ]
        work.table("token_logits", written)
        work.table("logit_shapes", shapes)
        work.table("decoder_neighbours", near)
        work.table("coactivations", together)
        work.finish({"final_norm": "RMSNorm", "null_peak": 4.9, "null_kurtosis": 3.4})


def _labels(runs: Runs, rng: np.random.Generator, sae: str, values: tuple[str, ...]) -> str:
    with runs.begin("labels", {"labeler": "contrast"}, {"sae": sae}, 0) as work:
        rows = []
        for feature in range(0, 190):
            if feature % 25 == 24:
                continue
            right = feature // 10 < PER_VALUE * 2
            for rank in range(2):
                value, ok = values[(feature + rank * 3) % 10], right and rank == 0
                polarity = 1 if feature // 10 % 2 == 0 else -1
                effect = polarity * (rng.uniform(0.9, 2.2) if ok else rng.uniform(0.0, 0.2))
                rows.append(
                    {
                        "feature": feature,
                        "value": value,
                        "polarity": polarity,
                        "effect": effect,
                        "low": effect - 0.15,
                        "high": effect + 0.15,
                        "p": 1e-9 if ok else 0.4,
                        "q": 1e-7 if ok else 0.6,
                        "score": rng.uniform(0.85, 0.99) if ok else rng.uniform(0.45, 0.6),
                        "n": 240,
                        "method": "contrast",
                        "accepted": ok,
                        "gain": 0.8,
                        "evidence": json.dumps(
                            {
                                "held_out_texts": 120,
                                "runner_up": values[(feature + 3) % 10],
                                "note": "<b>tag</b>",
                            }
                        ),
                    }
                )
        work.table("labels", rows, sort=("feature", "value"))
        work.table(
            "output_scores",
            [
                {
                    "feature": r["feature"],
                    "value": r["value"],
                    "polarity": r["polarity"],
                    "output": 0.05 * (r["feature"] % 12),
                    "low": 0.05 * (r["feature"] % 12) - 0.1,
                    "high": 0.05 * (r["feature"] % 12) + 0.1,
                    "beside": 0.1,
                    "null_high": 0.2,
                    "n": 6,
                    "dose": 0.2,
                    "seed": 0,
                }
                for r in rows
                if r["accepted"]
            ],
        )
        return work.finish(
            {
                "texts": 3000,
                "features_labelled": sum(r["accepted"] for r in rows),
                "values_labelled": 10,
                "median_held_out_score": 0.93,
            }
        ).id


def _profile(runs: Runs, rng: np.random.Generator, sae: str, values: tuple[str, ...]) -> str:
    with runs.begin(
        "profile", {"model": "organism", "n_contexts": 24}, {"model": "0" * 40, "sae": sae}, 0
    ) as work:
        rows = []
        for i, value in enumerate(values):
            centre = 0.7 * np.cos(2 * np.pi * i / 10 - 4.6) + rng.normal(0, 0.1)
            for centred in (False, True):
                mean = centre + (0 if centred else 3.6)
                rows.append(
                    {
                        "steering": "base",
                        "value": value,
                        "mean": mean,
                        "low": mean - 0.17,
                        "high": mean + 0.17,
                        "n": 24,
                        "parsed": 190,
                        "missing": 2,
                        "centred": centred,
                    }
                )
        work.table("profiles", rows)
        work.table("responses", [])
        work.table("prompts", [])
        return work.finish({"steering": "base", "answers": 1920, "missing": 20, "contexts": 24}).id


def truth(values: tuple[str, ...]) -> np.ndarray:
    """The planted direct effects [source, target]."""
    graph = np.zeros((10, 10))
    for source, target, weight in PLANTED:
        graph[values.index(source), values.index(target)] = weight
    return graph


def _effects(runs: Runs, rng: np.random.Generator, labels: str, values: tuple[str, ...]) -> str:
    total = np.linalg.inv(np.eye(10) - truth(values))
    with runs.begin(
        "effects",
        {
            "unit": "norm_share",
            "delta": 0.1,
            "doses": list(DOSES),
            "method": "add",
            "instrument": "standin",
        },
        {"labels": labels},
        0,
    ) as work:
        units = [
            ("feature", v + 10 * k, values[v], 1 if k % 2 == 0 else -1)
            for v in range(10)
            for k in range(PER_VALUE)
            if (v + 10 * k) % 25 != 24
        ]
        units += [("random-feature", 190 + i, "", 1) for i in range(CONTROLS // 2)] + [
            ("random-direction", -1, "", 1)
        ] * (CONTROLS // 2)
        interventions, doses, matched, ratings = [], [], [], []
        questions = [
            (c, f"{v}-{i}", v) for c in range(CONTEXTS) for v in values for i in range(ITEMS)
        ]
        base = {q: 3.5 + rng.normal(0, 0.8) for q in questions}
        for unit, (kind, feature, value, polarity) in enumerate(units):
            steep = rng.uniform(0.8, 1.2)
            shift = polarity * total[values.index(value)] if value else rng.normal(0, 0.06, 10)
            for dose in DOSES:
                number, damage, size = (
                    len(interventions),
                    0.18 * steep * dose**2,
                    2.2 * steep * np.tanh(1.3 * dose),
                )
                told = {
                    "kind": kind,
                    "unit_id": unit,
                    "feature": feature,
                    "value": value,
                    "polarity": polarity,
                    "dose": dose,
                }
                interventions.append(
                    told
                    | {
                        "intervention": number,
                        "steering": f"add f{feature} @{dose:g} norm_share",
                        "unit": "norm_share",
                        "damage": damage,
                        "damage_low": damage * 0.8,
                        "damage_high": damage * 1.2,
                        "damage_n": 16,
                    }
                )
                for t, target in enumerate(values):
                    effect = size * shift[t] + rng.normal(0, 0.03)
                    doses.append(
                        told
                        | {
                            "target": target,
                            "effect": effect,
                            "low": effect - 0.12,
                            "high": effect + 0.12,
                            "points": effect * 0.6,
                            "n": CONTEXTS,
                            "damage": damage,
                        }
                    )
                ratings += [
                    {
                        "intervention": number,
                        "context": c,
                        "item": item,
                        "wording": "plain",
                        "order": "ascending",
                        "value": v,
                        "rating": float(
                            np.clip(
                                base[c, item, v]
                                + 0.6 * size * shift[values.index(v)]
                                + rng.normal(0, 0.1),
                                1,
                                6,
                            )
                        ),
                        "base": base[c, item, v],
                    }
                    for c, item, v in questions
                ]
            matched.append(
                {
                    "unit_id": unit,
                    "kind": kind,
                    "feature": feature,
                    "value": value,
                    "polarity": polarity,
                    "strength": float(min(0.9, np.sqrt(0.1 / 0.18 / steep))),
                    "reached": bool(np.sqrt(0.1 / 0.18 / steep) < 0.8),
                    "damage": 0.1,
                }
            )
        work.table("interventions", interventions, sort=("intervention",))
        work.table("ratings", ratings, sort=("intervention", "value"))
        work.table("dose_effects", doses, sort=("kind", "feature", "target", "dose"))
        work.table("matched", matched)
        work.table(
            "prompts",
            [
                {
                    "context": c,
                    "item": item,
                    "wording": "plain",
                    "order": "ascending",
                    "value": v,
                    "prompt": (
                        f"{HOSTILE[c % len(HOSTILE)]} I locked the doors twice. How much is {item}"
                        " like me :"
                    ),
                }
                for c, item, v in questions
            ],
        )
        side = []
        for s, source in enumerate(values):
            for t, target in enumerate(values):
                effect = 1.5 * total[s, t] + rng.normal(0, 0.04)
                clear = abs(effect) > 0.22
                side.append(
                    {
                        "source": source,
                        "target": target,
                        "effect": effect,
                        "low": effect - 0.14,
                        "high": effect + 0.14,
                        "p": 1e-6 if clear else 0.3,
                        "q": float("nan") if s == t else 1e-5 if clear else 0.5,
                        "null_low": -0.15,
                        "null_high": 0.16,
                        "n": CONTEXTS,
                        "features": PER_VALUE,
                    }
                )
        work.table("side_effects", side)
        work.table(
            "leakage",
            [
                {
                    "source": source,
                    "part": part,
                    "leakage": float("nan") if s == 9 else x,
                    "low": float("nan") if s == 9 else x * 0.8,
                    "high": float("nan") if s == 9 else x * 1.3,
                    "reason": "the interval of its own effect includes 0" if s == 9 else "",
                }
                for s, source in enumerate(values)
                for part, x in zip(
                    ("all", "adjacent", "orthogonal", "opposed"),
                    rng.uniform(0.05, 0.5, 4),
                    strict=True,
                )
            ],
        )
        return work.finish(
            {
                "interventions": len(interventions),
                "features": 10 * PER_VALUE,
                "circle_spearman": 0.41,
                "circle_p": 0.003,
                "not_reached": sum(not m["reached"] for m in matched),
            }
        ).id


ARMS = {
    "prompt": 1.2,
    "sae-add": 1.0,
    "difference-of-means": 0.9,
    "random-feature": 0.02,
    "wrong-sign": -1.1,
}
"""Arm -> its effect on each value [SD]."""


def _comparison(runs: Runs, rng: np.random.Generator, labels: str, values: tuple[str, ...]) -> str:
    with runs.begin("comparison", {"delta": 0.1}, {"labels": labels}, 0) as work:
        rows, texts, scores, ratings = [], [], [], []
        cells = [
            (arm, size, value, dose)
            for arm, size in ARMS.items()
            for value in values
            for dose in (0.2, 0.4)
        ]
        for number, (arm, size, value, dose) in enumerate(cells):
            effect, chosen, undefined = (
                size * dose / 0.4 + rng.normal(0, 0.05),
                dose == 0.4,
                arm == "random-feature",
            )
            leak = float("nan") if undefined else 0.3
            told = {
                "value": value,
                "arm": arm,
                "intervention": number,
                "dose": dose,
                "chosen": chosen,
                "selected": effect,
            }
            rows.append(
                told
                | {
                    "prompt": HOSTILE[number % len(HOSTILE)] if arm == "prompt" else "",
                    "within": True,
                    "effect": effect,
                    "low": effect - 0.2,
                    "high": effect + 0.2,
                    "points": 0.6 * effect,
                    "n": 6,
                    "damage": 0.02,
                    "damage_low": 0.01,
                    "damage_high": 0.03,
                    "damage_n": 8,
                    "leakage": leak,
                    "leakage_low": leak,
                    "leakage_high": leak,
                    "leakage_adjacent": leak,
                    "leakage_orthogonal": leak,
                    "leakage_opposed": leak,
                    "reason": (
                        "the interval of the value's own effect includes 0" if undefined else ""
                    ),
                    "tokens": 12 if arm == "prompt" else 0,
                }
            )
            spread = {
                f"{name}{end}": 1.0 + shift
                for name in ("concept", "instruct", "fluency", "harmonic")
                for end, shift in (("", 0.0), ("_low", -0.3), ("_high", 0.3))
            }
            scores.append(told | spread | {"n": 4, "missing": 1, "judge": "invented"})
            texts.append(
                {
                    "intervention": number,
                    "opening": 0,
                    "prompt": HOSTILE[0],
                    "text": HOSTILE[number % len(HOSTILE)],
                    "loss": 1.0,
                    "concept": 2.0,
                    "instruct": 1.0,
                    "fluency": 0.0,
                }
            )
            ratings.append(
                {
                    "intervention": number,
                    "context": 0,
                    "item": "a",
                    "wording": "plain",
                    "order": "ascending",
                    "value": value,
                    "rating": 4.0,
                    "base": 3.5,
                }
            )
        work.table("arms", rows)
        work.table("arm_scores", scores)
        work.table("arm_texts", texts)
        work.table("ratings", ratings)
        work.table(
            "prompts",
            [
                {
                    "context": 0,
                    "item": "a",
                    "wording": "plain",
                    "order": "ascending",
                    "value": value,
                    "prompt": HOSTILE[6],
                }
                for value in values
            ],
        )
        work.table(
            "arm_contrasts",
            [
                {
                    "value": value,
                    "arm": arm,
                    "baseline": "prompt",
                    "difference": size - 1.2,
                    "low": size - 1.5,
                    "high": size - 0.9,
                    "p": 0.01,
                    "q": 0.02,
                    "n": 6,
                }
                for value in ("all", *values)
                for arm, size in ARMS.items()
                if arm != "prompt"
            ],
        )
        work.table(
            "arm_means",
            [
                {
                    "arm": arm,
                    "effect": size,
                    "low": size - 0.1,
                    "high": size + 0.1,
                    "n": 6,
                    "damage": 0.02,
                    "damage_low": 0.01,
                    "damage_high": 0.03,
                    "damage_n": 8,
                    "leakage": float("nan") if arm == "random-feature" else 0.3,
                    "leakage_values": 10,
                    "n_values": 10,
                    "within": 9,
                    "harmonic": 1.0,
                    "harmonic_low": 0.8,
                    "harmonic_high": 1.2,
                    "tokens": 12.0 if arm == "prompt" else 0.0,
                    "seconds": 0.004,
                    "needs": "<b>pairs</b>",
                }
                for arm, size in ARMS.items()
            ],
        )
        return work.finish({"arms": len(ARMS), "best": "prompt"}).id


def _graph(runs: Runs, rng: np.random.Generator, effects: str, values: tuple[str, ...]) -> str:
    graph = truth(values)
    missed, extra = ("self-direction", "tradition"), ("conformity", "benevolence")
    with runs.begin("graph", {"replicates": 300}, {"effects": effects}, 0) as work:
        rows = []
        for s, source in enumerate(values):
            for t, target in enumerate(values):
                if s == t:
                    continue
                weight = (
                    graph[s, t] + rng.normal(0, 0.03) + (0.22 if (source, target) == extra else 0)
                )
                present = (graph[s, t] != 0 and (source, target) != missed) or (
                    source,
                    target,
                ) == extra
                rows.append(
                    {
                        "source": source,
                        "target": target,
                        "weight": weight,
                        "low": weight - 0.09,
                        "high": weight + 0.09,
                        "z": weight / 0.045,
                        "q": 1e-4 if present else 0.4,
                        "frequency": rng.uniform(0.75, 1) if present else rng.uniform(0, 0.2),
                        "present": present,
                    }
                )
        work.table("edges", rows)
        work.table("true_edges", [{"source": s, "target": t, "weight": w} for s, t, w in PLANTED])
        return work.finish(
            {
                "edges": len(PLANTED),
                "true_edges": len(PLANTED),
                "shd": 2,
                "pairs": 90,
                "level": "value",
                "contexts": CONTEXTS,
            }
        ).id


def _prediction(
    runs: Runs, rng: np.random.Generator, effects: str, values: tuple[str, ...]
) -> None:
    with runs.begin("prediction", {"n": 20}, {"effects": effects}, 0) as work:
        rows, scores = [], []
        for model, error in (("linear", 0.05), ("graph", 0.12)):
            for steering in range(20):
                for value in values:
                    measured = rng.normal(0, 0.5)
                    said = measured + rng.normal(0, error)
                    rows.append(
                        {
                            "intervention": steering,
                            "model": model,
                            "value": value,
                            "predicted": said,
                            "predicted_low": said - 2 * error,
                            "predicted_high": said + 2 * error,
                            "measured": measured,
                            "measured_low": measured - 0.03,
                            "measured_high": measured + 0.03,
                            "sd": 0.5,
                            "n": CONTEXTS,
                            "covered": True,
                        }
                    )
            scores += [
                {
                    "model": model,
                    "value": value,
                    "r2": 1 - 4 * error**2,
                    "low": 1 - 5 * error**2,
                    "high": 1 - 3 * error**2,
                    "chance": 0.1,
                    "mae": error,
                    "error": error,
                    "coverage": 0.95,
                    "fresh_coverage": 0.94,
                    "n": 20,
                }
                for value in ("all", *values)
            ]
        work.table("predictions", rows)
        work.table("prediction_scores", scores)
        work.finish({"n": 20})


def _plan(runs: Runs, rng: np.random.Generator, effects: str, values: tuple[str, ...]) -> None:
    wanted = {"benevolence": (0.5, 0.45, 0.55), "power": (float("nan"), float("-inf"), 0.0)}
    with runs.begin(
        "plan", {"want": "benevolence +0.5, power <= 0"}, {"effects": effects}, 0
    ) as work:
        rows = []
        for value in values:
            target, low, high = wanted.get(value, (float("nan"), float("-inf"), float("inf")))
            said = target if target == target else rng.normal(0, 0.02)
            rows.append(
                {
                    "value": value,
                    "wanted": target,
                    "wanted_low": low,
                    "wanted_high": high,
                    "predicted": said,
                    "predicted_low": said - 0.08,
                    "predicted_high": said + 0.08,
                    "measured": said + 0.02,
                    "measured_low": said - 0.01,
                    "measured_high": said + 0.05,
                    "control": 0.0,
                    "control_low": -0.02,
                    "control_high": 0.02,
                    "sd": 0.5,
                    "n": CONTEXTS // 2,
                    "within": True,
                }
            )
        work.table("plan_effects", rows)
        work.table(
            "joint_features",
            [
                {
                    "intervention": 0,
                    "feature": 8,
                    "value": "benevolence",
                    "polarity": 1,
                    "weight": 0.35,
                },
                {
                    "intervention": 0,
                    "feature": 14,
                    "value": "power",
                    "polarity": -1,
                    "weight": -0.1,
                },
            ],
        )
        work.finish(
            {
                "want": "benevolence +0.5, power <= 0",
                "steering": "add f8*0.35 & f14*-0.1 @1 norm_share",
                "features": 2,
                "unit": "norm_share",
                "alike": ["security and conformity"],
                "held_out_r2": 0.99,
                "held_out_n": 20,
                "distance_before": 0.32,
                "distance_predicted": 0.0,
                "distance_after": 0.02,
                "distance_low": 0.01,
                "distance_high": 0.05,
                "distance_control": 0.31,
                "asked": 2,
                "within": 2,
                "damage_predicted": 0.01,
                "damage_predicted_low": -0.02,
                "damage_predicted_high": 0.04,
                "damage": 0.012,
                "damage_low": -0.01,
                "damage_high": 0.03,
                "contexts_chosen_by": 12,
                "contexts": 12,
            }
        )
