"""The texts a study is made of: what an SAE reads, what labels it, what is neutral, what stands
before a question.

1. A source of texts is the word `organism` (the generator of the shipped model writes them) or the
   path of a file.
2. `labelled` reads a value-labelled table. It holds a text, a column for each value (1 held, -1
   rejected, 0 or empty neither) and, optionally, the context within which texts are compared (a
   topic, a debate's conclusion). Finer values fold into those of the study; an unknown column of
   marks is refused with the nearest value.
3. Contexts and neutral sentences default to `material.toml`.
"""

import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int8

from feature_store.errors import BadInput, NotFound
from feature_store.records import ValueSystem
from sae_training.dictionary.texts import read_texts
from workbench import organism

ORGANISM = "organism"
BUILT_IN = Path(__file__).with_name("material.toml")
HELD_OUT_SHIFT = 1_000_003
"""Added to the seed of the organism's contexts that measure, to write those that choose."""


class LabelledSource(NamedTuple):
    """Where value-labelled texts stand, and what the columns of their table mean."""

    texts: str
    """`organism`, or a table with one text a row."""
    marks: str = ""
    """Second table with the values' columns, joined by the columns that both have; empty: the
    values stand in the first."""
    text_column: str = "text"
    """Column that holds the text."""
    context_column: str = ""
    """Column with what texts are compared within, such as a topic; empty: all with all."""
    ignored_columns: Sequence[str] = ()
    """Columns of numbers that are not a value."""


class LabelledDocuments(NamedTuple):
    """Texts with the values that each of them holds or rejects."""

    texts: list[str]
    """One entry a document."""
    values: Int8[np.ndarray, "document value"]
    """1: the value is held, -1: it is rejected, 0: neither; columns in circle order."""
    contexts: np.ndarray
    """What documents are compared within: a topic; one empty string for all where none is known
    [document]."""


def model_address(model: str) -> str:
    """Translate the word `organism` to the folder of the shipped model; keep any other address."""
    return str(organism.folder()) if model == ORGANISM else model


def is_organism(model: str) -> bool:
    """Whether a model's name means the shipped organism, which speaks a small language only."""
    return model == ORGANISM


def default_source(model: str) -> str:
    """Name the source of texts that suits a model: `organism` for it, else empty (built in)."""
    return ORGANISM if is_organism(model) else ""


def texts(source: str, n: int, seed: int) -> list[str]:
    """Read at most `n` texts: a seeded sample, in the order of the source.

    0 means all of them (20,000 of the organism's).
    """
    if source == ORGANISM:
        return organism.training_texts(n or 20_000, seed)
    return sample(read_texts(Path(source)), n, seed)


def neutral(source: str, n: int, seed: int) -> list[str]:
    """Read the neutral texts on which the damage of a steering is measured.

    They are the organism's, a file's, or the built-in sentences (empty source).
    """
    _at_least_one(n, "neutral")
    if source == ORGANISM:
        return organism.neutral_texts(n, seed)
    return sample(read_texts(Path(source)) if source else _built_in("neutral"), n, seed)


def contexts(source: str, n: int, seed: int) -> list[str]:
    """Read the contexts: short texts that stand before a question.

    They are the organism's, the lines of a file, or the built-in ones (empty source). Raises
    BadInput where the source has fewer than `n`.
    """
    _at_least_one(n, "contexts")
    if source == ORGANISM:
        return organism.contexts(n, seed)
    return sample(_listed_contexts(source, n), n, seed)


def held_contexts(source: str, n: int, seed: int) -> list[str]:
    """Read contexts to choose by, other ones than those that `contexts` with this seed measures by.

    What is chosen by a measurement looks better in it than it is, so both use different contexts as
    far as the source has enough. The organism writes new ones; of a list they are the last of the
    drawn order whose first ones `contexts` takes.
    """
    _at_least_one(n, "contexts")
    if source == ORGANISM:
        return organism.contexts(n, seed + HELD_OUT_SHIFT)
    listed = _listed_contexts(source, n)
    drawn = np.random.default_rng(seed).permutation(len(listed))
    return [listed[place] for place in np.sort(drawn[len(listed) - n :])]


def _listed_contexts(source: str, n: int) -> list[str]:
    """All contexts of a file or of the built-in list, which must be at least `n`."""
    listed = lines(source) if source else _built_in("contexts")
    if len(listed) < n:
        raise BadInput(
            f"{n} contexts were asked for, {source or 'the built-in list'} has {len(listed)}. Ask"
            " for fewer, or give a file with more."
        )
    return listed


def _built_in(name: str) -> list[str]:
    """A list of texts that ships with the workbench."""
    return list(tomllib.loads(BUILT_IN.read_text("utf-8"))[name])


def _at_least_one(n: int, what: str) -> None:
    if n < 1:
        raise BadInput(f"Nothing is measured without {what}: --n-{what} is at least 1, got {n}.")


def lines(source: str) -> list[str]:
    """Read the texts of a file with one a line, or of a table with one a row."""
    texts = read_texts(source)
    if Path(source).suffix.lower() != ".txt":
        return texts
    return [line.strip() for text in texts for line in text.splitlines() if line.strip()]


def labelled(
    source: LabelledSource, system: ValueSystem, n: int = 0, seed: int = 0
) -> LabelledDocuments:
    """Read value-labelled texts: at most `n`, drawn by `seed`; 0 means all.

    Raises NotFound for a column that the table lacks or that names no value of `system`, BadInput
    for a table without texts or without marks. The organism writes 12,000 where `n` is 0.

        labelled(LabelledSource("arguments.csv", text_column="Premise"), system)
    """
    if source.texts == ORGANISM:
        return _organism_documents(system, n or 12_000, seed)
    frame = table(Path(source.texts))
    if source.marks:
        frame = _join(frame, table(Path(source.marks)), source.texts, source.marks)
    text, context = source.text_column, source.context_column
    for column in filter(None, (text, context)):
        if column not in frame:
            raise NotFound(
                f"{source.texts} has no column {column!r}; it has"
                f" {', '.join(map(str, frame.columns))}."
            )
    marks = _marks(frame, [text, context, *source.ignored_columns], system, source.texts)
    filled = frame[text].notna() & (frame[text].astype(str).str.strip() != "")
    frame, marks = frame[filled], marks[filled.to_numpy()]
    if not len(frame):
        raise BadInput(
            f"{source.texts} holds no text in column {text!r}. Give a table with one text a row."
        )
    if not marks.any():
        raise BadInput(
            f"{source.texts} marks no text with a value. A value's column holds 1 where it is held"
            " and -1 where it is rejected."
        )
    drawn = np.sort(np.random.default_rng(seed).permutation(len(frame))[: n or len(frame)])
    groups = frame[context].astype(str).to_numpy() if context else np.full(len(frame), "")
    chosen = [str(document) for document in frame[text].iloc[drawn]]
    return LabelledDocuments(chosen, marks[drawn], groups[drawn])


def _organism_documents(system: ValueSystem, n: int, seed: int) -> LabelledDocuments:
    """What the organism's generator writes, its labels as marks of the study's values."""
    documents = organism.labelled_texts(n, seed)
    marks = np.zeros((len(documents), len(system.ids)), np.int8)
    for row, document in enumerate(documents):
        for value, sign in document.labels.items():
            marks[row, system.ids.index(system.resolve(value))] = sign
    topics = np.array([document.context for document in documents])
    return LabelledDocuments([document.text for document in documents], marks, topics)


def sample(texts: list[str], n: int, seed: int) -> list[str]:
    """Draw `n` of the texts by a seed and keep their order; all where n is 0 or too large."""
    if not n or n >= len(texts):
        return list(texts)
    drawn = np.random.default_rng(seed).permutation(len(texts))[:n]
    return [texts[place] for place in np.sort(drawn)]


def table(file: Path) -> pd.DataFrame:
    """Read a .csv, .tsv, .jsonl or .parquet file.

    Raises NotFound where there is none, BadInput where it cannot be read.
    """
    if not file.exists():
        raise NotFound(f"There is no table {file}. Give a .csv, .tsv, .jsonl or .parquet file.")
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".csv": pd.read_csv,
        ".tsv": lambda f: pd.read_csv(f, sep="\t", quoting=3),
        ".jsonl": lambda f: pd.read_json(f, lines=True),
        ".parquet": pd.read_parquet,
    }
    if file.suffix not in readers:
        raise BadInput(
            f"{file.name} is no table that is read here. Give a .csv, .tsv, .jsonl or .parquet"
            " file."
        )
    try:
        return readers[file.suffix](file)
    except (ValueError, OSError) as error:
        raise BadInput(
            f"{file} cannot be read as {file.suffix[1:]}: {str(error).splitlines()[0]}"
        ) from None


def _join(frame: pd.DataFrame, marks: pd.DataFrame, source: str, labels: str) -> pd.DataFrame:
    shared = [column for column in frame.columns if column in marks.columns]
    if not shared:
        raise BadInput(
            f"{source} and {labels} share no column to join them by. Give both an id column of the"
            " same name."
        )
    try:
        joined = frame.merge(marks, on=shared, how="inner", validate="one_to_one")
    except ValueError as error:  # a row that stands there twice, or ids of different types
        raise BadInput(
            f"{source} and {labels} cannot be joined by {', '.join(shared)}:"
            f" {str(error).splitlines()[0]}. Give every text one row in each."
        ) from None
    if joined.empty:
        raise BadInput(
            f"{source} and {labels} have no {', '.join(shared)} in common. Give both the same ids."
        )
    return joined


def _marks(
    frame: pd.DataFrame, skip: Sequence[str], system: ValueSystem, source: str
) -> Int8[np.ndarray, "document value"]:
    """The columns of marks, folded into the values of the system: 1 held, -1 rejected, 0 neither.

    Held and rejected at once (two finer values that disagree) says nothing about the coarser value.
    """
    columns = [column for column in frame.columns if column not in skip]
    columns = [column for column in columns if _holds_marks(frame[column])]
    if not columns:
        raise BadInput(
            f"{source} has no column named after a value of {system.id} ({', '.join(system.ids)})."
            " Add one a value, with marks 1, 0, -1."
        )
    held = np.zeros((len(frame), len(system.ids)), bool)
    rejected = np.zeros_like(held)
    for column in columns:
        try:
            place = system.ids.index(system.resolve(str(column)))
        except NotFound as error:
            raise NotFound(
                f"{source}: {error} Leave a column that is not a value out with --ignore"
                f" {str(column)!r}."
            ) from None
        numbers = pd.to_numeric(frame[column], errors="coerce")
        held[:, place] |= (numbers == 1).to_numpy()
        rejected[:, place] |= (numbers == -1).to_numpy()
    return held.astype(np.int8) - rejected.astype(np.int8)


def _holds_marks(column: pd.Series) -> bool:
    """Whether a column holds nothing but 1, 0 and -1, in at least one row of a hundred."""
    numbers = pd.to_numeric(column, errors="coerce")
    return bool(numbers.dropna().isin([-1, 0, 1]).all() and numbers.isna().mean() <= 0.99)
