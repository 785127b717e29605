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
from pathlib import Path
from typing import Annotated

import pyarrow as pa

from feature_store.bounds import Plugin
from feature_store.errors import BadInput
from feature_store.progress import Progress
from feature_store.records import Run
from feature_store.runs import schemas
from workbench.settings import plain
from workbench.vision.embedders import make
from workbench.vision.index import build_index, keywords, known_points, listing
from workbench.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class IndexSettings:
    folder: str = ""
    """Folder of images; the folders in it are read too."""
    embedder: Annotated[str, Plugin("embedders")] = "clip"
    """Embedder plug-in: `clip` for what is seen, `colour` for colours alone."""
    options: tuple[str, ...] = ()
    """The embedder's own settings, as key=value."""
    keywords: str = ""
    """TOML file with the words of each value; empty: the built-in list."""


def run(study: Workspace, config: IndexSettings, progress: Progress) -> Run:
    """A run of kind `images`."""
    if not config.folder:
        raise BadInput("Which folder holds the images? Name it with --folder.")
    folder = Path(os.path.expanduser(config.folder)).resolve()
    words = keywords(config.keywords, study.system)
    files = listing(folder, progress)
    embedder = make(config.embedder, config.options)
    inputs = {"embedder": embedder.name, "images": _sum(files), "keywords": _sum(words)}
    plainly = plain(
        dataclasses.replace(config, folder=str(folder), keywords="")
    )  # the words themselves are an input
    if study.runs.exists(id := study.runs.find("images", plainly, inputs, 0)):
        return study.runs.get(id)
    with study.runs.begin("images", plainly, inputs, 0) as work:
        points = embedder.texts([word for _, word in words])
        schema = pa.schema([field for field in schemas()["images"] if field.name != "run"])
        known = known_points(study.store, embedder.name)
        for number, rows in build_index(
            folder, files, embedder, known, work.done("images"), progress
        ):
            work.part("images", number, pa.Table.from_pylist(rows, schema=schema))
        table = work.parts("images")
        counts = {
            status: table["status"].to_pylist().count(status)
            for status in ("embedded", "duplicate", "refused")
        }
        if not counts["embedded"]:
            reasons = [reason for reason in table["reason"].to_pylist() if reason]
            raise BadInput(
                f"{folder} holds no image that can be read ({len(files)} files; the first:"
                f" {reasons[0]}) Give the folder that holds the images."
            )
        work.table("images", table)
        work.table(
            "image_keywords",
            [
                {"value": v, "keyword": w, "embedding": p.tolist()}
                for (v, w), p in zip(words, points, strict=True)
            ],
        )
        return work.finish(
            {"embedder": embedder.name}
            | counts
            | {"known": sum(one.image in known for one in files), "keywords": len(words)}
        )


def _sum(told: object) -> str:
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
