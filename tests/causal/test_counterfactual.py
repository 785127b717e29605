"""Counterfactuals over numbers: analytic answers, theta, and the measures by hand."""

import numpy as np
import pytest

from feature_store import registry
from feature_store.errors import BadInput, NotFound
from workbench.causal import targets
from workbench.causal.counterfactual import Objective, counterfactuals, mae, spearman
from workbench.causal.linear_scm import LinearSCM, fresh

TEN = registry.get("values", "schwartz10")
# power -> achievement 0.5, achievement -> security -0.4, power -> security 0.2
CHAIN = LinearSCM(
    ("power", "achievement", "security"), np.array([[0, 0.5, 0.2], [0, 0, -0.4], [0, 0, 0.0]])
)


def cyclic(seed: int, size: int = 6) -> LinearSCM:
    rng = np.random.default_rng(seed)
    direct = np.where(rng.random((size, size)) < 0.5, rng.uniform(-0.4, 0.4, (size, size)), 0) * (
        1 - np.eye(size)
    )
    return LinearSCM(TEN.ids[:size], direct)


@pytest.mark.parametrize("seed", range(5))
def test_setting_values_to_what_they_are_returns_the_original(seed):
    scm, rng = cyclic(seed), np.random.default_rng(seed)
    profile = rng.uniform(1, 6, 6)
    same = Objective(tuple((scm.values[i], float(profile[i])) for i in rng.permutation(6)[:4]))
    assert scm.predict(scm.abduct([profile]), [same])[0] == pytest.approx(profile)


def test_the_counterfactual_is_the_analytic_one_and_not_the_interventional_one():
    observed = [np.array([3.0, 4.0, 2.5]), np.array([2.0, 5.0, 4.0])]
    up = Objective((("power", 5.0),))
    own = CHAIN.abduct(observed)
    assert own[0].u == pytest.approx([3.0, 4 - 0.5 * 3, 2.5 - 0.2 * 3 + 0.4 * 4])
    first, second = CHAIN.predict(own, [up, up])
    # power rises by 2 (3): achievement by half of it, security by 0.2 of it less 0.4 of
    # achievement's rise: by 0
    assert first == pytest.approx([5.0, 5.0, 2.5])
    assert second == pytest.approx([5.0, 6.5, 4.0])
    middle = CHAIN.predict(own, [Objective((("achievement", 2.0),))] * 2)
    assert middle[0] == pytest.approx([3.0, 2.0, 2.5 + 0.4 * 2]), (
        "causes of what is set do not move"
    )
    others = CHAIN.predict(fresh(own, 0), [up, up])
    assert others[0] == pytest.approx(second)
    assert others[1] == pytest.approx(first)
    assert abs(others[0] - first).max() > 1


@pytest.mark.parametrize("seed", range(3))
def test_a_cyclic_counterfactual_is_where_the_dynamics_settle(seed):
    scm = cyclic(seed)
    profile = np.random.default_rng(seed).uniform(1, 6, 6)
    u = profile - profile @ scm.direct
    told = Objective(((scm.values[1], 5.0), (scm.values[4], 1.0)))
    x = profile.copy()
    for _ in range(500):
        x = x @ scm.direct + u
        x[1], x[4] = 5.0, 1.0
    assert scm.predict(scm.abduct([profile]), [told])[0] == pytest.approx(x)


def test_nothing_is_done_up_to_theta():
    observed = [np.array([3.0, 4.0, 2.5])] * 2
    objective = Objective((("power", 4.0), ("security", 3.0)))
    at, above = (
        counterfactuals(CHAIN, observed, [objective, objective], 1.5),
        counterfactuals(CHAIN, observed, [objective] * 2, 1.49),
    )
    assert [c.distance for c in at] == [1.5, 1.5]
    assert not at[0].intervened
    assert at[0].outcome is observed[0]
    assert above[0].intervened
    assert above[0].outcome == pytest.approx([4.0, 4.5, 3.0])
    with pytest.raises(BadInput, match="theta"):
        counterfactuals(CHAIN, observed, [objective] * 2, -1)


def test_mae_and_spearman_by_hand():
    wanted = Objective(
        (("benevolence", 5.0), ("universalism", 4.0), ("conformity", 4.0), ("power", 1.0))
    )
    scores = {
        "benevolence": 3.0,
        "universalism": 4.0,
        "conformity": 2.0,
        "power": 2.0,
        "security": 9.0,
    }
    assert mae(scores, wanted) == pytest.approx((2 + 0 + 2 + 1) / 4)
    # ranks 3 4 1.5 1.5 against 4 2.5 2.5 1: less 2.5 their products sum to 2.25, both squares to
    # 4.5
    assert spearman(scores, wanted) == pytest.approx(2.25 / 4.5)
    assert spearman({v: 2 * t - 3 for v, t in wanted.targets}, wanted) == pytest.approx(1)
    assert np.isnan(spearman(dict.fromkeys(wanted.values, 2.0), wanted))


def test_objectives_and_graphs_that_do_not_fit():
    with pytest.raises(BadInput, match="1 to 5 values, got 6"):
        Objective(tuple((value, 3.0) for value in TEN.ids[:6]))
    with pytest.raises(BadInput, match="each value once"):
        Objective((("power", 1.0), ("power", 2.0)))
    with pytest.raises(BadInput, match="no hedonism"):
        CHAIN.predict(CHAIN.abduct([np.ones(3)]), [Objective((("hedonism", 1.0),))])
    with pytest.raises(BadInput, match="feed themselves"):
        loop = LinearSCM(
            ("power", "security", "hedonism"), np.array([[0, 1.0, 0], [1.0, 0, 0], [0, 0, 0]])
        )
        loop.predict(loop.abduct([np.ones(3)]), [Objective((("hedonism", 1.0),))])
    with pytest.raises(BadInput, match="one only"):
        fresh(CHAIN.abduct([np.ones(3)]), 0)


def test_presets_and_questions_from_files(tmp_path):
    assert targets.preset("", "caring", TEN)["benevolence"] == 5
    assert len(targets.questions("", TEN)) == 8
    table = tmp_path / "countries.csv"
    table.write_text("name,value,target\nA,Power,1.5\nB,Power,4\nA,Self-Direction,4\n")
    assert targets.preset(str(table), "A", TEN) == {"power": 1.5, "self-direction": 4.0}
    assert targets.parse_scores(["power=1", " benevolence = 5"], TEN) == {
        "power": 1.0,
        "benevolence": 5.0,
    }
    plain = tmp_path / "q.txt"
    plain.write_text("One?\n\nTwo?\n")
    assert [q.text for q in targets.questions(str(plain), TEN)] == ["One?", "Two?"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[A]\npower = 6\n", "score from 1 to 5"),
        ("[A]\npower = 'high'\n", "score from 1 to 5"),
        ("[A]\npowre = 2\n", "Did you mean 'power'"),
        ("[A]\npower = 2\nPower = 3\n", "power twice"),
        ("[A]\n", "sets no value"),
        ("[B]\npower = 2\n", "no preset 'A'"),
        ("[A\n", "not valid TOML"),
    ],
)
def test_presets_that_cannot_be_used(tmp_path, content, says):
    file = tmp_path / "p.toml"
    file.write_text(content)
    with pytest.raises((BadInput, NotFound), match=says):
        targets.preset(str(file), "A", TEN)
    with pytest.raises(NotFound, match="There is no file"):
        targets.preset(str(tmp_path / "none.toml"), "A", TEN)
