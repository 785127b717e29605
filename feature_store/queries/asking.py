"""What was asked and answered, and the profiles it adds up to."""

import pandas as pd

from feature_store.store import Store

WITH_PROMPTS = 'LEFT JOIN prompts AS p USING (run, context, item, wording, "order")'
"""Joins the exact text that was asked, `p.prompt`, to rows of `responses` or `ratings`."""


def profile(store: Store, run: str, centred: bool = True) -> pd.DataFrame:
    """The value profiles of a run, unsteered first, then by steering and value."""
    return store.sql(
        """
        SELECT steering, value, mean, low, high, n, parsed, missing FROM profiles
        WHERE run = ? AND centred = ? ORDER BY steering <> 'base', steering, value""",
        [run, centred],
    )


def responses(store: Store, run: str, steering: str) -> pd.DataFrame:
    """Every response under one steering, as it was stored; by seed, context and wording."""
    return store.sql(
        """
        SELECT * EXCLUDE (run) FROM responses WHERE run = ? AND steering = ?
        ORDER BY seed, context, wording, "order", item""",
        [run, steering],
    )


def prompts(store: Store, run: str) -> pd.DataFrame:
    """The exact texts that were asked, by context and item."""
    return store.sql(
        """
        SELECT * EXCLUDE (run) FROM prompts WHERE run = ?
        ORDER BY context, item, wording, "order" """,
        [run],
    )


def quality(store: Store, run: str) -> pd.DataFrame:
    """Missing answers, biases and reliability of a run's profiles, by steering and metric."""
    return store.sql(
        """
        SELECT * EXCLUDE (run) FROM quality WHERE run = ?
        ORDER BY steering <> 'base', steering, metric""",
        [run],
    )


def item_responses(
    store: Store, run: str, steering: str, value: str, limit: int = 25, offset: int = 0
) -> pd.DataFrame:
    """Single answers about one value with the text that was asked, by item; `total` counts all.

    An empty `value` gives the answers about all values.
    """
    return store.sql(
        f"""
        SELECT r.item, r.context, r.wording, r."order", r.seed, p.prompt, r.text, r.rating,
            r.status, count(*) OVER () AS total
        FROM responses AS r {WITH_PROMPTS}
        WHERE r.run = $run AND r.steering = $steering
            AND ($value = '' OR r.value = $value OR r.value = '')
        ORDER BY r.item, r.context, r.wording, r."order", r.seed LIMIT $limit OFFSET $offset""",
        {"run": run, "steering": steering, "value": value, "limit": limit, "offset": offset},
    )
