"""Marks in a table: which of its texts hold a value, and which reject it.

1. A mark is 1 (held), -1 (rejected), 0 or an empty cell (neither), 0.5 or -0.5 (half), or yes, no,
   true, false. Anything else in a value's column is refused with its row; another scale is named
   (`Scale`, "0-2"), and its numbers become shares of a whole mark. A text holds a value from half a
   mark on.
2. A column belongs to a value by its name, in any spelling that the study's value system knows;
   finer values fold into those of the study. `... attained` and `... constrained`, as Touché24
   calls its columns, hold and reject. What its cells hold decides nothing: a column with one odd
   cell, or almost empty, is still the value's.
3. A column of marks with an unknown name is refused with the nearest value. Other columns are left
   out, and named in the account.
4. `join` lays marks of a second table beside texts, by the columns that both have, and counts what
   stands on one side only. Where more than `UNMARKED` of the texts find no marks, the tables do not
   belong together, and are refused.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from feature_store.errors import BadInput, NotFound
from feature_store.files import listed, shown
from feature_store.records import ValueSystem
from feature_store.tables import Account, Table

HALF = 0.5
"""Smallest share of a mark from which on a text holds, or rejects, a value."""
WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
"""Words that are marks."""
POLES = {"attained": 1, "constrained": -1}
"""Touché24's words at the end of a column's name -> whether its marks hold or reject."""
MARKS = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""Numbers that are marks where no scale is named."""
LIKELY = 0.9
"""Share of numbers in a column of unknown name that are marks, from which on it is taken for a
column of marks."""
DOUBTFUL = 0.5
"""The same share, from which on leaving the column out is warned of."""
UNMARKED = 0.25
"""Largest share of texts that find no marks in the second table."""
_SCALE = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*(?:-|to|\.\.)\s*(-?\d+(?:\.\d+)?)\s*")
_POLE = re.compile(r"(.+?)[\s:_-]+(attained|constrained)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Scale:
    """What the numbers in the columns of a table mean."""

    low: float = -1.0
    """Smallest number: not held, or rejected where it lies below 0."""
    high: float = 1.0
    """Largest number: wholly held."""
    is_named: bool = False
    """Whether a person named the scale; then every number within it is a mark."""

    @classmethod
    def parse(cls, text: str) -> "Scale":
        """Read a scale as it is typed: "0-2", "1-5", "-2-2"; empty for marks from -1 to 1.

        Raises BadInput for anything else.
        """
        if not text.strip():
            return cls()
        ends = _SCALE.fullmatch(text)
        low, high = (float(ends[1]), float(ends[2])) if ends else (0.0, 0.0)
        if low >= high or (low < 0 and low != -high):
            raise BadInput(
                "--scale names the smallest and the largest mark, as 0-2, 1-5 or -2-2 (rejected"
                f" marks reach as far as held ones), got {text!r}."
            )
        return cls(low, high, True)

    def mark(self, cell: Any) -> float | None:
        """Read a cell as a share of a whole mark [-1 to 1]; None where it is no mark."""
        if cell is None or cell != cell:  # nothing, or the NaN that stands for nothing
            return 0.0
        if isinstance(cell, str):
            word = cell.strip().casefold()
            if not word or word in WORDS:
                return WORDS.get(word, 0.0)
            # Python would read 1_0 and digits of every script.
            cell = float(word) if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", word, re.ASCII) else None
        if not isinstance(cell, bool | int | float):
            return None
        if not self.is_named or isinstance(cell, bool):
            return float(cell) if cell in MARKS else None
        if not self.low <= cell <= self.high:
            return None
        return cell / self.high if self.low < 0 else (cell - self.low) / (self.high - self.low)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}" if self.is_named else "1, 0.5, 0, -0.5, -1"


class Marks(NamedTuple):
    """The marks of the rows of a table, and what was left out."""

    values: Float[np.ndarray, "document value"]
    """Share of a whole mark: 1 held, -1 rejected, 0 neither, columns in circle order."""
    account: Account
    """What became of the rows, and what else is to be said."""
    left_out: list[str]
    """Columns that are no value."""


def read_marks(table: Table, skipped: Sequence[str], system: ValueSystem, scale: Scale) -> Marks:
    """Fold the columns of a table into marks of the values of a system.

    `skipped` names columns that are no marks. Held and rejected at once (two finer values that
    disagree) says nothing about the coarser value. Raises NotFound for a column of marks with an
    unknown name, BadInput for a cell that is no mark and for a table without any. A name in
    `skipped` that the table lacks is noted in the account.
    """
    absent = [name for name in skipped if name not in table]
    skip = {table.name(name) for name in skipped if name in table}
    held = np.zeros((len(table), len(system.ids)))
    rejected = np.zeros_like(held)
    filled = np.zeros(len(table), bool)
    left_out: list[str] = []
    doubtful: list[str] = []
    values: set[str] = set()
    for column, cells in table.columns.items():
        if column in skip:
            continue
        named = _value_of(column, system)
        if named is None:
            share = _likely(cells, scale)
            _refuse_unknown(table, column, share, system)
            (doubtful if share >= DOUBTFUL else left_out).append(column)
            continue
        value, sign = named
        values.add(value)
        marks = sign * np.array(list(_marks(table, column, cells, scale)), float)
        place = system.ids.index(value)
        held[:, place] = np.maximum(held[:, place], marks)
        rejected[:, place] = np.maximum(rejected[:, place], -marks)
        filled |= np.array([_is_filled(cell) for cell in cells], bool)
    if not values:
        raise BadInput(
            f"{shown(table.file, 300)} has no column named after a value of {system.id}"
            f" ({', '.join(system.ids)}). Add one a value, with marks 1, 0, -1."
        )
    held[held < HALF], rejected[rejected < HALF] = 0, 0
    both = (held > 0) & (rejected > 0)
    blank = int((~filled).sum())
    account = table.account.noting(
        f"{int(both.sum())} marks hold and reject a value at once and say nothing of it"
        if both.any()
        else "",
        f"columns to ignore that are not there: {listed(absent)}" if absent else "",
        f"{blank} rows without any mark are read as holding no value" if blank else "",
        f"columns with some marks that are no value left out: {listed(doubtful)}"
        if doubtful
        else "",
    )
    return Marks(np.where(both, 0, held - rejected), account, left_out)


def _value_of(column: str, system: ValueSystem) -> tuple[str, int] | None:
    """Give the value that a column's name means, and whether its marks hold (1) or reject (-1)."""
    names = [(column, 1)]
    if poled := _POLE.fullmatch(column):
        names.append((poled[1], POLES[poled[2].lower()]))
    for name, sign in names:
        with contextlib.suppress(NotFound):
            return system.resolve(name), sign
    return None


def _marks(table: Table, column: str, cells: Sequence[Any], scale: Scale) -> Iterator[float]:
    """Read the cells of a value's column. Raises BadInput for the first that is no mark."""
    for row, cell in enumerate(cells):
        mark = scale.mark(cell)
        if mark is None:
            raise BadInput(
                f"{table.where(row)}, column {shown(column)}: {shown(cell)} is no mark ({scale},"
                " yes, no, or empty). Put it right, name the marks' scale with --scale (as 0-2),"
                f" or leave the column out with --ignore {shown(column)}."
            )
        yield mark


def _likely(cells: Sequence[Any], scale: Scale) -> float:
    """Give the share of numbers in a column that are marks, 0 where it holds no number or yes."""
    numbers = [cell for cell in map(_number, cells) if cell is not None]
    if not numbers or len(numbers) < sum(map(_is_filled, cells)):
        return 0.0
    return sum(scale.mark(number) is not None for number in numbers) / len(numbers)


def _is_filled(cell: Any) -> bool:
    """Whether a cell holds anything; the NaN of a typed table stands for nothing."""
    return cell is not None and cell == cell and str(cell).strip() != ""


def _number(cell: Any) -> float | None:
    """Read a cell as a number; None where it is empty or no number."""
    try:
        number = float(cell)
    except (TypeError, ValueError):
        return None
    return None if number != number else number


def _refuse_unknown(table: Table, column: str, share: float, system: ValueSystem) -> None:
    """Raise NotFound where a column of marks bears no value's name."""
    if share < LIKELY:
        return
    try:
        system.resolve(column)
    except NotFound as error:
        raise NotFound(
            f"{shown(table.file, 300)}: {error} Leave a column that is not a value out with"
            f" --ignore {shown(column)}."
        ) from None


class Joined(NamedTuple):
    """Texts and the marks beside them."""

    texts: Table
    """The rows of the first table that have marks in the second."""
    marks: Table
    """The rows of the second that belong to them, in the same order; its account says what became
    of the rows of the first, and how many of the second had no text."""
    keys: list[str]
    """Columns by which they were joined, as the second table names them."""


def join(texts: Table, marks: Table) -> Joined:
    """Lay the marks of a second table beside texts, by the columns that both have.

    Raises BadInput where they share no column, where a row stands twice, or where more than
    `UNMARKED` of the texts find no marks.
    """
    names = (shown(texts.file, 300), shown(marks.file, 300))
    keys = [column for column in texts.columns if column in marks]
    if not keys:
        raise BadInput(
            f"{names[0]} and {names[1]} share no column to join them by. Give both an id column of"
            " the same name."
        )
    by = listed(keys)
    rows, without = _rows_by_key(texts, keys)
    rows_of_marks, _ = _rows_by_key(marks, keys)
    both = [key for key in rows if key in rows_of_marks]
    if not both:
        raise BadInput(f"{names[0]} and {names[1]} have no {by} in common. Give both the same ids.")
    unmarked = len(rows) - len(both)
    if unmarked > UNMARKED * len(rows):
        example = next(key for key in rows if key not in rows_of_marks)
        raise BadInput(
            f"{names[0]} and {names[1]}: {unmarked} of {len(rows)} texts have no marks (the first:"
            f" {by} {shown(' '.join(example))}); at most a quarter may be without. Give the table"
            " of these texts, or take the texts without marks out."
        )
    texts = _only(texts, [rows[key] for key in both])
    marks_left = len(marks) - len(both)
    account = texts.account.without(f"without {by}", without)
    account = account.without(f"without marks in {marks.file.name}", unmarked).noting(
        *marks.account.notes,
        marks.account.line() if marks.account.dropped else "",
        f"{marks_left} rows of {marks.file.name} have no text" if marks_left else "",
    )
    marks = replace(_only(marks, [rows_of_marks[key] for key in both]), account=account)
    return Joined(texts=texts, marks=marks, keys=[marks.name(key) for key in keys])


def _rows_by_key(table: Table, keys: Sequence[str]) -> tuple[dict[tuple[str, ...], int], int]:
    """Give each row's number by its cells in the key columns, and how many rows have none there.

    Raises BadInput where two rows have the same.
    """
    rows: dict[tuple[str, ...], int] = {}
    without = 0
    for row, cells in enumerate(zip(*(table.cells(key) for key in keys), strict=True)):
        key = tuple(map(_id, cells))
        if not any(key):
            without += 1
            continue
        if key in rows:
            raise BadInput(
                f"{table.where(row)}: {listed(keys)} {shown(' '.join(key))} stands"
                f" already in {table.where(rows[key])}. Give every text one row in each table."
            )
        rows[key] = row
    return rows, without


def _id(cell: Any) -> str:
    """Write an id as text, however its file types it: 7, 7.0 and "7" are one."""
    if cell is None or cell != cell:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return str(cell).strip()


def _only(table: Table, rows: Sequence[int]) -> Table:
    """Give a table with some of its rows, in that order."""
    columns = {name: [cells[row] for row in rows] for name, cells in table.columns.items()}
    return replace(table, columns=columns, places=[table.places[row] for row in rows])
