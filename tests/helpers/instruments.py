"""Instruments for tests: those that read the user's file get one here."""

import csv
import json
from pathlib import Path

from feature_store import registry
from workbench import organism
from workbench.instruments.pvq import keys
from workbench.measuring.questionnaire import Opened, open_instrument
from workbench.systems.value_pilot.scenarios import subsets, write

SYSTEMS: dict[str, str] = {"standin19": "schwartz19"}
"""Instrument -> the value system it is opened for, where that is not Schwartz's ten."""


def settings(name: str, folder: Path) -> tuple[str, ...]:
    """What an instrument needs to be opened, written into `folder`: invented items, never
    published ones.
    """
    if name in keys.KEYS:
        file = folder / f"{name}.csv"
        numbers = sorted(number for numbers in keys.KEYS[name].values() for number in numbers)
        file.write_text(
            "number,text\n"
            + "".join(f"{number},Invented portrait {number}.\n" for number in numbers),
            encoding="utf-8",
        )
        return (f"items={file}",)
    if name == "moral-dilemmas":
        (folder / "dilemmas.json").write_text(
            json.dumps(organism.dilemmas(10, 0)), encoding="utf-8"
        )
        return (f"items={folder / 'dilemmas.json'}",)
    if name == "decisions":
        system = registry.get("values", "schwartz10")
        write(folder / "scenarios.jsonl", organism.scenarios(subsets(system, 20, 1, 3, 0), 4, 0))
        return (f"items={folder / 'scenarios.jsonl'}",)
    if name == "valuebench":
        rows = [
            ("Invented", f"I {what} {value}.", value, str(key), f"Should I {what} {value}?")
            for value in ("Power", "Benevolence", "Tradition")
            for what, key in (("seek", 1), ("cherish", 1), ("avoid", -1))
        ]
        with (folder / "items.csv").open("w", encoding="utf-8", newline="") as handle:
            csv.writer(handle).writerows(
                [("questionnaire", "item", "value", "agreement", "question"), *rows]
            )
        return (f"items={folder / 'items.csv'}",)
    if name == "value-spectrum":
        return _indexed(folder)
    if name == "adaem":
        told = [
            {"id": f"q{k}", "text": text}
            for k, text in enumerate(
                ("A bridge is closed.", "A friend asks for money.", "Two roads lead home.")
            )
        ]
        (folder / "items.json").write_text(
            json.dumps({"format": 1, "system": "schwartz10", "questions": told})
        )
        return (f"items={folder}",)
    if name == "value-portrait":
        return value_portrait(folder)
    return ()


def value_portrait(folder: Path, queries: int = 12) -> tuple[str, ...]:
    """Queries of four responses each, in the released form; each response belongs to one of the
    ten values, some to a second one.
    """
    values = [
        value.name.replace("-", "_").replace(" ", "_")
        for value in registry.get("values", "schwartz10").values
    ]
    told = []
    for query in range(queries):
        outputs = []
        for number in range(4):
            own = {values[(4 * query + number) % 10]: 0.4} | (
                {values[query % 10]: 0.35} if number == 3 else {}
            )
            rs = [
                [value, own.get(value, -0.4 if at % 3 else 0.1)] for at, value in enumerate(values)
            ]
            outputs.append(
                {
                    "id": number + 1,
                    "content": f"I would try way {number} of {query}.",
                    "correlations": rs,
                    "higher_pvq_correlations": [["Conservation", 0.5]],
                }
            )
        content = {
            "title": None if query % 2 else f"Title {query}",
            "text": f"What should I do about case {query}?",
        }
        told.append({"portrait_id": 1000 + query, "content": content, "outputs": outputs})
    (folder / "portrait.json").write_text(json.dumps(told), encoding="utf-8")
    return (f"items={folder / 'portrait.json'}",)


def _indexed(folder: Path) -> tuple[str, ...]:
    """A study in `folder` with an index of drawings."""
    from tests.helpers.small_vision import drawings, words
    from workbench.study import Study

    study = Study(folder / "study")
    drawings(folder / "drawings", each=2)
    study.index(str(folder / "drawings"), embedder="colour", keywords=words(folder / "words.toml"))
    return ("k=2", "ask=like")


def opened(name: str, folder: Path) -> Opened:
    """The instrument with its invented items."""
    return open_instrument(
        name,
        settings(name, folder),
        registry.get("values", SYSTEMS.get(name, "schwartz10")),
        folder / "study",
    )
