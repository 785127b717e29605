"""Contexts of features that no labeler has seen, and contexts in which the features are silent.

1. A harvest keeps an even sample of each feature's active tokens (`samples`) beside its strongest
   contexts (`contexts`), which labelers read. A sample from a text of which the feature's strongest
   contexts hold a piece is left out: what remains was seen by no labeler of contexts. Labelers of
   marked texts read other texts.
2. Silent contexts are samples of other features, from texts in which the feature is active on none
   of the tokens whose activations were kept.
3. Both are drawn by a seed, as many silent as active ones.

A feature that is active in few texts has none that its strongest contexts do not hold, and so no
score. Left out: silent contexts that resemble the active ones.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from feature_store.errors import NotFound
from feature_store.store import Store

TRIED = 50
"""Samples of other features that are looked at for each silent context, until it is silent."""


class Window(NamedTuple):
    """A piece of a text."""

    tokens: tuple[str, ...]
    """Its tokens."""
    activations: tuple[float, ...]
    """Activation of the feature that it was kept for, on each token [activation units]."""

    @property
    def text(self) -> str:
        """The piece as people read it."""
        return "".join(self.tokens).strip()

    def marked(self, is_marked: Sequence[bool]) -> str:
        """Write the piece with some of its tokens between << and >>."""
        parts = [
            f"<<{token}>>" if mark else token
            for token, mark in zip(self.tokens, is_marked, strict=True)
        ]
        return "".join(parts).strip()


class HeldOutContexts(NamedTuple):
    """Held-out contexts of one feature."""

    active: tuple[Window, ...]
    """Contexts in which it is active."""
    silent: tuple[Window, ...]
    """As many in which it is not."""


def check_sampled(store: Store, sae: str) -> bool:
    """Give true. Raises NotFound where the SAE's run kept no samples."""
    if store.sql("SELECT 1 FROM samples WHERE run = ? LIMIT 1", [sae]).empty:
        raise NotFound(
            f"{sae} kept no samples of contexts beside the strongest: it was made before there were"
            f" any. Harvest anew with `workbench adopt STUDY STUDY/runs/{sae}/sae --texts ...`, and"
            " label that."
        )
    return True


def held_out_contexts(
    store: Store, sae: str, features: Sequence[int], most: int, seed: int
) -> dict[int, HeldOutContexts]:
    """Draw at most `most` held-out contexts of each kind for some features of an SAE.

    Features without any are left out. Raises NotFound where the SAE's run kept no samples.
    """
    check_sampled(store, sae)
    samples = store.sql(
        "SELECT feature, draw, document FROM samples WHERE run = ? ORDER BY feature, draw", [sae]
    )
    number, document = samples.feature.to_numpy(), samples.document.to_numpy()
    seen = _documents(store, "contexts", sae, features)
    active_in = _documents(store, "activations", sae, features)
    drawn: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for feature in features:
        rows = np.arange(*np.searchsorted(number, (feature, feature + 1)))
        unseen = rows[~np.isin(document[rows], seen.get(feature, ()))][:most]
        others = np.random.default_rng((seed, feature)).integers(len(samples), size=TRIED * most)
        _, first = np.unique(others, return_index=True)
        others = others[np.sort(first)]
        is_silent = ~np.isin(document[others], active_in.get(feature, ()))
        silent = others[is_silent & (number[others] != feature)]
        size = min(len(unseen), len(silent))
        if size:
            drawn[feature] = unseen[:size], silent[:size]
    windows = _windows(store, sae, samples, [row for pair in drawn.values() for row in pair])
    return {
        feature: HeldOutContexts(*(tuple(windows[row] for row in rows) for rows in pair))
        for feature, pair in drawn.items()
    }


def _documents(
    store: Store, relation: str, sae: str, features: Sequence[int]
) -> dict[int, list[int]]:
    """Say in which texts features are active, or have a context."""
    rows = store.sql(
        f"""
        SELECT feature, list(DISTINCT document) AS documents
        FROM {relation} JOIN (SELECT unnest(?) AS feature) USING (feature)
        WHERE run = ? GROUP BY feature""",
        [[int(feature) for feature in features], sae],
    )
    return {int(row.feature): [int(d) for d in row.documents] for row in rows.itertuples()}


def _windows(
    store: Store, sae: str, samples: pd.DataFrame, drawn: Sequence[np.ndarray]
) -> dict[int, Window]:
    """Read the tokens of samples, by their row among `samples`: of these alone."""
    if not drawn:
        return {}
    rows = np.unique(np.concatenate(drawn))
    chosen = samples.iloc[rows]
    table = store.sql(
        """
        SELECT place, tokens, activations FROM samples
        JOIN (SELECT unnest(?) AS feature, unnest(?) AS draw, unnest(?) AS place)
            USING (feature, draw)
        WHERE run = ?""",
        [chosen.feature.tolist(), chosen.draw.tolist(), rows.tolist(), sae],
    )
    return {
        int(row.place): Window(
            tokens=tuple(row.tokens), activations=tuple(float(a) for a in row.activations)
        )
        for row in table.itertuples()
    }
