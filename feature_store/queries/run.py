"""Which runs there are."""

import pandas as pd

from feature_store.store import Store


def candidates(store: Store, kind: str, role: str = "", of: str = "") -> pd.DataFrame:
    """Every page: the finished runs of a kind, those built on run `of` (their input `role`) only; newest first."""
    where, parameters = ("AND inputs->>? = ?", [role, of]) if of else ("", [])
    return store.sql(
        f"SELECT run, created, seconds, seed, config, inputs, summary FROM runs WHERE kind = ? {where} ORDER BY created DESC, run",
        [kind, *parameters],
    )


def runs(store: Store) -> pd.DataFrame:
    """Overview: all finished runs, newest first."""
    return store.sql("SELECT run, kind, status, created, seconds, seed, summary FROM runs ORDER BY created DESC, run")
