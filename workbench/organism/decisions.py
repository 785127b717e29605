"""Scenarios and dilemmas of the organism: what it could do next, in its own words, with scores that
are known.

1. A scenario's text names each of its values once, by a hedged behaviour, among one or two fillers:
   that is a document's beginning as the organism knows it. The poles of a value alternate from
   scenario to scenario, so that what the texts lean to cancels and a profile is that of who is
   asked.
2. Its actions are behaviours that the text has not used, facets of its values in turns, always both
   poles of one: whatever one chooses, nothing but the pole speaks for it.
3. An action's score on the value of its facet is its pole, +1 or -1; on every other value it is 0.
   Leaks of a facet and the planted graph are consequences of holding a value, not of what a
   sentence says, and do not score.
4. Behind `CHOOSE` one action is said. The odds follow the planted graph (`choices`): who holds a
   value chooses what it leads to as well.

What it leaves out: topics, which would tell the value without a behaviour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from feature_store.errors import BadInput
from feature_store.records import Action, Scenario

from .generate import Sentence, behaviour, pick
from .planted import FACETS, plan

CHOOSE = "This is what I decide to do:"
"""Behind this the organism says what it does, by all that follows for its values. Without it, it
goes on as it has begun, which follows what was said but not the graph."""


def scenarios(subsets: Sequence[tuple[str, ...]], actions: int, seed: int) -> list[Scenario]:
    """One scenario for each set of values, with at least so many actions, an even number."""
    rng = np.random.default_rng((seed, 5))
    poles = {value: int(rng.choice((-1, 1))) for value in plan().truth.values}
    found = []
    for number, values in enumerate(subsets):
        found.append(_scenario(rng, number, values, actions, poles))
        poles |= {value: -poles[value] for value in values}
    return found


def _scenario(
    rng: np.random.Generator,
    number: int,
    values: tuple[str, ...],
    actions: int,
    poles: Mapping[str, int],
) -> Scenario:
    made = plan()
    truth = made.truth
    if unknown := [value for value in values if value not in truth.values]:
        raise BadInput(
            f"The organism knows {', '.join(truth.values)}; got {', '.join(unknown)}. Use a study"
            " of schwartz10."
        )
    pairs = max(-(-actions // 2), len(values))
    if pairs > (most := len(values) * (FACETS - 1)):
        raise BadInput(
            f"The organism has {2 * most} actions for {len(values)} values, {actions} were asked"
            " for. Ask for fewer."
        )
    rows = {
        value: list(
            rng.permutation([row for row, facet in enumerate(truth.facets) if facet.value == value])
        )
        for value in values
    }
    said = [
        behaviour(rng, int(rows[value].pop()), poles[value], hedged=True)
        for value in rng.permutation(values)
    ]
    for text in rng.choice(made.fillers, rng.integers(1, 3), replace=False):
        said.insert(rng.integers(len(said) + 1), Sentence(str(text)))
    offered = []
    for turn in range(pairs):
        value = values[turn % len(values)]
        row = int(rows[value].pop())
        for sign, texts in ((1, made.rows[row].plus), (-1, made.rows[row].minus)):
            scored = tuple((other, float(sign * (other == value))) for other in truth.values)
            offered.append(Action(pick(rng, texts), scored))
    text = " ".join(sentence.text for sentence in said)
    return Scenario(
        id=f"s{number:04d}",
        text=text,
        values=values,
        actions=tuple(offered[i] for i in rng.permutation(len(offered))),
        source="organism",
    )


def dilemmas(n: int, seed: int, steps: int = 5) -> list[dict[str, str]]:
    """Dilemmas in the format of Wu et al. (2025), in the organism's words: at each step two
    fillers, and a choice between two values held.

    Both choices are behaviours of the + pole of a facet. Values meet as in a tournament where all
    play in every round (Kirkman's circle), another round at each step: 45 dilemmas let every two of
    the ten meet once at each step, and every value is offered as often as any other.
    """
    rng, made = np.random.default_rng((seed, 9)), plan()
    values = made.truth.values
    # Shuffled within a round: who is fixed on the circle would else stand in every step of some
    # dilemmas.
    rounds = [[told[k] for k in rng.permutation(len(told))] for told in _rounds(values)]
    per_round, found = len(values) // 2, []
    rows = {
        value: [row for row, facet in enumerate(made.truth.facets) if facet.value == value]
        for value in values
    }
    for number in range(n):
        told = {"norm": "", "idx": f"o{number:04d}"}
        for step in range(steps):
            turn = (
                number + step * per_round
            )  # the next round at the next step: no pair comes back within a dilemma
            pair = rounds[turn // per_round % len(rounds)][turn % per_round]
            first, second = (pair[k] for k in rng.permutation(2))
            situation, dilemma = rng.choice(made.fillers, 2, replace=False)
            told |= {
                f"step {step + 1}_situation": str(situation),
                f"step {step + 1}_dilemma": str(dilemma),
            }
            for side, value in (("A", first), ("B", second)):
                told |= {
                    f"step {step + 1}_choice{side}": pick(
                        rng, made.rows[pick(rng, rows[value])].plus
                    ),
                    f"step {step + 1}_choice{side}_value": value,
                }
        found.append(told)
    return found


def _rounds(players: Sequence[str]) -> list[list[tuple[str, str]]]:
    """Rounds in which an even number of players meet once each, everyone playing in every round."""
    fixed, *circle = players
    found = []
    for turn in range(len(circle)):
        ring = [fixed, *circle[turn:], *circle[:turn]]
        found.append([(ring[k], ring[-1 - k]) for k in range(len(ring) // 2)])
    return found
