"""Write files whole or not at all, know them again by their content, and read a stranger's file.

1. A file is written beside its place, as `<name>.part`, and renamed when it is complete: a reader
   sees the old file or the new one, never half of either, and a process that is killed leaves the
   old one.
2. A stranger's file is opened by `read_bytes` and what stands on it: a regular file of a stated
   size, so that a pipe is not waited for and `/dev/zero` does not fill the memory.
3. `read_text` takes UTF-8, with or without a byte-order mark, and UTF-16 with one; `read_json`,
   `json_lines` and `read_toml` take what those languages allow and what a run can keep: no object
   that gives a name twice, no number that is not finite, no half of a surrogate pair, no nesting
   beyond `DEEPEST`.

What is refused is a BadInput or NotFound of one line that names the file.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import stat
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from feature_store.errors import BadInput, NotFound

SETTINGS = 16 * 2**20
"""Largest file of settings [bytes]."""
DOCUMENT = 2**30
"""Largest file of items, answers or a description [bytes]."""
CORPUS = 8 * 2**30
"""Largest file of texts, which is read whole [bytes]."""
DEEPEST = 100
"""Deepest nesting of lists and objects that is read [levels]."""
LONGEST = 308
"""Longest whole number that is read [digits]; a longer one has no floating-point number near it."""
_PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
DOTTED = re.compile(rf"(?<![\w-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{DEEPEST}}}")
"""A key of TOML of so many parts that its reader would take minutes."""
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)
"""What a path can lead to instead of a regular file."""

BESIDE = ".part"
"""End of the name of a file that is being written."""


def sweep(folder: Path) -> None:
    """Remove what a process that was killed left beside the files it was writing."""
    for file in folder.rglob(f"*{BESIDE}"):
        file.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(file: Path, flush: bool = True) -> Iterator[Path]:
    """Give a path to write to, and put it in the place of `file` when the block ends well.

    `flush` waits until the content is on the disk, so that it also survives a loss of power. Where
    the block raises, what it wrote is removed and `file` stays as it was.

        with replacing(folder / "weights.safetensors") as beside:
            save_file(tensors, beside)
    """
    beside = file.with_name(file.name + BESIDE)
    try:
        yield beside
        if flush:
            with beside.open("rb+") as handle:
                os.fsync(handle.fileno())
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    beside.replace(file)


def write_atomically(file: Path, text: str) -> None:
    """Replace a file by a text in one step, flushed to the disk."""
    with replacing(file) as beside:
        beside.write_text(text, encoding="utf-8")


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk: they survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(file: str | Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with Path(file).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def on_line(text: str, most: int = 60) -> str:
    """Put a stranger's text on one printable line of at most `most` letters.

    >>> on_line("line" + chr(10) + "break")
    'line?break'
    """
    line = "".join(sign if sign.isprintable() else "?" for sign in text)
    return line if len(line) <= most else f"{line[: most - 3]}..."


def shown(value: Any, most: int = 60) -> str:
    """Show a stranger's value in a message: one line, printable, at most `most` letters.

    >>> shown("line" + chr(10) + "break")
    "'line\\nbreak'"
    """
    try:
        text = str(value) if isinstance(value, Path | Exception) else repr(value)
    except (RecursionError, ValueError):  # nested too deeply, or a number of too many digits
        text = f"a {type(value).__name__}"
    return on_line(text, most)


def listed(names: Iterable[str]) -> str:
    """List a stranger's names in a message, as they stand; `none` where there is none."""
    return ", ".join(on_line(name) for name in list(names)[:30]) or "none"


def read_bytes(file: str | Path, limit: int = DOCUMENT) -> bytes:
    """Read a regular file of at most `limit` bytes.

    Raises NotFound where there is none, BadInput for a folder, a pipe, a device, a file that may
    not be read and one that is larger.
    """
    with regular(file) as handle:
        size = os.fstat(handle.fileno()).st_size
        try:
            content = handle.read(limit + 1) if size <= limit else None
        except OSError as error:  # a damaged disk, or a file of the kernel
            name = on_line(str(file), 300)
            raise BadInput(f"{name} cannot be read: {error.strerror}. Check it.") from None
    # Files of the kernel say that they hold nothing: what is read counts too.
    if content is None or len(content) > limit:
        raise BadInput(
            f"{on_line(str(file), 300)} is larger than {limit / 2**20:.0f} MiB, the most that is"
            " read of such a file. Give a smaller one."
        )
    return content


@contextlib.contextmanager
def regular(file: str | Path) -> Iterator[BinaryIO]:
    """Open a regular file, for a library that reads it by itself. Raises as `read_bytes` does."""
    name = on_line(str(file), 300)
    try:
        # Without O_NONBLOCK, opening a pipe waits for somebody who writes into it.
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"There is no file {name}. Check the path.") from None
    except OSError as error:
        raise BadInput(f"{name} cannot be read: {error.strerror}. Check the path.") from None
    except ValueError:  # a NUL in the path
        raise BadInput(f"{name} is no path of a file. Check the path.") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = next((kind for is_kind, kind in KINDS if is_kind(mode)), "no file")
            raise BadInput(f"{name} is {kind}, a file is needed. Give the path of a file.")
        with open(descriptor, "rb", closefd=False) as handle:
            yield handle
    finally:
        os.close(descriptor)


def read_text(file: str | Path, limit: int = DOCUMENT) -> str:
    """Read a text in UTF-8, or in UTF-16 with a byte-order mark; line ends stay as they are.

    Raises as `read_bytes` does, and BadInput for another encoding and for a NUL byte.
    """
    content = read_bytes(file, limit)
    name = on_line(str(file), 300)
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{name} is not UTF-8 text (byte {error.start}). Convert it, for instance with iconv."
        ) from None
    if "\0" in text:
        raise BadInput(
            f"{name} is no text: it holds a NUL (sign {text.index(chr(0)) + 1}). Save it as UTF-8"
            " text."
        )
    return text


def read_json(file: str | Path, limit: int = DOCUMENT, finite: bool = True) -> Any:
    """Read the value that a JSON file holds; files of ours may hold NaN (`finite=False`).

    Raises as `read_text` does, and as `parse_json` does with the file's name before it.
    """
    text = read_text(file, limit)
    try:
        return parse_json(text, finite)
    except BadInput as error:
        raise BadInput(f"{on_line(str(file), 300)} is not valid JSON: {error}") from None


def json_lines(
    file: str | Path, limit: int = CORPUS, finite: bool = True
) -> Iterator[tuple[int, Any]]:
    """Read the values of a JSON-lines file, each with the number of its line, from 1.

    A line ends at a line feed and nowhere else: a line separator (U+2028) inside a text belongs to
    it. Empty lines are passed over. Raises as `read_text` does, and BadInput that names the line.
    """
    for number, line in enumerate(read_text(file, limit).split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield number, parse_json(line, finite)
        except BadInput as error:
            raise BadInput(
                f"{on_line(str(file), 300)} is not JSON lines: line {number}: {error} Write one"
                " JSON value a line."
            ) from None


def read_toml(file: str | Path, limit: int = SETTINGS) -> dict[str, Any]:
    """Read the tables of a TOML file.

    Raises as `read_text` does, and BadInput for what is not TOML, or holds what no run can keep.
    """
    text = read_text(file, limit)
    try:
        if DOTTED.search(text):
            raise RecursionError
        content = tomllib.loads(text)
        _check_kept(content)
        return content
    except RecursionError:
        reason = f"It is nested more than {DEEPEST} levels deep."
    except BadInput as error:
        reason = str(error)
    except ValueError as error:  # TOMLDecodeError is one, a number of too many digits another
        reason = f"{shown(error, 200)}."
    raise BadInput(f"{on_line(str(file), 300)} is not valid TOML: {reason}")


def parse_json(text: str, finite: bool = True) -> Any:
    """Read a JSON value that a run can keep. Raises BadInput with the reason.

    `finite` refuses the names NaN and Infinity, and numbers too large for a float.

    >>> parse_json('{"power": 1}')
    {'power': 1}
    """
    number = _finite if finite else float
    try:
        content = json.loads(
            text,
            object_pairs_hook=_once,
            parse_constant=number,
            parse_float=number,
            parse_int=_whole,
        )
    except RecursionError:
        raise BadInput(f"It is nested more than {DEEPEST} levels deep.") from None
    except json.JSONDecodeError as error:
        raise BadInput(f"{error.msg} (sign {error.pos + 1}).") from None
    is_escaped = "\\u" in text  # the one way in which half a pair comes into decoded text
    if is_escaped or text.count("[") + text.count("{") > DEEPEST:
        _check_kept(content, finite)
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its members, of which JSON's parser would keep the last of two alike."""
    members = dict(pairs)
    if len(members) < len(pairs):
        times = Counter(name for name, _ in pairs)
        twice = next(name for name in members if times[name] > 1)
        raise BadInput(f"{shown(twice)} stands there twice. Keep one.")
    return members


def _finite(text: str) -> float:
    """Read a number with a point, an exponent or a name. Raises BadInput where it is not finite."""
    number = float(text)
    if not math.isfinite(number):
        raise BadInput(f"{shown(text)} is no finite number.")
    return number


def _whole(text: str) -> int:
    """Read a whole number. Raises BadInput where it has too many digits."""
    if len(text) > LONGEST:
        raise BadInput(f"A number has {len(text)} digits, at most {LONGEST} are read.")
    return int(text)


def _check_kept(content: Any, finite: bool = True) -> None:
    """Raise BadInput for what no run can keep: nested too deeply, not finite, half a pair."""
    level = [content]
    for _ in range(DEEPEST):
        below: list[Any] = []
        for part in level:
            if isinstance(part, dict):
                below += [*part, *part.values()]
            elif isinstance(part, list):
                below += part
            else:
                _check_leaf(part, finite)
        if not below:
            return
        level = below
    raise BadInput(f"It is nested more than {DEEPEST} levels deep.")


def _check_leaf(part: Any, finite: bool) -> None:
    """Raise BadInput for a text or a number that no run can keep."""
    if isinstance(part, str):
        try:
            part.encode()
        except UnicodeEncodeError:
            raise BadInput(f"{shown(part)} holds half of a surrogate pair.") from None
    if isinstance(part, float) and finite and not math.isfinite(part):
        raise BadInput(f"{part} is no finite number.")
    if isinstance(part, int) and abs(part) >= 10**LONGEST:
        raise BadInput(f"A number has more digits than {LONGEST}.")
