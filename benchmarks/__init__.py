"""Figures, each printed by one command: `python -m benchmarks NAME`.

A benchmark is one module here with `NAME`, a docstring and `main() -> dict`; the dict is printed as
the last line, `{"name", "value", "reach", "holds", ...}`. Where a peer is compared, both run in
that one command, interleaved.
"""

import workbench  # noqa: F401 - before torch, as every user of the command line has it
