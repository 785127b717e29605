"""What fires on a text: the features active on each of its tokens, with the values they carry.

1. The text is read as the harvest reads a corpus: in pieces of the run's length, the first token of
   a piece and what the SAE's makers left out aside.
2. Each active feature is set beside its largest activation over the harvested text (`share`): 1 is
   as strong as it ever was there, and more is stronger than anything seen.
3. The feature's best accepted label stands beside it, where it has one.

Left out: what the features do; `effects` measures that.
"""

from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from feature_store import queries
from feature_store.errors import BadInput
from feature_store.records import Run, Site
from feature_store.store import Store
from sae_training.dictionary.harvest import active_pairs
from sae_training.dictionary.stream import read
from sae_training.dictionary.texts import Corpus
from sae_training.model.tokens import strings

if TYPE_CHECKING:
    from sae_training.dictionary.sae import SAE
    from sae_training.engine.model import Model


class FiringFeatures(NamedTuple):
    """What fires on one text."""

    tokens: pd.DataFrame
    """Columns position (0-based [tokens]), token, counted (whether the SAE reads it)."""
    rows: pd.DataFrame
    """Columns position, token, feature, activation [activation units], share (of the feature's
    largest activation; above 1 where it was never so strong), value, polarity, part, score: one
    row an active feature and token, by position, the largest share first."""


def firing(
    store: Store, run: Run, live: tuple["Model", "SAE"], labels: str, text: str
) -> FiringFeatures:
    """Read a text, and list what fires on it.

    `run` is the SAE's, `labels` the id of a run of labels, or empty. Raises BadInput for a text
    with no token that the SAE reads.
    """
    model, sae = live
    context = min(int(run.config["context"]), model.context, sae.reading.context_size)
    parts, counted = [], set()
    for tokens in read(model, Corpus([text], 1, context), _site(run), sae.reading):
        pairs = active_pairs(sae, tokens.x)
        position = tokens.position.numpy()
        counted.update(position.tolist())
        parts.append(
            pd.DataFrame(
                {
                    "position": position[pairs.token],
                    "feature": pairs.feature,
                    "activation": pairs.value,
                }
            )
        )
    if not counted:
        raise BadInput(
            "The text holds no token that the SAE reads: the first one of a text never counts. Give"
            " a sentence."
        )
    written = strings(model, model.tokenize([text])[0])
    places = pd.DataFrame({"position": range(len(written)), "token": written})
    places["counted"] = places.position.isin(counted)
    return FiringFeatures(places, _beside(store, run.id, labels, pd.concat(parts), places))


def _site(run: Run) -> Site:
    """Say where the SAE of a run reads its model."""
    return Site(layer=run.summary["layer"], point=run.summary["point"])


def _beside(
    store: Store, sae: str, labels: str, active: pd.DataFrame, places: pd.DataFrame
) -> pd.DataFrame:
    """Set each active feature beside its token, its largest activation and its label."""
    seen = queries.features_at(store, sae, labels, sorted(set(active.feature.tolist())))
    rows = active.merge(places[["position", "token"]], on="position").merge(
        seen, on="feature", how="left"
    )
    rows["share"] = rows.activation / rows.max_activation
    columns = [
        *("position", "token", "feature", "activation", "share"),
        *("value", "polarity", "part", "score"),
    ]
    return (
        rows[columns]
        .sort_values(["position", "share", "feature"], ascending=[True, False, True])
        .reset_index(drop=True)
    )
