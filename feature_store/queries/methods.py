"""Steering methods and controls, side by side for the same wish."""

import pandas as pd

from feature_store.queries.asking import WITH_PROMPTS
from feature_store.store import Store


def arm_means(store: Store, comparison: str) -> pd.DataFrame:
    """Every method and control in the mean over values, against the best baseline.

    The largest effect comes first.
    """
    return store.sql(
        """
        SELECT m.* EXCLUDE (run), c.baseline, c.difference, c.low AS difference_low,
            c.high AS difference_high, c.q
        FROM arm_means AS m LEFT JOIN arm_contrasts AS c
            ON c.run = m.run AND c.arm = m.arm AND c.value = 'all'
        WHERE m.run = ? ORDER BY m.effect DESC, m.arm""",
        [comparison],
    )


def arms(store: Store, comparison: str) -> pd.DataFrame:
    """Every method and control for every value at its chosen strength.

    By value, the largest effect first.
    """
    return store.sql(
        """
        SELECT a.* EXCLUDE (run, chosen), c.baseline, c.difference, c.q
        FROM arms AS a LEFT JOIN arm_contrasts AS c
            ON c.run = a.run AND c.arm = a.arm AND c.value = a.value
        WHERE a.run = ? AND a.chosen ORDER BY a.value, a.effect DESC, a.arm""",
        [comparison],
    )


def arm_scores(store: Store, comparison: str) -> pd.DataFrame:
    """Ratings of texts at the strengths chosen for them, by value, best first.

    No row without a judge.
    """
    return store.sql(
        """
        SELECT * EXCLUDE (run, chosen) FROM arm_scores WHERE run = ? AND chosen
        ORDER BY value, harmonic DESC, arm""",
        [comparison],
    )


def arm_ratings(store: Store, comparison: str, intervention: int, limit: int = 25) -> pd.DataFrame:
    """The questions that report the effect of one method on one value, with their ratings.

    The largest change comes first.
    """
    return store.sql(
        f"""
        SELECT r.context, r.item, r.value, p.prompt, r.base, r.rating, r.rating - r.base AS change
        FROM ratings AS r {WITH_PROMPTS}
        JOIN arms AS a
            ON a.run = r.run AND a.intervention = r.intervention AND a.value = r.value
        WHERE r.run = ? AND r.intervention = ?
        ORDER BY abs(r.rating - r.base) DESC, r.context, r.item LIMIT ?""",
        [comparison, intervention, limit],
    )


def arm_texts(store: Store, comparison: str, intervention: int) -> pd.DataFrame:
    """What was written under one method, beside what was written unsteered; by opening."""
    return store.sql(
        """
        SELECT t.opening, t.prompt, t.text, u.text AS unsteered, t.concept, t.instruct, t.fluency
        FROM arm_texts AS t LEFT JOIN arm_texts AS u
            ON u.run = t.run AND u.intervention = -1 AND u.opening = t.opening
        WHERE t.run = ? AND t.intervention = ? ORDER BY t.opening""",
        [comparison, intervention],
    )
