"""The everyday texts in two poles: complete, balanced, and in none of the instruments' words."""

import dataclasses
import re
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from feature_store import registry
from feature_store.errors import BadInput
from feature_store.records import ValueSystem
from tests.measuring.test_voice import standin
from workbench import causal, material
from workbench.instruments.standin19 import standin19
from workbench.material.poles import pole_texts
from workbench.material.situations import situation_texts
from workbench.measuring.hearing import shared_stems
from workbench.measuring.questionnaire import INSTRUMENTS, Questionnaire
from workbench.systems.conva.questions import read_choices, read_dilemmas

TEN = registry.get("values", "schwartz10")
NINETEEN = registry.get("values", "schwartz19")
NEGATIONS = (
    *("no", "not", "never", "nobody", "none", "nothing", "nor", "neither", "cannot"),
    *("without", "nowhere"),
)
FUNCTION = (
    *(*NEGATIONS, "hardly", "little", "less", "few", "fewer", "seldom", "wrong", "against"),
    *("rather", "instead", "although", "though", "even", "but", "because", "since", "as", "for"),
    *("if", "may", "must", "should", "need", "ought", "can", "will", "would", "too", "only"),
    *("just", "do", "does", "did", "and", "or", "than", "any", "some", "every", "each"),
)
SHARED = {
    # Function words, and words so common that no text about the value could do without all of them.
    "schwartz10": {
        "self-direction": "come live matter myself own want way",
        "stimulation": "someth take without",
        "hedonism": "first like",
        "achievement": "be most want",
        "power": "have like over suit want",
        "security": "about away feel matter need stay",
        "conformity": "even matter never should",
        "tradition": "befor our should",
        "benevolence": "can make matter one those want",
        "universalism": "everyon just matter should those",
    },
    "schwartz19": {
        "self-direction-thought": "mine out over own",
        "self-direction-action": "nobodi should",
        "stimulation": "never thing week without",
        "hedonism": "day feel good make someth",
        "achievement": "want",
        "power-dominance": "last like over pleas should word",
        "power-resources": "make more suit thing well",
        "face": "be look must nobodi",
        "security-personal": "might",
        "security-societal": "need want",
        "tradition": "down hand keep should",
        "conformity-rules": "even everi",
        "conformity-interpersonal": "befor might nobodi take",
        "humility": "among littl make mani more veri",
        "benevolence-caring": "own those way",
        "benevolence-dependability": "come hour may",
        "universalism-concern": "need should",
        "universalism-nature": "need our thing without",
        "universalism-tolerance": "deserv like mine",
    },
}
"""Value -> word stems that its texts share with the items that measure it."""


def words(text: str) -> list[str]:
    """Give the words of a text, in lower case."""
    return re.findall(r"[a-z'-]+", text.lower())


def runs(text: str, n: int) -> set[tuple[str, ...]]:
    """Give all sequences of `n` words of a text."""
    said = words(text)
    return {tuple(said[place : place + n]) for place in range(len(said) - n + 1)}


def pairs() -> list[tuple[str, str]]:
    """Give the pairs of a held and a rejected text."""
    texts = situation_texts(NINETEEN).texts
    return list(zip(texts[::2], texts[1::2], strict=True))


def test_every_topic_has_every_value_in_both_forms_and_both_poles():
    written = situation_texts(NINETEEN)
    assert len(written.texts) == len(set(written.texts)) == 20 * 19 * 2 * 2
    assert (np.abs(written.marks).sum(1) == 1).all()
    assert (written.marks[::2].sum(1) == 1).all()
    assert (written.marks[1::2] == -written.marks[::2]).all()
    cells = Counter(
        (topic, tuple(marks)) for topic, marks in zip(written.contexts, written.marks, strict=True)
    )
    assert len(cells) == 20 * 19 * 2
    assert set(cells.values()) == {2}


def test_a_persons_own_words_come_before_an_argument():
    first = re.compile(r"\b(I|me|my|mine|our)\b", re.IGNORECASE)
    own, arguments = pairs()[::2], pairs()[1::2]
    assert all(first.search(text) for pair in own for text in pair)
    said = [text for pair in arguments for text in pair if re.search(r"\b(I|me|my)\b", text)]
    assert said == []


def test_a_pair_is_as_long_on_both_sides():
    for held, rejected in pairs():
        lengths = sorted((len(words(held)), len(words(rejected))))
        assert lengths[0] >= 8, (held, rejected)
        assert lengths[1] <= 30, (held, rejected)
        assert lengths[0] >= lengths[1] * 2 / 3, (held, rejected)


def test_no_turn_of_phrase_comes_back():
    """A sequence of six words in more than 1 % of the pairs would be a template."""
    turns = Counter(turn for pair in pairs() for turn in runs(pair[0], 6) | runs(pair[1], 6))
    turn, count = turns.most_common(1)[0]
    assert count <= 0.01 * len(pairs()), turn


@pytest.mark.parametrize(("told_by", "most"), [(NEGATIONS, 0.56), (FUNCTION, 0.72)])
def test_small_words_do_not_tell_the_poles_apart(told_by, most):
    """A labeler of poles must not find negation.

    The bound on negations is 0.5 and two standard errors of an AUROC of 1,520 texts, doubled since
    topics are left out whole. Concession and permission ("may", "does not have to") lie nearer to
    rejecting by what they mean; what was measured with them is 0.69.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold, cross_val_predict

    written = situation_texts(NINETEEN)
    counts = CountVectorizer(vocabulary=told_by, token_pattern=r"\b\w+\b").transform(written.texts)
    held = written.marks.sum(1) > 0
    scores = cross_val_predict(
        LogisticRegression(max_iter=1000),
        counts,
        held,
        groups=np.unique(written.contexts, return_inverse=True)[1],
        cv=GroupKFold(10),
        method="decision_function",
    )
    assert roc_auc_score(held, scores) < most


def test_what_denies_is_the_held_side_about_as_often_as_the_rejected_one():
    def denials(text: str) -> int:
        return sum(word in NEGATIONS for word in words(text))

    leans = Counter(np.sign(denials(held) - denials(rejected)) for held, rejected in pairs())
    assert 0.8 < leans[1] / leans[-1] < 1.25


@cache
def asked() -> tuple[str, ...]:
    """Give every question and statement that ships with an instrument or a system."""
    texts: list[str] = []
    for name in INSTRUMENTS:
        texts += shipped(INSTRUMENTS[name], TEN) + shipped(INSTRUMENTS[name], NINETEEN)
    for value in TEN.ids:
        texts += read_dilemmas("", value, TEN)
    texts += [choice.question for choice in read_choices("")]
    everyday = Path(causal.__file__).with_name("questions.toml").read_text(encoding="utf-8")
    texts += [question["text"] for question in tomllib.loads(everyday)["question"]]
    return tuple(dict.fromkeys(texts))


def shipped(kind: type[Questionnaire], system: ValueSystem) -> list[str]:
    """Give the items of an instrument, with what reverses them; none where a file has them."""
    instrument = kind()
    try:
        items = instrument.load(instrument.config(), system).items
    except BadInput:  # its items are a person's file
        return []
    return [text for item in items for text in (item.text, item.reversal, *item.options) if text]


def test_no_item_of_an_instrument_stands_in_them():
    said = "\n".join(situation_texts(NINETEEN).texts).lower()
    assert len(asked()) > 200
    assert [text for text in asked() if text.lower() in said] == []


def test_they_share_no_turn_of_phrase_with_an_instrument():
    taken = {turn for text in asked() for turn in runs(text, 5)}
    texts = situation_texts(NINETEEN).texts
    assert [text for text in texts if runs(text, 5) & taken] == []


@pytest.mark.parametrize(
    ("system", "questionnaire"), [(TEN, standin), (NINETEEN, standin19)], ids=["ten", "nineteen"]
)
def test_texts_of_a_value_share_few_stems_with_its_items(system, questionnaire):
    """What labels must not be what later measures: the stems that both have are these alone."""
    written, instrument = situation_texts(system), questionnaire()
    shared = {}
    for column, value in enumerate(system.ids):
        texts = [written.texts[row] for row in np.flatnonzero(written.marks[:, column])]
        items = tuple(item for item in instrument.items if item.value == value)
        shared[value] = " ".join(shared_stems(texts, dataclasses.replace(instrument, items=items)))
    assert shared == SHARED[system.id]


def test_the_ten_have_those_of_the_nineteen_but_face():
    """The nineteen fold as the PVQ-RR has them, in which Face is none of the ten."""
    written, folded = situation_texts(NINETEEN), situation_texts(TEN)
    face = NINETEEN.ids.index("face")
    rest = [
        text for text, marks in zip(written.texts, written.marks, strict=True) if not marks[face]
    ]
    assert folded.texts == rest
    counts = dict(zip(TEN.ids, np.abs(folded.marks).sum(0), strict=True))
    assert counts["stimulation"] == 80
    assert counts["tradition"] == 160  # and humility
    assert counts["universalism"] == 240


def test_a_system_without_the_values_is_refused():
    foundations = registry.get("values", "moral-foundations")
    with pytest.raises(BadInput, match="none of which is one of moral-foundations"):
        situation_texts(foundations)


def test_a_sample_of_them_keeps_marks_topics_and_pairs_together():
    source = material.LabelledSource("situations")
    whole, part = (material.labelled(source, NINETEEN, n, 0) for n in (0, 50))
    assert len(part.texts) == 50
    place = {text: number for number, text in enumerate(whole.texts)}
    for row, text in enumerate(part.texts):
        assert (whole.values[place[text]] == part.values[row]).all()
        assert whole.contexts[place[text]] == part.contexts[row]
        assert whole.pairs[place[text]] == part.pairs[row]


def test_they_are_said_as_the_models_own_words():
    class Chat:
        name, chat = "someone", True

        def render(self, text):
            return f"<user>{text}<assistant>"

    said = material.labelled(material.LabelledSource("situations"), TEN, model=Chat())
    assert said.before == f"<user>{situation_texts(TEN).before['chat']}<assistant>"
    assert all(text.startswith(said.before) for text in said.texts)
    assert said.before != f"<user>{pole_texts(TEN).before['chat']}<assistant>"


def test_the_organism_knows_none_of_their_words():
    class Organism:
        name, chat = "organism", False

    with pytest.raises(BadInput, match="Label it with its own texts: --labelled organism"):
        material.labelled(material.LabelledSource("situations"), TEN, model=Organism())
