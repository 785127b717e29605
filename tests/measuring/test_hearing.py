"""Whether an instrument hears a value that is there: planted answers, and the organism."""

import dataclasses

import numpy as np
import pytest

from feature_store import registry
from feature_store.errors import BadInput, Incompatible, NotFound
from feature_store.progress import silent
from tests.helpers import small_models
from workbench.instruments.standin import standin
from workbench.measuring import hearing, voice
from workbench.measuring.heard import _is_primed, mode_for, resolved
from workbench.measuring.questionnaire import open_instrument
from workbench.study import Study
from workbench.verbs.effects import EffectsSettings

TEN = registry.get("values", "schwartz10")
OF = np.repeat(np.arange(10), 4)


def planted(shift, noise, seed=0, templates=2):
    """Changes in which each persona moves the items of its value by `shift`, all by noise."""
    rng = np.random.default_rng(seed)
    answers = shift * (np.arange(10)[:, None] == OF) + noise * rng.normal(size=(templates, 10, 40))
    return hearing.change_of(answers)


def test_an_instrument_that_follows_its_persona_is_heard():
    (verdict,) = hearing.listen([planted(1.0, 0.1)], OF, 300, 0)
    assert verdict.rank == 1.0
    assert verdict.p < 0.01
    assert verdict.passes
    assert verdict.shift == pytest.approx(0.9, abs=0.05)
    # Unprimed values lie 0.1 below zero once the row's mean is subtracted, and scatter by 0.035.
    assert verdict.resolution == pytest.approx(0.1 + 2 * 0.1 / np.sqrt(8), abs=0.03)


def test_a_respondent_that_answers_by_position_alone_is_not_heard():
    (verdict,) = hearing.listen([np.zeros((2, 10, 40))], OF, 300, 0)
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


def test_p_is_as_large_as_chance_where_nothing_is_primed():
    p = np.array([hearing.listen([planted(0.0, 1.0, s)], OF, 100, s)[0].p for s in range(200)])
    assert np.mean(p < 0.05) < 0.1
    assert 0.2 < np.mean(p < 0.5) < 0.6
    assert np.mean(p < 0.9) > 0.7


def akin(seed):
    """Changes by a random map from personas to items, in which neighbours on a circle are alike."""
    angle = 2 * np.pi * np.arange(10) / 10
    root = np.linalg.cholesky(np.exp(np.cos(angle[:, None] - angle) - 1))
    answers = (root @ np.random.default_rng(seed).normal(size=(10, 10)) @ root.T)[:, OF]
    return hearing.change_of(np.stack([answers, answers]))


def test_a_random_map_between_kin_values_is_not_heard():
    """Permutations alone would call it heard in one of eight, for ten values are fewer chances."""
    verdicts = [hearing.listen([akin(s)], OF, 100, s)[0] for s in range(200)]
    # 97.5 % of binomial draws of 200 at 0.05 are at most 16.
    assert sum(verdict.p < 0.05 for verdict in verdicts) <= 16
    assert np.std([verdict.rank for verdict in verdicts]) > 0.15, "twice what chance has"


def tried(shift, seed, ways=4, modes=2):
    """Verdicts on several ways of asking in several modes, which share some of their noise."""
    verdicts = []
    for mode in range(modes):
        common = planted(shift, 1.0, (seed, mode))
        single = [planted(shift, 1.0, (seed, mode, way)) for way in range(ways)]
        changes = [(common + change) / 2 for change in single]
        changes.append(np.mean(changes, axis=0))
        verdicts.append(hearing.listen(changes, OF, 100, seed, modes))
    return verdicts


def test_the_best_of_all_that_is_tried_is_heard_by_chance_in_one_of_twenty():
    best = np.array([min(way.p for mode in tried(0.0, s) for way in mode) for s in range(100)])
    # 95 % of binomial draws of 100 at 0.05 are at most 9; each way by itself would give over 20.
    assert np.sum(best < 0.05) <= 9
    assert np.sum(best < 0.6) >= 10, "and it is not much stricter than it says"


def test_what_is_primed_is_heard_among_all_that_is_tried():
    passing = [all(mode[-1].passes for mode in tried(1.5, s)) for s in range(10)]
    assert all(passing)


def test_more_modes_raise_p_alone():
    (one,) = hearing.listen([planted(0.3, 1.0)], OF, 300, 0)
    (two,) = hearing.listen([planted(0.3, 1.0)], OF, 300, 0, modes=2)
    assert two == one._replace(p=min(1.0, 2 * one.p))
    again, other = hearing.listen([planted(0.3, 1.0), planted(0.0, 1.0, 5)], OF, 300, 0)
    assert one.p <= again.p <= 2 * one.p + 0.1
    assert other.null_high < 1


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


@pytest.fixture
def quick(monkeypatch):
    """A model that was not tried is tried by fewer questions."""
    few = {"replicates": 100}

    def hear_first(study, flags, progress):
        study.do("hear", flags | few, progress)

    monkeypatch.setattr(Study, "hear_first", hear_first)


LITTLE = {"n_contexts": 1, "replicates": 100}


@pytest.mark.parametrize("template", ["", small_models.TEMPLATE])
def test_a_model_that_was_not_tried_is_tried_first(tmp_path, quick, template):
    model = str(small_models.saved(tmp_path / "model", template))
    study, stages = Study(tmp_path / "study"), []
    with pytest.warns(UserWarning, match="tried first which way of asking standin hears"):
        run = study.measure(lambda stage, *_: stages.append(stage), model=model, **LITTLE)
    (hearing_run,) = study.runs.all("hearing-")
    assert run.inputs["hearing"] == hearing_run.id
    best = hearing_run.summary["heard"]
    assert run.config["mode"] == ("voice" if best == "voice" else "logprob")
    assert run.summary["heard"] == ("no" if best == "none" else "yes")
    assert stages.index("priming, asking by voice") < stages.index("asking")
    assert hearing_run.config["until_heard"]
    assert study.measure(model=model, **LITTLE).id == run.id
    source = {"model": model, "revision": "", "dtype": "float32", "device": "auto"}
    sweep = resolved(study, EffectsSettings(), source, silent)
    assert sweep.mode == run.config["mode"]
    assert study.runs.all("hearing-") == [hearing_run], "once for all that asks it"
    assert study.measure(model=model, mode=run.config["mode"], **LITTLE).id == run.id


def test_texts_that_are_not_there_are_missed_before_a_model_is_tried(tmp_path, quick):
    model = str(small_models.saved(tmp_path / "model", small_models.TEMPLATE))
    study = Study(tmp_path / "study")
    with pytest.raises(NotFound, match="no table"):
        study.survey(model=model, labelled=str(tmp_path / "nosuch.csv"))
    assert not study.runs.all("hearing-")


def test_it_stops_at_the_first_mode_that_is_heard(tmp_path, monkeypatch):
    """With a verdict that the other modes' answers could not have changed."""
    model = str(small_models.saved(tmp_path / "model", small_models.TEMPLATE))
    few = {"model": model, "modes": ("voice", "logprob"), "templates": 2, "open_questions": 1}
    study = Study(tmp_path / "study")
    both = study.hear(**few, replicates=100)
    monkeypatch.setattr(hearing.Heard, "passes", property(lambda verdict: True))
    first = study.hear(**few, replicates=100, until_heard=True)
    assert first.summary["heard"] == "voice"
    assert "logprob_rank" not in first.summary
    assert first.summary["held_p"] == both.summary["held_p"]
    with pytest.warns(UserWarning, match="in mode logprob: priming was not tried"):
        assert study.measure(model=model, mode="logprob", **LITTLE).summary["heard"] == "not tried"


def test_an_interrupted_hearing_goes_on_where_it_was(tmp_path):
    model = str(small_models.saved(tmp_path / "model"))
    few = {"model": model, "modes": ("voice",), "templates": 2, "open_questions": 1}

    def interrupting(stage, done, total):
        if done == 5:
            raise KeyboardInterrupt

    study, stages = Study(tmp_path / "study"), []
    with pytest.raises(KeyboardInterrupt):
        study.hear(interrupting, **few, replicates=100)
    run = study.hear(lambda *stage: stages.append(stage), **few, replicates=100)
    assert stages[:2] == [("priming, asking by voice", k, 22) for k in (5, 6)]
    whole = Study(tmp_path / "other").hear(**few, replicates=100)
    assert run.summary == whole.summary


def test_a_sweep_tries_first_as_well(tmp_path, quick):
    model = str(small_models.saved(tmp_path / "model", small_models.TEMPLATE))
    study = Study(tmp_path / "study")
    source = {"model": model, "revision": "", "dtype": "float32", "device": "cpu"}
    sweep = resolved(study, EffectsSettings(), source, silent)
    (run,) = study.runs.all("hearing-")
    assert run.config["device"] == "cpu"
    assert sweep.mode == ("voice" if run.summary["heard"] == "voice" else "logprob")


def test_what_is_asked_in_a_named_mode_is_not_tried(tmp_path, quick):
    model = str(small_models.saved(tmp_path / "model"))
    study = Study(tmp_path / "study")
    for mode in ("logprob", "voice"):
        run = study.measure(model=model, mode=mode, **LITTLE)
        assert run.summary["heard"] == "not tried"
    study.measure(model="organism", **LITTLE)
    assert not study.runs.all("hearing-")


def test_what_cannot_be_tried_is_asked_on_its_scale(tmp_path, quick):
    model = str(small_models.saved(tmp_path / "model"))
    file = tmp_path / "items.csv"
    rows = [f"{n},I like it" for n in range(1, 22)]
    rows[4] = "5," + "I like it and " * 200 + "more"
    file.write_text("number,text\n" + "\n".join(rows) + "\n", encoding="utf-8")
    study = Study(tmp_path / "study")
    with pytest.warns(UserWarning, match="could not be tried whether pvq21 hears .* are longer"):
        run = study.measure(
            model=model, instrument="pvq21", settings=(f"items={file}",), contexts="none", **LITTLE
        )
    assert run.config["mode"] == "logprob"
    assert run.summary["too_long"] > 0


def test_choices_and_long_instruments_are_not_tried_unbidden():
    instrument = standin()
    assert _is_primed(instrument)
    assert not _is_primed(dataclasses.replace(instrument, answer="choice"))
    assert not _is_primed(dataclasses.replace(instrument, items=instrument.items * 3))
    later = dataclasses.replace(instrument.items[0], after=instrument.items[1].id)
    assert not _is_primed(dataclasses.replace(instrument, items=(later,)))


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
