"""Ordinal regressions of answers, and who answered."""

from collections.abc import Sequence

import pandas as pd

from feature_store.store import Store


def ordinal_thetas(store: Store, run: str, centred: bool) -> pd.DataFrame:
    """The posterior of every condition and value, the reference first; in order of comparison."""
    return store.sql(
        "SELECT * EXCLUDE (run, centred) FROM ordinal_thetas WHERE run = ? AND centred = ?",
        [run, centred],
    )


def ordinal_contrasts(store: Store, run: str) -> pd.DataFrame:
    """Higher-order contrasts in conditions and between them, in the order of comparison."""
    return store.sql("SELECT * EXCLUDE (run) FROM ordinal_contrasts WHERE run = ?", [run])


def ordinal_parameters(store: Store, run: str) -> pd.DataFrame:
    """Thresholds and the spread of the items, in the order of the scale."""
    return store.sql("SELECT * EXCLUDE (run) FROM ordinal_parameters WHERE run = ?", [run])


def ordinal_circle(store: Store, run: str) -> pd.DataFrame:
    """How far the answers lie on Schwartz's circle, by condition and measure."""
    return store.sql("SELECT * EXCLUDE (run) FROM ordinal_circle WHERE run = ?", [run])


def answerers(store: Store, profiles: Sequence[str]) -> pd.DataFrame:
    """Who answered in these profile runs: run by run in the given order, unsteered first."""
    return store.sql(
        """
        SELECT DISTINCT run, steering, persona, list_position($runs, run) AS place FROM responses
        WHERE run IN (SELECT unnest($runs)) ORDER BY place, steering <> 'base', steering""",
        {"runs": list(profiles)},
    )
