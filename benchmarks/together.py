"""Two jobs on one machine: how long two trainings take at once, with threads that wait briefly and
as OpenMP has them wait.

1. A job trains an SAE on the organism (300,000 tokens) in a process of its own, with as many
   threads as it takes by itself.
2. In turn, three times: one job alone; two at once with our waiting (`sae_training/process.py`);
   two at once with OpenMP's own.
3. Figure: seconds of two at once over seconds of one alone, the least of the turns: what others
   take of a shared machine is not counted. Sharing fairly it is 2. A job's seconds are those of its
   training, without imports and compilation.
"""

import os
import subprocess
import sys

NAME = "together"
REACH = 3.0
TURNS = 3
OWN = {"GOMP_SPINCOUNT": "300000"}
"""What GNU's OpenMP does when nothing is said."""
JOB = """
import tempfile, time
from pathlib import Path
from workbench import Study

study = Study(Path(tempfile.mkdtemp()) / "study")
study.train(model="organism", documents=100, tokens=4_096)
start = time.perf_counter()
study.train(model="organism", documents=2_000, tokens=300_000)
print(time.perf_counter() - start)
"""


def jobs(count: int, environment: dict[str, str]) -> float:
    """Seconds that the slowest of so many jobs at once took."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", JOB],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(count)
    ]
    told = [process.communicate()[0] for process in started]
    if failed := sum(process.returncode != 0 for process in started):
        raise RuntimeError(f"{failed} of {count} trainings failed.")
    return max(float(text.split()[-1]) for text in told)


def main() -> dict:
    """Reach: two at once take at most 3 times as long as one alone."""
    ways: dict[str, list[float]] = {"alone": [], "together": [], "together, OpenMP's waiting": []}
    for turn in range(TURNS):
        for way, count, environment in zip(ways, (1, 2, 2), ({}, {}, OWN), strict=True):
            ways[way].append(jobs(count, environment))
            print(f"turn {turn + 1}, {way}: {ways[way][-1]:.1f} s", flush=True)
    alone, ours, own = map(min, ways.values())
    return {
        "name": NAME,
        "value": ours / alone,
        "reach": REACH,
        "holds": ours / alone <= REACH,
        "openmp": own / alone,
        "seconds": ways,
    }
