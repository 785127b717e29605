"""A stranger's table, read without losing a row: CSV, TSV, JSON lines or Parquet.

1. `read_table` finds the separator of a text table (comma, semicolon, tab, bar): the one with which
   the header and the rows have the same number of cells. Cells are texts as they stand: `NA`,
   `None` and `007` are texts, an empty cell is an empty text.
2. A field that begins with a quotation mark ends at the mark before the next separator or line end,
   and loses its quotes. Where there is no such mark, or whole rows would lie between the two, the
   mark is a letter of the text and ends nothing.
3. JSON lines and Parquet keep the types of their cells; None where there is none.
4. Columns are found by name, in any case and without spaces around it; two of one name are refused.
5. `Account` says of every row whether it was read, and if not, why. Who leaves rows out later adds
   its reason (`Account.without`), so that a run can say what became of all of them.

Left out: tables of spreadsheets, compressed files, and guessing what a header would have been.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from feature_store.errors import BadInput, NotFound
from feature_store.files import CORPUS, json_lines, listed, on_line, read_text, regular, shown

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
"""Endings of tables, in any case."""
SEPARATORS = (",", ";", "\t", "|")
"""What may stand between two cells."""
SAMPLE = 200
"""Lines by which the separator is found."""
RAGGED = 0.1
"""Largest share of rows with another number of cells than the header; more of them are no slip."""
NAME = 60
"""Longest name of an only column [letters]; a longer one is a text that stands where a header
should."""

_NAMED = re.compile(r"sep=(.)\r?", re.IGNORECASE)
"""A first line that names the separator."""


@dataclass(frozen=True)
class Account:
    """What became of the rows of a file."""

    file: str
    """Name of the file."""
    rows: int
    """Rows that stand in it, the header not counted."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Reason -> rows that were not read for it."""
    notes: tuple[str, ...] = ()
    """What else a person should know of the reading."""

    @property
    def read(self) -> int:
        """Rows that were read."""
        return self.rows - sum(self.dropped.values())

    def without(self, reason: str, rows: int) -> "Account":
        """Give the account with so many rows dropped for a reason besides."""
        if not rows:
            return self
        return replace(self, dropped={**self.dropped, reason: self.dropped.get(reason, 0) + rows})

    def noting(self, *notes: str) -> "Account":
        """Give the account with notes besides; empty ones are left out."""
        return replace(self, notes=(*self.notes, *filter(None, notes)))

    def line(self) -> str:
        """Say it in one line: `t.csv: 41 of 45 rows read (4 without text); left out: id`."""
        reasons = "; ".join(f"{rows} {reason}" for reason, rows in self.dropped.items())
        counted = f"{self.read} of {self.rows} rows read" + (f" ({reasons})" if reasons else "")
        return "; ".join([f"{self.file}: {counted}", *self.notes])


@dataclass(frozen=True)
class Table:
    """The rows of a table that were read."""

    file: Path
    """Where the table stands."""
    columns: Mapping[str, Sequence[Any]]
    """Name, as the header writes it -> cells; texts in .csv and .tsv, else as typed, None where
    there is none."""
    places: Sequence[int]
    """Line at which each row begins; in Parquet its number, from 1."""
    account: Account
    """What became of all rows."""

    def __len__(self) -> int:
        return len(self.places)

    def __contains__(self, name: str) -> bool:
        return self._named(name) is not None

    def name(self, name: str) -> str:
        """Give a column's name as the header writes it. Raises NotFound with the names there are.

        table.name("text")  # "Text"
        """
        there = self._named(name)
        if there is None:
            raise NotFound(
                f"{shown(self.file, 300)} has no column {shown(name)}; it has"
                f" {listed(self.columns)}. Name another column, or give the table one."
            )
        return there

    def cells(self, name: str) -> Sequence[Any]:
        """Give the cells of a column. Raises as `name` does."""
        return self.columns[self.name(name)]

    def texts(self, name: str) -> list[str]:
        """Give the cells of a column as texts, empty where there is none.

        Raises as `name` does, and BadInput that names the row for a cell that is no text.
        """
        cells = self.cells(name)
        return [as_text(cell, self.where(row), name) for row, cell in enumerate(cells)]

    def where(self, row: int) -> str:
        """Name the place of a row (0-based) in a message: `t.csv, line 7`."""
        kind = "row" if self.file.suffix.lower() == ".parquet" else "line"
        return f"{shown(self.file, 300)}, {kind} {self.places[row]}"

    def whole(self) -> "Table":
        """Give the table, for a reader that needs every row. Raises BadInput where one is lost."""
        if self.account.dropped:
            raise BadInput(f"{self.account.line()}. Put these rows right.")
        return self

    def _named(self, name: str) -> str | None:
        wanted = _key(name)
        return next((column for column in self.columns if _key(column) == wanted), None)


def as_text(cell: Any, where: str, column: str) -> str:
    """Give a cell as text: a number as it is written, nothing as an empty text.

    Raises BadInput that names the place for a list, an object, or a yes and no.
    """
    if cell is None or cell != cell:  # nothing, or the NaN that stands for nothing
        return ""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        raise BadInput(
            f"{where}: {shown(column)} should hold a text, got {shown(cell)}"
            f" ({type(cell).__name__}). Name another column."
        )
    return str(cell)


def read_table(file: str | Path, wanted: Sequence[str] = ()) -> Table:
    """Read a .csv, .tsv, .jsonl or .parquet file.

    `wanted` names columns that should be there, and decides where two separators fit alike. Raises
    NotFound without the file, BadInput for what is no table.

        read_table("arguments.tsv", ["Premise"]).texts("premise")
    """
    file = Path(file)
    suffix = file.suffix.lower()
    try:
        with regular(file):
            pass
    except NotFound:
        raise NotFound(
            f"There is no table {shown(file, 300)}. Give a {', '.join(SUFFIXES)} file."
        ) from None
    if suffix not in SUFFIXES:
        raise BadInput(
            f"{shown(file, 300)} is no table that is read here: expected {', '.join(SUFFIXES)}, got"
            f" {shown(suffix) if suffix else 'no suffix'}."
        )
    if suffix == ".parquet":
        return _of_parquet(file)
    if suffix == ".jsonl":
        return _of_json_lines(file)
    return _of_text(file, wanted)


class _Rows(NamedTuple):
    """The rows of a text under one separator, the header among them."""

    cells: list[list[str]]
    """Cells of each row."""
    lines: list[int]
    """Line at which each row begins, from 1."""
    stray: list[int]
    """Lines in which a quotation mark opens a field and is none."""
    doubtful: list[int]
    """Lines in which a cell begins that runs over several lines and may hold rows of their own."""


def _of_text(file: Path, wanted: Sequence[str]) -> Table:
    """Read a table whose cells a sign separates."""
    text = read_text(file, CORPUS)
    # Line ends of old Macintoshes; elsewhere a lone carriage return is a part of the text.
    lines = (text if "\n" in text else text.replace("\r", "\n")).split("\n")
    if not any(line.strip() for line in lines):
        raise BadInput(
            f"{shown(file, 300)} is empty and cannot be read as {file.suffix[1:]}: expected a"
            " header and rows."
        )
    if named := _NAMED.fullmatch(lines[0]):  # as spreadsheets write it
        separator, lines[0] = named[1], ""
    else:
        separator = _separator(lines[:SAMPLE], file.suffix.lower(), wanted)
    rows = _split(lines, separator)
    header, *body = rows.cells
    _check_names(file, header)
    _check_is_header(file, header, wanted)
    body = [_trimmed(row, len(header)) for row in body]
    fitting = [len(row) == len(header) for row in body]
    ragged = [line for line, fits in zip(rows.lines[1:], fitting, strict=True) if not fits]
    if len(ragged) > max(RAGGED * len(body), 1):
        raise BadInput(
            f"{shown(file, 300)}: {len(ragged)} of {len(body)} rows have another number of cells"
            f" than the header's {len(header)}, the first in line {ragged[0]}. Set cells that hold"
            f" {shown(separator)} in quotation marks."
        )
    kept = [row for row, fits in zip(body, fitting, strict=True) if fits]
    places = [line for line, fits in zip(rows.lines[1:], fitting, strict=True) if fits]
    account = Account(file=file.name, rows=len(body))
    if ragged:
        reason = f"with other cells than the header's {len(header)}, first in line {ragged[0]}"
        account = account.without(reason, len(ragged))
    if rows.stray:
        account = account.noting(
            f"{len(rows.stray)} quotation marks that open a field and close none are read as"
            f" letters, first in line {rows.stray[0]}"
        )
    if rows.doubtful:
        account = account.noting(
            f"{len(rows.doubtful)} quoted cells run over several lines and may hold rows of their"
            f" own, first in line {rows.doubtful[0]}"
        )
    columns = {name: [row[place] for row in kept] for place, name in enumerate(_names(header))}
    return Table(file=file, columns=columns, places=places, account=account)


def _separator(lines: Sequence[str], suffix: str, wanted: Sequence[str]) -> str:
    """Choose the sign with which header and rows have the same number of cells.

    Where several fit alike, the header that has a wanted column, then the sign of the file's
    ending, then the most cells decide. A NUL, which no text holds, stands for a single column.
    """
    usual = "\t" if suffix == ".tsv" else ","
    names = {_key(name) for name in wanted}
    best, choice = (False, 0.0, False, 0), "\0"
    for sign in SEPARATORS:
        header, *body = _split(lines, sign).cells
        if len(header) < 2:
            continue
        even = [len(_trimmed(row, len(header))) == len(header) for row in body]
        has_wanted = bool(names & {_key(name) for name in header})
        share = sum(even) / len(even) if even else 1.0
        if (rank := (has_wanted, share, sign == usual, len(header))) > best:
            best, choice = rank, sign
    return choice


def _split(lines: Sequence[str], separator: str) -> _Rows:
    """Split lines into rows of cells; a quoted cell may run over several lines."""
    rows = _Rows(cells=[], lines=[], stray=[], doubtful=[])
    at, width = 0, 0
    while at < len(lines):
        line, first = lines[at].removesuffix("\r"), at
        at += 1
        if not line.strip():
            continue
        cells = line.split(separator)
        if '"' in line:
            row = _quoted(lines, first, separator, width)
            cells, at = row.cells, row.next
            rows.stray.extend([first + 1] * row.stray)
            rows.doubtful.extend([first + 1] * row.doubtful)
        rows.cells.append(cells)
        rows.lines.append(first + 1)
        width = width or len(cells)
    return rows


class _Row(NamedTuple):
    """A row that was read with its quotation marks heeded."""

    cells: list[str]
    """Its cells."""
    next: int
    """Place of the line after it."""
    stray: int
    """Marks that opened a field and closed none."""
    doubtful: bool
    """Whether one of its cells may hold rows of their own."""


def _quoted(lines: Sequence[str], at: int, separator: str, width: int) -> _Row:
    """Read the row that begins at a line, quotation marks heeded.

    `width` is the number of the header's cells, 0 for the header itself.
    """
    cells: list[str] = []
    rest, stray, doubtful = lines[at], 0, False
    at += 1
    while True:
        closed = _closed(rest, lines, at, separator) if rest.startswith('"') else None
        likely = _holds_rows(closed.parts, len(cells), separator, width) if closed else 0.0
        if closed and likely < 1:
            cells.append("\n".join(closed.parts).replace('""', '"'))
            at += len(closed.parts) - 1
            doubtful = doubtful or likely > 0
            if not closed.after:
                return _Row(cells=cells, next=at, stray=stray, doubtful=doubtful)
            rest = closed.after[1:]
            continue
        stray += rest.startswith('"')
        cell, sign, rest = rest.partition(separator)
        if not sign:
            cells.append(cell.removesuffix("\r"))
            return _Row(cells=cells, next=at, stray=stray, doubtful=doubtful)
        cells.append(cell)


class _Quoted(NamedTuple):
    """A cell between quotation marks."""

    parts: list[str]
    """Its lines, the marks around it taken off, doubled ones within left."""
    after: str
    """What stands behind it in its last line, from the separator on; empty at the row's end."""


def _closed(rest: str, lines: Sequence[str], at: int, separator: str) -> _Quoted | None:
    """Read a cell that a quotation mark opens; None where the mark closes nothing.

    `rest` begins with the mark, the further lines stand in `lines` from `at` on.
    """
    parts, start = [rest[1:]], 0
    while True:
        end = parts[-1].find('"', start)
        if end < 0:
            place = at + len(parts) - 1
            if place == len(lines):
                return None
            parts.append(lines[place])
            start = 0
        elif parts[-1].startswith('"', end + 1):
            start = end + 2
        else:
            break
    after = parts[-1][end + 1 :].removesuffix("\r")
    parts[-1] = parts[-1][:end]
    if after and not after.startswith(separator):
        return None
    return _Quoted(parts, after)


def _holds_rows(parts: Sequence[str], cells: int, separator: str, width: int) -> float:
    """How likely a quoted cell of several lines holds whole rows: 1 certainly, 0 not, 0.5 maybe.

    `cells` of the row stand before it. If the mark closes nothing, the cell's first line holds the
    row's other cells, its last line as many cells as stand before it, and each line between them
    all `width`. Commas of a text can be as many by chance in two lines, tabs hardly can; in a
    single column nothing tells.
    """
    if len(parts) < 2:
        return 0.0
    if width < 2:
        return 0.5 if width else 0.0
    expected = [width - 1 - cells, *[width - 1] * (len(parts) - 2), cells]
    if [part.count(separator) for part in parts] != expected:
        return 0.0
    return 1.0 if separator == "\t" or len(parts) > 2 else 0.5


def _trimmed(row: list[str], width: int) -> list[str]:
    """Take off empty cells beyond the header's, which spreadsheets leave behind a row."""
    extra = row[width:]
    return row[:width] if extra and not any(cell.strip() for cell in extra) else row


def _names(header: Sequence[str]) -> list[str]:
    """Give the columns' names; one without a name, as an index has, is called by its number."""
    return [name.strip() or f"column {place}" for place, name in enumerate(header, 1)]


def _key(name: str) -> str:
    """How columns' names are compared."""
    return name.strip().casefold()


def _check_names(file: Path, header: Sequence[str]) -> None:
    """Raise BadInput where two columns have one name."""
    times = Counter(_key(name) for name in _names(header))
    twice = [name for name in _names(header) if times[_key(name)] > 1]
    if twice:
        raise BadInput(
            f"{shown(file, 300)} has {len(twice)} columns called {shown(twice[0])} (case does not"
            " count). Give each a name of its own."
        )


def _check_is_header(file: Path, header: Sequence[str], wanted: Sequence[str]) -> None:
    """Raise BadInput where a text stands in the place of the header of an only column."""
    name = header[0].strip()
    is_wanted = _key(name) in {_key(column) for column in wanted}
    if len(header) == 1 and not is_wanted and (len(name) > NAME or re.search(r"[.!?,]", name)):
        raise BadInput(
            f"{shown(file, 300)} begins with {shown(name)}, which reads like a text: the first line"
            " of a table names its columns. Write a line `text` before it."
        )


def _of_json_lines(file: Path) -> Table:
    """Read JSON lines: objects, or texts, which become the column `text`."""
    rows: list[dict[str, Any]] = []
    places: list[int] = []
    kinds: set[type] = set()
    for line, value in json_lines(file, finite=False):
        kinds.add(type(value))
        if not isinstance(value, str | dict) or len(kinds) > 1:
            raise BadInput(
                f"{shown(file, 300)}, line {line}: each line must be a JSON object with a text, or"
                f" each a JSON string, got {shown(value)}."
            )
        rows.append(value if isinstance(value, dict) else {"text": value})
        places.append(line)
    names = list(dict.fromkeys(name for row in rows for name in row))
    _check_names(file, names)
    columns = {name: [row.get(name) for row in rows] for name in names}
    account = Account(file=file.name, rows=len(rows))
    return Table(file=file, columns=columns, places=places, account=account)


def _of_parquet(file: Path) -> Table:
    """Read a Parquet file."""
    import pyarrow.parquet as pq

    with regular(file) as handle:
        try:
            content = pq.read_table(handle)
            cells = [column.to_pylist() for column in content.columns]
        # pyarrow raises a dozen kinds, all of which mean an unreadable file.
        except Exception as error:
            reason = on_line(str(error).split("\n")[0], 200)
            raise BadInput(f"{shown(file, 300)} cannot be read as parquet: {reason}") from error
    _check_names(file, content.column_names)
    columns = dict(zip(_names(content.column_names), cells, strict=True))
    account = Account(file=file.name, rows=content.num_rows)
    places = range(1, content.num_rows + 1)
    return Table(file=file, columns=columns, places=places, account=account)
