"""The texts a study is made of: what an SAE reads, what labels it, what is neutral, what stands
before a question.

1. A source of texts is the word `organism` (the generator of the shipped model writes them) or the
   path of a file. Labelled ones are also `poles`, short texts in two poles (`poles.py`), and
   `situations`, everyday ones over twenty topics (`situations.py`).
2. `labelled` reads a value-labelled table. It holds a text, a column of marks for each value
   (`marks.py`) and, optionally, the context within which texts are compared (a topic, a debate's
   conclusion). What becomes of every row is said in one line, and warned of where any is lost.
3. Contexts and neutral sentences default to `material.toml`.
"""

import tomllib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from feature_store.errors import BadInput
from feature_store.files import listed
from feature_store.records import ValueSystem
from feature_store.tables import Table, read_table
from sae_training.dictionary.texts import ReadTexts, read_corpus, read_texts, text_columns, texts_of
from workbench import organism
from workbench.material.marks import Scale, join, read_marks
from workbench.material.poles import before_a_statement, pole_texts
from workbench.material.situations import situation_texts

if TYPE_CHECKING:
    from sae_training.engine.model import Model

ORGANISM = "organism"
SITUATIONS = "situations"
IN_TWO_POLES = {"poles": pole_texts, SITUATIONS: situation_texts}
"""Name of built-in labelled texts -> what writes them for a value system."""
BUILT_IN = Path(__file__).with_name("material.toml")
HELD_OUT_SHIFT = 1_000_003
"""Added to the seed of the organism's contexts that measure, to write those that choose."""


class LabelledSource(NamedTuple):
    """Where value-labelled texts stand, and what the columns of their table mean."""

    texts: str
    """`organism`, `poles`, `situations`, or a table with one text a row."""
    marks: str = ""
    """Second table with the values' columns, joined by the columns that both have; empty: the
    values stand in the first."""
    text_column: str = "text"
    """Column that holds the text."""
    context_column: str = ""
    """Column with what texts are compared within, such as a topic; empty: all with all."""
    ignored_columns: Sequence[str] = ()
    """Columns of numbers that are not a value."""
    scale: str = ""
    """Smallest and largest mark, as "0-2"; empty: from -1 to 1 in halves."""


class LabelledDocuments(NamedTuple):
    """Texts with the values that each of them holds or rejects."""

    texts: list[str]
    """One entry a document."""
    values: Float[np.ndarray, "document value"]
    """1: the value is held, -1: it is rejected, 0: neither, 0.5 and -0.5: half; columns in circle
    order."""
    contexts: np.ndarray
    """What documents are compared within: a topic; one empty string for all where none is known
    [document]."""
    account: str = ""
    """One line: what became of the rows of the table; empty for the organism."""
    pairs: Int[np.ndarray, " document"] | None = None
    """Number of each document's pair, where documents come in pairs that differ in the pole alone;
    None: they do not."""
    before: str = ""
    """What stands before every text, and is read over."""


def model_address(model: str) -> str:
    """Translate the word `organism` to the folder of the shipped model; keep any other address."""
    return str(organism.folder()) if model == ORGANISM else model


def is_organism(model: str) -> bool:
    """Whether a model's name means the shipped organism, which speaks a small language only."""
    return model == ORGANISM


def default_source(model: str) -> str:
    """Name the source of texts that suits a model: `organism` for it, else empty (built in)."""
    return ORGANISM if is_organism(model) else ""


def labelled_source(model: str) -> str:
    """Name the labelled texts that suit a model: `organism` for it, else built-in everyday ones."""
    return ORGANISM if is_organism(model) else SITUATIONS


def texts(
    source: str, n: int, seed: int, column: str = "", model: "Model | None" = None
) -> ReadTexts:
    """Read at most `n` texts: a seeded sample, in the order of the source.

    0 means all of them (20,000 of the organism's). `column` holds the texts of a table, whose
    conversations are written by the chat template of `model`.
    """
    if source == ORGANISM:
        return ReadTexts(organism.training_texts(n or 20_000, seed), "")
    corpus = read_corpus(Path(source), column, model)
    return corpus._replace(texts=sample(corpus.texts, n, seed))


def reading(account: str) -> dict[str, str]:
    """Give the entry of a run's summary that says what became of the rows of a file, if it read
    one.
    """
    return {"rows_read": account} if account else {}


def neutral(source: str, n: int, seed: int, column: str = "") -> list[str]:
    """Read the neutral texts on which the damage of a steering is measured.

    They are the organism's, a file's, or the built-in sentences (empty source).
    """
    _at_least_one(n, "neutral")
    if source == ORGANISM:
        return organism.neutral_texts(n, seed)
    return sample(read_texts(source, column) if source else _built_in("neutral"), n, seed)


def contexts(source: str, n: int, seed: int, column: str = "") -> list[str]:
    """Read the contexts: short texts that stand before a question.

    They are the organism's, the lines of a file, or the built-in ones (empty source). Raises
    BadInput where the source has fewer than `n`.
    """
    _at_least_one(n, "contexts")
    if source == ORGANISM:
        return organism.contexts(n, seed)
    return sample(_listed_contexts(source, n, column), n, seed)


def held_contexts(source: str, n: int, seed: int, column: str = "") -> list[str]:
    """Read contexts to choose by, other ones than those that `contexts` with this seed measures by.

    What is chosen by a measurement looks better in it than it is, so both use different contexts as
    far as the source has enough. The organism writes new ones; of a list they are the last of the
    drawn order whose first ones `contexts` takes.
    """
    _at_least_one(n, "contexts")
    if source == ORGANISM:
        return organism.contexts(n, seed + HELD_OUT_SHIFT)
    listed = _listed_contexts(source, n, column)
    drawn = np.random.default_rng(seed).permutation(len(listed))
    return [listed[place] for place in np.sort(drawn[len(listed) - n :])]


def _listed_contexts(source: str, n: int, column: str) -> list[str]:
    """All contexts of a file or of the built-in list, which must be at least `n`."""
    listed = lines(source, column) if source else _built_in("contexts")
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


def lines(source: str, column: str = "") -> list[str]:
    """Read the texts of a file with one a line, or of a table with one a row."""
    texts = read_texts(source, column)
    if Path(source).suffix.lower() != ".txt":
        return texts
    return [line.strip() for text in texts for line in text.split("\n") if line.strip()]


def labelled(
    source: LabelledSource,
    system: ValueSystem,
    n: int = 0,
    seed: int = 0,
    model: "Model | None" = None,
) -> LabelledDocuments:
    """Read value-labelled texts: at most `n`, drawn by `seed`; 0 means all.

    Conversations are written by the chat template of `model`. Raises NotFound for a column that the
    table lacks or that names no value of `system`, BadInput for a cell that is no mark and for a
    table without texts or without marks. The organism writes 12,000 where `n` is 0.

        labelled(LabelledSource("arguments.csv", text_column="Premise"), system)
    """
    if source.texts == ORGANISM:
        return _organism_documents(system, n or 12_000, seed)
    if source.texts in IN_TWO_POLES:
        return _documents_in_two_poles(source.texts, system, n, seed, model)
    table = read_table(Path(source.texts), [source.text_column])
    marked, keys, column = table, [], source.text_column
    if source.marks:
        joined = join(table, read_table(Path(source.marks)))
        table, marked, keys = joined.texts, joined.marks, joined.keys
    documents = texts_of(table, column, model)
    groups = _contexts(source.context_column, table, marked)
    others = [*keys, *text_columns(table, column), source.context_column]
    skipped = [*filter(marked.__contains__, others), *source.ignored_columns]
    marks = read_marks(marked, skipped, system, Scale.parse(source.scale))
    filled = np.array([text.strip() != "" for text in documents], bool)
    if not filled.any():
        raise BadInput(
            f"{source.texts} holds no text in column {column!r}. Give a table with one text a row."
        )
    values = marks.values[filled]
    if not values.any():
        raise BadInput(
            f"{source.texts} marks no text with a value. A value's column holds 1 where it is held"
            " and -1 where it is rejected."
        )
    account = marks.account.without("without text", int((~filled).sum()))
    if account.dropped or account.notes:
        warnings.warn(account.line(), stacklevel=2)
    if marks.left_out:
        account = account.noting(f"no value: {listed(marks.left_out)}")
    drawn = np.sort(np.random.default_rng(seed).permutation(len(values))[: n or len(values)])
    rows = np.flatnonzero(filled)[drawn]
    return LabelledDocuments(
        texts=[documents[row] for row in rows],
        values=values[drawn],
        contexts=groups[rows],
        account=account.line(),
    )


def _contexts(column: str, table: Table, marked: Table) -> np.ndarray:
    """Read what the rows of a table are compared within; one empty string where there is none."""
    if not column:
        return np.full(len(table), "")
    holder = table if column in table or column not in marked else marked
    return np.array(holder.texts(column), dtype=str)


def _organism_documents(system: ValueSystem, n: int, seed: int) -> LabelledDocuments:
    """What the organism's generator writes, its labels as marks of the study's values."""
    documents = organism.labelled_texts(n, seed)
    marks = np.zeros((len(documents), len(system.ids)))
    for row, document in enumerate(documents):
        for value, sign in document.labels.items():
            marks[row, system.ids.index(system.resolve(value))] = sign
    topics = np.array([document.context for document in documents])
    texts = [document.text for document in documents]
    return LabelledDocuments(texts=texts, values=marks, contexts=topics)


def _documents_in_two_poles(
    name: str, system: ValueSystem, n: int, seed: int, model: "Model | None"
) -> LabelledDocuments:
    """The built-in texts in two poles, as a model's own words.

    Raises BadInput for the organism, to which nearly every word of them is unknown.
    """
    if model and is_organism(model.name):
        raise BadInput(
            "The organism speaks a small language of its own, in which no text in two poles is"
            " written. Label it with its own texts: --labelled organism."
        )
    written = IN_TWO_POLES[name](system)
    drawn = np.sort(np.random.default_rng(seed).permutation(len(written.texts))[: n or None])
    texts = [written.texts[row] for row in drawn]
    before = before_a_statement(model, written.before) if model else ""
    return LabelledDocuments(
        texts=[f"{before}{text}" for text in texts],
        values=written.marks[drawn],
        contexts=np.array(written.contexts)[drawn],
        pairs=drawn // 2,
        before=before,
    )


def sample(texts: list[str], n: int, seed: int) -> list[str]:
    """Draw `n` of the texts by a seed and keep their order; all where n is 0 or too large."""
    if not n or n >= len(texts):
        return list(texts)
    drawn = np.random.default_rng(seed).permutation(len(texts))[:n]
    return [texts[place] for place in np.sort(drawn)]
