import pytest

from feature_store import registry
from feature_store.errors import BadInput, NotFound
from workbench import material


@pytest.fixture
def system():
    return registry.get("values", "schwartz10")


def read(tmp_path, system, text, name="table.csv", **settings):
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return material.labelled(material.LabelledSource(str(file), **settings), system)


def test_finer_values_fold_and_disagreement_says_nothing(tmp_path, system):
    told = read(
        tmp_path,
        system,
        "text,Power: dominance,Power: resources,Hedonism\nHi 你好 🙂,1,0,0\nHo,1,-1,0\nHu,0,-1,1\n",
    )
    power, hedonism = system.ids.index("power"), system.ids.index("hedonism")
    assert told.texts == ["Hi 你好 🙂", "Ho", "Hu"]
    assert told.values[:, power].tolist() == [1, 0, -1]
    assert told.values[:, hedonism].tolist() == [0, 0, 1]
    assert told.values.sum() == told.values[:, [power, hedonism]].sum()


def test_marks_in_a_second_table(tmp_path, system):
    (tmp_path / "labels.tsv").write_text("id\tpower\nb\t1\na\t0\n")
    told = read(
        tmp_path,
        system,
        "id\ttext\ttopic\na\tone\tX\nb\ttwo\tY\n",
        "texts.tsv",
        marks=str(tmp_path / "labels.tsv"),
        context_column="topic",
    )
    assert told.values[:, system.ids.index("power")].tolist() == [0, 1]
    assert told.contexts.tolist() == ["X", "Y"]


@pytest.mark.parametrize(
    ("text", "settings", "error", "message"),
    [
        ("text,Pwer\nHi,1\n", {}, NotFound, "Did you mean 'power'.*--ignore"),
        ("text,n\nHi,7\n", {}, BadInput, "no column named after a value"),
        ("text,power\nHi,0\n", {}, BadInput, "marks no text"),
        ("text,power\n,1\n", {}, BadInput, "no text in column"),
        ("words,power\nHi,1\n", {}, NotFound, "no column 'text'; it has words, power"),
        ("text,power\nHi,1\n", {"context_column": "topic"}, NotFound, "no column 'topic'"),
        ("", {}, BadInput, "cannot be read as csv"),
    ],
)
def test_a_bad_table_is_one_clear_line(tmp_path, system, text, settings, error, message):
    with pytest.raises(error, match=message):
        read(tmp_path, system, text, **settings)


def test_a_missing_or_strange_file(tmp_path, system):
    with pytest.raises(NotFound, match="There is no table"):
        material.labelled(material.LabelledSource(str(tmp_path / "x.csv")), system)
    with pytest.raises(BadInput, match="no table that is read here"):
        read(tmp_path, system, "x", "table.xlsx")


def test_built_in_contexts_and_neutral_texts_are_seeded():
    assert material.contexts("", 5, 1) == material.contexts("", 5, 1)
    assert material.contexts("", 5, 1) != material.contexts("", 5, 2)
    assert len(set(material.neutral("", 24, 0))) == 24
    with pytest.raises(BadInput, match="1000 contexts"):
        material.contexts("", 1000, 0)


def test_contexts_of_a_text_file_stand_one_a_line(tmp_path):
    file = tmp_path / "contexts.txt"
    file.write_text(
        "I locked the doors.\n\nThe soup was hot.\n  We were late. \n", encoding="utf-8"
    )
    assert material.contexts(str(file), 3, 0) == [
        "I locked the doors.",
        "The soup was hot.",
        "We were late.",
    ]
    with pytest.raises(BadInput, match="has 3"):
        material.contexts(str(file), 4, 0)
