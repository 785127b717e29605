"""The answer scale of the questionnaires: six points of likeness to a described person."""

LIKENESS = ("not like me at all", "very much like me")
"""The ends of the six-point answer scale, least agreement first."""
