"""Engines beside autograd, beside each other, and stopped in the middle."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from feature_store import registry
from feature_store.errors import BadInput, Incompatible
from sae_training.training.config import TrainingSettings
from sae_training.training.engines.fused import Fused
from sae_training.training.residual_files import CorpusSplit
from sae_training.training.streams import ActivationStream
from sae_training.training.train import CHECKPOINT, train, train_on_model
from tests.helpers import small_models

pytestmark = pytest.mark.slow_file

CPU = torch.device("cpu")
D = 32


class Planted:
    """Sparse sums of known unit directions."""

    def __init__(self, directions=64, active=3):
        g = torch.Generator().manual_seed(5)
        self.truth = functional.normalize(torch.randn(directions, D, generator=g), dim=1)
        self.active, self.at = active, 0
        self.held_out = self._draw(10**6)

    def _draw(self, seed):
        g = torch.Generator().manual_seed(seed)
        chosen = torch.rand(512, len(self.truth), generator=g).topk(self.active).indices
        return (torch.rand(512, self.active, 1, generator=g) + 0.5).mul(self.truth[chosen]).sum(1)

    def __next__(self):
        self.at += 1
        return self._draw(self.at)

    def state(self):
        return {"at": self.at}

    def restore(self, state):
        self.at = state["at"]


def config(**settings):
    return TrainingSettings(
        **{
            "n_features": 128,
            "k": 3,
            "tokens": 512 * 40,
            "batch_tokens": 512,
            "evaluate_every": 20,
            "checkpoint_every": 15,
            "lr": 3e-3,
            "lr_end": 3e-4,
            "dead_tokens": 2048,
            "warmup": 5,
        }
        | settings
    )


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
@pytest.mark.parametrize("dead", [False, True])
def test_hand_written_gradient_is_autograds(architecture, compiled, dead):
    engine, x = Fused(config(architecture=architecture, k=7), D, CPU), torch.randn(200, D)
    engine._compiled = compiled
    engine.dec.mul_(torch.rand(128, 1) + 0.5)
    engine.b_enc.normal_(std=0.1)
    engine.b_dec.normal_()
    if dead:
        engine.silent[50:90] = 10**6
    loss, _, gradients = engine.gradients(x)
    enc, dec, b_enc, b_dec = (
        p.double().requires_grad_() for p in (engine.enc, engine.dec, engine.b_enc, engine.b_dec)
    )
    norm = dec.norm(dim=1)
    pre = ((x - b_dec) @ enc.T + b_enc) * norm
    flat = pre.relu()
    bound = (
        flat.topk(7).values[:, -1:]
        if architecture == "topk"
        else flat.flatten().topk(7 * len(x)).values.min()
    )
    out = (flat * (flat >= bound)) @ (dec / norm[:, None]) + b_dec
    expected = (out - x).square().sum(1).mean()
    if dead:
        value, index = pre[:, 50:90].topk(D // 2)
        revived = (
            torch.zeros_like(pre[:, 50:90]).scatter(1, index, value) @ (dec / norm[:, None])[50:90]
        )
        expected = (
            expected + engine.settings.aux * (revived - (x - out).detach()).square().sum(1).mean()
        )
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for ours, theirs in zip(gradients, (enc, dec, b_enc, b_dec)):
        torch.testing.assert_close(
            ours.double(), theirs.grad, atol=1e-5 * float(theirs.grad.abs().max()), rtol=1e-4
        )


def test_selection_is_exact_with_ties_and_odd_widths():
    from sae_training.training import kernels

    for width, k in ((7, 3), (64, 64), (130, 5), (1000, 31)):
        pre = torch.randn(50, width)
        pre[10:30] = pre[10:30].round()
        index, value = torch.empty(50, k, dtype=torch.int32), torch.empty(50, k)
        kernels.select(pre.numpy(), k, index.numpy(), value.numpy())
        torch.testing.assert_close(
            value.sort(1).values, pre.topk(k).values.relu().sort(1).values, atol=0, rtol=0
        )
        torch.testing.assert_close(pre.gather(1, index.long()).relu(), value, atol=0, rtol=0)
        assert all(len(set(row)) == k for row in index.tolist())


@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
def test_both_engines_give_the_same_loss(architecture):
    stream, ours = Planted(), Fused(config(architecture=architecture), D, CPU)
    theirs = registry.get("engines", "sae-lens")(config(architecture=architecture), D, CPU)
    theirs.sae.W_enc.data.copy_(ours.enc.T)
    theirs.sae.W_dec.data.copy_(ours.dec)
    for _ in range(12):
        x = next(stream)
        assert ours.step(x)["loss"] == pytest.approx(
            theirs.step(x)["loss"], rel=1e-3
        )  # Adam turns rounding of near-zero gradients into whole steps


@pytest.mark.parametrize(
    "architecture", ["batchtopk", "matryoshka_batchtopk", "jumprelu", "gated", "standard"]
)
def test_sae_lens_trains_every_architecture_and_resumes(tmp_path, architecture):
    settings = config(
        engine="sae-lens", architecture=architecture, tokens=512 * 16, checkpoint_every=8
    )
    straight = train(Planted(), settings, D, tmp_path / "straight")

    def stop(done, total, metrics):
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(Planted(), settings, D, tmp_path / "broken", stop)
    resumed = train(Planted(), settings, D, tmp_path / "broken")
    for name, tensor in straight.sae.tensors().items():
        assert torch.equal(tensor, resumed.sae.tensors()[name]), name
    assert resumed.rows == straight.rows


def test_planted_dictionary_is_found(tmp_path):
    stream = Planted()
    result = train(stream, config(tokens=512 * 500), D, tmp_path)
    cosine = (functional.normalize(result.sae.W_dec, dim=1) @ stream.truth.T).max(0).values
    assert cosine.mean() > 0.9
    final = {row["metric"]: row["value"] for row in result.rows}
    assert final["held_out_fvu"] < 0.15


def test_batchtopk_keeps_k_at_inference(tmp_path):
    stream = Planted()
    sae = train(stream, config(architecture="batchtopk", tokens=512 * 60), D, tmp_path).sae
    assert sae.architecture == "jumprelu"
    assert float((sae.encode(stream.held_out) > 0).sum(1).float().mean()) == pytest.approx(
        3, rel=0.2
    )


def test_a_foreign_checkpoint_is_refused_and_a_damaged_one_made_again(tmp_path):
    whole = train(Planted(), config(tokens=512 * 4), D, tmp_path).sae
    with pytest.raises(Incompatible, match=r"other settings \(tokens\)"):
        train(Planted(), config(tokens=512 * 5), D, tmp_path)
    file = tmp_path / CHECKPOINT
    written = file.read_bytes()
    for size in (0, 4, 100, len(written) // 2, len(written) - 1):
        file.write_bytes(written[:size])
        with pytest.warns(UserWarning, match="no readable checkpoint .* starts anew"):
            again = train(Planted(), config(tokens=512 * 4), D, tmp_path).sae
        assert torch.equal(again.W_dec, whole.W_dec)


@pytest.mark.parametrize(
    "settings", [{"k": 200}, {"lr": float("nan")}, {"held_out": 0.0}, {"batch_tokens": 0}]
)
def test_settings_that_cannot_be_used(settings):
    with pytest.raises(BadInput):
        config(**settings)


def test_on_a_model_held_out_text_is_never_trained_on(tmp_path):
    texts = [f"the cat sat on the mat and then the dog ran to garden {i}" for i in range(40)]
    settings = config(
        layer=1,
        tokens=64 * 12,
        batch_tokens=64,
        buffer_tokens=200,
        context=32,
        rows=8,
        held_out=0.2,
        evaluate_every=6,
    )
    model = small_models.model("llama")
    stream = ActivationStream(model, texts, settings)
    assert len(stream.held_out_texts) == 8
    trained = [texts[i] for i in CorpusSplit.of(texts, settings).trained]
    assert set(trained) | set(stream.held_out_texts) == set(texts)
    assert not set(trained) & set(stream.held_out_texts)
    result = train_on_model(model, texts, settings, tmp_path)
    assert result.sae.site().layer == 1
    assert result.sae.metadata["model_name"] == "llama"
    told = result.evaluation
    assert told.loss_clean > 0
    assert told.kl_zero > told.kl_spliced >= 0
    assert 0 <= told.fvu < 1.5
    assert {"loss", "held_out_fvu", "final_kl_recovered"} <= {row["metric"] for row in result.rows}


def test_stream_continues_where_it_was():
    settings = config(batch_tokens=64, buffer_tokens=200, context=32, rows=4)
    texts = [f"the cat sat on the mat and then the dog ran to garden {i}" for i in range(30)]
    stream = ActivationStream(small_models.model("llama"), texts, settings)
    for _ in range(11):  # more than one epoch
        next(stream)
    place, following = stream.state(), [next(stream) for _ in range(6)]
    again = ActivationStream(small_models.model("llama"), texts, settings)
    again.restore(place)
    assert all(torch.equal(x, next(again)) for x in following)


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_training_continues_bit_for_bit(tmp_path, kind):
    program = textwrap.dedent("""
        import sys, time, torch
        from pathlib import Path
        from sae_training.training.train import train
        from tests.machine.test_train import Planted, config
        slow = len(sys.argv) > 2
        def progress(done, total, metrics):
            print(done, flush=True)
            time.sleep(0.05 if slow else 0)
        result = train(Planted(), config(), 32, Path(sys.argv[1]), progress)
        torch.save(result.sae.tensors(), sys.argv[1] + "/done.pt")
    """)
    here = Path(__file__).resolve().parents[2]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
        "PYTHONPATH": str(here),
    }

    def start(folder, *more):
        folder.mkdir(exist_ok=True)
        return subprocess.Popen(
            [sys.executable, "-c", program, str(folder), *more],
            env=environment,
            cwd=here,
            stdout=subprocess.PIPE,
            text=True,
        )

    broken = start(tmp_path / "broken", "slow")
    for line in broken.stdout:
        if int(line) >= 20:
            broken.send_signal(kind)
            break
    broken.stdout.read()
    assert broken.wait() != 0
    assert not (tmp_path / "broken" / "done.pt").exists()
    time.sleep(0.1)
    for folder in ("broken", "straight"):
        start(tmp_path / folder).communicate()
        assert (tmp_path / folder / "done.pt").exists()
    first, second = (
        torch.load(tmp_path / folder / "done.pt", weights_only=True)
        for folder in ("broken", "straight")
    )
    assert all(torch.equal(first[name], second[name]) for name in second)
