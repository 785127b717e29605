"""What others wrote of an SAE's features: opened, checked, and read row by row.

1. A source is a folder in Neuronpedia's export format, a file of its explanations (JSON lines,
   compressed or not, or the JSON list that its page downloads), or a feature export of SAEDashboard
   (`batch-N.json`, one or a folder of them).
2. `BorrowedSource` gives rows of the three relations of `feature_store/schema/exchange.sql`, one at
   a time, so that memory does not grow with the source.
3. Every row is held to its types as it is read. A file that ends in the middle and a batch that is
   missing are refused by name: the rest of a half-written folder would look whole.

Texts stay what they are, markup and control characters included; who shows them escapes them.
Left out: the source's users, votes and scores.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from feature_store.errors import BadInput, NotFound
from feature_store.files import on_line
from workbench.exchange.neuronpedia_files import ExplanationFile, NeuronpediaExport
from workbench.exchange.saedashboard_files import FeatureExport

Row = Mapping[str, Any]
KINDS = (NeuronpediaExport, FeatureExport, ExplanationFile)
"""Kinds of source, in the order in which they are tried."""


@runtime_checkable
class BorrowedSource(Protocol):
    """A source of explanations, figures and contexts of features."""

    def explanations(self) -> Iterator[Row]:
        """Give the rows of the relation `borrowed_explanations`."""

    def features(self) -> Iterator[Row]:
        """Give the rows of the relation `borrowed_features`."""

    def contexts(self) -> Iterator[Row]:
        """Give the rows of the relation `borrowed_contexts`."""

    def sources(self) -> set[tuple[str, int]]:
        """Name the (model, 0-based layer) pairs that its rows are of, once they were read."""


def open_source(place: Path) -> BorrowedSource:
    """Open what lies at a path.

    Raises NotFound where there is nothing, BadInput where it is none of the formats.

        sum(1 for row in open_source(Path("gemma-2-2b/20-res")).explanations())
    """
    if not place.exists():
        raise NotFound(f"There is nothing at {on_line(str(place), 300)}. Check the path.")
    for kind in KINDS:
        if kind.fits(place):
            return kind(place)
    raise BadInput(
        f"{on_line(str(place), 300)} is none of the formats that are read: a folder with features/"
        " or explanations/ as Neuronpedia exports it, a file of explanations (.json, .jsonl,"
        " .jsonl.gz), or SAEDashboard's batch-N.json."
    )
