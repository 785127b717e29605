"""Corpora to token batches.

1. `read_texts` turns whatever a person has (a folder of .txt files, one .txt, .jsonl, .csv, .tsv or
   .parquet file) into a list of documents. A long .txt file is cut at its blank lines into
   documents of about `LENGTH` characters, so that no document is a whole novel; a table gives one
   document a row, a conversation in it as the model's chat template writes it. `read_corpus` says
   besides what became of every row.
2. `batches` tokenizes them in windows, cuts what exceeds the context into several rows, sorts each
   window by length and yields right-padded batches. The order is a function of the input alone.

Left out: streaming from the network, shuffling (the activation buffer of the training does it) and
packing of several documents into one row: a packed row lets a document read its neighbour.
"""

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from feature_store.errors import BadInput, NotFound
from feature_store.files import CORPUS, listed, read_text, shown
from feature_store.tables import SUFFIXES, Account, Table, read_table
from sae_training.dictionary import conversations
from sae_training.engine.model import Model

LENGTH = 2000
"""A long text file is cut into documents of about this many characters, at blank lines."""
WINDOW = 32
"""Batches whose rows are sorted by length together; longer windows pad less and hold more tokens
in memory."""


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


class ReadTexts(NamedTuple):
    """The texts of a source, and what became of all that stands in it."""

    texts: list[str]
    """The documents."""
    account: str
    """One line: how many rows of which file were read, and why the others were not."""


def read_texts(path: str | Path, column: str = "", model: Model | None = None) -> list[str]:
    """Read every non-empty document under a folder or in a file, as `read_corpus` does.

    read_texts("corpus.jsonl", column="abstract")
    """
    return read_corpus(path, column, model).texts


def read_corpus(path: str | Path, column: str = "", model: Model | None = None) -> ReadTexts:
    """Read every non-empty document under a folder or in a file, and account for every row.

    Of a table the column `column` is taken; by default `text`, or the only one. Conversations
    (`conversations.py`) are written by the chat template of `model`. Rows that are left out are
    warned of in one line. Raises NotFound or BadInput.
    """
    path = Path(os.path.expanduser(path))
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if _is_text_file(file))
        if not files:
            raise BadInput(
                f"{path} holds no .txt file. Give a folder of .txt files, or one"
                f" {', '.join(SUFFIXES)} file."
            )
    elif path.exists():
        files = [path]
    else:
        raise NotFound(
            f"There is no text at {path}. Give a folder of .txt files or a file"
            f" ({', '.join(SUFFIXES)})."
        )
    if path.suffix.lower() in SUFFIXES and files == [path]:
        table = read_table(path, [column or "text"])
        texts = texts_of(table, column, model)
        account = table.account.without("without text", sum(not text.strip() for text in texts))
    else:
        texts = [text for file in files for text in _read_file(file)]
        account = Account(file=path.name, rows=sum(bool(text.strip()) for text in texts))
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise BadInput(
            f"{path} holds no text: every document is empty. Give a corpus with at least one"
            " sentence."
        )
    if account.dropped or account.notes:
        warnings.warn(account.line(), stacklevel=2)
    return ReadTexts(texts, account.line())


def _is_text_file(file: Path) -> bool:
    """Whether a path in a folder is a file of text; what else lies there is passed over."""
    return file.suffix.lower() == ".txt" and file.is_file()


def _read_file(file: Path) -> list[str]:
    """Read the documents of one file of text, empty ones included."""
    kind = file.suffix.lower()
    if kind != ".txt":
        raise BadInput(
            f"{file} is no text corpus: expected .txt, {', '.join(SUFFIXES)}, got"
            f" {kind or 'no suffix'}."
        )
    text = read_text(file, CORPUS)
    return _documents(text.replace("\r\n", "\n").replace("\r", "\n"))


def texts_of(table: Table, column: str = "", model: Model | None = None) -> list[str]:
    """Read a text a row of a table, empty ones included, as `read_corpus` chooses its column."""
    names = text_columns(table, column)
    if not conversations.are_in(table, names):
        return table.texts(names[0])
    texts = []
    for row, cells in enumerate(zip(*(table.cells(name) for name in names), strict=True)):
        where = table.where(row)
        messages = conversations.messages(cells, where)
        if messages and model is None:
            raise BadInput(
                f"{where} is a conversation, and plain texts are read here. Name a column of texts"
                " with --text-column."
            )
        texts.append(conversations.write(model, messages, where) if model and messages else "")
    return texts


def text_columns(table: Table, column: str) -> tuple[str, ...]:
    """Choose the column of the texts, or those of conversations.

    Raises NotFound where it cannot be known.
    """
    if column not in ("", "text") or "text" in table:
        return (table.name(column or "text"),)
    if names := conversations.columns(table):
        return names
    if len(table.columns) == 1:
        return tuple(table.columns)
    raise NotFound(
        f"{shown(table.file, 300)} has no column 'text'; it has"
        f" {listed(table.columns)}. Name the column of the texts with"
        " --text-column."
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
            for piece, start in _cut(ids, context, model.before):
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
