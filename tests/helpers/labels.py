"""Settings of labels for tests that need some, whatever speaks for them."""

LAX = (
    "max_chance=1",
    "min_effect=-9",
    "min_gain=-9",
    "min_score=0",
    "specificity=9",
    "min_texts=2",
)
"""Options of the contrast labeler that accept nearly every feature, as key=value."""
