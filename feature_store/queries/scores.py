"""What labels are worth by independent scores, and how methods of labelling do by them."""

import pandas as pd

from feature_store.store import Store


def label_scores(store: Store, labels: str, index: int) -> pd.DataFrame:
    """Every score of one feature's labels, by value and score.

    Of several runs that made the same score, the newest one's.
    """
    return store.sql(
        """
        SELECT s.* EXCLUDE (labels, feature)
        FROM label_scores s JOIN runs r USING (run)
        WHERE labels = ? AND feature = ?
        QUALIFY row_number()
            OVER (PARTITION BY value, polarity, score, source ORDER BY r.created DESC, s.run) = 1
        ORDER BY value, polarity, score, source""",
        [labels, index],
    )


def method_scores(store: Store, run: str) -> pd.DataFrame:
    """How each method's labels do by each score, by score, the best method first."""
    return store.sql(
        """
        SELECT * EXCLUDE (run) FROM method_scores WHERE run = ?
        ORDER BY score, share DESC NULLS LAST, method""",
        [run],
    )


def forecast_skills(store: Store, run: str) -> pd.DataFrame:
    """How well forecasts meet what was measured, by target, all predictors first."""
    return store.sql(
        """
        SELECT * EXCLUDE (run) FROM forecast_skills WHERE run = ?
        ORDER BY target DESC, predictors <> 'all', predictors""",
        [run],
    )


def forecast_weights(store: Store, run: str) -> pd.DataFrame:
    """What the forecasts go by, by target, the largest share first."""
    return store.sql(
        """
        SELECT * EXCLUDE (run) FROM forecast_weights WHERE run = ?
        ORDER BY target DESC, share DESC, predictor""",
        [run],
    )


def forecast_of(store: Store, run: str, index: int) -> pd.DataFrame:
    """The forecast of one feature, and what was measured where it was steered."""
    return store.sql(
        "SELECT * EXCLUDE (run) FROM forecasts WHERE run = ? AND feature = ?", [run, index]
    )
