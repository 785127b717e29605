"""What goes out to other tools, feature by feature, and what came in from them."""

from typing import Any

import pandas as pd

from feature_store.store import Store


def features_to_publish(
    store: Store, sae: str, descriptions: str, first: int, last: int
) -> list[dict[str, Any]]:
    """Everything stored of the features `first` to `last`, a mapping each, by feature.

    Lists are in the order of their rank or bin. What no run holds is None, or an empty list: of a
    dead feature's histogram, and of all that `descriptions` would hold where it is empty.
    """
    return store.arrow(
        """
        WITH bars AS (
            SELECT feature, list((low + high) / 2 ORDER BY bin) AS bar_values,
                list(count ORDER BY bin) AS bar_heights
            FROM histograms
            WHERE run = $sae AND feature BETWEEN $first AND $last GROUP BY feature),
        written AS (
            SELECT feature,
                list(token ORDER BY rank) FILTER (side = 'promoted') AS promoted,
                list(logit ORDER BY rank) FILTER (side = 'promoted') AS promoted_logits,
                list(token ORDER BY rank) FILTER (side = 'suppressed') AS suppressed,
                list(logit ORDER BY rank) FILTER (side = 'suppressed') AS suppressed_logits
            FROM token_logits
            WHERE run = $descriptions AND feature BETWEEN $first AND $last GROUP BY feature),
        near AS (
            SELECT feature, list(neighbour ORDER BY rank) AS neighbours,
                list(cosine ORDER BY rank) AS cosines
            FROM decoder_neighbours
            WHERE run = $descriptions AND feature BETWEEN $first AND $last GROUP BY feature),
        shapes AS (
            SELECT feature, smallest, largest, bins FROM logit_shapes
            WHERE run = $descriptions AND feature BETWEEN $first AND $last)
        SELECT feature, density, max_activation, x, y, bar_values, bar_heights, promoted,
            promoted_logits, suppressed, suppressed_logits, neighbours, cosines, smallest, largest,
            bins
        FROM features LEFT JOIN bars USING (feature) LEFT JOIN written USING (feature)
            LEFT JOIN near USING (feature) LEFT JOIN shapes USING (feature)
        WHERE run = $sae AND feature BETWEEN $first AND $last ORDER BY feature""",
        {"sae": sae, "descriptions": descriptions, "first": first, "last": last},
    ).to_pylist()


def partner_correlations(
    store: Store, sae: str, descriptions: str, tokens: float, first: int, last: int
) -> pd.DataFrame:
    """How the features that are active on the same tokens correlate, by feature, partners in order.

    Columns feature, partner, pearson: the correlation of the two activations over the `tokens`
    whose activations are kept, most of them zero [-1 to 1].
    """
    return store.sql(
        """
        WITH pairs AS (
            SELECT feature, partner, rank FROM coactivations
            WHERE run = $descriptions AND measure = 'jaccard'
                AND feature BETWEEN $first AND $last),
        concerned AS (SELECT feature FROM pairs UNION SELECT partner FROM pairs),
        active AS (
            SELECT feature, document, position, activation::DOUBLE AS activation
            FROM activations SEMI JOIN concerned USING (feature) WHERE run = $sae),
        moments AS (
            SELECT feature, sum(activation) / $tokens AS mean,
                sum(activation * activation) / $tokens AS square
            FROM active GROUP BY feature),
        products AS (
            SELECT pairs.feature, partner, sum(a.activation * b.activation) / $tokens AS product
            FROM pairs JOIN active a ON a.feature = pairs.feature
                JOIN active b ON b.feature = partner AND b.document = a.document
                    AND b.position = a.position
            GROUP BY pairs.feature, partner)
        SELECT pairs.feature, pairs.partner,
            (coalesce(product, 0) - m.mean * n.mean)
                / sqrt((m.square - m.mean ** 2) * (n.square - n.mean ** 2)) AS pearson
        FROM pairs JOIN moments m ON m.feature = pairs.feature
            JOIN moments n ON n.feature = partner
            LEFT JOIN products
                ON products.feature = pairs.feature AND products.partner = pairs.partner
        ORDER BY pairs.feature, rank""",
        {
            "sae": sae,
            "descriptions": descriptions,
            "tokens": tokens,
            "first": first,
            "last": last,
        },
    )


def contexts_to_publish(store: Store, sae: str, first: int, last: int) -> list[dict[str, Any]]:
    """The top contexts of the features `first` to `last`, by feature, strongest first."""
    return store.arrow(
        """
        SELECT feature, rank, activation, document, tokens, activations, peak FROM contexts
        WHERE run = ? AND feature BETWEEN ? AND ? ORDER BY feature, rank""",
        [sae, first, last],
    ).to_pylist()


def labels_to_publish(store: Store, labels: str) -> list[dict[str, Any]]:
    """Every accepted label of a run, a mapping each, by feature, best held-out score first."""
    return store.arrow(
        """
        SELECT feature, value, polarity, part, method, l.effect, l.low, l.high, score, gain, l.n,
            output, o.low AS output_low, o.high AS output_high
        FROM labels l LEFT JOIN (SELECT * FROM output_scores WHERE run = $run) o
            USING (feature, value, polarity)
        WHERE l.run = $run AND accepted
        ORDER BY feature, coalesce(score, l.effect) DESC, value""",
        {"run": labels},
    ).to_pylist()


def borrowed_explanations(store: Store, sae: str) -> pd.DataFrame:
    """What others wrote of an SAE's features, by feature, the newest source first.

    Columns of the relation `borrowed_explanations`.
    """
    return store.sql(
        """
        SELECT e.* FROM borrowed_explanations e JOIN runs r USING (run)
        WHERE r.kind = 'borrowed' AND r.inputs->>'sae' = ?
        ORDER BY feature, r.created DESC, run, rank""",
        [sae],
    )
