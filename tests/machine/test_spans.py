"""Steering the tokens of a piece of the prompt: exactly there, exactly as much, and in the
prompt pass only."""

import pytest
import torch

from feature_store.errors import BadInput
from feature_store.records import Site, Span, Steering
from sae_training.engine import scoring
from sae_training.engine.losses import losses
from sae_training.model import spans
from tests.helpers.small_models import TinySAE, model
from workbench.steering.methods import StrengthScale, build_edit

SAE = TinySAE()
SCALE = StrengthScale(5.0, torch.ones(40))
COEF, FEATURE, LAYER = 7.0, 5, 1
SPAN = Span(" the mat")
PROMPTS = [
    "the cat sat on the mat and then ran",
    "the mat : the dog sat on the mat",
    "on the garden the mat",
]


def edit(*rows):
    return build_edit(
        [
            Steering(
                features=((FEATURE, 1.0),), method="add", strength=COEF, unit="raw", positions=where
            )
            for where in rows
        ],
        SAE,
        SCALE,
    )


def passes(found, act):
    """The residual after LAYER in every forward pass that `act` makes."""
    seen = []
    handle = found.layers[LAYER].register_forward_hook(
        lambda _, __, out: seen.append((out[0] if isinstance(out, tuple) else out).clone())
    )
    try:
        act()
    finally:
        handle.remove()
    return seen


def inside(found, prompt, span=SPAN):
    ids = found.tokenize([prompt], prompt=True)[0]
    return torch.tensor(spans.find(found, [prompt], {span: [0]})[span][0]), len(ids)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("chat", [False, True])
def test_the_residual_differs_by_the_decoder_row_inside_the_span_and_by_nothing_outside(
    family, chat
):
    found = model(family, chat)
    for prompt in PROMPTS:
        marked, length = inside(found, prompt)
        assert len(marked) == length
        assert marked.sum() >= 2
        text = found.tokenizer.decode(
            [
                token
                for token, is_in in zip(found.tokenize([prompt], prompt=True)[0], marked)
                if is_in
            ]
        )
        assert set(text.split()) == {"the", "mat"}
        with found.steered(
            edit(SPAN), Site(LAYER)
        ):  # the first recorder is registered after the edit, so it sees what the next layer reads
            steered = passes(found, lambda prompt=prompt: found.generate([prompt], 1))[0]
        plain = passes(found, lambda prompt=prompt: found.generate([prompt], 1))[0]
        change = (steered - plain)[0]
        assert torch.equal(steered[0][~marked], plain[0][~marked])
        assert torch.equal(
            steered[0][marked],
            plain[0][marked] + (COEF * SAE.W_dec[FEATURE] / SAE.W_dec[FEATURE].norm()),
        )
        torch.testing.assert_close(
            change[marked],
            (COEF * SAE.W_dec[FEATURE]).expand(int(marked.sum()), -1),
            atol=2e-5,
            rtol=1e-5,
        )


def test_cached_decode_steps_are_untouched():
    found = model("llama")
    seen = {}

    class Recorder:
        positions, rows = (SPAN,), 1

        def take(self, rows):
            return self

        def __call__(self, hidden, where):
            seen.setdefault("where", []).append(where.clone())
            return edit(SPAN)(hidden, where)

    with found.steered(Recorder(), Site(LAYER)):
        found.generate([PROMPTS[0]], 5)
    prompt_pass, *steps = seen["where"]
    assert prompt_pass.any()
    assert len(steps) == 4
    for step in steps:
        assert step.shape == (1, 1)
        assert not step.any()


def test_each_row_has_its_own_span_and_padding_does_not_move_it():
    found = model("llama")
    other = Span("the garden")
    both = edit(SPAN, "all", other)
    with found.steered(both, Site(LAYER)):
        together = found.generate(PROMPTS, 6)
        scored = found.score(PROMPTS, [" cat", " dog ran"])
    for row, where in enumerate((SPAN, "all", other)):
        with found.steered(edit(where), Site(LAYER)):
            assert found.generate([PROMPTS[row]], 6) == [together[row]]
            torch.testing.assert_close(
                found.score([PROMPTS[row]], [" cat", " dog ran"])[0],
                scored[row],
                atol=1e-4,
                rtol=1e-4,
            )


def test_a_sweep_of_spans_equals_the_steered_block():
    found = model("gpt2")
    both = edit(SPAN, "all")
    swept = scoring.sweep(found, PROMPTS, [" cat", " dog ran"], both, Site(LAYER))
    for row, where in enumerate((SPAN, "all")):
        with found.steered(edit(where), Site(LAYER)):
            torch.testing.assert_close(
                found.score(PROMPTS, [" cat", " dog ran"]), swept.steered[row], atol=1e-4, rtol=1e-4
            )
    torch.testing.assert_close(
        found.score(PROMPTS, [" cat", " dog ran"]), swept.base, atol=1e-4, rtol=1e-4
    )
    assert (swept.steered[0] - swept.base).abs().max() > 1e-3


def test_a_span_that_does_not_occur_is_refused_in_one_line():
    found = model("llama")
    with (
        found.steered(edit(Span(" your values")), Site(LAYER)),
        pytest.raises(BadInput, match="' your values' does not occur in prompt 1"),
    ):
        found.generate(PROMPTS, 1)
    with pytest.raises(BadInput, match="does not occur in prompt 3"):
        scoring.sweep(found, [*PROMPTS[:2], "a dog"], [" cat"], edit(SPAN), Site(LAYER))
    with pytest.raises(BadInput, match="bare tokens"):
        losses(found, [[1, 2, 3]], edit(SPAN), Site(LAYER))
    with pytest.raises(BadInput, match="at least one word"):
        Span(" ")
    assert (
        Steering(
            features=((3, 1.0),),
            method="add",
            strength=100,
            unit="raw",
            positions=Span(" your values"),
        ).name
        == "add f3 @100 raw at ' your values'"
    )
