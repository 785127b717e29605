"""Running only the layers above a site.

Steering at a site changes nothing below it. So a segment of tokens is run from the residual that
enters the layer above the site, which the caller gives, and from the keys and values of what came
before:

1. Hugging Face's own forward runs, so every family keeps its masks, soft caps, windows and rotary
   angles. While it does, the layers below the site pass their input through and a hook puts the
   given residual in place.
2. `PrefixCache` holds keys and values of the layers above the site alone, in full length (a sliding
   window is the mask's business), and answers for its length without asking layer 0, which stays
   empty.
3. A body segment, whose logits nobody reads, ends inside the last layer as soon as its keys and
   values are stored: no query, no attention, no MLP there.
4. `join` gives pasts to many continuations or many interventions and leaves room for what is then
   written in place.
5. Pasts of different length stand side by side, the short ones padded on the left as in any batch.
   A segment may be padded on the right, where nothing that is read comes after; `join` closes the
   gap before the next one.
6. The answers after a prompt's last token are a tree (`tails.py`), which runs under a mask of ours.
   Whether a family takes one is found by trying (`branches`): linear biases (ALiBi) and other
   attention kernels do not.

The result equals the full forward to floating-point error; `tests/machine/test_resume.py` says so
for each family.

Left out: layers that remember something else than keys and values (Mamba, RWKV, linear attention)
or share them between layers: `resumable` finds them, by what the configuration says and by trying,
and `scoring.py` runs full forward passes there.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import Cache

from sae_training.engine.tails import Tail
from sae_training.model import families
from sae_training.model.edits import Frame
from sae_training.model.runtime import Change, Runtime

KEEPS_MORE: frozenset[str] = frozenset()
"""Families whose layers keep more than keys and values, which a few tokens do not show."""


class _Stored(Exception):
    """The last layer's keys and values are in the cache."""


class PrefixCache(Cache):
    """Keys and values of some layers for groups x rows sequences.

    Sequence `g * rows + r` is row r of group g; the sequences of a group are of one length.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        rows: int,
        capacity: int,
        past: dict[int, tuple[Tensor, Tensor]],
        stop: int,
        length: int = 0,
    ) -> None:
        """Hold `past`, the keys and values of groups of `lengths` tokens; {} where there is none.

        `capacity` is how many tokens the buffers can hold, `stop` the layer after which a body
        segment ends, `length` the columns that are taken where that is more than the longest.
        """
        super().__init__(layers=[])
        self.groups = len(lengths)
        """Continuations side by side."""
        self.rows = rows
        """Interventions in each group."""
        self.lengths = tuple(lengths)
        """Tokens of each group whose keys and values are there."""
        self.trailing = (0,) * self.groups
        """Columns after each group's tokens that hold padding."""
        self.length = max(*lengths, length)
        """Columns of the buffers that are taken."""
        self.capacity = capacity
        """Tokens that the buffers can hold."""
        self.past = past
        """Layer -> (keys, values), each [groups, rows, head, capacity, dim]; a group's tokens
        end `trailing` columns before `length`."""
        self.stop = stop
        """Layer after whose keys and values a body segment ends."""
        self.body = False
        """Whether the segment being run is a body segment."""

    @property
    def token_bytes(self) -> int:
        """Memory of one token of one sequence [bytes]."""
        return sum(
            buffer.element_size() * buffer.shape[2] * buffer.shape[4]
            for pair in self.past.values()
            for buffer in pair
        )

    def grow(self, widths: Sequence[int]) -> None:
        """Note that so many more tokens of each group are there.

        The shorter ones are followed by padding.
        """
        self.lengths = tuple(
            length + width for length, width in zip(self.lengths, widths, strict=True)
        )
        self.trailing = tuple(max(widths) - width for width in widths)
        self.length += max(widths)

    def positions(self, width: int, device: torch.device) -> Int[Tensor, "seq tok"]:
        """Number the next `width` tokens of each sequence."""
        starts = torch.tensor(self.lengths, device=device).repeat_interleave(self.rows)
        return starts[:, None] + torch.arange(width, device=device)

    def mask(self, width: int, device: torch.device) -> Int[Tensor, "seq tok"] | None:
        """Mark with 1 where a sequence has a token, the next `width` included.

        None where nothing is padded.
        """
        if set(self.lengths) == {self.length}:
            return None
        lengths = torch.tensor(self.lengths, device=device).repeat_interleave(self.rows)
        starts = self.length - lengths
        return (torch.arange(self.length + width, device=device) >= starts[:, None]).long()

    def update(
        self,
        key_states: Float[Tensor, "seq head tok dim"],
        value_states: Float[Tensor, "seq head tok dim"],
        layer_idx: int,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Add a layer's new keys and values and give all; ends a body segment at layer `stop`."""
        end = self.length + key_states.shape[2]
        if layer_idx not in self.past:
            self.past[layer_idx] = (self._empty(key_states), self._empty(value_states))
        joined = []
        for buffer, new in zip(self.past[layer_idx], (key_states, value_states), strict=True):
            buffer[..., self.length : end, :] = new.unflatten(0, (self.groups, self.rows))
            joined.append(buffer[..., :end, :].flatten(0, 1))
        if self.body and layer_idx == self.stop:
            raise _Stored
        return joined[0], joined[1]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns that are taken, the same in every layer."""
        return self.length

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Columns that the next tokens see, and the first of them."""
        return self.length + query_length, 0

    def _empty(self, like: Tensor) -> Tensor:
        return like.new_empty(self.groups, self.rows, like.shape[1], self.capacity, like.shape[3])


def join(parts: Sequence[tuple[PrefixCache, int]], rows: int, room: int) -> PrefixCache:
    """Put the pasts of some groups side by side, in a cache of `rows` rows.

    A part is a cache and the number of one of its groups; the result has room for `room` more
    tokens. Shares the buffers where a run of one cache's groups stays as it is and there is room,
    else copies what is there.
    """
    first, start = parts[0]
    run_of_one = all(part == (first, start + index) for index, part in enumerate(parts))
    lengths = [cache.lengths[group] for cache, group in parts]
    if (
        run_of_one
        and rows == first.rows
        and not any(first.trailing)
        and first.length + room <= first.capacity
    ):
        shared = {
            layer: (keys[start : start + len(parts)], values[start : start + len(parts)])
            for layer, (keys, values) in first.past.items()
        }
        return PrefixCache(lengths, rows, first.capacity, shared, first.stop, first.length)
    width = max(lengths)
    # One copy for a run of the same part, without an index.
    runs = [(cache, group, len(list(run))) for (cache, group), run in itertools.groupby(parts)]
    past = {}
    for layer, pair in first.past.items():
        copies = []
        for key_or_value, like in enumerate(pair):
            copy = like.new_empty(len(lengths), rows, like.shape[2], width + room, like.shape[4])
            at = 0
            for cache, group, count in runs:
                length = cache.lengths[group]
                end = cache.length - cache.trailing[group]
                buffer = cache.past[layer][key_or_value]
                # The padding is never read, but NaN times 0 is NaN.
                copy[at : at + count, ..., : width - length, :] = 0
                copy[at : at + count, ..., width - length : width, :] = buffer[
                    group : group + 1, ..., end - length : end, :
                ]
                at += count
            copies.append(copy)
        past[layer] = (copies[0], copies[1])
    return PrefixCache(lengths, rows, width + room, past, first.stop)


class Segment(NamedTuple):
    """Some tokens of each group that run in one pass, and where their pass begins."""

    ids: Sequence[Sequence[int]]
    """Tokens of each group; of prompts' last tokens and tails where there are `tails`."""
    entering: Float[Tensor, "seq tok d_model"] | None = None
    """Residual that enters layer `at`; None: the pass starts from the embedding."""
    at: int = 0
    """Layer that `entering` enters."""
    body: bool = False
    """Whether nobody reads the logits, so that the pass may end early."""
    tails: Sequence[Tail] = ()
    """The tail of each group, where it begins with the last token of a prompt."""


class SegmentPass(NamedTuple):
    """What one pass over a segment gives."""

    logits: Float[Tensor, "seq tok vocab"] | None
    """Logits of every token; None for a body segment."""
    residual: Float[Tensor, "seq tok d_model"] | None
    """Residual at the watched boundary, where the pass came by."""


_RESUMABLE: WeakKeyDictionary[Runtime, bool] = WeakKeyDictionary()
"""Model -> whether it can be resumed: trying takes a few passes, so each model is tried once."""


def resumable(model: Runtime) -> bool:
    """Say whether every layer keeps keys and values of its own and nothing else.

    What the configuration says of its layers must allow it, and a few tokens must give the logits
    of a full forward pass.
    """
    if model not in _RESUMABLE:
        model.check()
        with model.lock, families.unhooked(model.module):
            _RESUMABLE[model] = _keeps_keys(model) and _resumes(model)
    return _RESUMABLE[model]


def _keeps_keys(model: Runtime) -> bool:
    """Read from the configuration whether all layers keep full keys and values of their own."""
    config = model.module.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    shared = getattr(config, "num_kv_shared_layers", 0)
    return (
        kinds <= {"full_attention", "sliding_attention"}
        and not shared
        and not getattr(model.module, "_is_stateful", False)
        and config.model_type not in KEEPS_MORE
    )


def _resumes(model: Runtime) -> bool:
    """Try it: two texts of unequal length side by side, and a text from its residual halfway."""
    whole, cut, at = list(families.TOKENS), 4, model.n_layers // 2
    texts = [whole, whole[2:]]
    last = model.n_layers - 1
    try:
        pasts = []
        for text in texts:
            past = PrefixCache([0], 1, len(text), {}, last)
            run(model, Segment(ids=[text[: cut - len(whole)]], body=True), past)
            pasts.append((past, 0))
        ends = [text[cut - len(whole) :] for text in texts]
        together = run(model, Segment(ids=ends), join(pasts, 1, len(ends[0]))).logits
        _, residual = run_alone(model, whole, watch=at)
        resumed, _ = run_alone(model, whole, residual, at)
    except Exception:  # whatever a family raises at a memory or a layer that is not its own
        return False
    assert together is not None, "only a body segment ends before its logits"
    full = [families.alone(model, torch.tensor([text]))[0] for text in texts]
    logits = torch.cat([together.flatten(0, 1), resumed[0]])
    expected = torch.cat([*(text[-len(ends[0]) :] for text in full), full[0]])
    return families.alike(model, logits, expected)


def run(model: Runtime, segment: Segment, cache: PrefixCache, watch: int = -1) -> SegmentPass:
    """Run one segment after what a cache holds, and add it to the cache.

    The residual at boundary `watch` is kept, unless it is -1.

        cache = PrefixCache([0], 1, 8, {}, model.n_layers - 1)
        run(model, Segment(ids=[[5, 6, 7]]), cache).logits  # [seq, tok, vocab]
    """
    widths = [len(ids) for ids in segment.ids]
    padded = [[*ids, *[0] * (max(widths) - len(ids))] for ids in segment.ids]
    tokens = torch.tensor(padded, device=model.device).repeat_interleave(cache.rows, 0)
    mask: Tensor | dict[str, Tensor] | None
    if all(tail.is_path for tail in segment.tails):
        position = cache.positions(tokens.shape[1], model.device)
        mask = cache.mask(tokens.shape[1], model.device)
        if mask is None:
            position = position[:1]
    else:
        position, mask = _branching(model, cache, segment.tails)
    seen: list[Tensor] = []

    def keep(hidden: Tensor) -> Tensor:
        """Keep the residual at the watched boundary."""
        seen.append(hidden)
        return hidden

    cache.body = segment.body
    logits = None
    no = torch.zeros_like(tokens, dtype=torch.bool)
    # Edits of neurons read the frame: they spare the first token.
    frame = Frame(real=~no, first=(position == 0).expand_as(no), last=no, generated=no)
    with (
        model.lock,
        torch.no_grad(),
        _resumed(model, segment.at, segment.entering),
        _watched(model, watch, keep),
        _framed(model, frame),
        suppress(_Stored),
    ):
        logits = model.module(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=position,
            past_key_values=cache,
            use_cache=True,
        ).logits
    cache.grow(widths)
    return SegmentPass(logits, seen[0] if seen else None)


def run_alone(
    model: Runtime, ids: Sequence[int], entering: Tensor | None = None, at: int = 0, watch: int = -1
) -> tuple[Float[Tensor, "seq tok vocab"], Tensor | None]:
    """Run one whole text by itself: its logits, and the residual at boundary `watch`.

    `entering` [seq tok d_model] holds the residual that enters layer `at`, one row for each
    intervention; None starts from the embedding.
    """
    rows = 1 if entering is None else len(entering)
    cache = PrefixCache([0], rows, len(ids), {}, model.n_layers - 1)
    logits, residual = run(model, Segment(ids=[ids], entering=entering, at=at), cache, watch)
    assert logits is not None, "only a body segment ends before its logits"
    return logits, residual


def logits_from(
    model: Runtime,
    ids: Int[Tensor, "row tok"],
    mask: Bool[Tensor, "row tok"],
    entering: Float[Tensor, "row tok d_model"],
    at: int,
) -> Float[Tensor, "row tok vocab"]:
    """Run the layers from boundary `at` on, from the residuals that stand there, padding included.

    `mask` is true at tokens. Call it for a model that is `resumable`.

        logits_from(model, ids, mask, edited, at=9)
    """
    with model.lock, _resumed(model, at, entering):
        logits: Tensor = model.forward(ids, mask).logits
    return logits


_BRANCHING: WeakKeyDictionary[Runtime, bool] = WeakKeyDictionary()
"""Model -> whether its tails may branch: trying takes three passes, so each model is tried once."""


def branches(model: Runtime) -> bool:
    """Say whether a tail may branch: answers side by side, each token seeing its path alone.

    That needs a model that takes a mask of ours and reads positions where we put them.
    """
    if model not in _BRANCHING:
        _BRANCHING[model] = _takes_our_mask(model)
    return _BRANCHING[model]


def _takes_our_mask(model: Runtime) -> bool:
    """Try one small tree beside the same path written out, and compare the logits."""
    config = model.module.config.get_text_config()
    windows = [
        getattr(config, name, None)
        for name in ("sliding_window", "window_size", "attention_window")
    ]
    # A window without a list of the layers that have it.
    if any(windows) and not getattr(config, "layer_types", None):
        return False
    tail = Tail((3, 4, 5), (0, 0, 2), ())
    cache = PrefixCache([0], 1, 6, {}, model.n_layers - 1)
    try:
        run(model, Segment(ids=[[1, 2]]), cache)
        tree = run(model, Segment(ids=[[2, *tail.tokens]], tails=[tail]), cache).logits
    except Exception:  # whatever a family raises at a mask that it does not expect
        return False
    assert tree is not None, "only a body segment ends before its logits"
    path, _ = run_alone(model, [1, 2, 2, 4, 5])
    expected = path[0, 2:].float()
    branched = tree[0, [0, 2, 3]].float()
    tolerance = max(1e-4, 10 * torch.finfo(model.dtype).eps)
    return bool((expected - branched).abs().max() <= tolerance * expected.abs().max())


def _branching(
    model: Runtime, cache: PrefixCache, tails: Sequence[Tail]
) -> tuple[Int[Tensor, "seq tok"], Tensor | dict[str, Tensor]]:
    """Make positions and additive masks [seq 1 tok key] of tails, one a group.

    There is a mask for each kind of layer where there are several kinds.
    """
    device = model.device
    config = model.module.config.get_text_config()
    width = max(len(tail.depths) for tail in tails)
    number = {tail: index for index, tail in enumerate(dict.fromkeys(tails))}
    kind = torch.tensor([number[tail] for tail in tails])
    sees = torch.eye(width, dtype=torch.bool).repeat(len(number), 1, 1)
    depths = torch.zeros(len(number), width, dtype=torch.long)
    for tail, index in number.items():
        places = len(tail.depths)
        sees[index, :places, :places] = tail.sees
        depths[index, :places] = tail.depths
    lengths = torch.tensor(cache.lengths)
    before = torch.arange(cache.length) - cache.length + lengths[:, None]  # negative in the padding
    position = lengths[:, None] + depths[kind]
    allowed = torch.cat([(before >= 0)[:, None].expand(-1, width, -1), sees[kind]], -1)
    near = position[:, :, None] - torch.cat([before, position], 1)[:, None] < (
        getattr(config, "sliding_window", None) or model.context
    )

    def additive(allowed: Bool[Tensor, "group tok key"]) -> Float[Tensor, "seq 1 tok key"]:
        """Make the mask that is added to the attention's scores."""
        lowest = torch.finfo(model.dtype).min
        mask = torch.zeros(allowed.shape, dtype=model.dtype).masked_fill(~allowed, lowest)
        return mask[:, None].to(device).repeat_interleave(cache.rows, 0)

    whole = additive(allowed)
    masks: Tensor | dict[str, Tensor] = whole
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        masks = {"full_attention": whole, "sliding_attention": additive(allowed & near)}
    return position.to(device).repeat_interleave(cache.rows, 0), masks


@contextmanager
def _framed(model: Runtime, frame: Frame) -> Iterator[None]:
    """Say inside the block what the tokens of the pass are."""
    model.frame = frame
    try:
        yield
    finally:
        model.frame = None


@contextmanager
def _watched(model: Runtime, at: int, keep: Change) -> Iterator[None]:
    """Hand the residual at boundary `at` to `keep` inside the block; nothing at -1."""
    if at < 0:
        yield
        return
    with model.hooked(at, keep):
        yield


@contextmanager
def _resumed(model: Runtime, at: int, entering: Tensor | None) -> Iterator[None]:
    """Let a residual enter layer `at` inside the block, and the layers below pass it through."""
    if entering is None:
        yield
        return
    below: list[Any] = list(model.layers)[:at]
    # Set where accelerate has wrapped the layer.
    wrapped = [layer.__dict__.get("forward") for layer in below]
    through = _pass_in_tuple if model.tuples else _pass
    try:
        for layer in below:
            layer.forward = through
        with model.hooked(at, lambda _: entering):
            yield
    finally:
        for layer, forward in zip(below, wrapped, strict=True):
            if forward is None:
                layer.__dict__.pop("forward", None)
            else:
                layer.forward = forward


def _pass(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Stand for a layer that changes nothing."""
    return hidden_states


def _pass_in_tuple(hidden_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor]:
    """Stand for a layer of an older family, which returns a tuple."""
    return (hidden_states,)
