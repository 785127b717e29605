"""`python -m benchmarks` lists the benchmarks, `python -m benchmarks NAME ...` runs them."""

import importlib
import json
import math
import pkgutil
import platform
import sys
from typing import Any

import benchmarks
from feature_store.errors import nearest


def _plain(value: Any) -> Any:
    """JSON knows no NaN and no NumPy."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return None if not math.isfinite(value) else round(value, 6)
    return value


def main(names: list[str]) -> int:
    """Run the named benchmarks; the exit code is 1 where a figure does not reach."""
    known = sorted(
        m.name for m in pkgutil.iter_modules(benchmarks.__path__) if not m.name.startswith("_")
    )
    if not names:
        for name in known:
            print(
                f"{name:12}"
                f" {(importlib.import_module(f'benchmarks.{name}').__doc__ or '').splitlines()[0]}"
            )
        return 0
    missed = False
    for name in names:
        if name not in known:
            print(f"There is no benchmark {name!r}.{nearest(name, known)}", file=sys.stderr)
            return 2
        figures = importlib.import_module(f"benchmarks.{name}").main()
        figures |= {"machine": f"{platform.machine()}, Python {platform.python_version()}"}
        print(json.dumps(_plain(figures)), flush=True)
        missed |= not figures["holds"]
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
