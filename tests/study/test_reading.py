"""What a verb reads of a file of texts, and what its run says became of the rows."""

import csv
import json
import random

import pandas
import pytest

from feature_store.bounds import KeptAs, Later
from feature_store.errors import BadInput, NotFound
from feature_store.files import digest
from workbench import organism
from workbench.material import lines
from workbench.settings import make, plain
from workbench.study import Study
from workbench.verbs.label import LabelSettings
from workbench.verbs.train import TrainSettings

SMALL = {"tokens": 2_048, "n_features": 32, "k": 4, "cache": False, "rows": 32}
"""Settings of the smallest training."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study whose SAE was trained on a table, and that table."""
    folder = tmp_path_factory.mktemp("reading")
    table = folder / "corpus.CSV"
    rows = [["n", "Abstract"], *enumerate(organism.training_texts(60, 3)), [60, " "], [61, ""]]
    with table.open("w", newline="") as handle:
        csv.writer(handle, delimiter=";").writerows(rows)
    study = Study(folder / "study")
    with pytest.warns(UserWarning, match=r"corpus.CSV: 60 of 62 rows read \(2 without text\)"):
        study.train(texts=str(table), text_column="abstract", **SMALL)
    return study, table


def test_a_training_says_which_rows_it_read(made):
    study, table = made
    run = study.runs.latest("sae")
    assert run.summary["rows_read"] == "corpus.CSV: 60 of 62 rows read (2 without text)"
    assert run.summary["documents"] == 60
    assert run.config["text_column"] == "abstract"
    with pytest.raises(NotFound, match=r"has no column 'text'; it has n, Abstract.*--text-column"):
        study.train(texts=str(table), **SMALL)


def test_labels_say_which_rows_were_marked(made, tmp_path):
    study, _ = made
    drawn = random.Random(0)
    documents = organism.labelled_texts(120, 1)
    frame = pandas.DataFrame({"body": [document.text for document in documents]})
    for value in study.system.ids:
        frame[value.title()] = [
            {1: 2, -1: 0}.get(document.labels.get(value, -1), 0) for document in documents
        ]
    frame.loc[3, "body"] = ""
    frame["length"] = [drawn.randint(20, 90) for _ in documents]
    frame.to_csv(tmp_path / "t.tsv", sep="\t", index=False)
    with pytest.raises(BadInput, match=r"column 'Self-Direction': '2' is no mark.*--scale"):
        study.label(labelled=str(tmp_path / "t.tsv"), text_column="BODY", n_contexts=0)
    with pytest.warns(UserWarning, match=r"119 of 120 rows read \(1 without text\)"):
        run = study.label(
            labelled=str(tmp_path / "t.tsv"),
            text_column="BODY",
            scale="0-2",
            n_contexts=0,
            options=["min_texts=1"],
        )
    assert run.summary["rows_read"] == (
        "t.tsv: 119 of 120 rows read (1 without text); no value: length"
    )
    assert (run.config["text"], run.config["scale"]) == ("BODY", "0-2")


def test_settings_that_came_later_leave_the_ids_of_runs_alone():
    assert "text_column" not in plain(TrainSettings())
    assert plain(TrainSettings(text_column="x"))["text_column"] == "x"
    assert plain(LabelSettings())["text"] == "text"
    assert "scale" not in plain(LabelSettings())
    assert make(LabelSettings, {"text_column": "x"}).text_column == "x"
    assert Later() == Later()
    assert KeptAs("a") != KeptAs("b")


def test_conversations_are_refused_by_a_model_without_a_template(made, tmp_path):
    study, _ = made
    rows = [{"messages": [{"role": "user", "content": "I help."}]}] * 3
    (tmp_path / "chat.jsonl").write_text("\n".join(map(json.dumps, rows)))
    before = study.runs.ids()
    with pytest.raises(BadInput, match="line 1 is a conversation, and .* no chat template"):
        study.train(texts=str(tmp_path / "chat.jsonl"), **SMALL)
    assert study.runs.ids() == before
    assert digest(tmp_path / "chat.jsonl")


def test_contexts_stand_in_the_column_that_is_named(tmp_path):
    (tmp_path / "t.csv").write_text('id,said\n1,"one, two"\n2,three\n')
    assert lines(str(tmp_path / "t.csv"), "said") == ["one, two", "three"]
