"""Keep freed memory in the process: training and sweeps allocate and free the same large tensors thousands of times.

glibc hands every large block back to the kernel and takes it again, zeroed page by page, which costs up to half of
the time on a processor. `keep` asks it to keep them (the same as MALLOC_MMAP_MAX_=0 and a large MALLOC_TRIM_THRESHOLD_
in the environment). The process stays as large as it once was. On other C libraries nothing happens.
"""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Numbers of the two settings in glibc's malloc.h."""


def keep() -> bool:
    """True where the allocator understood."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
