"""Groups and directions on planted texts: what weak features, or the residual, say of a value."""

import numpy as np
import pytest
from scipy import sparse

from feature_store import registry
from workbench.features.labelers import LabelledActivations
from workbench.features.units import group_rows, unit_rows, units_of

TEN = registry.get("values", "schwartz10")
N, WIDTH, WEAK = 3000, 32, 12


def planted(seed, topic=1.0, pole=1.0):
    """Texts whose residual says topic and pole of power, and weak features that say its pole."""
    rng = np.random.default_rng(seed)
    values = np.zeros((N, 10))
    for column in range(10):
        values[:, column] = rng.choice([-1, 0, 1], N, p=(0.1, 0.8, 0.1))
    directions = rng.normal(size=(2, WIDTH)) / np.sqrt(WIDTH)
    power = values[:, 4]
    residuals = rng.normal(size=(N, WIDTH))
    residuals += topic * np.outer(power != 0, directions[0]) * 3
    residuals += pole * np.outer(power, directions[1]) * 3
    # Each weak feature fires a little more often where power is held.
    chance = 0.15 + 0.2 * pole * (power > 0)[:, None] * np.ones(WEAK)
    weak = (rng.random((N, WEAK)) < chance) * rng.gamma(2, 1, (N, WEAK))
    noise = (rng.random((N, 80)) < 0.15) * rng.gamma(2, 1, (N, 80))
    data = LabelledActivations(sparse.csr_matrix(np.hstack([weak, noise])), values, np.full(N, ""))
    return data, residuals, directions


def rows(units, unit, part, value="power"):
    return [
        row
        for row in unit_rows(units)
        if (row["unit"], row["part"], row["value"]) == (unit, part, value)
    ]


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_topic_and_pole_have_directions_of_their_own():
    data, residuals, directions = planted(0)
    units = units_of(data, residuals, TEN, 0)
    power = TEN.ids.index("power")
    assert cosine(units.topics[power], directions[0]) > 0.9
    assert cosine(units.poles[power], directions[1]) > 0.9
    assert rows(units, "direction", "pole")[0]["accepted"]
    assert rows(units, "direction", "topic")[0]["accepted"]


def test_a_topic_alone_makes_no_pole():
    """What speaks of a value however it stands to it must not tell held from rejected."""
    data, residuals, _ = planted(1, pole=0.0)
    units = units_of(data, residuals, TEN, 0)
    assert rows(units, "direction", "topic")[0]["accepted"]
    (pole,) = rows(units, "direction", "pole")
    assert not pole["accepted"]
    assert 0.3 < pole["score"] < 0.7


def test_stance_as_such_is_no_value():
    """A direction in which all values' held texts differ from rejected ones is taken away."""
    data, residuals, directions = planted(2, topic=0.0, pole=0.0)
    stance = np.random.default_rng(3).normal(size=WIDTH)
    residuals = residuals + np.outer(data.values.sum(1), stance)
    units = units_of(data, residuals, TEN, 0)
    lengths = np.linalg.norm(units.poles @ (stance / np.linalg.norm(stance)))
    assert lengths < 0.5 * np.linalg.norm(stance)


def test_weak_features_of_a_pole_make_a_group_that_reads_it():
    data, residuals, _ = planted(4)
    units = units_of(data, residuals, TEN, 0)
    (group,) = [row for row in rows(units, "group", "pole") if row["polarity"] == 1]
    assert group["accepted"]
    members = [
        row
        for row in group_rows(units)
        if (row["value"], row["polarity"], row["part"]) == ("power", 1, "pole")
    ]
    assert all(row["feature"] < WEAK for row in members)
    assert len(members) >= 5
    assert np.linalg.norm([row["weight"] for row in members]) == pytest.approx(1)
    # It reads more than the best of its features does alone.
    best = max(
        _auroc(data.activations[:, [row["feature"]]].toarray().ravel(), data.values[:, 4])
        for row in members
    )
    assert group["score"] > best


def _auroc(scores, marks):
    held, rejected = scores[marks > 0], scores[marks < 0]
    pairs = held[:, None] - rejected
    return (pairs > 0).mean() + (pairs == 0).mean() / 2


def test_units_of_noise_are_accepted_as_rarely_as_stated():
    accepted, tested = 0, 0
    for seed in range(6):
        data, residuals, _ = planted(10 + seed, topic=0.0, pole=0.0)
        made = unit_rows(units_of(data, residuals, TEN, seed))
        accepted += sum(row["accepted"] for row in made)
        tested += len(made)
    assert tested > 150
    assert accepted <= 0.05 * tested


def test_marks_of_one_side_leave_topics_only():
    data, residuals, _ = planted(5)
    held = LabelledActivations(data.activations, np.maximum(data.values, 0), data.contexts)
    units = units_of(held, residuals, TEN, 0)
    assert {row["part"] for row in unit_rows(units)} == {"topic"}
    assert np.isnan(units.poles).all()


def test_texts_without_enough_marks_have_no_units():
    data, residuals, _ = planted(6)
    few = np.zeros_like(data.values)
    few[:5, 0] = 1
    units = units_of(LabelledActivations(data.activations, few, data.contexts), residuals, TEN, 0)
    assert unit_rows(units) == []
    assert group_rows(units) == []


def in_pairs(seed, pole):
    """Texts in pairs: same thing, both poles. Things differ much, stance as such by frame."""
    rng = np.random.default_rng(seed)
    things, frames, width = 8, 6, 24
    stance = rng.normal(size=(frames, width)) * 3
    poles = rng.normal(size=(10, width)) / np.sqrt(width)
    rows, values, contexts = [], [], []
    for value in range(10):
        for _ in range(things):
            thing = rng.normal(size=width) * 3
            for frame in range(frames):
                for sign in (1, -1):
                    side = sign * (stance[frame] + pole * poles[value])
                    rows.append(thing + side + 0.5 * rng.normal(size=width))
                    values.append(np.eye(10)[value] * sign)
                    contexts.append(f"frame {frame}")
    active = (rng.random((len(rows), 40)) < 0.2) * rng.gamma(2, 1, (len(rows), 40))
    data = LabelledActivations(
        sparse.csr_matrix(active),
        np.array(values),
        np.array(contexts),
        np.arange(len(rows)) // 2,
    )
    return data, np.array(rows), poles


def test_pairs_tell_a_pole_that_things_and_stance_would_hide():
    data, residuals, poles = in_pairs(0, pole=2.0)
    units = units_of(data, residuals, TEN, 0)
    of_poles = [r for r in unit_rows(units) if (r["unit"], r["part"]) == ("direction", "pole")]
    assert sum(row["accepted"] for row in of_poles) >= 8
    expected = poles - poles.mean(0)
    assert np.median([cosine(units.poles[k], expected[k]) for k in range(10)]) > 0.6


def test_pairs_without_a_pole_of_their_own_tell_none():
    """Neither things nor stance as such make a value's pole; nor is the opposite of one made."""
    scores = []
    for seed in range(4):
        data, residuals, _ = in_pairs(20 + seed, pole=0.0)
        rows_ = unit_rows(units_of(data, residuals, TEN, seed))
        of_poles = [r for r in rows_ if (r["unit"], r["part"]) == ("direction", "pole")]
        scores += [row["score"] for row in of_poles]
        assert sum(row["accepted"] for row in of_poles) <= 1
    assert abs(np.mean(scores) - 0.5) < 0.04


def test_a_pair_is_never_split():
    data, _, _ = in_pairs(3, pole=1.0)
    is_held_out = data.is_held_out(1 / 3, np.random.default_rng(0))
    assert (is_held_out[::2] == is_held_out[1::2]).all()
    assert 0.3 < is_held_out.mean() < 0.36
    alone = LabelledActivations(data.activations, data.values, data.contexts)
    assert (alone.is_held_out(1 / 3, np.random.default_rng(0)) != is_held_out).any()


def test_topics_are_told_apart_where_every_text_is_of_one_value():
    """Marks that add up to the same in every text leave no rounding in the directions."""
    data, residuals, _ = in_pairs(5, pole=0.5)
    values = np.abs(data.values).argmax(1)
    topics = np.random.default_rng(6).normal(size=(10, residuals.shape[1])) * 4
    units = units_of(data, residuals + topics[values], TEN, 0)
    expected = topics - topics.mean(0)
    assert min(cosine(units.topics[k], expected[k]) for k in range(10)) > 0.7
    lengths = np.linalg.norm(units.topics, axis=1)
    assert (lengths < 3 * np.linalg.norm(expected, axis=1)).all()
