"""The causal graph, and predictions and plans that are made from interventions."""

import pandas as pd

from feature_store.store import Store


def edges(store: Store, graph: str) -> pd.DataFrame:
    """Every ordered pair of values: edges that belong to the graph first, then by weight."""
    return store.sql(
        """
        SELECT * EXCLUDE (run) FROM edges WHERE run = ?
        ORDER BY present DESC, abs(weight) DESC, source, target""",
        [graph],
    )


def true_edges(store: Store, graph: str) -> pd.DataFrame:
    """The planted edges, by weight; no row where the truth is unknown."""
    return store.sql(
        """
        SELECT source, target, weight FROM true_edges WHERE run = ?
        ORDER BY abs(weight) DESC, source, target""",
        [graph],
    )


def plan_effects(store: Store, run: str) -> pd.DataFrame:
    """What was wanted, predicted and measured of every value, by value."""
    return store.sql("SELECT * EXCLUDE (run) FROM plan_effects WHERE run = ? ORDER BY value", [run])


def joint_features(store: Store, run: str, intervention: int = 0) -> pd.DataFrame:
    """The features of one joint steering, the largest dose first."""
    return store.sql(
        """
        SELECT feature, value, polarity, weight FROM joint_features
        WHERE run = ? AND intervention = ? ORDER BY abs(weight) DESC, feature""",
        [run, intervention],
    )


def joint_units(store: Store, run: str, intervention: int = 0) -> pd.DataFrame:
    """The groups or directions of one joint steering, the largest dose first."""
    return store.sql(
        """
        SELECT kind, name, value, polarity, weight FROM joint_units
        WHERE run = ? AND intervention = ? ORDER BY abs(weight) DESC, name""",
        [run, intervention],
    )


def predictions(store: Store, run: str, model: str) -> pd.DataFrame:
    """Held-out joint steerings, predicted by one model and measured; by steering and value."""
    return store.sql(
        """
        SELECT * EXCLUDE (run, model) FROM predictions WHERE run = ? AND model = ?
        ORDER BY intervention, value""",
        [run, model],
    )


def prediction_scores(store: Store, run: str) -> pd.DataFrame:
    """How well each model predicts, value by value; the value `all` pools them."""
    return store.sql(
        "SELECT * EXCLUDE (run) FROM prediction_scores WHERE run = ? ORDER BY model DESC, value",
        [run],
    )
