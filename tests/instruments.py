"""Instruments for tests: those that read the user's file get one here."""

import json
from pathlib import Path

from feature_store import registry
from workbench.instruments import Opened, open_instrument

SYSTEMS: dict[str, str] = {}
"""Instrument -> the value system it is opened for, where that is not Schwartz's ten."""


def settings(name: str, folder: Path) -> tuple[str, ...]:
    """What an instrument needs to be opened, written into `folder`: invented items, never published ones."""
    return WRITERS[name](folder) if name in WRITERS else ()


def value_portrait(folder: Path, queries: int = 12) -> tuple[str, ...]:
    """Queries of four responses each, in the released form; each response belongs to one of the ten values, some to a second one."""
    values = [value.name.replace("-", "_").replace(" ", "_") for value in registry.get("values", "schwartz10").values]
    told = []
    for query in range(queries):
        outputs = []
        for number in range(4):
            own = {values[(4 * query + number) % 10]: 0.4} | ({values[query % 10]: 0.35} if number == 3 else {})
            rs = [[value, own.get(value, -0.4 if at % 3 else 0.1)] for at, value in enumerate(values)]
            outputs.append({"id": number + 1, "content": f"I would try way {number} of {query}.", "correlations": rs, "higher_pvq_correlations": [["Conservation", 0.5]]})
        content = {"title": None if query % 2 else f"Title {query}", "text": f"What should I do about case {query}?"}
        told.append({"portrait_id": 1000 + query, "content": content, "outputs": outputs})
    (folder / "portrait.json").write_text(json.dumps(told), encoding="utf-8")
    return (f"items={folder / 'portrait.json'}",)


WRITERS = {"value-portrait": value_portrait}
"""Instrument -> what writes its invented file."""


def opened(name: str, folder: Path) -> Opened:
    """The instrument with its invented items."""
    return open_instrument(name, settings(name, folder), registry.get("values", SYSTEMS.get(name, "schwartz10")))
