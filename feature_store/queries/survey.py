"""Survey: where values can be read and written."""

import pandas as pd

from feature_store.store import Store


def survey_reading(store: Store, run: str) -> pd.DataFrame:
    """How well each value is read at each layer, by layer and value."""
    return store.sql(
        "SELECT * EXCLUDE (run) FROM survey_reading WHERE run = ? ORDER BY layer, value", [run]
    )


def survey_writing(store: Store, run: str) -> pd.DataFrame:
    """How far each value is written at each layer, by layer and value."""
    return store.sql(
        "SELECT * EXCLUDE (run) FROM survey_writing WHERE run = ? ORDER BY layer, value", [run]
    )
