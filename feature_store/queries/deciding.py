"""Scenarios that were written, with their filters and reviews."""

import pandas as pd

from feature_store.store import Store


def scenarios(store: Store, run: str) -> pd.DataFrame:
    """Every scenario of a run with its filters and its last review, by number.

    `accepted`, `note` and `reviewer` are NULL before the first review; of two reviews with one
    number a rejection counts. `usable` is true of a scenario that was read, and that a review
    accepted or, where nobody reviewed it, all filters passed.
    """
    return store.sql(
        """
        WITH last AS (
            SELECT scenario, accepted, note, reviewer,
                count(*) OVER (PARTITION BY scenario) AS reviews
            FROM reviews WHERE scenarios = $run
            QUALIFY row_number() OVER (PARTITION BY scenario ORDER BY number DESC, accepted) = 1)
        SELECT s.* EXCLUDE (run), l.accepted, l.note, l.reviewer,
            coalesce(l.reviews, 0) AS reviews,
            s.status = 'parsed' AND coalesce(l.accepted, s.passed) AS usable
        FROM scenarios s LEFT JOIN last l USING (scenario)
        WHERE s.run = $run ORDER BY s.number""",
        {"run": run},
    )


def actions(store: Store, run: str, scenario: str = "") -> pd.DataFrame:
    """The scored actions of a run, or of one of its scenarios, by scenario and action."""
    return store.sql(
        """
        SELECT scenario, action, text, scored, scores FROM actions
        WHERE run = $run AND ($scenario = '' OR scenario = $scenario)
        ORDER BY scenario, action""",
        {"run": run, "scenario": scenario},
    )
