"""The way of jobs/gemma-2-2b.toml, with random weights: a Gemma 2 and a Gemma Scope SAE in a fake
hub cache, no network.

The real converters run: sae-lens' registry finds the SAE, its Gemma Scope loader reads params.npz
at full width.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from tests.helpers import small_models
from workbench.study import Study

ROOT = Path(__file__).parents[2]
JOB = ROOT / "jobs" / "gemma-2-2b.toml"
COMMIT = "0" * 40


def snapshot(cache: Path, name: str) -> Path:
    folder = cache / f"models--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    (folder / "snapshots" / COMMIT).mkdir(parents=True)
    return folder / "snapshots" / COMMIT


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A hub cache with the job's model, 21 thin layers of Gemma 2's width, and the job's SAE."""
    cache = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    tokenizer = small_models.tokenizer()
    config = Gemma2Config(
        vocab_size=small_models.VOCABULARY,
        hidden_size=2304,
        intermediate_size=32,
        num_hidden_layers=21,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=256,
        sliding_window=64,
        bos_token_id=0,
        eos_token_id=1,
    )
    folder = snapshot(cache, "google/gemma-2-2b")
    Gemma2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    rng, width = np.random.default_rng(0), 16_384
    place = (
        snapshot(cache, "google/gemma-scope-2b-pt-res") / "layer_20" / "width_16k" / "average_l0_71"
    )
    place.mkdir(parents=True)
    decoder = rng.standard_normal((width, 2304), np.float32) / 48
    np.savez(
        place / "params.npz",
        W_enc=decoder.T.copy(),
        W_dec=decoder,
        b_enc=np.zeros(width, np.float32),
        b_dec=np.zeros(2304, np.float32),
        threshold=np.full(width, 2.5, np.float32),
    )
    return cache


def test_the_job_runs_from_the_hub_cache(hub, tmp_path):
    (tmp_path / "texts.txt").write_text(
        "\n\n".join(f"the cat sat on the mat and the dog ran to garden {i}" for i in range(30))
    )
    # The texts of a context are one text: whatever its mark, no feature can tell it.
    rows = [
        f"the dog ran to the garden {i % 3},{i % 2},{(i // 2) % 2},topic{i % 3}" for i in range(60)
    ]
    (tmp_path / "labelled.csv").write_text(
        "Premise,Power: dominance,Hedonism,Conclusion\n" + "\n".join(rows)
    )
    environment = os.environ | {
        "HF_HUB_CACHE": str(hub),
        "HF_HOME": str(hub),
        "HF_HUB_OFFLINE": "1",
    }
    study = tmp_path / "study"

    def workbench(*words: object) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "workbench.command.cli", *map(str, words)]
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False
        )

    adopted = workbench(
        "adopt",
        study,
        "--job",
        JOB,
        "--texts",
        tmp_path / "texts.txt",
        "--documents",
        30,
        "--layout",
        "pca",
    )
    assert adopted.returncode == 0, adopted.stderr
    labelled = workbench(
        *("label", study, "--job", JOB, "--labelled", tmp_path / "labelled.csv"),
        *("--labels", "", "--mode", "logprob"),
    )
    assert labelled.returncode == 0, labelled.stderr
    run = Study(study).runs.latest("sae")
    assert (run.summary["layer"], run.summary["d_model"], run.summary["n_features"]) == (
        20,
        2304,
        16_384,
    )
    assert run.inputs["model"] == COMMIT
    assert run.summary["live"] > 0
    refused = workbench("effects", study, "--job", JOB)
    assert refused.returncode == 2
    assert "No feature is labelled" in refused.stderr
    gone = workbench(
        "adopt",
        study,
        "--job",
        JOB,
        "--model",
        "google/gemma-2-9b",
        "--texts",
        tmp_path / "texts.txt",
    )
    assert gone.returncode == 2, gone.stderr
    assert "google/gemma-2-9b" in gone.stderr
    assert "Traceback" not in gone.stderr
