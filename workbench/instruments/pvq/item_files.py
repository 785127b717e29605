"""Items of a questionnaire whose texts are not ours to ship, from a researcher's file.

1. CSV, TSV, JSON, JSONL or TOML, UTF-8 with or without a byte-order mark. Every entry has `number`
   (or `id`) and `text`. TOML holds them as `[[items]]`; JSON as a list, or as an object from number
   to text.
2. Two more columns are checked where they are given: `value` must be the one that the key names,
   `scale` the number of options.
3. What does not fit is refused with the numbers of the items: missing, double, unknown, empty, of
   another value, on another scale.

Left out: guessing. A file in another encoding, or with other columns, is not read.
"""

import csv
import io
import json
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from feature_store.errors import BadInput, NotFound

FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".toml")
"""Endings of files that are read."""


def read_items(
    file: Path, values: Mapping[int, str], options: int, resolve: Callable[[str], str]
) -> dict[int, str]:
    """Read the text of every item that `values` (number -> id of its value) names, by number.

    `options` is the length of the scale, `resolve` gives the id for a value's name. Raises NotFound
    without a file, BadInput with the numbers of the items that do not fit.
    """
    rows = _rows(file)
    numbers = [_number(file, place, row) for place, row in enumerate(rows, 1)]
    entries = list(zip(numbers, rows, strict=True))
    faults = {
        "gives more than once": [n for n, times in Counter(numbers).items() if times > 1],
        "lacks": [n for n in values if n not in numbers],
        "has besides": [n for n in numbers if n not in values],
        "has without a text": [n for n, row in entries if not str(row.get("text") or "").strip()],
        f"puts on another scale than 1 to {options}": [
            n for n, row in entries if not _on_scale(row.get("scale"), options)
        ],
        "gives another value than the key": [
            n for n, row in entries if not _of_value(row.get("value"), values.get(n, ""), resolve)
        ],
    }
    for fault, wrong in faults.items():
        if wrong:
            raise BadInput(
                f"{file.name}: the questionnaire has items {min(values)} to {max(values)}; the file"
                f" {fault} {_listed(wrong)}. Put the file right."
            )
    entries.sort(key=lambda entry: entry[0])
    return {n: " ".join(str(row["text"]).split()) for n, row in entries}


def _listed(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:8]))
    return f"{'item' if len(numbers) == 1 else 'items'} {shown}" + (
        f" and {len(numbers) - 8} more" if len(numbers) > 8 else ""
    )


def _number(file: Path, place: int, row: Mapping[str, Any]) -> int:
    number = row.get("number", row.get("id"))
    try:
        return int(str(number).strip())
    except ValueError:
        raise BadInput(
            f"{file.name}: entry {place} needs the item's number, a whole number, got {number!r}."
            " Number the items as the key does."
        ) from None


def _on_scale(scale: Any, options: int) -> bool:
    """Whether a cell of the column `scale` is empty or names the scale."""
    return scale is None or str(scale).strip() in ("", str(options), f"1-{options}")


def _of_value(name: Any, value: str, resolve: Callable[[str], str]) -> bool:
    """Whether a cell of the column `value` is empty or names the value of the key."""
    if name is None or not str(name).strip():
        return True
    try:
        return resolve(str(name)) == value
    except NotFound:
        return False


def _rows(file: Path) -> list[dict[str, Any]]:
    """The entries of the file, keys in lower case."""
    suffix = file.suffix.lower()
    if suffix not in FORMATS:
        raise BadInput(f"{file.name} must be one of {', '.join(FORMATS)}. Save it as one of these.")
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise NotFound(
            f"{file} cannot be read: {error.strerror}. Give the file with the questionnaire's"
            " items."
        ) from None
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{file.name} must be UTF-8, byte {error.start} is not. Save it as UTF-8."
        ) from None
    try:
        content = _parsed(text, suffix)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError, csv.Error) as error:
        raise BadInput(
            f"{file.name} is no {suffix[1:].upper()} file: {error}. Put it right."
        ) from None
    if isinstance(content, dict):
        content = content.get("items", content)
    if isinstance(content, dict):
        content = [{"number": number, "text": text} for number, text in content.items()]
    if not isinstance(content, list):
        raise BadInput(
            f"{file.name} should hold a list of items, or an object from number to text, got"
            f" {type(content).__name__}. Put it right."
        )
    rows = [_lower_keys(entry) for entry in content]
    complete = [{"text", "number"} <= set(row) or {"text", "id"} <= set(row) for row in rows]
    if not rows or not all(complete):
        columns = ", ".join(rows[0]) if rows and rows[0] else "none"
        raise BadInput(
            f"{file.name}: every entry needs `number` (or `id`) and `text`, got {columns}. Name the"
            " columns so."
        )
    return rows


def _lower_keys(entry: Any) -> dict[str, Any]:
    """An entry with its keys in lower case; empty where it is not a mapping."""
    if not isinstance(entry, dict):
        return {}
    # A row with more cells than there are columns has them under None.
    return {str(key).strip().lower(): cell for key, cell in entry.items() if key is not None}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, whose parser would keep the last of two equal keys."""
    if twice := [key for key, times in Counter(key for key, _ in pairs).items() if times > 1]:
        raise json.JSONDecodeError(f"{twice[0]!r} stands there more than once", "", 0)
    return dict(pairs)


def _parsed(text: str, suffix: str) -> Any:
    """What a text in the format of a file ending holds."""
    if suffix == ".toml":
        return tomllib.loads(text)
    if suffix == ".json":
        return json.loads(text, object_pairs_hook=_once)
    if suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    return list(
        csv.DictReader(io.StringIO(text), delimiter="\t" if suffix == ".tsv" else ",", strict=True)
    )
