"""A sweep in rounds: contexts are spent where intervals are still wide, and intervals stay honest.

1. The contexts are put into a random order and cut into at most `LOOKS` rounds, whose number is
   fixed beforehand. The first round asks everything; damage is measured in it.
2. After each round one looks: a labelled value whose effects at the strength of equal damage all
   have intervals of at most the wanted width is asked no further. Its features stop together, so
   that each of them counts alike; a control stops by itself.
3. Whoever looks often and stops when it suits finds intervals that cover too little. So each look's
   interval has the level 1 - 0.05 / looks: all looks together cover with 95 %, whatever the rule by
   which one stops (repeated confidence intervals, Jennison & Turnbull 1989, J. R. Stat. Soc. B 51;
   Bonferroni's split needs no independence of the looks). p is multiplied by the number of looks.

Left out: mode `voice`, whose open questions are too few for rounds; narrower splits (Pocock,
O'Brien & Fleming), which need normal means.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial as bound
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from feature_store.errors import BadInput
from feature_store.progress import Progress, part
from feature_store.records import ValueSystem
from feature_store.work import Work
from workbench.statistics.intervals import Averaging, known_mean, repeated_mean
from workbench.sweeps import sweep
from workbench.sweeps.damage import Sweep, match
from workbench.sweeps.stored import (
    SweepSetup,
    SweepTables,
    as_sweep,
    context_means,
    edited_model,
    intervention_rows,
    write_sweep,
)
from workbench.sweeps.sweep import EditedModel, Intervention, SweepMaterial
from workbench.workspace import Workspace

LOOKS = 3
"""Rounds at most."""
FEWEST = 8
"""Contexts in a round at least [contexts]."""
REPLICATES = 1000
"""Bootstrap replicates at least: below, the ends of a look's interval are noise, and cover less."""


class Stopping(NamedTuple):
    """When a value or a control is asked no further, and how often one looks."""

    until: float
    """Widest interval of an effect that is narrow enough [unsteered SD]."""
    delta: float
    """Damage at which effects are compared [nats per token]."""
    replicates: int
    """Bootstrap replicates behind an interval."""
    seed: int
    """Seed of the order of the contexts and of the bootstrap."""
    looks: int
    """Rounds that were planned."""

    @property
    def averaging(self) -> Averaging:
        """How means and intervals are computed, such that every look may be the last one."""
        return bound(repeated_mean, looks=self.looks)


def planned_looks(n_contexts: int, replicates: int) -> int:
    """Say in how many rounds so many contexts are asked.

    Raises BadInput for too few of them, and for too few replicates.
    """
    if replicates < REPLICATES:
        raise BadInput(
            f"--until reads intervals further out than at 95 %, which takes {REPLICATES} replicates"
            f" or more, got {replicates}. Give more --replicates."
        )
    looks = min(LOOKS, n_contexts // FEWEST)
    if looks < 2:
        raise BadInput(
            f"--until asks in rounds of {FEWEST} contexts or more, got {n_contexts} contexts in"
            f" all. Ask {2 * FEWEST} or more (--n-contexts), or leave --until out."
        )
    return looks


@dataclass(frozen=True)
class _Round:
    """The parts of one round in a run's work, kept apart from those of the others."""

    work: Work
    """The run that is made."""
    number: int
    """0-based number of the round."""

    def part(self, relation: str, number: int, rows: pa.Table) -> None:
        """Keep a part of a relation of this round."""
        self.work.part(self._name(relation), number, rows)

    def done(self, *relations: str) -> set[int]:
        """Numbers of this round's parts that are kept in every one of the relations."""
        return self.work.done(*map(self._name, relations))

    def parts(self, relation: str) -> pa.Table:
        """All of this round's parts of a relation, in order."""
        return self.work.parts(self._name(relation))

    def _name(self, relation: str) -> str:
        return f"{relation}-round{self.number}"


def measure_in_rounds(
    work: Work,
    study: Workspace,
    setup: SweepSetup,
    interventions: Sequence[Intervention],
    stopping: Stopping,
    progress: Progress,
) -> Sweep:
    """Measure interventions in rounds and write them, as `stored.measure_sweep` does.

    Ratings of contexts in which an intervention was no longer asked are missing.
    """
    edited = edited_model(study, setup.sae_run, [entry.steering for entry in interventions])
    rows = pd.DataFrame(intervention_rows(interventions))
    questions, neutral = setup.material.questions, setup.material.neutral
    rounds = _rounds([question.context for question in questions], stopping)
    active = np.arange(len(interventions))
    ratings: list[pa.Table] = []
    damages: list[pa.Table] = []
    for number, contexts in enumerate(rounds):
        asked = [question for question in questions if question.context in contexts]
        texts = SweepMaterial(asked, neutral if number == 0 else ())
        shown = part(progress, f"round {number + 1} of {stopping.looks}")
        now = [interventions[row] for row in active.tolist()]
        rated, damage = sweep.measure(
            _Round(work, number), _taken(edited, active), texts, now, shown
        )
        ratings.append(_numbered(rated, active))
        damages.append(damage)
        tables = SweepTables(rows, pa.concat_tables(ratings), damages[0])
        if number + 1 < len(rounds):
            active = active[_still_wide(tables, study.system, stopping)[active]]
        if not len(active):
            break
    seen = set().union(*rounds[: len(ratings)])
    material = SweepMaterial([q for q in questions if q.context in seen], neutral)
    return write_sweep(work, study.system, tables, material, stopping.replicates, stopping.seed)


def _rounds(contexts: Sequence[int], stopping: Stopping) -> list[set[int]]:
    """Cut the contexts into rounds, in a random order."""
    order = np.random.default_rng((stopping.seed, 4)).permutation(np.unique(contexts))
    return [set(piece.tolist()) for piece in np.array_split(order, stopping.looks)]


def _taken(edited: EditedModel, rows: Int[np.ndarray, " row"]) -> EditedModel:
    """Choose rows of the edit."""
    import torch

    return edited._replace(edit=edited.edit.take(torch.from_numpy(rows)))


def _numbered(ratings: pa.Table, active: Int[np.ndarray, " row"]) -> pa.Table:
    """Number the interventions of a round's ratings as in the whole sweep."""
    column = ratings.column_names.index("intervention")
    numbers = active[ratings["intervention"].to_numpy()].astype(np.int32)
    return ratings.set_column(column, "intervention", pa.array(numbers))


def _still_wide(
    tables: SweepTables, system: ValueSystem, stopping: Stopping
) -> Bool[np.ndarray, " intervention"]:
    """Say of every intervention whether its group's intervals are still too wide."""
    measured = as_sweep(tables._replace(ratings=context_means(tables.ratings)), system)
    matched = match(measured, stopping.delta)
    changes = matched.changes / measured.unsteered_sd()
    groups = [
        source or f"control {unit}"
        for source, unit in zip(matched.source, matched.unit_id, strict=True)
    ]
    wide = {
        group: widest(known_mean(changes[[g == group for g in groups]], 0), stopping)
        > stopping.until
        for group in dict.fromkeys(groups)
    }
    of_unit = {
        unit: wide[group] for unit, group in zip(matched.unit_id.tolist(), groups, strict=True)
    }
    return np.array([of_unit[unit] for unit in measured.unit_id.tolist()])


def widest(changes: Float[np.ndarray, "context value"], stopping: Stopping) -> float:
    """Give the width of the widest interval of a mean over contexts [unsteered SD].

    Contexts that were not asked are NaN.
    """
    cells = stopping.averaging(changes, stopping.replicates, stopping.seed)
    return float(np.nanmax(cells.high - cells.low))
