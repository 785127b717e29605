"""Moral dilemmas: what was chosen in them, step by step."""

from collections.abc import Sequence

import pandas as pd

from feature_store.queries.asking import WITH_PROMPTS
from feature_store.store import Store


def dilemmas(store: Store) -> pd.DataFrame:
    """Who chose in dilemmas: one row a steering of a profile run.

    The newest run comes first, and in it steerings before the base.
    """
    return store.sql("""
        SELECT r.run, r.created, r.seed, r.config, r.inputs, p.steering
        FROM (SELECT DISTINCT run, steering FROM step_preferences) p JOIN runs r USING (run)
        ORDER BY r.created DESC, r.run, p.steering = 'base', p.steering""")


def step_preferences(store: Store, run: str, steering: str) -> pd.DataFrame:
    """The preference for every value at every step, by value and step."""
    return store.sql(
        """
        SELECT * EXCLUDE (run, steering) FROM step_preferences WHERE run = ? AND steering = ?
        ORDER BY value, step""",
        [run, steering],
    )


def win_rates(store: Store, run: str, steering: str) -> pd.DataFrame:
    """How often each value was chosen against each other one, by both."""
    return store.sql(
        """
        SELECT * EXCLUDE (run, steering) FROM win_rates WHERE run = ? AND steering = ?
        ORDER BY value, against""",
        [run, steering],
    )


def transitivity(store: Store, run: str, steering: str) -> pd.DataFrame:
    """Cyclic triads beside what coins would give. One row."""
    return store.sql(
        "SELECT * EXCLUDE (run, steering) FROM transitivity WHERE run = ? AND steering = ?",
        [run, steering],
    )


def value_strengths(store: Store, run: str, steering: str) -> pd.DataFrame:
    """Bradley and Terry's strengths of the values, strongest first."""
    return store.sql(
        """
        SELECT * EXCLUDE (run, steering) FROM value_strengths WHERE run = ? AND steering = ?
        ORDER BY strength DESC NULLS LAST, value""",
        [run, steering],
    )


def step_agreement(store: Store, profile: str) -> pd.DataFrame:
    """How alike subjects rank the values, by subject and step.

    Taken from the newest contrast that the profile run is part of.
    """
    return store.sql(
        """
        SELECT a.*, r.seed FROM step_agreement a JOIN runs r USING (run)
        WHERE run IN (SELECT run FROM subjects WHERE profile = ?)
        QUALIFY r.created = max(r.created) OVER () ORDER BY subject, step""",
        [profile],
    )


def item_answers(
    store: Store,
    run: str,
    steering: str,
    items: Sequence[str],
    limit: int = 25,
    offset: int = 0,
) -> pd.DataFrame:
    """Single answers to these items with the text that was asked; `total` counts all.

    In the order of `items`, then by context, wording and seed.
    """
    return store.sql(
        f"""
        SELECT r.item, r.context, r.wording, r."order", r.seed, p.prompt, r.text, r.logprobs,
            r.chosen, r.status, count(*) OVER () AS total
        FROM responses AS r {WITH_PROMPTS}
        WHERE r.run = $run AND r.steering = $steering AND r.item IN (SELECT unnest($items))
        ORDER BY list_position($items, r.item), r.context, r.wording, r."order", r.seed
        LIMIT $limit OFFSET $offset""",
        {"run": run, "steering": steering, "items": list(items), "limit": limit, "offset": offset},
    )
