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
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, Int64
from numba import njit, prange

MEMORY = np.ndarray
LARGEST = np.finfo(np.float32).max
"""Stands for infinity, which `fastmath` may assume away."""
HALVINGS = 14
"""Bisection steps for the bound on the lanes; it need not be tight, only cheap."""


def _compile(**options: Any) -> Callable[[Callable], Any]:
    """numba's decorator, under the shape checks that the tests put around every function: numba
    cannot read those.
    """
    return lambda function: njit(cache=True, fastmath=True, **options)(inspect.unwrap(function))


@_compile(inline="always")
def _reach(values, n, bound):
    count = 0
    for i in range(n):
        count += values[i] >= bound
    return count


@_compile(parallel=True)
def _select(pre, k, lanes, chunks, index, value):
    rows, width = pre.shape
    strides = width // lanes
    for chunk in prange(chunks):
        peak = np.empty(lanes, np.float32)
        near = np.empty(width, np.float32)
        place = np.empty(width, np.int32)
        for r in range(chunk * rows // chunks, (chunk + 1) * rows // chunks):
            row = pre[r]
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
            n = 0
            for lane in range(lanes):
                if peak[lane] >= low:
                    for i in range(lane, width, lanes):
                        if row[i] >= low:
                            near[n] = row[i]
                            place[n] = i
                            n += 1
            # low is reached by n >= k entries; raise it until exactly k reach it, or only ties are
            # left
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
            kept = 0
            if reached > k:
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
def _decode(index, value, directions, bias, x, scale, chunks, error, gradient, loss):
    rows, k = index.shape
    d = x.shape[1]
    for chunk in prange(chunks):
        for r in range(chunk * rows // chunks, (chunk + 1) * rows // chunks):
            out = error[r]
            for i in range(d):
                out[i] = bias[i] - x[r, i]
            for j in range(k):
                v = value[r, j]
                if v > 0:
                    direction = directions[index[r, j]]
                    for i in range(d):
                        out[i] += v * direction[i]
            total = np.float32(0)
            for i in range(d):
                total += out[i] * out[i]
                out[i] *= scale
            loss[r] = total
            for j in range(k):
                along = np.float32(0)
                if value[r, j] > 0:
                    direction = directions[index[r, j]]
                    for i in range(d):
                        along += out[i] * direction[i]
                gradient[r, j] = along


@_compile()
def _group(index, value, gradient, start, row, grouped, grouped_gradient):
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
                row[at] = r
                grouped[at] = value[r, j]
                grouped_gradient[at] = gradient[r, j]


CHUNKS = 64
"""Pieces of work handed to the threads; more than there are cores, so that a busy core does not
hold up the rest."""


def select(
    pre: Float32[MEMORY, "row feat"],
    k: int,
    index: Int32[MEMORY, "row k"],
    value: Float32[MEMORY, "row k"],
) -> None:
    """The k largest of each row into `index` and `value`, negative ones as 0, in no particular
    order.
    """
    lanes = min(pre.shape[1], max(64, 1 << (4 * k - 1).bit_length()))
    _select(pre, k, lanes, CHUNKS, index, value)


def decode(
    index: Int32[MEMORY, "row k"],
    value: Float32[MEMORY, "row k"],
    directions: Float32[MEMORY, "feat d_model"],
    bias: Float32[MEMORY, " d_model"],
    x: Float32[MEMORY, "row d_model"],
    scale: float,
    error: Float32[MEMORY, "row d_model"],
    gradient: Float32[MEMORY, "row k"],
    loss: Float32[MEMORY, " row"],
) -> None:
    """`error` = scale x (reconstruction - x), `gradient` of each kept activation, `loss` =
    squared error of each row.
    """
    _decode(index, value, directions, bias, x, np.float32(scale), CHUNKS, error, gradient, loss)


def group(
    index: Int32[MEMORY, "row k"],
    value: Float32[MEMORY, "row k"],
    gradient: Float32[MEMORY, "row k"],
    start: Int64[MEMORY, " feat1"],
    row: Int64[MEMORY, " n"],
    grouped: Float32[MEMORY, " n"],
    grouped_gradient: Float32[MEMORY, " n"],
) -> int:
    """Active pairs by feature: feature f has entries start[f] to start[f + 1]; returns their
    number.
    """
    _group(index, value, gradient, start, row, grouped, grouped_gradient)
    return int(start[-1])
