"""Whether labels carry over to texts, and what other instruments say of the same labels."""

import pandas as pd

from feature_store.store import Store


def transfer_ears(store: Store, run: str) -> pd.DataFrame:
    """How good every ear is at each value, on texts that it never saw."""
    return store.sql("SELECT * EXCLUDE (run) FROM transfer_ears WHERE run = ?", [run])


def transfer_arms(store: Store, run: str) -> pd.DataFrame:
    """Every intervention with its damage and how its texts read; the unsteered row first."""
    return store.sql(
        "SELECT * EXCLUDE (run) FROM transfer_arms WHERE run = ? ORDER BY intervention", [run]
    )


def transfer_ranks(store: Store, run: str) -> pd.DataFrame:
    """How high the steered values stand for every ear, by arm and turn."""
    return store.sql(
        "SELECT * EXCLUDE (run) FROM transfer_ranks WHERE run = ? ORDER BY arm, turn, ear", [run]
    )


def transfer_effects(store: Store, run: str, arm: str, turn: str) -> pd.DataFrame:
    """What every ear hears of every value when an arm is steered one way."""
    return store.sql(
        """
        SELECT * EXCLUDE (run, arm, turn) FROM transfer_effects
        WHERE run = ? AND arm = ? AND turn = ? ORDER BY ear, value, target""",
        [run, arm, turn],
    )


def judged_labels(store: Store, run: str, labels: str) -> pd.DataFrame:
    """What every ear, and every instrument that was asked of the same labels, says of each value.

    One row a value, what is steered, and whoever judges: the effect of steering a value on itself,
    its interval and null band [SD of the judge's unit]. Texts come from the run of kind transfer,
    instruments from the sweeps (kind effects) of the same labels, every one that the study has now.
    """
    return store.sql(
        """
        SELECT value, arm, ear AS judge, 'text' AS kind, run, effect, low, high, null_low,
            null_high, n, heard
        FROM transfer_effects WHERE run = $run AND turn = 'up' AND value = target
        UNION ALL
        SELECT source, 'sae-' || (r.config ->> 'method'),
            concat_ws(' ', r.config ->> 'instrument', r.config ->> 'mode'), 'instrument', s.run,
            effect, low, high, null_low, null_high, n,
            p < 0.05 AND NOT effect BETWEEN null_low AND null_high
        FROM side_effects s JOIN runs r ON r.run = s.run
        WHERE source = target AND r.kind = 'effects' AND r.inputs ->> 'labels' = $labels
        ORDER BY arm, judge, run, value""",
        {"run": run, "labels": labels},
    )


def best_evidence(store: Store, labels: str, per_value: int) -> pd.DataFrame:
    """The features with the best evidence of each value, whether their labels were accepted or not.

    A feature counts for the value that it speaks for best; evidence is its effect, times the root
    of what its held-out score has above chance; where no text was held out, its effect alone.
    """
    return store.sql(
        """
        WITH scored AS (
            SELECT feature, value, polarity, accepted,
                effect * CASE WHEN score IS NULL THEN 1 ELSE sqrt(greatest(score - 0.5, 0)) END
                    AS weight
            FROM labels WHERE run = ? AND effect > 0
            QUALIFY row_number() OVER (PARTITION BY feature ORDER BY weight DESC, value) = 1)
        SELECT feature, value, polarity, accepted FROM scored WHERE weight > 0
        QUALIFY row_number() OVER (PARTITION BY value ORDER BY weight DESC, feature) <= ?
        ORDER BY value, weight DESC, feature""",
        [labels, per_value],
    )
