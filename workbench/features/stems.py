"""Words of a text, and their stems: what a word is in any inflection (English, Porter's).

Left out: other languages' inflections; their words are compared as they stand.
"""

import re
from functools import lru_cache
from typing import Any

WORD = re.compile(r"[^\W\d_]+")
"""A word: letters of any script."""
SHORTEST = 3
"""Letters of the shortest word that counts as meaning something."""


@lru_cache(maxsize=1_000_000)
def stem(word: str) -> str:
    """Give the stem of a word in lower case."""
    return str(_stemmer().stem(word))


def meaning_words(text: str) -> list[str]:
    """Give the words of a text in lower case, less function words and very short ones."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    words = WORD.findall(text.lower())
    return [word for word in words if len(word) >= SHORTEST and word not in ENGLISH_STOP_WORDS]


@lru_cache(maxsize=1)
def _stemmer() -> Any:
    """Load NLTK's stemmer, once."""
    from nltk.stem.snowball import SnowballStemmer

    return SnowballStemmer("english")
