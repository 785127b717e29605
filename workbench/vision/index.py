"""An index of images: where an embedder puts them, and which of them a word finds.

1. `listing` goes through a folder: every file, known by its digest, in the order of names.
2. `build_index` opens each image once (`images.py`) and embeds it; what is refused is kept with its
   reason, a copy with the name of what it repeats. Rows come in parts, so that who calls it can
   keep them and go on after an interruption.
3. A point that an earlier index of the same embedder holds is taken from there: a word list or a
   new image costs only what is new.
4. `nearest` ranks images by their cosine with each word, in DuckDB, all with all: tens of
   milliseconds a word for tens of thousands of images, so there is no index structure to build,
   tune or get wrong. Equal cosines are ordered by digest.
5. `retrieve` does the same for words that the index does not hold; it opens the embedder for them.

Left out: approximate neighbours, for millions of images.
"""

import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from feature_store.errors import BadInput, Incompatible, NotFound
from feature_store.files import digest
from feature_store.progress import Progress
from feature_store.records import Run, ValueSystem
from feature_store.store import Store
from workbench.material.images import open_image
from workbench.vision.embedders import Embedder, make
from workbench.workspace import Workspace

PART = 64
"""Files embedded, kept, and lost together."""
BUILT_IN = Path(__file__).with_name("keywords.toml")


class Listed(NamedTuple):
    file: str
    """Path inside the folder."""
    image: str
    """SHA-256 of the file."""


def listing(folder: Path, progress: Progress) -> list[Listed]:
    """Every file of the folder and the folders in it, hidden ones left out.

    Raises NotFound or BadInput where there is none.
    """
    if not folder.is_dir():
        raise NotFound(f"There is no folder {folder}. Give the folder that holds the images.")
    inside = [file.relative_to(folder) for file in folder.rglob("*") if file.is_file()]
    names = sorted(
        file.as_posix() for file in inside if not any(part.startswith(".") for part in file.parts)
    )
    if not names:
        raise BadInput(f"{folder} holds no files. Give the folder that holds the images.")
    found = []
    for number, name in enumerate(names):
        found.append(Listed(name, digest(folder / name)))
        progress("reading", number + 1, len(names))
    return found


def build_index(
    folder: Path,
    files: Sequence[Listed],
    embedder: Embedder,
    known: Mapping[str, Mapping[str, Any]],
    done: set[int],
    progress: Progress,
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """(part, its rows of the relation `images`) for every part that is not `done`; `known`:
    digest -> the row of an earlier index.
    """
    first: dict[str, str] = {}
    for one in files:
        first.setdefault(one.image, one.file)
    for number, start in enumerate(range(0, len(files), PART)):
        if number not in done:
            yield number, _part(folder, files[start : start + PART], first, embedder, known)
        progress("embedding", min(start + PART, len(files)), len(files))


def _part(
    folder: Path,
    files: Sequence[Listed],
    first: Mapping[str, str],
    embedder: Embedder,
    known: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    rows, waiting = [], []
    for one in files:
        row = {
            "file": one.file,
            "image": one.image,
            "status": "embedded",
            "reason": "",
            "width": 0,
            "height": 0,
            "embedding": [],
        }
        rows.append(row)
        if first[one.image] != one.file:
            row |= {"status": "duplicate", "reason": first[one.image]}
        elif one.image in known:
            row |= known[one.image]
        else:
            try:
                image = open_image(folder / one.file)
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
    """What earlier indexes of the same embedder hold: digest -> size and point."""
    rows = store.arrow(
        "SELECT i.image, any_value(i.width) AS width, any_value(i.height) AS height,"
        " any_value(i.embedding) AS embedding FROM images i JOIN runs r USING (run) WHERE i.status"
        " = 'embedded' AND r.inputs->>'embedder' = ? GROUP BY i.image",
        [embedder],
    ).to_pylist()
    return {row.pop("image"): row for row in rows}


def keywords(file: str, system: ValueSystem) -> list[tuple[str, str]]:
    """(value, word) pairs of a TOML file with a table a value; empty: the built-in list.

    Raises BadInput for a list that cannot be used.
    """
    path = Path(file) if file else BUILT_IN
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFound(f"There is no file of keywords {path}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not valid TOML in UTF-8: {error}.") from None
    pairs = []
    for value, table in told.items():
        words = table.get("keywords") if isinstance(table, dict) else None
        if (
            not isinstance(words, list)
            or not words
            or not all(isinstance(word, str) and word.strip() for word in words)
        ):
            raise BadInput(f'{path}: [{value}] needs keywords = ["...", ...], at least one.')
        pairs += [(system.resolve(value), word.strip()) for word in words]
    if twice := [f"{value}: {word}" for (value, word), n in Counter(pairs).items() if n > 1]:
        raise BadInput(f"{path} names {twice[0]!r} twice. Keep one.")
    if not pairs:
        raise BadInput(
            f'{path} has no keywords. Write a table a value: [power] keywords = ["..."].'
        )
    return pairs


def nearest(store: Store, run: str, k: int) -> pd.DataFrame:
    """The `k` images nearest to each word of an index: value, keyword, rank [1 to k], image,
    file, similarity [-1 to 1].
    """
    return store.sql(
        _ranked(
            "SELECT value, keyword, embedding FROM image_keywords WHERE run = $run",
            _dim(store, run),
        ),
        {"run": run, "k": _positive(k)},
    )


def retrieve(study: Workspace, keyword: str, k: int = 5, index: str = "latest") -> pd.DataFrame:
    """The `k` images nearest to a word or sentence of yours: rank, image, file, similarity."""
    run = study.resolve("images", index)
    embedder = opened(run)
    point = embedder.texts([keyword])[0].tolist()
    query = _ranked("SELECT '' AS value, $keyword AS keyword, $point AS embedding", len(point))
    found = study.store.sql(
        query, {"run": run.id, "k": _positive(k), "keyword": keyword, "point": point}
    )
    return found.drop(columns=["value", "keyword"])


def opened(run: Run) -> Embedder:
    """The embedder of an index. Raises Incompatible where its model is another by now."""
    embedder = make(run.config["embedder"], run.config["options"])
    if embedder.name != run.inputs["embedder"]:
        raise Incompatible(
            f"{run.id} was made by {run.inputs['embedder']}, the embedder is {embedder.name} now."
            " Index the folder again."
        )
    return embedder


def _ranked(words: str, dim: int) -> str:
    # Lists become arrays once, before they are paired; the best k of each word are kept in one
    # pass, without sorting all pairs.
    return f"""
        WITH i AS MATERIALIZED (
            SELECT image, file, -row_number() OVER (ORDER BY image) AS n, embedding::FLOAT[{dim}] AS point FROM images WHERE run = $run AND status = 'embedded'),
        w AS MATERIALIZED (SELECT value, keyword, embedding::FLOAT[{dim}] AS point FROM ({words})),
        best AS (
            SELECT value, keyword, max({{'similarity': array_cosine_similarity(i.point, w.point), 'n': n}}, $k::INTEGER) AS found FROM i, w GROUP BY value, keyword),
        ranked AS (SELECT value, keyword, unnest(found) AS one, generate_subscripts(found, 1) AS rank FROM best)
        SELECT value, keyword, rank, image, file, one.similarity AS similarity FROM ranked JOIN i ON i.n = one.n ORDER BY value, keyword, rank"""


def _dim(store: Store, run: str) -> int:
    return int(
        store.sql("SELECT max(len(embedding)) AS dim FROM images WHERE run = ?", [run]).dim[0]
    )


def _positive(k: int) -> int:
    if k < 1:
        raise BadInput(f"k is the number of images a word, at least 1; got {k}.")
    return k
