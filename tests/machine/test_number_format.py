"""The cost of a number format is what it is: none against itself, a planted error as planted."""

import pytest
import torch

from feature_store.records import Site
from sae_training.dictionary import stream
from sae_training.dictionary.number_format import SAMPLE, format_cost
from sae_training.dictionary.texts import Corpus
from sae_training.engine.model import Model
from tests.helpers import small_models

CORPUS = Corpus([f"the cat sat on the mat and ran to garden {i}" for i in range(400)], 8, 24)


def test_a_model_costs_nothing_against_itself():
    model = small_models.model("llama")
    cost = format_cost(model, model, CORPUS, Site(1))
    assert (cost.loss, cost.residuals) == (0, 0)
    assert SAMPLE <= cost.tokens < SAMPLE + 8 * 24


def test_a_planted_error_is_found():
    model, scaled = small_models.model("llama"), small_models.model("llama")
    read = scaled.residuals
    scaled.residuals = lambda ids, mask, site: 1.1 * read(ids, mask, site)
    cost = format_cost(scaled, model, CORPUS, Site(1))
    x = torch.cat([tokens.x for tokens in stream.read(model, CORPUS, Site(1))])
    expected = 0.01 * x.square().sum() / (x - x.mean(0)).square().sum()
    assert cost.residuals == pytest.approx(float(expected), rel=0.1)
    assert cost.loss == 0


def test_bfloat16_costs_a_little():
    model = small_models.model("llama")
    module = small_models.module("llama").to(torch.bfloat16)
    half = Model(module, small_models.tokenizer(), "llama")
    cost = format_cost(half, model, CORPUS, Site(2))
    assert 1e-7 < cost.residuals < 1e-2
    assert 0 < abs(cost.loss) < 0.05
