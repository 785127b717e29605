"""The verb `ordinal`: planted answers of models and strengths come back as conditions, and what
cannot be compared is refused."""

import hashlib

import numpy as np
import pytest

from feature_store import registry
from feature_store.errors import BadInput, Incompatible
from feature_store.records import Response
from workbench.comparing import conditions
from workbench.measuring.questionnaire import open_instrument
from workbench.study import Study

VALUES = registry.get("values", "schwartz10").ids
INSTRUMENT = open_instrument("standin", (), registry.get("values", "schwartz10")).instrument
CUTS = np.array([-1.5, -0.8, 0.0, 0.8, 1.5])
FAST = {"warmup": 300, "draws": 400, "permutations": 199}


def responses(theta, seed, steering="base", contexts=1, repeats=10, logprob=False, spread=0.0):
    """Planted answers to every item; with log-probabilities where they are scored."""
    rng, told = np.random.default_rng(seed), []
    for context in range(contexts):
        shift = dict(zip(VALUES, rng.normal(0, spread, len(VALUES)), strict=True))
        for repeat in range(repeats):
            for item in INSTRUMENT.items:
                order = "descending" if rng.random() < 0.5 else "ascending"
                eta = theta.get(item.value, 0.0) + shift[item.value]
                answer = int((eta + rng.normal() > CUTS).sum())
                said = 5 - answer if order == "descending" else answer
                scored = (
                    tuple(float(-0.01 if k == said else -5.0) for k in range(6)) if logprob else ()
                )
                told.append(
                    Response(
                        item=item.id,
                        value=item.value,
                        context=context,
                        wording="number",
                        order=order,
                        seed=repeat,
                        steering=steering,
                        text=str(said + 1),
                        logprobs=scored,
                        rating=float(answer + 1),
                        status="parsed",
                        chosen=said,
                        persona="",
                    )
                )
    return told


def profile(study, model, told, **config):
    """A finished profile run with these responses."""
    items = hashlib.sha256(repr(INSTRUMENT).encode()).hexdigest()
    inputs = {"model": hashlib.sha1(model.encode()).hexdigest(), "items": items} | config.pop(
        "inputs", {}
    )
    with study.runs.begin(
        "profile", {"model": model, "instrument": "standin", "settings": [], **config}, inputs, 0
    ) as work:
        work.table("responses", told)
        work.table(
            "prompts",
            [
                {
                    "context": 0,
                    "item": item.id,
                    "wording": "number",
                    "order": "ascending",
                    "value": item.value,
                    "prompt": "?",
                }
                for item in INSTRUMENT.items
            ],
        )
        work.table("profiles", [])
        work.table("quality", [])
        return work.finish({}).id


GIVING, TAKING = (
    {"benevolence": 1.0, "universalism": 1.0, "power": -1.0, "achievement": -1.0},
    {"benevolence": -0.5, "universalism": -0.5, "power": 1.0},
)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    study = Study(tmp_path_factory.mktemp("ordinal") / "study")
    one = responses(GIVING, 1)
    one[3] = Response(
        **{
            **one[3].__dict__,
            "rating": float("nan"),
            "status": "refused",
            "chosen": -1,
            "text": "I cannot",
        }
    )
    runs = (profile(study, "giving", one), profile(study, "taking", responses(TAKING, 2)))
    return study, study.ordinal(runs=runs, **FAST), runs


def test_models_are_told_apart(compared):
    study, made, runs = compared
    assert made.inputs == {"profile_0": runs[0], "profile_1": runs[1]}
    assert made.summary["conditions"] == 2
    assert made.summary["answers"] == 799
    assert made.summary["missing"] == 1
    assert made.summary["asked_alike"]
    assert made.summary["worst_r_hat"] < 1.03
    thetas = study.store.sql(
        "SELECT * FROM ordinal_thetas WHERE run = ? AND centred", [made.id]
    ).set_index(["condition", "value"])
    assert len(thetas) == 20
    for name, planted in (("giving", GIVING), ("taking", TAKING)):
        true = np.array([planted.get(value, 0.0) for value in VALUES])
        found = thetas.loc[name].loc[list(VALUES)]
        assert np.corrcoef(found["mean"], true)[0, 1] > 0.9
        assert found["mean"].sum() == pytest.approx(0, abs=1e-9)
    first = INSTRUMENT.items[3].value
    assert thetas.loc["giving", first].missing == 1
    assert thetas.loc["giving", first].n == 39
    contrasts = study.store.sql("SELECT * FROM ordinal_contrasts WHERE run = ?", [made.id])
    self_ = contrasts[contrasts.contrast == "self-transcendence - self-enhancement"].set_index(
        ["condition", "other"]
    )
    assert self_.loc["giving", ""].low > 1
    assert self_.loc["taking", ""].high < 0
    assert self_.loc["taking", "giving"].below == 1
    assert self_.loc["taking", "giving"]["mean"] == pytest.approx(-3.0, abs=0.7)
    assert self_.loc["taking", "giving"].n == 2 * 160 - (
        first in ("benevolence", "universalism", "power", "achievement")
    )
    parameters = study.store.sql(
        "SELECT * FROM ordinal_parameters WHERE run = ?", [made.id]
    ).set_index("parameter")
    assert np.diff(parameters["mean"].iloc[:5]) == pytest.approx(np.diff(CUTS), abs=0.25)
    assert parameters.loc["sigma_u", "mean"] < 0.3
    (moved,) = study.store.sql("SELECT * FROM ordinal_circle WHERE run = ?", [made.id]).itertuples()
    assert (moved.condition, moved.other, moved.measure) == ("taking", "giving", "change")
    assert moved.p < 0.05
    system = registry.get("values", "schwartz10")
    assert abs(np.angle(np.exp(1j * (moved.phi - system["power"].angle)))) < 0.7


def test_the_same_work_is_one_run(compared):
    study, made, runs = compared
    assert study.ordinal(runs=(*runs, runs[0]), **FAST).id == made.id


def test_strengths_share_their_unsteered_answers(compared):
    study = compared[0]
    base, inputs = responses({}, 5), {"sae": "sae-1"}
    weak, strong = (
        profile(
            study,
            "one",
            base + responses({"power": strength}, 6, f"add f1 @{strength:g} norm_share"),
            strength=strength,
            inputs=inputs,
        )
        for strength in (0.5, 1.5)
    )
    made = study.ordinal(runs=(weak, strong), **FAST)
    assert made.summary["conditions"] == 3
    assert made.summary["answers"] == 3 * 400
    power = study.store.sql(
        "SELECT * FROM ordinal_thetas WHERE run = ? AND centred AND value = 'power'", [made.id]
    ).set_index("condition")["mean"]
    assert list(power.index) == ["base", "add f1 @0.5 norm_share", "add f1 @1.5 norm_share"]
    assert power.is_monotonic_increasing
    assert power.iloc[2] - power.iloc[0] == pytest.approx(1.5 * 0.9, abs=0.4)


def test_contexts_are_respondents_of_the_circle(compared):
    study = compared[0]
    angles = {value.id: value.angle for value in registry.get("values", "schwartz10").values}
    rng, told = np.random.default_rng(0), []
    for context in range(30):
        pull = rng.normal(size=2)
        own = {
            value: float(pull @ [np.cos(angle), np.sin(angle)]) for value, angle in angles.items()
        }
        told += [
            Response(**{**r.__dict__, "context": context})
            for r in responses(own, context, repeats=2)
        ]
    run = profile(study, "ring", told)
    circle = study.store.sql(
        "SELECT * FROM ordinal_circle WHERE run = ?", [study.ordinal(runs=(run,), **FAST).id]
    ).set_index("measure")
    assert circle.loc["congruence"].estimate > 0.9
    assert circle.loc["agreement"].p < 0.01
    assert (circle.n == 30).all()


def test_scored_answers_are_drawn_as_often_as_asked_and_the_right_way_round():
    told = conditions.conditions(_frame(responses({"power": 2.0}, 0, logprob=True, repeats=3)))
    drawn = conditions.answers(told, INSTRUMENT, 10, 0)
    assert (drawn.groupby("item").size() == 12).all()  # three questions, four draws each
    means = drawn.groupby("value").answer.mean()
    assert means.idxmax() == "power"
    assert means["power"] > 4
    written = conditions.answers(
        conditions.conditions(_frame(responses({"power": 2.0}, 0, repeats=3))), INSTRUMENT, 10, 0
    )
    assert len(written) == 3 * len(INSTRUMENT.items)
    assert np.abs(means - written.groupby("value").answer.mean()).max() < 0.35
    assert conditions.answers(told, INSTRUMENT, 10, 0).equals(drawn)


def test_an_answer_follows_its_probabilities():
    shares = np.array([0.05, 0.1, 0.15, 0.2, 0.3, 0.2])
    one = Response(
        item="power-1",
        value="power",
        context=0,
        wording="number",
        order="descending",
        seed=0,
        steering="base",
        text="2",
        logprobs=tuple(np.log(shares)),
        rating=3.0,
        status="parsed",
        chosen=1,
        persona="",
    )
    drawn = conditions.answers(conditions.conditions(_frame([one])), INSTRUMENT, 20_000, 0)
    assert np.bincount(drawn.answer, minlength=6) / len(drawn) == pytest.approx(
        shares[::-1], abs=0.012
    )


def _frame(told, **marks):
    import pandas as pd

    rows = pd.DataFrame([r.__dict__ for r in told])
    return rows.assign(**({"run": "a", "model": "m", "revision": "1", "sae": ""} | marks))


def test_conditions_are_named_by_what_tells_them_apart():
    import pandas as pd

    plain = _frame(responses({}, 0, repeats=1))
    assert set(conditions.conditions(plain).condition) == {"base"}
    other = _frame(responses({}, 1, repeats=1), run="b", model="n")
    assert set(conditions.conditions(pd.concat([plain, other])).condition) == {"m", "n"}
    poet = _frame(responses({}, 1, repeats=1), run="b").assign(persona="a poet")
    assert set(conditions.conditions(pd.concat([plain, poet])).condition) == {
        "no persona",
        "a poet",
    }
    newer = _frame(responses({}, 1, repeats=1), run="b", revision="2")
    assert set(conditions.conditions(pd.concat([plain, newer])).condition) == {"base, 1", "base, 2"}
    with pytest.raises(BadInput, match="a and b both answer as m, base"):
        conditions.conditions(pd.concat([plain, newer.assign(revision="1")]))


def test_what_cannot_be_compared_is_refused(compared):
    study, _, runs = compared
    silent = [
        (
            Response(**{**r.__dict__, "status": "unparsed", "rating": float("nan"), "chosen": -1})
            if r.value == "power"
            else r
        )
        for r in responses({}, 9)
    ]
    with pytest.raises(BadInput, match="mute gives no answer that can be read for power"):
        study.ordinal(runs=(runs[0], profile(study, "mute", silent)), **FAST)
    with pytest.raises(Incompatible, match="were asked different items"):
        study.ordinal(
            runs=(runs[0], profile(study, "elsewhere", responses({}, 3), inputs={"items": "0"})),
            **FAST,
        )
    with pytest.raises(Incompatible, match="are not those that"):
        study.ordinal(
            runs=(profile(study, "older", responses({}, 3), inputs={"items": "1"}),), **FAST
        )
    with pytest.raises(BadInput, match="--answers is between 1"):
        study.ordinal(runs=runs, answers=0)
    with pytest.raises(BadInput, match="--chains is between 2"):
        study.ordinal(runs=runs, chains=1)


def test_the_organism_measured_and_compared_with_itself(compared):
    study = compared[0]
    run = study.measure(model="organism", n_contexts=2, replicates=200)
    made = study.ordinal(runs=(run.id,), **FAST)
    assert made.summary["conditions"] == 1
    assert (
        made.summary["answers"] == 40 * 12
    )  # two contexts in two wordings give four questions an item: three draws each
    assert len(study.store.sql("SELECT * FROM ordinal_thetas WHERE run = ?", [made.id])) == 20
