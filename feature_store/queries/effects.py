"""What steering did: doses, the side-effect matrix, and what is behind one cell of it."""

import pandas as pd

from feature_store.store import Store

_OF_A_VALUE = "kind NOT IN ('random-feature', 'random-direction')"
"""What is steered for a value, and is no control."""


def feature_doses(store: Store, effects: str, index: int) -> pd.DataFrame:
    """A feature's effect on every value at every dose, with the damage; by target and dose."""
    return store.sql(
        """
        SELECT dose, target, effect, low, high, points, n, damage, value, polarity
        FROM dose_effects WHERE run = ? AND kind = 'feature' AND feature = ?
        ORDER BY target, dose""",
        [effects, index],
    )


def matrix(store: Store, effects: str) -> pd.DataFrame:
    """Every cell of the value x value matrix of side effects, by source and target."""
    return store.sql(
        "SELECT * EXCLUDE (run) FROM side_effects WHERE run = ? ORDER BY source, target", [effects]
    )


def dose_curves(store: Store, effects: str) -> pd.DataFrame:
    """Damage over strength from the search for a sweep's doses, by kind and dose.

    Empty where the doses were named.
    """
    return store.sql(
        "SELECT * EXCLUDE (run) FROM dose_curves WHERE run = ? ORDER BY kind, dose", [effects]
    )


def leakage(store: Store, effects: str) -> pd.DataFrame:
    """Leakage of every value to every part of the circle, by source and part."""
    return store.sql(
        "SELECT * EXCLUDE (run) FROM leakage WHERE run = ? ORDER BY source, part", [effects]
    )


def matched(store: Store, effects: str) -> pd.DataFrame:
    """Damage-matched strength of everything that was steered for a value, those that were not
    matched first.
    """
    return store.sql(
        f"""
        SELECT feature, kind, value, polarity, strength, reached, damage FROM matched
        WHERE run = ? AND {_OF_A_VALUE} ORDER BY reached, value, feature, unit_id""",
        [effects],
    )


def cell_doses(store: Store, effects: str, source: str, target: str) -> pd.DataFrame:
    """Dose-response of the source's features on the target, turned so that the source rises.

    The controls come along (`kind`), not turned. By kind, unit and dose.
    """
    return store.sql(
        f"""
        SELECT kind, unit_id, feature, dose, damage, n, polarity,
            CASE WHEN polarity < 0 THEN -effect ELSE effect END AS effect,
            CASE WHEN polarity < 0 THEN -high ELSE low END AS low,
            CASE WHEN polarity < 0 THEN -low ELSE high END AS high
        FROM dose_effects
        WHERE run = ? AND target = ? AND (value = ? OR NOT {_OF_A_VALUE})
        ORDER BY kind, unit_id, dose""",
        [effects, target, source],
    )


def cell_ratings(
    store: Store, effects: str, source: str, target: str, limit: int = 25, offset: int = 0
) -> pd.DataFrame:
    """Single prompts and their ratings, steered and unsteered, largest change first.

    Each feature of the source is shown at the measured dose nearest its damage-matched strength.
    `total` counts all.
    """
    return store.sql(
        f"""
        WITH nearest AS (
            SELECT i.unit_id, i.kind, i.feature,
                arg_min(i.intervention, abs(i.dose - m.strength)) AS intervention,
                arg_min(i.dose, abs(i.dose - m.strength)) AS dose
            FROM interventions AS i JOIN matched AS m ON m.run = i.run AND m.unit_id = i.unit_id
            WHERE i.run = $run AND i.{_OF_A_VALUE} AND i.value = $source
            GROUP BY i.unit_id, i.kind, i.feature),
        page AS (
            SELECT feature, kind, dose, context, item, wording, "order", base, rating,
                rating - base AS change, count(*) OVER () AS total
            FROM ratings JOIN nearest USING (intervention) WHERE run = $run AND value = $target
            ORDER BY abs(rating - base) DESC, feature, context, item
            LIMIT $limit OFFSET $offset)
        SELECT page.*, prompt FROM page LEFT JOIN prompts AS p
            ON p.run = $run AND p.context = page.context AND p.item = page.item
            AND p.wording = page.wording AND p."order" = page."order"
        ORDER BY abs(change) DESC, feature, page.context, page.item""",
        {"run": effects, "source": source, "target": target, "limit": limit, "offset": offset},
    )
