"""Queries of strangers: which ones may be asked of the store.

`refuse_writes` lets one SELECT pass (also what DuckDB makes one: VALUES, FROM, DESCRIBE, SUMMARIZE,
SHOW), or an EXPLAIN of one. It looks at DuckDB's own tree of the statement, not at its words:

1. every part of it that gives rows is a SELECT, and none a DELETE, an INSERT or a COPY, which may
   stand within a WITH;
2. rows come from relations of the store, or from `FUNCTIONS`, which make them out of nothing. What
   reads a file (by its name in FROM, too), runs a text as SQL, or takes an address in memory is
   refused;
3. no function of `CHANGING` is called.

Left out: how long a query takes, and how much memory. Ctrl-C ends it, and DuckDB limits its memory.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import duckdb

from feature_store.errors import BadInput
from feature_store.files import shown

FUNCTIONS = frozenset(
    {
        "duckdb_columns",
        "duckdb_functions",
        "duckdb_keywords",
        "duckdb_tables",
        "duckdb_types",
        "duckdb_views",
        "generate_series",
        "json_each",
        "json_tree",
        "pragma_table_info",
        "pragma_version",
        "range",
        "repeat",
        "repeat_row",
        "unnest",
    }
)
"""Functions that may stand in FROM."""
CHANGING = frozenset({"currval", "getenv", "nextval", "setseed", "setval", "write_log"})
"""Functions of a value that change something, or read what is not the study's."""
SELECTS = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
"""Parts of DuckDB's tree that only read."""
CATALOGS = frozenset({"", "memory", "declared", "system"})
"""Catalogs of the store's connection, and none."""
SCHEMAS = frozenset({"", "main", "information_schema", "pg_catalog"})
"""Schemas of these catalogs, and none."""
_FILE = re.compile(
    r"[./\\\\:*?\[]|^(csv|tsv|parquet|json|jsonl|ndjson|gz|zst|db|duckdb)$", re.IGNORECASE
)
"""What makes DuckDB take a name in FROM for that of a file, or `a.csv` for a relation of `a`."""
_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(ANALYZE\s+)?", re.IGNORECASE)
_NO_RELATION = "The store reads its relations, and not {}. `workbench sql STUDY` lists them."
_HINT = (
    "The store answers one question and changes nothing. Ask with SELECT, e.g. SELECT * FROM runs."
)


def refuse_writes(query: str, connection: duckdb.DuckDBPyConnection) -> None:
    """Raise BadInput for a query that is not one SELECT over the store's relations.

    Raises `duckdb.Error` for one that DuckDB cannot parse. `connection` is used for its parser.
    """
    kinds = [statement.type for statement in connection.extract_statements(query)]
    if kinds == [duckdb.StatementType.EXPLAIN]:
        # At the very start only: a comment that holds the word could swallow a line with it.
        prefix = _EXPLAIN.match(query)
        query = query[prefix.end() :] if prefix else ""
        kinds = [statement.type for statement in connection.extract_statements(query)]
    if kinds != [duckdb.StatementType.SELECT]:
        raise BadInput(_HINT)
    ((text,),) = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchall()
    try:
        tree = json.loads(text)
    except RecursionError:
        raise BadInput("The query is nested too deeply. Ask a shorter one.") from None
    if tree.get("error", True) or len(tree["statements"]) != 1:
        raise BadInput(_HINT)
    for part in _parts(tree):
        _check(part)


def _parts(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object within a tree, however deep it is."""
    left = [tree]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            yield part
            left += part.values()
        elif isinstance(part, list):
            left += part


def _check(part: dict[str, Any]) -> None:
    """Raise BadInput for a part of a tree that changes something, or reads what is no relation."""
    kind = str(part.get("type"))
    if "info_type" in part or (kind.endswith("_NODE") and kind not in SELECTS):
        raise BadInput(_HINT)
    function = str(part.get("function_name")).lower()
    if function in CHANGING:
        raise BadInput(_HINT)
    if kind == "TABLE_FUNCTION" and _function_of(part) not in FUNCTIONS:
        raise BadInput(_NO_RELATION.format(shown(_function_of(part))))
    if kind in ("BASE_TABLE", "SHOW_REF"):
        name, schema, catalog = (
            str(part[key]) for key in ("table_name", "schema_name", "catalog_name")
        )
        if _FILE.search(name) or schema not in SCHEMAS or catalog not in CATALOGS:
            raise BadInput(_NO_RELATION.format(shown(name)))


def _function_of(part: dict[str, Any]) -> str:
    """Name of a function in FROM; every one but a plain call is refused by an empty name."""
    return str(part["function"].get("function_name", "")).lower()
