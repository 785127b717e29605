import random
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from feature_store import registry
from feature_store.errors import BadInput, NotFound
from tests.helpers.hostile import survives
from workbench import material
from workbench.material.marks import Scale


@pytest.fixture
def system():
    return registry.get("values", "schwartz10")


def read(tmp_path, system, text, name="table.csv", **settings):
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return material.labelled(material.LabelledSource(str(file), **settings), system)


def test_finer_values_fold_and_disagreement_says_nothing(tmp_path, system):
    table = (
        "text,Power: dominance,Power: resources,Hedonism\nHi 你好 🙂,1,0,0\nHo,1,-1,0\nHu,0,-1,1\n"
    )
    with pytest.warns(UserWarning, match="1 marks hold and reject a value at once"):
        told = read(tmp_path, system, table)
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


def held(documents, system, value="power"):
    """The marks of a value, in the order of the texts."""
    return documents.values[:, system.ids.index(value)].tolist()


WORDS = {1: "yes", 0: "no", -1: "-1", 0.5: ".5", -0.5: "-0.50"}
"""Other spellings of marks."""


@pytest.mark.parametrize("spelling", ["1.0", "True", "words", "blank", "bool"])
def test_no_cell_of_a_mark_makes_a_value_vanish(tmp_path, system, spelling):
    drawn = random.Random(0)
    marks = [drawn.choice([0, 1]) if number > 7 else 1 for number in range(300)]
    if spelling == "blank":  # 14 of 300 cells are filled
        marks = [float(number < 14) for number in range(300)]
    spell = {
        "1.0": float,
        "True": lambda m: m == 1,
        "words": WORDS.get,
        "blank": lambda m: 1 if m else "",
        "bool": bool,
    }[spelling]
    frame = pd.DataFrame({"text": [f"text {n}" for n in range(300)], "n": range(300)})
    frame["power"] = [spell(mark) for mark in marks]
    frame["hedonism"] = 0
    frame.to_csv(tmp_path / "t.csv", index=False)
    files = ["t.csv"]
    if spelling not in ("blank",):
        frame.to_parquet(tmp_path / "t.parquet")
        files.append("t.parquet")
    for name in files:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            told = material.labelled(material.LabelledSource(str(tmp_path / name)), system)
        assert held(told, system) == marks
        assert told.account == f"{name}: 300 of 300 rows read; no value: n"


def test_halves_are_marks_and_a_half_of_both_poles_says_nothing(tmp_path, system):
    """Touché24 writes a column a pole, and 0.5 in both where a text leaves it open."""
    header = ["Power: dominance", "Hedonism"]
    columns = [f"{name} {pole}" for name in header for pole in ("attained", "constrained")]
    rows = ["1,0,0,0", "0,1,0,0", "0.5,0.5,0,0.5", "0,0,0.5,0", "0,0,,"]
    table = "text," + ",".join(columns) + "\n" + "".join(f"t,{row}\n" for row in rows)
    with pytest.warns(UserWarning, match="1 marks hold and reject a value at once"):
        told = read(tmp_path, system, table)
    assert held(told, system) == [1, -1, 0, 0, 0]
    assert held(told, system, "hedonism") == [0, 0, -0.5, 0.5, 0]


@pytest.mark.parametrize(
    ("scale", "cells", "expected"),
    [
        ("0-2", [0, 1, 2, 0.5], [0, 0.5, 1, 0]),
        ("1-5", [1, 2, 3, 4], [0, 0, 0.5, 0.75]),
        ("-2-2", [-2, -1, 0, 2], [-1, -0.5, 0, 1]),
        ("0 to 100", [10, 50, 100, 49], [0, 0.5, 1, 0]),
    ],
)
def test_another_scale_is_named(tmp_path, system, scale, cells, expected):
    table = "text,power\n" + "".join(f"t,{cell}\n" for cell in cells)
    assert held(read(tmp_path, system, table, scale=scale), system) == expected
    with pytest.raises(BadInput, match="column 'power': .* is no mark"):
        read(tmp_path, system, table + "t,101\n", scale=scale)


@pytest.mark.parametrize("scale", ["2", "2-0", "-1-2", "0-0", "a-b", "0-2-4", "0-inf"])
def test_a_scale_that_is_none_is_refused(scale):
    with pytest.raises(BadInput, match=r"--scale names the smallest"):
        Scale.parse(scale)


@pytest.mark.parametrize("cell", ["2", "maybe", "NA", "1,5", "0.7", "inf", "1_0", "\u0661", "--1"])
def test_what_is_no_mark_is_refused_with_its_place(tmp_path, system, cell):
    rows = "".join("t\t1\t0\n" for _ in range(200))
    with pytest.raises(BadInput, match=r"line 202, column 'Hedonism': '.*' is no mark.*--scale"):
        read(tmp_path, system, f"text\tpower\tHedonism\n{rows}t\t0\t{cell}\n", "t.tsv")


def test_a_column_of_marks_with_one_odd_cell_and_no_value_s_name_is_refused(tmp_path, system):
    rows = "".join(f"t,1,{int(n == 3) or 7 * (n == 5)}\n" for n in range(20))
    with pytest.raises(NotFound, match="'powr' is not a value.*Did you mean 'power'"):
        read(tmp_path, system, "text,hedonism,powr\n" + rows)
    told = read(tmp_path, system, "text,hedonism,powr\n" + rows, ignored_columns=["POWR"])
    assert told.values.sum() == 20


def test_a_join_counts_what_stands_on_one_side_only(tmp_path, system):
    def joined(texts, labelled, ids="id"):
        (tmp_path / "labels.csv").write_text("ID,power\n" + "".join(f"{id},1\n" for id in labelled))
        table = f"{ids}\ttext\n" + "".join(f"{id}\ttext {id}\n" for id in texts)
        return read(tmp_path, system, table, "t.tsv", marks=str(tmp_path / "labels.csv"))

    numbers = [f"{number:03d}" for number in range(20)]
    told = joined(numbers, reversed(numbers))
    assert told.texts == [f"text {number}" for number in numbers]
    assert told.account == "t.tsv: 20 of 20 rows read"
    with pytest.warns(UserWarning, match=r"2 without marks in labels.csv.*1 rows of labels.csv"):
        told = joined([*numbers, "021", "022"], [*numbers, "099"])
    assert len(told.texts) == 20
    with pytest.raises(BadInput, match=r"7 of 27 texts have no marks \(the first: id '100'\)"):
        joined([*numbers, *range(100, 107)], numbers)
    with pytest.raises(BadInput, match="have no id in common"):
        joined(numbers, range(20))  # 7 is not 007
    with pytest.raises(BadInput, match=r"line 22: id '019' stands already in .*line 21"):
        joined([*numbers, "019"], numbers)
    with pytest.raises(BadInput, match="share no column"):
        joined(numbers, numbers, "name")


def test_lost_rows_are_counted_and_warned_of(tmp_path, system):
    table = "text,power\none,1\n,1\ntwo,\nthree,0,4\n"
    with pytest.warns(UserWarning, match="table.csv: 2 of 4 rows read") as caught:
        told = read(tmp_path, system, table)
    assert told.texts == ["one", "two"]
    assert told.account == str(caught[0].message)
    assert told.account.split("; ") == [
        "table.csv: 2 of 4 rows read (1 with other cells than the header's 2, first in line 5",
        "1 without text)",
        "1 rows without any mark are read as holding no value",
    ]


MARKED = st.lists(
    st.tuples(st.text(max_size=5), st.sampled_from([*"012.-,; ", "", "yes", "NA", '"', "1e9"])),
    max_size=8,
)


@given(rows=MARKED, header=st.sampled_from(["power", "Powr", "id", "Face attained", ""]))
@example(rows=[("a", "1")], header="power")
def test_hostile_labelled_tables(tmp_path_factory, rows, header):
    system = registry.get("values", "schwartz10")
    file = tmp_path_factory.getbasetemp() / "hostile-marks.csv"
    content = f"text,{header}\n" + "".join(f"{text},{mark}\n" for text, mark in rows)
    file.write_bytes(content.encode("utf-8", "surrogatepass"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        told = survives(lambda: material.labelled(material.LabelledSource(str(file)), system))
    if told is not None:
        assert len(told.texts) == len(told.values) == len(told.contexts) > 0
        assert np.isin(told.values, (-1, -0.5, 0, 0.5, 1)).all()


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
