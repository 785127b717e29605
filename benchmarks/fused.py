"""Training speed of the fused engine beside sae-lens and sparsify, on equal work, and the loss each
reaches.

500,000 residuals of 128 numbers in memory (sparse sums of 512 random directions and noise), 2,048
features, k = 32, batches of 4,096, two threads, float32. On an accelerator, where there is one:
40,000 residuals of 2,304 numbers, 65,536 features, k = 64, the peers under bfloat16 autocast, as
they train there. All start from the same weights and see the same batches, in turn: one step of
each, over and over, so that a busy moment of the machine hits all of them.

1. fused TopK, sae-lens TopK, sparsify's SparseCoder with Adam (each as its project trains); fused
   BatchTopK, sae-lens BatchTopK. On an accelerator also the triton engine, TopK and BatchTopK, and
   the bound: the encoder's product and two products as large, one for each weight gradient, in
   bfloat16 and nothing else.
2. glibc gives large blocks back to the system at every free and pays for it in page faults; with
   two settings in the environment it does not. Everyone gets them: the benchmark starts itself anew
   with them.
3. The losses of fused and sae-lens, the same function, must agree to 1 % at every step; sparsify's
   decoder has unit rows and its loss is scaled, so its fraction of variance unexplained is shown
   beside theirs.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

NAME = "fused"
BATCH, THREADS = 4096, 2
STEPS, WARM = 40, 4
"""Timed steps of each, and steps before them."""
LR = 3e-4
REACH = {
    "cpu": {"sae-lens": 4.0, "sparsify": 1.8},
    "cuda": {"sae-lens": 3.0, "sparsify": 2.0, "bound": 0.6},
}
"""How many times faster a step is to be; on an accelerator also its share of the bound."""
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**34)}


class Size(NamedTuple):
    """How much there is to learn."""

    tokens: int
    """Residuals in memory."""
    width: int
    """Numbers in each."""
    features: int
    """Features of the dictionary."""
    k: int
    """Features active on a token."""


SIZES = {"cpu": Size(500_000, 128, 2048, 32), "cuda": Size(40_960, 2304, 65_536, 64)}
"""The work of each kind of device."""


def main() -> dict[str, Any]:
    """Run in a process whose memory allocation is set up equally well for everyone."""
    if any(os.environ.get(name) != value for name, value in MALLOC.items()):
        import json

        environment = (
            os.environ
            | MALLOC
            | {
                "OMP_NUM_THREADS": str(THREADS),
                "NUMBA_NUM_THREADS": str(THREADS),
            }
        )
        run = subprocess.run(
            [sys.executable, "-m", "benchmarks", NAME],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        lines = run.stdout.strip().splitlines()
        print("\n".join(lines[:-1]))
        return json.loads(lines[-1])
    return compare()


def residuals(size: Size) -> Any:
    """Sparse sums of random directions, with noise."""
    import torch

    source = torch.Generator().manual_seed(0)
    truth = torch.nn.functional.normalize(torch.randn(512, size.width, generator=source), dim=1)
    x = torch.randn(size.tokens, size.width, generator=source) * 0.1
    for part in x.split(20_000):
        chosen = torch.randint(512, (len(part), 16), generator=source)
        part += torch.nn.functional.embedding_bag(
            chosen,
            truth,
            per_sample_weights=torch.rand(chosen.shape, generator=source) * 4,
            mode="sum",
        )
    return x


def competitors(size: Size, device: Any) -> dict[str, Callable[[Any], float]]:
    """Name -> one training step that returns the mean squared error a token."""
    import torch
    from sae_lens import (
        BatchTopKTrainingSAE,
        BatchTopKTrainingSAEConfig,
        TopKTrainingSAE,
        TopKTrainingSAEConfig,
    )
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer
    from sparsify import SparseCoder
    from sparsify.config import SparseCoderConfig

    from sae_training.training.config import TrainingSettings
    from sae_training.training.engines.fused import Fused
    from sae_training.training.engines.triton import Triton

    on_gpu = device.type == "cuda"
    rounded = torch.autocast(device.type, torch.bfloat16, enabled=on_gpu)
    ways: dict[str, Callable[[Any], float]] = {}
    for architecture in ("topk", "batchtopk"):
        config = TrainingSettings(
            architecture=architecture,
            n_features=size.features,
            k=size.k,
            batch_tokens=BATCH,
            tokens=10**9,
            lr=LR,
            lr_end=LR,
            warmup=0,
            dead_tokens=1000 * BATCH,
        )
        engine = Fused(config, size.width, device)
        kind, settings = {
            "topk": (TopKTrainingSAE, TopKTrainingSAEConfig),
            "batchtopk": (BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig),
        }[architecture]
        sae = kind(settings(d_in=size.width, d_sae=size.features, k=size.k, device=str(device)))
        sae.W_enc.data.copy_(engine.enc.T)
        sae.W_dec.data.copy_(engine.dec)
        trainer = SAETrainer(
            SAETrainerConfig(
                total_training_samples=10**9,
                train_batch_size_samples=BATCH,
                lr=LR,
                lr_end=LR,
                device=str(device),
                autocast=on_gpu,
                logger=LoggingConfig(log_to_wandb=False),
            ),
            sae,
            iter(()),
        )

        def fused(x: Any, engine: Fused = engine) -> float:
            return engine.step(x)["loss"]

        def lens(x: Any, trainer: SAETrainer = trainer) -> float:
            output = trainer.step(x)
            trainer.n_training_steps += 1
            return float(output.loss)

        if architecture == "topk":
            coder = SparseCoder(
                size.width,
                SparseCoderConfig(num_latents=size.features, k=size.k),
                device=device,
                dtype=torch.float32,
            )
            coder.encoder.weight.data.copy_(engine.enc)
            coder.W_dec.data.copy_(engine.dec)
            optimizer = torch.optim.Adam(coder.parameters(), lr=LR, fused=True)

            def sparse(x: Any, coder: SparseCoder = coder, optimizer: Any = optimizer) -> float:
                with rounded:
                    out = coder(x)
                out.fvu.backward()
                coder.remove_gradient_parallel_to_decoder_directions()
                optimizer.step()
                optimizer.zero_grad()
                coder.set_decoder_norm_to_unit_norm()
                return float(out.fvu.detach()) * float((x - x.mean(0)).square().sum()) / len(x)

            ways["sparsify"] = sparse
        ways |= {f"fused {architecture}": fused, f"sae-lens {architecture}": lens}
        if on_gpu:
            compiled = Triton(config, size.width, device)

            def triton(x: Any, compiled: Triton = compiled) -> float:
                return compiled.step(x)["loss"]

            ways[f"triton {architecture}"] = triton
    return ways


def milliseconds(work: Callable[[], Any]) -> float:
    """Take the median time of some work on the accelerator."""
    import torch

    times = []
    for _ in range(WARM + STEPS):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[WARM:])


def products(size: Size, device: Any) -> dict[str, float]:
    """Time the dense products of a step, and reading activations, in bfloat16 [milliseconds]."""
    import torch

    from sae_training.dictionary.sae import SAE

    x, weights, back = (
        torch.randn(shape, device=device, dtype=torch.bfloat16)
        for shape in (
            (BATCH, size.width),
            (size.features, size.width),
            (BATCH, size.features),
        )
    )
    sae = SAE(
        W_enc=weights.T.contiguous(),
        W_dec=weights,
        b_enc=torch.zeros(size.features, device=device, dtype=torch.bfloat16),
        b_dec=torch.zeros(size.width, device=device, dtype=torch.bfloat16),
        architecture="topk",
        k=size.k,
    )
    return {
        "encoder product": milliseconds(lambda: x @ weights.T),
        "three products": milliseconds(lambda: (x @ weights.T, back.T @ x, back.T @ x)),
        "activations": milliseconds(lambda: sae.encode_sparse(x)),
    }


def compare() -> dict[str, Any]:
    """Steps in turn, medians, ratios."""
    import torch

    torch.set_num_threads(THREADS)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size, reach = SIZES[device.type], REACH[device.type]
    data, ways = residuals(size).to(device), competitors(size, device)
    order = torch.randperm(size.tokens, generator=torch.Generator().manual_seed(1))
    times: dict[str, list[float]] = {way: [] for way in ways}
    losses: dict[str, list[float]] = {way: [] for way in ways}
    for step in range(WARM + STEPS):
        # As many batches as the data holds, then from the start again.
        x = data[order.roll(-step * BATCH)[:BATCH]]
        for way, work in ways.items():
            start = time.perf_counter()
            losses[way].append(work(x))
            times[way].append(time.perf_counter() - start)
    times = {way: sorted(1000 * t for t in values[WARM:]) for way, values in times.items()}
    median = {way: statistics.median(values) for way, values in times.items()}
    print(
        f"{device.type}: {size.tokens} x {size.width}, {size.features} features, k {size.k}, batch"
        f" {BATCH}, {torch.get_num_threads()} threads, {STEPS} steps in turn"
    )
    for way, values in times.items():
        print(
            f"  {way:19} {median[way]:7.1f} ms a step  ({values[0]:.1f} to {values[-1]:.1f})   loss"
            f" at the last step {losses[way][-1]:.5f}"
        )
    ours = "triton" if device.type == "cuda" else "fused"
    value = {
        "sae-lens": median["sae-lens topk"] / median[f"{ours} topk"],
        "sparsify": median["sparsify"] / median[f"{ours} topk"],
    }
    batch = median["sae-lens batchtopk"] / median[f"{ours} batchtopk"]
    if device.type == "cuda":
        median |= products(size, device)
        value["bound"] = median["three products"] / median["triton topk"]
        print(
            f"  three dense products {median['three products']:.1f} ms, {value['bound']:.2f} of a"
            f" step; activations read in {median['activations']:.1f} ms, the encoder's product in"
            f" {median['encoder product']:.1f} ms"
        )
    gap = {
        kind: max(
            abs(a / b - 1) for a, b in zip(losses[f"{ours} {kind}"], losses[f"sae-lens {kind}"])
        )
        for kind in ("topk", "batchtopk")
    }
    print(
        f"  {ours}: TopK {value['sae-lens']:.2f} x sae-lens, {value['sparsify']:.2f} x sparsify;"
        f" BatchTopK {batch:.2f} x sae-lens; largest difference of the loss {max(gap.values()):.1e}"
    )
    return {
        "name": NAME,
        "value": value,
        "reach": reach,
        "holds": all(value[k] >= reach[k] for k in reach) and max(gap.values()) < 0.01,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "processor",
        "batchtopk_sae_lens": batch,
        "milliseconds": median,
        "loss_gap": gap,
        "loss": {way: values[-1] for way, values in losses.items()},
    }
