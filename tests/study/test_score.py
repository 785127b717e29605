"""The verb `score` on a small study of the organism."""

import shutil

import numpy as np
import pytest

from feature_store import queries
from feature_store.errors import BadInput, Incompatible, NotFound
from sae_training.model import sentences
from tests.helpers.endpoints import serve
from tests.helpers.labels import LAX
from tests.helpers.planted_contexts import WordsEncoder
from workbench.command.cli import main
from workbench.study import Study
from workbench.verbs import score as module

CONTEXTS = {"embedding", "detection", "intruder"}


@pytest.fixture(autouse=True)
def _words(monkeypatch):
    monkeypatch.setattr(module, "SentenceEncoder", WordsEncoder)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Labels of two methods, and a sweep of those of one of them."""
    study = Study(tmp_path_factory.mktemp("scored") / "study")
    study.train(model="organism", documents=200, tokens=16_384, n_features=64, k=8, cache=False)
    lexicon = study.label(labeler="lexicon", limit=300, n_contexts=0, options=("min_effect=-9",))
    study.label(limit=300, n_contexts=0, options=LAX)
    sweep = study.effects(
        n_contexts=6,
        features_per_value=2,
        doses=(0.3, 0.6),
        random_features=3,
        random_directions=3,
        n_neutral=2,
        replicates=100,
    )
    return study, lexicon, sweep


@pytest.fixture(scope="module")
def scored(swept):
    study, _, _ = swept
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SentenceEncoder", WordsEncoder)
        return study, study.score(per_run=10)


@pytest.fixture
def copy(swept, tmp_path):
    """The same study without scores."""
    study = Study(shutil.copytree(swept[0].folder, tmp_path / "study"))
    for run in (study.folder / "runs").glob("scores-*"):
        shutil.rmtree(run)
    study._models = swept[0]._models
    return study


def test_all_scores_are_made_that_can_be(scored, swept):
    study, run = scored
    assert set(run.summary["scores"]) == {"causal", "beside", "output", *CONTEXTS}
    assert run.inputs["effects"] == swept[2].id
    assert set(run.summary["methods"]) == {"contrast", "lexicon"}
    assert "missing" not in run.summary
    rows = study.store.sql("SELECT * FROM label_scores WHERE run = ?", [run.id])
    accepted = study.store.sql(
        "SELECT run AS labels, feature, value, polarity FROM labels WHERE accepted"
    )
    keys = ["labels", "feature", "value", "polarity"]
    assert len(rows.merge(accepted, on=keys)) == len(rows), "accepted labels alone are scored"
    assert not rows.duplicated([*keys, "score"]).any()


def test_causal_scores_are_of_the_features_that_were_steered_whoever_labels_them(scored, swept):
    study, run = scored
    rows = study.store.sql(
        "SELECT labels, feature FROM label_scores WHERE run = ? AND score = 'causal'", [run.id]
    )
    steered = study.store.sql(
        "SELECT DISTINCT feature FROM matched WHERE run = ? AND feature >= 0", [swept[2].id]
    )
    assert set(rows.feature) <= set(steered.feature)
    accepted = study.store.sql("SELECT run, feature FROM labels WHERE accepted")
    for id in accepted.run.unique():
        named = set(accepted.feature[accepted.run == id]) & set(steered.feature)
        assert set(rows.feature[rows["labels"] == id]) == named


def test_contexts_are_held_out_and_silent(scored):
    """No active context is from a text that the strongest contexts hold a piece of."""
    from workbench.features.held_out_contexts import held_out_contexts

    study, run = scored
    sae = run.inputs["sae"]
    features = study.store.sql("SELECT feature FROM features WHERE n_active > 0").feature.tolist()
    held = held_out_contexts(study.store, sae, features, 5, 0)
    assert held, "some feature has contexts that are held out"
    samples = study.store.sql("SELECT feature, document, tokens, activations FROM samples")
    seen = set(map(tuple, study.store.sql("SELECT feature, document FROM contexts").to_numpy()))
    active = set(
        map(tuple, study.store.sql("SELECT feature, document FROM activations").to_numpy())
    )
    place = {}
    for row in samples.itertuples():
        key = (tuple(row.tokens), tuple(map(float, row.activations)))
        place.setdefault(key, set()).add((row.feature, row.document))
    for feature, part in held.items():
        assert len(part.active) == len(part.silent) <= 5
        for window in part.active:
            assert any(f == feature and (f, d) not in seen for f, d in place[tuple(window)])
        for window in part.silent:
            assert any((feature, d) not in active for _, d in place[tuple(window)])


def test_methods_are_summed_up_beside_wrong_values(scored):
    study, run = scored
    table = queries.method_scores(study.store, run.id)
    table = table[table.n > 0].set_index(["method", "score"])
    for score in ("causal", "embedding", "detection"):
        row = table.loc[("contrast", score)]
        assert 0 <= row.share_low <= row.share <= row.share_high <= 1
        assert 0 <= row.chance_share <= 1
        assert row.n <= row.accepted
    assert np.isnan(table.loc[("contrast", "output")].chance_share)


def test_the_newest_scores_of_a_feature_stand_beside_its_labels(copy):
    first = copy.score(scores=("causal",))
    one = copy.store.sql("SELECT labels, feature FROM label_scores LIMIT 1").iloc[0]
    shown = queries.label_scores(copy.store, one["labels"], int(one.feature))
    assert set(shown.run) == {first.id}
    assert set(shown.score) == {"causal", "beside"}
    again = copy.score(scores=("causal",), seed=1)
    shown = queries.label_scores(copy.store, one["labels"], int(one.feature))
    assert set(shown.run) == {again.id}
    assert copy.score(scores=("causal",)).id == first.id


def test_a_judge_is_asked_in_words_and_its_answers_are_kept(copy):
    def reply(body, number):
        question = body["messages"][-1]["content"]
        if number % 9 == 8:
            return "<b>As an AI, I cannot say.</b>"
        return "3" if "- 5" in question else "yes"

    with serve(reply) as script:
        judge = f"{script.url}#judge"
        run = copy.score(judge=judge, per_run=3, n_contexts=4)
        asked = len(script.requests)
        assert asked > 0
        assert "fuzzing" in run.summary["scores"]
        assert run.summary["unread"] > 0
        shutil.rmtree(copy.runs.folder / run.id)
        assert Study(copy.folder).score(judge=judge, per_run=3, n_contexts=4).id == run.id
        assert len(script.requests) == asked, "kept answers are not asked again"
    rows = copy.store.sql("SELECT * FROM label_scores WHERE score IN ('detection', 'fuzzing')")
    assert (rows.source == judge).all()
    assert rows.figure.between(0.2, 0.8).all(), "always yes is near chance"
    assert not rows.passed.any()


def test_the_command_line_says_how_methods_do(swept, capsys):
    assert main(["score", str(swept[0].folder), "--scores", "causal"]) == 0
    assert "contrast, causal:" in capsys.readouterr().out


def test_what_is_not_there_is_left_out_and_said(copy, monkeypatch):
    def no_encoder(address):
        raise NotFound("minilm is not here yet.")

    monkeypatch.setattr(module, "SentenceEncoder", no_encoder)
    for run in (copy.folder / "runs").glob("effects-*"):
        shutil.rmtree(run)
    with pytest.warns(UserWarning, match="Not scored: causal. No sweep steered"):
        run = copy.score()
    assert run.summary["scores"] == ["output"]
    assert "minilm is not here" in run.summary["missing"]["embedding detection fuzzing intruder"]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"scores": ("casual",)}, BadInput, "Did you mean 'causal'"),
        ({"scores": ("fuzzing",)}, BadInput, "--judge"),
        ({"labels": ("labels-0",)}, NotFound, "no finished run 'labels-0'"),
        ({"effects": "effects-0"}, NotFound, "no finished run 'effects-0'"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_one_line(swept, settings, error, message):
    with pytest.raises(error, match=message) as caught:
        swept[0].score(**settings)
    assert "\n" not in str(caught.value)


def test_an_encoder_that_is_not_there_is_refused_where_it_is_named(swept, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "SentenceEncoder", sentences.SentenceEncoder)
    with pytest.raises(NotFound, match="no sentence encoder"):
        swept[0].score(encoder=str(tmp_path))


def test_labels_of_another_sae_are_refused(copy):
    with copy.runs.begin("labels", {"labeler": "contrast"}, {"sae": "sae-other"}, 0) as work:
        work.table("labels", [])
        id = work.finish({}).id
    with pytest.raises(Incompatible, match="sae-other"):
        copy.score(labels=(id,))
