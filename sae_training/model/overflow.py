"""What is said where a model gives numbers that are none: NaN, or infinity.

A steering that is too strong does it, and a number format that ends before the model's numbers do.
"""

from typing import Any

import torch

from feature_store.errors import BadInput


def not_finite(model: Any, where: str, steered: bool) -> BadInput:
    """Make the refusal of results that are NaN or infinite, which came up at `where`.

    `model` is a `Runtime`. An unsteered one does so when its number format ends before its numbers
    do.

        raise not_finite(model, "Question 3", steered=False)
    """
    format = "float16 ends at 65504: load the model with --dtype bfloat16 or float32"
    narrow = model.dtype == torch.float16
    if steered:
        advice = f"Lower the strength{f', or, since {format}' if narrow else ''}."
    else:
        advice = f"Its numbers overflow: {format}." if narrow else "Its weights may be damaged."
    return BadInput(f"{where}: {model.name} gives NaN. {advice}")
