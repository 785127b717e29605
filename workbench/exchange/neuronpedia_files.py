"""Neuronpedia's exports, read: a folder of batches, or a file of explanations alone.

`layer` of every row is `LAYER-SET`. Values of an activation are on its tokens in order. Left out:
vectors (the SAE itself has them), users, votes and embeddings of explanations.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from feature_store.errors import BadInput
from feature_store.files import DOCUMENT, on_line, read_json, shown
from workbench.exchange.reading import Fields, batches, context, figures, json_rows

FEATURES, ACTIVATIONS, EXPLANATIONS = "features", "activations", "explanations"
BIN = {"bin_low": "binMin", "bin_high": "binMax", "bin_share": "binContains"}
"""Column -> Neuronpedia's field."""
LINES = (".jsonl", ".jsonl.gz", ".json")


class NeuronpediaExport:
    """A folder with `features/`, `activations/` and `explanations/`, any of them."""

    def __init__(self, folder: Path) -> None:
        """Find the batches. Raises BadInput where one is missing, or the folder is half-written."""
        self._files = {
            kind: batches(folder / kind, ".jsonl") for kind in (FEATURES, ACTIVATIONS, EXPLANATIONS)
        }
        self._seen: set[tuple[str, int]] = set()
        if not any(self._files.values()):
            raise BadInput(
                f"{on_line(str(folder), 300)} is half-written: its folders hold no"
                " batch-N.jsonl.gz. Download or export it again."
            )
        counts = {kind: len(files) for kind, files in self._files.items() if files}
        if self._files[ACTIVATIONS] and not self._files[FEATURES]:
            raise BadInput(
                f"{on_line(str(folder), 300)} is half-written: it has {counts[ACTIVATIONS]} batches"
                " of activations and none of features. Download or export it again."
            )

    @staticmethod
    def fits(place: Path) -> bool:
        """Say whether a path leads to such a folder."""
        kinds = (FEATURES, ACTIVATIONS, EXPLANATIONS)
        return any((place / kind).is_dir() for kind in kinds)

    def explanations(self) -> Iterator[dict[str, Any]]:
        """Give the rows of the relation `borrowed_explanations`."""
        return _explained(self._rows(EXPLANATIONS), self._seen)

    def features(self) -> Iterator[dict[str, Any]]:
        """Give the rows of the relation `borrowed_features`."""
        for fields in self._rows(FEATURES):
            _note(fields, self._seen)
            yield figures(fields, "index", fields.number("maxActApprox"))

    def contexts(self) -> Iterator[dict[str, Any]]:
        """Give the rows of the relation `borrowed_contexts`."""
        ranks: Counter[int] = Counter()
        for fields in self._rows(ACTIVATIONS):
            _note(fields, self._seen)
            feature = fields.whole("index")
            yield context(fields, feature, ranks[feature], BIN)
            ranks[feature] += 1

    def sources(self) -> set[tuple[str, int]]:
        """Name the (model, 0-based layer) pairs that its rows are of, once they were read."""
        return self._seen

    def _rows(self, kind: str) -> Iterator[Fields]:
        for file in self._files[kind]:
            yield from json_rows(file)


class ExplanationFile:
    """A file of explanations: JSON lines, compressed or not, or one JSON list."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen: set[tuple[str, int]] = set()

    @staticmethod
    def fits(place: Path) -> bool:
        """Say whether a path leads to such a file."""
        return place.is_file() and place.name.endswith(LINES)

    def explanations(self) -> Iterator[dict[str, Any]]:
        """Give the rows of the relation `borrowed_explanations`."""
        return _explained(self._rows(), self._seen)

    def features(self) -> Iterator[dict[str, Any]]:
        """Give none: the file holds explanations alone."""
        return iter(())

    def contexts(self) -> Iterator[dict[str, Any]]:
        """Give none: the file holds explanations alone."""
        return iter(())

    def sources(self) -> set[tuple[str, int]]:
        """Name the (model, 0-based layer) pairs that its rows are of, once they were read."""
        return self._seen

    def _rows(self) -> Iterator[Fields]:
        if not self._file.name.endswith(".json"):
            yield from json_rows(self._file)
            return
        content = read_json(self._file, DOCUMENT)
        name = on_line(str(self._file), 300)
        if not isinstance(content, list):
            raise BadInput(f"{name} is a list of explanations, got {shown(content)}.")
        for number, entry in enumerate(content, 1):
            yield Fields(entry, f"{name}, explanation {number}")


def _explained(rows: Iterable[Fields], seen: set[tuple[str, int]]) -> Iterator[dict[str, Any]]:
    """Turn explanations into rows of the relation; empty ones say nothing and are passed over."""
    ranks: Counter[int] = Counter()
    for fields in rows:
        _note(fields, seen)
        if not fields.has("description"):
            raise BadInput(f"{fields.where}: an explanation has a description. It has none.")
        description = fields.text("description")
        if not description.strip():
            continue
        feature = fields.whole("index")
        yield {
            "feature": feature,
            "rank": ranks[feature],
            "text": description,
            "method": fields.text("typeName"),
            "model": fields.text("explanationModelName"),
            "author": fields.text("authorId"),
            "notes": fields.text("notes"),
            "created": fields.text("createdAt"),
        }
        ranks[feature] += 1


def _note(fields: Fields, seen: set[tuple[str, int]]) -> None:
    """Note of which model and layer a row is. Raises BadInput where it does not say so."""
    layer = re.match(r"([0-9]{1,4})(?:-|$)", fields.text("layer"))
    if layer is None:
        raise BadInput(
            f"{fields.where}: layer is LAYER-SET such as 20-gemmascope-res-16k, got"
            f" {shown(fields.text('layer'))}."
        )
    seen.add((fields.text("modelId"), int(layer[1])))
