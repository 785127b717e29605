"""Rows of the hub, streamed by the real library from a folder that stands for the hub."""

import json

import datasets
import pytest

from feature_store.errors import BadInput, NotFound, WorkbenchError
from sae_training.dictionary import hub_texts
from sae_training.dictionary.hub_texts import HubTable, streamed
from sae_training.dictionary.texts import read_corpus
from tests.helpers import small_models

SAID = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "the cat sat"}]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A dataset of 250 rows; what is asked of the hub is noted."""
    folder = tmp_path / "hub"
    folder.mkdir()
    rows = [{"text": f"the cat {i}", "messages": SAID, "number": i} for i in range(250)]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = []
    load = datasets.load_dataset

    def load_dataset(name, configuration, *, revision, **options):
        asked.append((name, configuration, revision, options["split"]))
        return load(str(folder), configuration, **options)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(hub_texts, "_commit", lambda table: "abc123")
    return asked


def rows_of(file):
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("hub:org/name", ("org/name", "", "train", "")),
        ("hub:org/na.me:test", ("org/na.me", "", "test", "")),
        ("hub:org/name#a column", ("org/name", "", "train", "a column")),
        ("hub:org/name/en:test#text", ("org/name", "en", "test", "text")),
    ],
)
def test_an_address_is_read(address, expected):
    assert HubTable.parse(address) == HubTable(*expected)


@pytest.mark.parametrize("address", ["hub:", "hub:name", "hub:a/b/c/d", "hub:a b/c", "hub:a/b:"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(BadInput, match="is named hub:ORG/NAME"):
        HubTable.parse(address)


def test_the_first_rows_are_streamed_once(hub, tmp_path):
    shown = []
    table = HubTable.parse("hub:org/name")
    rows = streamed(table, 200, tmp_path / "texts", lambda *step: shown.append(step))
    assert rows.commit == "abc123"
    assert rows_of(rows.file) == [{"text": f"the cat {i}", "messages": SAID} for i in range(200)]
    assert shown == [(100, 200), (200, 200), (200, 200)]
    assert hub == [("org/name", None, "abc123", "train")]
    assert streamed(table, 200, tmp_path / "texts") == rows
    assert len(hub) == 1
    assert read_corpus(rows.file).texts[0] == "the cat 0"


def test_conversations_go_through_the_chat_template(hub, tmp_path):
    model = small_models.model("llama", chat=True)
    rows = streamed(HubTable.parse("hub:org/name#messages"), 3, tmp_path)
    read = read_corpus(rows.file, "messages", model).texts
    assert len(read) == 3
    assert "the cat sat" in read[0]
    assert read[0] != "the cat sat"


def test_a_download_that_was_cut_off_goes_on(hub, tmp_path):
    table = HubTable.parse("hub:org/name#text")

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        streamed(table, 220, tmp_path, stop)
    (part,) = tmp_path.glob("*.part")
    with part.open("ab") as file:
        file.write(b'{"text": "to')
    rows = streamed(table, 220, tmp_path)
    assert [row["text"] for row in rows_of(rows.file)] == [f"the cat {i}" for i in range(220)]
    assert not list(tmp_path.glob("*.part"))


def test_a_dataset_that_ends_early_says_so(hub, tmp_path):
    with pytest.warns(UserWarning, match="ends after 250 rows in its split train; 900 were asked"):
        assert len(rows_of(streamed(HubTable.parse("hub:org/name"), 900, tmp_path).file)) == 250


def test_a_column_or_split_that_is_not_there_is_named(hub, tmp_path):
    with pytest.raises(NotFound, match="no column 'words'; it has text, messages, number"):
        streamed(HubTable.parse("hub:org/name#words"), 5, tmp_path)
    with pytest.raises(BadInput, match=r"Bad split: nosuch\. Available splits: \['train'\]"):
        streamed(HubTable.parse("hub:org/name:nosuch"), 5, tmp_path)


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (
            datasets.exceptions.DatasetNotFoundError(
                "Dataset 'org/name' is a gated dataset on the Hub. Log in.\nMore."
            ),
            "org/name is open only to those whom its makers let in",
        ),
        (
            datasets.exceptions.DatasetNotFoundError("Dataset 'org/name' doesn't exist."),
            "cannot be read: Dataset 'org/name' doesn't exist.$",
        ),
        (
            ConnectionError("Couldn't reach\x1b[31m it"),
            r"not be reached \(Couldn't reach\?\[31m",
        ),
        (RuntimeError("Dataset scripts are no longer supported"), "scripts are no longer"),
    ],
)
def test_what_the_hub_complains_of_is_one_line(hub, tmp_path, monkeypatch, raised, said):
    def load_dataset(*_, **__):
        raise raised

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(WorkbenchError, match=said) as told:
        streamed(HubTable.parse("hub:org/name"), 5, tmp_path)
    assert "\n" not in str(told.value)
