"""Memory: how much larger the largest process grows when an SAE is harvested on 4 times the texts.

1. A small SAE is trained on the organism (1,500 texts), so that there is one to adopt.
2. `workbench adopt` and `workbench train` are each run on `FEW` and on `MANY` texts of the
   organism, every time in a process of its own and in a fresh study; a process's peak is what the
   kernel says of it when it ends (`ru_maxrss`).
3. Figure: the peak on the many texts over that on the few, less 1, of the verb that grows more.

`FEW` is enough for the batches, the sample of the evaluation and the top contexts to be full, and
for all tokens of the training: the file of residuals, which is mapped into memory, is of one size
both times. Prediction, written before the change: 3 %, the 12,000 texts themselves and 4 bytes a
token.
"""

import glob
import os
import subprocess
import sys
import tempfile
from pathlib import Path

NAME = "memory"
REACH = 0.10
FEW, MANY = 4_000, 16_000
TRAINED = "--n-features 512 --k 20 --tokens 120000"


def peak(folder: Path, words: str) -> float:
    """Largest resident size of one command line [MiB]."""
    command = [sys.executable, "-m", "workbench.command.cli", *words.split()]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{words} ended with {os.waitstatus_to_exitcode(status)}.")
    return usage.ru_maxrss / 1024


def main() -> dict:
    """Reach: the peak grows by at most a tenth."""
    here = str(Path(__file__).resolve().parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory(prefix="workbench-") as place:
        folder = Path(place)
        peak(folder, f"train first --documents 1500 {TRAINED}")
        sae = glob.glob(f"{folder}/first/runs/sae-*/sae")[0]
        peaks = {}
        for verb, words in (("adopt", sae), ("train", TRAINED)):
            for texts in (FEW, MANY):
                size = peak(folder, f"{verb} {verb}-{texts} {words} --documents {texts}")
                peaks[f"{verb}, {texts} texts"] = size
                print(f"{verb} on {texts} texts: {size:.0f} MiB", flush=True)
    growth = {
        verb: peaks[f"{verb}, {MANY} texts"] / peaks[f"{verb}, {FEW} texts"] - 1
        for verb in ("adopt", "train")
    }
    value = max(growth.values())
    return {
        "name": NAME,
        "value": value,
        "reach": REACH,
        "holds": value <= REACH,
        "growth": growth,
        "peaks_mib": peaks,
    }
