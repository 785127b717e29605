"""Wanted profiles: distance to the target after the planner, against one feature, concept vectors,
ConVA and a hard prompt.

Ten wishes are drawn: targets of 0.4 to 0.9 points on one to three values, the others within 0.2.
Every way chooses its strength (and what else it may choose) on the same half of the contexts, and
is measured on the other half:

1. planner: `workbench plan`;
2. feature: the best labelled feature, dose and sign, by what the sweep measured;
3. features' mean: the mean decoder row of the features labelled with the value of the largest
   target;
4. difference of means: residuals of labelled texts that hold that value less those that do not;
5. mixed means: the features' means of all targets together, each times its target: a concept vector
   that knows the whole wish;
6. ConVA: that value's probe (`workbench probe`, with its defaults) raised to P0, or lowered to 1 -
   P0, by the minimum shift; P0, and whether the layers that the probes chose are steered or the
   SAE's alone, are chosen with the strength;
7. prompt: sentences that show the wanted leaning of every target put before the question, as many
   and as mild as is best.

Another concept vector is one more entry in `directions`.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from benchmarks._study import Made, made
from feature_store.records import Run
from workbench import organism
from workbench.causal import predict
from workbench.causal.joint import curves_of, halves
from workbench.causal.wanted import Goal, goal, parse
from workbench.measuring.questionnaire import one_scale
from workbench.measuring.questions import Question, expected_ratings, option_texts
from workbench.organism.generate import behaviour
from workbench.organism.planted import planted_language as phrases
from workbench.steering import directions
from workbench.study import Study
from workbench.sweeps.stored import sweep_setup
from workbench.systems.conva import shift
from workbench.workspace import site_of

if TYPE_CHECKING:
    from sae_training.engine.model import Model

NAME = "planner"
WISHES, SEED = 10, 0
REACH = 0.5
STRENGTHS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6)
"""Lengths at which a direction is tried [share of the median residual norm]."""
TARGETS = (0.5, 0.7, 0.88, 0.95, 0.975, 0.99, 0.999)
"""P0 that ConVA tries [probability]; the paper uses 0.7 to 0.975."""
PROMPTS = ((True,), (False,), (True, True), (False, True), (False, False))
"""Sentences a target, each hedged (which halves it) or not."""
TEXTS = 3000
"""Labelled texts behind the difference of means."""


class Setting(NamedTuple):
    """What every way is measured with."""

    study: Study
    effects: Run
    sae: Run
    probes: Run
    model: "Model"
    asked: list[Question]
    curves: predict.Curves
    first: np.ndarray
    """Contexts to choose by."""
    second: np.ndarray
    """Contexts to report."""


def setting(told: Made) -> Setting:
    """The sweep's own questions, and its contexts in the planner's two halves."""
    study, effects = told.study, told.runs["effects"]
    sae = study.runs.get(effects.inputs["sae"])
    setup = sweep_setup(study, effects)
    return Setting(
        study,
        effects,
        sae,
        study.probe(sae=sae.id),
        study.model_of(sae),
        setup.material.questions,
        curves_of(study, effects),
        *halves(setup.settings.n_contexts, SEED),
    )


def wishes(values: tuple[str, ...]) -> list[str]:
    """Ten seeded wishes."""
    rng, made_up = np.random.default_rng((SEED, 9)), []
    for _ in range(WISHES):
        named = rng.choice(values, rng.integers(1, 4), replace=False)
        targets = [f"{value} {rng.choice((-1, 1)) * rng.uniform(0.4, 0.9):+.2f}" for value in named]
        made_up.append(", ".join([*targets, "others within 0.2"]))
    return made_up


def per_value(s: Setting, asked: Sequence[Question], ratings: np.ndarray) -> np.ndarray:
    """Mean rating of every value over the questions' contexts [*row value]; contexts weigh
    alike, all ask the same items.
    """
    own = np.array([s.curves.values.index(q.item.value) for q in asked])
    return np.stack([ratings[..., own == j].mean(-1) for j in range(len(s.curves.values))], -1)


def questions(s: Setting, contexts: np.ndarray) -> list[Question]:
    """The sweep's questions in some contexts."""
    return [q for q in s.asked if q.context in set(contexts.tolist())]


def under_vectors(s: Setting, vectors: torch.Tensor, contexts: np.ndarray) -> np.ndarray:
    """Mean change of every value when each vector is added to the residual [vector value]."""
    from sae_training.engine import scoring
    from workbench.steering.methods.add import Add

    asked = questions(s, contexts)
    options = option_texts(one_scale("standin", s.study.system), s.model)
    scores = scoring.sweep(
        s.model,
        [q.prompt for q in asked],
        options,
        Add(vectors, ("all",) * len(vectors)),
        site_of(s.sae),
    )
    base, steered = (
        per_value(s, asked, expected_ratings(x.double().numpy(), asked)) for x in scores
    )
    return steered - base


def under_prompts(s: Setting, told: str, contexts: np.ndarray) -> np.ndarray:
    """Mean change of every value when a text stands before every question [value]."""
    asked = questions(s, contexts)
    options = option_texts(one_scale("standin", s.study.system), s.model)
    scores = s.model.score([f"{told} {q.prompt}" for q in asked], options)
    return per_value(s, asked, expected_ratings(scores.double().numpy(), asked)) - s.curves.base[
        contexts
    ].mean(0)


def under_conva(
    s: Setting, value: str, lower: bool, target: float, layers: Sequence[int], contexts: np.ndarray
) -> np.ndarray:
    """Mean change of every value when the value's probe is brought to P0 = `target` at some
    layers, in order [value].
    """
    asked = questions(s, contexts)
    goal = shift.ShiftGoal(value, target, lower, tuple(layers))
    with shift.controlled(s.study, s.probes, s.model, goal) as model:
        scores = model.score(
            [q.prompt for q in asked], option_texts(one_scale("standin", s.study.system), model)
        )
    return per_value(s, asked, expected_ratings(scores.double().numpy(), asked)) - s.curves.base[
        contexts
    ].mean(0)


def best_feature(s: Setting, wanted: Goal) -> np.ndarray:
    """Change in the second half under the feature, dose and sign that were best in the first."""
    told = s.curves.of_contexts(s.first)
    doses = [sign * dose for dose in told.dose[1:] for sign in (-1.0, 1.0)]
    tried = [((int(feature), float(dose)),) for feature in told.feature for dose in doses]
    change = predict.linear(told, predict.dose_matrix(told, tried)).mean(1)
    ((feature, dose),) = tried[int(wanted.distance(change).argmin())]
    decoder = s.study.sae(s.sae).W_dec[feature]
    return under_vectors(
        s, (dose * s.sae.summary["median_norm"] * decoder / decoder.norm())[None], s.second
    )[0]


def best_strength(s: Setting, wanted: Goal, direction: torch.Tensor) -> np.ndarray:
    """Change in the second half along a direction, at the strength that was best in the first."""
    unit = direction / direction.norm() * s.sae.summary["median_norm"]
    vectors = torch.stack([strength * unit for strength in STRENGTHS])
    best = int(wanted.distance(under_vectors(s, vectors, s.first)).argmin())
    return under_vectors(s, vectors[best : best + 1], s.second)[0]


def best_conva(s: Setting, wanted: Goal, value: str, lower: bool) -> np.ndarray:
    """Change in the second half under the P0 and layers that were best in the first."""
    layers = ([s.sae.summary["layer"]], directions.chosen_layers(s.study, s.probes, value))
    tried = [(1 - target if lower else target, some) for some in layers for target in TARGETS]
    distances = [
        float(wanted.distance(under_conva(s, value, lower, *one, s.first))) for one in tried
    ]
    return under_conva(s, value, lower, *tried[int(np.argmin(distances))], s.second)


def feature_means(s: Setting) -> dict[str, torch.Tensor]:
    """Mean decoder row of each value's labelled features, those that reject it turned round."""
    labels = s.study.store.sql(
        "SELECT feature, value, polarity FROM labels WHERE run = ? AND accepted",
        [s.effects.inputs["labels"]],
    )
    decoder = s.study.sae(s.sae).W_dec
    rows = decoder / decoder.norm(dim=1, keepdim=True)
    return {
        str(value): (
            (rows[own.feature.tolist()] * torch.tensor(own.polarity.tolist())[:, None])
            .mean(0)
            .float()
        )
        for value, own in labels.groupby("value")
    }


def difference_of_means(s: Setting) -> dict[str, torch.Tensor]:
    """Mean residual of labelled texts that hold each value, less that of texts that do not;
    first tokens left out, as in steering.
    """
    texts = organism.labelled_texts(TEXTS, SEED)
    means = []
    for start in range(0, len(texts), 128):
        ids = [
            torch.tensor(one)
            for one in s.model.tokenize([t.text for t in texts[start : start + 128]])
        ]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
        mask = torch.arange(padded.shape[1]) < torch.tensor([len(one) for one in ids])[:, None]
        hidden = s.model.residuals(padded, mask, site_of(s.sae))
        inner = mask & (torch.arange(padded.shape[1]) > 0)
        means += list((hidden * inner[..., None]).sum(1) / inner.sum(1, keepdim=True))
    stacked = torch.stack(means)
    held = {
        value: torch.tensor([t.labels.get(value, 0) > 0 for t in texts])
        for value in s.curves.values
    }
    return {value: stacked[own].mean(0) - stacked[~own].mean(0) for value, own in held.items()}


def best_prompt(s: Setting, wanted: Goal, targets: dict[str, float]) -> np.ndarray:
    """Change in the second half under the sentences that were best in the first."""
    rng, rows = np.random.default_rng((SEED, 10)), phrases().rows
    tried = []
    for hedges in PROMPTS:
        said = []
        for value, target in targets.items():
            own = rng.permutation([row for row, one in enumerate(rows) if one.owner == value])
            said += [
                behaviour(rng, int(row), int(np.sign(target)), hedged).text
                for row, hedged in zip(own, hedges, strict=False)
            ]
        tried.append(" ".join(said))
    distances = [float(wanted.distance(under_prompts(s, text, s.first))) for text in tried]
    return under_prompts(s, tried[int(np.argmin(distances))], s.second)


def planned(s: Setting, text: str) -> np.ndarray:
    """Change in the second half under the plan."""
    run = s.study.plan(text, effects=s.effects.id, seed=SEED)
    rows = s.study.store.sql(
        "SELECT value, measured FROM plan_effects WHERE run = ?", [run.id]
    ).set_index("value")
    return rows.measured[list(s.curves.values)].to_numpy()


def main() -> dict:
    """Reach: mean distance after the planner at most half of the best other way's."""
    s = setting(made())
    means, differences = feature_means(s), difference_of_means(s)
    distance: dict[str, list[float]] = {}
    for text in wishes(s.curves.values):
        wish = parse(text, s.study.system)
        wanted = goal(wish, s.curves.values, np.ones(len(s.curves.values)))
        targets = {one.value: one.target for one in wish.values}
        largest = max(targets, key=lambda value: abs(targets[value]))
        directions = {
            "features' mean": targets[largest] * means[largest],
            "difference of means": targets[largest] * differences[largest],
            "mixed means": sum(target * means[value] for value, target in targets.items()),
        }
        ways: dict[str, Callable[[], np.ndarray]] = {
            "nothing": lambda wanted=wanted: np.zeros(len(wanted.low)),
            "planner": lambda text=text: planned(s, text),
            "feature": lambda wanted=wanted: best_feature(s, wanted),
            "ConVA": lambda wanted=wanted, largest=largest, lower=targets[largest] < 0: best_conva(
                s, wanted, largest, lower
            ),
            "prompt": lambda wanted=wanted, targets=targets: best_prompt(s, wanted, targets),
        } | {
            name: lambda wanted=wanted, d=d: best_strength(s, wanted, d)
            for name, d in directions.items()
        }
        found = {name: float(wanted.distance(way())) for name, way in ways.items()}
        for name, one in found.items():
            distance.setdefault(name, []).append(one)
        print(text, {name: round(one, 3) for name, one in found.items()}, flush=True)
    mean = {name: float(np.mean(all)) for name, all in distance.items()}
    others = {name: one for name, one in mean.items() if name not in ("planner", "nothing")}
    best = min(others, key=others.__getitem__)
    ratio = np.array(distance["planner"]).mean() / others[best]
    drawn = np.random.default_rng(SEED).integers(WISHES, size=(2000, WISHES))
    planner, rival = (
        np.array(distance["planner"])[drawn].mean(1),
        np.array(distance[best])[drawn].mean(1),
    )
    low, high = np.quantile(planner / rival, (0.025, 0.975))
    return {
        "name": NAME,
        "value": float(ratio),
        "reach": REACH,
        "holds": bool(ratio <= REACH),
        "interval": [float(low), float(high)],
        "best_other": best,
        "distance": mean,
        "wishes": WISHES,
        "wins": int(
            (np.array(distance["planner"]) < np.array([distance[n] for n in others]).min(0)).sum()
        ),
        "contexts": len(s.second),
        "seed": SEED,
    }
