"""Labels against what is planted in the text: precision, recall, and whether a confounding topic is
ever labelled.

1. Fresh documents, of which every sentence's planted meaning is known: a value's behaviour with its
   sign, a value-free attribute, a topic, a filler.
2. What a feature reads: its document-pooled activations are regressed on the presence of every
   planted sentence type; the group of types that explains the largest share of its variance is its
   planted meaning.
3. Precision: accepted labels that name the feature's planted meaning. Recall: live features more
   than half of whose variance one value and sign explains, that are labelled with it.
4. Beside it, what features write: the share of accepted labels whose decoder row has a cosine of at
   least 0.5 with a planted direction of the value. A feature of one phrase reads a value without
   writing it. AUROC says how well the label's output score, and each of its input scores, tell
   those that write from those that only read.

The labeler sees values and topics only, never sentence types, facets or directions.
"""

from collections import Counter

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks._planted import DOCUMENTS, planted_meanings
from benchmarks._study import made
from workbench import organism
from workbench.features.output_scores import with_outputs
from workbench.sweeps.sweep import choose_features

NAME = "labels"


def main() -> dict:
    """Reach: precision >= 0.95, recall >= 0.9, no topic feature labelled."""
    told, truth = made(), organism.truth()
    study, run = told.study, told.runs["train"]
    sae = study.sae(run)
    planted = planted_meanings(study, run)
    meanings, best, most, _ = planted
    labels = study.store.sql(
        "SELECT feature, value, polarity FROM labels WHERE accepted AND run = ?",
        [told.runs["label"].id],
    )
    named = {row.feature: ("value", row.value, row.polarity) for row in labels.itertuples()}
    right = [meanings[best[feature]] == meaning for feature, meaning in named.items()]
    wrong = Counter(
        meanings[best[feature]][0]
        for feature, meaning in named.items()
        if meanings[best[feature]] != meaning
    )
    wanted = planted.wanted
    recall = float(np.mean([named.get(f) == meanings[best[f]] for f in wanted]))
    topics = sum(meanings[best[f]][0] == "topic" and most[f] > 0.5 for f in range(sae.n_features))
    decoder = sae.W_dec.numpy() / np.linalg.norm(sae.W_dec.numpy(), axis=1, keepdims=True)
    rows = {
        value: truth.directions[[f.direction for f in truth.facets if f.value == value]]
        for value in truth.values
    }
    written = [
        (sign * (rows[value] @ decoder[f])).max() >= 0.5 for f, (_, value, sign) in named.items()
    ]
    precision = float(np.mean(right))
    scores = with_outputs(study, told.runs["label"].id)
    scores = scores[scores.accepted].set_index("feature").loc[list(named)]
    tells = {
        name: float(roc_auc_score(written, scores[column]))
        for name, column in (("output", "output"), ("specificity", "gain"), ("input", "score"))
    }
    chosen = {by: choose_features(scores.reset_index(), 8, by) for by in ("output", "input")}
    writes = dict(zip(named, written, strict=True))
    return {
        "name": NAME,
        "value": {"precision": precision, "recall": recall},
        "reach": {"precision": 0.95, "recall": 0.9},
        "holds": precision >= 0.95 and recall >= 0.9 and not wrong["topic"] and topics > 0,
        "labelled": len(named),
        "asked_for": len(wanted),
        "wrong_by_meaning": dict(wrong),
        "topic_features": topics,
        "topic_features_labelled": wrong["topic"],
        "share_that_writes_the_value": float(np.mean(written)),
        "auroc_of_writing": tells,
        "chosen_that_write": {
            by: float(np.mean([writes[f] for f in rows.feature])) for by, rows in chosen.items()
        },
        "documents": DOCUMENTS,
    }
