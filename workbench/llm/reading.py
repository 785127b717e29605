"""Read a choice out of a free answer: which option, a refusal, or nothing that can be counted.

1. The whole answer is an option, but for case, quotes and punctuation.
2. It opens with an option that a sign of punctuation closes ("No, because ...").
3. It holds exactly one option as whole words. An option inside a longer one does not count ("like
   me" in "not like me").
4. A refusal is looked for before 3, so that "I cannot say yes" is none. Several different options
   are unparsed.

Left out: guessing. What cannot be read is kept as text, with its status.
"""

import re
from collections.abc import Sequence

from feature_store.records import Status

REFUSAL = re.compile(
    r"\b(i (cannot|can't|can not|won't|am unable)|as an ai|i'm sorry|i am sorry|not able to"
    r" answer)\b",
    re.I,
)
_EDGES = " \t\r\n\"'`*.,;:!?()[]“”‘’"


def is_refusal(text: str) -> bool:
    """Tell whether a text says that it will not answer."""
    return bool(REFUSAL.search(text.replace("’", "'")))


def read_choice(text: str, options: Sequence[str]) -> tuple[str, Status]:
    """Read which of `options` a text chooses, and how well it could be read.

    Gives the option and `parsed`, or an empty choice and `refused` or `unparsed`.

        read_choice("No, because it hurts.", ["yes", "no"])  # -> ("no", "parsed")
    """
    plain = _plain(text)
    for option in options:
        if plain == _plain(option):
            return option, "parsed"
    opening = [
        option
        for option in options
        if re.match(rf"{re.escape(_plain(option))}\s*[.,;:!\n*]", plain)
    ]
    if opening:
        return max(opening, key=len), "parsed"
    if is_refusal(text):
        return "", "refused"
    contained = _contained(plain, options)
    return (contained[0], "parsed") if len(contained) == 1 else ("", "unparsed")


def _plain(text: str) -> str:
    return text.strip(_EDGES).casefold()


def _contained(plain: str, options: Sequence[str]) -> list[str]:
    """The options that occur as whole words, those inside a longer option left out."""
    spans = [
        (*match.span(), option)
        for option in options
        for match in re.finditer(rf"(?<!\w){re.escape(_plain(option))}(?!\w)", plain)
    ]
    whole = [
        option
        for low, high, option in spans
        if not any(a <= low and high <= b and b - a > high - low for a, b, _ in spans)
    ]
    return list(dict.fromkeys(whole))
