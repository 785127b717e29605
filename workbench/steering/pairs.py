"""Context-controlled pairs: two texts that differ in one value and in nothing else (Jin et al., ACL
2025).

1. `read` takes them from a table, `of_organism` from the organism's own generator, `by_llm` from a
   language model. A probe trained on texts that also differ in topic learns the topic: `python -m
   benchmarks conva` measures how much.
2. `check` refuses a pair that differs in more than the value, by two signs that need no list of
   topics: too few content words in common, or a *context word* on one side alone. A context word of
   a value is one that its pairs hold constant at least `CONSTANT` times as often as they change it:
   where "market" stands in both texts of four pairs, it may not tell a fifth's apart.
3. Refused pairs are kept as rows with their reason and counted; a table that loses more than half
   of its pairs is refused as a whole.

Left out: paraphrases. A pair that says the same background in other words is refused, as it should
be: a probe would read the words.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from feature_store.errors import BadInput
from feature_store.progress import Progress, silent
from feature_store.records import ValueSystem
from workbench import material, organism
from workbench.llm import LLM, ask, ask_fitting

SHARED = 0.3
"""Least share of content words that the texts of a pair have in common (Dice) [0 to 1]."""
CONSTANT = 4
"""Pairs of a value that hold a word constant, for each one that changes it, from which on it is
a context word."""
LOSS = 0.5
"""Largest share of pairs that may be refused [0 to 1]."""
CHUNK = 32
"""Requests between two reports of progress."""


@dataclass(frozen=True)
class Pair:
    value: str
    """Id of the value."""
    held: str
    """Text in which the value is held."""
    opposed: str
    """The same text without the value, or against it."""
    context: str
    """What both texts share, such as a scenario; pairs of one context are never split between
    training and test."""
    reason: str = ""
    """Why the pair is refused; empty where it is kept."""


class Written(NamedTuple):
    pairs: list[Pair]
    """What the language model wrote, unchecked."""
    unparsed: list[str]
    """Answers that held no pair."""
    too_long: int
    """Requests longer than the language model reads; they were not made."""


def read(source: str, system: ValueSystem) -> list[Pair]:
    """Pairs of a table with columns value, text, opposed and, optionally, context.

    Values may be spelt in any way the system knows. Without a context each pair is its own.
    """
    frame = material.table(Path(source))
    if missing := [column for column in ("value", "text", "opposed") if column not in frame]:
        raise BadInput(
            f"{source} lacks {', '.join(missing)}; a table of pairs has value, text, opposed and,"
            " optionally, context."
        )
    if not len(frame):
        raise BadInput(f"{source} holds no pair. Give one pair a row.")
    columns = ["value", "text", "opposed", *(["context"] if "context" in frame else [])]
    found = []
    for number, row in enumerate(
        frame[columns].astype(object).where(frame[columns].notna(), "").itertuples(index=False), 1
    ):
        value, held, opposed, *context = (str(cell).strip() for cell in row)
        if not (value and held and opposed):
            raise BadInput(
                f"{source}, row {number}: value, text or opposed is empty. Fill it, or drop the"
                " row."
            )
        found.append(
            Pair(
                value=system.resolve(value),
                held=held,
                opposed=opposed,
                context=(context and context[0]) or f"pair {number}",
            )
        )
    return found


def of_organism(n: int, seed: int, controlled: bool = True) -> list[Pair]:
    """`n` pairs a value in the organism's words; uncontrolled ones differ in topic and fillers
    too.
    """
    made = organism.value_pairs(n, seed, controlled)
    return [
        Pair(value=p.value, held=p.held, opposed=p.opposed, context=p.context or f"pair {number}")
        for number, p in enumerate(made, 1)
    ]


REQUEST = """Write two versions of one short first-person text (one or two sentences) about this situation: {scenario}.
In the first the person clearly holds the value {name} ({definition}). In the second the same person in the same situation clearly does not.
Use the same words wherever you can: only what shows the value may differ, the two must be equally long, and neither may name the value.
Answer with JSON alone: {{"held": "...", "opposed": "..."}}"""


def by_llm(
    llm: LLM,
    system: ValueSystem,
    values: Sequence[str],
    scenarios: Sequence[str],
    seed: int = 0,
    progress: Progress = silent,
) -> Written:
    """One pair for each value and scenario, as the language model writes them; `check` says
    whether only the value differs.
    """
    asked = [(system[value], scenario) for value in values for scenario in scenarios]
    requests = [
        ask(REQUEST.format(scenario=scenario, name=value.name, definition=value.definition))
        for value, scenario in asked
    ]
    pairs, unparsed, too_long = [], [], 0
    for start in range(0, len(asked), CHUNK):
        some = slice(start, start + CHUNK)
        for (value, scenario), answer in zip(
            asked[some], ask_fitting(llm, requests[some], seed=seed), strict=True
        ):
            if answer is None:
                too_long += 1
            elif told := _parse(answer):
                pairs.append(Pair(value.id, *told, scenario))
            else:
                unparsed.append(answer)
        progress("writing pairs", min(start + CHUNK, len(asked)), len(asked))
    return Written(pairs, unparsed, too_long)


def _parse(answer: str) -> tuple[str, str] | None:
    """The two texts in the answer's JSON object; None where there is none."""
    found = re.search(r"\{.*\}", answer, re.S)
    try:
        told = json.loads(found[0]) if found else {}
    except json.JSONDecodeError:
        return None
    texts = (told.get("held"), told.get("opposed"))
    return texts if all(isinstance(text, str) and text.strip() for text in texts) else None


def write(pairs: Sequence[Pair], file: Path) -> None:
    """The pairs as a table that `read` reads; refused ones are left out."""
    import pandas as pd

    rows = [
        {"value": p.value, "text": p.held, "opposed": p.opposed, "context": p.context}
        for p in pairs
        if not p.reason
    ]
    pd.DataFrame(rows, columns=["value", "text", "opposed", "context"]).to_csv(file, index=False)


def words(text: str) -> Counter[str]:
    """Content words of a text with their counts: lower case, function words left out."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return Counter(w for w in re.findall(r"[^\W\d_]+", text.lower()) if w not in ENGLISH_STOP_WORDS)


def check(pairs: Sequence[Pair], shared: float = SHARED) -> list[Pair]:
    """The pairs, each with the reason why it is refused, if it is.

    Raises BadInput where more than half would be.
    """
    said = [(words(p.held), words(p.opposed)) for p in pairs]
    constant: dict[str, Counter[str]] = {}
    changed: dict[str, Counter[str]] = {}
    for pair, (held, opposed) in zip(pairs, said, strict=True):
        differing = set(held - opposed) | set(opposed - held)
        changed.setdefault(pair.value, Counter()).update(differing)
        constant.setdefault(pair.value, Counter()).update((set(held) & set(opposed)) - differing)
    found = []
    for pair, (held, opposed) in zip(pairs, said, strict=True):
        total = held.total() + opposed.total()
        dice = 2 * (held & opposed).total() / total if total else 1.0
        differing = set(held - opposed) | set(opposed - held)
        context = sorted(
            w for w in differing if constant[pair.value][w] >= CONSTANT * changed[pair.value][w]
        )
        reason = ""
        if pair.held.strip() == pair.opposed.strip():
            reason = "both texts are the same"
        elif dice < shared:
            reason = f"only {dice:.2f} of the content words are shared"
        elif context:
            reason = f"context words on one side alone: {', '.join(context)}"
        found.append(replace(pair, reason=reason))
    refused = [(number, pair) for number, pair in enumerate(found, 1) if pair.reason]
    if len(refused) > LOSS * len(found):
        number, pair = refused[0]
        raise BadInput(
            f"{len(refused)} of {len(found)} pairs differ in more than the value (first: pair"
            f" {number}, {pair.value}, {pair.reason}). Give pairs that share their words, or lower"
            " --shared if they are meant so."
        )
    return found
