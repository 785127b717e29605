"""The same figures on an accelerator as on the processor: `python -m pytest -m gpu tests/machine`.

Every test makes or opens one model twice, on the processor and on the accelerator. Texts must be
the same, log-probabilities equal to 2e-3 nats: what float32 leaves after another order of sums.
"""

import numpy as np
import pytest
import torch

from feature_store.records import Site, Steering
from sae_training.dictionary.harvest import harvest
from sae_training.dictionary.texts import Corpus, batches
from sae_training.engine.opening import open_model
from sae_training.engine.scoring import full_scores, sweep_ids
from sae_training.training.config import TrainingSettings
from sae_training.training.train import train_on_model
from tests.helpers import small_models
from workbench.material import model_address
from workbench.organism.generate import training_texts
from workbench.steering.methods import StrengthScale, build_edit

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator"),
]

NATS = 2e-3
OPTIONS = [[11], [12], [13, 14], [13, 15, 16]]
STEERINGS = [
    Steering(features=((0, 1.0), (1, -0.5)), method="add", strength=1.0, positions="all"),
    Steering(
        features=((2, 1.0),), method="clamp", strength=2.0, unit="feature_max", positions="prompt"
    ),
    Steering(features=((3, 1.0),), method="ablate", strength=1.0, unit="raw", positions="all"),
    Steering(features=((4, 1.0),), method="orthogonal", strength=2.0, unit="raw", positions="last"),
]


@pytest.fixture(scope="module")
def organisms():
    """The shipped organism on the processor and on the accelerator."""
    address = model_address("organism")
    return open_model(address, device="cpu"), open_model(address, device="cuda")


@pytest.fixture(scope="module")
def texts():
    return training_texts(200, seed=0)


@pytest.mark.parametrize("family", small_models.CONFIGS)
def test_scores_of_a_steered_sweep(family):
    source = torch.Generator().manual_seed(1)
    start = torch.randint(300, (12,), generator=source).tolist()
    prompts = [start + torch.randint(300, (3 + n,), generator=source).tolist() for n in range(5)]
    scale = StrengthScale(5.0, torch.full((40,), 3.0))
    edit = build_edit(STEERINGS, small_models.TinySAE(), scale)
    cpu, gpu = small_models.model(family), small_models.model(family)
    gpu.module.to("cuda")
    expected = sweep_ids(cpu, prompts, OPTIONS, edit, Site(1))
    scores = sweep_ids(gpu, prompts, OPTIONS, edit, Site(1))
    torch.testing.assert_close(scores.base.cpu(), expected.base, atol=NATS, rtol=0)
    torch.testing.assert_close(scores.steered.cpu(), expected.steered, atol=NATS, rtol=0)
    assert (expected.steered - expected.base).abs().max() > 1e-2
    for row in range(edit.rows):
        with gpu.steered(edit.take(torch.tensor([row])), Site(1)):
            full = full_scores(gpu, prompts, OPTIONS)
        torch.testing.assert_close(full.cpu(), scores.steered[row].cpu(), atol=NATS, rtol=0)


def test_greedy_texts_in_a_batch_and_alone(organisms, texts):
    cpu, gpu = organisms
    prompts = [" ".join(text.split()[:4]) for text in texts[:24]]
    assert len({len(ids) for ids in gpu.tokenize(prompts)}) > 1
    written = gpu.generate(prompts, 20)
    alone = [gpu.generate([prompt], 20)[0] for prompt in prompts]
    expected = cpu.generate(prompts, 20)
    # Two tokens can be equally likely up to rounding; then a text may part there.
    assert np.mean([a == b for a, b in zip(written, alone, strict=True)]) >= 0.95
    assert np.mean([a == b for a, b in zip(written, expected, strict=True)]) >= 0.9


def test_sampled_texts_come_back(organisms, texts):
    _, gpu = organisms
    prompts = [" ".join(text.split()[:4]) for text in texts[:8]]
    one, again, other = (gpu.generate(prompts, 20, 0.9, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_losses_in_three_number_formats(organisms, texts):
    cpu, gpu = organisms
    for batch in batches(cpu, Corpus(texts[:32], rows=32, context=64)):
        expected = cpu.loss(batch.ids, batch.mask)
        torch.testing.assert_close(
            gpu.loss(batch.ids, batch.mask).cpu(), expected, atol=NATS, rtol=0
        )
        for dtype in ("bfloat16", "float16"):
            half = open_model(model_address("organism"), dtype=dtype, device="cuda")
            loss = half.loss(batch.ids, batch.mask).cpu().float()
            assert torch.isfinite(loss).all()
            assert (loss - expected).abs().mean() < 0.05


@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
def test_training_and_harvest(organisms, texts, architecture, tmp_path):
    cpu, gpu = organisms
    settings = TrainingSettings(
        n_features=256,
        k=8,
        tokens=120_000,
        batch_tokens=2048,
        architecture=architecture,
        evaluate_every=50,
        cache=False,
        rows=32,
    )
    fvus = {}
    for name, model in (("cpu", cpu), ("cuda", gpu)):
        result = train_on_model(model, texts, settings, tmp_path / name)
        fvus[name] = result.evaluation.fvu
        sae = result.sae
    assert fvus["cuda"] == pytest.approx(fvus["cpu"], abs=0.03)
    corpus = Corpus(texts[:64], rows=16, context=64)
    on_cpu = harvest(cpu, sae.to(torch.device("cpu")), corpus, Site(1))
    on_gpu = harvest(gpu, sae.to(torch.device("cuda")), corpus, Site(1))
    assert on_gpu.tokens == on_cpu.tokens
    assert on_gpu.norm_median == pytest.approx(on_cpu.norm_median, rel=1e-4)
    counts = [table.features["n_active"].to_numpy() for table in (on_cpu, on_gpu)]
    # A feature at its threshold may fall to either side.
    assert np.abs(counts[0] - counts[1]).sum() <= 0.005 * counts[0].sum()
    strongest = [table.features["max_activation"].to_numpy() for table in (on_cpu, on_gpu)]
    np.testing.assert_allclose(strongest[0], strongest[1], atol=1e-2)
