"""What a model's folder holds, summed up: its revision.

1. Whatever decides what the model reads and writes counts: weights, configurations (of the model,
   its generation, its images), the tokenizer in any of its forms, and the chat templates. Which
   files a family reads only its own code knows, so every file counts that is not known to be beside
   the point (`BESIDE`): a README may change, a word list may not.
2. Every file counts whole. A flipped byte in the middle of the weights is another model.
3. The digest of a large file is kept in the user's cache, found by the file's path, inode, size and
   times, and so costs a second reading only after the file was written to. Its time of change
   (ctime) cannot be set back, as that of modification can.

Left out: a disk that gives other bytes without being written to, until the cache is emptied.
"""

import contextlib
import hashlib
import os
import time
from pathlib import Path

from feature_store.files import digest, write_atomically

BESIDE = frozenset(
    [
        *(".md", ".rst", ".pdf", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".csv", ".log", ".py"),
        *(".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf"),
        *(".zip", ".gz", ".tar", ".part", ".lock"),
    ]
)
"""Endings of files that are never read: words and pictures for people, code, weights in formats
that are refused."""
BESIDE_NAMES = frozenset(
    ["license", "notice", "copying", "trainer_state.json", "all_results.json", "train_results.json"]
)
"""Names of files that are never read, in lower case and without `.txt`."""
TEMPLATES = "additional_chat_templates"
"""The only folder within it that is read."""
LARGE = 64 * 2**20
"""From this size on a file's digest is kept [bytes]."""
SETTLED = 2.0
"""A file's digest is kept when its last change lies this far back: a later one within the same tick
of the clock would not show [s]."""


def checksum(folder: Path) -> str:
    """Sum a model folder up in 40 hexadecimal digits.

    Two folders have the same where every file that a model may be read from has the same name and
    content.
    """
    whole = hashlib.sha256()
    for file in _files(folder):
        name = file.relative_to(folder).as_posix()
        whole.update(f"{name}:{_digest(file)}\n".encode())
    return whole.hexdigest()[:40]


def file_checksum(file: Path) -> str:
    """Sum a model up that is one file, in 40 hexadecimal digits."""
    return _digest(file)[:40]


def _files(folder: Path) -> list[Path]:
    """List the files that count, in the order of their names."""
    files = [*folder.iterdir(), *(folder / TEMPLATES).glob("*")]
    counted = [file for file in files if file.is_file() and not _beside(file.name)]
    return sorted(counted, key=lambda file: file.relative_to(folder).as_posix())


def _beside(name: str) -> bool:
    """Whether a file of this name is never read."""
    name = name.lower()
    named = name.removesuffix(".txt") in BESIDE_NAMES
    return named or name.startswith(".") or Path(name).suffix in BESIDE


def _digest(file: Path) -> str:
    """SHA-256 of a file, that of a large one from the cache where it was not written to since."""
    if file.stat().st_size < LARGE:
        return digest(file)
    path = file.resolve()
    before = path.stat()
    key = f"{path}:{before.st_dev}:{before.st_ino}:{before.st_size}:{before.st_mtime_ns}"
    key = hashlib.sha256(f"{key}:{before.st_ctime_ns}".encode()).hexdigest()
    kept = cache() / key
    with contextlib.suppress(OSError, ValueError):
        known = kept.read_text("ascii")
        if len(known) == 64:
            return known
    made = digest(path)
    after = path.stat()
    unchanged = (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns)
    if unchanged and time.time() - after.st_ctime > SETTLED:
        # A cache that cannot be written to costs time only.
        with contextlib.suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(kept, made)
    return made


def cache() -> Path:
    """Name the folder of kept digests: `$XDG_CACHE_HOME/values-workbench/checksums`.

    Without the variable it lies in `~/.cache`. It may be removed at any time.
    """
    place = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(place) / "values-workbench" / "checksums"
