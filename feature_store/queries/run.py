"""Which runs there are."""

import pandas as pd

from feature_store.store import Store


def candidates(store: Store, kind: str, role: str = "", of: str = "") -> pd.DataFrame:
    """The finished runs of a kind, newest first.

    Where `of` is given, only runs that were built on it: it is their input in the role `role`.
    """
    narrow = ""
    parameters = [kind]
    if of:
        narrow = "AND inputs->>? = ?"
        parameters += [role, of]
    return store.sql(
        f"""
        SELECT run, created, seconds, seed, config, inputs, summary FROM runs
        WHERE kind = ? {narrow} ORDER BY created DESC, run""",
        parameters,
    )


def runs(store: Store) -> pd.DataFrame:
    """All finished runs, newest first."""
    return store.sql("""
        SELECT run, kind, status, created, seconds, seed, summary FROM runs
        ORDER BY created DESC, run""")
