"""Borrow what others wrote of an SAE's features: explanations in words, figures and contexts.

1. The source is opened (`exchange/borrowed.py`): a folder or a file of Neuronpedia, or a feature
   export of SAEDashboard. It is read once to the end before anything is kept, so that a
   half-written one leaves nothing.
2. It must be of this SAE: no feature beyond its last, and the layer that its run reads. Names of
   models differ between tools, so another name is a warning.
3. The rows become the relations of `feature_store/schema/exchange.sql`, beside the labels: an
   explanation names no value and is no label.

Left out: the texts' truth. A stranger's explanation is data; the terminal and the app show it
escaped.
"""

import dataclasses
import hashlib
import itertools
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from feature_store import queries
from feature_store.bounds import CountOrZero
from feature_store.errors import BadInput, Incompatible
from feature_store.files import digest, on_line
from feature_store.progress import Progress
from feature_store.records import Run
from feature_store.schema import schemas
from feature_store.work import Work
from workbench.exchange.borrowed import BorrowedSource, open_source
from workbench.workspace import Workspace

CHUNK = 2048
"""Rows that are written together [rows]."""
SHOWN, LONGEST = 5, 200
"""Explanations that are shown after the run, and how much of each [letters]."""
RELATIONS = ("borrowed_explanations", "borrowed_features", "borrowed_contexts")


@dataclasses.dataclass(frozen=True)
class BorrowSettings:
    """What is borrowed, and for which SAE."""

    source: str = ""
    """Folder of a Neuronpedia export, a file of its explanations (.jsonl, .jsonl.gz, .json), or
    SAEDashboard's batch-N.json or a folder of them."""
    sae: str = "latest"
    """Run of the SAE whose features it is about."""
    contexts: CountOrZero = 0
    """Contexts kept of each feature, the first of the source; 0: all."""


def run(study: Workspace, settings: BorrowSettings, progress: Progress) -> Run:
    """Make a run of kind `borrowed`."""
    if not settings.source:
        raise BadInput("What is borrowed? Give a folder or file of Neuronpedia or SAEDashboard.")
    sae_run = study.resolve("sae", settings.sae)
    source = open_source(Path(settings.source).expanduser())
    counts = _read(source, settings.contexts, sae_run)
    _check_source(source, sae_run)
    pinned = dataclasses.replace(settings, sae=sae_run.id)
    inputs = {"sae": sae_run.id, "source": _checksum(Path(settings.source).expanduser())}

    def build(work: Work) -> dict[str, Any]:
        """Keep the rows, a chunk at a time."""
        for number, (relation, rows) in enumerate(_rows(source, settings.contexts).items(), 1):
            work.stream(relation, _tables(relation, rows))
            progress("keeping", number, len(RELATIONS))
        return counts

    return study.make("borrowed", pinned, inputs, build, seed=0)


def first_lines(study: Workspace, run: Run) -> list[str]:
    """Show a few of the explanations."""
    rows = queries.borrowed_explanations(study.store, run.inputs["sae"])
    some = rows[rows.run == run.id].head(SHOWN)
    return [f"feature {row.feature}: {row.text[:LONGEST]}" for row in some.itertuples()]


def _rows(source: BorrowedSource, contexts: int) -> dict[str, Iterator[Mapping[str, Any]]]:
    """Give the rows of each relation, read anew."""
    kept = (row for row in source.contexts() if not contexts or row["rank"] < contexts)
    return dict(zip(RELATIONS, (source.explanations(), source.features(), kept), strict=True))


def _read(source: BorrowedSource, contexts: int, sae_run: Run) -> dict[str, int]:
    """Read a source to its end and count its rows; raises what any of them is refused for."""
    n_features = int(sae_run.summary["n_features"])
    counts = {}
    for relation, rows in _rows(source, contexts).items():
        count = 0
        for row in rows:
            if row["feature"] >= n_features:
                raise Incompatible(
                    f"The source speaks of feature {row['feature']}, {sae_run.id} has features 0"
                    f" to {n_features - 1}. Name the SAE that it is about (--sae)."
                )
            count += 1
        counts[relation] = count
    if not any(counts.values()):
        raise BadInput("The source holds no explanation, feature or context. Check what it is.")
    return counts


def _check_source(source: BorrowedSource, sae_run: Run) -> None:
    """Hold the source's layers and model against the run's.

    Raises Incompatible for another layer.
    """
    layer = int(sae_run.summary["layer"])
    others = sorted({number for _, number in source.sources()} - {layer})
    if others:
        raise Incompatible(
            f"The source is of layer {others[0]}, {sae_run.id} reads layer {layer}. Name the SAE"
            " that it is about (--sae)."
        )
    short = str(sae_run.config["model"]).rstrip("/").rpartition("/")[2].casefold()
    names = sorted({model for model, _ in source.sources()})
    if strange := [name for name in names if name.rpartition("/")[2].casefold() != short]:
        warnings.warn(
            f"the source is of {on_line(strange[0])}, {sae_run.id} reads {sae_run.config['model']}:"
            " the numbers of its features mean the same only if the two are one model.",
            stacklevel=2,
        )


def _checksum(place: Path) -> str:
    """Give the SHA-256 of a file, or of all files of a folder by their names."""
    if place.is_file():
        return digest(place)
    whole = hashlib.sha256()
    for file in sorted(place.rglob("*")):
        if file.is_file():
            whole.update(f"{file.relative_to(place)} {digest(file)}\n".encode())
    return whole.hexdigest()


def _tables(relation: str, rows: Iterable[Mapping[str, Any]]) -> Iterator[pa.Table]:
    """Give rows as Arrow tables, a chunk each."""
    schema = schemas()[relation]
    columns = pa.schema([field for field in schema if field.name != "run"])
    remaining = iter(rows)
    while chunk := list(itertools.islice(remaining, CHUNK)):
        yield pa.Table.from_pylist(chunk, schema=columns)
