"""Compiled loops of the fused engine on a CPU (numba; imported only there).

1. `select`: the k largest of each row, exactly. The row is folded into `lanes` running maxima (a
   vectorised pass); bisection finds a bound that at least k lanes reach, so at least k entries of
   the row do; only lanes that reach it are looked into; among the few candidates a second bisection
   separates the k largest. Ties at the k-th place are broken by position.
2. `decode`: reconstruction, its error, and the gradient of each kept activation, one row at a time
   in cache.
3. `group`: the kept (row, feature) pairs by feature (counting sort), as the two weight gradients
   need them.

Everything is deterministic: the same input gives the same bits, whatever the number of threads.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int32, Int64
from numba import njit, prange

MEMORY = np.ndarray
LARGEST = np.finfo(np.float32).max
"""Stands for infinity, which `fastmath` may assume away."""
HALVINGS = 14
"""Bisection steps for the bound on the lanes; it need not be tight, only cheap."""


def _compile(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Make numba's decorator.

    It reaches under the shape checks that the tests put around every function: numba cannot read
    those.
    """
    return lambda function: njit(cache=True, fastmath=True, **options)(inspect.unwrap(function))


class KeptArrays(NamedTuple):
    """The activations that are kept of each row, in no particular order."""

    feature: Int32[MEMORY, "row k"]
    """0-based features."""
    value: Float32[MEMORY, "row k"]
    """Their activations; 0: not active."""


class DecoderArrays(NamedTuple):
    """What reconstructs a row from its activations."""

    directions: Float32[MEMORY, "feat d_model"]
    """Direction of each feature."""
    bias: Float32[MEMORY, " d_model"]
    """What is reconstructed without any feature."""


class DecodedArrays(NamedTuple):
    """Where `decode` writes."""

    error: Float32[MEMORY, "row d_model"]
    """Scale x (reconstruction - x)."""
    gradient: Float32[MEMORY, "row k"]
    """Gradient of each kept activation."""
    loss: Float32[MEMORY, " row"]
    """Squared error of each row."""


class GroupedArrays(NamedTuple):
    """Where `group` writes: the active pairs of row and feature, by feature."""

    start: Int64[MEMORY, " feat1"]
    """Feature f has the pairs start[f] to start[f + 1]."""
    row: Int64[MEMORY, " n"]
    """Row of each pair."""
    value: Float32[MEMORY, " n"]
    """Its activation."""
    gradient: Float32[MEMORY, " n"]
    """The gradient of its activation."""


# The compiled functions have no annotations: numba infers types, and cannot read shapes.


@_compile(inline="always")
def _reach(values, n, bound):  # type: ignore[no-untyped-def]
    """Count the first `n` values that reach a bound."""
    count = 0
    for i in range(n):
        count += values[i] >= bound
    return count


@_compile(inline="always")
def _lane_bound(row, width, lanes, k, peak):  # type: ignore[no-untyped-def]
    """Fold a row into running maxima, `peak`, and find a bound that at least k of them reach."""
    strides = width // lanes
    for lane in range(lanes):
        peak[lane] = row[lane]
    for s in range(1, strides):
        base = s * lanes
        for lane in range(lanes):
            peak[lane] = max(peak[lane], row[base + lane])
    for i in range(strides * lanes, width):
        lane = i - strides * lanes
        peak[lane] = max(peak[lane], row[i])
    low, high = peak[0], peak[0]
    for lane in range(lanes):
        low = min(low, peak[lane])
        high = max(high, peak[lane])
    for _ in range(HALVINGS):
        middle = np.float32(0.5) * (low + high)
        reached = _reach(peak, lanes, middle)
        if reached >= k:
            low = middle
            if reached == k:
                break
        else:
            high = middle
    return low


@_compile(inline="always")
def _exact_bound(near, n, k, low):  # type: ignore[no-untyped-def]
    """Raise `low`, which n >= k values reach, until k reach it, or only ties are left.

    Gives the bound, the next one above it, and how many values reach the bound.
    """
    high = near[0]
    for i in range(n):
        high = max(high, near[i])
    high = np.nextafter(high, LARGEST)
    reached = n
    while reached > k:
        middle = np.float32(0.5) * (low + high)
        if middle <= low or middle >= high:
            break
        count = _reach(near, n, middle)
        if count >= k:
            low, reached = middle, count
        else:
            high = middle
    return low, high, reached


@_compile(parallel=True)
def _select(pre, k, lanes, chunks, index, value):  # type: ignore[no-untyped-def]
    """Write the k largest of each row, a chunk of rows on each thread."""
    rows, width = pre.shape
    for chunk in prange(chunks):
        peak = np.empty(lanes, np.float32)
        near = np.empty(width, np.float32)
        place = np.empty(width, np.int32)
        for r in range(chunk * rows // chunks, (chunk + 1) * rows // chunks):
            row = pre[r]
            low = _lane_bound(row, width, lanes, k, peak)
            n = 0
            for lane in range(lanes):
                if peak[lane] >= low:
                    for i in range(lane, width, lanes):
                        if row[i] >= low:
                            near[n] = row[i]
                            place[n] = i
                            n += 1
            low, high, reached = _exact_bound(near, n, k, low)
            kept = 0
            if reached > k:
                # Ties at the k-th place: what lies above it goes first.
                for i in range(n):
                    if near[i] >= high:
                        index[r, kept] = place[i]
                        value[r, kept] = max(near[i], np.float32(0))
                        kept += 1
                high_end = high
            else:
                high_end = LARGEST
            for i in range(n):
                if kept < k and near[i] >= low and near[i] < high_end:
                    index[r, kept] = place[i]
                    value[r, kept] = max(near[i], np.float32(0))
                    kept += 1


@_compile(parallel=True)
def _decode(kept, decoder, x, scale, chunks, out):  # type: ignore[no-untyped-def]
    """Decode each row and go back to its activations, a chunk of rows on each thread."""
    index, value = kept.feature, kept.value
    directions, bias = decoder.directions, decoder.bias
    errors, gradient, loss = out.error, out.gradient, out.loss
    rows, k = index.shape
    d = x.shape[1]
    for chunk in prange(chunks):
        for r in range(chunk * rows // chunks, (chunk + 1) * rows // chunks):
            error = errors[r]
            for i in range(d):
                error[i] = bias[i] - x[r, i]
            for j in range(k):
                v = value[r, j]
                if v > 0:
                    direction = directions[index[r, j]]
                    for i in range(d):
                        error[i] += v * direction[i]
            total = np.float32(0)
            for i in range(d):
                total += error[i] * error[i]
                error[i] *= scale
            loss[r] = total
            for j in range(k):
                along = np.float32(0)
                if value[r, j] > 0:
                    direction = directions[index[r, j]]
                    for i in range(d):
                        along += error[i] * direction[i]
                gradient[r, j] = along


@_compile()
def _group(kept, gradient, out):  # type: ignore[no-untyped-def]
    """Sort the active pairs by feature: count, add up, and put each in its place."""
    index, value, start = kept.feature, kept.value, out.start
    rows, k = index.shape
    start[:] = 0
    for r in range(rows):
        for j in range(k):
            if value[r, j] > 0:
                start[index[r, j] + 1] += 1
    for f in range(1, len(start)):
        start[f] += start[f - 1]
    next = start[:-1].copy()
    for r in range(rows):
        for j in range(k):
            if value[r, j] > 0:
                at = next[index[r, j]]
                next[index[r, j]] = at + 1
                out.row[at] = r
                out.value[at] = value[r, j]
                out.gradient[at] = gradient[r, j]


CHUNKS = 64
"""Pieces of work handed to the threads; more than there are cores, so that a busy core does not
hold up the rest."""


def select(
    pre: Float32[MEMORY, "row feat"],
    k: int,
    index: Int32[MEMORY, "row k"],
    value: Float32[MEMORY, "row k"],
) -> None:
    """Write the k largest of each row into `index` and `value`, in no particular order.

    Negative ones are written as 0.
    """
    lanes = min(pre.shape[1], max(64, 1 << (4 * k - 1).bit_length()))
    _select(pre, k, lanes, CHUNKS, index, value)


def decode(
    kept: KeptArrays,
    decoder: DecoderArrays,
    x: Float32[MEMORY, "row d_model"],
    scale: float,
    out: DecodedArrays,
) -> None:
    """Reconstruct rows from their kept activations, and find the activations' gradients.

    `x` are the rows as they should be; the error is multiplied by `scale`.
    """
    _decode(kept, decoder, x, np.float32(scale), CHUNKS, out)


def group(kept: KeptArrays, gradient: Float32[MEMORY, "row k"], out: GroupedArrays) -> int:
    """Sort the active pairs of row and feature by feature, and say how many there are."""
    _group(kept, gradient, out)
    return int(out.start[-1])
