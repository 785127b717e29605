"""Items, tables and TOML files of strangers are read, or refused in one line."""

import json
import os
import warnings
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from feature_store import registry
from feature_store.errors import BadInput, WorkbenchError
from tests.helpers.hostile import survives
from workbench import settings
from workbench.causal import targets
from workbench.instruments import adaem, moral_dilemmas, value_portrait, value_spectrum, valuebench
from workbench.instruments.pvq.item_files import read_items
from workbench.instruments.value_portrait import tags
from workbench.steering import pairs
from workbench.sweeps import value_prompts
from workbench.systems.conva import questions
from workbench.systems.kang import roles
from workbench.systems.value_locate.descriptions import descriptions
from workbench.systems.value_pilot import scenarios
from workbench.verbs import decide
from workbench.verbs.label import LabelSettings
from workbench.vision import index

TEN = registry.get("values", "schwartz10")
KEY = {1: "power", 2: "hedonism"}


def items(file: Path):
    """Read a questionnaire of two items."""
    return read_items(file, KEY, 6, TEN.resolve)


def job(file: Path):
    """Read the settings of a verb from a job file."""
    return settings.make(LabelSettings, settings.from_toml(file, LabelSettings, "label"))


JSON = {
    "pvq": items,
    "value-portrait": lambda file: value_portrait.read_items(file, TEN),
    "ratings": tags.read_ratings,
    "profiles": lambda file: tags.read_profiles(file, TEN),
    "dilemmas": lambda file: moral_dilemmas.read(moral_dilemmas._json(file), TEN, "x.json"),
    "adaem": lambda file: adaem._read(str(file)),
    "preferences": lambda file: decide._preferences_of_file(file, TEN),
}
LINES = {
    "scenarios": lambda file: scenarios.read(file, TEN),
    "pvq": items,
    "pairs": lambda file: pairs.read(str(file), TEN),
}
TABLES = {
    "pvq": items,
    "valuebench": valuebench._table,
    "kang": roles.from_table,
    "captions": value_spectrum._caption_file,
    "pairs": lambda file: pairs.read(str(file), TEN),
    "dilemmas": lambda file: questions.read_dilemmas(str(file), "power", TEN),
    "choices": lambda file: questions.read_choices(str(file)),
    "presets": lambda file: targets.preset(str(file), "caring", TEN),
}
TOML = {
    "pvq": items,
    "job": job,
    "presets": lambda file: targets.preset(str(file), "caring", TEN),
    "questions": lambda file: targets.questions(str(file), TEN),
    "descriptions": lambda file: descriptions(str(file), TEN, 0),
    "keywords": lambda file: index.keywords(str(file), TEN),
    "prompts": lambda file: value_prompts.read(str(file)),
}

NAMES = st.sampled_from(
    """text number id value scale items idx power hedonism portrait_id content outputs title
    schwartz_values higher_pvq pvq option_id data system format questions values actions scores
    source caring question answer options keywords label labelled seed limit wordings sentences
    template persons held opposed context agreement questionnaire item file description
    question_1 question_2 name target""".split()  # noqa: SIM905
) | st.text(max_size=4)
STEPS = [f"step 1_{part}" for part in ("situation", "dilemma", "choiceA", "choiceB")]
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["power", "schwartz10", "1", "{name}", "{name:9999999999}", 10**300, "\x1b[2J"]
    )
)
TREES = st.recursive(
    LEAVES,
    lambda parts: (
        st.lists(parts, max_size=4)
        | st.dictionaries(NAMES | st.sampled_from(STEPS), parts, max_size=5)
    ),
    max_leaves=20,
)


def written(folder, name: str, content: str) -> Path:
    """Write a hostile file; half pairs of surrogates stand in it as three bytes each."""
    file = folder.getbasetemp() / name
    file.write_bytes(content.encode("utf-8", "surrogatepass"))
    return file


def reads(read, file: Path) -> None:
    """Hold a reader against a file, warnings aside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        survives(lambda: read(file))


@given(name=st.sampled_from(list(JSON)), tree=TREES)
@example(name="pvq", tree=[{"number": 1, "text": ["power"]}, {"number": 2, "text": "a"}])
@example(name="adaem", tree={"system": "schwartz10", "format": 1, "questions": [{"id": [[]]}]})
def test_hostile_items_in_json(tmp_path_factory, name, tree):
    reads(JSON[name], written(tmp_path_factory, "items.json", json.dumps(tree)))


@given(name=st.sampled_from(list(LINES)), trees=st.lists(TREES, max_size=4))
def test_hostile_items_in_json_lines(tmp_path_factory, name, trees):
    lines = "\n".join(json.dumps(tree, ensure_ascii=False) for tree in trees)
    reads(LINES[name], written(tmp_path_factory, "items.jsonl", lines))


CELLS = st.text(max_size=5) | st.sampled_from(
    ["1", "-1", "2", "power", "a|b", "9" * 5000, '"', "²"]
)


@given(
    name=st.sampled_from(list(TABLES)),
    columns=st.lists(NAMES, max_size=6),
    rows=st.lists(st.lists(CELLS, max_size=7), max_size=5),
    separator=st.sampled_from(",;\t|"),
)
@example(
    name="choices",
    columns=["question", "options", "answer"],
    rows=[["a", "b|c", "²"]],
    separator=",",
)
def test_hostile_items_in_tables(tmp_path_factory, name, columns, rows, separator):
    lines = "\n".join(separator.join(cells) for cells in [columns, *rows])
    reads(TABLES[name], written(tmp_path_factory, "items.csv", lines))


def toml(tree) -> str:
    """Write a value as TOML; what TOML cannot hold is left as JSON writes it."""
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(toml, tree)) + "]"
    return repr(tree) if isinstance(tree, float) else json.dumps(tree)


@given(name=st.sampled_from(list(TOML)), tree=st.dictionaries(NAMES, TREES, max_size=4))
@example(name="prompts", tree={"sentences": ["{name:99999999999}"]})
@example(name="prompts", tree={"sentences": ["{name.__class__}"]})
@example(name="job", tree={"label": {"seed": float("inf")}})
def test_hostile_items_in_toml(tmp_path_factory, name, tree):
    lines = "\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in tree.items())
    reads(TOML[name], written(tmp_path_factory, "items.toml", lines))


@pytest.mark.parametrize("name", [*JSON, *LINES, *TABLES, *TOML])
def test_no_reader_waits_for_a_pipe_or_reads_a_device(tmp_path, name):
    for kind, readers in ((".json", JSON), (".jsonl", LINES), (".csv", TABLES), (".toml", TOML)):
        if name not in readers:
            continue
        pipe = tmp_path / f"power{kind}"
        os.mkfifo(pipe)
        device = tmp_path / f"zero{kind}"
        device.symlink_to("/dev/zero")
        for file in (pipe, device):
            refusals = []

            def read(file=file, readers=readers, refusals=refusals):
                try:
                    return readers[name](file)
                except WorkbenchError as error:
                    refusals.append(error)
                    raise

            assert survives(read) is None
            assert isinstance(refusals[0], BadInput | WorkbenchError)
