"""How a model reads its last residual is measured, and is what the model does."""

import pytest
import torch

from benchmarks._small_families import built
from feature_store.errors import Incompatible
from sae_training.engine.model import Model
from sae_training.model.unembedding import normed, unembedding
from tests.helpers import small_models

CAP = 4.0
"""Soft cap of the small Gemma 2."""


@pytest.mark.parametrize("family", small_models.CONFIGS)
def test_the_linear_part_gives_the_logits_of_a_whole_pass(family):
    model = small_models.model(family)
    shake(model.module)
    read = unembedding(model)
    assert read.norm == ("LayerNorm" if family in ("gpt2", "neox", "bloom") else "RMSNorm")
    assert read.cap == (CAP if family == "gemma2" else 0)
    ids = torch.tensor([[5, 7, 9, 30, 12]])
    mask = torch.ones_like(ids, dtype=torch.bool)
    taken = []
    with model.lock, model.hooked(model.n_layers, lambda x: taken.append(x) or x):
        logits = model.forward(ids, mask).logits[0]
    if read.cap:
        logits = read.cap * (logits / read.cap).atanh()
    ours = (normed(taken[0][0], read.norm) * read.weight) @ read.head.T
    # The bias of a LayerNorm moves every token's logits alike, whatever the residual.
    torch.testing.assert_close(ours - ours[:1], logits - logits[:1], rtol=1e-3, atol=1e-3)


def shake(module):
    """Give norms weights and biases that are not 1 and 0, so that forgetting them shows."""
    source = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "norm" in name or "ln_f" in name or "ln_" in name:
                parameter += 0.3 * torch.randn(parameter.shape, generator=source)


@pytest.mark.parametrize(
    ("family", "norm", "cap"),
    [
        ("mamba", "RMSNorm", 0),
        ("recurrent_gemma", "RMSNorm", 30),
        ("bart", "none", 0),
        ("cohere", "LayerNorm", 0),
    ],
)
def test_families_of_other_kinds_are_read(family, norm, cap):
    read = unembedding(Model(built(family), None, family))
    assert (read.norm, read.cap) == (norm, cap)


def test_a_factor_of_the_logits_is_measured():
    model = Model(built("cohere"), None, "cohere")
    plain = unembedding(model).weight
    model.module.logit_scale *= 3
    torch.testing.assert_close(unembedding(model).weight, 3 * plain)


def test_an_end_that_is_not_linear_is_refused_by_name():
    with pytest.raises(Incompatible, match="roberta model, which reads its last residual through"):
        unembedding(Model(built("roberta"), None, "roberta"))


def test_a_model_without_an_output_embedding_is_refused(monkeypatch):
    model = small_models.model("llama")
    monkeypatch.setattr(type(model.module), "get_output_embeddings", lambda _: None)
    with pytest.raises(Incompatible, match="no output embedding"):
        unembedding(model)


def test_a_model_that_changes_its_logits_is_refused(monkeypatch):
    model = small_models.model("llama")
    head = model.module.lm_head
    head.register_forward_hook(lambda module, args, out: out.square())
    monkeypatch.setattr(model, "check", lambda: None)
    forward = type(head).forward
    monkeypatch.setattr(type(head), "forward", lambda self, x: forward(self, x).square())
    with pytest.raises(Incompatible, match="changes what its head gives"):
        unembedding(model)


def test_what_is_measured_does_not_depend_on_an_open_steering():
    from feature_store.records import Site
    from sae_training.model.edits import Add

    model = small_models.model("gpt2")
    plain = unembedding(model)
    with model.steered(Add(5 * torch.ones(1, model.d_model), ("all",)), Site(1)):
        torch.testing.assert_close(unembedding(model).weight, plain.weight)
    assert not model.module.get_output_embeddings()._forward_pre_hooks
