"""The triton engine beside the fused one: its kernels, its steps, its training.

`python -m pytest -m gpu tests/machine` on a machine with an NVIDIA GPU. With `TRITON_INTERPRET=1`
and Triton installed the same tests run on a processor, slowly.
"""

import os

import pytest
import torch

from feature_store.errors import BadInput
from sae_training.training.config import TrainingSettings
from sae_training.training.engines.fused import Fused
from sae_training.training.engines.triton import Triton
from sae_training.training.topk import TopKTraining

CPU = torch.device("cpu")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
D, FEATURES = 20, 60
on_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not INTERPRETED and not torch.cuda.is_available(), reason="needs an NVIDIA GPU"
    ),
]


class Exact(Triton):
    """The same kernels with products of float32, and on a processor where they are interpreted."""

    products = torch.float32

    def __init__(self, settings, d_model, device):
        TopKTraining.__init__(self, settings, d_model, device)
        self._prepare(self.dec.norm(dim=1))


class Rounded(Exact):
    products = torch.bfloat16


def config(**settings):
    return TrainingSettings(
        **{
            "n_features": FEATURES,
            "k": 7,
            "tokens": 10**9,
            "batch_tokens": 64,
            "lr": 3e-3,
            "warmup": 3,
            "dead_tokens": 64 * 1000,
        }
        | settings
    )


def batch(number, tokens=32):
    source = torch.Generator().manual_seed(number)
    return (torch.randn(tokens, D, generator=source) + 0.3).to(DEVICE)


def test_a_processor_is_refused():
    with pytest.raises(BadInput, match="needs an NVIDIA GPU.*--engine fused"):
        Triton(config(), D, CPU)


@pytest.mark.parametrize(("width", "k"), [(7, 3), (64, 64), (130, 5), (3000, 200)])
@pytest.mark.parametrize("kind", ["random", "ties", "equal", "negative"])
class TestSelect:
    pytestmark = on_gpu

    def test_the_largest_and_the_first_of_equal_ones(self, width, k, kind):
        from sae_training.training import triton_kernels as kernels

        source = torch.Generator().manual_seed(width)
        pre = torch.randn(20, width, generator=source)
        offset = torch.randn(width, generator=source)
        if kind == "ties":
            pre, offset = pre.round(), offset.round()
        if kind == "equal":
            pre, offset = torch.ones_like(pre), torch.zeros_like(offset)
        if kind == "negative":
            pre = -pre.abs() - offset.abs()
        index, value = kernels.select(pre.to(DEVICE), offset.to(DEVICE), k)
        whole = pre + offset
        expected = whole.topk(k, dim=1).values
        torch.testing.assert_close(value.cpu(), expected.relu(), atol=0, rtol=0)
        torch.testing.assert_close(
            whole.gather(1, index.cpu().long()).relu(), value.cpu(), atol=0, rtol=0
        )
        assert all(len(set(row)) == k for row in index.tolist())


@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
@pytest.mark.parametrize("dead", [False, True])
class TestSteps:
    pytestmark = on_gpu

    def test_each_step_is_the_fused_engines(self, architecture, dead):
        settings = config(architecture=architecture)
        ours, plain = Exact(settings, D, DEVICE), Fused(settings, D, DEVICE)
        start = ours.state()
        start["dec"] = start["dec"] * (torch.rand(FEATURES, 1).to(DEVICE) + 0.5)
        start["norms"] = start["dec"].norm(dim=1)
        start["b_enc"] = torch.randn(FEATURES).to(DEVICE) * 0.1
        if dead:
            start["silent"] = start["silent"].clone()
            start["silent"][20:40] = 10**6
        ours.restore(start)
        plain.restore(start)
        for number in range(4):
            x = batch(number, 32 if number < 3 else 20)
            mine, theirs = ours.step(x), plain.step(x)
            assert mine["loss"] == pytest.approx(theirs["loss"], rel=2e-5)
            assert mine["l0"] == pytest.approx(theirs["l0"], abs=1e-6)
            assert mine["dead_share"] == pytest.approx(theirs["dead_share"], abs=1e-6)
        for name in ("enc", "dec", "b_enc", "b_dec"):
            here, there = getattr(ours, name), getattr(plain, name)
            # Adam turns the rounding of gradients near zero into whole steps.
            assert (here - there).abs().quantile(0.99) < 1e-5, name
        assert torch.equal(ours.silent, plain.silent)
        assert ours.threshold == pytest.approx(plain.threshold, rel=1e-4, abs=1e-6)


class TestRounding:
    pytestmark = on_gpu

    def test_rounded_products_reach_the_same_loss(self):
        settings = config(tokens=64 * 60)
        engines = [Rounded(settings, D, DEVICE), Fused(settings, D, DEVICE)]
        for engine in engines:
            engine.begin(batch(1000))
        losses = [[engine.step(batch(i % 10))["loss"] for i in range(60)] for engine in engines]
        assert losses[0][-1] == pytest.approx(losses[1][-1], rel=0.02)
        assert losses[0][-1] < 0.8 * losses[0][0]

    def test_the_state_is_everything(self):
        settings = config(architecture="batchtopk")
        straight, broken = Rounded(settings, D, DEVICE), Rounded(settings, D, DEVICE)
        for number in range(3):
            straight.step(batch(number))
            broken.step(batch(number))
        resumed = Rounded(settings, D, DEVICE)
        resumed.restore(broken.state())
        for number in range(3, 6):
            assert straight.step(batch(number)) == resumed.step(batch(number))
        for name in ("enc", "dec", "b_enc", "b_dec"):
            assert torch.equal(getattr(straight, name), getattr(resumed, name))
