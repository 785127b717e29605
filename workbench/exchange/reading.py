"""Read strangers' export files: numbered batches, JSON lines that may be compressed, typed fields.

1. `batches` finds `batch-N` files and refuses a gap in their numbers.
2. `json_rows` reads JSON lines one at a time, compressed or not, and refuses a file that ends in
   the middle, with the number of the line.
3. `Fields` takes a row apart: each field has a type, and a wrong one is refused by name.

Left out: what the fields mean (`neuronpedia_files.py`, `saedashboard_files.py`).
"""

import contextlib
import gzip
import io
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from feature_store.errors import BadInput
from feature_store.files import on_line, parse_json, regular, shown

LONGEST = 64 * 2**20
"""Longest line that is read [bytes]."""
_NUMBER = re.compile(r"batch-([0-9]{1,9})\.")


def batches(folder: Path, ending: str) -> list[Path]:
    """List the files `batch-N` with one of two endings, by their numbers.

    `ending` may be compressed: `.jsonl` finds `.jsonl.gz` too. Raises BadInput where one is missing
    between the others, or lies there twice.
    """
    numbered: dict[int, Path] = {}
    for file in sorted(folder.glob("batch-*")):
        match = _NUMBER.match(file.name)
        if match is None or not file.name.removesuffix(".gz").endswith(ending):
            continue
        number = int(match[1])
        if number in numbered:
            raise BadInput(
                f"{_name(folder)} holds batch {number} twice ({file.name}). Keep one of them."
            )
        numbered[number] = file
    missing = sorted(set(range(max(numbered, default=-1) + 1)) - set(numbered))
    if missing:
        raise BadInput(
            f"{_name(folder)} is half-written: batch-{missing[0]} is missing before"
            f" batch-{max(numbered)}. Download or export it again."
        )
    return [numbered[number] for number in sorted(numbered)]


def json_rows(file: Path) -> Iterator["Fields"]:
    """Read the objects of a file of JSON lines, compressed where its name ends in `.gz`.

    Raises BadInput that names file and line for one that ends in the middle or is no object.
    """
    number = 0
    with regular(file) as handle, contextlib.ExitStack() as stack:
        source = cast(io.BufferedIOBase, handle)
        if file.name.endswith(".gz"):
            source = stack.enter_context(gzip.open(handle))
        while line := _line(source, file, number + 1):
            number += 1
            if not line.strip():
                continue
            try:
                content = parse_json(line.decode())
            except (BadInput, UnicodeDecodeError) as error:
                cut = "" if line.endswith(b"\n") else " The file seems to end in the middle:"
                again = f"{cut} Download or export it again."
                raise BadInput(
                    f"{_name(file)}, line {number} is no JSON: {shown(error, 120)}{again}"
                ) from None
            yield Fields(content, f"{_name(file)}, line {number}")


def _line(source: io.BufferedIOBase, file: Path, number: int) -> bytes:
    """Read one line; empty at the end. Raises BadInput where it cannot be had."""
    try:
        line = source.readline(LONGEST + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInput(
            f"{_name(file)} is half-written or damaged: it ends in the middle of line {number}"
            f" ({on_line(str(error), 80)}). Download or export it again."
        ) from None
    if len(line) > LONGEST:
        raise BadInput(
            f"{_name(file)}, line {number} is longer than {LONGEST / 2**20:.0f} MiB, the most that"
            " is read of one. Give a smaller export."
        )
    return line


class Fields:
    """The fields of one row, each looked up with its type."""

    def __init__(self, content: Any, where: str) -> None:
        """Take an object. Raises BadInput for anything else; `where` is what errors call it."""
        if not isinstance(content, Mapping):
            raise BadInput(f"{where}: a row is an object, got {shown(content)}.")
        self._content = content
        self.where = where

    def text(self, name: str) -> str:
        """Give a text; empty where it is absent or null."""
        value = self._content.get(name)
        if value is not None and not isinstance(value, str):
            raise BadInput(f"{self.where}: {name} is a text, got {shown(value)}.")
        return value or ""

    def number(self, name: str) -> float | None:
        """Give a finite number; None where it is absent or null."""
        value = self._content.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
            raise BadInput(f"{self.where}: {name} is a number, got {shown(value)}.")
        return float(value)

    def whole(self, name: str) -> int:
        """Give a whole number of at least 0, which may be written as a text."""
        value = self._content.get(name)
        if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value):
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**9:
            raise BadInput(
                f"{self.where}: {name} is a whole number of at least 0, got {shown(value)}."
            )
        return value

    def texts(self, name: str) -> list[str] | None:
        """Give a list of texts; None where it is absent or null."""
        return self._list(name, "texts", lambda part: isinstance(part, str))

    def numbers(self, name: str) -> list[float] | None:
        """Give a list of finite numbers; None where it is absent or null."""
        parts = self._list(
            name,
            "numbers",
            lambda part: isinstance(part, int | float) and not isinstance(part, bool),
        )
        return None if parts is None else [float(part) for part in parts]

    def rows(self, name: str) -> list["Fields"]:
        """Give a list of objects; empty where it is absent or null."""
        parts = self._list(name, "objects", lambda part: isinstance(part, Mapping)) or []
        return [
            Fields(part, f"{self.where}, {name} {number}") for number, part in enumerate(parts, 1)
        ]

    def has(self, *names: str) -> bool:
        """Say whether all of these fields are there."""
        return all(name in self._content for name in names)

    def _list(self, name: str, of_what: str, fits: Any) -> list[Any] | None:
        """Give a list whose parts fit."""
        value = self._content.get(name)
        if value is None:
            return None
        if not isinstance(value, Sequence) or isinstance(value, str) or not all(map(fits, value)):
            raise BadInput(f"{self.where}: {name} is a list of {of_what}, got {shown(value)}.")
        return list(value)


def figures(fields: Fields, index: str, largest: float | None) -> dict[str, Any]:
    """Give a row of `borrowed_features`, whose fields both formats name alike.

    Raises BadInput where two lists that belong together differ in length.
    """
    row: dict[str, Any] = {
        "feature": fields.whole(index),
        "density": fields.number("frac_nonzero"),
        "max_activation": largest,
        "promoted": fields.texts("pos_str"),
        "promoted_logits": fields.numbers("pos_values"),
        "suppressed": fields.texts("neg_str"),
        "suppressed_logits": fields.numbers("neg_values"),
        "activation_bins": fields.numbers("freq_hist_data_bar_values"),
        "activation_counts": fields.numbers("freq_hist_data_bar_heights"),
        "logit_bins": fields.numbers("logits_hist_data_bar_values"),
        "logit_counts": fields.numbers("logits_hist_data_bar_heights"),
    }
    pairs = (("promoted", "promoted_logits"), ("suppressed", "suppressed_logits"))
    for first, second in (*pairs, ("activation_bins", "activation_counts")):
        if len(row[first] or ()) != len(row[second] or ()):
            raise BadInput(
                f"{fields.where}: {len(row[first] or ())} {first} and {len(row[second] or ())}"
                f" {second.replace('_', ' ')} do not belong together. Export it again."
            )
    return row


def context(fields: Fields, feature: int, rank: int, names: Mapping[str, str]) -> dict[str, Any]:
    """Give a row of `borrowed_contexts`; `names` says what the format calls the bin's fields.

    Raises BadInput where tokens and activations differ in number, or there are none.
    """
    tokens, values = fields.texts("tokens") or [], fields.numbers("values") or []
    if len(tokens) != len(values) or not tokens:
        raise BadInput(
            f"{fields.where}: {len(tokens)} tokens and {len(values)} values do not belong together."
            " Export it again."
        )
    share = fields.number(names["bin_share"])
    # Both programs mark the strongest contexts, which are of no bin, by a share of -1.
    drawn = share is not None and share >= 0
    peak = max(range(len(values)), key=values.__getitem__)
    return {
        "feature": feature,
        "rank": rank,
        "activation": values[peak],
        "tokens": tokens,
        "activations": values,
        "peak": peak,
        "bin_low": fields.number(names["bin_low"]) if drawn else None,
        "bin_high": fields.number(names["bin_high"]) if drawn else None,
        "bin_share": share if drawn else None,
    }


def _finite(value: float) -> bool:
    """Say whether a number can be kept as a float."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _name(file: Path) -> str:
    """Name a file in a message."""
    return on_line(str(file), 300)
