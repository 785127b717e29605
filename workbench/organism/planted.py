"""What is planted in the organism: values, their graph, facets and directions.

1. `phrases.toml` states everything in words; `planted_language()` reads it and checks it.
2. A *row* is one planted direction: six facets of each of ten values, then the value-free
   attributes.
3. A shock of a facet (+1 or -1, its two poles) is a shock of its value; a leaky facet sends a share
   of it straight into a second value as well.
4. Consequences follow the planted graph: `z = shocks (I - B)^-1`, and a rating is `3.5 + scale *
   z`.

What it leaves out: text (`generate`), training (`build`), and whether a model obeys any of it
(`check`).
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

FOLDER = Path(__file__).parent
QUESTIONNAIRE = FOLDER.parent / "instruments" / "standin.toml"
VALUES = (
    "self-direction",
    "stimulation",
    "hedonism",
    "achievement",
    "power",
    "security",
    "conformity",
    "tradition",
    "benevolence",
    "universalism",
)
FACETS = 6
"""Facets of each value."""
SCALE = 1.0
"""Rating points per unit of a value."""
NORM = 6.0
"""Length of an injected unit shock, in the residual's own units."""
LAYER = 1
"""The bus is the residual that leaves this layer (0-based)."""
WIDTH = 128
"""d_model."""


@dataclass(frozen=True)
class Facet:
    """One family of behaviours of one value."""

    value: str
    """Value the facet belongs to."""
    index: int
    """Place among the six facets of its value, 0-5."""
    leak_to: str | None
    """Second value that the facet shocks directly, or None."""
    leak: float
    """Shock of that second value per unit of the facet [-1, 1], 0 without a leak."""
    direction: int
    """Row of `Truth.directions`; the + pole is +direction, the - pole is -direction."""
    name: str = ""
    """What the behaviours have in common."""


@dataclass(frozen=True, eq=False)
class Truth:
    """All that is known about the organism because it was planted.

    truth = organism.truth()
    truth.effects[truth.values.index("power")]  # points on each value per unit of power
    """

    values: tuple[str, ...]
    """Value ids in the order of Schwartz's circle."""
    graph: Float[np.ndarray, "value value"]
    """B: direct effects [units of the target per unit of the source], row = source, column =
    target."""
    effects: Float[np.ndarray, "value value"]
    """Total effects (I-B)^-1 * scale [points of the 1-6 scale per unit shock], row = source,
    column = target."""
    scale: float
    """Rating points per unit of a value."""
    layer: int
    """0-based layer whose output residual is the bus."""
    norm: float
    """Length at which a facet of one unit lies on its direction [residual units]."""
    facets: tuple[Facet, ...]
    """The 60 facets, value by value."""
    directions: Float[np.ndarray, "direction d_model"]
    """Orthonormal rows: value facets first, value-free attributes after them."""
    free: tuple[str, ...]
    """Planted attributes that have nothing to do with values."""
    free_rows: tuple[int, ...]
    """Their rows in `directions`."""
    topics: dict[str, str]
    """Topic id -> the value it accompanies in text; topics cause nothing."""

    def facet_effects(self) -> Float[np.ndarray, "facet value"]:
        """Compute the planted effect of one unit of each facet, leaks included [rating points]."""
        return facet_shocks(self.values, self.facets) @ self.effects

    def save(self, folder: Path) -> None:
        """Write `truth.json` and `truth.safetensors` into `folder`."""
        from safetensors.numpy import save_file

        fields = {
            name: value for name, value in asdict(self).items() if not isinstance(value, np.ndarray)
        }
        (folder / "truth.json").write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")
        arrays = {"graph": self.graph, "effects": self.effects, "directions": self.directions}
        save_file(
            {name: np.ascontiguousarray(a, dtype=np.float32) for name, a in arrays.items()},
            folder / "truth.safetensors",
        )

    @classmethod
    def load(cls, folder: Path) -> Truth:
        """Read what `save` wrote; the stored single precision is widened to float64."""
        from safetensors.numpy import load_file

        path = folder / "truth.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"Expected the planted truth in {path}, found no such file. "
                "Build the organism: python -m workbench.organism.build OUT_FOLDER"
            )
        fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        fields["facets"] = tuple(Facet(**facet) for facet in fields["facets"])
        for name in ("values", "free", "free_rows"):
            fields[name] = tuple(fields[name])
        for name, array in load_file(folder / "truth.safetensors").items():
            fields[name] = array.astype(np.float64)
        return cls(**fields)


class Row(NamedTuple):
    """What a text can say about one planted direction."""

    owner: str
    """Value or value-free attribute that the direction belongs to."""
    plus: tuple[str, ...]
    """Sentences of the + pole."""
    minus: tuple[str, ...]
    """Sentences of the - pole."""


class PlantedLanguage(NamedTuple):
    """The planted truth with the sentences that carry it."""

    truth: Truth
    rows: tuple[Row, ...]
    """One for each planted direction."""
    topics: dict[str, tuple[str, ...]]
    """Topic id -> its sentences."""
    fillers: tuple[str, ...]
    """Sentences that carry nothing."""
    hedges: tuple[str, ...]
    """Sentence openings that halve a behaviour."""
    items: dict[str, tuple[str, ...]]
    """Value or value-free attribute -> the statements that ask for it."""
    wordings: tuple[str, ...]
    """How a statement is put; `{item}` stands for it."""


def facet_shocks(
    values: tuple[str, ...], facets: tuple[Facet, ...]
) -> Float[np.ndarray, "facet value"]:
    """Compute how far one unit of each facet shocks each value directly, leaks included [units]."""
    shocks = np.zeros((len(facets), len(values)))
    for k, facet in enumerate(facets):
        shocks[k, values.index(facet.value)] = 1
        if facet.leak_to is not None:
            shocks[k, values.index(facet.leak_to)] += facet.leak
    return shocks


def _directions(count: int) -> Float[np.ndarray, "direction d_model"]:
    """Orthonormal, so that a cosine to one direction says nothing about another."""
    return np.linalg.qr(np.random.default_rng(3).normal(size=(WIDTH, count)))[0].T


@cache
def planted_language() -> PlantedLanguage:
    """Read `phrases.toml` and the stand-in questionnaire.

    Raises ValueError for a value with more or fewer facets than the others.
    """
    phrases = tomllib.loads((FOLDER / "phrases.toml").read_text(encoding="utf-8"))
    questionnaire = tomllib.loads(QUESTIONNAIRE.read_text(encoding="utf-8"))
    graph = np.zeros((len(VALUES), len(VALUES)))
    for edge in phrases["edges"]:
        graph[VALUES.index(edge["source"]), VALUES.index(edge["target"])] = edge["weight"]
    facets, rows = _facets(phrases["values"])
    free_rows = tuple(range(len(rows), len(rows) + len(phrases["free"])))
    items = {value: tuple(questionnaire["items"][value]["texts"]) for value in VALUES}
    for name, free in phrases["free"].items():
        rows.append(Row(name, tuple(free["plus"]), tuple(free["minus"])))
        items[name] = (free["question"],)
    truth = Truth(
        values=VALUES,
        graph=graph,
        effects=np.linalg.inv(np.eye(len(VALUES)) - graph) * SCALE,
        scale=SCALE,
        layer=LAYER,
        norm=NORM,
        facets=tuple(facets),
        directions=_directions(len(rows)),
        free=tuple(phrases["free"]),
        free_rows=free_rows,
        topics={phrases["values"][value]["topic"]: value for value in VALUES},
    )
    return PlantedLanguage(
        truth=truth,
        rows=tuple(rows),
        topics={topic: tuple(lines) for topic, lines in phrases["topics"].items()},
        fillers=tuple(phrases["fillers"]),
        hedges=tuple(phrases["hedges"]),
        items=items,
        wordings=tuple(questionnaire["wordings"][name] for name in ("plain", "rated")),
    )


def _facets(families: Mapping[str, Any]) -> tuple[list[Facet], list[Row]]:
    """The facets of all values, value by value, and the sentences of each."""
    facets: list[Facet] = []
    rows: list[Row] = []
    for value in VALUES:
        members = families[value]["facets"]
        if len(members) != FACETS:
            raise ValueError(
                f"Expected {FACETS} facets of {value} in phrases.toml, found {len(members)}."
            )
        for index, family in enumerate(members):
            leak = family.get("leak", {"to": None, "weight": 0.0})
            facets.append(
                Facet(
                    value=value,
                    index=index,
                    leak_to=leak["to"],
                    leak=leak["weight"],
                    direction=len(rows),
                    name=family["name"],
                )
            )
            rows.append(Row(value, tuple(family["plus"]), tuple(family["minus"])))
    return facets, rows
