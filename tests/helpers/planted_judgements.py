"""What invented runs of labels and people say of an SAE's features."""

import numpy as np
import pandas as pd
from scipy import sparse

from workbench.features.judgements import Judgements
from workbench.features.labelers import LabelledActivations

PEOPLE = ["labeller", "feature", "verdict", "value", "side"]


def said_by(voices=None, people=(), features=600):
    """Judgements of runs, `{run: {feature: (value, side)}}`, and people, `(labeller, feature,
    verdict, value, side)` a row, on so many live features."""
    voices = voices or {}
    rows = [(run, f, *label) for run, named in voices.items() for f, label in named.items()]
    labels = pd.DataFrame(rows, columns=["run", "feature", "value", "side"])
    verdicts = pd.DataFrame([*people], columns=PEOPLE)
    verdicts = verdicts.assign(desk="d", note="", id=[f"v{n}" for n in range(len(verdicts))])
    return Judgements(np.arange(features), dict.fromkeys(voices, "m"), labels, verdicts)


def data_of(judgements):
    """Judgements as a labeler sees them, without any text."""
    return LabelledActivations(
        sparse.csr_matrix((0, 0)), np.zeros((0, 10)), np.zeros(0, str), judged=lambda: judgements
    )
