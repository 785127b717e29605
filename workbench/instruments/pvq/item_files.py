"""Items of a questionnaire from a researcher's own file: whose texts are not ours to ship.

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


def read_items(
    file: Path, values: Mapping[int, str], options: int, resolve: Callable[[str], str]
) -> dict[int, str]:
    """Number -> text of every item that `values` (number -> id of its value) names.

    `resolve` gives the id for a value's name.
    """
    rows = _rows(file)
    numbers = [_number(file, place, row) for place, row in enumerate(rows, 1)]
    for told, wrong in (
        ("gives more than once", [n for n, times in Counter(numbers).items() if times > 1]),
        ("lacks", [n for n in values if n not in numbers]),
        ("has besides", [n for n in numbers if n not in values]),
        (
            "has without a text",
            [
                n
                for n, row in zip(numbers, rows, strict=True)
                if not str(row.get("text") or "").strip()
            ],
        ),
        (
            "puts on another scale than 1 to " + str(options),
            [
                n
                for n, row in zip(numbers, rows, strict=True)
                if not _on_scale(row.get("scale"), options)
            ],
        ),
        (
            "gives another value than the key",
            [
                n
                for n, row in zip(numbers, rows, strict=True)
                if not _of_value(row.get("value"), values.get(n, ""), resolve)
            ],
        ),
    ):
        if wrong:
            raise BadInput(
                f"{file.name}: the questionnaire has items {min(values)} to {max(values)}; the file"
                f" {told} {_listed(wrong)}. Put the file right."
            )
    return {
        n: " ".join(str(row["text"]).split())
        for n, row in sorted(zip(numbers, rows, strict=True), key=lambda pair: pair[0])
    }


def _listed(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:8]))
    return f"{'item' if len(numbers) == 1 else 'items'} {shown}" + (
        f" and {len(numbers) - 8} more" if len(numbers) > 8 else ""
    )


def _number(file: Path, place: int, row: Mapping[str, Any]) -> int:
    told = row.get("number", row.get("id"))
    try:
        return int(str(told).strip())
    except ValueError:
        raise BadInput(
            f"{file.name}: entry {place} needs the item's number, a whole number, got {told!r}."
            " Number the items as the key does."
        ) from None


def _on_scale(told: Any, options: int) -> bool:
    return told is None or str(told).strip() in ("", str(options), f"1-{options}")


def _of_value(told: Any, value: str, resolve: Callable[[str], str]) -> bool:
    if told is None or not str(told).strip():
        return True
    try:
        return resolve(str(told)) == value
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
        told = _parsed(text, suffix)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError, csv.Error) as error:
        raise BadInput(
            f"{file.name} is no {suffix[1:].upper()} file: {error}. Put it right."
        ) from None
    if isinstance(told, dict):
        told = told.get("items", told)
    if isinstance(told, dict):
        told = [{"number": number, "text": text} for number, text in told.items()]
    if not isinstance(told, list):
        raise BadInput(
            f"{file.name} should hold a list of items, or an object from number to text, got"
            f" {type(told).__name__}. Put it right."
        )
    rows = [
        (
            {str(key).strip().lower(): cell for key, cell in row.items() if key is not None}
            if isinstance(row, dict)
            else {}
        )
        for row in told
    ]
    if not rows or not all(
        {"text", "number"} <= set(row) or {"text", "id"} <= set(row) for row in rows
    ):
        found = ", ".join(rows[0]) if rows and rows[0] else "none"
        raise BadInput(
            f"{file.name}: every entry needs `number` (or `id`) and `text`, got {found}. Name the"
            " columns so."
        )
    return rows


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, whose parser would keep the last of two equal keys."""
    if twice := [key for key, times in Counter(key for key, _ in pairs).items() if times > 1]:
        raise json.JSONDecodeError(f"{twice[0]!r} stands there more than once", "", 0)
    return dict(pairs)


def _parsed(text: str, suffix: str) -> Any:
    if suffix == ".toml":
        return tomllib.loads(text)
    if suffix == ".json":
        return json.loads(text, object_pairs_hook=_once)
    if suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    return list(
        csv.DictReader(io.StringIO(text), delimiter="\t" if suffix == ".tsv" else ",", strict=True)
    )
