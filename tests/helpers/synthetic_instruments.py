"""Runs of invented numbers about instruments: an ordinal regression, moral dilemmas, a contrast and
a search for questions. No model is behind them.

Texts are as hostile as those of `synthetic`. Answers to dilemmas follow a planted order of values,
from which the instrument's own tables are made.
"""

import hashlib
import itertools
import json
from pathlib import Path

import numpy as np

from feature_store.records import Response
from tests.helpers.synthetic import HOSTILE
from workbench.measuring.questionnaire import open_instrument
from workbench.study import Study

STEERING = "add f1*0.353553+f2*0.353553+f3*0.353553+f4*0.353553+f5*0.353553 @0.3 norm_share"
NOISE = 0.08
"""Share of dilemmas in which the weaker value is chosen."""
MEMBERS = ("power+", "<b>base</b>")
SEPARATION = {"found": 0.5, "seed": 0.2, "best-seed": 0.25}


def instruments(folder: Path) -> Study:
    """A study with one finished run of every kind that the page Instruments shows."""
    study = Study(folder)
    profile = _answers(study)
    _ordinal(study, profile)
    _dilemmas(study, profile)
    _adaem(study)
    return study


def _profile(study: Study, config: dict, inputs: dict, tables: dict) -> str:
    with study.runs.begin(
        "profile",
        {"model": "organism", "replicates": 200, "seed": 0, **config},
        {"model": "0" * 40, **inputs},
        0,
    ) as work:
        for relation, rows in (
            {"profiles": [], "quality": [], "prompts": [], "responses": []} | tables
        ).items():
            work.table(relation, rows)
        return work.finish(
            {
                "instrument": config["instrument"],
                "steering": STEERING,
                "answers": len(tables["responses"]),
                "missing": 0,
                "contexts": 1,
            }
        ).id


def _answers(study: Study) -> str:
    opened = open_instrument("standin", (), study.system).instrument
    responses = [
        Response(
            item=item.id,
            value=item.value,
            context=0,
            wording="plain",
            order="ascending",
            seed=0,
            steering=steering,
            text=HOSTILE[k % len(HOSTILE)],
            logprobs=(),
            rating=4.0,
            status="parsed",
            chosen=3,
            persona="",
        )
        for steering in ("base", STEERING)
        for k, item in enumerate(opened.items)
    ]
    prompts = [
        {
            "context": 0,
            "item": i.id,
            "wording": "plain",
            "order": "ascending",
            "value": i.value,
            "prompt": f"{HOSTILE[0]} {i.text}",
        }
        for i in opened.items
    ]
    quality = [
        {"steering": s, "metric": "refused", "value": 0.1, "low": 0.05, "high": 0.2, "n": 40}
        for s in ("base", STEERING)
    ]
    return _profile(
        study,
        {"instrument": "standin"},
        {"items": hashlib.sha256(repr(opened).encode()).hexdigest()},
        {"responses": responses, "prompts": prompts, "quality": quality},
    )


def _ordinal(study: Study, profile: str) -> None:
    told = {"below": 0.01, "r_hat": 1.002, "ess": 900.0, "n": 40}
    with study.runs.begin(
        "ordinal",
        {"answers": 10, "chains": 4, "warmup": 600, "draws": 1000},
        {"profile_0": profile},
        0,
    ) as work:
        work.table(
            "ordinal_thetas",
            [
                {
                    "condition": state,
                    "value": value,
                    "centred": centred,
                    "mean": mean,
                    "low": mean - 0.2,
                    "high": mean + 0.2,
                    "missing": 1,
                    **told,
                }
                for centred in (False, True)
                for state in ("base", STEERING)
                for value in study.system.ids
                for mean in [
                    (2.0 if (state, value) == (STEERING, "power") else 0.0)
                    + (0.5 if not centred else 0.0)
                ]
            ],
        )
        work.table(
            "ordinal_contrasts",
            [
                {
                    "contrast": "self-transcendence - self-enhancement",
                    "condition": c,
                    "other": o,
                    "mean": m,
                    "low": m - 0.3,
                    "high": m + 0.3,
                    **told | {"r_hat": 1.03},
                }
                for c, o, m in (("base", "", 0.0), (STEERING, "", -1.5), (STEERING, "base", -1.5))
            ]
            + [
                {
                    "contrast": value,
                    "condition": STEERING,
                    "other": "base",
                    "mean": m,
                    "low": m - 0.3,
                    "high": m + 0.3,
                    **told,
                }
                for value in study.system.ids
                for m in [2.0 if value == "power" else 0.0]
            ],
        )
        work.table(
            "ordinal_parameters",
            [
                {"parameter": p, "mean": m, "low": m - 0.1, "high": m + 0.1, **told}
                for p, m in (("tau_1", -1.0), ("tau_2", 1.0), ("sigma_u", 0.3))
            ],
        )
        work.table(
            "ordinal_circle",
            [
                {
                    "condition": STEERING,
                    "other": "base",
                    "measure": "change",
                    "estimate": 0.5,
                    "null": 0.2,
                    "p": 0.03,
                    "n": 10,
                    "phi": 1.0,
                    "b": 0.7,
                }
            ],
        )
        work.finish(
            {
                "instrument": "standin",
                "conditions": 2,
                "items": 40,
                "answers": 800,
                "missing": 2,
                "asked_alike": False,
                "worst_r_hat": 1.03,
                "least_ess": 900.0,
            }
        )


def _dilemmas(study: Study, profile: str) -> None:
    """Six dilemmas of two steps a pair of the first four values; values earlier in the system
    win, later ones when steered.
    """
    rng, told = np.random.default_rng(0), []
    for number, (a, b) in enumerate(
        [pair for pair in itertools.combinations(study.system.ids[:4], 2) for _ in range(6)]
    ):
        told.append(
            {"idx": str(number)}
            | {
                f"step {s}_{key}": text
                for s in (1, 2)
                for key, text in (
                    ("situation", f"{HOSTILE[number % len(HOSTILE)]} situation"),
                    ("dilemma", f"dilemma {number}"),
                    ("choiceA", f"{HOSTILE[0]} A"),
                    ("choiceA_value", a),
                    ("choiceB", f"{HOSTILE[6]} B"),
                    ("choiceB_value", b),
                )
            }
        )
    file = study.folder / "dilemmas.json"
    file.write_text(json.dumps(told))
    settings = [f"items={file}"]
    opened = open_instrument("moral-dilemmas", settings, study.system)
    sets = {
        steering: [
            Response(
                item=i.id,
                value="",
                context=0,
                wording="choose",
                order="ascending",
                seed=0,
                steering=steering,
                text=i.options[c].text,
                logprobs=(-1.0, -2.0) if c == 0 else (-2.0, -1.0),
                rating=float("nan"),
                status="parsed",
                chosen=c,
                persona="",
            )
            for i in opened.instrument.items
            for c in [int((rng.random() < NOISE) != (steering != "base"))]
        ]
        for steering in ("base", STEERING)
    }
    tables: dict[str, list] = {}
    for responses in sets.values():
        for relation, rows in opened.plugin.tables(
            responses, opened.instrument, study.system, 200, 0
        ).items():
            tables.setdefault(relation, []).extend(rows)
    prompts = [
        {
            "context": 0,
            "item": i.id,
            "wording": "choose",
            "order": "ascending",
            "value": "",
            "prompt": i.text,
        }
        for i in opened.instrument.items
    ]
    items = hashlib.sha256(repr(opened.instrument).encode()).hexdigest()
    run = _profile(
        study,
        {"instrument": "moral-dilemmas", "settings": settings},
        {"items": items},
        {"responses": [r for one in sets.values() for r in one], "prompts": prompts, **tables},
    )
    with study.runs.begin(
        "contrast", {"subjects": ["base", "power+"]}, {"moral-dilemmas base": run}, 0
    ) as work:
        work.table(
            "subjects",
            [
                {"instrument": name, "subject": who, "profile": id, "steering": steering}
                for name, id in (("moral-dilemmas", run), ("standin", profile))
                for who, steering in (("base", "base"), ("power+", STEERING))
            ],
        )
        work.table("contrasts", [])
        work.table("circle_fits", [])
        work.table("mtmm", [])
        work.table("validity", [])
        between = opened.plugin.between(
            {"base": sets["base"], "power+": sets[STEERING]},
            opened.instrument,
            study.system,
            200,
            0,
        )
        work.table("step_agreement", between["step_agreement"])
        work.finish({"subjects": 2, "instruments": 1})


def _adaem(study: Study) -> None:
    """Two topics; question 2 was rewritten from the seed of topic 0 and found, question 3 from
    topic 1 and not accepted.
    """
    texts = [
        f"{HOSTILE[0]} seed",
        f"{HOSTILE[1]} other seed",
        f"{HOSTILE[6]} found",
        f"{HOSTILE[8]} tried",
    ]
    with study.runs.begin(
        "adaem", {"opinions": 2, "fresh": 3}, {"population": "0" * 40}, 0
    ) as work:
        work.table(
            "adaem_members",
            [
                {
                    "member": m,
                    "kind": "steered",
                    "respondent": HOSTILE[6],
                    "steering": STEERING,
                    "persona": "",
                }
                for m in MEMBERS
            ],
        )
        work.table(
            "adaem_questions",
            [
                {
                    "question": n,
                    "topic": n % 2,
                    "parent": n - 2 if n > 1 else -1,
                    "pull": n - 2 if n > 1 else -1,
                    "text": text,
                    "writer": "seed" if n < 2 else HOSTILE[0],
                    "score": score,
                    "separation": score,
                    "distance": 0.1,
                    "accepted": n == 2,
                    "found": n == 2,
                    "fresh": {0: 0.2, 1: 0.2, 2: 0.5}.get(n),
                    "chance": 0.1,
                    "classifier": "invented",
                }
                for n, (text, score) in enumerate(zip(texts, (0.3, 0.4, 0.9, 0.2), strict=True))
            ],
        )
        opinions = [
            {
                "stage": stage,
                "question": n,
                "member": member,
                "text": f"{HOSTILE[k % len(HOSTILE)]} opinion {k}",
                "status": "refused" if k == 2 else "parsed",
                "seed": k,
                "held": ["power"] if member == "power+" and k < 2 else [],
                "coherence": 0.5,
                "conformity": None if stage == "fresh" else 0.5,
                "value_difference": None if stage == "fresh" else 0.5,
                "semantic_difference": None if stage == "fresh" else 0.5,
                "kept": None if stage == "fresh" else k == 0,
                "classifier": "invented",
                "coherence_by": "invented",
            }
            for stage, numbers, size in (("search", range(4), 2), ("fresh", range(3), 3))
            for n in numbers
            for member in MEMBERS
            for k in range(size)
        ]
        work.table("adaem_opinions", opinions)
        work.table(
            "adaem_pulls",
            [
                {
                    "pull": k,
                    "topic": k,
                    "quality": 0.3,
                    "bonus": 1.0,
                    "count": 1,
                    "reward": (0.9, 0.2)[k],
                    "tried": 1,
                    "accepted": (2, -1)[k],
                }
                for k in range(2)
            ],
        )
        work.table(
            "adaem_separation",
            [
                {
                    "questions": name,
                    "separation": x,
                    "low": x - 0.1,
                    "high": x + 0.1,
                    "n": 2,
                    "chance": 0.1,
                    "searched": 2 * x,
                    "ratio": None if name == "seed" else x / 0.2,
                    "ratio_low": None if name == "seed" else 1.1,
                    "ratio_high": None if name == "seed" else 4.0,
                    "beyond": None,
                    "beyond_low": None,
                    "beyond_high": None,
                }
                for name, x in SEPARATION.items()
            ],
        )
        work.table(
            "adaem_ratings",
            [
                {
                    "member": member,
                    "value": value,
                    "mu": 25.0,
                    "sigma": 1.0,
                    "low": 23.0,
                    "high": 27.0,
                    "win_rate": rate,
                    "win_low": rate - 0.1,
                    "win_high": rate + 0.1,
                    "share": 0.5,
                    "share_low": 0.4,
                    "share_high": 0.6,
                    "n": 2,
                    "matches": 4,
                    "missing": 1,
                    "classifier": "invented",
                }
                for value in study.system.ids
                for member, rate in zip(
                    MEMBERS, (0.9, 0.1) if value == "power" else (0.5, 0.5), strict=True
                )
            ],
        )
        work.finish(
            {
                "members": 2,
                "topics": 2,
                "pulls": 2,
                "questions": 4,
                "classifier": "<i>invented</i>",
                "rewriter": HOSTILE[0],
                "opinions": len(opinions),
                "missing": sum(o["status"] != "parsed" for o in opinions),
                "accepted": 1,
                "judge_agreement": 0.91,
            }
        )
