"""Doses: the search finds where an analytic damage curve meets its limit; on the organism the
doses it finds do the damage it promises."""

import shutil

import numpy as np
import pytest

from tests.helpers.labels import LAX
from workbench import figures
from workbench.study import Study
from workbench.sweeps.doses import DOUBLINGS, crossing, curve_rows, search


def powers(exponent: float, scale: float = 1.0):
    """Damage of two units over strength, the second one a control that does nothing."""

    def measure(dose: float) -> np.ndarray:
        return np.array([np.full(3, scale * dose**exponent), np.zeros(3)])

    return measure


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.5])
@pytest.mark.parametrize("truth", [0.004, 0.05, 0.31, 2.0])
def test_the_crossing_of_a_power_of_the_strength_is_exact(exponent, truth):
    limit, reports = 0.1, []
    measure = powers(exponent, limit / truth**exponent)
    outcome = search(measure, limit, 0.05, leading=1, progress=lambda *count: reports.append(count))
    assert outcome.reached
    assert outcome.strength == pytest.approx(truth, rel=1e-9)
    assert (np.diff(outcome.doses) > 0).all()
    assert len(outcome.doses) <= 1 + DOUBLINGS + 2
    assert [done for done, _ in reports] == list(range(1, len(outcome.doses) + 1))
    assert all(done < total for done, total in reports[:-1])
    assert reports[-1] == (len(outcome.doses), len(outcome.doses))
    if exponent == 2:
        assert {total for _, total in reports} == {len(outcome.doses)}, "it expects a square"


def test_a_curve_that_is_no_power_is_met_within_a_few_per_cent():
    def measure(dose: float) -> np.ndarray:
        return np.full((1, 4), np.expm1(3 * dose**2) - 0.001)

    truth = np.sqrt(np.log1p(0.101) / 3)
    assert search(measure, 0.1, 0.05, leading=1).strength == pytest.approx(truth, rel=0.02)


def test_the_control_beside_decides_nothing():
    def with_a_loud_control(dose: float) -> np.ndarray:
        return np.array([np.full(3, dose**2), np.full(3, 100 * dose)])

    assert search(with_a_loud_control, 0.09, 0.05, leading=1).strength == pytest.approx(0.3)


@pytest.mark.parametrize(("damage", "edge"), [(1e-6, 0.05 * 2**6), (5.0, 0.05 / 2**6)])
def test_damage_that_is_never_at_the_limit_is_told_from_one_that_is(damage, edge):
    outcome = search(lambda _: np.full((1, 2), damage), 0.1, 0.05, leading=1)
    assert not outcome.reached
    assert outcome.strength == pytest.approx(edge)


def test_a_dip_of_the_damage_does_not_move_the_crossing():
    doses, damage = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.0, 0.12, 0.02, 0.5])
    assert crossing(doses, damage, 0.06) == pytest.approx(0.15)
    assert crossing(doses, damage + 0.2, 0.06) == pytest.approx(0.1)


def test_rows_average_the_units_of_a_kind_over_texts():
    curve = search(powers(2.0), 0.09, 0.05, leading=1)
    rows = curve_rows(curve, ["feature", "random-direction"], seed=4)
    features = [row for row in rows if row["kind"] == "feature"]
    assert [row["damage"] for row in features] == pytest.approx((curve.doses**2).tolist())
    assert {(row["units"], row["n"], row["seed"]) for row in rows} == {(1, 3, 4)}


def test_doses_are_found_kept_and_shown(probed_study, tmp_path, monkeypatch):
    from feature_store import queries
    from workbench.verbs import effects

    shutil.copytree(probed_study.folder, tmp_path / "study")  # others read the shared one
    study = Study(tmp_path / "study")
    monkeypatch.setattr(effects, "ORGANISM_DOSES", ())
    study.label(limit=300, n_contexts=1, scored_per_value=1, options=LAX)
    settings = {
        "n_contexts": 4,
        "features_per_value": 1,
        "random_features": 1,
        "random_directions": 1,
        "n_neutral": 4,
        "replicates": 100,
        "delta": 0.02,
        "doses": "auto",
    }
    run = study.effects(**settings)
    assert run.config["doses"] == []
    doses = run.summary["doses"]
    assert doses == sorted(doses)
    curve = queries.dose_curves(study.store, run.id)
    assert set(curve.kind) == {"feature", "random-direction"}
    measured = study.store.sql(
        "SELECT avg(damage) AS damage FROM interventions WHERE run = ? AND kind = 'feature'"
        " AND dose = ?",
        [run.id, doses[-1]],
    ).damage[0]
    assert measured == pytest.approx(0.02, rel=0.5)
    drawn = figures.dose_curve(curve, "norm_share", 0.02, doses[-1])
    assert len(drawn.data) == 2


def test_the_organism_keeps_its_doses_and_its_ids():
    from workbench.verbs.effects import ORGANISM_DOSES, EffectsSettings

    assert EffectsSettings().doses == ()
    assert ORGANISM_DOSES == (0.1, 0.2, 0.3, 0.45, 0.6)
