"""Yes-or-no questions put to a model that plays roles: the data that Kang et al. (2025) find their
value graph in.

1. Items carry a value and an agreement of +1 or -1 (yes speaks for or against the value): an
   instrument's, or a table's in the form of ValueBench. They are split per value (70/30); a
   training role sees a seeded 40 % of the training items, a test role all test items.
2. A role is a name, a sex, a job and a type of the MBTI, drawn with a seed from `roles.toml`, where
   every wording stands too. On the organism, which knows no such words, its contexts stand in
   for roles, and documents that hold one value for outright instructions.
3. Answers are written (one sentence of thought, then yes or no), or read off as log-probabilities:
   of yes and no, or of an instrument's own options, whose expected rating is laid onto [-1, 1].
4. A written answer is read by its beginning: yes, sure; no; unsure, not sure. "No doubt", "no one"
   and "yes and no" are no such beginnings, nor are two that differ. Otherwise a `Judge` may read
   it. An answer that begins with "cannot" is a refusal: it is counted and never averaged,
   unlike a plain "unsure", which scores 0.

An item's score is its agreement times +1, -1 or 0, a value's score the mean over its items: [-1,
1]. Left out: other languages, and several turns.
"""

import functools
import hashlib
import re
import tomllib
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from feature_store.errors import BadInput
from feature_store.files import shown
from feature_store.records import Instrument, Item, Status, Value, normalise
from feature_store.tables import Table, read_table
from workbench import material, organism
from workbench.llm import Judge
from workbench.llm.reading import is_refusal, spoken

Split = Literal["train", "test"]
NOBODY = -1
"""Number of the role-free row."""
CHOICES = {"yes": 1.0, "no": -1.0, "unsure": 0.0}
"""What an answer scores before its item's agreement."""
_BOTH = r"(?!\s*[,;]?\s*(?:and|or|but|/|\|)?\s*(?:yes|no|unsure)\b)(?!\s*\?)"
_RULES = (
    ("", re.compile(r"(i )?can not\b", re.I)),
    ("unsure", re.compile(r"(i am |i'm )?(unsure|not sure|uncertain)\b", re.I)),
    ("yes", re.compile(rf"(yes|sure|surely)\b{_BOTH}", re.I)),
    (
        "no",
        re.compile(
            r"no\b(?! (?:doubt|one|body|problem|matter|wonder|idea|longer|more|less|need|answer"
            rf"|reason|question|objection)\b){_BOTH}",
            re.I,
        ),
    ),
)


@functools.cache
def wordings() -> dict[str, Any]:
    """Read the wordings and lists of `roles.toml`: `prompts` and `roles`."""
    return tomllib.loads(Path(__file__).with_name("roles.toml").read_text("utf-8"))


# Ids of runs digest the text of roles and items: class names and fields stay as they are.
@dataclass(frozen=True)
class Role:
    """Somebody whom the model plays, or nobody."""

    number: int
    """0-based; `NOBODY` for no role."""
    split: Split
    """Which items it is asked: a sample of the training items, or all test items."""
    text: str
    """What stands before the question; empty for no role."""


def roles(model: str, train: int, test: int, seed: int) -> list[Role]:
    """Draw roles: no role, the training roles, no role again, the test roles.

    `model` is the model's address: on the organism its contexts stand in for people. Nobody is
    drawn twice. Raises BadInput where there are not as many people.
    """
    if train < 1 or test < 1:
        raise BadInput(
            f"Roles are needed on both sides, got {train} for training and {test} for the test."
        )
    if model == material.ORGANISM:
        texts = material.contexts(model, train + test, seed)
    else:
        texts = _people(train + test, seed)
    drawn = [
        Role(number=number, split="train" if number < train else "test", text=text)
        for number, text in enumerate(texts)
    ]
    return [
        Role(number=NOBODY, split="train", text=""),
        *drawn[:train],
        Role(number=NOBODY, split="test", text=""),
        *drawn[train:],
    ]


def _people(n: int, seed: int) -> list[str]:
    """Draw `n` people without repetition: name and sex, job and type of the MBTI."""
    lists, prompts = wordings()["roles"], wordings()["prompts"]
    rng = np.random.default_rng((seed, 5))
    names = [
        (sex, f"{first} {last}")
        for sex in ("female", "male")
        for first in lists[sex]
        for last in lists["surnames"]
    ]
    if n > len(names):
        raise BadInput(
            f"The lists make {len(names)} names, {n} roles were asked for. Ask for fewer."
        )
    people = []
    for number in rng.permutation(len(names))[:n]:
        sex, name = names[number]
        trait = prompts["trait"].format(
            sex=sex, job=rng.choice(lists["jobs"]), type=rng.choice(lists["types"])
        )
        people.append(prompts["playing"].format(name=name, trait=trait))
    return people


@dataclass(frozen=True)
class Items:
    """What is asked, split between training roles and test roles."""

    train: tuple[Item, ...]
    """Items for training roles; `text` is a yes-or-no question or an instrument's statement."""
    test: tuple[Item, ...]
    """Items for test roles."""
    values: tuple[Value, ...]
    """What they measure, in order."""


def split(
    items: Sequence[Item], values: Sequence[Value], share: float, least: int, seed: int
) -> Items:
    """Split each value's items between training and test roles, at random.

    `share` of them are for training [0 to 1, exclusive], at least one stands on each side. Values
    with fewer than `least` items are left out; BadInput where fewer than two are left.
    """
    if not 0 < share < 1:
        raise BadInput(f"The share of training items lies between 0 and 1, got {share:g}.")
    parts: dict[str, list[Item]] = {"train": [], "test": []}
    measured = []
    for value in values:
        candidates = [item for item in items if item.value == value.id]
        n = len(candidates)
        if n < max(least, 2):
            continue
        measured.append(value)
        order = [candidates[k] for k in _rng(value.id, seed).permutation(n)]
        cut = min(max(round(share * n), 1), n - 1)
        parts["train"] += order[:cut]
        parts["test"] += order[cut:]
    if len(measured) < 2:
        raise BadInput(
            f"A graph needs two values with {max(least, 2)} items each, got {len(measured)}. Give"
            " more items, or ask for fewer of each."
        )
    return Items(train=tuple(parts["train"]), test=tuple(parts["test"]), values=tuple(measured))


def from_instrument(
    instrument: Instrument, values: Sequence[Value], ask: bool
) -> tuple[list[Item], list[Value]]:
    """Take an instrument's items as they are, or, with `ask`, as yes-or-no questions.

    Gives them with those of `values` that they measure.
    """
    form = wordings()["prompts"]["statement"] if ask else "{item}"
    items = [
        Item(id=item.id, text=form.format(item=item.text), value=item.value, key=item.key)
        for item in instrument.items
    ]
    return items, [value for value in values if any(item.value == value.id for item in items)]


def from_table(file: Path) -> tuple[list[Item], list[Value]]:
    """Read items from a table with columns value, agreement (1, -1) and question.

    ValueBench has this form; a column `definition` may define the values. Gives the items and the
    values that they measure. Raises NotFound for an absent file or column, BadInput for what cannot
    be scored.
    """
    table = _read_items(file)
    names, questions = (table.texts(name) for name in ("value", "question"))
    definitions = table.texts("definition") if "definition" in table else [""] * len(table)
    spelling: dict[str, str] = {}
    defined: dict[str, str] = {}
    count: Counter[str] = Counter()
    items = []
    for row, (name, question) in enumerate(zip(names, questions, strict=True)):
        id = normalise(name)
        if not (id and question.strip()):
            continue
        count[id] += 1
        key = _agreement(table, row)
        items.append(Item(id=f"{id}-{count[id]}", text=question, value=id, key=key))
        spelling[id] = name
        defined[id] = defined.get(id) or definitions[row]
    if lost := len(table) - len(items):
        warnings.warn(
            f"{lost} of {len(table)} rows of {file.name} have no value or no question and are left"
            " out.",
            stacklevel=2,
        )
    values = [
        Value(id=id, name=name, angle=0.0, definition=defined[id], parent="")
        for id, name in spelling.items()
    ]
    return items, values


def _read_items(file: Path) -> Table:
    """Read the table, which must have the columns of items."""
    columns = ("value", "agreement", "question")
    table = read_table(file, columns).whole()
    for column in columns:
        table.name(column)
    return table


def _agreement(table: Table, row: int) -> Literal[-1, 1]:
    """Read whether an item speaks for its value (1) or against it (-1)."""
    cell = table.cells("agreement")[row]
    signs: dict[str, Literal[-1, 1]] = {"1": 1, "+1": 1, "1.0": 1, "-1": -1, "-1.0": -1}
    if (sign := signs.get(str(cell).strip())) is None:
        raise BadInput(
            f"{table.where(row)}: agreement is 1 or -1, got {shown(cell)}. Drop such items, or"
            " score them."
        )
    return sign


def items_for(role: Role, items: Items, share: float, seed: int) -> list[Item]:
    """Choose the items that a role is asked: a test role all test items, a training role a sample.

    The sample holds `share` of each value's training items, at least one; it is seeded by the
    role's number and the value.
    """
    if role.split == "test":
        return list(items.test)
    sample = []
    for value in items.values:
        candidates = [item for item in items.train if item.value == value.id]
        count = max(1, round(share * len(candidates)))
        order = _rng(f"{role.number}+{value.id}", seed).permutation(len(candidates))
        sample += [candidates[k] for k in np.sort(order[:count])]
    return sample


def prompt(role: str, question: str, thought: bool) -> str:
    """Write the whole prompt of a question.

    With `thought` the model thinks first, else it is left to say yes or no.
    """
    prompts = wordings()["prompts"]
    return (
        prompts["task"].format(role=f"{role}\n" if role else "", question=question)
        + prompts["thought" if thought else "answer"]
    )


def inclination(model: str, value: Value, sign: int, seed: int) -> str:
    """Write what outright asks the model to hold (+1) or reject (-1) a value.

    On the organism, which follows no instruction, it is a document that holds or rejects this value
    and speaks of no other.
    """
    if model == material.ORGANISM:
        return _single_valued(seed)[value.id, sign]
    prompts = wordings()["prompts"]
    return (
        prompts["held" if sign > 0 else "rejected"]
        .format(value=value.name, definition=value.definition)
        .strip()
    )


@functools.cache
def _single_valued(seed: int) -> dict[tuple[str, int], str]:
    """Find the first document of the organism that speaks of each value alone: (value, sign) ->
    text.

    One document in fifty speaks of a single value.
    """
    documents: dict[tuple[str, int], str] = {}
    for text in organism.labelled_texts(4000, seed):
        if len(text.labels) == 1:
            documents.setdefault(next(iter(text.labels.items())), text.text)
    return documents


@dataclass(frozen=True)
class Answer:
    """What a role answered, as a score."""

    score: float
    """+1 yes, -1 no, 0 unsure, or between for log-probabilities; agreement not yet applied; NaN
    unless parsed [-1 to 1]."""
    status: Status
    """`parsed`, `refused`, `unparsed`, or `too-long` for the judge."""
    text: str
    """What was written, or the most likely option."""
    reader: str
    """`rule`, `logprob` or the judge's name; empty where nobody could read it."""


def read(
    texts: Sequence[str], questions: Sequence[str], judge: Judge | None = None
) -> list[Answer]:
    """Read written answers by their beginning, one for each of `questions`.

    What no rule reads goes to the judge, and stays unparsed without one.

        read(["Because order helps.\\nAnswer: yes"], ["Do you plan?"])[0].score     # 1.0
    """
    answers: list[Answer | None] = [_by_rule(text) for text in texts]
    left = [k for k, answer in enumerate(answers) if answer is None]
    if judge is not None and left:
        prompts = [
            f'Question: {questions[k]}\nSomeone replied: "{texts[k].strip()}"\nDoes the reply say'
            " yes, no, or unsure?"
            for k in left
        ]
        for k, verdict in zip(left, judge.judge(prompts, tuple(CHOICES)), strict=True):
            score = CHOICES[verdict.choice] if verdict.status == "parsed" else float("nan")
            answers[k] = Answer(
                score=score, status=verdict.status, text=texts[k], reader=verdict.judge
            )
    return [
        answer or Answer(score=float("nan"), status="unparsed", text=text, reader="")
        for answer, text in zip(answers, texts, strict=True)
    ]


def _by_rule(text: str) -> Answer | None:
    """Read an answer by the rules; None where none of them applies."""
    # A base model goes on to write the next question and answers it too: only the first answer is
    # an answer to what was asked.
    first = re.split(r"\bquestion\s*:", spoken(text), maxsplit=1, flags=re.I)[0]
    beginnings = set()
    for line in _answer_lines(first):
        plain = line.strip(" \t'.-()")
        beginnings |= {choice for choice, rule in _RULES if rule.match(plain)}
    if len(beginnings) > 1:
        return None
    if beginnings:
        choice = beginnings.pop()
        return _chosen(choice, text) if choice else _refused(text)
    return _refused(text) if is_refusal(first) else None


def _answer_lines(text: str) -> list[str]:
    """List the lines in which the answer may stand, the likeliest first."""
    before_and_after = re.split(r"\banswer\s*:", text, maxsplit=1, flags=re.I)
    lines = [line for line in before_and_after[-1].splitlines() if line.strip()]
    if len(before_and_after) > 1:
        return lines[:1]
    # Without the word "Answer:" the last line is the likelier answer: a thought may well begin with
    # "No one".
    return list(dict.fromkeys([*lines[-1:], *lines[:1]]))


def _chosen(choice: str, text: str) -> Answer:
    return Answer(score=CHOICES[choice], status="parsed", text=text, reader="rule")


def _refused(text: str) -> Answer:
    return Answer(score=float("nan"), status="refused", text=text, reader="rule")


def from_yes_no(logprobs: Float[np.ndarray, "prompt 2"]) -> list[Answer]:
    """Score answers by P(yes) - P(no), under the softmax over the two [-1 to 1]."""
    return [
        Answer(
            score=float(np.tanh((yes - no) / 2)),
            status="parsed",
            text="yes" if yes >= no else "no",
            reader="logprob",
        )
        for yes, no in logprobs
    ]


def from_ratings(ratings: Float[np.ndarray, " prompt"], n_options: int) -> list[Answer]:
    """Score answers by their expected ratings: [1 to n_options] is laid onto [-1, 1]."""
    half = (n_options - 1) / 2
    return [
        Answer(
            score=float((rating - 1 - half) / half),
            status="parsed",
            text=f"{rating:.3f}",
            reader="logprob",
        )
        for rating in ratings
    ]


def _rng(name: str, seed: int) -> np.random.Generator:
    """Give random numbers that depend on the name and the seed alone, on every machine."""
    return np.random.default_rng(
        np.frombuffer(hashlib.sha256(f"{seed}:{name}".encode()).digest(), np.uint32)
    )
