"""Every row of a table is read or accounted for, whatever separates its cells."""

import csv
import io
import json

import pandas
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from feature_store.errors import BadInput, NotFound
from feature_store.tables import SEPARATORS, read_table
from tests.helpers.hostile import survives

TEXTS = [f"people value kindness {number}" for number in range(40)]


def write(tmp_path, name, content, encoding="utf-8"):
    file = tmp_path / name
    file.write_bytes(content.encode(encoding))
    return file


def test_a_quotation_mark_that_closes_nothing_swallows_no_row(tmp_path):
    texts = [*TEXTS]
    texts[5], texts[30] = '"people value kindness', '"family help others'
    rows = "".join(f"{number}\t{text}\n" for number, text in enumerate(texts))
    table = read_table(write(tmp_path, "t.tsv", "id\ttext\n" + rows))
    assert table.texts("text") == texts
    assert "2 quotation marks that open a field" in table.account.line()
    assert "first in line 7" in table.account.line()
    # A mark at the end of a later row does not close the one at the beginning of this row.
    texts[30] = 'family help "others"'
    rows = "".join(f"{number}\t{text}\n" for number, text in enumerate(texts))
    assert read_table(write(tmp_path, "t.tsv", "id\ttext\n" + rows)).texts("text") == texts


def test_quoted_cells_lose_their_quotes_and_keep_their_lines(tmp_path):
    texts = ['say "yes"', "two\nlines, and a comma", "tab\tand; semicolon | bar", "", '"', "a\r\nb"]
    for separator in SEPARATORS:
        written = io.StringIO()
        rows = [["id", "text"], *([f"00{n}", text] for n, text in enumerate(texts))]
        csv.writer(written, delimiter=separator).writerows(rows)
        for name in ("t.csv", "t.TSV"):
            table = read_table(write(tmp_path, name, written.getvalue()))
            assert table.texts("text") == texts
            assert table.texts("id") == ["000", "001", "002", "003", "004", "005"]
            assert (table.account.read, table.account.rows) == (6, 6)


def test_a_cell_that_may_have_swallowed_a_row_is_said(tmp_path):
    for name, content, texts in [
        ("t.csv", 'id,text\n1,"one\n2,two"\n3,three\n', ["one\n2,two", "three"]),
        ("t.tsv", 'text\n"one\ntwo"\nthree\n', ["one\ntwo", "three"]),
    ]:
        table = read_table(write(tmp_path, name, content))
        assert table.texts("text") == texts
        assert "may hold rows of their own, first in line 2" in table.account.line()
    content = 'id,text\n1,"one\nand, of course, two"\n3,three\n'
    assert not read_table(write(tmp_path, "t.csv", content)).account.notes


def test_a_spreadsheet_s_line_that_names_the_separator_is_heeded(tmp_path):
    table = read_table(write(tmp_path, "t.csv", "sep=;\r\ntext;n\r\na, b;1\r\n"))
    assert table.texts("text") == ["a, b"]


def test_words_that_libraries_take_for_nothing_are_texts(tmp_path):
    words = ["NA", "None", "null", "nan", "n/a", "NULL", "-", "007", "1e5", "True"]
    table = read_table(write(tmp_path, "t.csv", "text\n" + "\n".join(words)))
    assert table.texts("text") == words


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_marks_encodings_and_line_ends_do_not_matter(tmp_path, encoding, end):
    content = end.join(["ID; Text ;source", "1;a, b;web", "2;c, d;web", ""])
    table = read_table(write(tmp_path, "t.CSV", content, encoding))
    assert table.texts("text") == table.texts("TEXT") == ["a, b", "c, d"]
    assert list(table.columns) == ["ID", "Text", "source"]
    assert table.where(1).endswith("t.CSV, line 3")


def test_the_header_that_has_a_wanted_column_decides_between_two_separators(tmp_path):
    rows = "text;power, dominance\n" + "".join(f"{text}, so;1\n" for text in TEXTS)
    table = read_table(write(tmp_path, "t.csv", rows), ["text"])
    assert table.texts("text") == [f"{text}, so" for text in TEXTS]
    # A comma in the texts of a single column separates nothing.
    single = read_table(write(tmp_path, "t.csv", "text\none, two\n" + '"three, four"\n'))
    assert single.texts("text") == ["one, two", "three, four"]


def test_rows_with_other_cells_are_counted_and_many_of_them_refused(tmp_path):
    rows = "".join(f"{number},{text}\n" for number, text in enumerate(TEXTS))
    file = write(tmp_path, "t.csv", f"id,text\n{rows}41,a,b\n42\n43,c,,\n")
    table = read_table(file)
    assert table.texts("text") == [*TEXTS, "c"]
    assert table.account.line() == (
        "t.csv: 41 of 43 rows read (2 with other cells than the header's 2, first in line 42)"
    )
    with pytest.raises(BadInput, match="Put these rows right"):
        table.whole()
    with pytest.raises(BadInput, match="2 of 3 rows have another number of cells.* in line 2"):
        read_table(write(tmp_path, "t.csv", "id,text\n1,a,b\n2,c,d\n3,e\n"))


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("t.csv", "Text,id,text\na,1,b\n", BadInput, "2 columns called 'Text'"),
        ("t.jsonl", '{"Text": "a", "text": "b"}', BadInput, "2 columns called 'Text'"),
        ("t.jsonl", '{"text": "a"}\n"b"', BadInput, "line 2: each line must be"),
        ("t.jsonl", "[1]", BadInput, "line 1: each line must be"),
        ("t.csv", " \n\n", BadInput, "cannot be read as csv"),
        ("t.csv", "The dog ran.\nThe cat sat.\n", BadInput, "reads like a text"),
        ("t.xlsx", "x", BadInput, "no table that is read here"),
        ("t.parquet", "PAR1", BadInput, "cannot be read as parquet"),
        ("t.csv", "id,txt\n1,a\n", NotFound, "no column 'text'; it has id, txt"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, name, content, error, message):
    with pytest.raises(error, match=message) as caught:
        read_table(write(tmp_path, name, content)).texts("text")
    assert str(caught.value).isprintable()


def test_typed_tables_give_texts_and_refuse_lists(tmp_path):
    frame = pandas.DataFrame({"Text": ["a", None, "c"], "n": [1, 2, 3], "l": [[1], [2], [3]]})
    frame.to_parquet(tmp_path / "t.PARQUET")
    lines = [{"Text": "a", "n": 1, "l": [1]}, {"n": 2, "l": [2]}, {"Text": "c", "n": 3, "l": [3]}]
    write(tmp_path, "t.JSONL", "\n".join(map(json.dumps, lines)))
    for name in ("t.PARQUET", "t.JSONL"):
        table = read_table(tmp_path / name)
        assert table.texts("text") == ["a", "", "c"]
        assert table.texts("n") == ["1", "2", "3"]
        with pytest.raises(BadInput, match=r"(line|row) 1: 'l' should hold a text, got \[1\]"):
            table.texts("l")


def test_a_nameless_column_is_called_by_its_number(tmp_path):
    file = tmp_path / "t.csv"
    pandas.DataFrame({"text": ["a"]}).to_csv(file)
    assert list(read_table(file).columns) == ["column 1", "text"]


CELL = st.text(st.sampled_from('ab "\n,;|é'), max_size=8)
ROWS = st.integers(2, 4).flatmap(
    lambda width: st.lists(st.lists(CELL, min_size=width, max_size=width), max_size=6)
)


@given(rows=ROWS, separator=st.sampled_from(SEPARATORS))
def test_what_a_csv_writer_writes_is_read_as_it_was(tmp_path_factory, rows, separator):
    rows = [[cell.replace(separator, "") for cell in row] for row in rows]
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    header = ["text", "b", "c", "d"][: len(rows[0])] if rows else ["text", "b"]
    written = io.StringIO()
    csv.writer(written, delimiter=separator, lineterminator="\n").writerows([header, *rows])
    file = tmp_path_factory.getbasetemp() / "written.csv"
    file.write_bytes(written.getvalue().encode())
    table = read_table(file, ["text"])
    assert [list(row) for row in zip(*table.columns.values(), strict=True)] == rows


PARTS = [*'ab",;|\t\n\r{}[]: ', '""', "text", "é", "\u2028", "\x00", "null", "\\ud800", "1e999"]
CONTENT = st.one_of(
    st.binary(max_size=100),
    st.lists(st.sampled_from(PARTS), max_size=60).map(lambda parts: "".join(parts).encode()),
)


@given(content=CONTENT, suffix=st.sampled_from([".csv", ".TSV", ".jsonl", ".parquet"]))
@example(content=b'"' * 100_000, suffix=".csv")
@example(content=b'text\n"' * 20_000, suffix=".csv")
@example(content=b'text,b\n"a""b\n' * 20_000, suffix=".csv")
def test_hostile_tables(tmp_path_factory, content, suffix):
    file = tmp_path_factory.getbasetemp() / f"hostile{suffix}"
    file.write_bytes(content)
    table = survives(lambda: read_table(file, ["text"]))
    if table is not None:
        assert table.account.read == len(table)
        assert table.account.line().isprintable()
        for name in table.columns:
            survives(lambda name=name: table.texts(name))
