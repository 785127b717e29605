"""An index of images: where an embedder puts them, and which images are nearest to a word.

1. `listing` goes through a folder: every file, known by its digest, in the order of names.
2. `build_index` opens each image once (`material/images.py`) and embeds it. A refused file is kept
   with its reason, a copy with the name of the file that it repeats. Rows come in parts, so that
   the caller can keep them and go on after an interruption.
3. A point that an earlier index of the same embedder holds is taken from there: a word list or a
   new image costs only what is new.
4. `nearest` ranks images by their cosine with each word, in DuckDB, all with all: tens of
   milliseconds a word for tens of thousands of images, so there is no index structure to build,
   tune or get wrong. Equal cosines are ordered by digest.
5. `retrieve` does the same for words that the index does not hold; it opens the embedder for them.

Left out: approximate neighbours, for millions of images.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from feature_store.errors import BadInput, Incompatible, NotFound
from feature_store.files import digest, read_toml
from feature_store.progress import Progress
from feature_store.records import Run, ValueSystem
from feature_store.store import Store
from workbench.material.images import open_image
from workbench.vision.embedders import Embedder, make
from workbench.workspace import Workspace

PART = 64
"""Files embedded, kept, and lost together."""
BUILT_IN = Path(__file__).with_name("keywords.toml")
"""The list of keywords that ships."""


class ImageFile(NamedTuple):
    """A file of the folder that is indexed; whether it is an image is not known yet."""

    file: str
    """Path inside the folder."""
    image: str
    """SHA-256 of the file."""


def listing(folder: Path, progress: Progress) -> list[ImageFile]:
    """List every file of a folder and the folders in it, hidden ones left out.

    Raises NotFound where there is no folder, BadInput where it holds no file.
    """
    if not folder.is_dir():
        raise NotFound(f"There is no folder {folder}. Give the folder that holds the images.")
    inside = [file.relative_to(folder) for file in folder.rglob("*") if file.is_file()]
    names = sorted(
        file.as_posix() for file in inside if not any(part.startswith(".") for part in file.parts)
    )
    if not names:
        raise BadInput(f"{folder} holds no files. Give the folder that holds the images.")
    files = []
    for number, name in enumerate(names):
        files.append(ImageFile(name, digest(folder / name)))
        progress("reading", number + 1, len(names))
    return files


def build_index(
    folder: Path,
    files: Sequence[ImageFile],
    embedder: Embedder,
    earlier: Mapping[str, Mapping[str, Any]],
    done: set[int],
    progress: Progress,
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Embed the images of a folder, and give (part, its rows of the relation `images`).

    Parts in `done` are passed over. `earlier` has the rows of earlier indexes, digest -> row: an
    image among them is not embedded again.
    """
    first: dict[str, str] = {}
    for file in files:
        first.setdefault(file.image, file.file)
    for number, start in enumerate(range(0, len(files), PART)):
        if number not in done:
            yield number, _part(folder, files[start : start + PART], first, embedder, earlier)
        progress("embedding", min(start + PART, len(files)), len(files))


def _part(
    folder: Path,
    files: Sequence[ImageFile],
    first: Mapping[str, str],
    embedder: Embedder,
    earlier: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """The rows of some files; `first`: digest -> the first file with this content."""
    rows, waiting = [], []
    for file in files:
        row: dict[str, Any] = {
            "file": file.file,
            "image": file.image,
            "status": "embedded",
            "reason": "",
            "width": 0,
            "height": 0,
            "embedding": [],
        }
        rows.append(row)
        if first[file.image] != file.file:
            row |= {"status": "duplicate", "reason": first[file.image]}
        elif file.image in earlier:
            row |= earlier[file.image]
        else:
            try:
                image = open_image(folder / file.file)
            except BadInput as error:
                row |= {"status": "refused", "reason": str(error)}
            else:
                row |= {"width": image.width, "height": image.height}
                waiting.append((row, image))
    if waiting:
        points = embedder.images([image for _, image in waiting])
        for (row, _), point in zip(waiting, points, strict=True):
            row["embedding"] = _finite(point, embedder.name, row["file"])
    return rows


def _finite(point: Float[np.ndarray, " dim"], name: str, what: str) -> list[float]:
    if not np.isfinite(point).all():
        raise BadInput(
            f"{name} gives NaN for {what}. Use float32 (--options dtype=float32), or another model."
        )
    return point.tolist()


def known_points(store: Store, embedder: str) -> dict[str, dict[str, Any]]:
    """Read what earlier indexes of the same embedder hold: digest -> size and point."""
    rows = store.arrow(
        "SELECT i.image, any_value(i.width) AS width, any_value(i.height) AS height,"
        " any_value(i.embedding) AS embedding FROM images i JOIN runs r USING (run) WHERE i.status"
        " = 'embedded' AND r.inputs->>'embedder' = ? GROUP BY i.image",
        [embedder],
    ).to_pylist()
    return {row.pop("image"): row for row in rows}


def keywords(file: str, system: ValueSystem) -> list[tuple[str, str]]:
    """Read the keywords of a TOML file with a table a value, as (value, word) pairs.

    An empty name reads the built-in list. Raises NotFound or BadInput for a list that cannot be
    used.
    """
    path = Path(file) if file else BUILT_IN
    try:
        tables = read_toml(path)
    except NotFound:
        raise NotFound(f"There is no file of keywords {path}.") from None
    pairs = []
    for value, table in tables.items():
        words = _words(table)
        if not words:
            raise BadInput(f'{path}: [{value}] needs keywords = ["...", ...], at least one.')
        pairs += [(system.resolve(value), word) for word in words]
    if twice := [f"{value}: {word}" for (value, word), n in Counter(pairs).items() if n > 1]:
        raise BadInput(f"{path} names {twice[0]!r} twice. Keep one.")
    if not pairs:
        raise BadInput(
            f'{path} has no keywords. Write a table a value: [power] keywords = ["..."].'
        )
    return pairs


def _words(table: Any) -> list[str]:
    """The keywords of a value's table, stripped; none where any of them is no text, or empty."""
    words = table.get("keywords") if isinstance(table, dict) else None
    if not isinstance(words, list):
        return []
    usable = all(isinstance(word, str) and word.strip() for word in words)
    return [word.strip() for word in words] if usable else []


def nearest(store: Store, run: str, k: int) -> pd.DataFrame:
    """Find the `k` images nearest to each word of an index.

    Columns: value, keyword, rank [1 to k], image, file, similarity [-1 to 1]. Raises BadInput for
    `k` below 1.
    """
    return store.sql(
        _ranked(
            "SELECT value, keyword, embedding FROM image_keywords WHERE run = $run",
            _dim(store, run),
        ),
        {"run": run, "k": _positive(k)},
    )


def retrieve(study: Workspace, keyword: str, k: int = 5, index: str = "latest") -> pd.DataFrame:
    """Find the `k` images nearest to a word or sentence: rank, image, file, similarity."""
    run = study.resolve("images", index)
    embedder = opened(run)
    point = embedder.texts([keyword])[0].tolist()
    query = _ranked("SELECT '' AS value, $keyword AS keyword, $point AS embedding", len(point))
    ranked = study.store.sql(
        query, {"run": run.id, "k": _positive(k), "keyword": keyword, "point": point}
    )
    return ranked.drop(columns=["value", "keyword"])


def opened(run: Run) -> Embedder:
    """Open the embedder of an index. Raises Incompatible where its model is another by now."""
    embedder = make(run.config["embedder"], run.config["options"])
    if embedder.name != run.inputs["embedder"]:
        raise Incompatible(
            f"{run.id} was made by {run.inputs['embedder']}, the embedder is {embedder.name} now."
            " Index the folder again."
        )
    return embedder


def _ranked(words: str, dim: int) -> str:
    """The query that ranks the images of a run by the words that another query gives."""
    # Lists become arrays once, before they are paired; the best k of each word are kept in one
    # pass, without sorting all pairs.
    return f"""
        WITH i AS MATERIALIZED (
            SELECT image, file, -row_number() OVER (ORDER BY image) AS n,
                embedding::FLOAT[{dim}] AS point
            FROM images WHERE run = $run AND status = 'embedded'),
        w AS MATERIALIZED (
            SELECT value, keyword, embedding::FLOAT[{dim}] AS point FROM ({words})),
        best AS (
            SELECT value, keyword, max({{
                'similarity': array_cosine_similarity(i.point, w.point), 'n': n
            }}, $k::INTEGER) AS pairs
            FROM i, w GROUP BY value, keyword),
        ranked AS (
            SELECT value, keyword, unnest(pairs) AS pair, generate_subscripts(pairs, 1) AS rank
            FROM best)
        SELECT value, keyword, rank, image, file, pair.similarity AS similarity
        FROM ranked JOIN i ON i.n = pair.n ORDER BY value, keyword, rank"""


def _dim(store: Store, run: str) -> int:
    return int(
        store.sql("SELECT max(len(embedding)) AS dim FROM images WHERE run = ?", [run]).dim[0]
    )


def _positive(k: int) -> int:
    if k < 1:
        raise BadInput(f"k is the number of images a word, at least 1; got {k}.")
    return k
