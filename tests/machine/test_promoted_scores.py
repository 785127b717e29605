"""The published output score, beside a plain computation by hand."""

import numpy as np
import pytest
import torch

from feature_store.records import Site
from sae_training.dictionary.footprint import Footprints
from sae_training.model.unembedding import unembedding
from tests.helpers import small_models
from workbench.features import promoted_scores as module
from workbench.features.promoted_scores import promoted_scores

SITE = Site(1)
PROMPT = "the cat sat on"


@pytest.fixture(scope="module")
def model():
    return small_models.model("llama")


@pytest.fixture(scope="module")
def sae():
    return small_models.topk_sae()


def by_hand(model, sae, feature, tokens):
    """Raise one feature at the last token by a plain hook."""
    ids = torch.tensor(model.tokenize([PROMPT]))
    mask = torch.ones_like(ids, dtype=torch.bool)
    residual = model.residuals(ids, mask, SITE)
    largest = sae.encode(residual[0, -1]).max()
    promoted = Footprints(model, unembedding(model), sae, tokens).logits(
        sae.W_dec[feature : feature + 1]
    )
    promoted = promoted[0].argsort(descending=True)[:tokens]

    def change(hidden):
        hidden = hidden.clone()
        hidden[:, -1] += 10 * largest * sae.W_dec[feature]
        return hidden

    with torch.no_grad(), model.lock, model.hooked(2, change):
        probability = model.forward(ids, mask).logits[0, -1].double().softmax(-1)
    order = probability.argsort(descending=True).tolist()
    rank = min(order.index(token) for token in promoted.tolist())
    return float((1 - rank / len(probability)) * probability[promoted].max())


def test_scores_are_rank_times_probability_whatever_the_batches(model, sae, monkeypatch):
    monkeypatch.setattr(module, "TOKENS", 4)
    features = [3, 17, 0, 9]
    scores = promoted_scores(model, sae, SITE, features, PROMPT)
    np.testing.assert_allclose(
        scores, [by_hand(model, sae, feature, 4) for feature in features], rtol=1e-4
    )
    monkeypatch.setattr(module, "ROWS", 1)
    np.testing.assert_allclose(
        promoted_scores(model, sae, SITE, features, PROMPT), scores, rtol=1e-4
    )
    assert ((scores > 0) & (scores <= 1)).all()


def test_a_feature_that_writes_nothing_has_no_score(model, sae, monkeypatch):
    monkeypatch.setattr(module, "TOKENS", 4)
    rows = sae.W_dec.clone()
    rows[5] = 0
    silent = sae.with_tensors({"W_dec": rows})
    scores = promoted_scores(model, silent, SITE, [4, 5], PROMPT)
    assert np.isfinite(scores[0])
    assert np.isnan(scores[1])
