"""The comparison of steering methods: exact answers on planted arrays, ratings of planted texts,
and the whole way on the organism."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from feature_store.errors import BadInput
from feature_store.records import Steering
from tests.causal.test_effects import TEN
from tests.helpers import small_models
from workbench import organism
from workbench.comparing.methods import ComparisonDesign, compare, harmonic, score_texts
from workbench.llm import Verdict
from workbench.organism import reading
from workbench.sweeps import arms, ratings, value_prompts
from workbench.sweeps.damage import Sweep

DOSES = (0.2, 0.4, 0.8)
HALVES = (np.arange(0, 24, 2), np.arange(1, 24, 2))
TEXTS = (np.arange(6), np.arange(6, 12))
REVERSES = {"wrong-sign": "sae-add"}
BASELINES = ("prompt", "difference-of-means")
DESIGN = ComparisonDesign(HALVES, TEXTS, 0.1, BASELINES, REVERSES, 300, 0)


def planted(
    gains: dict[str, float],
    damage: dict[str, float],
    seed: int = 0,
    noise: float = 0.05,
    leak: float = 0.25,
) -> Sweep:
    """Arm a raises its value by gain x dose points in every context, the value opposite by -leak
    of that; damage is d x dose.
    """
    rng = np.random.default_rng(seed)
    base = 3.5 + 0.5 * rng.normal(size=(24, 10))
    cells = [
        (arm, value, dose) for arm in gains for value in ("power", "benevolence") for dose in DOSES
    ]
    change = noise * rng.normal(size=(len(cells), 24, 10))
    for k, (arm, value, dose) in enumerate(cells):
        other = {"power": "universalism", "benevolence": "achievement"}[value]
        change[k, :, TEN.ids.index(value)] += gains[arm] * dose
        change[k, :, TEN.ids.index(other)] -= leak * gains[arm] * dose
    kind, source, dose = (np.array(column) for column in zip(*cells, strict=True))
    hurt = np.array([damage.get(arm, 0.0) * dose for arm, _, dose in cells])[
        :, None
    ] + 0.001 * rng.normal(size=(len(cells), 12))
    return Sweep(
        values=TEN.ids,
        unit_id=np.arange(len(cells)) // 3,
        kind=kind,
        feature=np.full(len(cells), -1),
        source=source,
        polarity=np.ones(len(cells), int),
        dose=dose,
        ratings=base + change,
        base=base,
        damage=hurt,
    )


GAINS = {
    "sae-add": 1.0,
    "prompt": 0.6,
    "difference-of-means": 0.9,
    "random-direction": 0.0,
    "wrong-sign": -1.0,
}


def told(sweep: Sweep, **settings):
    return compare(sweep, TEN, DESIGN._replace(**settings))


def test_the_strongest_dose_within_the_budget_is_chosen_and_its_planted_effect_reported():
    sweep = planted(GAINS, {"sae-add": 0.2, "prompt": 0.05, "difference-of-means": 1.0})
    found = told(sweep)
    rows = pd.DataFrame(found.arms)
    chosen = rows[rows.chosen].set_index(["arm", "value"])
    assert len(chosen) == 10
    assert chosen.loc[("sae-add", "power")].dose == 0.4  # 0.8 does 0.16 nat
    assert chosen.loc[("prompt", "power")].dose == 0.8
    assert (
        chosen.loc["difference-of-means"].dose == 0.2
    ).all()  # every dose is too much: the least damage, flagged
    assert not chosen.loc["difference-of-means"].within.any()
    assert chosen.loc["sae-add"].within.all()
    assert (chosen.loc["wrong-sign"].dose == 0.4).all()  # that of the arm it reverses
    one = chosen.loc[("sae-add", "power")]
    assert one.points == pytest.approx(0.4, abs=0.05)
    assert one.low < 0.4 / sweep.base[:, TEN.ids.index("power")].std(ddof=1) < one.high
    assert (one.n, one.damage_n) == (12, 6)
    assert one.damage == pytest.approx(0.08, abs=0.002)
    assert (chosen.loc["wrong-sign"].high < 0).all()


def test_what_chooses_and_what_reports_never_meet():
    sweep = planted(GAINS, {"sae-add": 0.2})
    rows = pd.DataFrame(told(sweep).arms)
    ratings, damage = sweep.ratings.copy(), sweep.damage.copy()
    ratings[:, HALVES[1]] += np.random.default_rng(1).normal(size=(len(ratings), 12, 10))
    damage[:, TEXTS[1]] += 5.0
    other = pd.DataFrame(told(replace(sweep, ratings=ratings, damage=damage)).arms)
    for column in ("chosen", "within", "selected"):
        assert (rows[column] == other[column]).all()
    assert not np.allclose(rows.effect, other.effect)
    ratings = sweep.ratings.copy()
    ratings[:, HALVES[0]] += np.random.default_rng(2).normal(size=(len(ratings), 12, 10))
    third = pd.DataFrame(told(replace(sweep, ratings=ratings)).arms)
    assert np.allclose(rows.effect, third.effect)
    assert not np.allclose(rows.selected, third.selected)


def test_a_choice_made_on_noise_is_not_flattered():
    """The best of twelve noisy strengths looks good where it was chosen, and like nothing where
    it is reported.
    """
    rng = np.random.default_rng(0)
    flattered, honest = [], []
    for seed in range(40):
        sweep = planted({"random-direction": 0.0}, {}, seed, noise=0.5)
        sweep = replace(sweep, ratings=sweep.base + 0.5 * rng.normal(size=sweep.ratings.shape))
        rows = pd.DataFrame(told(sweep).arms)
        flattered += rows[rows.chosen].selected.tolist()
        honest += rows[rows.chosen].effect.tolist()
    assert np.mean(flattered) > 0.1
    assert abs(np.mean(honest)) < 3 * np.std(honest) / np.sqrt(len(honest))


def test_leakage_is_the_planted_one_and_undefined_for_what_does_nothing():
    rows = pd.DataFrame(told(planted(GAINS, {}, noise=0.003)).arms)
    add = rows[(rows.arm == "sae-add") & rows.chosen & (rows.value == "power")].iloc[0]
    sd = np.nanstd(planted(GAINS, {}).base, axis=0, ddof=1)
    power, universalism = TEN.ids.index("power"), TEN.ids.index("universalism")
    ratio = 0.25 * sd[power] / sd[universalism]
    assert add.leakage == pytest.approx(ratio / 3, rel=0.05)
    assert add.leakage_opposed > 2 * add.leakage_adjacent
    idle = rows[(rows.arm == "random-direction") & (rows.low <= 0) & (rows.high >= 0)]
    assert len(idle)
    assert idle.leakage.isna().all()
    assert (idle.reason != "").all()


def test_arms_are_laid_beside_the_best_baseline_with_q_over_all_of_them():
    found = told(planted(GAINS, {}))
    rows = pd.DataFrame(found.arm_contrasts)
    assert set(rows.baseline) == {"difference-of-means"}
    assert set(rows.arm) == set(GAINS) - {"difference-of-means"}
    assert set(rows.value) == {"power", "benevolence", "all"}
    sd = planted(GAINS, {}).base.std(0, ddof=1)
    for value in ("power", "benevolence"):
        row = rows[(rows.value == value) & (rows.arm == "prompt")].iloc[0]
        assert row.difference == pytest.approx(-0.24 / sd[TEN.ids.index(value)], rel=0.15)
        assert row.q < 0.01
    from scipy.stats import false_discovery_control

    single = rows[rows.value != "all"]
    assert single.q.to_numpy() == pytest.approx(false_discovery_control(single.p.to_numpy()))
    pooled = rows[rows.value == "all"]
    assert pooled.q.to_numpy() == pytest.approx(false_discovery_control(pooled.p.to_numpy()))
    means = {row["arm"]: row for row in found.arm_means}
    both = pd.DataFrame(found.arms).query("chosen").groupby("arm").effect.mean()
    for arm, row in means.items():
        assert row["effect"] == pytest.approx(both[arm])
    assert means["sae-add"]["low"] < means["sae-add"]["effect"] < means["sae-add"]["high"]
    everything = pd.DataFrame(found.arm_effects)
    assert len(everything) == 5 * 2 * 10
    assert everything.query(
        "arm == 'sae-add' and value == 'power' and target == 'universalism'"
    ).points.iloc[0] == pytest.approx(-0.2, abs=0.05)


def test_equal_arms_do_not_differ():
    q = []
    for seed in range(15):
        rows = pd.DataFrame(
            told(
                planted(
                    {"sae-add": 0.9, "difference-of-means": 0.9, "prompt": 0.9}, {}, seed, noise=0.3
                )
            ).arm_contrasts
        )
        q += rows.q.tolist()
    assert np.mean(np.array(q) < 0.05) <= 0.08


def test_bad_comparisons_are_refused():
    sweep = planted(GAINS, {})
    with pytest.raises(BadInput, match="budget must be positive"):
        told(sweep, delta=0.0)
    with pytest.raises(BadInput, match="four or more"):
        told(sweep, contexts=(np.array([0]), np.array([1])))
    assert told(sweep, baselines=()).arm_contrasts == []


def test_the_harmonic_mean_is_zero_with_any_zero_and_unknown_with_any_unknown():
    scores = np.array(
        [[2, 2, 2], [1, 2, 2], [0, 2, 2], [np.nan, 2, 2], [0, np.nan, 2], [0, 0, 0]], float
    )
    assert harmonic(scores) == pytest.approx([2.0, 1.5, 0.0, np.nan, np.nan, 0.0], nan_ok=True)


def test_text_scores_choose_on_half_of_the_openings_and_count_what_was_not_read():
    sweep = planted({"sae-add": 1.0, "wrong-sign": -1.0}, {})
    scores = np.zeros((12, 16, 3)) + 2
    halves = (np.arange(8), np.arange(8, 16))
    for k, dose in enumerate(sweep.dose):
        scores[k, :8, 0] = {0.2: 1, 0.4: 2, 0.8: 0}[dose] if sweep.kind[k] == "sae-add" else 0
        scores[k, 8:, 0] = 1
    scores[:, 15, 2] = np.nan
    found = score_texts(scores, sweep, halves, REVERSES, 200, 0)
    rows = pd.DataFrame(found.rows)
    chosen = rows[rows.chosen]
    assert set(chosen.dose) == {0.4}
    assert len(chosen) == 4
    assert chosen.harmonic.tolist() == pytest.approx([1.5] * 4)
    assert set(rows.n) == {7}
    assert set(rows.missing) == {1}
    assert chosen.selected.tolist() == pytest.approx([2, 2, 0, 0])
    assert found.means["sae-add"]["harmonic"] == pytest.approx(1.5)


class Scripted:
    """A judge that answers by what stands in the question, and keeps what it was asked."""

    name = "scripted"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def judge(self, questions, options):
        self.asked += questions

        def choice(q):
            return "partly" if "express" in q else "fully"

        return [
            (
                Verdict(choice="", status="refused", text="no", judge=self.name)
                if "odd" in q
                else Verdict(choice=choice(q), status="parsed", text="", judge=self.name)
            )
            for q in questions
        ]


def test_a_judge_is_asked_three_questions_a_text_and_none_about_an_empty_one():
    judge = Scripted()
    found = ratings.JudgeRater(judge).rate(
        [TEN["power"]] * 3, ["May I?"] * 3, ["Take it.", " ", "odd"], np.ones(3)
    )
    assert found[0] == pytest.approx([1, 2, 2])
    assert found[1] == pytest.approx([0, 0, 0])
    assert np.isnan(found[2]).all()
    assert len(judge.asked) == 6
    assert TEN["power"].definition in judge.asked[0]
    assert any("May I?" in q for q in judge.asked)


def test_the_organism_s_language_is_read_and_rated():
    from workbench.organism.planted import planted_language

    row = next(row for row in planted_language().rows if row.owner == "power")
    held, rejected, filler = row.plus[0], row.minus[0], planted_language().fillers[0]
    assert reading.read(f"{held} Now and then {rejected.lower()} {filler} and then") == [
        ("power", 1),
        ("power", -1),
        ("", 0),
    ]
    assert reading.read("The moon ate it.") == [None]
    rater = ratings.OrganismRater(np.linspace(0, 1, 101))
    assert rater.limit == pytest.approx(0.95)
    texts = [held, f"{held} {rejected}", rejected, f"{held} The moon ate it.", "the the moon", ""]
    found = rater.rate(
        [TEN["power"]] * 6, [""] * 6, texts, np.array([0.5, 0.5, 1.5, 3.0, 0.5, np.nan])
    )
    assert found.tolist() == [[2, 2, 2], [1, 2, 2], [0, 2, 1], [2, 1, 0], [0, 0, 2], [0, 0, 0]]
    other = rater.rate([TEN["security"]], [""], [held], np.array([0.5]))
    assert other[0, 0] == 0


def test_prompts_of_the_organism_hold_the_value_and_stand_in_no_question():
    asked = organism.contexts(24, 0)
    for value in TEN.values:
        ladder = value_prompts.organism_ladder(value, 5, asked, 0)
        assert [len(reading.read(prompt)) for prompt in ladder] == [1, 2, 3, 4, 5]
        assert set(reading.read(ladder[-1])) == {(value.id, 1)}
        assert all(ladder[k + 1].startswith(ladder[k]) for k in range(4))
        assert not any(
            sentence.lower() in text.lower()
            for sentence in ladder[-1].split(". ")
            for text in asked
        )
    assert len(set(value_prompts.organism_ladder(TEN["power"], 9, [], 0)[-1].split(". "))) == 9


def test_prompts_of_other_models_come_from_a_file(tmp_path):
    ladder = value_prompts.ladder(TEN["power"], 7, value_prompts.read(""))
    assert TEN["power"].definition in ladder[0]
    assert all(len(a) < len(b) for a, b in itertools.pairwise(ladder))
    (file := tmp_path / "p.toml").write_text('sentences = ["{colour} first."]')
    with pytest.raises(BadInput, match="sentences are texts with"):
        value_prompts.read(str(file))
    file.write_text("")
    with pytest.raises(BadInput, match="should hold a list"):
        value_prompts.read(str(file))
    assert value_prompts.before("Be bold.", "Do you?\nYes:") == "Be bold.\nDo you?\nYes:"
    assert value_prompts.before("", "Do you?") == "Do you?"


def test_the_plan_has_every_arm_at_every_strength_in_equal_norm():
    chosen = pd.DataFrame(
        {
            "feature": [1, 2, 3, 4, 5],
            "value": ["power"] * 4 + ["security"],
            "polarity": [1, -1, 1, 1, -1],
        }
    )
    values, ladders = (
        ("power", "security"),
        {v: ["a", "a b", "a b c"] for v in ("power", "security")},
    )
    sources = arms.ArmSources(chosen, list(range(10, 30)), "probes-1", ladders)
    planned = arms.plan(sources, values, ("add", "clamp"), DOSES, Steering(), 0)
    names = list(dict.fromkeys(one.arm for one in planned))
    assert names[-1] == "prompt"
    assert set(names) == {
        "sae-add",
        "sae-clamp",
        "difference-of-means",
        "probe",
        "conva",
        *arms.CONTROLS,
        "prompt",
    }
    assert len(planned) == 9 * 2 * 3
    assert pd.Series([one.unit_id for one in planned]).value_counts().to_dict() == dict.fromkeys(
        range(18), 3
    )
    by = {(one.arm, one.value, one.dose): one for one in planned}
    add, wrong = by["sae-add", "power", 0.4].steering, by["wrong-sign", "power", 0.4].steering
    assert add.features == ((1, 0.5), (2, -0.5), (3, 0.5), (4, 0.5))
    assert wrong.features == tuple((f, -w) for f, w in add.features)
    assert by["conva", "power", 0.2].steering.direction == "probes-1/power/probe"
    control = by["random-feature", "power", 0.2].steering.features
    assert len(control) == 4
    assert {f for f, _ in control} <= set(range(10, 30))
    assert by["prompt", "power", 3.0].row(7) == {
        "intervention": 7,
        "steering": "prompt power @3 sentences",
        "kind": "prompt",
        "unit_id": by["prompt", "power", 1.0].unit_id,
        "feature": -1,
        "value": "power",
        "polarity": 1,
        "dose": 3.0,
        "unit": "sentences",
    }
    sources = arms.ArmSources(chosen, [], "", ladders)
    bare = arms.plan(sources, values, ("add",), DOSES, Steering(), 0)
    assert {one.arm for one in bare} == {"sae-add", "random-direction", "wrong-sign", "prompt"}


def test_the_loss_after_a_prefix_counts_the_text_s_own_tokens():
    from sae_training.engine.losses import loss_after

    model = small_models.model("llama")
    before, texts = [[0, 5, 9], [0], [0, 7]], [[11, 12], [13, 14, 15], []]
    found = loss_after(model, before, texts)
    for row in (0, 1):
        ids = torch.tensor([before[row] + texts[row]])
        nats = -model.logits(ids, torch.ones_like(ids, dtype=torch.bool))[0].log_softmax(-1)
        start = len(before[row])
        expected = torch.stack(
            [nats[start - 1 + k, token] for k, token in enumerate(texts[row])]
        ).mean()
        assert found[row] == pytest.approx(float(expected), abs=1e-4)
    assert found[2].isnan()
    with pytest.raises(BadInput, match="Shorten it"):
        loss_after(model, [[]], [[1]])
    with pytest.raises(BadInput, match="Shorten it"):
        loss_after(model, [[0] * 60], [[1] * 10])


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "neox"])
def test_neighbours_score_as_each_prompt_alone(family):
    from sae_training.engine import neighbours, scoring

    model = small_models.model(family)
    contexts = [
        "the cat sat on the mat and then ",
        "then the dog ran to the end of the garden and ",
        "a",
    ]
    prompts = [
        f"{context}{tail}"
        for context in contexts
        for tail in ("the dog ran", "it sat", "the dog sat on the mat and ran", "the dog ran")
    ]
    options = [" the", " 1", " dog"]
    assert len(set(map(len, model.tokenize(options)))) > 1, "options of one and of several tokens"
    groups = list(neighbours._groups(model.tokenize(prompts), 1, 64))
    assert 3 <= len(groups) < len(prompts)
    together = neighbours.score(model, prompts, options)
    assert torch.allclose(together, scoring.score(model, prompts, options), atol=1e-4)
