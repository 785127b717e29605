"""What a family is: measured, told apart, and refused by name where it cannot be read.

Every family is tried by `test_every_family.py`, in minutes; here is one of each kind.
"""

import re

import pytest
import torch

from benchmarks._small_families import built
from benchmarks.families import outcome
from feature_store.errors import BadInput, Incompatible
from feature_store.records import Site
from sae_training.engine.generate import continuations
from sae_training.engine.model import Model
from sae_training.engine.resume import resumable
from sae_training.model import families
from sae_training.model.edits import Add
from tests.helpers import small_models

SPREAD = {
    "llama": "remembers as past_key_values; resumed, answers as a tree",
    "bloom": "remembers as past_key_values; resumed",
    "roberta": "remembers as past_key_values",
    "bart": "remembers as past_key_values",
    "mamba": "remembers as cache_params; full passes",
    "rwkv": "reads the whole text for each token, padding on the left is read; full passes",
    "recurrent_gemma": "padding on the left is read; full passes",
    "xlstm": "reads the whole text for each token, padding on the left is read",
    "openai-gpt": "reads the whole text for each token",
    "jamba": "full passes",
}
"""One family of each kind -> what is noted of it."""


@pytest.mark.parametrize("family", SPREAD)
def test_a_family_of_each_kind_is_right(family):
    result = outcome(family)
    assert result.verdict == "right", result.line
    assert SPREAD[family] in result.line


@pytest.mark.parametrize(
    ("family", "why"),
    [
        ("gemma3n_text", "passes .* between its layers, not one residual"),
        ("xlnet", "xlnet model"),
        ("reformer", "reformer model"),
    ],
)
def test_a_family_that_cannot_be_read_is_refused_by_name(family, why):
    result = outcome(family)
    assert result.verdict == "refused", result.line
    assert re.search(why, result.line)
    assert family.split("_")[0] in result.line
    assert result.line.isprintable()


def test_a_model_that_reads_both_ways_is_refused():
    from transformers import AutoModelForCausalLM, BertConfig

    config = BertConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=4)
    model = Model(AutoModelForCausalLM.from_config(config).eval(), small_models.tokenizer(), "tiny")
    for call in (
        lambda: model.generate(["the cat"], 2),
        lambda: model.score(["the cat"], [" sat"]),
        lambda: model.residuals(torch.tensor([[5, 6]]), torch.ones(1, 2).bool(), Site(0)),
    ):
        with pytest.raises(Incompatible, match="bert model, which lets a token see what comes"):
            call()


def test_padding_that_would_be_read_is_refused():
    model = Model(built("rwkv"), None, "tiny")
    ids = torch.tensor([[0, 0, 7, 8, 9]])
    mask = torch.tensor([[False, False, True, True, True]])
    with pytest.raises(BadInput, match="reads padding on the left"):
        model.logits(ids, mask)
    right = model.logits(ids.roll(-2, 1), mask.roll(-2, 1))[0, :3]
    torch.testing.assert_close(right, model.logits(ids[:, 2:], mask[:, 2:])[0])


@pytest.mark.parametrize("family", ["llama", "mamba"])
def test_what_a_family_is_does_not_depend_on_when_it_is_measured(family):
    """Measured first inside a steered block, or first outside of it."""
    prompts = [[5, 6, 7, 8], [9, 10, 11, 12, 13, 14]]
    steered = []
    for first in (True, False):
        model = Model(built(family), None, family)
        if first:
            assert model.memory
            assert resumable(model) == (family == "llama")
        with model.steered(Add(5 * torch.ones(1, model.d_model), ("all",)), Site(1)):
            steered.append(continuations(model, prompts, 5, 0.0, 0))
        assert (model.memory, model.padding_read) == (
            {"llama": "past_key_values", "mamba": "cache_params"}[family],
            frozenset(),
        )
        assert not any(layer._forward_hooks for layer in model.layers)
    assert steered[0] == steered[1]


def test_a_rounded_model_reads_padding_where_its_family_does():
    for family in sorted(families.PADDING_READERS)[::4]:
        module = built(family)
        assert not isinstance(module, str)
        model = Model(module.bfloat16(), None, family)
        assert "left" in model.padding_read
