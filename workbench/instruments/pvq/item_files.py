"""Items of a questionnaire whose texts are not ours to ship, from a researcher's file.

1. CSV, TSV, JSON, JSONL or TOML, UTF-8 with or without a byte-order mark. Every entry has `number`
   (or `id`) and `text`. TOML holds them as `[[items]]`; JSON as a list, or as an object from number
   to text.
2. Two more columns are checked where they are given: `value` must be the one that the key names,
   `scale` the number of options.
3. A column `reversal` holds the statement with the stance turned round, for mode `voice`
   (`read_reversals`); what is left empty there is written by rule.
4. What does not fit is refused with the numbers of the items: missing, double, unknown, empty, of
   another value, on another scale.

Left out: guessing. A file in another encoding, or with other columns, is not read.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from feature_store.errors import BadInput, NotFound
from feature_store.files import json_lines, listed, read_json, read_toml, shown
from feature_store.tables import read_table

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
        "has without a text": [n for n, row in entries if not _is_text(row.get("text"))],
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


def read_reversals(file: Path) -> dict[int, str]:
    """Read the column `reversal` of a file of items by their numbers, without empty cells."""
    rows = _rows(file)
    texts = {_number(file, place, row): row.get("reversal") for place, row in enumerate(rows, 1)}
    return {n: " ".join(str(text).split()) for n, text in texts.items() if _is_text(text)}


def _listed(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:8]))
    return f"{'item' if len(numbers) == 1 else 'items'} {shown}" + (
        f" and {len(numbers) - 8} more" if len(numbers) > 8 else ""
    )


def _number(file: Path, place: int, row: Mapping[str, Any]) -> int:
    number = row.get("number", row.get("id"))
    if not re.fullmatch(r"\s*\d{1,9}\s*", str(number), re.ASCII):
        raise BadInput(
            f"{file.name}: entry {place} needs the item's number, a whole number, got"
            f" {shown(number)}. Number the items as the key does."
        )
    return int(str(number))


def _is_text(cell: Any) -> bool:
    """Whether a cell holds words."""
    return isinstance(cell, str) and bool(cell.strip())


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
    content = _content(file, suffix)
    if isinstance(content, dict):
        content = content.get("items", content)
    if isinstance(content, dict):
        content = [{"number": number, "text": text} for number, text in content.items()]
    if not isinstance(content, list):
        raise BadInput(
            f"{file.name} should hold a list of items, or an object from number to text, got"
            f" {type(content).__name__}. Put it right."
        )
    rows = [_lower_keys(file, entry) for entry in content]
    complete = [{"text", "number"} <= set(row) or {"text", "id"} <= set(row) for row in rows]
    if not rows or not all(complete):
        columns = listed(rows[0]) if rows else "none"
        raise BadInput(
            f"{file.name}: every entry needs `number` (or `id`) and `text`, got {columns}. Name the"
            " columns so."
        )
    return rows


def _lower_keys(file: Path, entry: Any) -> dict[str, Any]:
    """An entry with its keys in lower case; empty where it is not a mapping."""
    if not isinstance(entry, dict):
        return {}
    lower = {str(key).strip().lower(): cell for key, cell in entry.items()}
    if len(lower) < len(entry):
        raise BadInput(f"{file.name}: an entry names {listed(lower)}, one of them twice. Keep one.")
    return lower


def _content(file: Path, suffix: str) -> Any:
    """What a file holds, by its ending: a list of entries, or an object."""
    if suffix == ".toml":
        return read_toml(file)
    if suffix == ".json":
        return read_json(file)
    if suffix == ".jsonl":
        return [entry for _, entry in json_lines(file)]
    table = read_table(file, ("number", "id", "text")).whole()
    rows = zip(*table.columns.values(), strict=True)
    return [dict(zip(table.columns, row, strict=True)) for row in rows]
