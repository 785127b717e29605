"""The texts a study is made of: what an SAE reads, what labels it, what is neutral, what stands
before a question.

1. The word `organism` names the texts that the shipped model's own generator writes, anything else
   is a path.
2. `labelled` reads a value-labelled table: a text, one column a value (1 held, -1 rejected, 0 or
   empty neither) and, optionally, a column with the context in which texts are compared (a topic, a
   debate's conclusion). Finer values fold into the study's own; an unknown column of marks is
   refused with the nearest value.
3. Contexts and neutral sentences default to `material.toml`.
"""

import tomllib
from collections.abc import Sequence
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
HELD = 1_000_003
"""Between the seed of contexts that measure and that of contexts that choose, where contexts are
written."""


class Labelled(NamedTuple):
    texts: list[str]
    """One entry a document."""
    values: Int8[np.ndarray, "document value"]
    """1: the value is held, -1: it is rejected, 0: neither; columns in circle order."""
    contexts: np.ndarray
    """What documents are compared within: a topic; one empty string for all where none is known
    [document]."""


def model_address(model: str) -> str:
    """`organism` is the folder of the shipped model; any other address stays as it is."""
    return str(organism.folder()) if model == ORGANISM else model


def own(model: str) -> str:
    """The source of the texts made for a model: the organism's own, else the built-in ones."""
    return ORGANISM if model == ORGANISM else ""


def texts(source: str, n: int, seed: int) -> list[str]:
    """At most `n` texts: a seeded sample, in the source's order.

    0 means all of them (20,000 of the organism's).
    """
    if source == ORGANISM:
        return organism.training_texts(n or 20_000, seed)
    return sample(read_texts(Path(source)), n, seed)


def neutral(source: str, n: int, seed: int) -> list[str]:
    """Texts on which damage is measured: the organism's, a file's, or the built-in sentences
    (empty source).
    """
    _at_least_one(n, "neutral")
    if source == ORGANISM:
        return organism.neutral_texts(n, seed)
    known = (
        read_texts(Path(source))
        if source
        else tomllib.loads(BUILT_IN.read_text("utf-8"))["neutral"]
    )
    return sample(known, n, seed)


def contexts(source: str, n: int, seed: int) -> list[str]:
    """What stands before a question: the organism's, one a line of a file, or the built-in ones
    (empty source).
    """
    _at_least_one(n, "contexts")
    if source == ORGANISM:
        return organism.contexts(n, seed)
    known = tomllib.loads(BUILT_IN.read_text("utf-8"))["contexts"] if not source else lines(source)
    if len(known) < n:
        raise BadInput(
            f"{n} contexts were asked for, {source or 'the built-in list'} has {len(known)}. Ask"
            " for fewer, or give a file with more."
        )
    return sample(known, n, seed)


def held_contexts(source: str, n: int, seed: int) -> list[str]:
    """Contexts by which something is chosen that `contexts` with the same seed will measure:
    others, as far as the source has enough.

    The organism writes new ones. Of a list they are the last of the order whose first ones
    `contexts` takes.
    """
    _at_least_one(n, "contexts")
    if source == ORGANISM:
        return organism.contexts(n, seed + HELD)
    known = tomllib.loads(BUILT_IN.read_text("utf-8"))["contexts"] if not source else lines(source)
    if len(known) < n:
        raise BadInput(
            f"{n} contexts were asked for, {source or 'the built-in list'} has {len(known)}. Ask"
            " for fewer, or give a file with more."
        )
    return [
        known[i]
        for i in np.sort(np.random.default_rng(seed).permutation(len(known))[len(known) - n :])
    ]


def _at_least_one(n: int, what: str) -> None:
    if n < 1:
        raise BadInput(f"Nothing is measured without {what}: --n-{what} is at least 1, got {n}.")


def lines(source: str) -> list[str]:
    """The texts of a file with one a line, or of a table with one a row."""
    texts = read_texts(source)
    if Path(source).suffix.lower() != ".txt":
        return texts
    return [line.strip() for text in texts for line in text.splitlines() if line.strip()]


def labelled(
    source: str,
    labels: str,
    text: str,
    context: str,
    ignore: Sequence[str],
    system: ValueSystem,
    n: int,
    seed: int,
) -> Labelled:
    """A value-labelled table from `source`, joined with a second table `labels` where that is
    given.
    """
    if source == ORGANISM:
        documents = organism.labelled_texts(n or 12_000, seed)
        values = np.zeros((len(documents), len(system.ids)), np.int8)
        for row, document in enumerate(documents):
            for value, sign in document.labels.items():
                values[row, system.ids.index(system.resolve(value))] = sign
        return Labelled(
            [d.text for d in documents], values, np.array([d.context for d in documents])
        )
    frame = table(Path(source))
    if labels:
        frame = _join(frame, table(Path(labels)), source, labels)
    for column in filter(None, (text, context)):
        if column not in frame:
            raise NotFound(
                f"{source} has no column {column!r}; it has {', '.join(map(str, frame.columns))}."
            )
    marks = _marks(frame, [text, context, *ignore], system, source)
    known = frame[text].notna() & (frame[text].astype(str).str.strip() != "")
    frame, marks = frame[known], marks[known.to_numpy()]
    if not len(frame):
        raise BadInput(
            f"{source} holds no text in column {text!r}. Give a table with one text a row."
        )
    if not marks.any():
        raise BadInput(
            f"{source} marks no text with a value. A value's column holds 1 where it is held and -1"
            " where it is rejected."
        )
    keep = np.sort(np.random.default_rng(seed).permutation(len(frame))[: n or len(frame)])
    groups = frame[context].astype(str).to_numpy() if context else np.full(len(frame), "")
    return Labelled([str(t) for t in frame[text].iloc[keep]], marks[keep], groups[keep])


def sample(known: list[str], n: int, seed: int) -> list[str]:
    """`n` of the texts, seeded, in their order; all of them where there are not more, or n is 0."""
    if not n or n >= len(known):
        return list(known)
    return [known[i] for i in np.sort(np.random.default_rng(seed).permutation(len(known))[:n])]


def table(file: Path) -> pd.DataFrame:
    """A .csv, .tsv, .jsonl or .parquet file.

    Raises NotFound, or BadInput where it cannot be read.
    """
    if not file.exists():
        raise NotFound(f"There is no table {file}. Give a .csv, .tsv, .jsonl or .parquet file.")
    readers = {
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
    held = np.zeros((len(frame), len(system.ids)), bool)
    rejected = np.zeros_like(held)
    found = False
    for column in frame.columns:
        numbers = pd.to_numeric(frame[column], errors="coerce")
        if (
            column in skip
            or not numbers.dropna().isin([-1, 0, 1]).all()
            or numbers.isna().mean() > 0.99
        ):
            continue
        try:
            place = system.ids.index(system.resolve(str(column)))
        except NotFound as error:
            raise NotFound(
                f"{source}: {error} Leave a column that is no value out with --ignore"
                f" {str(column)!r}."
            ) from None
        found = True
        held[:, place] |= (numbers == 1).to_numpy()
        rejected[:, place] |= (numbers == -1).to_numpy()
    if not found:
        raise BadInput(
            f"{source} has no column named after a value of {system.id} ({', '.join(system.ids)})."
            " Add one a value, with marks 1, 0, -1."
        )
    # Held and rejected at once (two finer values that disagree) says nothing about the coarser one.
    return held.astype(np.int8) - rejected.astype(np.int8)
