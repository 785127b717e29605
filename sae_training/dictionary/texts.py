"""Corpora to token batches.

1. `read_texts` turns whatever a person has (a folder of .txt files, one .txt, .jsonl, .csv, .tsv or
   .parquet file) into a list of documents. A long .txt file is cut at its blank lines into
   documents of about `LENGTH` characters, so that no document is a whole novel; a table gives one
   document a row.
2. `batches` tokenizes them in windows, cuts what exceeds the context into several rows, sorts each
   window by length and yields right-padded batches. The order is a function of the input alone.

Left out: streaming from the network, shuffling (the activation buffer of the training does it) and
packing of several documents into one row: a packed row lets a document read its neighbour.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from feature_store.errors import BadInput, NotFound
from sae_training.engine.model import Model

LENGTH = 2000
"""A long text file is cut into documents of about this many characters, at blank lines."""
WINDOW = 32
"""Batches whose rows are sorted by length together; longer windows pad less and hold more tokens
in memory."""
TABLES = (".jsonl", ".csv", ".tsv", ".parquet")


class Corpus(NamedTuple):
    """Texts, and how a model reads them: so many rows at once, so many tokens in a row."""

    texts: Sequence[str]
    """The documents."""
    rows: int = 32
    """Rows in one forward pass."""
    context: int = 128
    """Longer texts are read in pieces of this length [tokens]."""


class TextBatch(NamedTuple):
    """Rows of tokens that go through the model together."""

    ids: Int[Tensor, "row tok"]
    """Token ids, padded on the right with 0."""
    mask: Bool[Tensor, "row tok"]
    """True where there is a token."""
    document: Int[Tensor, " row"]
    """Index of the row's text."""
    start: Int[Tensor, " row"]
    """Column j of the row is token `start + j` of its document (a repeated first token in column
    0 aside)."""


def read_texts(path: str | Path, column: str = "") -> list[str]:
    """Read every non-empty document under a folder or in a file.

    Of a table the column `column` is taken; by default `text`, or the only one. Raises NotFound or
    BadInput.

        read_texts("corpus.jsonl", column="abstract")
    """
    path = Path(os.path.expanduser(path))
    if path.is_dir():
        files = sorted(file for file in path.rglob("*.txt") if file.is_file())
        if not files:
            raise BadInput(
                f"{path} holds no .txt file. Give a folder of .txt files, or one"
                f" {', '.join(TABLES)} file."
            )
    elif path.is_file():
        files = [path]
    else:
        raise NotFound(
            f"There is no text at {path}. Give a folder of .txt files or a file"
            f" ({', '.join(TABLES)})."
        )
    texts = [text for file in files for text in _read_file(file, column) if text.strip()]
    if not texts:
        raise BadInput(
            f"{path} holds no text: every document is empty. Give a corpus with at least one"
            " sentence."
        )
    return texts


def _read_file(file: Path, column: str) -> list[str]:
    """Read the documents of one file, empty ones included."""
    kind = file.suffix.lower()
    if kind not in (".txt", *TABLES):
        raise BadInput(
            f"{file} is no text corpus: expected .txt, {', '.join(TABLES)}, got"
            f" {kind or 'no suffix'}."
        )
    try:
        if kind == ".txt":
            return _documents(file.read_text(encoding="utf-8-sig"))
        if kind == ".jsonl":
            return _read_lines(file, column)
        return _read_table(file, kind, column)
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{file} is not UTF-8 text (byte {error.start}). Convert it, for instance with iconv."
        ) from error
    except json.JSONDecodeError as error:
        raise BadInput(
            f"{file} is not JSON lines: {error.msg}. Write one JSON object a line."
        ) from error


def _read_lines(file: Path, column: str) -> list[str]:
    """Read JSON lines, each a text or an object that holds one."""
    lines = file.read_text(encoding="utf-8-sig").splitlines()
    rows = [json.loads(line) for line in lines if line.strip()]
    if all(isinstance(row, str) for row in rows):
        return rows
    if not all(isinstance(row, dict) for row in rows):
        raise BadInput(f"{file}: each line must be a JSON object with a text, or a JSON string.")
    names = list(dict.fromkeys(name for row in rows for name in row))
    name = _text_column(file, names, column)
    return [str(row.get(name) or "") for row in rows]


def _read_table(file: Path, kind: str, column: str) -> list[str]:
    """Read a column of a table, a text a row."""
    import pandas  # half a second: only where a table is read

    try:
        if kind == ".parquet":
            table = pandas.read_parquet(file)
        else:
            table = pandas.read_csv(
                file, sep="\t" if kind == ".tsv" else ",", dtype=str, encoding="utf-8-sig"
            )
    except UnicodeDecodeError:
        raise
    # pandas and pyarrow raise a dozen kinds, all of which mean an unreadable file.
    except Exception as error:
        reason = str(error).split("\n")[0]
        raise BadInput(f"{file} cannot be read as {kind[1:]}: {reason}") from error
    name = _text_column(file, [str(name) for name in table.columns], column)
    return table[name].fillna("").astype(str).tolist()


def _text_column(file: Path, names: Sequence[str], column: str) -> str:
    """Choose the column of the texts. Raises BadInput where it cannot be known."""
    wanted = column or "text"
    for name in names:
        if name.lower() == wanted.lower():
            return name
    if not column and len(names) == 1:
        return names[0]
    raise BadInput(
        f"{file} has no column {wanted!r}; it has {', '.join(names) or 'none'}. Rename or choose"
        " the text column."
    )


def _documents(text: str) -> list[str]:
    """Cut a long text into documents: neighbouring paragraphs joined until they reach LENGTH.

    A paragraph that is longer by itself is cut at its line ends.
    """
    documents: list[str] = []
    current = ""
    for paragraph in re.split(r"\n\s*\n", text):
        pieces = [(paragraph, "\n\n")]
        if len(paragraph) > LENGTH:
            pieces = [(line, "\n") for line in paragraph.split("\n")]
        for piece, joint in pieces:
            if current and len(current) + len(piece) > LENGTH:
                documents.append(current)
                current = ""
            current = f"{current}{joint}{piece}" if current else piece
    return [*documents, current]


def batches(model: Model, corpus: Corpus) -> Iterator[TextBatch]:
    """Cut a corpus into batches; every token of every text occurs once.

    A batch has up to `corpus.rows` rows of up to `corpus.context` tokens. Raises BadInput where
    the model cannot read so many.

        for batch in batches(model, Corpus(texts, rows=16)):
            model.loss(batch.ids, batch.mask)
    """
    texts, rows, context = corpus
    if context < 2:
        raise BadInput(f"A context must be at least 2 tokens long, got {context}.")
    if context > model.context:
        raise BadInput(
            f"{model.name} reads at most {model.context} tokens, the context asked for is"
            f" {context}. Set it to {model.context} or less."
        )
    window = rows * WINDOW
    for first in range(0, len(texts), window):
        pieces: list[tuple[list[int], int, int]] = []
        for offset, ids in enumerate(model.tokenize(texts[first : first + window])):
            for piece, start in _cut(ids, context, model.set_around[0]):
                pieces.append((piece, first + offset, start))
        # Stable, so equal lengths keep the order of the texts.
        pieces.sort(key=lambda piece: -len(piece[0]))
        for at in range(0, len(pieces), rows):
            yield _pad(pieces[at : at + rows])


def _cut(ids: list[int], context: int, before: list[int]) -> list[tuple[list[int], int]]:
    """Cut one document into rows, each with the place of its first column in the document.

    What the tokenizer sets before every text, `before`, is repeated in each row.
    """
    if len(ids) <= context:
        return [(ids, 0)] if ids else []
    count = len(before)
    if not count or ids[:count] != before or count >= context:
        return [(ids[at : at + context], at) for at in range(0, len(ids), context)]
    step = context - count
    return [([*before, *ids[at : at + step]], at - count) for at in range(count, len(ids), step)]


def _pad(pieces: Sequence[tuple[list[int], int, int]]) -> TextBatch:
    """Make a batch of rows, each with its document and its start."""
    width = max(len(ids) for ids, _, _ in pieces)
    ids = torch.zeros(len(pieces), width, dtype=torch.long)
    mask = torch.zeros(len(pieces), width, dtype=torch.bool)
    for row, (piece, _, _) in enumerate(pieces):
        ids[row, : len(piece)] = torch.tensor(piece)
        mask[row, : len(piece)] = True
    document = torch.tensor([document for _, document, _ in pieces])
    start = torch.tensor([start for _, _, start in pieces])
    return TextBatch(ids=ids, mask=mask, document=document, start=start)
