"""What people say of features: who speaks, what may be said, and the small run that keeps it.

1. A person is a name and a desk. The desk is where the name was used first: this machine's account
   (`this_desk`), one tab of the app, or what `WORKBENCH_DESK` says. `person` refuses a name that
   somebody uses at another desk, and says how to go on if it is the same person. Where two people
   take a name in the same instant, the desk still tells them apart.
2. A verdict is checked against the SAE, the value system and the labels that it speaks of
   (`spoken`, `withdrawal`), and gets an id of its own.
3. `keep` writes verdicts as a small run of kind `verdicts`, through the same steps as any other
   run, and has the disk confirm it before it returns. So nothing is overwritten, jobs may run and
   many people may speak at once, and what was acknowledged survives a kill and a loss of power.

Left out: which verdicts count and how far people agree (`feature_store/queries/verdicts.py`), and
files of verdicts (`verdict_files.py`).
"""

import hashlib
import os
import platform
import re
import secrets
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import platformdirs

from feature_store import queries
from feature_store.errors import BadInput, NotFound
from feature_store.files import flush, shown, write_atomically
from feature_store.records import HumanVerdict, Run, VerdictWord, row
from feature_store.store import Store
from feature_store.work import Work
from workbench.workspace import Workspace

KIND = "verdicts"
"""Kind of the runs that hold verdicts."""
DESK = "WORKBENCH_DESK"
"""Environment variable that names the desk, for people who share an account."""
LONGEST_NAME = 60
"""Longest name of a person [letters]."""
LONGEST_NOTE = 2000
"""Longest note [letters]."""
_DESK = re.compile(r"[A-Za-z0-9._-]{1,60}")


@dataclass(frozen=True)
class Person:
    """Who speaks."""

    name: str
    """Name as the person writes it."""
    desk: str
    """Where the name was used first; two people of one name have two desks."""


class NameTaken(BadInput):
    """A name that somebody uses at another desk: `person` says who that is."""

    def __init__(self, message: str, person: Person) -> None:
        super().__init__(message)
        self.person = person


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What a person says of a feature, before it is checked."""

    feature: int
    """0-based feature index."""
    verdict: VerdictWord
    """What is said."""
    value: str = ""
    """The value by any of its names; empty: that of the label which `labels` accepts."""
    polarity: Literal[-1, 0, 1] | None = None
    """Side of the value: +1 held, -1 rejected, 0 both; None: as the label says."""
    labels: str = ""
    """Run of labels whose label it speaks of; empty: of none."""
    note: str = ""
    """Why."""


def this_desk() -> str:
    """Name the desk of this machine's account: kept in the user's data, made when first needed."""
    if named := os.environ.get(DESK, ""):
        return named
    file = platformdirs.user_data_path("values-workbench") / "desk"
    try:
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, secrets.token_hex(4))
        return file.read_text(encoding="utf-8").strip()
    except OSError:  # a home that cannot be written: the account is known by what it is called
        account = f"{platform.node()} {Path.home()}"
        return hashlib.sha256(account.encode()).hexdigest()[:8]


def person(store: Store, name: str, desk: str = "") -> Person:
    """Give the person of a name at a desk; at this machine's where none is named.

    Raises BadInput for what is no name, NameTaken where somebody uses it at another desk.

        person(study.store, "Ada")
    """
    clean = " ".join(unicodedata.normalize("NFKC", name).split())
    if not clean:
        raise BadInput("A verdict needs the name of who gives it: --labeller NAME.")
    if len(clean) > LONGEST_NAME or not clean.isprintable():
        raise BadInput(
            f"--labeller is a name of at most {LONGEST_NAME} printable letters, got {shown(name)}."
        )
    desk = desk or this_desk()
    if not _DESK.fullmatch(desk):
        raise BadInput(
            f"--desk is letters, digits, points and dashes, 60 at most, got {shown(desk)}."
        )
    known = queries.labellers(store)
    alike = known[known.labeller.map(str.casefold) == clean.casefold()]
    here = alike[alike.desk == desk]
    if len(here):
        return Person(name=str(here.labeller.iloc[0]), desk=desk)
    if alike.empty:
        return Person(name=clean, desk=desk)
    other = alike.iloc[0]
    raise NameTaken(
        f"The name {clean!r} is in use at another desk ({other.desk}, {other.verdicts} verdicts,"
        f" the last on {other['last']:%Y-%m-%d %H:%M} UTC). If that is you, give --desk"
        f" {other.desk}; otherwise choose another name.",
        Person(name=str(other.labeller), desk=str(other.desk)),
    )


def spoken(study: Workspace, sae: str, speaker: Person, statement: Statement) -> HumanVerdict:
    """Give a verdict that is ready to be kept.

    Raises NotFound for a feature, a value or a run of labels that is not there, BadInput where
    something is missing.
    """
    if queries.feature(study.store, sae, statement.feature).empty:
        raise NotFound(f"{sae} has no feature {statement.feature}. `workbench app` lists them.")
    value = study.system.resolve(statement.value) if statement.value.strip() else ""
    offered, method = _offered(study.store, statement, value)
    if offered is not None and not value and statement.verdict != "unsure":
        value = str(offered.value)
    if statement.verdict in ("accept", "change", "both") and not value:
        raise BadInput(
            f"Which value does feature {statement.feature} carry? No label of"
            f" {statement.labels or 'a run'} says so: give --value."
        )
    if len(statement.note) > LONGEST_NOTE:
        raise BadInput(
            f"A note has at most {LONGEST_NOTE} letters, got {len(statement.note)}. Shorten it."
        )
    return HumanVerdict(
        id=secrets.token_hex(6),
        sae=sae,
        feature=statement.feature,
        verdict=statement.verdict,
        value=value,
        polarity=_side(statement, offered) if value else 0,
        labels=statement.labels if method else "",
        method=method,
        labeller=speaker.name,
        desk=speaker.desk,
        note=statement.note,
        given=now(),
    )


def withdrawal(
    store: Store, sae: str, speaker: Person, withdrawn: str = "", note: str = ""
) -> HumanVerdict:
    """Give the verdict that withdraws an earlier one of the same person; the last where none is
    named. Raises NotFound where there is none.
    """
    given = queries.verdicts_by(store, sae, speaker.name, speaker.desk)
    named = given[given.id == withdrawn] if withdrawn else given.head(1)
    if named.empty:
        what = f"no verdict {shown(withdrawn)}" if withdrawn else "no verdict"
        raise NotFound(
            f"{speaker.name} has {what} here that still stands. `workbench verdicts` lists all;"
            " people withdraw only their own."
        )
    earlier = named.iloc[0]
    return HumanVerdict(
        id=secrets.token_hex(6),
        sae=sae,
        feature=int(earlier.feature),
        verdict="undo",
        labeller=speaker.name,
        desk=speaker.desk,
        note=note,
        given=now(),
        withdraws=str(earlier.id),
    )


def keep(study: Workspace, entries: Sequence[HumanVerdict]) -> Run:
    """Keep a few verdicts of one SAE as a run. Once it returns, they survive whatever happens.

    keep(study, [spoken(study, sae, person(study.store, "Ada"), statement)])
    """
    settings = {"verdicts": [{**row(v), "given": v.given.isoformat()} for v in entries]}
    return keep_as(study, entries, settings)


def keep_as(
    study: Workspace, entries: Sequence[HumanVerdict], settings: dict[str, Any], source: str = ""
) -> Run:
    """Keep verdicts of one SAE as the run that `settings` names; `source` is a file's checksum."""
    (sae,) = {verdict.sae for verdict in entries}

    def build(work: Work) -> dict[str, Any]:
        """Write the verdicts, and have the disk confirm them."""
        write_rows(work, [{**row(v), "came_in": work.run.id} for v in entries])
        first = entries[0]
        if len(entries) > 1:
            return {
                "verdicts": len(entries),
                "labellers": len({(v.labeller, v.desk) for v in entries}),
            }
        return {
            "feature": first.feature,
            "verdict": first.verdict,
            "value": first.value,
            "labeller": first.labeller,
            "id": first.id,
        }

    inputs = {"sae": sae, "file": source} if source else {"sae": sae}
    run = study.make(KIND, settings, inputs, build, seed=0)
    for folder in (study.runs.folder / run.id, study.runs.folder):  # the names; files are flushed
        flush(folder)
    return run


def write_rows(work: Work, rows: Any) -> None:
    """Write the relation of a run of verdicts, flushed: a person's work is not made again."""
    work.table("verdicts", rows, sort=("given", "id"))
    flush(work.folder / "verdicts.parquet")


def now() -> datetime:
    """Give the time [UTC, without a zone, as the store keeps it]."""
    return datetime.now(UTC).replace(tzinfo=None)


def kept_in(run: Run) -> list[HumanVerdict]:
    """Give the verdicts that the description of a run of `keep` holds; none of another run."""
    entries = run.config.get("verdicts", [])
    return [HumanVerdict(**{**v, "given": datetime.fromisoformat(v["given"])}) for v in entries]


def _offered(store: Store, statement: Statement, value: str) -> tuple[pd.Series | None, str]:
    """Give the accepted label that a statement speaks of, and its labeler.

    Of several it is the one of the named value, else the first. Raises NotFound for no run.
    """
    if not statement.labels:
        return None, ""
    run = store.runs.get(statement.labels)
    rows = queries.competing_labels(store, statement.labels, statement.feature)
    rows = rows[rows.accepted.astype(bool)]
    if value and statement.verdict != "reject":
        rows = rows[rows.value == value]
    return (None if rows.empty else rows.iloc[0]), str(run.config.get("labeler", ""))


def _side(statement: Statement, offered: pd.Series | None) -> Literal[-1, 0, 1]:
    """Give the side of the value: as said, else as the label says; a topic is both sides."""
    if statement.verdict == "both":
        return 0
    if statement.polarity is not None:
        return statement.polarity
    if offered is None or offered.part == "topic":
        return 0
    return 1 if offered.polarity > 0 else -1
