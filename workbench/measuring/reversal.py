"""The reversal of a statement: the same words about the same topic, with the stance turned round.

"Wealth matters to me" is reversed by "Wealth does not matter to me". A score of the one less that
of the other says which stance is taken; what both share (topic, length, fluency) cancels.

1. A reversal that stands with the item is taken.
2. Else every sentence of the statement is negated: its first verb where the subject is known
   (`_MAIN`), a verb of few where it is not (`_ELSEWHERE`). Modal and auxiliary verbs take `not`,
   others `do not` or `does not`.
3. A sentence that is negative already, tells of the past, opens with a clause, or fits no rule has
   no reversal.

Left out: languages other than English, and judgement. A built reversal is shown before it is
believed.
"""

import re
from collections.abc import Callable

_DO = {"have": "do", "has": "does"}
_MODAL = "should|must|can|could|will|would|may|might|shall"
_THEY = "(?:I|We|You|They|People|Others|My friends)"
_HE = "(?:He|She|It|This person)"
_NEGATIVE = re.compile(r"\b(?:not|never|no|nobody|nothing|none|neither|nor|without|\w+n't)\b", re.I)
_CLAUSE = re.compile(r"\b(?:who|that|which|what|when|where|if|because|whose)\b", re.I)
_PAST = re.compile(rf"^(?:{_THEY}|{_HE}) (?!\w*(?:need|feed|heed|ceed|speed)\b)\w+ed\b")
_Replacement = str | Callable[[re.Match[str]], str]
_MAIN: tuple[tuple[re.Pattern[str], _Replacement], ...] = (
    (re.compile(r"^(Every(?:one|body)|All) "), lambda m: f"Not {m[1].lower()} "),
    (re.compile(rf"^({_THEY}|{_HE}) ({_MODAL})\b"), r"\1 \2 not"),
    (re.compile(rf"^({_THEY}|{_HE}) (am|is|are|was|were)\b"), r"\1 \2 not"),
    (re.compile(rf"^({_THEY}|{_HE}) (have|has) to\b"), lambda m: f"{m[1]} {_DO[m[2]]} not have to"),
    (re.compile(r"^(I|We|You|They) ([a-z]+)"), r"\1 do not \2"),
    (re.compile(rf"^({_HE}) ([a-z]+s)\b"), lambda m: f"{m[1]} does not {_infinitive(m[2])}"),
)
"""Sentences whose subject is known: a pattern and what it is replaced by, the first that fits."""
_ELSEWHERE: tuple[tuple[re.Pattern[str], _Replacement], ...] = (
    (re.compile(r"\bmatters\b"), "does not matter"),
    (re.compile(r"\bmatter\b"), "do not matter"),
    (re.compile(r"\bcomes\b"), "does not come"),
    (re.compile(rf"\b({_MODAL})\b"), r"\1 not"),
    (re.compile(r"\b(is|are|was|were)\b"), r"\1 not"),
)
"""Sentences with another subject; the verb may stand in no clause, whose stance is not the
sentence's."""


def reverse(statement: str) -> str:
    """Negate every sentence of an English statement; empty where a sentence has no rule.

    reverse("Wealth matters to me.")  # "Wealth does not matter to me."
    """
    sentences = re.split(r"(?<=[.!?;]) +", statement.strip())
    reversed_sentences = [_reverse(sentence) for sentence in sentences]
    return " ".join(reversed_sentences) if all(reversed_sentences) else ""


def _reverse(sentence: str) -> str:
    """Negate one sentence; empty where it is negative already, past, or no rule fits."""
    if _NEGATIVE.search(sentence) or _PAST.search(sentence):
        return ""
    for pattern, replacement in _MAIN:
        changed, count = pattern.subn(replacement, sentence, count=1)
        if count:
            return changed.replace("can not", "cannot")
    for pattern, replacement in _ELSEWHERE:
        verb = pattern.search(sentence)
        if verb and not _CLAUSE.search(sentence[: verb.start()]):
            return pattern.sub(replacement, sentence, count=1).replace("can not", "cannot")
    return ""


def _infinitive(verb: str) -> str:
    """Give the infinitive of a verb in the third person: `tries` -> `try`."""
    if verb == "has":
        return "have"
    if verb.endswith("ies"):
        return verb[:-3] + "y"
    return verb[:-2] if re.search(r"(?:ss|sh|ch|x|zz|o)es$", verb) else verb[:-1]
