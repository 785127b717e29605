"""Read a choice out of a free answer: which option, a refusal, or nothing that can be counted.

1. `spoken` leaves what is said: no thinking between tags, no markdown, no quotes; "isn't" becomes
   "is not", so that a negation that is an option ("not like me") is met as one.
2. Every option that stands there as whole words is a mention; of overlapping ones the longest
   counts. A number is a mention as a whole (no part of "4.5" or "10"), a scale that is quoted
   ("4 out of 6") is set aside where it is the one that was asked, and spoils the number where not.
3. A mention is a claim where nothing but words that carry an answer ("I would say that it is")
   stands before it, and punctuation, a reason or the end after it. "I would not say yes", "people
   like me", "4 reasons", "yes?" and "yes, if" hold none.
4. The choice is the one option that is claimed. Another option that is claimed as well, or that
   the same sentence mentions without turning it down, leaves the answer unread; a sentence that
   goes through three or more options quotes the scale and claims none.
5. A refusal is told from what cannot be read, and goes before a claim that does not open the
   answer.

Left out: guessing, and other languages than English. What cannot be read is kept as text, with its
status; a hedge ("perhaps yes", "between 4 and 5") is not read.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from feature_store.records import Status

RULES = "2"
"""Version of these rules. A run that reads words names it among its inputs, so that a run read by
other rules is not taken for it."""
_THINKING = r"(?:think|thinking|thought|thoughts|reasoning|reflection|analysis|scratchpad)"
_OPEN_THOUGHT = re.compile(rf"[<\[]{_THINKING}[>\]]", re.I)
_END_OF_THOUGHT = re.compile(rf"[<\[]/{_THINKING}[>\]]", re.I)
_TAG = re.compile(r"</?[A-Za-z]\w*>|\\(?:boxed|text|mathbf|textbf)\b|\\[()\[\]]")
_MARKS = re.compile(
    r"[*`\"“”„«»\u200b-\u200f\u2060\ufeff]|(?<![^\W_])_|_(?![^\W_])|^[ \t]*[#>]+", re.M
)
_EDGES = " \t\r\n'.,;:!()[]{}|/\\=–—…"
_LONGEST = 20_000
"""A longer answer is no answer to a closed question [letters]."""
_MENTIONS = 100
"""An answer that mentions options more often is no answer to a closed question."""
_SHORT = 3
"""So few words before an option make a second answer of it [words]."""
_BEGINNING = 200
"""A refusal begins within so many letters."""

_CANNOT = r"(?:can ?not|could not|will not|am not able to|'m not able to|am unable to|'m unable to)"
_DECLINE = r"(?:refuse|decline|must decline|would rather not|'d rather not|prefer not)"
_OPENING_REFUSAL = re.compile(
    rf"\W*(?:(?:unfortunately|as an? (?:ai|language model)[^.!?,\n]*|well|hello|hi)\W+){{0,2}}"
    rf"(?:i(?:'m| am)? (?:{_CANNOT}|{_DECLINE}|not able to)\b|i(?:'m| am) (?:very |so )?sorry"
    rf"|sorry\b|i apologi[sz]e|as an? (?:ai|language model))"
)
_REFUSAL = re.compile(
    rf"\b(?:{_CANNOT}|unable to|not able to|not comfortable|{_DECLINE})(?: to)?"
    r" (?:answer|say|choose|pick|select|decide|help|assist|comply|comment|rate|respond|judge|tell"
    r"|provide|give|share|express|discuss|do (?:that|this|so)|make (?:a|that|this) (?:choice"
    r"|decision|judg))"
)
_NO_PERSON = re.compile(r"\bas an? (?:ai|language model)\b")

# Words that may stand before an answer without changing it.
_CARRIERS = frozenset(
    re.findall(
        r"\S+",
        """
    i am i'm i'd i'll would will say think believe feel guess suppose choose chose choosing pick
    picked picking select selected selecting go going with give giving rate rated rating ratings
    score scored answer answers answering response reply result verdict choice option letter number
    phrase level position is are be being it it's its that that's this these the a an my mine our
    to of as for in on from so and then me final overall honestly personally actually well hmm okay
    ok sure wait mean sorry correction sentence view views opinion thoughts perspective judgement
    judgment assessment text statement item query question given based considering values best
    better correct right closest most appropriate fits fit single here here's ai language model
    assistant deserves gets scale value therefore thus hence
    """,
    )
)
# Words that offer a second answer beside the first: "4, maybe 5".
_POINTERS = frozenset(
    re.findall(
        r"\S+",
        """
    say rate rating score answer choose pick select give is be maybe perhaps possibly probably or
    mean even actually rather wait correction closer nearer towards leaning
    """,
    )
)
_NEGATORS = re.compile(
    r"\b(?:not|no|never|nor|neither|hardly|scarcely|barely|without|unsure|uncertain|wrong"
    r"|incorrect|false|reject|exclude|avoid|whether|if|unless|except|anything but|far from)\b"
)
_REASON = re.compile(r"\b(?:because|since|due to|as (?:it|i|the|this|that|there))\b")
_TURNED_DOWN = re.compile(r"\b(?:not|than|nor|instead of|over|never|no)\W+(?:(?:a|an|the)\W+)?$")
_CLOSED = re.compile(
    r"\s*(?:$|\n|[.,;:!)\]}'…(]|[–—]|-(?!\w)|\s(?:because|since|due to|though|although|overall"
    r"|here|indeed|definitely|absolutely|as (?:it|i|the|this|that|there))\b)"
)
_BUT = r"[\s,;:.()–—-]*(?:but |only |and |just |though )*"
_CONDITION = re.compile(
    rf"{_BUT}(?:if|unless|except|when|provided|assuming|depending|sometimes|not always|or so|ish"
    r"|plus|minus)\b"
)
_DEGREE = re.compile(
    rf"{_BUT}(?:very|a lot|quite|somewhat|slightly|a little|a bit|partly|in part|in some|to some"
    r"|to a|to an|more or less|sort of|kind of|hardly|barely|at times)\b"
)
_TAKEN_BACK = re.compile(
    r"[\s,;:.!()–—…-]*(?:(?:oh )?not|just kidding|i (?:do not|am not sure|am unsure)|no)\b(?!\W+\w)"
)
_AND_NOT = re.compile(r"\s*[,;(–—-]+\s*(?:and |but )?not\b\W*")
_HARD_STOP = re.compile(r"[.!?\n]")
_SOFT_STOP = re.compile(r"[.!?\n;:(\[{=–—]|\s-\s|^-\s", re.M)
# "one" is left out: "this one" is no number.
_NUMBERS = {
    "zero": 0,
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
}


def spoken(text: str) -> str:
    """Leave of an answer what is said: no thinking, no markdown, no quotes, no contractions.

    Small letters stay small and capitals capitals. An answer that breaks off while it thinks says
    nothing.

        spoken("<think>Hm.</think> It **isn't** like me")  # -> "It is not like me"
    """
    text = unicodedata.normalize("NFKC", text).replace("’", "'").replace("‘", "'")
    text = _OPEN_THOUGHT.split(_END_OF_THOUGHT.split(text)[-1])[0]
    text = _TAG.sub(" ", text)
    text = _MARKS.sub("", text)
    text = re.sub(r"\bwon't\b", "will not", text, flags=re.I)
    text = re.sub(r"\bcan't\b|\bcannot\b", "can not", text, flags=re.I)
    text = re.sub(r"n't\b", " not", text, flags=re.I)
    return re.sub(r"[^\S\n]+", " ", text).strip()


def is_refusal(text: str) -> bool:
    """Tell whether a text says that it will not answer.

    It opens with an apology or with what it cannot do, or says anywhere that it cannot answer,
    choose or help. "I can't wait" further down is none.
    """
    plain = _small(spoken(text))
    return bool(_OPENING_REFUSAL.match(plain[:_BEGINNING]) or _REFUSAL.search(plain))


def read_choice(
    text: str, options: Sequence[str], near: Mapping[str, str] | None = None
) -> tuple[str, Status]:
    """Read which of `options` a text chooses, and how well it could be read.

    Gives the option and `parsed`, or an empty choice and `refused` or `unparsed`. `near` are other
    phrases and the option that each means; one whose option is not offered is no answer. Options
    that are whole numbers are read as points of their scale, single capitals as letters.

        read_choice("No, because it hurts.", ["yes", "no"])  # -> ("no", "parsed")
    """
    if len(text) > _LONGEST:
        return "", "unparsed"
    words = spoken(text)
    if all(option.isdecimal() for option in options):
        words = _without_scale(words, [int(option) for option in options])
    small = _small(words)
    phrases: dict[str, str | None] = {}
    for phrase, option in (near or {}).items():
        phrases[_phrase(phrase)] = option if option in options else None
    phrases |= {_phrase(option): option for option in options}
    phrases.pop("", None)
    whole = phrases.get(_phrase(words)) if not small.endswith("?") else None
    if whole is not None:
        return whole, "parsed"
    choice = _claimed(small, _mentions(words, options, phrases))
    if choice is not None and not _refuses(small, choice):
        return choice.option, "parsed"
    refused = is_refusal(text) or bool(_NO_PERSON.search(small))
    return "", "refused" if refused else "unparsed"


def read_number(text: str, low: int, high: int) -> int | None:
    """Read a whole number from `low` to `high`, as `read_choice` does; None where none is chosen.

    read_number("4 out of 5", 1, 5)  # -> 4
    read_number("4 or 5", 1, 5)  # -> None
    """
    choice, status = read_choice(text, [str(number) for number in range(low, high + 1)])
    return int(choice) if status == "parsed" else None


class _Mention(NamedTuple):
    """A place of an answer that names an option."""

    start: int
    """First letter."""
    end: int
    """Letter behind the last."""
    option: str | None
    """The option; None for what looks like one and is none, such as 4.5 on a scale of 6."""


class _Claim(NamedTuple):
    """The option that an answer claims."""

    option: str
    """One of the options."""
    opens: bool
    """Whether the answer begins with it."""
    sentence: str
    """The sentence that makes the claim."""


def _small(text: str) -> str:
    """Make letters small one by one, so that places in the text stay where they are."""
    return "".join(sign.lower() if len(sign.lower()) == 1 else sign for sign in text)


def _phrase(text: str) -> str:
    return " ".join(_small(spoken(text)).split()).strip(_EDGES)


def _refuses(small: str, claim: _Claim) -> bool:
    """Tell whether an answer that claims an option refuses all the same.

    Being an AI alone is no refusal, nor is what an answer that opens with its choice goes on with.
    """
    if claim.opens:
        return bool(_REFUSAL.search(claim.sentence))
    opening = _OPENING_REFUSAL.match(small[:_BEGINNING])
    return bool(_REFUSAL.search(small) or (opening and not _NO_PERSON.search(opening.group())))


def _mentions(
    words: str, options: Sequence[str], phrases: Mapping[str, str | None]
) -> list[_Mention]:
    """List the places that name an option, in order."""
    if all(option.isdecimal() for option in options):
        return _number_mentions(_small(words), [int(option) for option in options])
    if all(len(option) == 1 for option in options):
        letters = re.finditer(r"(?<![\w'])[A-Z](?![\w'])", words)
        return [
            _Mention(letter.start(), letter.end(), letter.group())
            for letter in letters
            if letter.group() in options
        ]
    # Longer phrases first: of those that begin in one place the longest is met.
    names = sorted(phrases, key=len, reverse=True)
    patterns = [re.escape(name).replace(r"\ ", r"\s+") for name in names]
    every_name = re.compile(rf"(?<!\w)(?:{'|'.join(patterns)})(?!\w)")
    return [
        _Mention(match.start(), match.end(), phrases[" ".join(match.group().split())])
        for match in every_name.finditer(_small(words))
    ]


def _without_scale(words: str, scale: Sequence[int]) -> str:
    """Blank out the scale itself ("1 to 6"), which is quoted and not chosen from."""
    ends = rf"(?<![\d.,/])\b{min(scale)} ?(?:to|and|-|–|through) ?{max(scale)}\b(?![.,/]?\d)"
    return re.sub(ends, lambda quoted: " " * len(quoted.group()), words)


def _number_mentions(small: str, scale: Sequence[int]) -> list[_Mention]:
    """List the numbers of an answer; one that is no point of the scale has no option."""
    high = str(max(scale))
    spans = re.compile(
        r"(?P<part>(?<![\w.,/-])\d+)(?P<of> ?(?:/|out of|of) ?)(?P<top>\d+)(?![\w%])(?![.,]\d)"
        r"|(?P<sign>[-+~<>≤≥≈$€£#±]?)(?P<number>(?<![\w.,/])\d+(?:[.,/]\d+)*)(?P<unit>[\w%+°]*)"
        rf"|\b(?P<word>{'|'.join(_NUMBERS)})\b"
    )
    mentions = []
    for match in spans.finditer(small):
        digits = ""
        if match["part"]:
            digits = match["part"] if match["top"] == high else ""
        elif match["number"] and not match["sign"] and not match["unit"]:
            digits = match["number"]
        number = _NUMBERS.get(match["word"] or "", -1)
        if digits.isdecimal() and len(digits) < 10:
            number = int(digits)
        name = str(number) if number in scale else None
        mentions.append(_Mention(match.start(), match.end(), name))
    return mentions


def _claimed(small: str, mentions: Sequence[_Mention]) -> _Claim | None:
    """Give the one option that an answer claims; None where there is none, or more than one."""
    if len(mentions) > _MENTIONS:
        return None
    sentences: dict[int, set[str | None]] = {}
    for mention in mentions:
        sentences.setdefault(_sentence(small, mention), set()).add(mention.option)
    heard = [m for m in mentions if len(sentences[_sentence(small, m)]) < 3]
    claims = [m for m in heard if m.option is not None and _is_claim(small, m, mentions)]
    if len({claim.option for claim in claims}) != 1:
        return None
    claim = claims[0]
    if any(_rivals(small, other, claim) for other in heard if other not in claims):
        return None
    stop = _HARD_STOP.search(small, claim.end)
    return _Claim(
        option=str(claim.option),
        opens=not small[: claim.start].strip(_EDGES),
        sentence=small[_sentence(small, claim) : stop.start() if stop else len(small)],
    )


def _sentence(small: str, mention: _Mention) -> int:
    """Give the place at which the sentence of a mention begins."""
    stops = [stop.end() for stop in _HARD_STOP.finditer(small, 0, mention.start)]
    return stops[-1] if stops else 0


def _is_claim(small: str, mention: _Mention, mentions: Sequence[_Mention]) -> bool:
    """Tell whether a mention is said as an answer: what stands before and behind it allows it."""
    stops = [stop.end() for stop in _SOFT_STOP.finditer(small, 0, mention.start)]
    before = small[stops[-1] if stops else 0 : mention.start]
    words = re.findall(r"[^\s,]+", before.replace("'s ", " is "))
    if not all(word.strip(_EDGES) in _CARRIERS or not word.strip(_EDGES) for word in words):
        return False
    if _NEGATORS.search(small, _sentence(small, mention), mention.start):
        return False
    behind = small[mention.end :]
    if not _CLOSED.match(behind) or _CONDITION.match(behind) or _TAKEN_BACK.match(behind):
        return False
    if _DEGREE.match(behind) and not str(mention.option).isdecimal():
        return False  # "like me, but only a little"; a number may go on with its words
    other = _AND_NOT.match(behind)
    if other is None or _small(str(mention.option)) == "no":
        return True
    # "A, not B" turns B down; "like me, not at all" turns itself down.
    return any(m.start == mention.end + other.end() for m in mentions)


def _rivals(small: str, other: _Mention, claim: _Mention) -> bool:
    """Tell whether a mention that is no claim speaks against the claim all the same."""
    start = _sentence(small, other)
    before = small[start : other.start]
    turned_down = bool(_TURNED_DOWN.search(before))
    if other.option == claim.option:
        return turned_down
    words = before.split()
    if len(words) <= _SHORT and _CLOSED.match(small, other.end):
        return not turned_down  # "Just kidding, very much like me."
    same_sentence = start == _sentence(small, claim)
    since_claim = small[max(start, claim.end) : other.start] if other.start > claim.start else ""
    if turned_down or _REASON.search(since_claim):
        return False
    return same_sentence or bool(set(words[-3:]) & _POINTERS)
