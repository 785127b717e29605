"""The words of an SAE's contexts: which features fire near a word, answered without reading the contexts.

Looking for a piece of text in a million contexts takes seconds; looking a word up takes milliseconds.

1. `ensure` reads the contexts of a run once and writes two small Parquet files beside the runs, in `.derived/<run>/`:
   `words` (word, feature, ranks: bit r is set where the context of rank r holds the word), sorted by word, and
   `tops` (feature, the tokens on which it fires most strongly).
2. `search` looks words up: all of them in one and the same context, the last one also by its beginning.

The files can be thrown away at any time; they are made again. They are no part of a run and carry no checksum.
Left out: phrases (word order), contexts beyond the 63rd of a feature, and punctuation.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import duckdb

from feature_store.schema import quote
from feature_store.store import Store

WORD = r"[\p{L}\p{M}\p{N}]+|[^\s\p{L}\p{M}\p{N}\p{P}\p{Z}\p{C}]"
"""A run of letters and digits of any script, or one sign (an emoji)."""
TOPS = 6
"""Strongest contexts whose peak token is listed."""

_PREPARE = f"""
    CREATE TEMP TABLE said AS SELECT feature, least(rank, 63)::UTINYINT AS rank, unnest(list_distinct(
        regexp_extract_all(lower(array_to_string(tokens, '')), '{WORD}'))) AS word FROM read_parquet($contexts);
    CREATE TEMP TABLE known AS
        SELECT word, row_number() OVER (ORDER BY word)::INTEGER AS id FROM (SELECT DISTINCT word FROM said);
"""
"""Words are numbered first: grouping and sorting numbers is several times faster than text."""
_FILES = {
    "words": """
        SELECT word, feature, ranks FROM (SELECT id, feature, bit_or((1::UBIGINT << rank)::UBIGINT) AS ranks
            FROM said JOIN known USING (word) GROUP BY id, feature) JOIN known USING (id) ORDER BY id, feature""",
    "tops": f"""
        SELECT feature, string_agg(token, '  ·  ' ORDER BY rank) AS fires_on
        FROM (SELECT feature, replace(trim(tokens[peak + 1], ' '), chr(10), '↵') AS token, min(rank) AS rank
              FROM read_parquet($contexts) WHERE rank < {TOPS} GROUP BY ALL)
        WHERE token <> '' GROUP BY feature ORDER BY feature""",
}


def _folder(store: Store, run: str) -> Path:
    return store.runs.folder / ".derived" / run


def ready(store: Store, run: str) -> bool:
    """Whether the words of a run are looked up already."""
    return all((_folder(store, run) / f"{name}.parquet").exists() for name in _FILES)


def ensure(store: Store, run: str) -> bool:
    """Make the files of a run unless they exist. False where there are no contexts, or nothing may be written."""
    contexts = store.runs.folder / run / "contexts.parquet"
    if ready(store, run) or not contexts.exists():
        return contexts.exists()
    folder = _folder(store, run)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as beside, duckdb.connect() as connection:
            connection.execute(f"SET temp_directory = {quote(beside)}")
            connection.execute(_PREPARE.replace("$contexts", quote(str(contexts))))
            for name, query in _FILES.items():
                file = Path(beside) / name
                found = connection.sql(query.replace("$contexts", quote(str(contexts))))
                found.write_parquet(str(file), compression="zstd", row_group_size=122_880)
                file.replace(folder / f"{name}.parquet")
    except (OSError, duckdb.IOException):
        return False
    return True


def source(store: Store, run: str, name: str) -> str:
    """The SQL that names one of the two files; an empty table of the same columns where it is absent."""
    file = _folder(store, run) / f"{name}.parquet"
    if file.exists():
        return f"read_parquet({quote(str(file))})"
    columns = {"words": "'' AS word, 0 AS feature, 0::UBIGINT AS ranks", "tops": "0 AS feature, '' AS fires_on"}[name]
    return f"(SELECT {columns} WHERE false)"


def split(store: Store, text: str) -> list[str]:
    """The words of a search text, as they are stored."""
    found = store.sql(f"SELECT unnest(regexp_extract_all(lower(?), '{WORD}')) AS word", [text]).word
    return list(dict.fromkeys(found))


def search(store: Store, run: str, words: Sequence[str]) -> tuple[str, list[str]]:
    """SQL and parameters for the features (column `feature`) one of whose contexts holds all the words."""
    table, parts, parameters = source(store, run, "words"), [], []
    for word in words:
        prefix = word is words[-1] and len(word) > 2
        if prefix:  # a range, not LIKE: the file is sorted by word, so DuckDB skips what lies outside
            parts.append(f"SELECT feature, bit_or(ranks) AS ranks FROM {table} WHERE word >= ? AND word <= ? GROUP BY feature")
            parameters += [word, word + chr(0x10FFFF)]
        else:  # a word and a feature meet in one row
            parts.append(f"SELECT feature, ranks FROM {table} WHERE word = ?")
            parameters.append(word)
    joined = " JOIN ".join(f"({part}) AS w{i}" + (" USING (feature)" if i else "") for i, part in enumerate(parts))
    together = " & ".join(f"w{i}.ranks" for i in range(len(parts)))
    return f"SELECT feature FROM {joined} WHERE ({together}) <> 0", parameters
