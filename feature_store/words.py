"""The words of an SAE's contexts: which features fire near a word, without reading the contexts.

Looking for a piece of text in a million contexts takes seconds; looking a word up takes
milliseconds.

1. `ensure` reads the contexts of a run once and writes two small Parquet files beside the runs, in
   `.derived/<run>/`: `words` (word, feature, ranks: bit r is set where the context of rank r holds
   the word), sorted by word, and `tops` (feature, the tokens on which it fires most strongly).
2. `search` looks words up: all of them in one and the same context, the last one also by its
   beginning.

The files can be thrown away at any time; they are made again. They are no part of a run and carry
no checksum. Left out: phrases (word order), contexts beyond the 63rd of a feature, and
punctuation.
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
    CREATE TEMP TABLE said AS
        SELECT feature, least(rank, 63)::UTINYINT AS rank, unnest(list_distinct(
            regexp_extract_all(lower(array_to_string(tokens, '')), '{WORD}'))) AS word
        FROM read_parquet($contexts);
    CREATE TEMP TABLE known AS
        SELECT word, row_number() OVER (ORDER BY word)::INTEGER AS id
        FROM (SELECT DISTINCT word FROM said);
"""
"""Words are numbered first: grouping and sorting numbers is several times faster than text."""
_FILES = {
    "words": (
        """
        SELECT word, feature, ranks FROM (
            SELECT id, feature, bit_or((1::UBIGINT << rank)::UBIGINT) AS ranks
            FROM said JOIN known USING (word) GROUP BY id, feature) JOIN known USING (id)
        ORDER BY id, feature"""
    ),
    "tops": (
        f"""
        SELECT feature, string_agg(token, '  ·  ' ORDER BY rank) AS fires_on
        FROM (SELECT feature, replace(trim(tokens[peak + 1], ' '), chr(10), '↵') AS token,
                     min(rank) AS rank
              FROM read_parquet($contexts) WHERE rank < {TOPS} GROUP BY ALL)
        WHERE token <> '' GROUP BY feature ORDER BY feature"""
    ),
}
_EMPTY = {
    "words": "'' AS word, 0 AS feature, 0::UBIGINT AS ranks",
    "tops": "0 AS feature, '' AS fires_on",
}
"""The columns of each file, to stand for it where it is absent."""


def ready(store: Store, run: str) -> bool:
    """Whether the files of a run are made already."""
    return all((_folder(store, run) / f"{name}.parquet").exists() for name in _FILES)


def ensure(store: Store, run: str) -> bool:
    """Make the files of a run unless they exist.

    False where there are no contexts, or nothing may be written.
    """
    contexts = store.runs.folder / run / "contexts.parquet"
    if ready(store, run) or not contexts.exists():
        return contexts.exists()
    try:
        _make(contexts, _folder(store, run))
    except (OSError, duckdb.IOException):
        return False
    return True


def source(store: Store, run: str, name: str) -> str:
    """The SQL that names one of the two files; an empty table of its columns where it is absent."""
    file = _folder(store, run) / f"{name}.parquet"
    if file.exists():
        return store.derived(file)
    return f"(SELECT {_EMPTY[name]} WHERE false)"


def split(store: Store, text: str) -> list[str]:
    """The words of a search text, as they are stored."""
    query = f"SELECT unnest(regexp_extract_all(lower(?), '{WORD}')) AS word"
    return list(dict.fromkeys(store.sql(query, [text]).word))


def search(store: Store, run: str, words: Sequence[str]) -> tuple[str, list[str]]:
    """Look for the features one of whose contexts holds all the words.

    Returns SQL with one column, `feature`, and its parameters.
    """
    table = source(store, run, "words")
    joins: list[str] = []
    ranks: list[str] = []
    parameters: list[str] = []
    for number, word in enumerate(words):
        if word is words[-1] and len(word) > 2:
            # A range, not LIKE: the file is sorted by word, so DuckDB skips what lies outside.
            part = (
                f"SELECT feature, bit_or(ranks) AS ranks FROM {table} "
                "WHERE word >= ? AND word <= ? GROUP BY feature"
            )
            parameters += [word, word + chr(0x10FFFF)]
        else:  # a word and a feature meet in one row
            part = f"SELECT feature, ranks FROM {table} WHERE word = ?"
            parameters.append(word)
        joins.append(f"({part}) AS w{number}" + (" USING (feature)" if number else ""))
        ranks.append(f"w{number}.ranks")
    query = f"SELECT feature FROM {' JOIN '.join(joins)} WHERE ({' & '.join(ranks)}) <> 0"
    return query, parameters


def _folder(store: Store, run: str) -> Path:
    return store.runs.folder / ".derived" / run


def _make(contexts: Path, folder: Path) -> None:
    """Write both files, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    file_of_contexts = quote(str(contexts))
    with tempfile.TemporaryDirectory(dir=folder) as beside, duckdb.connect() as connection:
        connection.execute(f"SET temp_directory = {quote(beside)}")
        connection.execute(_PREPARE.replace("$contexts", file_of_contexts))
        for name, query in _FILES.items():
            file = Path(beside) / name
            rows = connection.sql(query.replace("$contexts", file_of_contexts))
            rows.write_parquet(str(file), compression="zstd", row_group_size=122_880)
            file.replace(folder / f"{name}.parquet")
