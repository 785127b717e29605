"""Whether a label carries over: ranks, null bands and ears against planted and analytic truth, and
the whole of it on the organism, whose language is known.
"""

import csv

import numpy as np
import pandas as pd
import pytest

from feature_store import queries
from feature_store.errors import BadInput, NotFound
from feature_store.records import Steering
from sae_training.model.sentences import SentenceEncoder
from workbench import organism
from workbench.comparing import ears
from workbench.comparing.transfer import (
    Drawing,
    EarScores,
    SteeredArm,
    is_broken,
    judge,
    target_rank,
)
from workbench.study import Study
from workbench.sweeps.arms import PlannedArm
from workbench.sweeps.equal_damage import _Curve
from workbench.values.schwartz10 import SYSTEM
from workbench.verbs.transfer import TransferSettings, _refuse_without_ear

pytestmark = pytest.mark.slow_file

DRAWING = Drawing(replicates=400, permutations=400, seed=0)
VALUES = tuple("abcdefgh")
OPENINGS, CONTROLS = 24, 12


def heard(gain: float, seed: int = 0, noise: float = 1.0, shared: float = 0.0) -> EarScores:
    """Every value is steered up and down and moves itself by `gain` SD; whatever is steered,
    either way, moves value a by `shared`.
    """
    rng = np.random.default_rng(seed)
    steered = np.zeros((len(ARMS), OPENINGS, len(VALUES)))
    for k, arm in enumerate(ARMS):
        steered[k, :, 0] += shared
        if arm.value:
            steered[k, :, VALUES.index(arm.value)] += gain * (1 if arm.turn == "up" else -1)
    steered += noise * rng.normal(size=steered.shape)
    unit = np.linspace(0.5, 2.0, len(VALUES))
    unsteered = noise * rng.normal(size=steered.shape[1:])
    return EarScores(
        ear="planted",
        values=VALUES,
        unit=unit,
        unsteered=unsteered * unit,
        steered=(steered + unsteered) * unit,
    )


UNITS = [("sae-add", value) for value in VALUES]
UNITS += [("random-feature", "")] * CONTROLS + [("random-direction", "")] * CONTROLS
ARMS = [
    SteeredArm(arm=arm, value=value, unit_id=number, turn=turn)
    for number, (arm, value) in enumerate(UNITS)
    for turn in ("up", "down")
]


def frames(scores: EarScores) -> tuple[pd.DataFrame, pd.DataFrame]:
    result = judge(scores, ARMS, DRAWING)
    return pd.DataFrame(result.effects), pd.DataFrame(result.ranks).set_index("turn")


def test_a_planted_effect_is_heard_with_its_size_on_the_side_it_was_steered_to():
    effects, ranks = frames(heard(1.0, noise=0.2))
    itself = effects[effects.value == effects.target]
    up, down = itself[itself.turn == "up"], itself[itself.turn == "down"]
    assert up.effect.to_numpy() == pytest.approx(1.0, abs=0.15)
    assert down.effect.to_numpy() == pytest.approx(-1.0, abs=0.15)
    assert itself[itself.turn == "between"].effect.abs().to_numpy() == pytest.approx(1.0, abs=0.15)
    assert up.points.to_numpy() == pytest.approx(up.effect * np.linspace(0.5, 2, 8))
    assert itself.heard.all()
    assert (itself.n == OPENINGS).all()
    assert (effects[effects.turn == "up"].controls == 2 * CONTROLS).all()
    for turn in ("up", "down", "between"):
        row = ranks.loc[turn]
        assert (row["rank"], row.heard, row.n_values, row.others) == (1.0, 8, 8, 56)
        assert row.others_moved <= 3
        assert row.p < 0.01
    assert (up.low < up.effect).all()
    assert (up.effect < up.high).all()


def test_what_every_steering_does_is_not_heard_as_a_value():
    """A shift that controls make as well is in the effect, and neither in `above` nor in ranks."""
    effects, ranks = frames(heard(0.0, noise=0.3, shared=2.0))
    on_a = effects[effects.target == "a"]
    assert on_a[on_a.turn == "up"].effect.mean() == pytest.approx(2.0, abs=0.1)
    assert on_a[on_a.turn == "up"].above.mean() == pytest.approx(0.0, abs=0.1)
    assert on_a[on_a.turn == "between"].effect.mean() == pytest.approx(0.0, abs=0.1)
    assert effects.heard.mean() < 0.03
    assert (ranks["rank"] - 0.5).abs().max() < 0.3


def test_nothing_is_heard_where_nothing_is_planted():
    shares, ranks, p = [], [], []
    for seed in range(30):
        effects, rank = frames(heard(0.0, seed))
        shares.append(effects.heard.mean())
        ranks.append(rank.loc["up", "rank"])
        p.append(rank.loc["up", "p"])
    assert np.mean(shares) < 0.02
    assert np.mean(ranks) == pytest.approx(0.5, abs=3 * np.std(ranks) / np.sqrt(30))
    assert 0.3 < np.mean(p) < 0.7, "a permutation p is uniform where nothing is planted"


def test_the_band_is_that_of_the_controls_and_q_that_of_its_family():
    from scipy.stats import false_discovery_control

    scores = heard(0.0)
    effects, _ = frames(scores)
    changes = (scores.steered - scores.unsteered) / scores.unit
    controls = [k for k, arm in enumerate(ARMS) if arm.arm == "random-feature"]
    band = np.quantile(changes[controls].mean(1), (0.025, 0.975), axis=0)
    up = effects[(effects.turn == "up") & (effects.value == "c")]
    assert pytest.approx(band) == up[["null_low", "null_high"]].to_numpy().T
    by_way = (changes[controls[::2]] - changes[controls[1::2]]).mean(1) / 2
    both = np.quantile(np.concatenate([by_way, -by_way]), (0.025, 0.975), axis=0)
    between = effects[(effects.turn == "between") & (effects.value == "c")]
    assert pytest.approx(both) == between[["null_low", "null_high"]].to_numpy().T
    assert between.above.to_numpy() == pytest.approx(between.effect.to_numpy())
    up = effects[effects.turn == "up"]
    for family in (up[up.value == up.target], up[up.value != up.target]):
        assert family.q.to_numpy() == pytest.approx(false_discovery_control(family.p.to_numpy()))


def test_the_rank_is_the_share_of_values_that_change_less():
    changes = np.array([[[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]]] * 4)
    alone = target_rank(changes[:, :1], np.array([2]), DRAWING)
    assert alone.rank == 0.5  # between 3 and 1
    # Both rows are alike: less their mean nothing is left, and ties count half.
    assert target_rank(changes, np.array([0, 1]), DRAWING).rank == 0.5
    changes[:, 1, 1] = 9.0
    assert target_rank(changes, np.array([0, 1]), DRAWING).rank == pytest.approx(
        np.mean([0.75, 1.0])
    )
    deaf = changes.copy()
    deaf[..., 2] = np.nan
    assert target_rank(deaf, np.array([0, 1]), DRAWING).rank == pytest.approx(1.0)
    assert np.isnan(target_rank(deaf, np.array([2, 2]), DRAWING).rank)


def test_broken_texts_are_left_out_of_effects_and_counted():
    usual = np.linspace(1, 2, 21)
    losses = np.array([1.5, 2.9, 3.1, np.nan])
    assert is_broken(losses, usual).tolist() == [False, False, True, True]
    scores = heard(1.0, noise=0.2)
    scores.steered[0, :10] = np.nan
    effects, _ = frames(scores)
    row = effects[(effects.turn == "up") & (effects.value == "a") & (effects.target == "a")].iloc[0]
    assert row.n == OPENINGS - 10
    assert row.effect == pytest.approx(1.0, abs=0.2)


def test_an_ear_without_controls_or_deaf_to_a_value_says_so():
    scores = heard(1.0, noise=0.2)
    scores.unit[3] = np.nan
    effects = pd.DataFrame(judge(scores, ARMS, DRAWING).effects)
    assert effects[effects.target == "d"].effect.isna().all()
    assert not effects[effects.target == "d"].heard.any()
    bare = pd.DataFrame(judge(heard(1.0), ARMS[:16], DRAWING).effects)
    assert bare.null_low.isna().all()
    assert bare.p.notna().all()


def test_the_area_under_the_curve_is_the_analytic_one_and_its_interval_covers():
    held = np.array([False, False, True, True])
    assert ears.auroc(np.array([1.0, 2.0, 3.0, 4.0]), held)[0] == 1.0
    assert ears.auroc(np.array([1.0, 3.0, 2.0, 4.0]), held)[0] == 0.75
    assert ears.auroc(np.ones(4), held) == pytest.approx((0.5, 0.5, 0.5))
    assert np.isnan(ears.auroc(np.ones(4), ~held & held)).all()
    from scipy.stats import norm

    rng, truth = np.random.default_rng(0), norm.cdf(1 / np.sqrt(2))
    held = np.arange(120) < 40
    covers = []
    for _ in range(300):
        _, low, high = ears.auroc(rng.normal(size=120) + held, held)
        covers.append(low <= truth <= high)
    assert np.mean(covers) == pytest.approx(0.95, abs=0.035)


def test_quality_is_that_of_the_scores_and_a_value_that_nothing_holds_has_none():
    marks = np.array([[1.0, 0], [0, 0], [0.5, 0], [-1.0, 0]])
    scores = np.array([[0.9, 1.0], [0.1, 1.0], [0.5, 1.0], [0.6, 1.0]])
    good, none = ears.quality(scores, marks, ("power", "security"))
    assert (good["auroc"], good["held"], good["n"], good["share"]) == (0.75, 2, 4, 0.5)
    assert good["precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert good["sd"] == pytest.approx(scores[:, 0].std(ddof=1))
    assert np.isnan([none["auroc"], none["precision"], none["sd"]]).all()


def test_texts_of_a_context_are_held_out_together():
    contexts = np.repeat([f"topic {k}" for k in range(20)], 5)
    held_out = ears.hold_out(contexts, 0.3, seed=0)
    assert held_out.sum() == 30
    assert all(len(set(held_out[contexts == name])) == 1 for name in set(contexts))
    assert not np.array_equal(held_out, ears.hold_out(contexts, 0.3, seed=1))
    alone = ears.hold_out(np.full(50, ""), 0.2, seed=0)
    assert alone.sum() == 10
    with pytest.raises(BadInput, match="cannot be dealt"):
        ears.hold_out(np.array(["x"]), 0.3, seed=0)


def test_an_encoder_hears_likeness_beyond_that_to_all_values():
    values = SYSTEM.values

    def embed(texts):
        rows = np.array([[value.name in text for value in values] + [0.5] for text in texts], float)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    ear = ears.EncoderEar("words", embed, values)
    scores = ear.hear([f"They speak of {values[3].name}.", "Nothing."])
    assert scores.sum(1) == pytest.approx(0.0)
    assert scores[0].argmax() == 3
    assert scores[1] == pytest.approx(0.0)


def test_the_organism_s_language_is_counted():
    values = organism.truth().values
    held = organism.held_sentences("power", 2, [], 0)
    scores = ears.LanguageEar(values).hear([" ".join(held), "The moon ate it."])
    assert scores[0].tolist() == [2.0 if value == "power" else 0.0 for value in values]
    assert not scores[1].any()


def test_the_strength_of_equal_damage_is_sought_from_below():
    unit = PlannedArm(
        arm="sae-add", value="power", kind="direction", unit_id=0, dose=0.0, steering=Steering()
    )
    for damage in (lambda dose: dose**2, lambda dose: dose**2 - 0.2 * dose, lambda dose: dose):
        curve = _Curve(unit=unit, sign=-1, measured={})
        for dose in (0.1, 0.2, 0.4, 0.8):
            curve.measured[dose] = np.full(3, damage(dose))
        for number in range(4):
            for dose in curve.between(0.15, number % 2 == 1):
                curve.measured[dose] = np.full(3, damage(dose))
        arm = curve.within(0.15)
        assert arm.reached
        assert 0.12 < arm.damage.mean() <= 0.15
        assert arm.damage == pytest.approx(damage(-arm.planned.dose))
    quiet = _Curve(unit=unit, sign=1, measured={0.1: np.zeros(3), 0.4: np.zeros(3) - 1})
    assert quiet.between(0.15, True) == []
    assert (quiet.within(0.15).planned.dose, quiet.within(0.15).reached) == (0.4, False)
    loud = _Curve(unit=unit, sign=1, measured={0.1: np.ones(3)})
    assert loud.between(0.15, False) == [0.05]
    assert loud.within(0.15).planned.dose == 0.1


SMALL = {
    "features_per_value": 4,
    "controls": 8,
    "n_texts": 12,
    "n_neutral": 6,
    "new_tokens": 24,
    "assess_limit": 1200,
    "replicates": 300,
    "permutations": 400,
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    made = Study(tmp_path_factory.mktemp("transfer") / "study")
    made.train(model="organism", documents=4000, tokens=600_000, n_features=512, k=12)
    made.label(limit=4000, n_contexts=4)
    return made


@pytest.fixture(scope="module")
def transferred(study):
    return study.transfer(**SMALL)


def test_on_the_organism_planted_features_are_heard_and_random_ones_are_not(study, transferred):
    ranks = queries.transfer_ranks(study.store, transferred.id)
    steered = ranks[ranks.arm == "sae-add"].set_index(["ear", "turn"])
    for ear in ("assessor tfidf", "planted language"):
        up = steered.loc[ear, "up"]
        assert up["rank"] > 0.85
        assert up.p < 0.01
        assert up.heard >= 3
        assert steered.loc[ear, "between"].heard >= up.heard - 1
    # Random features in the place of the labels: as many groups as values were steered.
    scores = study.store.sql(
        "SELECT a.unit_id, s.* FROM transfer_scores s JOIN transfer_arms a"
        " USING (run, intervention) WHERE run = ? AND ear = 'assessor tfidf'"
        " AND a.arm = 'random-feature' AND turn = 'up'",
        [transferred.id],
    )
    table = scores.pivot_table(index=["opening", "unit_id"], columns="value", values="score")
    table = table.unstack("unit_id").to_numpy().reshape(len(set(scores.opening)), 10, -1)
    changes = table.transpose(0, 2, 1)
    chance = [
        target_rank(
            changes, np.random.default_rng(k).permutation(10)[: changes.shape[1]], DRAWING
        ).rank
        for k in range(40)
    ]
    assert np.mean(chance) == pytest.approx(0.5, abs=0.06)
    assert np.quantile(chance, 0.95) < steered.loc["assessor tfidf", "up"]["rank"]


def test_each_ear_is_held_against_texts_that_it_never_saw(study, transferred):
    quality = queries.transfer_ears(study.store, transferred.id)
    assert set(quality.ear) == {"assessor tfidf", "planted language"}
    language = quality[quality.ear == "planted language"]
    assert language.auroc.min() > 0.99, "sentences say what the marks say"
    assessor = quality[quality.ear == "assessor tfidf"]
    assert assessor.auroc.mean() > 0.75
    assert (assessor.low <= assessor.auroc).all()
    assert (assessor.n == quality.n.iloc[0]).all()
    assert quality.n.iloc[0] == pytest.approx(0.3 * 1200, abs=60)


def test_every_text_is_kept_with_its_loss_and_every_arm_with_its_damage(study, transferred):
    arms = queries.transfer_arms(study.store, transferred.id)
    assert arms.intervention.tolist() == list(range(-1, len(arms) - 1))
    assert set(arms.arm) == {
        *("unsteered", "sae-add", "random-feature", "random-direction", "prompt")
    }
    both = arms[arms.arm.isin(["sae-add", "random-feature", "random-direction"])]
    assert (both.groupby("unit_id").turn.nunique() == 2).all()
    assert (np.sign(both.strength) == np.where(both.turn == "up", 1, -1)).all()
    assert (both.damage <= 0.1).all()
    assert (both[~both.reached].strength.abs() == 0.4).all(), "the largest dose"
    texts = study.store.sql("SELECT * FROM transfer_texts WHERE run = ?", [transferred.id])
    assert len(texts) == len(arms) * 12
    assert transferred.summary["written"] == len(texts)
    assert texts.broken.sum() == transferred.summary["broken"] == arms.broken.sum()
    unsteered = texts[texts.intervention == -1]
    assert arms.strange.iloc[0] == pytest.approx(unsteered.loss.mean())
    assert study.transfer(**SMALL).id == transferred.id


def test_all_units_come_near_the_budget_and_none_leaves_it(study):
    small = SMALL | {"n_texts": 4, "n_neutral": 3, "controls": 3}
    values = ("power", "security", "hedonism")
    run = study.transfer(**small, values=values, doses=(0.4, 0.8, 1.6), delta=0.2)
    arms = queries.transfer_arms(study.store, run.id)
    arms = arms[arms.reached & ~arms.arm.isin(["unsteered", "prompt"])]
    assert len(arms) > 6
    assert (arms.damage <= 0.2).all()
    assert arms.damage.median() > 0.12
    assert (arms.damage_low <= arms.damage).all()
    assert arms.strength.abs().nunique() > len(arms) / 2


def test_an_ear_may_not_learn_from_the_texts_of_the_labels(study, transferred, tmp_path):
    assert "texts of the labels left out" in transferred.summary["labelled_texts"]
    values = study.system.ids
    file = tmp_path / "labelled.csv"
    with file.open("w", newline="") as lines:
        rows = csv.writer(lines)
        rows.writerow(["text", *values])
        for document in organism.labelled_texts(4000, 0)[:300]:
            marks = [document.labels.get(value, 0) for value in values]
            rows.writerow([f"  {document.text.upper()}", *marks])
    with pytest.raises(BadInput, match="no ear would be independent"):
        study.transfer(**SMALL | {"assess_limit": 0}, assess_texts=str(file))
    with pytest.raises(BadInput, match="Nobody listens"):
        _refuse_without_ear(TransferSettings(assessor=""), "a model that speaks")
    _refuse_without_ear(TransferSettings(assessor=""), "organism")  # its language is known


def test_other_instruments_stand_beside_the_ears(study, transferred):
    sweep = study.effects(
        n_contexts=6,
        features_per_value=2,
        doses=(0.6,),
        random_features=2,
        random_directions=2,
        n_neutral=4,
        replicates=100,
    )
    table = queries.judged_labels(study.store, transferred.id, transferred.inputs["labels"])
    judges = set(table.judge)
    assert {"assessor tfidf", "planted language"} < judges
    asked = table[table.run == sweep.id]
    assert (asked.kind == "instrument").all()
    cells = queries.matrix(study.store, sweep.id)
    cells = cells[cells.source == cells.target].set_index("source").effect
    assert asked.set_index("value").effect.to_dict() == pytest.approx(cells.to_dict())


def test_features_with_the_best_evidence_stand_in_for_labels(study):
    run = study.runs.latest("labels").id
    best = queries.best_evidence(study.store, run, 3)
    assert best.groupby("value").size().max() == 3
    assert best.feature.is_unique
    rows = study.store.sql(
        "SELECT feature, value, effect * sqrt(greatest(score - 0.5, 0)) AS evidence FROM labels"
        " WHERE run = ? AND effect > 0",
        [run],
    )
    largest = rows.sort_values("evidence", ascending=False).drop_duplicates("feature")
    expected = largest.groupby("value").head(3)
    assert set(best.feature) == set(expected[expected.evidence > 0].feature)


def test_a_sentence_encoder_is_the_mean_of_the_last_states_whatever_stands_beside(tmp_path):
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "we", "keep", "the", "old", "feasts"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizerFast(str(tmp_path / "vocab.txt"))
    tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(words), intermediate_size=32, **sizes)
    model = BertModel(config).eval()
    model.save_pretrained(tmp_path)
    texts = ["we keep the old feasts", "old"]
    rows = SentenceEncoder(str(tmp_path)).texts(texts)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1.0)
    for text, row in zip(texts, rows, strict=True):
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        mean = states.mean(0).numpy()
        assert row == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)
    with pytest.raises(NotFound, match="no sentence encoder"):
        SentenceEncoder(str(tmp_path / "nowhere"))
