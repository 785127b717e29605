"""An SAE's features: the table, the map, one feature, its labels.

What every page reads of an SAE or its labels is kept in memory (`Store.kept`): finished runs never change.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import pandas as pd

from feature_store import words
from feature_store.store import Store

Sort = Literal["feature", "score", "output", "effect", "density", "max_activation"]
MAP_POINTS = 6_000
"""Unlabelled features drawn on the map; labelled ones are all drawn."""


def labelled_by_value(store: Store, labels: str) -> pd.DataFrame:
    """Overview: accepted features of each value with their median held-out score, by value."""
    return store.sql(
        "SELECT value, count(DISTINCT feature) AS features, count(DISTINCT feature) FILTER (polarity > 0) AS held, "
        "count(DISTINCT feature) FILTER (polarity < 0) AS rejected, median(score) AS score "
        f"FROM {_accepted(store, labels)} GROUP BY value ORDER BY value"
    )


def _accepted(store: Store, labels: str) -> str:
    return store.kept(
        "SELECT feature, value, polarity, score, effect, l.low, l.high, l.n, output FROM labels l LEFT JOIN "
        "(SELECT feature, value, polarity, output FROM output_scores WHERE run = ?) USING (feature, value, polarity) WHERE l.run = ? AND accepted",
        [labels, labels],
    )


def _statistics(store: Store, sae: str) -> str:
    return store.kept(
        "SELECT feature, n_active, density, max_activation, x, y, fires_on FROM features "
        f"LEFT JOIN {words.source(store, sae, 'tops')} USING (feature) WHERE run = ? ORDER BY feature",
        [sae],
    )


_BEST = (
    "SELECT feature, arg_max(value, score) AS value, arg_max(polarity, score) AS polarity, max(score) AS score, "
    "arg_max(effect, score) AS effect, arg_max(low, score) AS low, arg_max(high, score) AS high, "
    "arg_max(n, score) AS n, arg_max_null(output, score) AS output, count(*) AS labels FROM {accepted} {narrow} GROUP BY feature"
)


def _best(store: Store, labels: str) -> str:
    return store.kept(_BEST.format(accepted=_accepted(store, labels), narrow=""))


class FeaturesPage(NamedTuple):
    rows: pd.DataFrame
    """One row a feature: statistics and its accepted label with the best held-out score."""
    total: int
    """Features that pass the filters [features]."""


def features(
    store: Store, sae: str, labels: str = "", values: Sequence[str] = (), polarity: int = 0, score: float = 0.0,
    text: str = "", alive: bool = True, sort: Sort = "score", descending: bool = True, limit: int = 50, offset: int = 0
) -> FeaturesPage:  # fmt: skip
    """Features: one page of the table, sorted by `sort`, then by feature; features without a number come last.

    `values`, `polarity` and `score` keep features with an accepted label like that; `text` those with a context that
    holds all its words (`words.ensure` first).
    """
    narrow, labelled, sought = [], [], []
    if values:
        narrow.append(f"value IN ({', '.join('?' * len(values))})")
        labelled += values
    if polarity:
        narrow.append("polarity = ?")
        labelled.append(polarity)
    if score:
        narrow.append("score >= ?")
        labelled.append(score)
    best = _BEST.format(accepted=_accepted(store, labels), narrow=f"WHERE {' AND '.join(narrow)}") if narrow else f"FROM {_best(store, labels)}"
    where = ["n_active > 0"] if alive else ["true"]
    if said := words.split(store, text) if text.strip() else []:
        query, sought = words.search(store, sae, said)
        where.append(f"feature IN ({query})")
    statistics, order = _statistics(store, sae), f"key {'DESC' if descending else 'ASC'} NULLS LAST, feature"
    # Sorting carries only the key; everything else joins for the few rows that are shown.
    rows = store.sql(
        f"""
        WITH best AS MATERIALIZED ({best}),
        kept AS MATERIALIZED (
            SELECT feature, {sort} AS key FROM (SELECT feature, density, max_activation FROM {statistics} WHERE {' AND '.join(where)})
            {'JOIN' if narrow else 'LEFT JOIN'} best USING (feature)),
        page AS (SELECT feature, key, (SELECT count(*) FROM kept) AS total FROM kept ORDER BY {order} LIMIT {int(limit)} OFFSET {int(offset)})
        SELECT feature, value, polarity, score, output, effect, low, high, n, labels, density, max_activation, n_active, fires_on, total
        FROM page JOIN {statistics} USING (feature) LEFT JOIN best USING (feature) ORDER BY {order}""",
        [*labelled, *sought],
    )
    return FeaturesPage(rows.drop(columns="total"), int(rows.total.iloc[0]) if len(rows) else 0)


def feature_map(store: Store, sae: str, labels: str = "") -> pd.DataFrame:
    """Features: map coordinates, every labelled feature and an even sample of the others, by feature."""
    return store.sql(
        f"""
        WITH placed AS (
            SELECT feature, x, y, density, value, polarity, score FROM {_statistics(store, sae)}
            LEFT JOIN {_best(store, labels)} USING (feature) WHERE x IS NOT NULL)
        SELECT * FROM placed WHERE value IS NOT NULL OR feature % greatest(1, (SELECT count(*) FROM placed) // {MAP_POINTS}) = 0 ORDER BY feature"""
    )


def feature(store: Store, sae: str, index: int) -> pd.DataFrame:
    """Features, one feature: its statistics; no row where there is no such feature."""
    return store.sql("SELECT * FROM features WHERE run = ? AND feature = ?", [sae, index])


def contexts(store: Store, sae: str, index: int, limit: int = 20) -> pd.DataFrame:
    """Features, one feature: its top contexts, strongest first."""
    return store.sql(
        "SELECT rank, activation, document, position, tokens, activations, peak FROM contexts "
        "WHERE run = ? AND feature = ? AND rank < ? ORDER BY rank",
        [sae, index, limit],
    )


def histogram(store: Store, sae: str, index: int) -> pd.DataFrame:
    """Features, one feature: its activation histogram, by bin."""
    return store.sql("SELECT bin, low, high, count FROM histograms WHERE run = ? AND feature = ? ORDER BY bin", [sae, index])


def spread(store: Store, sae: str, index: int) -> pd.DataFrame:
    """Features, one feature: over how many texts it fires, and quantiles of its activation. One row."""
    return store.sql(
        "SELECT count(*) AS tokens, count(DISTINCT document) AS texts, median(activation) AS median, "
        "quantile_cont(activation, 0.95) AS q95 FROM activations WHERE run = ? AND feature = ?",
        [sae, index],
    )


def competing_labels(store: Store, labels: str, index: int) -> pd.DataFrame:
    """Features, one feature: every label that competes for it, accepted first, then by held-out score."""
    return store.sql(
        "SELECT value, polarity, l.effect, l.low, l.high, p, q, score, gain, l.n, method, accepted, evidence, output, o.low AS output_low, o.high AS output_high, "
        "beside, null_high, o.n AS output_n, dose FROM labels l LEFT JOIN (SELECT * FROM output_scores WHERE run = $run) o USING (feature, value, polarity) "
        "WHERE l.run = $run AND feature = $feature ORDER BY accepted DESC, score DESC, value",
        {"run": labels, "feature": index},
    )


def labelled_features(store: Store, labels: str) -> pd.DataFrame:
    """Steer: every accepted feature with its best label, by value, best held-out score first."""
    best = _BEST.format(accepted=_accepted(store, labels), narrow="")
    return store.sql(f"{best} ORDER BY value, score DESC, feature")


def metrics(store: Store, sae: str) -> pd.DataFrame:
    """Overview: what the SAE's training reported, by metric and step."""
    return store.sql("SELECT metric, step, value FROM training WHERE run = ? ORDER BY metric, step", [sae])
