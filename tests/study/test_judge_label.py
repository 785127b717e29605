"""`workbench label --labeler judge`: what the run keeps of a language model's answers."""

import json
import shutil

import pytest

from feature_store.errors import NotFound
from tests.helpers.endpoints import serve
from workbench.study import Study

LABEL = {"labeler": "judge", "limit": 300, "n_contexts": 0}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    study = Study(tmp_path_factory.mktemp("judged") / "study")
    study.train(model="organism", documents=100, tokens=8_192, n_features=64, k=8, cache=False)
    return study


@pytest.fixture
def study(trained, tmp_path):
    copy = Study(shutil.copytree(trained.folder, tmp_path / "study"))
    copy._models = trained._models
    return copy


def reply(body, number):
    if number % 5 == 4:
        return "<html>busy</html>"
    value = "power" if number % 2 else "none"
    return json.dumps({"explanation": "<i>locks</i>", "value": value, "side": "held"})


def test_explanations_counts_and_answers_are_kept(study):
    with serve(reply) as script:
        options = (f"llm={script.url}#tiny", "features=6", "asked=2", "draws=100")
        run = study.label(**LABEL, options=options)
        asked = len(script.requests)
        rows = study.store.sql("SELECT * FROM explanations WHERE run = ?", [run.id])
        assert asked == run.summary["calls"] == len(rows) == 12
        assert run.summary["unparsed"] == (rows.status == "unparsed").sum() > 0
        assert run.summary["tokens_read"] == 10 * asked
        assert set(rows.explanation[rows.status == "parsed"]) == {"locks"}
        assert rows.answer.str.contains("<html>busy").sum() == run.summary["unparsed"]
        assert run.inputs["prompts"]
        assert study.label(**LABEL, options=options).id == run.id
        shutil.rmtree(study.runs.folder / run.id)
        again = Study(study.folder)
        again._models = study._models
        repeated = again.label(**LABEL, options=options)
        assert len(script.requests) == asked, "kept answers are not asked again"
    kept = again.store.sql("SELECT * FROM explanations WHERE run = ?", [repeated.id])
    assert kept.answer.tolist() == rows.answer.tolist()


def test_without_a_language_model_nothing_is_begun(study):
    with pytest.raises(NotFound, match="llm=local"):
        study.label(**LABEL)
    assert study.runs.unfinished() == []
