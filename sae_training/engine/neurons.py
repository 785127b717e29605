"""Neurons: the gate units of a model's MLPs and the latents of its SAE, counted while it answers
and edited.

1. A neuron is one number behind the MLP's activation function (Su et al. 2025): in a gated MLP the
   gate unit, before it meets the up projection; in a plain one what the down projection reads.
   `gates` finds the activation module of every decoder layer by its name and tries it: one token
   goes through, and each must run exactly once.
2. `latents` shows an SAE's latents at its site as one more group of neurons. An edit of them adds
   the difference that it makes, `h + (f' - f) W_dec`, so whatever the SAE fails to reconstruct
   stays.
3. `answer` generates with a cache and counts, answer by answer, the response tokens on which each
   neuron is above 0. The last token of an answer that was cut short never enters the model and is
   not counted.
4. `percentiles` runs finished answers again and takes a percentile of the neurons asked for.
5. `with edited(model, groups, edit)`: target neurons get an amount on top, opposing ones are held
   at or below 0; every neuron is left out of a pass with some chance. As with `Model.steered`, the
   first token of a sequence and padding stay as they are, the hooks go when the block ends, and
   logits afterwards are bit-identical. Unlike there, scoring and sweeps work inside the block with
   their shared beginnings: what is edited is a part of the model for them.

Left out: experts. Where one layer has several activation modules, or none, the model is refused.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from feature_store.errors import BadInput, Incompatible
from feature_store.records import Site
from sae_training.engine.generate import ROWS, continuations
from sae_training.model import sites
from sae_training.model.edits import Encoder, Frame, prompt_frame
from sae_training.model.runtime import Runtime

ACTIVATIONS = ("act_fn", "act", "gelu_impl", "activation_fn", "activation")
"""What the families call the module of their MLP's activation function."""

Change = Callable[[Float[Tensor, "row tok neuron"]], Float[Tensor, "row tok neuron"]]
"""Sees the activations of a group and returns them, changed or not."""


@dataclass(frozen=True, eq=False)
class Group:
    layer: int
    """0-based decoder layer."""
    width: int
    """Neurons of the group."""
    hook: Callable[[Change], AbstractContextManager[None]]
    """Inside the block the group's activations become what the change returns."""


@dataclass(frozen=True, eq=False)
class Neurons:
    group: Int[np.ndarray, " neuron"]
    """0-based number of the group that each neuron belongs to."""
    index: Int[np.ndarray, " neuron"]
    """0-based number within its group."""

    def of(self, group: int) -> Int[np.ndarray, " place"]:
        """Places of a group's neurons."""
        return np.flatnonzero(self.group == group)


@dataclass(frozen=True, eq=False)
class NeuronEdit:
    neurons: Neurons
    """What is edited."""
    add: Float[np.ndarray, " neuron"]
    """Added to each target neuron [activation units]."""
    opposing: Bool[np.ndarray, " neuron"]
    """True: the neuron is held at or below 0 instead."""
    dropout: float = 0.0
    """Chance with which a neuron is left out of a pass [0 to 1]."""
    seed: int = 0
    """Seed of what is left out."""

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise BadInput(
                f"A dropout is a chance from 0 up to 1, got {self.dropout:g}. The paper uses 0.1."
            )
        if not np.isfinite(self.add).all():
            raise BadInput("A neuron cannot be moved by NaN or infinity. Give finite amounts.")


class Answers(NamedTuple):
    prompts: list[list[int]]
    """Token ids of each prompt."""
    new: list[list[int]]
    """Token ids of each answer."""
    active: list[Int[np.ndarray, "answer neuron"]]
    """For each group: response tokens on which a neuron was above 0."""
    tokens: Int[np.ndarray, " answer"]
    """Response tokens that were counted."""


def gates(model: Runtime) -> list[Group]:
    """The MLP neurons of every decoder layer.

    Raises Incompatible where the activation module cannot be told.
    """
    modules = [_activation(model, number) for number in range(model.n_layers)]
    shapes: list[list[tuple[int, ...]]] = [[] for _ in modules]
    with model.lock, ExitStack() as stack:
        for module, seen in zip(modules, shapes, strict=True):
            stack.enter_context(
                _output(module, lambda out, seen=seen: seen.append(tuple(out.shape)) or out)
            )
        one = torch.ones(1, 1, dtype=torch.long)
        model.forward(one, one.bool())
    for layer, seen in enumerate(shapes):
        if len(seen) != 1 or len(seen[0]) != 3:
            raise Incompatible(
                f"Layer {layer} of {model.name} runs its activation function {len(seen)} times a"
                f" token, on {seen[:1] or 'nothing'}; neurons need one MLP a layer. Use SAE"
                " features instead."
            )
    return [
        Group(layer, seen[0][2], lambda change, module=module: _output(module, change))
        for layer, (module, seen) in enumerate(zip(modules, shapes, strict=True))
    ]


def latents(model: Runtime, sae: Encoder, site: Site) -> list[Group]:
    """The SAE's latents at its site, a single group."""
    at = sites.boundary(site, model.n_layers)

    def hook(change: Change) -> AbstractContextManager[None]:
        def rewrite(hidden: Tensor) -> Tensor:
            before = sae.encode(hidden.to(sae.W_dec))
            after = change(before)
            return hidden if after is before else hidden + ((after - before) @ sae.W_dec).to(hidden)

        return model.hooked(at, rewrite)

    return [Group(site.layer, sae.n_features, hook)]


def answer(
    model: Runtime,
    groups: Sequence[Group],
    prompts: Sequence[list[int]],
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
) -> Answers:
    """Continue token ids, greedily at temperature 0, and count active neurons over the tokens of
    the answers.
    """
    active = [torch.zeros(len(prompts), group.width, dtype=torch.int32) for group in groups]
    tokens = torch.zeros(len(prompts), dtype=torch.int32)

    def watch(number: int) -> Change:
        def see(activations: Tensor) -> Tensor:
            where = _frame(model).where(("generated",)).to(activations.device)
            if number == 0:
                tokens[model.pass_rows] += where.sum(1).cpu().int()
            if where.any():
                active[number][model.pass_rows] += (
                    ((activations > 0) & where[..., None]).sum(1).cpu().int()
                )
            return activations

        return see

    with model.lock, ExitStack() as stack:
        for number, group in enumerate(groups):
            stack.enter_context(group.hook(watch(number)))
        new = continuations(model, prompts, max_new_tokens, temperature, seed)
    return Answers(
        prompts=list(prompts),
        new=new,
        active=[counts.numpy() for counts in active],
        tokens=tokens.numpy(),
    )


def percentiles(
    model: Runtime,
    groups: Sequence[Group],
    prompts: Sequence[list[int]],
    new: Sequence[list[int]],
    neurons: Neurons,
    share: float = 0.95,
) -> Float[np.ndarray, " neuron"]:
    """The percentile of each neuron over the response tokens on which it is above 0 [activation
    units]; 0 where it never is.

    A percentile over all tokens would be 0 for every sparse latent, and below 0 for most gate
    units.
    """
    members = [neurons.of(number) for number in range(len(groups))]
    kept: list[list[Tensor]] = [[] for _ in groups]

    def watch(number: int) -> Change:
        index = torch.from_numpy(neurons.index[members[number]]).long()

        def see(activations: Tensor) -> Tensor:
            where = _frame(model).where(("generated",)).to(activations.device)
            kept[number].append(activations[where][:, index.to(activations.device)].float().cpu())
            return activations

        return see

    rows = [(prompt, added) for prompt, added in zip(prompts, new, strict=True) if added]
    with model.lock, ExitStack() as stack:
        for number, group in enumerate(groups):
            if len(members[number]):
                stack.enter_context(group.hook(watch(number)))
        for start in range(0, len(rows), ROWS):
            _replay(model, rows[start : start + ROWS])
    found = np.zeros(len(neurons.index), np.float64)
    for number, place in enumerate(members):
        if kept[number]:
            found[place] = _percentile(torch.cat(kept[number]).numpy(), share)
    return found


@contextmanager
def edited(model: Runtime, groups: Sequence[Group], edit: NeuronEdit) -> Iterator[Runtime]:
    """Inside the block the neurons are edited on every pass; after it the model is exactly as
    before.
    """
    hooks = []
    for number, group in enumerate(groups):
        place = edit.neurons.of(number)
        if (
            len(place)
            and not 0
            <= edit.neurons.index[place].min()
            <= edit.neurons.index[place].max()
            < group.width
        ):
            raise BadInput(
                f"Layer {group.layer} has neurons 0 to {group.width - 1}; the edit names another."
            )
        if len(place):
            hooks.append(group.hook(_editing(model, edit, place, number)))
    with model.lock, ExitStack() as stack:
        for hook in hooks:
            stack.enter_context(hook)
        yield model


def _editing(
    model: Runtime, edit: NeuronEdit, place: Int[np.ndarray, " place"], number: int
) -> Change:
    index = torch.from_numpy(edit.neurons.index[place]).long()
    add, opposing = torch.from_numpy(edit.add[place]), torch.from_numpy(edit.opposing[place])
    draw = torch.Generator().manual_seed((edit.seed * 1_000_003 + number) % 2**63)

    def change(activations: Tensor) -> Tensor:
        device = activations.device
        kept = torch.rand(len(index), generator=draw) >= edit.dropout
        at, more, hold = (
            index[kept].to(device),
            add[kept].to(activations),
            opposing[kept].to(device),
        )
        where = _frame(model).where(("all",)).to(device)[..., None]
        before = activations[..., at]
        after = torch.where(hold, before.clamp(max=0), before + more)
        return activations.index_copy(-1, at, torch.where(where, after, before))

    return change


def _frame(model: Runtime) -> Frame:
    assert model.frame is not None, "neurons are watched through Model, which knows what is padding"
    return model.frame


def _replay(model: Runtime, rows: Sequence[tuple[list[int], list[int]]]) -> None:
    """One pass over prompts with their answers, padded on the right."""
    width = max(len(prompt) + len(added) for prompt, added in rows)
    ids = torch.tensor(
        [[*prompt, *added, *[0] * (width - len(prompt) - len(added))] for prompt, added in rows]
    )
    place = torch.arange(width)
    begin = torch.tensor([[len(prompt)] for prompt, _ in rows])
    end = torch.tensor([[len(prompt) + len(added)] for prompt, added in rows])
    given = prompt_frame(place < begin)
    frame = Frame(
        *(
            part.to(model.device)
            for part in (place < end, given.first, given.last, (begin <= place) & (place < end))
        )
    )
    model.forward(ids, place < end, frame=frame, logits_to_keep=1)


def _percentile(
    activations: Float[np.ndarray, "tok neuron"], share: float
) -> Float[np.ndarray, " neuron"]:
    """Linear interpolation between the ranks of the positive numbers of each column, 0 without
    any.
    """
    ranked = np.sort(activations.astype(np.float64), axis=0)
    positive = (ranked > 0).sum(0)
    at = len(ranked) - positive + share * np.maximum(positive - 1, 0)
    below = np.minimum(at.astype(int), len(ranked) - 1)
    above = np.minimum(below + 1, len(ranked) - 1)
    low, high = (np.take_along_axis(ranked, rank[None], 0)[0] for rank in (below, above))
    return np.where(positive > 0, low + (at - below) * (high - low), 0.0)


def _activation(model: Runtime, layer: int) -> nn.Module:
    """The one activation module of a layer that stands outside attention."""
    found = {
        path: module
        for path, module in model.layers[layer].named_modules()
        if path.split(".")[-1] in ACTIVATIONS and "attn" not in path and "attention" not in path
    }
    if len(found) != 1:
        raise Incompatible(
            f"Layer {layer} of {model.name} has {len(found)} activation modules"
            f" ({', '.join(found) or 'none'}), one is needed. Use SAE features instead of its"
            " neurons."
        )
    return next(iter(found.values()))


@contextmanager
def _output(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """The module's output becomes `change(output)`."""
    handle = module.register_forward_hook(lambda _, __, out: change(out))
    try:
        yield
    finally:
        handle.remove()
