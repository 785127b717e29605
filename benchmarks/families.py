"""Every causal family of transformers is right, or refused by name.

Each family that can be built small (`_small_families.py`) is tried with texts of unequal length,
against plain forward passes of one text at a time, without cache, padding or a hook of the
workbench:

1. generation: the same text, in a batch and alone, steered and not; how transformers' own
   `generate` fares is said beside it.
2. scoring of answers, in one batch.
3. steering: a vector that is added at a layer moves the residual there by itself, and everything
   after it as a hook made by hand does.
4. resume: sweeps, losses and residuals that start from what is kept.

A family is `right`, `refused` in one line that names it, `wrong`, or not `built`. Where there is an
accelerator, everything runs on it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks._small_families import built, names
from feature_store.errors import WorkbenchError
from feature_store.records import Site
from sae_training.engine import losses as engine_losses
from sae_training.engine.generate import continuations
from sae_training.engine.model import Model
from sae_training.engine.scoring import full_scores, sweep_ids
from sae_training.model.edits import Add
from sae_training.model.last_token import last_residuals

NAME = "families that are wrong"
REACH = 0
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NEW = 6
"""Tokens written after each prompt."""
OPTIONS = [[11], [11, 14], [13, 15, 17]]
"""Answers that are scored, as token ids."""


class Outcome(NamedTuple):
    """What became of a family."""

    family: str
    """Its name among transformers' causal families."""
    verdict: str
    """`right`, `refused`, `wrong` or `not built`."""
    line: str
    """What it was refused with, what is wrong, or why it cannot be built; else what was noted."""


class _Wrong(Exception):
    """A result differs from that of a plain forward pass."""


class _Reference:
    """A model run plainly: one text at a time, no cache, no padding, hooks made by hand."""

    def __init__(self, model: Model) -> None:
        self.module, self.layers = model.module, model.layers
        self.no_cache = {"use_cache": False} if "use_cache" in model.accepted else {}
        generator = torch.Generator().manual_seed(1)
        self.vector = 3 * torch.randn(model.d_model, generator=generator)

    def logits(self, ids: Sequence[int], layer: int = -1, place: slice = slice(1, None)) -> Tensor:
        """Logits of a text [tok vocab]; the vector is added to what `layer` gives at `place`."""

        def change(_: object, __: object, out: object) -> object:
            """Add the vector to the tokens at `place`."""
            residual = out[0] if isinstance(out, tuple | list) else out
            moved = residual.clone()
            moved[:, place] += self.vector.to(moved.device)
            return type(out)((moved, *out[1:])) if isinstance(out, tuple | list) else moved

        hooks = [self.layers[layer].register_forward_hook(change)] if layer >= 0 else []
        try:
            with torch.no_grad():
                tokens = torch.tensor([list(ids)], device=DEVICE)
                return self.module(input_ids=tokens, **self.no_cache).logits[0].float().cpu()
        finally:
            for hook in hooks:
                hook.remove()

    def scores(
        self, prompts: Sequence[Sequence[int]], layer: int = -1, positions: str = "all"
    ) -> Tensor:
        """Log-probabilities of the options after each prompt [prompt option; nats]."""
        out = torch.zeros(len(prompts), len(OPTIONS))
        for row, prompt in enumerate(prompts):
            place = {"all": slice(1, None), "last": slice(len(prompt) - 1, len(prompt))}[positions]
            for column, option in enumerate(OPTIONS):
                logprobs = self.logits([*prompt, *option], layer, place).log_softmax(-1)
                for at, token in enumerate(option):
                    out[row, column] += logprobs[len(prompt) - 1 + at, token]
        return out

    def text(self, prompt: Sequence[int], stops: frozenset[int], layer: int = -1) -> list[int]:
        """Greedy tokens after a prompt."""
        ids = list(prompt)
        for _ in range(NEW):
            ids.append(int(self.logits(ids, layer)[-1].argmax()))
            if ids[-1] in stops:
                return ids[len(prompt) : -1]
        return ids[len(prompt) :]

    def residual(self, ids: Sequence[int], layer: int) -> Tensor:
        """What a layer gives, unsteered [tok d_model]."""
        seen: list[Tensor] = []

        def keep(_: object, __: object, out: object) -> None:
            """Keep the layer's residual."""
            seen.append((out[0] if isinstance(out, tuple | list) else out)[0].float().cpu())

        hook = self.layers[layer].register_forward_hook(keep)
        self.logits(ids)
        hook.remove()
        return seen[0]


def prompts() -> list[list[int]]:
    """Make texts of unequal length, some of which begin alike."""
    generator = torch.Generator().manual_seed(0)

    def tokens(count: int) -> list[int]:
        """Draw tokens that are no special ones."""
        return torch.randint(20, 90, (count,), generator=generator).tolist()

    shared = tokens(9)
    return [tokens(5), [*shared, *tokens(4)], [*shared, *tokens(9)], tokens(12)]


def outcome(family: str) -> Outcome:
    """Try a family."""
    module = built(family)
    if isinstance(module, str):
        return Outcome(family, "not built", module)
    try:
        model = Model(module.to(DEVICE), None, family)
        reference = _Reference(model)
        model.check()
        notes = [
            check(model, reference) for check in (_writing, _scoring, _steering, _losing, _resuming)
        ]
    except WorkbenchError as error:
        return Outcome(family, "refused", str(error))
    except Exception as error:  # a traceback is as wrong as a wrong number
        text = " ".join(str(error).split())[:200]
        return Outcome(family, "wrong", f"{type(error).__name__}: {text}")
    return Outcome(family, "right", "; ".join(note for note in notes if note))


def _writing(model: Model, reference: _Reference) -> str:
    """Compare texts, steered and not, in a batch and alone."""
    texts = prompts()
    for layer in (-1, 1):
        expected = [reference.text(prompt, model.stop_tokens, layer) for prompt in texts]
        with _steered(model, reference, layer):
            together = continuations(model, texts, NEW, 0.0, 0)
            alone = [continuations(model, [prompt], NEW, 0.0, 0)[0] for prompt in texts]
        for found, how in ((together, "in a batch"), (alone, "alone")):
            if found != expected:
                raise _Wrong(f"text {how}, layer {layer}: {found} where {expected} is right")
    theirs = _by_transformers(model, texts[0])
    padding = "".join(f", padding on the {side} is read" for side in sorted(model.padding_read))
    kept = f"remembers as {model.memory}" if model.memory else "reads the whole text for each token"
    apart = (
        "" if theirs == reference.text(texts[0], model.stop_tokens) else "; its generate differs"
    )
    return f"{kept}{padding}{apart}"


def _by_transformers(model: Model, prompt: Sequence[int]) -> list[int]:
    """Continue a prompt by transformers' own `generate`; nothing where it cannot."""
    ids = torch.tensor([prompt], device=DEVICE)
    mask = torch.ones_like(ids)
    try:
        written = model.module.generate(
            ids, attention_mask=mask, max_new_tokens=NEW, do_sample=False, pad_token_id=2
        )[0, len(prompt) :].tolist()
    except Exception:  # whatever a family raises that generates in another way
        return []
    stop = next((at for at, token in enumerate(written) if token in model.stop_tokens), NEW)
    return written[:stop]


def _scoring(model: Model, reference: _Reference) -> str:
    """Compare the scores of answers in one batch."""
    expected = reference.scores(prompts())
    _same("scores", sweep_ids(model, prompts(), OPTIONS).base, expected)
    _same("scores of full passes", full_scores(model, prompts(), OPTIONS), expected)
    return ""


def _steering(model: Model, reference: _Reference) -> str:
    """Compare what an added vector does with a hook made by hand."""
    ids = prompts()[1]
    tokens = torch.tensor([ids])
    mask = torch.ones_like(tokens, dtype=torch.bool)
    plain = reference.logits(ids)
    for layer in range(model.n_layers):
        residual = reference.residual(ids, layer)
        _same("residual", _residual(model, ids, layer), residual)
        with _steered(model, reference, layer):
            moved = _residual(model, ids, layer) - residual
            steered = model.logits(tokens, mask)[0].float().cpu()
        expected = reference.vector.expand_as(moved).clone()
        expected[0] = 0
        _same(f"change at layer {layer}", moved, expected)
        _same(f"steered logits, layer {layer}", steered, reference.logits(ids, layer))
        if (steered[1:] - plain[1:]).abs().max() < 1e-4:
            raise _Wrong(f"steering at layer {layer} changes nothing")
    return ""


def _residual(model: Model, ids: Sequence[int], layer: int) -> Tensor:
    """What the workbench reads at a layer [tok d_model]."""
    tokens = torch.tensor([ids])
    mask = torch.ones_like(tokens, dtype=torch.bool)
    return model.residuals(tokens, mask, Site(layer))[0].float().cpu()


def _losing(model: Model, reference: _Reference) -> str:
    """Compare residuals and losses of a batch that is padded on the right."""
    texts = prompts()
    layer = model.n_layers // 2
    found = last_residuals(model, texts, [layer])[:, 0].float()
    _same("last residuals", found, torch.stack([reference.residual(t, layer)[-1] for t in texts]))
    edit = Add(reference.vector[None], ("all",))
    losses = engine_losses.losses(model, texts, edit, Site(1))
    for steered, layer in ((losses.base, -1), (losses.steered[0], 1)):
        expected = [
            torch.nn.functional.cross_entropy(
                reference.logits(text, layer)[:-1], torch.tensor(text[1:])
            )
            for text in texts
        ]
        _same(f"losses, layer {layer}", steered, torch.stack(expected))
    start = [text[:2] for text in texts]
    rest = [text[2:] for text in texts]
    after = [
        torch.nn.functional.cross_entropy(reference.logits(text)[1:-1], torch.tensor(text[2:]))
        for text in texts
    ]
    _same(
        "losses after a beginning", engine_losses.loss_after(model, start, rest), torch.stack(after)
    )
    return ""


def _resuming(model: Model, reference: _Reference) -> str:
    """Compare steered sweeps, which start from what is kept where a family can."""
    from sae_training.engine.resume import branches, resumable

    vectors = reference.vector.expand(2, -1)
    for layer in (0, model.n_layers - 1):
        found = sweep_ids(model, prompts(), OPTIONS, Add(vectors, ("all", "last")), Site(layer))
        for row, positions in enumerate(("all", "last")):
            expected = reference.scores(prompts(), layer, positions)
            _same(f"sweep at {positions}, layer {layer}", found.steered[row], expected)
    if not resumable(model):
        return "full passes"
    return "resumed, answers as a tree" if branches(model) else "resumed"


@contextmanager
def _steered(model: Model, reference: _Reference, layer: int) -> Iterator[None]:
    """Add the vector at a layer inside the block; -1: nowhere."""
    if layer < 0:
        yield
        return
    with model.steered(Add(reference.vector[None], ("all",)), Site(layer)):
        yield


def _same(what: str, found: Tensor, expected: Tensor) -> None:
    """Raise unless numbers are the same, but for rounding."""
    apart = float((found.cpu() - expected).abs().max())
    if not apart <= 2e-4 * max(1.0, float(expected.abs().max())):
        raise _Wrong(f"{what}: off by {apart:.3g}")


def main() -> dict:
    """The value is the number of families that are wrong."""
    outcomes = []
    for family in names():
        outcomes.append(outcome(family))
        print(f"{family:26} {outcomes[-1].verdict:10} {outcomes[-1].line}", flush=True)
    counts = {
        verdict: sum(each.verdict == verdict for each in outcomes)
        for verdict in ("right", "refused", "wrong", "not built")
    }
    return {
        "name": NAME,
        "value": counts["wrong"],
        "reach": REACH,
        "holds": counts["wrong"] <= REACH,
        **counts,
        "families": len(outcomes),
    }
