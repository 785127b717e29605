"""What a process asks of the C library and of OpenMP before it loads torch.

1. `keep_memory`: training and sweeps allocate and free the same large tensors thousands of times.
   glibc hands every large block back to the kernel and takes it again, zeroed page by page, which
   costs up to half of the time on a processor. It is asked to keep them (the same as
   MALLOC_MMAP_MAX_=0 and a large MALLOC_TRIM_THRESHOLD_ in the environment). The process stays as
   large as it once was.
2. `wait_briefly`: between two parallel loops the threads of GNU's OpenMP (torch's and numba's, a
   pool each) stay awake for some 10 ms and keep other work from their cores. Two trainings at once
   then take several times as long as one after the other (`python -m benchmarks together`).

Left out: other C libraries and other OpenMPs, where nothing happens; and torch's own pool where
torch was imported before this package.
"""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Numbers of the two settings in glibc's malloc.h."""
ROUNDS = 20_000
"""Rounds that a thread waits awake, of 300,000: these cost one job alone up to a tenth of its
speed, 5,000 up to a quarter; 100,000 help two jobs little."""


def keep_memory() -> bool:
    """Ask the C library to keep large blocks; true where it understood."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(
        mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    )


def wait_briefly() -> None:
    """Let idle threads give up their cores soon, unless the environment says how to wait."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(ROUNDS))
