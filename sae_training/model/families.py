"""What a family of models is, measured on the model itself with a few tokens.

Families differ in ways that no configuration states alike, and each difference makes a wrong number
without a word. So a model is tried before it is used:

1. `check`: each layer runs once, takes the residual [row, tok, d_model] that the layer before it
   gave, and no token sees what comes after it. A model that is otherwise (several streams, layers
   that run in turns, a BERT that reads both ways) is refused by name.
2. `numbers_tokens`: whether it takes the positions that the workbench gives it, and gives the
   logits that it gives by itself. Else it numbers its tokens alone.
3. `padding_read`: on which side padding changes what the tokens beside it give. Rows of unequal
   length then never go through together.
4. `memory`: under which name it takes what it remembers of the tokens before (keys and values, the
   state of a Mamba). Where none gives the logits of the whole text, every token is written by a
   pass over the whole text.

A rounded model hides small differences, so what is known of a family (`PADDING_READERS`) holds in
every number format; `tests/machine/test_families.py` finds the list complete, over every causal
family of transformers that can be built small.

Left out: whether the layers above a site can be run alone (`engine/resume.py` tries that).
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from feature_store.errors import Incompatible
from sae_training.model.overflow import not_finite

Subject = Any
"""A `Runtime`, whose class stands above this module."""
PADDING_READERS = frozenset(
    [
        "bart",
        "bigbird_pegasus",
        "blenderbot",
        "blenderbot-small",
        "camembert",
        "data2vec-text",
        "marian",
        "mbart",
        "mvp",
        "pegasus",
        "plbart",
        "recurrent_gemma",
        "roberta",
        "roberta-prelayernorm",
        "rwkv",
        "trocr",
        "whisper",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xlstm",
        "xmod",
    ]
)
"""Families that read padding on the left: as text, or by counting it as a place."""
FORGETFUL = frozenset({"moshi"})
"""Families whose keys and values are dropped outside a window that a pass over the whole text does
not have; a few tokens do not show it."""
MEMORIES = ("past_key_values", "cache_params", "state")
"""Names under which families take what they remember."""
STATES = frozenset(MEMORIES[1:])
"""Those of a memory whose length does not grow with the text."""
PASSED_ON = ("use_cache", "logits_to_keep")
"""Keywords that a forward pass may hand on without naming them."""
TOKENS = (5, 9, 6, 8, 4, 7)
"""Tokens that a model is tried with; the last one is replaced to see who sees it."""


def check(model: Subject) -> bool:
    """Raise Incompatible, with the family's name, unless it can be read and steered.

    What it must do: pass one residual from layer to layer, and never look ahead. Says whether its
    layers return (residual, ...), as older families do, instead of the residual.
    """
    tuples: list[bool] = []
    entered: list[Any] = []
    left: list[Any] = []

    def before(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Keep what enters a layer."""
        entered.append(args[0] if args else kwargs.get("hidden_states"))

    def after(_: Any, args: tuple[Any, ...], out: Any) -> None:
        """Keep what a layer gives."""
        tuples.append(isinstance(out, tuple | list))
        left.append(out[0] if isinstance(out, tuple | list) else out)

    ids = torch.tensor([TOKENS, (*TOKENS[:-1], 3)])
    hooks = [layer.register_forward_pre_hook(before, with_kwargs=True) for layer in model.layers]
    hooks += [layer.register_forward_hook(after) for layer in model.layers]
    try:
        logits = alone(model, ids)
    except Exception as error:  # whatever a family raises that wants more than tokens
        text = " ".join(str(error).split())[:160]
        raise _refusal(model, f"reads more than tokens ({type(error).__name__}: {text})") from error
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(logits, Tensor) or logits.shape[:2] != ids.shape:
        raise _refusal(model, "gives no logits of one token after another")
    if not bool((logits < torch.inf).all()):
        raise not_finite(model, "On a few tokens", steered=False)
    if len(left) != model.n_layers:
        raise _refusal(model, f"runs {len(left)} layers in a pass where it has {model.n_layers}")
    shape = (*ids.shape, model.d_model)
    for residual in (*entered, *left):
        if not isinstance(residual, Tensor) or residual.shape != shape:
            seen = tuple(residual.shape) if isinstance(residual, Tensor) else type(residual)
            raise _refusal(
                model,
                f"passes {seen} between its layers, not one residual of {shape} (row, token,"
                " width)",
            )
    passed = zip(entered[1:], left[:-1], strict=True)
    if not all(torch.equal(given.to(taken.device), taken) for taken, given in passed):
        raise _refusal(model, "changes the residual between its layers")
    if not alike(model, logits[0, :-1], logits[1, :-1]):
        raise _refusal(model, "lets a token see what comes after it")
    return tuples[0]


@contextmanager
def unhooked(module: nn.Module) -> Iterator[None]:
    """Let the module run inside the block as if nobody had hooked it."""
    held = []
    for part in module.modules():
        for hooks in (part._forward_hooks, part._forward_pre_hooks):
            if hooks:
                held.append((hooks, list(hooks.items())))
                hooks.clear()
    try:
        yield
    finally:
        for hooks, items in held:
            hooks.update(items)


def accepted(model: Subject) -> frozenset[str]:
    """List the keywords that the module's forward pass names, or takes for what it calls."""
    parameters = inspect.signature(model.module.forward).parameters
    takes_more = any(named.kind is named.VAR_KEYWORD for named in parameters.values())
    return frozenset([*parameters, *(PASSED_ON if takes_more else ())])


def numbers_tokens(model: Subject) -> bool:
    """Say whether the family takes the positions that the workbench gives it."""
    if "position_ids" not in model.accepted:
        return False
    ids = torch.tensor([TOKENS])
    position = torch.arange(len(TOKENS), device=model.device)[None]
    mask = torch.ones_like(ids).to(model.device)
    try:
        with torch.no_grad():
            given = model.module(
                input_ids=ids.to(model.device),
                position_ids=position,
                **_known(model, attention_mask=mask, use_cache=False),
            ).logits
    except Exception:  # whatever a family raises at positions of another shape
        return False
    return alike(model, given[0], alone(model, ids)[0])


def padding_read(model: Subject) -> frozenset[str]:
    """List the sides on which padding changes the logits of the tokens beside it."""
    ids = torch.tensor([TOKENS])
    logits = alone(model, ids)[0]
    blank = torch.zeros(1, 3, dtype=torch.long)
    sides = {"left": torch.cat([blank, ids], 1), "right": torch.cat([ids, blank], 1)}
    family = model.module.config.get_text_config().model_type
    read = {"left"} if family in PADDING_READERS else set()
    for side, padded in sides.items():
        place = slice(3, None) if side == "left" else slice(None, len(TOKENS))
        mask = torch.zeros_like(padded, dtype=torch.bool)
        mask[:, place] = True
        try:
            beside = model.run(padded, mask).logits[0, place]
        except Exception:  # whatever a family raises at padding
            read.add(side)
            continue
        if not alike(model, beside, logits):
            read.add(side)
    return frozenset(read)


def memory(model: Subject) -> str:
    """Name the keyword under which the family takes its memory; "" where none is right."""
    if model.module.config.get_text_config().model_type in FORGETFUL:
        return ""
    for name in MEMORIES:
        if name in model.accepted and _remembers(model, name):
            return name
    return ""


def fresh_memory(model: Subject, name: str) -> Any:
    """Make an empty memory; None where the family makes its own."""
    from transformers import DynamicCache

    return DynamicCache(config=model.module.config) if name == "past_key_values" else None


def alike(model: Subject, logits: Tensor, expected: Tensor) -> bool:
    """Say whether logits are the same, but for what the number format rounds away."""
    expected, logits = expected.float(), logits.float().to(expected.device)
    tolerance = max(1e-4, 10 * torch.finfo(model.dtype).eps)
    # A family may give minus infinity to tokens that it never writes.
    apart = torch.where(logits == expected, 0, logits - expected).abs().max()
    return bool(apart <= tolerance * expected[expected.isfinite()].abs().max())


def _remembers(model: Subject, name: str) -> bool:
    """Try a memory: two tokens one by one, after rows that are padded where padding is not read."""
    whole = torch.tensor([TOKENS])
    gap = 0 if "left" in model.padding_read else 2
    ids = torch.cat([whole, whole.roll(gap, 1)])
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[1, :gap] = False
    short = whole[:, : len(TOKENS) - gap]
    expected = torch.cat([alone(model, text)[:, -2:] for text in (whole, short)])
    cut = len(TOKENS) - 2
    held: dict[str, Any] = {name: fresh_memory(model, name)}
    read = []
    try:
        for start, stop in ((0, cut), (cut, cut + 1), (cut + 1, cut + 2)):
            out = model.run(ids[:, start:stop], mask[:, :stop], use_cache=True, **held)
            held = {name: getattr(out, name, None)}
            read.append(out.logits[:, -1])
    except Exception:  # whatever a family raises at a memory that is not its own
        return False
    return held[name] is not None and alike(model, torch.stack(read[1:], 1), expected)


def alone(model: Subject, ids: Tensor) -> Any:
    """Run the module as transformers does, on whole rows: its logits."""
    with torch.no_grad():
        return model.module(input_ids=ids.to(model.device), **_known(model, use_cache=False)).logits


def _known(model: Subject, **keywords: Any) -> dict[str, Any]:
    """Leave out the keywords that the module's forward pass does not name."""
    return {name: value for name, value in keywords.items() if name in model.accepted}


def _refusal(model: Subject, why: str) -> Incompatible:
    family = getattr(model.module.config, "model_type", type(model.module).__name__)
    return Incompatible(
        f"{model.name} is a {family} model, which {why}. The workbench reads and steers one"
        " residual stream of a model that writes from left to right; choose another model."
    )
