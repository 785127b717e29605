"""What steering did: doses, the side-effect matrix and what is behind a cell, methods compared."""

import pandas as pd

from feature_store.store import Store


def feature_doses(store: Store, effects: str, index: int) -> pd.DataFrame:
    """Features, one feature: its effect on every value at every dose, with the damage; by target and dose."""
    return store.sql(
        "SELECT dose, target, effect, low, high, points, n, damage, value, polarity FROM dose_effects "
        "WHERE run = ? AND kind = 'feature' AND feature = ? ORDER BY target, dose",
        [effects, index],
    )


def matrix(store: Store, effects: str) -> pd.DataFrame:
    """Overview, Side effects: every cell of the value x value matrix, by source and target."""
    return store.sql(
        "SELECT * EXCLUDE (run) FROM side_effects WHERE run = ? ORDER BY source, target", [effects]
    )


def leakage(store: Store, effects: str) -> pd.DataFrame:
    """Side effects: leakage of every value and part of the circle, by source and part."""
    return store.sql(
        "SELECT * EXCLUDE (run) FROM leakage WHERE run = ? ORDER BY source, part", [effects]
    )


def matched(store: Store, effects: str) -> pd.DataFrame:
    """Side effects: damage-matched strength of every steered feature, those that were not matched first."""
    return store.sql(
        "SELECT feature, value, polarity, strength, reached, damage FROM matched WHERE run = ? AND kind = 'feature' "
        "ORDER BY reached, value, feature",
        [effects],
    )


def cell_doses(store: Store, effects: str, source: str, target: str) -> pd.DataFrame:
    """Side effects, one cell: dose-response of the source's features on the target, turned so that the source rises.

    The controls come along (`kind`), not turned. By kind, unit and dose.
    """
    return store.sql(
        "SELECT kind, unit_id, feature, dose, damage, n, polarity, CASE WHEN polarity < 0 THEN -effect ELSE effect END AS effect, "
        "CASE WHEN polarity < 0 THEN -high ELSE low END AS low, CASE WHEN polarity < 0 THEN -low ELSE high END AS high "
        "FROM dose_effects WHERE run = ? AND target = ? AND (value = ? OR kind <> 'feature') ORDER BY kind, unit_id, dose",
        [effects, target, source],
    )


def cell_ratings(
    store: Store, effects: str, source: str, target: str, limit: int = 25, offset: int = 0
) -> pd.DataFrame:
    """Side effects, one cell: single prompts and their ratings, steered and unsteered, largest change first.

    Each feature of the source is shown at the measured dose nearest its damage-matched strength. `total` counts all.
    """
    return store.sql(
        """
        WITH nearest AS (
            SELECT i.feature, arg_min(i.intervention, abs(i.dose - m.strength)) AS intervention, arg_min(i.dose, abs(i.dose - m.strength)) AS dose
            FROM interventions AS i JOIN matched AS m ON m.run = i.run AND m.unit_id = i.unit_id
            WHERE i.run = $run AND i.kind = 'feature' AND i.value = $source GROUP BY i.feature),
        page AS (
            SELECT feature, dose, context, item, wording, "order", base, rating, rating - base AS change, count(*) OVER () AS total
            FROM ratings JOIN nearest USING (intervention) WHERE run = $run AND value = $target
            ORDER BY abs(rating - base) DESC, feature, context, item LIMIT $limit OFFSET $offset)
        SELECT page.*, prompt FROM page LEFT JOIN prompts AS p ON p.run = $run AND p.context = page.context AND p.item = page.item
            AND p.wording = page.wording AND p."order" = page."order"
        ORDER BY abs(change) DESC, feature, page.context, page.item""",
        {"run": effects, "source": source, "target": target, "limit": limit, "offset": offset},
    )


def arm_means(store: Store, comparison: str) -> pd.DataFrame:
    """Compare: every method and control in the mean over values, against the best baseline; largest effect first."""
    return store.sql(
        "SELECT m.* EXCLUDE (run), c.baseline, c.difference, c.low AS difference_low, c.high AS difference_high, c.q FROM arm_means AS m "
        "LEFT JOIN arm_contrasts AS c ON c.run = m.run AND c.arm = m.arm AND c.value = 'all' WHERE m.run = ? ORDER BY m.effect DESC, m.arm",
        [comparison],
    )


def arms(store: Store, comparison: str) -> pd.DataFrame:
    """Compare: every method and control for every value at its chosen strength; by value, largest effect first."""
    return store.sql(
        "SELECT a.* EXCLUDE (run, chosen), c.baseline, c.difference, c.q FROM arms AS a "
        "LEFT JOIN arm_contrasts AS c ON c.run = a.run AND c.arm = a.arm AND c.value = a.value "
        "WHERE a.run = ? AND a.chosen ORDER BY a.value, a.effect DESC, a.arm",
        [comparison],
    )


def arm_scores(store: Store, comparison: str) -> pd.DataFrame:
    """Compare: ratings of texts at the strengths chosen for them, by value, best first; no row without a judge."""
    return store.sql(
        "SELECT * EXCLUDE (run, chosen) FROM arm_scores WHERE run = ? AND chosen ORDER BY value, harmonic DESC, arm",
        [comparison],
    )


def arm_ratings(store: Store, comparison: str, intervention: int, limit: int = 25) -> pd.DataFrame:
    """Compare, one method for one value: the questions that report its effect, with their ratings, largest change first."""
    return store.sql(
        "SELECT r.context, r.item, r.value, p.prompt, r.base, r.rating, r.rating - r.base AS change FROM ratings AS r "
        'LEFT JOIN prompts AS p ON p.run = r.run AND p.context = r.context AND p.item = r.item AND p.wording = r.wording AND p."order" = r."order" '
        "JOIN arms AS a ON a.run = r.run AND a.intervention = r.intervention AND a.value = r.value "
        "WHERE r.run = ? AND r.intervention = ? ORDER BY abs(r.rating - r.base) DESC, r.context, r.item LIMIT ?",
        [comparison, intervention, limit],
    )


def arm_texts(store: Store, comparison: str, intervention: int) -> pd.DataFrame:
    """Compare, one method for one value: what was written, beside what was written unsteered; by opening."""
    return store.sql(
        "SELECT t.opening, t.prompt, t.text, u.text AS unsteered, t.concept, t.instruct, t.fluency FROM arm_texts AS t "
        "LEFT JOIN arm_texts AS u ON u.run = t.run AND u.intervention = -1 AND u.opening = t.opening "
        "WHERE t.run = ? AND t.intervention = ? ORDER BY t.opening",
        [comparison, intervention],
    )
