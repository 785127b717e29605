"""The reversal of a statement: the same words about the same topic, with the stance turned round.

"Wealth matters to me" is reversed by "Wealth does not matter to me". A score of the one less that
of the other says which stance is taken; what both share (topic, length, fluency) cancels.

1. A reversal that stands with the item is taken.
2. Else every sentence of the statement is negated by the first rule that fits: modal and auxiliary
   verbs take `not`, other verbs `do not` or `does not` (`_RULES`).
3. A sentence that is negative already, or that no rule fits, has no reversal.

Left out: languages other than English, and judgement. A built reversal is shown before it is
believed.
"""

import re
from collections.abc import Callable

_DO = {"have": "do", "has": "does"}
_MODAL = "should|must|can|could|will|would|may|might|shall"
_SUBJECT = r"(?P<subject>(?:I|We|You|They|People|Others|My friends))"
_NEGATIVE = re.compile(r"\b(?:not|never|no|nobody|nothing|none|neither|nor|without|\w+n't)\b", re.I)
_RULES: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"^(Every(?:one|body)|All) "), lambda m: f"Not {m[1].lower()} "),
    (re.compile(rf"\b({_MODAL})\b(?! not)"), r"\1 not"),
    (re.compile(r"\b(am|is|are|was|were)\b"), r"\1 not"),
    (re.compile(r"\b(have|has) to\b"), lambda m: f"{_DO[m[1]]} not have to"),
    (re.compile(r"\bmatters\b"), "does not matter"),
    (re.compile(r"\bmatter\b"), "do not matter"),
    (re.compile(r"\bcomes\b"), "does not come"),
    (re.compile(rf"^{_SUBJECT} (?P<verb>[a-z]+)"), r"\g<subject> do not \g<verb>"),
    (
        re.compile(r"^(?P<subject>He|She|It|This person) (?P<verb>[a-z]+s)\b"),
        lambda m: f"{m['subject']} does not {_infinitive(m['verb'])}",
    ),
)
"""A pattern and what it is replaced by, the first that fits: verbs that take `not`, then verbs that
need `do`."""


def reverse(statement: str) -> str:
    """Negate every sentence of an English statement; empty where a sentence has no rule.

    reverse("Wealth matters to me.")  # "Wealth does not matter to me."
    """
    sentences = re.split(r"(?<=[.!?;]) +", statement.strip())
    reversed_sentences = [_reverse(sentence) for sentence in sentences]
    return " ".join(reversed_sentences) if all(reversed_sentences) else ""


def _reverse(sentence: str) -> str:
    """Negate one sentence; empty where it is negative already or no rule fits."""
    if _NEGATIVE.search(sentence):
        return ""
    for pattern, replacement in _RULES:
        changed, count = pattern.subn(replacement, sentence, count=1)
        if count:
            return changed.replace("can not", "cannot")
    return ""


def _infinitive(verb: str) -> str:
    """Give the infinitive of a verb in the third person: `tries` -> `try`."""
    if verb == "has":
        return "have"
    if verb.endswith("ies"):
        return verb[:-3] + "y"
    return verb[:-2] if re.search(r"(?:ss|sh|ch|x|zz|o)es$", verb) else verb[:-1]
