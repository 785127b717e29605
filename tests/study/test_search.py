"""Search: what is sought by meaning, and what fires on a text, beside what is known of both."""

import shutil

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from feature_store.errors import BadInput, NotFound
from feature_store.queries import FeatureFilter
from sae_training.dictionary.harvest import active_pairs
from tests.helpers.synthetic import synthetic
from workbench.command.cli import main
from workbench.features import meaning
from workbench.study import Study

SAE = {"model": "organism", "documents": 100, "tokens": 8_192, "n_features": 64, "k": 8}
AXES = 8


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    study = Study(tmp_path_factory.mktemp("search") / "study")
    study.train(**SAE, cache=False)
    return study


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return synthetic(tmp_path_factory.mktemp("made") / "study")


@pytest.fixture
def copied(made, tmp_path):
    return Study(shutil.copytree(made.folder, tmp_path / "study"))


class Letters:
    """An encoder of a kind: a text's direction is how often it holds each of the first letters."""

    asked = 0

    def texts(self, texts):
        Letters.asked += len(texts)
        counts = np.array(
            [[text.lower().count(chr(97 + a)) for a in range(AXES)] for text in texts]
        )
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


@pytest.fixture
def encoder(monkeypatch):
    monkeypatch.setattr(meaning, "encoder_is_fetched", lambda: True)
    monkeypatch.setattr(meaning, "_encoder", lambda: Letters())
    monkeypatch.setattr(Letters, "asked", 0)
    meaning._load.cache_clear()


def test_the_nearest_features_by_mean_cosine_of_their_contexts(copied, encoder):
    sae = copied.runs.latest("sae").id
    found = copied.search("bee", most=1000)
    contexts = meaning.read(copied.store, sae).strongest(meaning.CONTEXTS)
    axis = Letters().texts(["bee"])[0]
    cosine = {}
    for feature in np.unique(contexts.features):
        rows = np.flatnonzero(contexts.features == feature)
        windows = [contexts.around_peak(int(k), meaning.REACH) for k in rows]
        cosine[int(feature)] = float((Letters().texts(windows) @ axis).mean())
    values = np.array(list(cosine.values()))
    expected = {f: (c - values.mean()) / values.std() for f, c in cosine.items()}
    assert found.total == len(found.rows) == len(expected)
    assert list(found.rows.likeness) == sorted(found.rows.likeness, reverse=True)
    for row in found.rows.itertuples():
        assert row.likeness == pytest.approx(expected[row.feature], abs=0.02)
    assert "by meaning" in found.how


def test_contexts_are_embedded_once_and_a_damaged_file_anew(copied, encoder):
    copied.search("bee")
    first = Letters.asked
    copied.search("cab")
    assert Letters.asked == first + 1
    (file,) = copied.folder.glob("runs/.derived/*/meaning-*.npz")
    whole = file.read_bytes()
    for damaged in (b"", whole[:40], b"PK" + whole[2:60]):
        file.write_bytes(damaged)
        meaning._load.cache_clear()
        assert len(copied.search("bee").rows)
        assert file.read_bytes() != damaged
    np.savez(file, features=np.arange(3), points=np.zeros((2, AXES), np.float16))
    meaning._load.cache_clear()
    assert len(copied.search("bee", most=1000).rows) > 3


def test_filters_narrow_an_answer_before_it_is_cut(copied, encoder):
    everything = copied.search("bee", most=1000).rows
    value = everything.value.dropna().iloc[-1]
    found = copied.search("bee", wanted=FeatureFilter(values=[value]), most=3)
    of_value = everything[everything.value == value]
    assert set(of_value.feature) <= set(
        copied.search("bee", wanted=FeatureFilter(values=[value]), most=1000).rows.feature
    )
    assert (found.rows.value == value).all()
    assert found.total >= len(of_value) > 0
    rare = copied.search("bee", wanted=FeatureFilter(density=(0.0, 0.001)), most=1000).rows
    assert set(rare.feature) == set(everything[everything.density <= 0.001].feature)
    assert 0 < len(rare) < len(everything)


def test_without_an_encoder_the_definitions_answer_and_say_so(copied, monkeypatch):
    monkeypatch.setattr(meaning, "encoder_is_fetched", lambda: False)
    found = copied.search("who has authority, wealth and social power?")
    assert len(found.rows)
    assert (found.rows.value == "power").all()
    assert "definitions" in found.how
    assert "workbench fetch minilm" in found.how
    assert found.rows.likeness.isna().all()
    with pytest.raises(NotFound, match=r"shares a word.*workbench fetch minilm"):
        copied.search("zyzzyva")


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question_is_refused(copied, question):
    with pytest.raises(BadInput, match="question is empty"):
        copied.search(question)
    with pytest.raises(BadInput, match="by meaning or by words"):
        copied.search("doors", by="colour")


def test_words_are_sought_as_on_the_page(copied):
    found = copied.search("doors", by="words", most=1000)
    contexts = copied.store.sql(
        "SELECT feature, lower(array_to_string(tokens, '')) AS t FROM contexts"
    )
    expected = set(contexts[contexts.t.str.contains(r"\bdoors", regex=True)].feature)
    assert set(found.rows.feature) == expected
    assert expected


def test_what_fires_on_a_text_is_what_the_sae_says_of_its_residuals(trained):
    run = trained.runs.latest("sae")
    model, sae = trained.model_of(run), trained.sae(run)
    text = "I locked the doors twice. Then I went home."
    fired = trained.firing(text)
    ids = model.tokenize([text])
    import torch

    residual = model.residuals(
        torch.tensor(ids), torch.ones(1, len(ids[0]), dtype=torch.bool), sae.site()
    )[0]
    pairs = active_pairs(sae, residual[1:].float())
    expected = {
        (int(t) + 1, int(f)): float(v) for t, f, v in zip(pairs.token, pairs.feature, pairs.value)
    }
    seen = {(r.position, r.feature): r.activation for r in fired.rows.itertuples()}
    assert seen.keys() == expected.keys()
    assert all(seen[pair] == pytest.approx(expected[pair], rel=1e-4) for pair in seen)
    assert "".join(fired.tokens.token).split()[1:4] == ["i", "locked", "the"]
    assert list(fired.tokens.counted) == [False] + [True] * (len(ids[0]) - 1)
    largest = trained.store.sql("SELECT feature, max_activation FROM features").set_index("feature")
    row = fired.rows.iloc[0]
    assert row.share == pytest.approx(row.activation / largest.max_activation[row.feature])
    assert fired.rows.value.isna().all(), "nothing is labelled"


def test_a_text_that_is_longer_than_a_piece_keeps_its_places(trained):
    words = "I locked the doors twice. " * 60
    fired = trained.firing(words)
    assert fired.rows.position.max() == len(fired.tokens) - 1
    assert len(fired.tokens) > trained.runs.latest("sae").config["context"]


def test_a_text_without_a_token_that_counts_is_refused(trained):
    with pytest.raises(BadInput, match="no token that the SAE reads"):
        trained.firing("")


def test_the_command_line(trained, copied, encoder, capsys):
    folder = str(copied.folder)
    assert main(["search", folder, "bee", "--most", "3"]) == 0
    out = capsys.readouterr().out
    assert "by meaning" in out
    assert len(out.strip().splitlines()) == 5
    assert "\x1b" not in out
    assert main(["search", folder, "doors", "--by", "words", "--value", "power"]) == 0
    assert main(["search", folder, "bee", "--value", "powr"]) == 2
    assert "power" in capsys.readouterr().err
    assert main(["search", str(trained.folder), "I locked the doors.", "--by", "text"]) == 0
    assert "share" in capsys.readouterr().out


def _page(folder: str) -> None:
    from feature_store.queries import FeatureFilter
    from workbench.study import Study
    from workbench.views.search import show_search

    show_search(Study(folder, create=False), FeatureFilter())


def test_the_app_answers_both_ways(trained, copied, encoder):
    page = AppTest.from_function(_page, args=(str(copied.folder),), default_timeout=60).run()
    page.text_input(key="search-question").set_value("bee").run()
    assert not page.exception
    assert len(page.dataframe[0].value) == 25
    page = AppTest.from_function(_page, args=(str(trained.folder),), default_timeout=60).run()
    page.text_area(key="search-text").set_value("I locked the doors twice.").run()
    assert not page.exception
    assert {"token", "feature", "share"} <= set(page.dataframe[0].value.columns)


def test_a_published_study_says_why_it_reads_no_text(copied, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    published = Study(copied.publish(tmp_path / "theirs.duckdb"), create=False)
    with pytest.raises(NotFound, match="published without its weights"):
        published.firing("I locked the doors twice.")
