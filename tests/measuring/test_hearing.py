"""Whether an instrument hears a value that is there: planted answers, and the organism."""

import dataclasses

import numpy as np
import pytest

from feature_store import registry
from feature_store.errors import BadInput, Incompatible
from workbench.instruments.standin import standin
from workbench.measuring import hearing, voice
from workbench.measuring.heard import mode_for
from workbench.measuring.questionnaire import open_instrument
from workbench.study import Study

TEN = registry.get("values", "schwartz10")
OF = np.repeat(np.arange(10), 4)


def planted(shift, noise, seed=0, templates=2):
    """Changes in which each persona moves the items of its value by `shift`, all by noise."""
    rng = np.random.default_rng(seed)
    answers = shift * (np.arange(10)[:, None] == OF) + noise * rng.normal(size=(templates, 10, 40))
    return hearing.change_of(answers)


def test_an_instrument_that_follows_its_persona_is_heard():
    verdict = hearing.listen(planted(1.0, 0.1), OF, 300, 0)
    assert verdict.rank == 1.0
    assert verdict.p < 0.01
    assert verdict.passes
    assert verdict.shift == pytest.approx(0.9, abs=0.05)
    # Unprimed values lie 0.1 below zero once the row's mean is subtracted, and scatter by 0.035.
    assert verdict.resolution == pytest.approx(0.1 + 2 * 0.1 / np.sqrt(8), abs=0.03)


def test_a_respondent_that_answers_by_position_alone_is_not_heard():
    verdict = hearing.listen(np.zeros((2, 10, 40)), OF, 300, 0)
    assert verdict.rank == 0.5
    assert not verdict.passes
    # The same number both ways: 2 when the scale rises is 5 when it falls.
    always = np.tile([[2.0, 5.0]], (40, 1))
    assert hearing.variance_shares(always) == pytest.approx((0.0, 1.0))
    by_item = np.repeat(np.arange(40.0)[:, None], 2, axis=1)
    assert hearing.variance_shares(by_item) == pytest.approx((1.0, 0.0))


def test_what_any_persona_does_to_an_item_cancels():
    primed = planted(1.0, 0.1)
    shifted = primed + 5 * np.random.default_rng(1).normal(size=40)
    np.testing.assert_allclose(hearing.change_of(shifted), primed, atol=1e-9)


def test_p_is_uniform_where_nothing_is_primed():
    p = np.array([hearing.listen(planted(0.0, 1.0, s), OF, 100, s).p for s in range(200)])
    assert np.mean(p < 0.05) < 0.1
    assert 0.4 < np.mean(p < 0.5) < 0.6


def test_agreement_is_the_correlation_of_changes():
    a = np.random.default_rng(0).normal(size=(10, 10))
    assert hearing.agreement([a, 2 * a + 1]) == pytest.approx(1.0)
    assert hearing.agreement([a, -a]) == pytest.approx(-1.0)
    assert np.isnan(hearing.agreement([a]))


@pytest.mark.parametrize(
    ("name", "system"), [("standin", "schwartz10"), ("standin19", "schwartz19")]
)
def test_personas_share_no_stem_with_the_items_but_those_listed(name, system):
    values = registry.get("values", system)
    instrument = open_instrument(name, (), values).instrument
    texts = [t for of in hearing.personas(values, 4).primed.values() for t in of]
    assert hearing.shared_stems(texts, instrument) == SHARED[name]


SHARED = {"standin": (), "standin19": ()}
"""Stems that personas and items have in common."""


def test_a_system_without_personas_is_named():
    with pytest.raises(Incompatible, match="no personas for moral-foundations"):
        hearing.personas(registry.get("values", "moral-foundations"), 2)


def test_stems_are_shared_across_inflections():
    item = dataclasses.replace(standin().items[0], text="I wished for adventures")
    instrument = dataclasses.replace(standin(), items=(item,))
    assert hearing.shared_stems(["An adventurous wish"], instrument) == ("adventur", "wish")


def test_a_model_is_heard_in_the_mode_that_priming_moves(tmp_path):
    """The organism's scale follows its texts; a statement as its own words does not come up."""
    study = Study(tmp_path / "study")
    run = study.hear(model="organism", replicates=100, open_questions=1)
    rows = study.store.sql("SELECT * FROM hearings WHERE run = ?", [run.id])
    assert set(rows.part) == {"rating", "held", "topic"}
    assert not rows[rows.part == "topic"].passes.any()
    assert set(rows.templates) == {3}
    changes = study.store.sql("SELECT * FROM primed_changes WHERE run = ?", [run.id])
    assert len(changes) == 100 * len(rows)
    assert study.hear(model="organism", replicates=100, open_questions=1) == run


def test_auto_asks_as_the_model_is_heard(tmp_path, monkeypatch):
    study = Study(tmp_path / "study")
    assert mode_for(study, "auto", "organism", "standin") == "logprob"
    assert mode_for(study, "generate", "organism", "standin") == "generate"


def test_choices_cannot_be_primed(tmp_path):
    with pytest.raises(BadInput, match="not made of single statements on a scale"):
        Study(tmp_path / "study").hear(
            model="organism", instrument="decisions", settings=("items=organism",)
        )


def test_the_digest_of_statements_follows_the_reversals():
    asked = voice.voice_questions(standin(), True, ("matters",))
    other = [dataclasses.replace(asked[0], answers=("a.", "b.")), *asked[1:]]
    assert voice.digest(asked) != voice.digest(other)


def test_modes_are_named_once(tmp_path):
    for modes in ((), ("voice", "voice")):
        with pytest.raises(BadInput, match="Name each mode that is tried once"):
            Study(tmp_path / "study").hear(model="organism", modes=modes)


def test_an_item_longer_than_the_model_reads_is_named(tmp_path):
    file = tmp_path / "items.csv"
    rows = [f"{n},I like it" for n in range(1, 22)]
    rows[4] = "5," + "I like it and " * 200 + "more"
    file.write_text("number,text\n" + "\n".join(rows) + "\n", encoding="utf-8")
    with pytest.raises(BadInput, match="longer than organism reads, the first of item pvq21-5"):
        Study(tmp_path / "study").hear(
            model="organism", instrument="pvq21", settings=(f"items={file}",), modes=("logprob",)
        )
