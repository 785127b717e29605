"""The answer scale of the questionnaires: six points of likeness to a described person."""

PHRASES = (
    "not like me at all",
    "not like me",
    "a little like me",
    "somewhat like me",
    "like me",
    "very much like me",
)
"""The six points in words, least alike first."""
LIKENESS = (PHRASES[0], PHRASES[-1])
"""The ends of the scale, least agreement first."""
_NEAR = {
    "not at all like me": "not like me at all",
    "does not like me at all": "not like me at all",
    "does not like me": "not like me",
    "little like me": "a little like me",
    "very little like me": "a little like me",
    "some what like me": "somewhat like me",
    "like me very much": "very much like me",
    "like me, very much": "very much like me",
} | {phrase: phrase for phrase in PHRASES}
NEAR = _NEAR | {phrase.replace("like", "likes"): point for phrase, point in _NEAR.items()}
"""Phrase -> the point that it stands for, as the authors of Value Portrait read such replies."""
