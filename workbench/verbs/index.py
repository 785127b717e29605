"""Index a folder of images by what they show, so that words find them (Value-Spectrum; Li et al.,
ACL 2025).

1. Every file of the folder is read for its digest: the folder's content names the run, so a changed
   folder makes another.
2. Images are embedded part by part; an interrupted run goes on at the part it was in, and what an
   earlier index of the same embedder holds is taken from there. Broken, huge and foreign files are
   kept as refused, with the reason.
3. The keywords of each value are embedded too. So an instrument ranks images by words without
   loading the embedder.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from feature_store.bounds import Plugin
from feature_store.errors import BadInput
from feature_store.progress import Progress
from feature_store.records import Run
from feature_store.schema import schemas
from feature_store.work import Work
from workbench.vision.embedders import make
from workbench.vision.index import build_index, keywords, known_points, listing
from workbench.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class IndexSettings:
    """Which images are indexed, by which embedder, under which words."""

    folder: str = ""
    """Folder of images; the folders in it are read too."""
    embedder: Annotated[str, Plugin("embedders")] = "clip"
    """Embedder plug-in: `clip` for what is seen, `colour` for colours alone."""
    options: tuple[str, ...] = ()
    """The embedder's own settings, as key=value."""
    keywords: str = ""
    """TOML file with the words of each value; empty: the built-in list."""


def run(study: Workspace, settings: IndexSettings, progress: Progress) -> Run:
    """Make a run of kind `images`."""
    if not settings.folder:
        raise BadInput("Which folder holds the images? Name it with --folder.")
    folder = Path(os.path.expanduser(settings.folder)).resolve()
    words = keywords(settings.keywords, study.system)
    files = listing(folder, progress)
    embedder = make(settings.embedder, settings.options)
    inputs = {"embedder": embedder.name, "images": _digest(files), "keywords": _digest(words)}
    # The words themselves are an input, wherever their file lies.
    pinned = dataclasses.replace(settings, folder=str(folder), keywords="")

    def build(work: Work) -> dict[str, Any]:
        """Embed the images part by part, then the keywords, and write the tables."""
        points = embedder.texts([word for _, word in words])
        indexed = known_points(study.store, embedder.name)
        parts = build_index(folder, files, embedder, indexed, work.done("images"), progress)
        for number, rows in parts:
            work.part("images", number, pa.Table.from_pylist(rows, schema=_schema()))
        table = work.parts("images")
        counts = _counts(table, folder)
        work.table("images", table)
        work.table("image_keywords", _keyword_rows(words, points))
        return {
            "embedder": embedder.name,
            **counts,
            "known": sum(file.image in indexed for file in files),
            "keywords": len(words),
        }

    return study.make("images", pinned, inputs, build, seed=0)


def _schema() -> pa.Schema:
    """Give the columns of `images` but for the run."""
    return pa.schema([field for field in schemas()["images"] if field.name != "run"])


def _counts(table: pa.Table, folder: Path) -> dict[str, int]:
    """Count the files of each status. Raises BadInput where no image could be embedded."""
    statuses = table["status"].to_pylist()
    counts = {status: statuses.count(status) for status in ("embedded", "duplicate", "refused")}
    if not counts["embedded"]:
        reasons = [reason for reason in table["reason"].to_pylist() if reason]
        raise BadInput(
            f"{folder} holds no image that can be read ({len(statuses)} files; the first:"
            f" {reasons[0]}) Give the folder that holds the images."
        )
    return counts


def _keyword_rows(
    words: Sequence[tuple[str, str]], points: Float[np.ndarray, "word dim"]
) -> list[dict[str, Any]]:
    """Give the rows of `image_keywords`: every value's words with their embedding."""
    return [
        {"value": value, "keyword": word, "embedding": point.tolist()}
        for (value, word), point in zip(words, points, strict=True)
    ]


def _digest(content: object) -> str:
    """Give the SHA-256 of something as JSON."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
