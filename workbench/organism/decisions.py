"""Scenarios and dilemmas of the organism, in its language, with scores that are known.

1. A scenario's text names each of its values once, by a hedged behaviour, among one or two fillers:
   that is a document's beginning as the organism knows it. The poles of a value alternate from
   scenario to scenario, so that the leanings of the texts cancel and a profile is that of the model
   which is asked.
2. Its actions are behaviours that the text has not used, facets of its values in turns, always both
   poles of a facet: nothing but the pole speaks for an action.
3. An action's score on the value of its facet is its pole, +1 or -1; on every other value it is 0.
   Leaks of a facet and the planted graph are consequences of holding a value, not of what a
   sentence says, and do not score.
4. Behind `CHOOSE` the organism says one action. The odds follow the planted graph (`choices`): a
   value that is held also makes what it leads to likelier.

What it leaves out: topics, which would tell the value without a behaviour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from feature_store.errors import BadInput
from feature_store.records import Action, Scenario

from .generate import Sentence, behaviour, pick
from .planted import FACETS, planted_language

CHOOSE = "This is what I decide to do:"
"""Behind these words the organism says what it does, by all that follows for its values. Without
them it goes on as it has begun, which follows what was said but not the graph."""


def scenarios(subsets: Sequence[tuple[str, ...]], actions: int, seed: int) -> list[Scenario]:
    """Write one scenario for each set of values, with at least `actions` actions, an even number.

    Raises BadInput for a value that the organism does not know, or for more actions than it has.
    """
    rng = np.random.default_rng((seed, 5))
    poles = {value: int(rng.choice((-1, 1))) for value in planted_language().truth.values}
    written = []
    for number, values in enumerate(subsets):
        written.append(_scenario(rng, number, values, actions, poles))
        poles |= {value: -poles[value] for value in values}
    return written


def _scenario(
    rng: np.random.Generator,
    number: int,
    values: tuple[str, ...],
    actions: int,
    poles: Mapping[str, int],
) -> Scenario:
    language = planted_language()
    truth = language.truth
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
    rows = {value: list(rng.permutation(_rows_of(value))) for value in values}
    sentences = [
        behaviour(rng, int(rows[value].pop()), poles[value], hedged=True)
        for value in rng.permutation(values)
    ]
    for text in rng.choice(language.fillers, rng.integers(1, 3), replace=False):
        sentences.insert(rng.integers(len(sentences) + 1), Sentence(str(text)))
    offered = []
    for turn in range(pairs):
        value = values[turn % len(values)]
        row = int(rows[value].pop())
        for sign, texts in ((1, language.rows[row].plus), (-1, language.rows[row].minus)):
            scores = tuple((other, float(sign * (other == value))) for other in truth.values)
            offered.append(Action(pick(rng, texts), scores))
    text = " ".join(sentence.text for sentence in sentences)
    return Scenario(
        id=f"s{number:04d}",
        text=text,
        values=values,
        actions=tuple(offered[i] for i in rng.permutation(len(offered))),
        source="organism",
    )


def dilemmas(n: int, seed: int, steps: int = 5) -> list[dict[str, str]]:
    """Write dilemmas in the format of Wu et al. (2025), in the organism's language.

    Each step has two fillers and a choice between two values held. Both choices are behaviours of
    the + pole of a facet. Values meet as in a tournament where all play in every round (Kirkman's
    circle), another round at each step: 45 dilemmas let every two of the ten meet once at each
    step, and every value is offered as often as any other.
    """
    rng, language = np.random.default_rng((seed, 9)), planted_language()
    values = language.truth.values
    # Shuffled within a round: the value that is fixed on the circle would else stand in every step
    # of some dilemmas.
    rounds = [[pairs[k] for k in rng.permutation(len(pairs))] for pairs in _rounds(values)]
    per_round = len(values) // 2
    rows = {value: _rows_of(value) for value in values}
    written = []
    for number in range(n):
        dilemma = {"norm": "", "idx": f"o{number:04d}"}
        for step in range(steps):
            # The next round at the next step: no pair comes back within a dilemma.
            turn = number + step * per_round
            pair = rounds[turn // per_round % len(rounds)][turn % per_round]
            first, second = (pair[k] for k in rng.permutation(2))
            name = f"step {step + 1}"
            situation, question = rng.choice(language.fillers, 2, replace=False)
            dilemma |= {f"{name}_situation": str(situation), f"{name}_dilemma": str(question)}
            for side, value in (("A", first), ("B", second)):
                row = pick(rng, rows[value])
                dilemma[f"{name}_choice{side}"] = pick(rng, language.rows[row].plus)
                dilemma[f"{name}_choice{side}_value"] = value
        written.append(dilemma)
    return written


def _rows_of(value: str) -> list[int]:
    """The planted directions of a value's facets."""
    facets = planted_language().truth.facets
    return [row for row, facet in enumerate(facets) if facet.value == value]


def _rounds(players: Sequence[str]) -> list[list[tuple[str, str]]]:
    """Rounds in which an even number of players meet once each, everyone playing in every round."""
    fixed, *circle = players
    rounds = []
    for turn in range(len(circle)):
        ring = [fixed, *circle[turn:], *circle[:turn]]
        rounds.append([(ring[k], ring[-1 - k]) for k in range(len(ring) // 2)])
    return rounds
