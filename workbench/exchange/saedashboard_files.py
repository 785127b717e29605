"""Feature exports of SAEDashboard, read: `batch-N.json`, one or a folder of them.

A file is one object with `model_id`, `layer` and `features`; each feature has its figures and its
`activations`: the strongest contexts and samples from bins of the activation. One file is in memory
at a time. Left out: correlated neurons, which belong to a basis that no SAE has.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from feature_store.errors import BadInput
from feature_store.files import DOCUMENT, on_line, read_json
from workbench.exchange.reading import Fields, batches, context, figures

BIN = {"bin_low": "bin_min", "bin_high": "bin_max", "bin_share": "bin_contains"}
"""Column -> SAEDashboard's field."""


class FeatureExport:
    """One `batch-N.json`, or a folder of them."""

    def __init__(self, place: Path) -> None:
        """Find the batches. Raises BadInput where one is missing between the others."""
        self._files = [place] if place.is_file() else batches(place, ".json")
        self._seen: set[tuple[str, int]] = set()

    @staticmethod
    def fits(place: Path) -> bool:
        """Say whether a path leads to such a file, or a folder of them."""
        if place.is_dir():
            return any(place.glob("batch-*.json"))
        return place.name.startswith("batch-") and place.suffix == ".json"

    def explanations(self) -> Iterator[dict[str, Any]]:
        """Give none: SAEDashboard explains nothing in words."""
        return iter(())

    def features(self) -> Iterator[dict[str, Any]]:
        """Give the rows of the relation `borrowed_features`."""
        for feature in self._features():
            largest = [
                max(values)
                for activation in feature.rows("activations")
                if (values := activation.numbers("values"))
            ]
            yield figures(feature, "feature_index", max(largest, default=None))

    def contexts(self) -> Iterator[dict[str, Any]]:
        """Give the rows of the relation `borrowed_contexts`."""
        for feature in self._features():
            index = feature.whole("feature_index")
            for rank, activation in enumerate(feature.rows("activations")):
                yield context(activation, index, rank, BIN)

    def sources(self) -> set[tuple[str, int]]:
        """Name the (model, 0-based layer) pairs that its rows are of, once they were read."""
        return self._seen

    def _features(self) -> Iterator[Fields]:
        for file in self._files:
            name = on_line(str(file), 300)
            batch = Fields(read_json(file, DOCUMENT), name)
            if not batch.has("model_id", "layer", "features"):
                raise BadInput(
                    f"{name} is no feature export of SAEDashboard: it has model_id, layer and"
                    " features. Export it again."
                )
            self._seen.add((batch.text("model_id"), batch.whole("layer")))
            yield from batch.rows("features")
