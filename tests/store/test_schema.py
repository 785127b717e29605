from pathlib import Path

import duckdb

import feature_store
from feature_store import schema

FLOOR = Path(feature_store.__file__).parent


def test_what_duckdb_reads_is_what_the_files_declare():
    with duckdb.connect() as connection:
        connection.execute(schema.tables())
        connection.execute(schema.comments())
        columns = connection.execute(
            "SELECT table_name, column_name, data_type, comment FROM duckdb_columns() "
            "WHERE database_name = 'memory' ORDER BY table_oid, column_index"
        ).fetchall()
        tables = connection.execute(
            "SELECT table_name, comment FROM duckdb_tables() ORDER BY table_oid"
        ).fetchall()
    declared = schema.relations()
    assert tables == [(relation.name, relation.comment) for relation in declared]
    assert columns == [
        (relation.name, column.name, column.type, column.comment)
        for relation in declared
        for column in relation.columns
    ]


def test_nothing_is_declared_twice_and_every_comment_is_written():
    names = [relation.name for relation in schema.relations()]
    assert len(set(names)) == len(names)
    for relation in schema.relations():
        columns = [column.name for column in relation.columns]
        assert columns[0] == "run"
        assert len(set(columns)) == len(columns), relation.name
        assert relation.comment
        assert all(column.comment and "@" not in column.comment for column in relation.columns), (
            relation.name
        )


def test_the_ends_of_an_interval_name_its_column_and_carry_its_unit():
    comments = {
        f"{relation.name}.{column.name}": column.comment
        for relation in schema.relations()
        for column in relation.columns
    }
    assert comments["leakage.low"] == "lower end of the 95 % interval of leakage [ratio]"
    assert comments["leakage.high"] == "upper end of the 95 % interval of leakage [ratio]"
    assert (
        comments["kang_control.up_high"]
        == "upper end of the 95 % interval of up after Wilson [0 to 1]"
    )
    assert comments["transitivity.low"] == "2.5 % quantile of the cycles over bootstrapped dilemmas"
    assert (
        comments["contrasts.low"]
        == "lower end of the 95 % interval of difference over clusters [as before]"
    )


def test_records_and_queries_are_named_like_the_schema():
    ideas = set(schema.ideas()) | {"values"}  # values are records only: they are never stored
    for folder in ("records", "queries"):
        names = {file.stem for file in (FLOOR / folder).glob("*.py")} - {"__init__"}
        assert names <= ideas, (folder, names - ideas)
