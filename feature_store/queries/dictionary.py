"""An SAE's features: its training, the table, the map, one feature, its labels.

What is read again and again of an SAE or its labels is kept in memory (`Store.kept`): finished runs
never change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import pandas as pd

from feature_store import words
from feature_store.errors import BadInput
from feature_store.store import Store

Sort = Literal[
    "feature", "score", "output", "effect", "density", "max_activation", "clean", "given"
]
"""Columns by which the table of features can be sorted; `given`: as `FeatureFilter.among` has
them."""
MAP_POINTS = 6_000
"""Unlabelled features drawn on the map; labelled ones are all drawn."""

_BEST = """
    SELECT feature, arg_max(value, rank) AS value, arg_max(polarity, rank) AS polarity,
        arg_max_null(part, rank) AS part, max(score) AS score, max(rank) AS rank,
        arg_max(effect, rank) AS effect, arg_max_null(low, rank) AS low,
        arg_max_null(high, rank) AS high, arg_max(n, rank) AS n,
        arg_max_null(output, rank) AS output, count(*) AS labels
    FROM {accepted} {narrow} GROUP BY feature"""
"""The accepted label of each feature with the best held-out score; the largest effect decides where
a labeler reads no marked texts (`rank`)."""


@dataclass(frozen=True, kw_only=True)
class FeatureFilter:
    """Which features are looked at."""

    values: Sequence[str] = ()
    """Ids of values: only features with an accepted label of one of them; empty: any feature."""
    polarity: int = 0
    """+1 or -1: only features with an accepted label of this polarity; 0: any feature."""
    score: float = 0.0
    """Only features with an accepted label of at least this held-out score [0 to 1]; 0: any."""
    text: str = ""
    """Words: only features with a context that holds all of them (`words.ensure` first)."""
    alive: bool = True
    """Only features that are active on some token."""
    among: Sequence[int] | None = None
    """Only these features; None: any."""
    density: tuple[float, float] = (0.0, 1.0)
    """Only features active on a share of tokens between these, ends included [0 to 1]."""


@dataclass(frozen=True, kw_only=True)
class FeatureOrder:
    """In which order features are listed, and which piece of the list is looked at."""

    sort: Sort = "score"
    """Column that is sorted by; equal ones by feature, and those without a number come last."""
    descending: bool = True
    """Largest first."""
    limit: int = 50
    """At most this many features [features]."""
    offset: int = 0
    """Features of the list that come before them [features]."""


class LabelAgreement(NamedTuple):
    """How several runs of labels of one SAE agree, value by value."""

    counts: pd.DataFrame
    """Columns value, run, features: features with an accepted label of the value, by run."""
    overlap: pd.DataFrame
    """Columns value, named_by_any, named_by_all [features], jaccard (mean over pairs of runs of
    the features that both name over those that either names [0 to 1]) and alpha (Krippendorff's,
    nominal [at most 1; 0 = as if by chance])."""


class FeaturesPage(NamedTuple):
    """One page of the table of features."""

    rows: pd.DataFrame
    """One row a feature: statistics and its accepted label with the best held-out score."""
    total: int
    """Features that pass the filter [features]."""


def metrics(store: Store, sae: str) -> pd.DataFrame:
    """What the SAE's training reported, by metric and step."""
    return store.sql(
        "SELECT metric, step, value FROM training WHERE run = ? ORDER BY metric, step", [sae]
    )


def labelled_by_value(store: Store, labels: str) -> pd.DataFrame:
    """Accepted features of each value with their median held-out score, by value."""
    return store.sql(f"""
        SELECT value, count(DISTINCT feature) AS features,
            count(DISTINCT feature) FILTER (polarity > 0) AS held,
            count(DISTINCT feature) FILTER (polarity < 0) AS rejected, median(score) AS score
        FROM {_accepted(store, labels)} GROUP BY value ORDER BY value""")


def features(
    store: Store,
    sae: str,
    labels: str = "",
    wanted: FeatureFilter = FeatureFilter(),
    order: FeatureOrder = FeatureOrder(),
    forecast: str = "",
) -> FeaturesPage:
    """One page of the table of features that pass a filter.

    `forecast` is the run whose forecasts of clean steering stand in the column `clean`; empty:
    none.

    features(store, sae, labels, FeatureFilter(values=["power"]), FeatureOrder(sort="output"))
    """
    narrow, narrow_parameters = _narrow(wanted)
    best = f"FROM {_best(store, labels)}"
    join = "LEFT JOIN"
    if narrow:
        best = _BEST.format(accepted=_accepted(store, labels), narrow=narrow)
        join = "JOIN"
    where, where_parameters = _where(store, sae, wanted)
    statistics = _statistics(store, sae)
    clean = store.kept("SELECT feature, clean FROM forecasts WHERE run = ?", [forecast])
    direction = "DESC" if order.descending else "ASC"
    key = {"score": "rank", "given": "place"}.get(order.sort, order.sort)
    sorted_by_forecast = f"LEFT JOIN {clean} USING (feature)" if key == "clean" else ""
    # Sorting carries only the key; everything else joins for the few rows that are shown.
    rows = store.sql(
        f"""
        WITH best AS MATERIALIZED ({best}),
        passing AS MATERIALIZED (
            SELECT feature, {key} AS key
            FROM (SELECT feature, density, max_activation, list_position(?, feature) AS place
                  FROM {statistics} WHERE {where})
            {join} best USING (feature) {sorted_by_forecast}),
        page AS (
            SELECT feature, key, (SELECT count(*) FROM passing) AS total FROM passing
            ORDER BY key {direction} NULLS LAST, feature
            LIMIT {int(order.limit)} OFFSET {int(order.offset)})
        SELECT feature, value, polarity, part, score, output, effect, low, high, n, labels,
            density, max_activation, n_active, fires_on, clean, total
        FROM page JOIN {statistics} USING (feature) LEFT JOIN best USING (feature)
            LEFT JOIN {clean} USING (feature)
        ORDER BY key {direction} NULLS LAST, feature""",
        [*narrow_parameters, list(wanted.among or []), *where_parameters],
    )
    total = int(rows.total.iloc[0]) if len(rows) else 0
    return FeaturesPage(rows.drop(columns="total"), total)


def feature_map(store: Store, sae: str, labels: str = "") -> pd.DataFrame:
    """Map coordinates of every labelled feature and an even sample of the others, by feature."""
    return store.sql(f"""
        WITH placed AS (
            SELECT feature, x, y, density, value, polarity, part, score
            FROM {_statistics(store, sae)} LEFT JOIN {_best(store, labels)} USING (feature)
            WHERE x IS NOT NULL)
        SELECT * FROM placed
        WHERE value IS NOT NULL
            OR feature % greatest(1, (SELECT count(*) FROM placed) // {MAP_POINTS}) = 0
        ORDER BY feature""")


def feature(store: Store, sae: str, index: int) -> pd.DataFrame:
    """The statistics of one feature; no row where there is no such feature."""
    return store.sql("SELECT * FROM features WHERE run = ? AND feature = ?", [sae, index])


def contexts(store: Store, sae: str, index: int, limit: int = 20) -> pd.DataFrame:
    """The top contexts of one feature, strongest first."""
    return store.sql(
        """
        SELECT rank, activation, document, position, tokens, activations, peak FROM contexts
        WHERE run = ? AND feature = ? AND rank < ? ORDER BY rank""",
        [sae, index, limit],
    )


def histogram(store: Store, sae: str, index: int) -> pd.DataFrame:
    """The histogram of one feature's activations, by bin."""
    return store.sql(
        """
        SELECT bin, low, high, count FROM histograms WHERE run = ? AND feature = ?
        ORDER BY bin""",
        [sae, index],
    )


def spread(store: Store, sae: str, index: int) -> pd.DataFrame:
    """Over how many texts one feature fires, and quantiles of its activation. One row."""
    return store.sql(
        """
        SELECT count(*) AS tokens, count(DISTINCT document) AS texts,
            median(activation) AS median, quantile_cont(activation, 0.95) AS q95
        FROM activations WHERE run = ? AND feature = ?""",
        [sae, index],
    )


def token_logits(store: Store, descriptions: str, index: int) -> pd.DataFrame:
    """The tokens that one feature promotes, then those that it suppresses, most first."""
    return store.sql(
        """
        SELECT side, rank, token, logit FROM token_logits WHERE run = ? AND feature = ?
        ORDER BY side, rank""",
        [descriptions, index],
    )


def logit_shape(store: Store, descriptions: str, index: int) -> pd.DataFrame:
    """How one feature changes the logits of all tokens; no row of one that writes nothing."""
    return store.sql(
        """
        SELECT sd, skewness, kurtosis, smallest, largest, bins FROM logit_shapes
        WHERE run = ? AND feature = ?""",
        [descriptions, index],
    )


def decoder_neighbours(store: Store, descriptions: str, index: int) -> pd.DataFrame:
    """The features whose decoder rows are nearest to one feature's, nearest first."""
    return store.sql(
        """
        SELECT rank, neighbour, cosine, null_high FROM decoder_neighbours
        WHERE run = ? AND feature = ? ORDER BY rank""",
        [descriptions, index],
    )


def coactivations(store: Store, descriptions: str, index: int) -> pd.DataFrame:
    """The features that are active on one feature's tokens, by measure, largest first."""
    return store.sql(
        """
        SELECT measure, rank, partner, together, jaccard, pmi FROM coactivations
        WHERE run = ? AND feature = ? ORDER BY measure, rank""",
        [descriptions, index],
    )


def features_at(store: Store, sae: str, labels: str, indices: Sequence[int]) -> pd.DataFrame:
    """What some features fire on and how strongly, and their best accepted label, by feature.

    Dead features fire on nothing, and most features carry no label: NULL.
    """
    return store.sql(
        f"""
        SELECT feature, fires_on, max_activation, value, polarity, part, score
        FROM {_statistics(store, sae)} LEFT JOIN {_best(store, labels)} USING (feature)
        WHERE list_contains(?, feature) ORDER BY feature""",
        [list(indices)],
    )


def competing_labels(store: Store, labels: str, index: int) -> pd.DataFrame:
    """Every label that competes for one feature, accepted first, then by held-out score."""
    return store.sql(
        """
        SELECT value, polarity, part, l.effect, l.low, l.high, p, q, score, gain, l.n, method,
            accepted, evidence, output, o.low AS output_low, o.high AS output_high, beside,
            null_high, o.n AS output_n, dose
        FROM labels l LEFT JOIN (SELECT * FROM output_scores WHERE run = $run) o
            USING (feature, value, polarity)
        WHERE l.run = $run AND feature = $feature
        ORDER BY accepted DESC, coalesce(score, l.effect) DESC, value""",
        {"run": labels, "feature": index},
    )


def labelled_features(store: Store, labels: str) -> pd.DataFrame:
    """Every accepted feature with its best label, by value, best held-out score first."""
    best = _BEST.format(accepted=_accepted(store, labels), narrow="")
    return store.sql(f"SELECT * EXCLUDE (rank) FROM ({best}) ORDER BY value, rank DESC, feature")


def accepted_labels(store: Store, labels: str, value: str = "") -> pd.DataFrame:
    """Every accepted label, of one value where it is named; the best to steer first.

    The best raise their value most when steered (`output`); where that was not measured, the most
    specific come first (`gain`), then those with the best held-out score, or the largest effect of
    a labeler that reads no marked texts. `effects` chooses its features in the same order.
    """
    return store.sql(
        """
        SELECT l.* EXCLUDE (run), output
        FROM labels l LEFT JOIN
            (SELECT feature, value, polarity, output FROM output_scores WHERE run = $run)
            USING (feature, value, polarity)
        WHERE l.run = $run AND accepted AND ($value = '' OR value = $value)
        ORDER BY output DESC NULLS LAST, gain DESC NULLS LAST, coalesce(score, effect) DESC,
            feature""",
        {"run": labels, "value": value},
    )


def label_runs(store: Store, sae: str) -> pd.DataFrame:
    """Every run of labels of one SAE with its labeler, newest first."""
    return store.sql(
        """
        SELECT run, config->>'labeler' AS labeler, config->>'labelled' AS labelled, seed
        FROM runs WHERE kind = 'labels' AND inputs->>'sae' = ? ORDER BY created DESC, run""",
        [sae],
    )


def label_agreement(store: Store, sae: str, runs: Sequence[str]) -> LabelAgreement:
    """How several runs of labels agree on which features carry each value.

    Every live feature is a unit, every run says yes or no to it: an accepted label of the value, of
    whichever side and part. Alpha is Krippendorff's for nominal data without missing answers:
    1 - (n - 1) sum c (m - c) / ((m - 1) n1 n0), where c of m runs name a feature, and n1 of all n
    answers are yes, n0 no. A value that no run names has no row.
    """
    if len(runs) < 2:
        raise BadInput(f"Agreement needs two runs of labels or more, got {len(runs)}.")
    named = f"""
        SELECT DISTINCT run, value, feature FROM labels
        WHERE accepted AND run IN ({", ".join("?" * len(runs))})"""
    counts = store.sql(
        f"""
        SELECT value, run, count(*) AS features FROM ({named}) GROUP BY value, run
        ORDER BY value, run""",
        [*runs],
    )
    overlap = store.sql(
        f"""
        WITH named AS ({named}),
        live AS (SELECT count(*) AS units FROM features WHERE run = ? AND n_active > 0),
        times AS (SELECT value, feature, count(*) AS c FROM named GROUP BY ALL),
        sums AS (
            SELECT value, count(*) AS named_by_any, count(*) FILTER (c = {len(runs)}) AS
                named_by_all, sum(c) AS yes, sum(c * ({len(runs)} - c)) AS split
            FROM times GROUP BY value),
        sizes AS (SELECT value, run, count(*) AS size FROM named GROUP BY ALL),
        asked AS (SELECT DISTINCT value, r.run FROM named, (SELECT unnest(?) AS run) r),
        sized AS (
            SELECT value, run, coalesce(size, 0) AS size
            FROM asked LEFT JOIN sizes USING (value, run)),
        shared AS (
            SELECT a.value, a.run AS one, b.run AS other, count(*) AS common
            FROM named a JOIN named b ON a.value = b.value AND a.feature = b.feature
            WHERE a.run < b.run GROUP BY ALL),
        pairs AS (
            SELECT a.value, coalesce(common, 0) AS common,
                a.size + b.size - coalesce(common, 0) AS joint
            FROM sized a JOIN sized b ON a.value = b.value AND a.run < b.run
            LEFT JOIN shared s ON s.value = a.value AND s.one = a.run AND s.other = b.run),
        likeness AS (
            SELECT value, avg(common / joint) FILTER (joint > 0) AS jaccard
            FROM pairs GROUP BY value)
        SELECT value, named_by_any, named_by_all, jaccard,
            1 - (units * {len(runs)} - 1) * split
                / (({len(runs)} - 1) * yes * nullif(units * {len(runs)} - yes, 0)) AS alpha
        FROM sums JOIN likeness USING (value), live ORDER BY value""",
        [*runs, sae, [*runs]],
    )
    return LabelAgreement(counts, overlap)


def _narrow(wanted: FeatureFilter) -> tuple[str, list[Any]]:
    """The WHERE clause that the filter asks of a label, with its parameters."""
    conditions: list[str] = []
    parameters: list[Any] = []
    if wanted.values:
        conditions.append(f"value IN ({', '.join('?' * len(wanted.values))})")
        parameters += wanted.values
    if wanted.polarity:
        conditions.append("polarity = ?")
        parameters.append(wanted.polarity)
    if wanted.score:
        conditions.append("score >= ?")
        parameters.append(wanted.score)
    clause = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    return clause, parameters


def _where(store: Store, sae: str, wanted: FeatureFilter) -> tuple[str, list[Any]]:
    """The condition that the filter asks of a feature itself, with its parameters."""
    conditions = ["n_active > 0" if wanted.alive else "true"]
    parameters: list[Any] = []
    if wanted.among is not None:
        conditions.append("list_contains(?, feature)")
        parameters.append(list(wanted.among))
    if wanted.density != (0.0, 1.0):
        conditions.append("density BETWEEN ? AND ?")
        parameters += wanted.density
    if wanted.text.strip() and (sought := words.split(store, wanted.text)):
        query, of_words = words.search(store, sae, sought)
        conditions.append(f"feature IN ({query})")
        parameters += of_words
    return " AND ".join(conditions), parameters


def _accepted(store: Store, labels: str) -> str:
    return store.kept(
        """
        SELECT feature, value, polarity, part, score, effect, l.low, l.high, l.n, output,
            coalesce(score, effect) AS rank
        FROM labels l LEFT JOIN
            (SELECT feature, value, polarity, output FROM output_scores WHERE run = ?)
            USING (feature, value, polarity)
        WHERE l.run = ? AND accepted""",
        [labels, labels],
    )


def _statistics(store: Store, sae: str) -> str:
    tops = words.source(store, sae, "tops")
    return store.kept(
        f"""
        SELECT feature, n_active, density, max_activation, x, y, fires_on
        FROM features LEFT JOIN {tops} USING (feature) WHERE run = ? ORDER BY feature""",
        [sae],
    )


def _best(store: Store, labels: str) -> str:
    return store.kept(_BEST.format(accepted=_accepted(store, labels), narrow=""))
