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


def profile_candidates(store: Store, model: str = "") -> pd.DataFrame:
    """The finished profiles, of a model where one is given; first the one that says what it values.

    That is the model as it is: neither steered nor told to be somebody, asked our own statements,
    as it is heard. Of several the newest comes first.
    """
    return store.sql(
        """
        SELECT run, created, seconds, seed, config, inputs, summary FROM runs
        WHERE kind = 'profile' AND ($model = '' OR inputs->>'model' = $model)
        ORDER BY
            coalesce(summary->>'steering', 'base') = 'base'
                AND coalesce(config->>'persona', '') = '' DESC,
            starts_with(coalesce(config->>'instrument', ''), 'standin') DESC,
            coalesce(summary->>'heard', '') = 'yes' DESC,
            created DESC, run""",
        {"model": model},
    )


def runs(store: Store) -> pd.DataFrame:
    """All finished runs, newest first."""
    return store.sql("""
        SELECT run, kind, status, created, seconds, seed, summary FROM runs
        ORDER BY created DESC, run""")
