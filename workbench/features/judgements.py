"""What runs of labels and people say of an SAE's features, side by side: what `human` and
`consensus` read.

1. A run of labels says of every live feature which value it carries, by its best accepted label, or
   that it carries none. Of runs alike the newest speaks (`queries.voices`).
2. A person says it of the features that they judged, by the verdict that counts.
3. The digest names all of it, so that labels made of judgements are pinned to them.

Left out: what is made of it; that is the labelers'.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int

from feature_store import queries
from feature_store.store import Store


@dataclass(frozen=True, eq=False)
class Judgements:
    """Who says what of which feature."""

    live: Int[np.ndarray, " feature"]
    """0-based indices of the live features, rising."""
    labelers: Mapping[str, str]
    """Run of labels -> name of its labeler."""
    labels: pd.DataFrame
    """The best accepted label of each run and feature: run, feature, value, side (+1, -1; 0: the
    topic)."""
    verdicts: pd.DataFrame
    """The verdicts that count: feature, labeller, desk, verdict, value, side, note, id; unsure ones
    as well."""

    @property
    def digest(self) -> str:
        """Sum up who says what (SHA-256)."""
        named = [sorted(self.labelers), sorted(self.verdicts.id)]
        return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def read(store: Store, sae: str) -> Judgements:
    """Read what runs and people say of the features of an SAE's run."""
    runs = queries.voices(store, sae)
    live = store.sql(
        "SELECT feature FROM features WHERE run = ? AND n_active > 0 ORDER BY feature", [sae]
    )
    labels = store.sql(
        """
        SELECT run, feature, value, CASE WHEN part = 'topic' THEN 0 ELSE polarity END AS side
        FROM labels WHERE accepted AND list_contains(?, run)
        QUALIFY row_number() OVER (
            PARTITION BY run, feature ORDER BY coalesce(score, effect) DESC, value) = 1
        ORDER BY run, feature""",
        [list(runs.run)],
    )
    standing = queries.standing_verdicts(store, sae).rename(columns={"polarity": "side"})
    return Judgements(
        live=live.feature.to_numpy(),
        labelers=dict(zip(runs.run, runs.labeler.fillna(""), strict=True)),
        labels=labels,
        verdicts=standing,
    )
