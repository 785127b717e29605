"""What features write into the logits and which are nearest, beside the plain computation."""

import numpy as np
import pytest
import torch
from torch import nn

from sae_training.dictionary import footprint
from sae_training.dictionary.footprint import DecoderNeighbours, Footprints, null_cosines
from sae_training.dictionary.sae import SAE
from sae_training.model.unembedding import unembedding
from tests.helpers import small_models

TOP = 6


def sae_of(rows):
    """An SAE with these decoder rows."""
    return SAE(
        W_enc=rows.T.contiguous(),
        W_dec=rows,
        b_enc=torch.zeros(len(rows)),
        b_dec=torch.zeros(rows.shape[1]),
    )


def final_norm(module, family):
    return module.transformer.ln_f if family == "gpt2" else module.model.norm


def naive(module, family, rows):
    """The logit lens as TransformerLens folds it: weight into the head, both centred."""
    head = module.get_output_embeddings().weight.detach()
    folded = head * final_norm(module, family).weight.detach()
    if family == "gpt2":
        folded = folded - folded.mean(1, keepdim=True)
    folded = folded - folded.mean(0, keepdim=True)
    return rows @ folded.T


@pytest.fixture(params=["llama", "gpt2"])
def lens(request):
    """A small model with an uneven final norm, an SAE, and the naive logits of its features."""
    model = small_models.model(request.param)
    norm = final_norm(model.module, request.param)
    with torch.no_grad():
        norm.weight += torch.linspace(-0.5, 0.5, model.d_model)
    sae = small_models.topk_sae()
    return model, sae, naive(model.module, request.param, sae.W_dec)


def test_promoted_and_suppressed_tokens_are_those_of_the_plain_computation(lens):
    model, sae, logits = lens
    logits = logits[:, : len(model.tokenizer)]
    logits = logits - logits.mean(1, keepdim=True)
    rows = Footprints(model, unembedding(model), sae, TOP).of(0).token_logits.to_pandas()
    assert len(rows) == sae.n_features * TOP * 2
    for (feature, side), part in rows.groupby(["feature", "side"]):
        sign = 1 if side == "promoted" else -1
        expected = (sign * logits[feature]).topk(TOP)
        assert part["rank"].tolist() == list(range(TOP))
        assert part.id.tolist() == expected.indices.tolist()
        np.testing.assert_allclose(part.logit, sign * expected.values, rtol=1e-3, atol=1e-4)
    assert rows.token[rows.id == model.tokenize(["the"])[0][-1]].isin(["the"]).all()


def test_shapes_are_the_moments_and_bins_of_all_logits(lens):
    model, sae, logits = lens
    logits = logits[:, : len(model.tokenizer)].double()
    logits = logits - logits.mean(1, keepdim=True)
    rows = Footprints(model, unembedding(model), sae, TOP).of(0).logit_shapes.to_pandas()
    sd = logits.square().mean(1).sqrt()
    z = logits / sd[:, None]
    for name, expected in (
        ("sd", sd),
        ("skewness", (z**3).mean(1)),
        ("kurtosis", (z**4).mean(1)),
        ("smallest", logits.amin(1)),
        ("largest", logits.amax(1)),
    ):
        np.testing.assert_allclose(rows[name], expected, rtol=2e-3, atol=1e-3)
    for feature, bins in enumerate(rows.bins):
        assert bins.sum() == logits.shape[1]
        counts, _ = np.histogram(logits[feature], footprint.BINS)
        assert np.abs(counts - bins).sum() <= 4  # one at the edge of a bin may fall either way


def test_blocks_change_nothing(lens, monkeypatch):
    model, sae, _ = lens
    whole = Footprints(model, unembedding(model), sae, TOP)
    near = DecoderNeighbours(sae, TOP, 0)
    assert len(whole.blocks) == len(near.blocks) == 1
    monkeypatch.setattr(footprint, "HELD", 4_000)
    cut = Footprints(model, unembedding(model), sae, TOP)
    assert len(cut.blocks) > 2
    parts = [cut.of(start).token_logits.to_pandas() for start in cut.blocks]
    expected = whole.of(0).token_logits.to_pandas()
    assert sum(map(len, parts)) == len(expected)
    assert [id for part in parts for id in part.id] == expected.id.tolist()
    monkeypatch.setattr(footprint, "HELD", 400)
    small = DecoderNeighbours(sae, TOP, 0)
    parts = [small.of(start).to_pandas() for start in small.blocks]
    assert len(parts) == 4
    assert [n for part in parts for n in part.neighbour] == near.of(
        0
    ).to_pandas().neighbour.tolist()


def test_neighbours_are_the_largest_cosines_and_never_the_feature_itself():
    sae = sae_of(torch.randn(30, small_models.WIDTH, generator=torch.Generator().manual_seed(1)))
    rows = DecoderNeighbours(sae, TOP, 0).of(0).to_pandas()
    unit = nn.functional.normalize(sae.W_dec, dim=1)
    cosine = (unit @ unit.T).fill_diagonal_(-1)
    for feature, part in rows.groupby("feature"):
        expected = cosine[feature].topk(TOP)
        assert part.neighbour.tolist() == expected.indices.tolist()
        np.testing.assert_allclose(part.cosine, expected.values, rtol=1e-4)


def test_random_rows_say_what_chance_gives():
    """Random decoders are as near as the null says, and a copied row is nearer."""
    rows = torch.randn(400, 16, generator=torch.Generator().manual_seed(2))
    rows[1] = 3 * rows[0]
    table = DecoderNeighbours(sae_of(rows), 3, 0).of(0).to_pandas()
    nearest = table[table["rank"] == 0]
    above = (nearest.cosine > nearest.null_high).mean()
    assert 0.005 < above < 0.06
    assert nearest.neighbour[nearest.feature == 0].item() == 1
    assert nearest.cosine[nearest.feature == 0].item() == pytest.approx(1)
    assert (null_cosines(4_000, 16, 1, 0) > null_cosines(40, 16, 1, 0)).all()


def test_a_row_of_length_0_writes_nothing_and_is_nobody_s_neighbour():
    model = small_models.model("llama")
    rows = small_models.topk_sae().W_dec.clone()
    rows[[0, 7]] = 0
    sae = sae_of(rows)
    block = Footprints(model, unembedding(model), sae, TOP).of(0)
    for table in (block.token_logits, block.logit_shapes):
        assert set(table["feature"].to_pylist()) == set(range(40)) - {0, 7}
    near = DecoderNeighbours(sae, 39, 0).of(0).to_pandas()
    assert not {0, 7} & {*near.feature, *near.neighbour}
    assert (near.groupby("feature").size() == 37).all()


def test_one_feature_has_tokens_and_no_neighbour():
    model = small_models.model("llama")
    sae = sae_of(torch.ones(1, small_models.WIDTH))
    block = Footprints(model, unembedding(model), sae, 10_000).of(0)
    assert block.token_logits.num_rows == 2 * len(model.tokenizer)  # no more than there are
    assert DecoderNeighbours(sae, TOP, 0).of(0).num_rows == 0


def test_tokens_beyond_the_tokenizer_are_left_out():
    """A head that is padded to a round size has rows that no text has."""
    model = small_models.model("llama")
    head = model.module.get_output_embeddings()
    with torch.no_grad():
        head.weight[len(model.tokenizer) :] = 100
    rows = Footprints(model, unembedding(model), small_models.topk_sae(), TOP).of(0)
    assert max(rows.token_logits["id"].to_pylist()) < len(model.tokenizer) <= len(head.weight)


def test_random_directions_have_a_null_of_their_logits():
    model = small_models.model("llama")
    null = Footprints(model, unembedding(model), small_models.topk_sae(), TOP).null(0)
    assert 2 < null.peak < 6
    assert 2 < null.kurtosis < 6
