"""Context-controlled pairs: two texts that differ in one value and in nothing else (Jin et al., ACL
2025).

1. `read` takes them from a table, `of_situations` from the built-in everyday texts, `of_organism`
   from the organism's own generator, `by_llm` from a language model. A probe trained on texts that
   also differ in topic learns the topic: `python -m benchmarks conva` measures how much.
2. `check` refuses a pair that differs in more than the value, by two signs that need no list of
   topics: too few content words in common, or a *context word* on one side alone. A context word of
   a value is one that its pairs hold constant at least `CONSTANT` times as often as they change it:
   where "market" stands in both texts of four pairs, it may not tell a fifth's apart.
3. Refused pairs are kept as rows with their reason and counted; a table that loses more than half
   of its pairs is refused as a whole.
4. A person's own table is believed where it shares fewer words than the default asks for, as the
   pairs of ConVA's authors do: the verb `probe` warns of such pairs and keeps them; below a share
   that a person names they are refused.

Left out: paraphrases. A pair that says the same background in other words is refused, as it should
be: a probe would read the words.
"""

import contextlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from feature_store.errors import BadInput, NotFound
from feature_store.files import parse_json
from feature_store.progress import Progress, silent
from feature_store.records import ValueSystem
from feature_store.tables import SUFFIXES, read_table
from workbench import organism
from workbench.llm import LLM, ask, ask_fitting
from workbench.material import situation_texts

SIDES = (("text", "opposed"), ("question_1", "question_2"))
"""Columns of the text that holds the value and of the other one: ours, and those of ConVA."""
SHARED = 0.3
"""Least share of content words that the texts of a pair have in common (Dice) [0 to 1]."""
CONSTANT = 4
"""Pairs of a value that hold a word constant, for each one that changes it, from which on it is
a context word."""
LOSS = 0.5
"""Largest share of pairs that may be refused [0 to 1]."""
CHUNK = 32
"""Requests between two reports of progress."""
REQUEST = (
    "Write two versions of one short first-person text (one or two sentences) about this"
    " situation: {scenario}.\n"
    "In the first the person clearly holds the value {name} ({definition}). In the second the same"
    " person in the same situation clearly does not.\n"
    "Use the same words wherever you can: only what shows the value may differ, the two must be"
    " equally long, and neither may name the value.\n"
    'Answer with JSON alone: {{"held": "...", "opposed": "..."}}'
)
"""Asks for one pair. Kept answers are found by the digest of these words: not a byte may change."""


@dataclass(frozen=True)
class ValuePair:
    """Two texts, one in which a value is held and one in which it is not."""

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


class WrittenPairs(NamedTuple):
    """What a language model made of the requests for pairs."""

    pairs: list[ValuePair]
    """What the language model wrote, unchecked."""
    unparsed: list[str]
    """Answers that held no pair."""
    too_long: int
    """Requests longer than the language model reads; they were not made."""


def read(source: str, system: ValueSystem) -> list[ValuePair]:
    """Read the pairs of a table, or of every table in a folder.

    Its columns are value, text, opposed and, optionally, context; ConVA's are question_1 and
    question_2. Without a column `value` the file's name says it (`power_context_controlled.csv`).
    Values may be spelt in any way the system knows. A pair without a context is its own context.
    Raises NotFound or BadInput for an absent column, an empty cell and an unknown value.

        pairs = read("pairs.csv", study.system)
    """
    path = Path(source)
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    pairs: list[ValuePair] = []
    for file in files:
        pairs += _of_table(file, system, len(pairs))
    if not pairs:
        raise BadInput(f"{source} holds no pair. Give one pair a row.")
    return pairs


def _of_table(file: Path, system: ValueSystem, before: int) -> list[ValuePair]:
    """Read the pairs of one table; `before` pairs were read before it."""
    table = read_table(file, ["text", "question_1"]).whole()
    sides = next((sides for sides in SIDES if sides[0] in table), SIDES[0])
    if missing := [column for column in sides if column not in table]:
        raise BadInput(
            f"{file} lacks {', '.join(missing)}; a table of pairs has value, text, opposed and,"
            " optionally, context, or question_1 and question_2 and a value in its name."
        )
    held, opposed = (table.texts(side) for side in sides)
    values = table.texts("value") if "value" in table else [_value_of(file, system)] * len(table)
    contexts = table.texts("context") if "context" in table else [""] * len(table)
    pairs = []
    for row, cells in enumerate(zip(values, held, opposed, contexts, strict=True)):
        # ConVA's own reader takes these quotation marks away, too.
        value, first, second, context = (cell.strip().strip('"').strip() for cell in cells)
        if not (value and first and second):
            raise BadInput(
                f"{table.where(row)}: value, text or opposed is empty. Fill it, or drop the row."
            )
        number = before + row + 1
        pairs.append(
            ValuePair(
                value=system.resolve(value),
                held=first,
                opposed=second,
                context=context or f"pair {number}",
            )
        )
    return pairs


def _value_of(file: Path, system: ValueSystem) -> str:
    """Give the value that a file's name says. Raises BadInput where it says none, or several."""
    values = set()
    for part in re.split(r"[_.\s]+", file.stem):
        with contextlib.suppress(NotFound):
            values.add(system.resolve(part))
    if len(values) != 1:
        named = " and ".join(sorted(values)) or "none"
        raise BadInput(
            f"{file} has no column value, and its name says {named} of {system.id}. Add the column,"
            " or name the file after its value (power.csv)."
        )
    return values.pop()


def of_organism(n: int, seed: int, controlled: bool = True) -> list[ValuePair]:
    """Have the organism write `n` pairs a value.

    The two texts of a pair differ in one sentence; uncontrolled ones differ in topic and fillers
    too.
    """
    texts = organism.value_pairs(n, seed, controlled)
    return [
        ValuePair(
            value=pair.value,
            held=pair.held,
            opposed=pair.opposed,
            context=pair.context or f"pair {number}",
        )
        for number, pair in enumerate(texts, 1)
    ]


def of_situations(system: ValueSystem) -> list[ValuePair]:
    """Give the built-in everyday texts as pairs, two for each topic and refined value.

    The topic is the context. Raises BadInput where none of their values is one of the system.
    """
    written = situation_texts(system)
    return [
        ValuePair(
            value=system.ids[int(np.argmax(written.marks[held]))],
            held=written.texts[held],
            opposed=written.texts[held + 1],
            context=written.contexts[held],
        )
        for held in range(0, len(written.texts), 2)
    ]


def by_llm(
    llm: LLM,
    system: ValueSystem,
    values: Sequence[str],
    scenarios: Sequence[str],
    seed: int = 0,
    progress: Progress = silent,
) -> WrittenPairs:
    """Have a language model write one pair for each value (its id) and scenario.

    The pairs are as they were written; `check` says whether only the value differs in them.
    """
    topics = [(system[value], scenario) for value in values for scenario in scenarios]
    requests = [
        ask(REQUEST.format(scenario=scenario, name=value.name, definition=value.definition))
        for value, scenario in topics
    ]
    pairs: list[ValuePair] = []
    unparsed: list[str] = []
    too_long = 0
    for start in range(0, len(topics), CHUNK):
        chunk = slice(start, start + CHUNK)
        answers = ask_fitting(llm, requests[chunk], seed=seed)
        for (value, scenario), answer in zip(topics[chunk], answers, strict=True):
            if answer is None:
                too_long += 1
                continue
            texts = _parse(answer)
            if texts is None:
                unparsed.append(answer)
                continue
            held, opposed = texts
            pairs.append(ValuePair(value=value.id, held=held, opposed=opposed, context=scenario))
        progress("writing pairs", min(start + CHUNK, len(topics)), len(topics))
    return WrittenPairs(pairs, unparsed, too_long)


def write(pairs: Sequence[ValuePair], file: Path) -> None:
    """Write the pairs as a table that `read` reads; refused ones are left out."""
    import pandas as pd

    rows = [
        {"value": p.value, "text": p.held, "opposed": p.opposed, "context": p.context}
        for p in pairs
        if not p.reason
    ]
    pd.DataFrame(rows, columns=["value", "text", "opposed", "context"]).to_csv(file, index=False)


def words(text: str) -> Counter[str]:
    """Count the content words of a text: lower case, function words left out."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return Counter(w for w in re.findall(r"[^\W\d_]+", text.lower()) if w not in ENGLISH_STOP_WORDS)


def check(pairs: Sequence[ValuePair], shared: float = SHARED) -> list[ValuePair]:
    """Give the same pairs, those that differ in more than the value with the reason of refusal.

    `shared` is the least share of content words that both texts have in common [0 to 1]. Raises
    BadInput where more than `LOSS` of the pairs would be refused.
    """
    counts = [(words(pair.held), words(pair.opposed)) for pair in pairs]
    constant: dict[str, Counter[str]] = {}
    changed: dict[str, Counter[str]] = {}
    for pair, (held, opposed) in zip(pairs, counts, strict=True):
        differing = _differing(held, opposed)
        changed.setdefault(pair.value, Counter()).update(differing)
        constant.setdefault(pair.value, Counter()).update((set(held) & set(opposed)) - differing)
    checked = []
    for pair, (held, opposed) in zip(pairs, counts, strict=True):
        context_words = sorted(
            word
            for word in _differing(held, opposed)
            if constant[pair.value][word] >= CONSTANT * changed[pair.value][word]
        )
        reason = _refusal(pair, _dice(held, opposed), context_words, shared)
        checked.append(replace(pair, reason=reason))
    _refuse_table(checked)
    return checked


def sharing_less(pairs: Sequence[ValuePair], shared: float) -> int:
    """Count the pairs whose texts have a smaller share of content words in common [0 to 1]."""
    return sum(_dice(words(pair.held), words(pair.opposed)) < shared for pair in pairs)


def _parse(answer: str) -> tuple[str, str] | None:
    """Read the two texts in the answer's JSON object; None where there is none."""
    start, end = answer.find("{"), answer.rfind("}")
    if not 0 <= start < end:
        return None
    try:
        texts = parse_json(answer[start : end + 1])
    except BadInput:
        return None
    held, opposed = texts.get("held"), texts.get("opposed")
    if not (isinstance(held, str) and held.strip()):
        return None
    if not (isinstance(opposed, str) and opposed.strip()):
        return None
    return held, opposed


def _differing(held: Counter[str], opposed: Counter[str]) -> set[str]:
    """Name the words that one of the texts has more often than the other."""
    return set(held - opposed) | set(opposed - held)


def _dice(held: Counter[str], opposed: Counter[str]) -> float:
    """Give the share of words that both texts have in common [0 to 1]; 1 where neither has any."""
    total = held.total() + opposed.total()
    return 2 * (held & opposed).total() / total if total else 1.0


def _refusal(pair: ValuePair, dice: float, context_words: Sequence[str], shared: float) -> str:
    """Say why a pair is refused; empty where it is kept."""
    if pair.held.strip() == pair.opposed.strip():
        return "both texts are the same"
    if dice < shared:
        return f"only {dice:.2f} of the content words are shared"
    if context_words:
        return f"context words on one side alone: {', '.join(context_words)}"
    return ""


def _refuse_table(checked: Sequence[ValuePair]) -> None:
    """Raise BadInput where more than `LOSS` of the pairs are refused."""
    refused = [(number, pair) for number, pair in enumerate(checked, 1) if pair.reason]
    if len(refused) > LOSS * len(checked):
        number, pair = refused[0]
        raise BadInput(
            f"{len(refused)} of {len(checked)} pairs differ in more than the value (first: pair"
            f" {number}, {pair.value}, {pair.reason}). Give pairs that share their words, or lower"
            " --shared if they are meant so."
        )
