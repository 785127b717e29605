"""What an SAE's makers say of it: how many features fire, how much they leave unexplained.

Beside what is measured on a study's own texts, these figures tell whether the SAE was given the
activations that it was made for: another layer, another model or another reading shows in both.

1. They come from the metadata in `cfg.json`, from an evaluation that lies beside it (`*eval*.json`,
   as sae-lens writes it), and L0 from `sparsity.safetensors`, whose densities add up to it.
2. `doubts` compares them with the measured figures. The limits are wide: other texts alone move L0
   by a half and FVU by a tenth.

Left out: figures in a README, which a person reads better.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from feature_store.errors import WorkbenchError
from feature_store.files import SETTINGS, read_json

L0_NAMES = ("l0", "L0")
EXPLAINED = ("explained_variance", "variance_explained", "frac_variance_explained")
UNEXPLAINED = ("fvu", "FVU", "fraction_variance_unexplained")
FILES, DEPTH = 8, 5
"""Evaluations that are looked at, and levels of nesting within one."""
L0_RATIO = 2.0
"""Measured L0 over the stated one, or under it, beyond which it is far off."""
FVU_WORSE = 0.2
"""Measured FVU above the stated one beyond which it is far off."""
MEAN = 1.0
"""FVU of the mean residual, which no SAE should be worse than."""


@dataclass(frozen=True)
class Claims:
    """An SAE's figures as its makers state them."""

    l0: float | None = None
    """Mean number of active features [features a token]; None: not stated."""
    fvu: float | None = None
    """Fraction of variance unexplained [0 is perfect]; None: not stated."""


NONE = Claims()


def of_metadata(fields: Mapping[str, Any]) -> Claims:
    """Read the figures that metadata or an evaluation state, at any depth."""
    l0 = _find(fields, L0_NAMES, DEPTH)
    explained = _find(fields, EXPLAINED, DEPTH)
    unexplained = _find(fields, UNEXPLAINED, DEPTH)
    if unexplained is None and explained is not None:
        unexplained = 1 - explained
    # A percentage, or a slip, states nothing.
    return Claims(
        l0=l0 if l0 is not None and l0 > 0 else None,
        fvu=unexplained if unexplained is not None and unexplained >= 0 else None,
    )


def of_folder(folder: Path, metadata: Mapping[str, Any], features: int) -> Claims:
    """Read the figures that a folder states: its metadata first, then what lies beside them."""
    sources = [of_metadata(metadata)]
    for file in sorted(folder.glob("*eval*.json"))[:FILES]:
        try:
            content = read_json(file, SETTINGS, finite=False)
        except WorkbenchError:  # whatever it is, it states nothing
            continue
        if isinstance(content, dict):
            sources.append(of_metadata(content))
    l0 = [source.l0 for source in sources if source.l0 is not None]
    fvu = [source.fvu for source in sources if source.fvu is not None]
    if not l0:
        l0 = _summed_density(folder / "sparsity.safetensors", features)
    return Claims(l0=l0[0] if l0 else None, fvu=fvu[0] if fvu else None)


def doubts(claims: Claims, l0: float, fvu: float) -> str:
    """Say what speaks against the SAE having been given its activations; empty where nothing does.

    doubts(Claims(l0=60.0), l0=410.0, fvu=1.7)
    """
    reasons = []
    if fvu >= MEAN:
        reasons.append(f"it rebuilds the residual worse than its mean would (FVU {fvu:.3g})")
    elif claims.fvu is not None and fvu > claims.fvu + FVU_WORSE:
        reasons.append(f"its FVU is {fvu:.3g}, its makers state {claims.fvu:.3g}")
    if claims.l0 is not None and not claims.l0 / L0_RATIO <= l0 <= claims.l0 * L0_RATIO:
        reasons.append(f"{l0:.3g} features fire on a token, its makers state {claims.l0:.3g}")
    if not reasons:
        return ""
    return (
        f"the SAE does not seem to get the activations that it was made for: {'; '.join(reasons)}."
        " Check model, layer and texts."
    )


def _find(fields: Any, names: tuple[str, ...], depth: int) -> float | None:
    """Find the first finite number of one of some names in nested objects."""
    if not isinstance(fields, Mapping) or depth == 0:
        return None
    for name in names:
        value = fields.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    for value in fields.values():
        below = _find(value, names, depth - 1)
        if below is not None:
            return below
    return None


def _summed_density(file: Path, features: int) -> list[float]:
    """Add up the densities that sae-lens wrote as logarithms; empty where there are none."""
    if not file.is_file():
        return []
    try:
        logarithms = load_file(file).get("sparsity")
    except (SafetensorError, ValueError, OSError):  # whatever it is, it states nothing
        return []
    if logarithms is None or tuple(logarithms.shape) != (features,):
        return []
    total = float((10.0 ** logarithms.double()).sum())
    return [total] if 0 < total <= features else []
