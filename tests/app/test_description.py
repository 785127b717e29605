"""What the page of a feature says where nobody described the features, or a part is not there."""

import html
import re
import shutil

import pytest
from streamlit.testing.v1 import AppTest

from feature_store import queries
from tests.helpers.synthetic import HOSTILE, synthetic
from workbench.study import Study


def _page(folder: str) -> None:
    import streamlit as st

    from workbench import views
    from workbench.study import Study
    from workbench.views.feature import feature_page

    study = Study(folder, create=False)
    chosen = views.choose(study)
    feature_page(study, chosen, chosen.sae, st.session_state["wanted"])


def page_of(folder, feature: int) -> str:
    """All texts of a feature's page, HTML included."""
    page = AppTest.from_function(_page, args=(str(folder),), default_timeout=60)
    page.session_state["wanted"] = str(feature)
    page.run()
    assert not page.exception, page.exception[0].message
    shown = [*page.markdown, *page.caption, *page.info, *page.get("html")]
    return "\n".join(str(getattr(part, "value", None) or part.proto.body) for part in shown)


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    return synthetic(tmp_path_factory.mktemp("described") / "study")


@pytest.fixture
def plain(described, tmp_path):
    """The same study before anybody described its features."""
    folder = shutil.copytree(described.folder, tmp_path / "plain")
    (run,) = (folder / "runs").glob("descriptions-*")
    shutil.rmtree(run)
    return Study(folder)


def test_a_study_that_is_not_described_says_what_to_run(plain):
    text = page_of(plain.folder, 3)
    assert "Features are not described yet. Run `workbench describe" in text
    assert "Promotes" not in text


def test_a_published_study_that_is_not_described_says_that_it_was_not(plain, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    file = plain.publish(tmp_path / "theirs.duckdb")
    text = page_of(file, 3)
    assert "not described yet. It was not made before the study was published." in text
    assert "workbench describe" not in text


def test_a_published_study_shows_its_descriptions(described, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    file = described.publish(tmp_path / "theirs.duckdb", ["activations"])
    assert "Promotes" in page_of(file, 3)


def test_tokens_and_what_others_fire_on_are_escaped(described):
    text = page_of(described.folder, 0)
    for token in HOSTILE[:2]:
        assert html.escape(token) in text
    assert not re.search(r"<(script|img)\b", text)
    assert text.count('class="related"') == 12


def test_what_could_not_be_computed_is_said(plain):
    sae = queries.candidates(plain.store, "sae").run[0]
    with plain.runs.begin("descriptions", {"top": 4}, {"sae": sae}, 0) as work:
        for relation in ("token_logits", "logit_shapes", "decoder_neighbours", "coactivations"):
            work.table(relation, [])
        work.finish({"no_tokens": "Its end is *odd*.", "no_partners": "No activations."})
    text = page_of(plain.folder, 3)
    assert "It promotes no token." in text
    assert r"Its end is \*odd\*." in text
    assert "No activations." in text


def _contexts_page(tokens, activations) -> None:
    import pandas as pd

    from workbench.views.feature import show_contexts

    rows = [
        {"activation": a, "tokens": t, "activations": [0.0, a], "peak": 1}
        for t, a in zip(tokens, activations)
    ]
    show_contexts(pd.DataFrame(rows), "#c4561a", 2)


def test_texts_that_share_a_window_show_it_once():
    windows = [["a ", "cook"], ["a ", "cook"], ["the ", "<b>"], ["a ", "cook"], ["one ", "more"]]
    page = AppTest.from_function(_contexts_page, args=(windows, [5.0, 4.0, 3.0, 2.0, 1.0])).run()
    assert not page.exception
    (shown,) = [part.proto.body for part in page.get("html")]
    assert shown.count("cook") == 1
    assert "5.00 ×3" in shown
    assert "&lt;b&gt;" in shown
    assert "3.00 ×" not in shown
    assert "more" not in shown, "the third window is beyond the most"
