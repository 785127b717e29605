"""Dashboards: what all features of an SAE cost here, and in sae-dashboard on the same tokens.

1. An SAE of the organism (4,096 features) is trained. `ROWS` rows of `LENGTH` tokens are what both
   sides read: the organism's texts, joined and cut.
2. Ours: `adopt` (statistics, histograms, contexts with per-token activations, activations) and
   `describe` (promoted tokens, logit histograms, neighbours, co-activation), each in a process of
   its own. Bytes: the relations of both runs.
3. sae-dashboard, where `WORKBENCH_SAE_DASHBOARD` names the Python of an environment that has it
   (`pip install sae-dashboard "pyarrow<21"`): one process, its defaults, its page as HTML.
4. Seconds are of the processor, user and system, on one thread, with imports: wall time on a shared
   machine says little. The promoted and suppressed tokens of both sides are compared.

The two hold nearly the same: it also has samples of ten quantiles and correlations with neurons; we
have single activations, decoder neighbours and co-activation by PMI and Jaccard. Figure: its
processor seconds over ours. Without it ours are printed, and nothing is claimed.
"""

import glob
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from sae_training.engine.opening import open_model
from workbench.material import ORGANISM, model_address
from workbench.study import Study

NAME = "dashboards"
REACH = 20.0
SMALLER = 10.0
"""How many times as many bytes the peer must need."""
ROWS, LENGTH = 500, 96
FEATURES = 4_096
TRAINED = f"--n-features {FEATURES} --k 20 --tokens 120000 --documents 3000"
PEER = Path(__file__).with_name("_sae_dashboard.py")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def processor_seconds(command: list[str], **environment: str) -> float:
    """Run a command to its end; processor time of it and of its children [s]."""
    process = subprocess.Popen(
        command, env=os.environ | ONE_THREAD | environment, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{command[1:4]} ended with {os.waitstatus_to_exitcode(status)}.")
    return usage.ru_utime + usage.ru_stime


def workbench(*words: str) -> float:
    """Run a command line of the workbench [s of the processor]."""
    root = str(Path(__file__).resolve().parents[1])
    command = [sys.executable, "-m", "workbench.command.cli", *words]
    return processor_seconds(command, PYTHONPATH=root)


def rows_of_tokens() -> tuple[list[str], list[list[int]]]:
    """Texts of LENGTH tokens each, and their ids: those that are read again as they were cut."""
    from workbench.material import texts as read_texts

    model = open_model(model_address(ORGANISM))
    source = read_texts(ORGANISM, 6 * ROWS, 1, "", model).texts
    joined = [" ".join(source[at : at + 6]) for at in range(0, len(source), 6)]
    pieces = [row[:LENGTH] for row in model.tokenize(joined)]
    cut = [model.tokenizer.decode(row, skip_special_tokens=True) for row in pieces]
    pairs = zip(cut, pieces, model.tokenize(cut), strict=True)
    kept = [(text, row) for text, row, again in pairs if row == again and len(row) == LENGTH]
    return [text for text, _ in kept], [row for _, row in kept]


def ours(folder: Path, sae: str) -> dict[str, Any]:
    """Adopt the SAE on the texts, describe it, and say what both took."""
    study = str(folder / "ours")
    texts = str(folder / "texts.csv")
    seconds = {
        "adopt": workbench(
            *("adopt", study, sae, "--model", ORGANISM, "--texts", texts),
            *("--context", str(LENGTH)),
        ),
        "describe": workbench("describe", study),
    }
    files = [Path(file) for file in glob.glob(f"{study}/runs/*/*.parquet")]
    sizes = {file.stem: file.stat().st_size for file in files}
    return {"seconds": seconds, "bytes": sizes}


def peer(python: str, folder: Path, sae: str) -> dict[str, Any]:
    """Have sae-dashboard compute and write the same features."""
    out = folder / "peer"
    out.mkdir()
    command = [python, str(PEER), str(model_address(ORGANISM)), sae, str(folder / "ids.json")]
    seconds = processor_seconds([*command, str(FEATURES), str(out)])
    figures = json.loads((out / "figures.json").read_text())
    return {"seconds": seconds, "bytes": (out / "page.html").stat().st_size, **figures}


def agreement(study: Study, tables: dict[str, list[list[int]]]) -> float:
    """Share of the peer's promoted and suppressed tokens that are ours too [0 to 1]."""
    rows = study.store.sql("SELECT feature, side, id FROM token_logits")
    ids = {key: set(part.id) for key, part in rows.groupby(["feature", "side"])}
    shares = [
        len(ids[int(feature), side] & set(tokens)) / len(tokens)
        for feature, sides in tables.items()
        for side, tokens in zip(("promoted", "suppressed"), sides, strict=True)
    ]
    return sum(shares) / len(shares)


def main() -> dict[str, Any]:
    """Reach: 20 times as fast and 10 times as small, where the peer is there."""
    python = os.environ.get("WORKBENCH_SAE_DASHBOARD", "")
    with tempfile.TemporaryDirectory(prefix="workbench-") as place:
        folder = Path(place)
        workbench("train", str(folder / "first"), "--model", ORGANISM, *TRAINED.split())
        sae = glob.glob(f"{folder}/first/runs/sae-*/sae")[0]
        texts, ids = rows_of_tokens()
        lines = ["text", *(json.dumps(text) for text in texts)]
        (folder / "texts.csv").write_text("\n".join(lines) + "\n")
        (folder / "ids.json").write_text(json.dumps(ids))
        figures: dict[str, Any] = {"name": NAME, "rows": len(ids), "ours": ours(folder, sae)}
        study = Study(folder / "ours")
        figures["tokens"] = study.runs.latest("sae").summary["tokens"]
        seconds = sum(figures["ours"]["seconds"].values())
        sizes = figures["ours"]["bytes"]
        size = sum(sizes.values())
        if not python:
            print("WORKBENCH_SAE_DASHBOARD names no Python: ours alone, nothing is claimed.")
            return figures | {"value": seconds, "reach": None, "holds": True}
        theirs = peer(python, folder, sae)
        figures["agreement"] = agreement(study, theirs.pop("tokens"))
    faster, smaller = theirs["seconds"] / seconds, theirs["bytes"] / size
    return figures | {
        "value": faster,
        "reach": REACH,
        "holds": faster >= REACH and smaller >= SMALLER,
        "smaller": smaller,
        "smaller_without_single_activations": theirs["bytes"] / (size - sizes["activations"]),
        "peer": theirs,
    }
