"""Compiled loops of the triton engine on a GPU (Triton; imported only there).

1. `select`: the k largest of each row, exactly. The row is folded into `LANES` running maxima; a
   bisection finds a bound that at least k lanes reach, so at least k entries of the row do. The
   entries that reach it, a few more than k, are gathered and sorted with their places, so that
   ties go to the first. A row where more than `candidates` reach it is left to `torch.topk`, which
   takes any of equal ones.
2. `decode`: reconstruction, its error, and the gradient of each kept activation; one row a program.
3. `gradients`: both weight gradients and their squares, a feature and a piece of the residual a
   program, over the pairs of that feature alone. Nothing is added up by two programs, so the same
   input gives the same bits. Rows of features without a pair are neither written nor read.
4. `update`: the chain rule through the decoder's norms, Adam, and the next step's unit directions
   and scaled encoder; one feature a program, a piece of it after another.

Sums are float32 whatever the format of the inputs.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_training.training.topk import ToNorms

LANES = 1024
"""Running maxima that a row is folded into, at least."""
HALVINGS = 14
"""Bisection steps for the bound on the lanes; it need not be tight, only cheap."""
LARGEST_K = 256
"""Of `select`: above it `torch.topk` is taken; a longer sort takes half a minute to compile."""
TOGETHER, PIECE = 4, 512
"""Of `gradients`: pairs read together, and numbers of the residual in one program."""
ROW_PIECE = 1024
"""Of `update`: numbers of a row that are worked on together."""


def _compile(function: Callable[..., Any]) -> Any:
    """Compile a function for the GPU.

    It reaches under the shape checks that the tests put around every function: Triton cannot read
    those.
    """
    return triton.jit(inspect.unwrap(function))


# The compiled functions have no annotations: Triton reads its own alone.


@_compile
def _select(  # type: ignore[no-untyped-def]  # noqa: PLR0913
    pre,
    offset,
    keys,
    index,
    value,
    short,
    width,
    k,
    LANES: tl.constexpr,
    CANDIDATES: tl.constexpr,
    HALVINGS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, LANES)
    peak = tl.full([LANES], float("-inf"), tl.float32)
    for start in range(0, width, LANES):
        place = start + lane
        inside = place < width
        entry = tl.load(pre + row * width + place, mask=inside, other=float("-inf"))
        peak = tl.maximum(peak, entry + tl.load(offset + place, mask=inside, other=0.0))
    high = tl.max(peak, 0)
    low = tl.min(tl.where(peak > float("-inf"), peak, high), 0)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        enough = tl.sum((peak >= middle).to(tl.int32), 0) >= k
        low = tl.where(enough, middle, low)
        high = tl.where(enough, high, middle)
    n = 0
    for start in range(0, width, LANES):
        place = start + lane
        inside = place < width
        entry = tl.load(pre + row * width + place, mask=inside, other=float("-inf"))
        entry = entry + tl.load(offset + place, mask=inside, other=0.0)
        near = (entry >= low) & inside
        at = n + tl.cumsum(near.to(tl.int32), 0) - 1
        bits = entry.to(tl.int32, bitcast=True)
        # Of two negative floats the larger one has the smaller bits.
        ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
        key = (ordered.to(tl.int64) << 32) | (0x7FFFFFFF - place).to(tl.int64)
        tl.store(keys + row * CANDIDATES + at, key, mask=near & (at < CANDIDATES))
        n += tl.sum(near.to(tl.int32), 0)
    tl.store(short + row, ((n < k) | (n > CANDIDATES)).to(tl.int32))
    tl.debug_barrier()
    candidate = tl.arange(0, CANDIDATES)
    key = tl.load(
        keys + row * CANDIDATES + candidate,
        mask=candidate < tl.minimum(n, CANDIDATES),
        other=-(2**63),
    )
    key = tl.sort(key, descending=True)
    ordered = (key >> 32).to(tl.int32)
    bits = ordered ^ ((ordered >> 31) & 0x7FFFFFFF)
    largest = tl.maximum(bits.to(tl.float32, bitcast=True), 0.0)
    feature = 0x7FFFFFFF - (key & 0x7FFFFFFF).to(tl.int32)
    kept = candidate < k
    tl.store(index + row * k + candidate, feature, mask=kept)
    tl.store(value + row * k + candidate, largest, mask=kept)


@_compile
def _decode(  # type: ignore[no-untyped-def]  # noqa: PLR0913
    index,
    value,
    directions,
    x,
    bias,
    error,
    rounded,
    along,
    loss,
    scale,
    d,
    k,
    WIDTH: tl.constexpr,
    TOGETHER: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, WIDTH)
    inside = column < d
    together = tl.arange(0, TOGETHER)
    decoded = tl.load(bias + column, mask=inside, other=0.0)
    for start in range(0, k, TOGETHER):
        j = start + together
        feature = tl.load(index + row * k + j, mask=j < k, other=0).to(tl.int64)
        v = tl.load(value + row * k + j, mask=j < k, other=0.0)
        read = (v > 0)[:, None] & inside[None, :]
        place = feature[:, None] * d + column[None, :]
        direction = tl.load(directions + place, mask=read, other=0.0).to(tl.float32)
        decoded += tl.sum(v[:, None] * direction, 0)
    left = decoded - tl.load(x + row * d + column, mask=inside, other=0.0)
    left = tl.where(inside, left, 0.0)
    tl.store(loss + row, tl.sum(left * left, 0))
    left = left * scale
    tl.store(error + row * d + column, left, mask=inside)
    tl.store(rounded + row * d + column, left, mask=inside)
    for start in range(0, k, TOGETHER):
        j = start + together
        feature = tl.load(index + row * k + j, mask=j < k, other=0).to(tl.int64)
        v = tl.load(value + row * k + j, mask=j < k, other=0.0)
        read = (v > 0)[:, None] & inside[None, :]
        place = feature[:, None] * d + column[None, :]
        direction = tl.load(directions + place, mask=read, other=0.0).to(tl.float32)
        tl.store(along + row * k + j, tl.sum(left[None, :] * direction, 1), mask=j < k)


@_compile
def _gradients(  # type: ignore[no-untyped-def]  # noqa: PLR0913
    start,
    token,
    value,
    along,
    error,
    centred,
    to_directions,
    to_encoder,
    to_bias,
    to_norm,
    squares,
    d,
    PIECES: tl.constexpr,
    TOGETHER: tl.constexpr,
    PIECE: tl.constexpr,
):
    feature = tl.program_id(0).to(tl.int64)
    piece = tl.program_id(1)
    first = tl.load(start + feature)
    last = tl.load(start + feature + 1)
    column = piece * PIECE + tl.arange(0, PIECE)
    inside = column < d
    outward = tl.zeros([PIECE], tl.float32)
    inward = tl.zeros([PIECE], tl.float32)
    bias = 0.0
    scale = 0.0
    for at in range(first, last, TOGETHER):
        # Rows of several pairs are on their way at once; none waits for another.
        for i in tl.static_range(TOGETHER):
            there = at + i < last
            row = tl.load(token + at + i, mask=there, other=0).to(tl.int64) * d
            v = tl.load(value + at + i, mask=there, other=0.0)
            g = tl.load(along + at + i, mask=there, other=0.0)
            read = inside & there
            e = tl.load(error + row + column, mask=read, other=0.0).to(tl.float32)
            x = tl.load(centred + row + column, mask=read, other=0.0).to(tl.float32)
            outward += v * e
            inward += g * x
            bias += g
            scale += g * v
    if last > first:
        tl.store(to_directions + feature * d + column, outward, mask=inside)
        tl.store(to_encoder + feature * d + column, inward, mask=inside)
    tl.store(to_bias + feature, bias, mask=piece == 0)
    tl.store(to_norm + feature, scale, mask=piece == 0)
    tl.store(squares + (feature * PIECES + piece) * 2, tl.sum(outward * outward, 0))
    tl.store(squares + (feature * PIECES + piece) * 2 + 1, tl.sum(inward * inward, 0))


@_compile
def _adam(  # type: ignore[no-untyped-def]  # noqa: PLR0913
    weight, mean, square, gradient, lr, corrected, EPS: tl.constexpr
):
    mean = mean + (gradient - mean) * 0.1
    square = square * 0.999 + gradient * gradient * 0.001
    return weight - lr * mean / (tl.sqrt(square) / corrected + EPS), mean, square


@_compile
def _multiply(  # type: ignore[no-untyped-def]  # noqa: PLR0913
    enc, dec, directions, encoder, feature, norm, d, PIECE: tl.constexpr
):
    for begin in range(0, d, PIECE):
        column = begin + tl.arange(0, PIECE)
        inside = column < d
        at = feature * d + column
        w = tl.load(dec + at, mask=inside, other=1.0)
        tl.store(directions + at, tl.div_rn(w, norm), mask=inside)
        tl.store(encoder + at, tl.load(enc + at, mask=inside, other=0.0) * norm, mask=inside)


# long: one pass over a feature's weights, which a call apart would read again.
@_compile
def _update(  # type: ignore[no-untyped-def]  # noqa: PLR0913
    enc,
    enc_mean,
    enc_square,
    dec,
    dec_mean,
    dec_square,
    b_enc,
    b_enc_mean,
    b_enc_square,
    to_directions,
    to_encoder,
    to_bias,
    inward,
    to_norm,
    active,
    norms,
    directions,
    encoder,
    offset,
    shrink,
    lr,
    corrected,
    d,
    PIECE: tl.constexpr,
):
    feature = tl.program_id(0).to(tl.int64)
    shrunk = tl.load(shrink)
    norm = tl.load(norms + feature)
    along_itself = tl.load(inward + feature)
    g_norm = tl.load(to_norm + feature)
    there = tl.load(active + feature) != 0
    total = tl.zeros([PIECE], tl.float32)
    for begin in range(0, d, PIECE):
        column = begin + tl.arange(0, PIECE)
        inside = column < d
        at = feature * d + column
        g_encoder = tl.load(to_encoder + at, mask=inside & there, other=0.0)
        g_direction = tl.load(to_directions + at, mask=inside & there, other=0.0)
        e = tl.load(enc + at, mask=inside, other=0.0)
        e_mean = tl.load(enc_mean + at, mask=inside, other=0.0)
        e_square = tl.load(enc_square + at, mask=inside, other=0.0)
        w = tl.load(dec + at, mask=inside, other=0.0)
        w_mean = tl.load(dec_mean + at, mask=inside, other=0.0)
        w_square = tl.load(dec_square + at, mask=inside, other=0.0)
        unit = w / norm
        g_dec = ((g_direction - unit * along_itself) / norm + g_norm * unit) * shrunk
        g_enc = g_encoder * norm * shrunk
        e, e_mean, e_square = _adam(e, e_mean, e_square, g_enc, lr, corrected, 1e-8)
        w, w_mean, w_square = _adam(w, w_mean, w_square, g_dec, lr, corrected, 1e-8)
        tl.store(enc + at, e, mask=inside)
        tl.store(enc_mean + at, e_mean, mask=inside)
        tl.store(enc_square + at, e_square, mask=inside)
        tl.store(dec + at, w, mask=inside)
        tl.store(dec_mean + at, w_mean, mask=inside)
        tl.store(dec_square + at, w_square, mask=inside)
        total += tl.where(inside, w * w, 0.0)
    g_bias = tl.load(to_bias + feature) * norm * shrunk
    bias = tl.load(b_enc + feature)
    mean = tl.load(b_enc_mean + feature)
    square = tl.load(b_enc_square + feature)
    bias, mean, square = _adam(bias, mean, square, g_bias, lr, corrected, 1e-8)
    tl.store(b_enc + feature, bias)
    tl.store(b_enc_mean + feature, mean)
    tl.store(b_enc_square + feature, square)
    norm = tl.sqrt_rn(tl.sum(total, 0))
    tl.store(norms + feature, norm)
    tl.store(offset + feature, bias * norm)
    # What another thread has written above is read here.
    tl.debug_barrier()
    _multiply(enc, dec, directions, encoder, feature, norm, d, PIECE)


def select(
    pre: Float[Tensor, "row feat"], offset: Float[Tensor, " feat"], k: int
) -> tuple[Int[Tensor, "row k"], Float[Tensor, "row k"]]:
    """Give the k largest of each row of pre + offset, largest first.

    Negative ones are 0.
    """
    rows, width = pre.shape
    if k > LARGEST_K:
        largest, place = (pre + offset).topk(k, dim=1)
        return place.int(), largest.relu()
    lanes = max(LANES, triton.next_power_of_2(4 * k))
    candidates = max(512, triton.next_power_of_2(4 * k))
    keys = torch.empty(rows, candidates, dtype=torch.int64, device=pre.device)
    index = torch.empty(rows, k, dtype=torch.int32, device=pre.device)
    value = torch.empty(rows, k, device=pre.device)
    short = torch.empty(rows, dtype=torch.int32, device=pre.device)
    _select[(rows,)](
        pre, offset, keys, index, value, short, width, k, lanes, candidates, HALVINGS, num_warps=4
    )
    left = short.nonzero()[:, 0]
    if len(left):
        largest, place = (pre[left] + offset).topk(k, dim=1)
        index[left] = place.int()
        value[left] = largest.relu()
    return index, value


class Decoded(NamedTuple):
    """Reconstructed rows, and what goes back to their activations."""

    error: Float[Tensor, "row d_model"]
    """Scale x (reconstruction - x)."""
    rounded: Float[Tensor, "row d_model"]
    """The same in the directions' format."""
    along: Float[Tensor, "row k"]
    """Gradient of each kept activation; 0 where it is not active."""
    losses: Float[Tensor, " row"]
    """Squared error of each row."""


def decode(
    kept: tuple[Int[Tensor, "row k"], Float[Tensor, "row k"]],
    directions: Float[Tensor, "feat d_model"],
    bias: Float[Tensor, " d_model"],
    x: Float[Tensor, "row d_model"],
    scale: float,
) -> Decoded:
    """Reconstruct rows from their kept activations, and find the activations' gradients."""
    index, value = kept
    decoded = Decoded(
        error=torch.empty_like(x),
        rounded=torch.empty_like(x, dtype=directions.dtype),
        along=torch.empty_like(value),
        losses=torch.empty(len(x), device=x.device),
    )
    _decode[(len(x),)](
        index,
        value,
        directions,
        x,
        bias,
        *decoded,
        scale,
        x.shape[1],
        index.shape[1],
        triton.next_power_of_2(x.shape[1]),
        4,
        num_warps=8,
    )
    return decoded


class RawGradients(NamedTuple):
    """Gradients before the chain rule through the decoder's norms, and the squares of them."""

    directions: Float[Tensor, "feat d_model"]
    """Of the unit directions."""
    encoder: Float[Tensor, "feat d_model"]
    """Of the encoder scaled by the norms."""
    bias: Float[Tensor, " feat"]
    """Of its bias."""
    scale: Float[Tensor, " feat"]
    """Of a factor of the activation, which stands for its direction's length."""
    squares: Float[Tensor, "feat piece 2"]
    """Sums of squares of the weights', over pieces of the residual."""
    active: Bool[Tensor, " feat"]
    """Which features have a gradient; rows of the others are not written."""

    @classmethod
    def empty(cls, features: int, d_model: int, device: torch.device) -> "RawGradients":
        """Make room for them."""
        return cls(
            directions=torch.empty(features, d_model, device=device),
            encoder=torch.empty(features, d_model, device=device),
            bias=torch.empty(features, device=device),
            scale=torch.empty(features, device=device),
            squares=torch.empty(features, triton.cdiv(d_model, PIECE), 2, device=device),
            active=torch.empty(features, dtype=torch.bool, device=device),
        )


def gradients(
    kept: tuple[Int[Tensor, "row k"], Float[Tensor, "row k"]],
    decoded: Decoded,
    centred: Float[Tensor, "row d_model"],
    out: RawGradients,
) -> None:
    """Write the gradients of the unit directions, of the scaled encoder and of its bias."""
    index, value = kept
    features, d_model = out.directions.shape
    ordered, pair = index.flatten().sort(stable=True)
    edges = torch.arange(features + 1, dtype=torch.int32, device=index.device)
    start = torch.searchsorted(ordered, edges, out_int32=True)
    torch.ne(start[1:], start[:-1], out=out.active)
    pieces = out.squares.shape[1]
    _gradients[(features, pieces)](
        start,
        pair // index.shape[1],
        value.flatten()[pair],
        decoded.along.flatten()[pair],
        decoded.rounded,
        centred,
        *out[:5],
        d_model,
        pieces,
        TOGETHER,
        PIECE,
        num_warps=1,
    )


class Weights(NamedTuple):
    """One parameter and Adam's two moments of it."""

    weight: Tensor
    """The parameter."""
    mean: Tensor
    """Running mean of its gradient."""
    square: Tensor
    """Running mean of the gradient's square."""


class Prepared(NamedTuple):
    """What the next step multiplies with, made from the parameters."""

    norms: Float[Tensor, " feat"]
    """Norm of each decoder row."""
    directions: Float[Tensor, "feat d_model"]
    """Unit decoder rows."""
    encoder: Float[Tensor, "feat d_model"]
    """Encoder scaled by the norms."""
    offset: Float[Tensor, " feat"]
    """Encoder bias scaled by the norms."""


class Rate(NamedTuple):
    """How far a step of Adam goes."""

    shrink: Float[Tensor, ""]
    """Factor of the gradient that clips its norm."""
    lr: float
    """Learning rate over the correction of the first moment."""
    corrected: float
    """Root of the correction of the second moment."""


def update(
    parameters: tuple[Weights, Weights, Weights],
    raw: RawGradients,
    through: ToNorms,
    prepared: Prepared,
    rate: Rate,
) -> None:
    """Take Adam's step of encoder, decoder and encoder bias, and prepare the next step."""
    features, d_model = raw.directions.shape
    enc, dec, b_enc = parameters
    _update[(features,)](
        *enc,
        *dec,
        *b_enc,
        raw.directions,
        raw.encoder,
        raw.bias,
        *through,
        raw.active,
        *prepared,
        *rate,
        d_model,
        ROW_PIECE,
        num_warps=8,
    )
