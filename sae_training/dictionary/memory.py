"""Whether an SAE fits into memory, said before any work starts.

1. `available` asks the kernel how much can still be taken (`MemAvailable`), and the process's
   control group for its own limit; on an accelerator it asks the accelerator.
2. `require` refuses what needs more, with both numbers.

Left out: swap, which makes such work slower than it is worth.
"""

from pathlib import Path

import torch

from feature_store.errors import BadInput

LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)
"""Where a control group says how much memory it may take, and how much it takes [bytes]."""
UNKNOWN = 2**62
"""More than any machine has: where nobody says how much there is [bytes]."""


def available(device: torch.device | str = "cpu") -> int:
    """Say how much memory can still be taken [bytes]."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = UNKNOWN
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = 1024 * int(line.split()[1])
    except OSError:  # another system than Linux: nobody is asked
        return UNKNOWN
    for limit, used in LIMITS:
        try:
            free = min(free, int(limit.read_text()) - int(used.read_text()))
        except (OSError, ValueError):  # no such group, or a limit of `max`
            continue
    return max(free, 0)


def require(needed: int, purpose: str, remedy: str, device: torch.device | str = "cpu") -> None:
    """Raise BadInput where `purpose` needs more memory than there is [bytes].

    require(4 * 10**12, "An SAE of 10,000,000 features", "Take fewer (--n-features).")
    """
    free = available(device)
    if needed > free:
        raise BadInput(
            f"{purpose} takes about {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free."
            f" {remedy}"
        )
