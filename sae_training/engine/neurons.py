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
from functools import partial
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
from sae_training.model.runtime import Change, Runtime

ACTIVATIONS = ("act_fn", "act", "gelu_impl", "activation_fn", "activation")
"""What the families call the module of their MLP's activation function."""


@dataclass(frozen=True, eq=False)
class Group:
    """The neurons of one layer, or the latents of an SAE, and how to get at them."""

    layer: int
    """0-based decoder layer."""
    width: int
    """Neurons of the group."""
    hook: Callable[[Change], AbstractContextManager[None]]
    """Inside the block the group's activations become what the change returns."""


@dataclass(frozen=True, eq=False)
class Neurons:
    """Some neurons, each by its group and its number in it."""

    group: Int[np.ndarray, " neuron"]
    """0-based number of the group that each neuron belongs to."""
    index: Int[np.ndarray, " neuron"]
    """0-based number within its group."""

    def of(self, group: int) -> Int[np.ndarray, " place"]:
        """Find the places of a group's neurons in this list."""
        return np.flatnonzero(self.group == group)


@dataclass(frozen=True, eq=False)
class NeuronEdit:
    """What is done to some neurons while the model runs."""

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
        """Raises BadInput for a dropout that is no chance, and for amounts that are not finite."""
        if not 0 <= self.dropout < 1:
            raise BadInput(
                f"A dropout is a chance from 0 up to 1, got {self.dropout:g}. The paper uses 0.1."
            )
        if not np.isfinite(self.add).all():
            raise BadInput("A neuron cannot be moved by NaN or infinity. Give finite amounts.")


class CountedAnswers(NamedTuple):
    """Answers to prompts, and on how many of their tokens each neuron was active."""

    prompts: list[list[int]]
    """Token ids of each prompt."""
    new: list[list[int]]
    """Token ids of each answer."""
    active: list[Int[np.ndarray, "answer neuron"]]
    """For each group: response tokens on which a neuron was above 0."""
    tokens: Int[np.ndarray, " answer"]
    """Response tokens that were counted."""


def gates(model: Runtime) -> list[Group]:
    """Find the MLP neurons of every decoder layer.

    Raises Incompatible where a layer has no activation module, or several.

        groups = gates(model)  # groups[5].width neurons in layer 5
    """
    modules = [_activation(model, number) for number in range(model.n_layers)]
    shapes: list[list[tuple[int, ...]]] = [[] for _ in modules]
    with model.lock, ExitStack() as stack:
        for module, seen in zip(modules, shapes, strict=True):
            stack.enter_context(_output(module, _noting_shape(seen)))
        token = torch.ones(1, 1, dtype=torch.long)
        model.forward(token, token.bool())
    for layer, seen in enumerate(shapes):
        if len(seen) != 1 or len(seen[0]) != 3:
            raise Incompatible(
                f"Layer {layer} of {model.name} runs its activation function {len(seen)} times a"
                f" token, on {seen[:1] or 'nothing'}; neurons need one MLP a layer. Use SAE"
                " features instead."
            )
    return [
        Group(layer, seen[0][2], partial(_output, module))
        for layer, (module, seen) in enumerate(zip(modules, shapes, strict=True))
    ]


def _noting_shape(seen: list[tuple[int, ...]]) -> Change:
    """Make a change that changes nothing, and notes the shape of what comes by."""

    def note(activations: Tensor) -> Tensor:
        """Note the shape."""
        seen.append(tuple(activations.shape))
        return activations

    return note


def latents(model: Runtime, sae: Encoder, site: Site) -> list[Group]:
    """Show an SAE's latents at its site as a single group of neurons.

    For example:

        latents(model, sae, sae.site())
    """
    at = sites.boundary(site, model.n_layers)

    def hook(change: Change) -> AbstractContextManager[None]:
        """Change the latents inside the block."""

        def rewrite(hidden: Tensor) -> Tensor:
            """Add to the residual what the changed latents make of a difference."""
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
) -> CountedAnswers:
    """Answer prompts given as token ids, and count active neurons over the answers' tokens.

    Greedy at temperature 0.

        answer(model, gates(model), prompt_ids(model, prompts), max_new_tokens=20)
    """
    active = [torch.zeros(len(prompts), group.width, dtype=torch.int32) for group in groups]
    tokens = torch.zeros(len(prompts), dtype=torch.int32)

    def watch(number: int) -> Change:
        """Make the change that counts a group's active neurons."""

        def see(activations: Tensor) -> Tensor:
            """Count, and change nothing."""
            where = _frame(model).where(("generated",)).to(activations.device)
            if number == 0:
                tokens[model.pass_rows] += where.sum(1).cpu().int()
            if where.any():
                fired = ((activations > 0) & where[..., None]).sum(1)
                active[number][model.pass_rows] += fired.cpu().int()
            return activations

        return see

    with model.lock, ExitStack() as stack:
        for number, group in enumerate(groups):
            stack.enter_context(group.hook(watch(number)))
        new = continuations(model, prompts, max_new_tokens, temperature, seed)
    return CountedAnswers(
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
    """Take a percentile of each neuron over the response tokens on which it is above 0.

    `new` holds the answers to `prompts`, as token ids; `share` says which percentile [0 to 1].
    The result is in activation units, 0 where a neuron never is above 0. A percentile over all
    tokens would be 0 for every sparse latent, and below 0 for most gate units.
    """
    members = [neurons.of(number) for number in range(len(groups))]
    watched: list[list[Tensor]] = [[] for _ in groups]

    def watch(number: int) -> Change:
        """Make the change that keeps the activations of a group's neurons."""
        index = torch.from_numpy(neurons.index[members[number]]).long()

        def see(activations: Tensor) -> Tensor:
            """Keep those of response tokens, and change nothing."""
            where = _frame(model).where(("generated",)).to(activations.device)
            chosen = activations[where][:, index.to(activations.device)]
            watched[number].append(chosen.float().cpu())
            return activations

        return see

    rows = [(prompt, added) for prompt, added in zip(prompts, new, strict=True) if added]
    with model.lock, ExitStack() as stack:
        for number, group in enumerate(groups):
            if len(members[number]):
                stack.enter_context(group.hook(watch(number)))
        for start in range(0, len(rows), ROWS):
            _replay(model, rows[start : start + ROWS])
    out = np.zeros(len(neurons.index), np.float64)
    for number, place in enumerate(members):
        if watched[number]:
            out[place] = _percentile(torch.cat(watched[number]).numpy(), share)
    return out


@contextmanager
def edited(model: Runtime, groups: Sequence[Group], edit: NeuronEdit) -> Iterator[Runtime]:
    """Edit neurons on every pass inside the block; after it the model is exactly as before.

    For example:

        with edited(model, gates(model), edit):
            model.generate(prompts, max_new_tokens=20)
    """
    hooks = []
    for number, group in enumerate(groups):
        place = edit.neurons.of(number)
        if not len(place):
            continue
        index = edit.neurons.index[place]
        if not 0 <= index.min() <= index.max() < group.width:
            raise BadInput(
                f"Layer {group.layer} has neurons 0 to {group.width - 1}; the edit names another."
            )
        hooks.append(group.hook(_editing(model, edit, place, number)))
    with model.lock, ExitStack() as stack:
        for hook in hooks:
            stack.enter_context(hook)
        yield model


def _editing(
    model: Runtime, edit: NeuronEdit, place: Int[np.ndarray, " place"], number: int
) -> Change:
    """Make the change of one group: `place` are its neurons' places in the edit."""
    index = torch.from_numpy(edit.neurons.index[place]).long()
    add = torch.from_numpy(edit.add[place])
    opposing = torch.from_numpy(edit.opposing[place])
    draw = torch.Generator().manual_seed((edit.seed * 1_000_003 + number) % 2**63)

    def change(activations: Tensor) -> Tensor:
        """Edit the neurons that are not left out of this pass."""
        device = activations.device
        stays = torch.rand(len(index), generator=draw) >= edit.dropout
        at = index[stays].to(device)
        more = add[stays].to(activations)
        hold = opposing[stays].to(device)
        where = _frame(model).where(("all",)).to(device)[..., None]
        before = activations[..., at]
        after = torch.where(hold, before.clamp(max=0), before + more)
        return activations.index_copy(-1, at, torch.where(where, after, before))

    return change


def _frame(model: Runtime) -> Frame:
    """Say what the tokens of the pass are that runs."""
    assert model.frame is not None, "neurons are watched through Model, which knows what is padding"
    return model.frame


def _replay(model: Runtime, rows: Sequence[tuple[list[int], list[int]]]) -> None:
    """Run prompts with their answers once more, padded on the right."""
    width = max(len(prompt) + len(added) for prompt, added in rows)
    ids = torch.tensor(
        [[*prompt, *added, *[0] * (width - len(prompt) - len(added))] for prompt, added in rows]
    )
    place = torch.arange(width)
    begin = torch.tensor([[len(prompt)] for prompt, _ in rows])
    end = torch.tensor([[len(prompt) + len(added)] for prompt, added in rows])
    real = place < end
    given = prompt_frame(place < begin)
    frame = Frame(
        real=real.to(model.device),
        first=given.first.to(model.device),
        last=given.last.to(model.device),
        generated=((begin <= place) & real).to(model.device),
    )
    model.forward(ids, real, frame=frame, logits_to_keep=1)


def _percentile(
    activations: Float[np.ndarray, "tok neuron"], share: float
) -> Float[np.ndarray, " neuron"]:
    """Take a percentile of the positive numbers of each column; 0 without any.

    Between two ranks it is interpolated linearly.
    """
    ranked = np.sort(activations.astype(np.float64), axis=0)
    positive = (ranked > 0).sum(0)
    at = len(ranked) - positive + share * np.maximum(positive - 1, 0)
    below = np.minimum(at.astype(int), len(ranked) - 1)
    above = np.minimum(below + 1, len(ranked) - 1)
    low, high = (np.take_along_axis(ranked, rank[None], 0)[0] for rank in (below, above))
    return np.where(positive > 0, low + (at - below) * (high - low), 0.0)


def _activation(model: Runtime, layer: int) -> nn.Module:
    """Find the one activation module of a layer that stands outside attention."""
    candidates = {
        path: module
        for path, module in model.layers[layer].named_modules()
        if path.split(".")[-1] in ACTIVATIONS and "attn" not in path and "attention" not in path
    }
    if len(candidates) != 1:
        raise Incompatible(
            f"Layer {layer} of {model.name} has {len(candidates)} activation modules"
            f" ({', '.join(candidates) or 'none'}), one is needed. Use SAE features instead of its"
            " neurons."
        )
    return next(iter(candidates.values()))


@contextmanager
def _output(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Make a module's output into `change(output)` inside the block."""
    handle = module.register_forward_hook(lambda _, __, out: change(out))
    try:
        yield
    finally:
        handle.remove()
