"""The evaluation starts from the site, and gives what whole steered passes give."""

import math

import pytest
import torch

from feature_store.records import Site
from sae_training.dictionary import evaluate as module
from sae_training.dictionary.evaluate import evaluate, reconstruction
from sae_training.dictionary.sae import SAE
from sae_training.dictionary.texts import Corpus
from sae_training.engine.resume import resumable
from tests.helpers import small_models

TEXTS = ["the cat sat on the mat", "the dog ran to the end of the garden and then " * 3, "the mat"]
CORPUS = Corpus(TEXTS * 3, rows=4, context=24)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "qwen3", "bloom"])
@pytest.mark.parametrize("site", [Site(0, "resid_pre"), Site(1), Site(3)])
def test_passes_from_the_site_give_what_whole_passes_give(monkeypatch, family, site):
    model = small_models.model(family)
    assert resumable(model)
    fast = evaluate(model, small_models.topk_sae(), CORPUS, site)
    monkeypatch.setattr(module, "resumable", lambda model: False)
    slow = evaluate(model, small_models.topk_sae(), CORPUS, site)
    for name, value in vars(slow).items():
        if value is None:
            assert getattr(fast, name) is None
            continue
        assert getattr(fast, name) == pytest.approx(value, rel=1e-4, abs=1e-6, nan_ok=True), name
    assert fast.loss_clean != pytest.approx(fast.loss_spliced, rel=1e-4)
    assert fast.loss_zero != pytest.approx(fast.loss_mean, rel=1e-4)


def test_an_sae_that_rebuilds_everything_recovers_everything():
    width = small_models.WIDTH
    eye = torch.eye(width)
    whole = SAE(
        W_enc=torch.cat([eye, -eye], 1),
        W_dec=torch.cat([eye, -eye]),
        b_enc=torch.zeros(2 * width),
        b_dec=torch.zeros(width),
        architecture="topk",
        k=2 * width,
    )
    figures = evaluate(small_models.model("llama"), whole, CORPUS, Site(1))
    assert figures.fvu == pytest.approx(0, abs=1e-9)
    assert figures.kl_spliced == pytest.approx(0, abs=1e-9)
    assert figures.loss_spliced == pytest.approx(figures.loss_clean, rel=1e-6)
    recovered = figures.loss_recovered
    assert math.isnan(recovered) or recovered == pytest.approx(1, abs=1e-4)


def directions(k=4):
    """An SAE that rebuilds the first `k` coordinates and nothing else."""
    width = small_models.WIDTH
    eye = torch.eye(width)[:, :k]
    return SAE(
        W_enc=torch.cat([eye, -eye], 1),
        W_dec=torch.cat([eye, -eye], 1).T.contiguous(),
        b_enc=torch.zeros(2 * k),
        b_dec=torch.zeros(width),
        architecture="topk",
        k=2 * k,
    )


def test_a_few_long_tokens_do_not_hide_how_the_others_are_rebuilt():
    x = torch.randn(1_000, small_models.WIDTH, generator=torch.Generator().manual_seed(0))
    long = x.clone()
    long[::200] = 0
    long[::200, 0] = torch.linspace(800, 1_000, 5)  # rebuilt well, and nearly all of the variance
    figures = reconstruction(directions(), long.split(300))
    assert figures.fvu < 0.05
    usual = long.norm(dim=1) < 100
    rest = long[usual]
    missed = (rest - directions().reconstruct(rest)).double().square().sum()
    expected = float(missed / (rest - rest.mean(0)).double().square().sum())
    assert expected > 0.5
    assert figures.fvu_usual == pytest.approx(expected, rel=0.02)  # whole bins are left out
    assert reconstruction(directions(), [x]).fvu_usual is None
    assert reconstruction(directions(), [x[:1]]).fvu_usual is None


def test_progress_goes_up_to_the_whole_and_never_back():
    shown = []
    evaluate(
        small_models.model("llama"),
        small_models.topk_sae(),
        CORPUS,
        Site(1),
        lambda *done: shown.append(done),
    )
    done = [count for count, _ in shown]
    assert done == sorted(done)
    assert done[-1] == shown[-1][1]
    assert len({total for _, total in shown}) == 1
