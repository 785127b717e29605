"""How subjects differ on an instrument, and whether instruments agree about them."""

from collections.abc import Sequence

import pandas as pd

from feature_store.store import Store


def subjects(store: Store, contrast: str) -> pd.DataFrame:
    """Who answered which instrument, with the run of the answers; in the order of comparison."""
    return store.sql("SELECT * EXCLUDE (run) FROM subjects WHERE run = ?", [contrast])


def subject_names(store: Store, profiles: Sequence[str]) -> pd.DataFrame:
    """How contrasts call the steerings of these profile runs (`power+`), by steering."""
    return store.sql(
        """
        SELECT DISTINCT profile, steering, subject FROM subjects
        WHERE profile IN (SELECT unnest(?)) ORDER BY steering, subject""",
        [list(profiles)],
    )


def contrasts(store: Store, contrast: str, instrument: str) -> pd.DataFrame:
    """Every subject's difference from the reference on one instrument, by subject and value."""
    return store.sql(
        """
        SELECT * EXCLUDE (run) FROM contrasts WHERE run = ? AND instrument = ?
        ORDER BY subject, value""",
        [contrast, instrument],
    )


def circle_fits(store: Store, contrast: str, instrument: str) -> pd.DataFrame:
    """Which way on the circle every subject moved, by subject."""
    return store.sql(
        """
        SELECT * EXCLUDE (run) FROM circle_fits WHERE run = ? AND instrument = ?
        ORDER BY subject""",
        [contrast, instrument],
    )


def validity(store: Store, contrast: str) -> pd.DataFrame:
    """How far every two instruments agree, by pair and metric."""
    return store.sql(
        """
        SELECT * EXCLUDE (run) FROM validity WHERE run = ?
        ORDER BY instrument, other_instrument, metric""",
        [contrast],
    )


def mtmm(store: Store, contrast: str) -> pd.DataFrame:
    """The multitrait-multimethod matrix; no row below five subjects."""
    return store.sql("SELECT * EXCLUDE (run) FROM mtmm WHERE run = ?", [contrast])
