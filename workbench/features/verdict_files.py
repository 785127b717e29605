"""Verdicts as a file: written for others (CSV, Parquet), and read from a spreadsheet of theirs.

1. `export` writes the whole audit trail, withdrawn and replaced verdicts as well.
2. `read` takes any table that `feature_store/tables.py` reads, whatever its separator. The columns
   `feature` and `labeller` must be there, and `verdict` or `value`; the other columns of an export
   may be. A row with a value and no verdict accepts it.
3. Of every row it is said what became of it: read, there already, or left out, with the line and
   the reason. So a file can be mended and read again: a row that is there is not read twice.
4. Verdicts of a file have ids that its rows decide, or those that it names, so that copies of a
   study, labelled apart, come together without doubles.

Left out: formats of other tools.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from feature_store import queries
from feature_store.errors import BadInput, WorkbenchError, nearest
from feature_store.files import digest, replacing, shown
from feature_store.records import HumanVerdict, Run, VerdictWord
from feature_store.schema import schemas
from feature_store.tables import Account, Table, read_table
from workbench.features import verdicts
from workbench.features.verdicts import Person
from workbench.workspace import Workspace

SIDES: Mapping[str, Literal[-1, 0, 1]] = {
    **dict.fromkeys(("1", "+1", "+", "1.0", "held"), 1),
    **dict.fromkeys(("-1", "-", "-1.0", "rejected"), -1),
    **dict.fromkeys(("", "0", "0.0", "both", "topic"), 0),
}
"""How a table writes the side of a value."""
WORDS: tuple[str, ...] = get_args(VerdictWord)
"""What can be accepted."""


@dataclass(frozen=True, kw_only=True)
class ReadVerdicts:
    """What became of a file of verdicts."""

    run: Run | None
    """The run that keeps them; None where no row was new."""
    account: Account
    """How many rows were read, and why the others were not."""
    lines: tuple[str, ...]
    """A line for each row that was left out: its place and the reason."""


def export(study: Workspace, file: Path) -> int:
    """Write every verdict of the study, oldest first; returns their number.

    Raises BadInput for another ending than .csv and .parquet, and where the file exists.

        export(study, Path("verdicts.csv"))
    """
    suffix = file.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise BadInput(f"Verdicts are written as .csv or .parquet, got {shown(file.name)}.")
    if file.exists():
        raise BadInput(f"{shown(file, 300)} exists already. Choose another name, or remove it.")
    frame = queries.verdict_log(study.store)
    # As text, which names the zone and is read back alike from either kind of file.
    frame["given"] = [f"{time.isoformat()}+00:00" for time in frame.given]
    given = pa.field("given", pa.string())
    fields = [given if f.name == "given" else f for f in schemas()["verdicts"] if f.name != "run"]
    schema = pa.schema([*fields, pa.field("standing", pa.string())])
    table = pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as beside:
        if suffix == ".csv":
            pyarrow.csv.write_csv(table, beside)
        else:
            pq.write_table(table, beside)
    return table.num_rows


def read(
    study: Workspace, file: Path, sae: str, labeller: str = "", desk: str = ""
) -> ReadVerdicts:
    """Read a file of verdicts into the study; `labeller` and `desk` are of rows that name none.

    Raises NotFound without the file, BadInput for what is no table of verdicts.

        read(study, Path("ada.csv"), sae.id, labeller="Ada").account.line()
    """
    study.refuse_if_published()
    table = read_table(file, ("feature", "labeller", "verdict", "value"))
    rows = _Rows.of(study, table, sae, Person(labeller, desk))
    known = queries.verdict_ids(study.store)
    accepted: dict[str, HumanVerdict] = {}
    account, lines = table.account, []
    for number in range(len(table)):
        try:
            verdict = rows.verdict(number)
        except WorkbenchError as error:
            account = account.without("left out, each named", 1)
            lines.append(f"{table.where(number)}: {error}")
            continue
        if verdict.id in known or verdict.id in accepted:
            account = account.without("there already", 1)
            continue
        accepted[verdict.id] = verdict
    lines += rows.without_target(accepted, known)
    if not accepted:
        return ReadVerdicts(run=None, account=account, lines=tuple(lines))
    checksum = digest(file)
    settings = {"file": file.name, "ids": _digest(sorted(accepted)), "rows": len(accepted)}
    run = verdicts.keep_as(study, [*accepted.values()], settings, checksum)
    return ReadVerdicts(run=run, account=account, lines=tuple(lines))


class _Rows:
    """The rows of a table as verdicts; what the study holds is looked up once."""

    def __init__(self, study: Workspace, sae: str, cells: Mapping[str, Sequence[str]]) -> None:
        self.study = study
        self.sae = sae
        self.cells = cells
        features = study.store.sql("SELECT feature FROM features WHERE run = ?", [sae])
        self.features = set(features.feature.tolist())
        self.people: dict[tuple[str, str], Person] = {}
        self.read_at = verdicts.now()

    @classmethod
    def of(cls, study: Workspace, table: Table, sae: str, absent: Person) -> "_Rows":
        """Take the columns that verdicts have; `absent` is who speaks where a row names nobody."""
        if "verdict" not in table and "value" not in table:
            table.name("verdict")  # raises, with the columns that there are
        named = [field.name for field in schemas()["verdicts"] if field.name in table]
        cells = {name: [text.strip() for text in table.texts(name)] for name in named}
        cells["feature"] = [text.strip() for text in table.texts("feature")]
        if "labeller" not in cells:
            if not absent.name:
                table.name("labeller")
            cells["labeller"] = [""] * len(table)
        cells["labeller"] = [name or absent.name for name in cells["labeller"]]
        desks = cells.get("desk", [""] * len(table))
        cells["desk"] = [desk or absent.desk for desk in desks]
        return cls(study, sae, cells)

    def verdict(self, number: int) -> HumanVerdict:
        """Give a row as a verdict. Raises WorkbenchError with the reason why it is none."""
        cell = self._cell(number)
        feature = self._feature(cell("feature"))
        if cell("sae") not in ("", self.sae):
            raise BadInput(f"it speaks of {shown(cell('sae'))}, this study's SAE is {self.sae}")
        value = self.study.system.resolve(cell("value")) if cell("value") else ""
        word = cell("verdict").lower() or ("accept" if value else "")
        if word not in WORDS:
            raise BadInput(f"{shown(word)} is no verdict.{nearest(word, WORDS)}")
        if word in ("accept", "change", "both") and not value:
            raise BadInput(f"{word} needs a value, and the row names none")
        if word == "undo" and not cell("withdraws"):
            raise BadInput("an undo names in `withdraws` the verdict that it withdraws")
        side = cell("polarity").lower()
        if side not in SIDES:
            raise BadInput(f"polarity is 1, -1 or 0, got {shown(side)}")
        speaker = self._speaker(cell("labeller"), cell("desk"))
        given = _time(cell("given"))
        content = (self.sae, feature, word, value, SIDES[side], speaker.name, speaker.desk)
        marks = (cell("note"), cell("given"), cell("withdraws"))
        return HumanVerdict(
            id=cell("id") or _digest([*map(str, content), *marks]),
            sae=self.sae,
            feature=feature,
            verdict=_word(word),
            value=value,
            polarity=0 if word == "both" or not value else SIDES[side],
            labels=cell("labels"),
            method=cell("method"),
            labeller=speaker.name,
            desk=speaker.desk,
            note=cell("note"),
            given=given or self.read_at,
            withdraws=cell("withdraws"),
        )

    def without_target(self, accepted: Mapping[str, HumanVerdict], known: set[str]) -> list[str]:
        """Name the undos that withdraw what is neither there nor in the file: they do nothing."""
        return [
            f"{verdict.id} withdraws {shown(verdict.withdraws)}, which is not here: it does nothing"
            " until that verdict comes."
            for verdict in accepted.values()
            if verdict.withdraws and verdict.withdraws not in known | accepted.keys()
        ]

    def _cell(self, number: int) -> Callable[[str], str]:
        """Give a function from a column's name to the row's cell, empty where there is none."""

        def cell(name: str) -> str:
            """Give the cell of a column."""
            return self.cells[name][number] if name in self.cells else ""

        return cell

    def _feature(self, text: str) -> int:
        """Give the number of a feature that the SAE has. Raises BadInput for another."""
        number = text.removesuffix(".0")
        if not number.isascii() or not number.isdecimal():
            raise BadInput(f"a feature is a whole number, got {shown(text)}")
        if len(number) > 9 or int(number) not in self.features:
            raise BadInput(
                f"{self.sae} has no feature {shown(number)}; it has {len(self.features)}"
            )
        return int(number)

    def _speaker(self, name: str, desk: str) -> Person:
        """Give the person of a name, looked up once."""
        if (name, desk) not in self.people:
            self.people[name, desk] = verdicts.person(self.study.store, name, desk)
        return self.people[name, desk]


def _word(word: str) -> VerdictWord:
    """Give a word that is known to be one of the verdicts' with its type."""
    words: Mapping[str, VerdictWord] = {known: known for known in get_args(VerdictWord)}
    return words[word]


def _time(text: str) -> datetime | None:
    """Read a time; without a zone it is UTC. Raises BadInput for what is none."""
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"given is a time such as 2026-11-28 04:00, got {shown(text)}") from None
    return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time


def _digest(parts: Sequence[str]) -> str:
    """Sum up texts in twelve letters."""
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()[:12]
