"""ConVA's shift is the smallest one that reaches P0, is read at the prompt's last token, and is
added wherever the row steers."""

import pytest
import torch

from feature_store.errors import BadInput, NotFound
from feature_store.records import Site
from sae_training.engine import scoring
from sae_training.engine.losses import losses
from sae_training.engine.model import Model
from sae_training.model.edits import Add, Stack, by_prompt, settle
from sae_training.model.last_token import last_residuals
from tests.helpers.small_models import LAYERS, WIDTH, model, module, tokenizer
from workbench.steering.directions import Probe
from workbench.systems.conva import shift

PROMPTS = ["the cat sat on the mat and then", "the dog ran to the end of the garden", "the mat"]
OPTIONS = [" the", " dog ran", " end"]


def random_probe(seed, scale=0.3):
    made = torch.Generator().manual_seed(seed)
    return Probe(
        torch.randn(WIDTH, generator=made, dtype=torch.float64) * scale,
        float(torch.randn(1, generator=made)),
    )


def says(probe, residual):
    return torch.sigmoid(residual @ probe.weight + probe.bias)


@pytest.fixture(scope="module")
def double():
    return Model(module("llama").double(), tokenizer(), "llama")


@pytest.mark.parametrize("lower", [False, True])
def test_the_shift_reaches_p0_exactly_and_nothing_smaller_does(lower):
    probe, goals = random_probe(0), [0.3, 0.7, 0.88, 0.975]
    e = 3 * torch.randn(
        400, 1, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    for goal in goals:
        amount = shift.minimum_shift(probe, [goal], lower).shifts(e)
        before, after, short = (
            says(probe, e),
            says(probe, e + amount),
            says(probe, e + 0.99 * amount),
        )
        there = before <= goal if lower else before >= goal
        assert 0 < there.sum() < len(e)
        assert not amount[there].any(), "already there: nothing moves"
        assert (after[~there] - goal).abs().max() < 1e-6
        assert ((short > goal) if lower else (short < goal))[~there].all(), (
            "one per cent less is not enough"
        )
        cosine = torch.cosine_similarity(amount[~there], probe.weight, dim=-1)
        torch.testing.assert_close(cosine, torch.full_like(cosine, -1.0 if lower else 1.0))


def test_each_layer_is_measured_with_the_shifts_below_it_at_work(double):
    layers, probes = (0, 1, 2), [random_probe(seed) for seed in (3, 4, 5)]
    ids = double.tokenize(PROMPTS)
    unsteered = last_residuals(double, ids, layers)
    with (
        double.steered(shift.minimum_shift(probes[0], [0.9]), Site(0)),
        double.steered(shift.minimum_shift(probes[1], [0.9]), Site(1)),
        double.steered(shift.minimum_shift(probes[2], [0.9]), Site(2)),
    ):
        steered = last_residuals(double, ids, layers)
    assert torch.equal(last_residuals(double, ids, layers), unsteered), "nothing is left behind"
    moved = 0
    for column, probe in enumerate(probes):
        before, after = says(probe, unsteered[:, column]), says(probe, steered[:, column])
        assert ((after - 0.9).abs() < 1e-6).logical_or(after > 0.9).all()
        moved += int((before < 0.9).sum())
    assert moved >= 3
    alone = [last_residuals(double, ids[:1], layers)]
    with double.steered(shift.minimum_shift(probes[0], [0.9]), Site(0)):
        alone.append(last_residuals(double, ids[:1], layers))
    assert not torch.allclose(alone[0][:, 1], alone[1][:, 1]), (
        "a shift below changes what the next layer reads"
    )


def test_the_shift_is_added_at_every_token_of_prompt_and_answer(double):
    probe, ids = random_probe(6), double.tokenize(PROMPTS)
    edit = shift.minimum_shift(probe, [0.95])
    assert by_prompt(edit)
    known = settle(edit, last_residuals(double, ids, [1])[:, 0])
    assert isinstance(known, Add)
    assert known.vectors.norm(dim=-1).max() > 0.5
    with double.steered(known, Site(1)):
        texts, scores = double.generate(PROMPTS, 8), double.score(PROMPTS, OPTIONS)
    with double.steered(edit, Site(1)):
        assert double.generate(PROMPTS, 8) == texts
        torch.testing.assert_close(double.score(PROMPTS, OPTIONS), scores, atol=1e-9, rtol=1e-9)
    assert double.generate(PROMPTS, 8) != texts


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom"])
def test_a_sweep_and_a_steered_block_agree(family):
    small = model(family)
    goals = [0.2, 0.6, 0.97]
    probe, plain = (
        random_probe(7),
        Add(torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(8)), ("all",)),
    )
    edit = Stack(
        [shift.minimum_shift(probe, goals), plain],
        torch.tensor([0, 1, 0, 0]),
        torch.tensor([2, 0, 0, 1]),
    )
    told = scoring.sweep(small, PROMPTS, OPTIONS, edit, Site(1))
    hurt = losses(small, small.tokenize(PROMPTS), edit, Site(1))
    for row, alone in enumerate(
        [
            shift.minimum_shift(probe, [0.97]),
            plain,
            shift.minimum_shift(probe, [0.2]),
            shift.minimum_shift(probe, [0.6]),
        ]
    ):
        with small.steered(alone, Site(1)):
            torch.testing.assert_close(
                told.steered[row], small.score(PROMPTS, OPTIONS), atol=2e-5, rtol=1e-4
            )
            tokens = [torch.tensor([ids]) for ids in small.tokenize(PROMPTS)]
            lost = torch.cat(
                [small.loss(ids, torch.ones_like(ids, dtype=torch.bool)) for ids in tokens]
            )
            torch.testing.assert_close(hurt.steered[row], lost, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(told.base, small.score(PROMPTS, OPTIONS), atol=2e-5, rtol=1e-4)
    assert (told.steered - told.base).abs().amax((1, 2))[:2].min() > 1e-3


def test_last_residuals_are_those_of_the_last_real_token():
    small = model()
    ids = small.tokenize(PROMPTS)
    found = last_residuals(small, ids, range(LAYERS), rows=2)
    assert found.shape == (3, LAYERS, WIDTH)
    for row, one in enumerate(ids):
        tokens = torch.tensor([one])
        for layer in range(LAYERS):
            alone = small.residuals(tokens, torch.ones_like(tokens, dtype=torch.bool), Site(layer))[
                0, -1
            ].double()
            torch.testing.assert_close(found[row, layer], alone, atol=1e-5, rtol=1e-4)
    with pytest.raises(BadInput, match="Text 2 has no tokens"):
        last_residuals(small, [[1], []], [0])


def test_what_no_shift_can_reach_is_refused():
    with pytest.raises(BadInput, match="between 0 and 1"):
        shift.minimum_shift(random_probe(0), [0.5, 1.0])
    with pytest.raises(BadInput, match="length 0"):
        shift.minimum_shift(Probe(torch.zeros(4, dtype=torch.float64), 0.0), [0.5])


def test_a_stored_direction_is_steered_like_any_other():
    from feature_store.records import Steering
    from tests.helpers.small_models import TinySAE
    from workbench.steering.methods import StrengthScale, build_edit

    sae, hidden = TinySAE(), torch.randn(1, 4, WIDTH)
    where = torch.ones(1, 4, dtype=torch.bool)
    name = "probes-1/power/probe"
    scale = StrengthScale(5.0, torch.linspace(1, 3, 40), {name: 7 * torch.eye(WIDTH)[3]})
    for method in ("add", "orthogonal", "clamp", "ablate", "conva"):
        told = Steering(method=method, strength=2.0, unit="raw", direction=name)
        assert name in told.name
        moved = (build_edit([told], sae, scale)(hidden, where) - hidden)[0]
        assert not moved[:, [i for i in range(WIDTH) if i != 3]].any(), (
            f"{method} leaves the direction"
        )
        expected = {
            "add": hidden[0, :, 3] + 2,
            "ablate": torch.zeros(4),
            "conva": hidden[0, :, 3].clamp(min=2),
        }
        torch.testing.assert_close(
            (hidden[0] + moved)[:, 3],
            expected.get(method, torch.full((4,), 2.0)),
            atol=1e-5,
            rtol=1e-5,
        )
    with pytest.raises(NotFound, match="Did you mean"):
        build_edit([Steering(strength=1.0, direction="probes-1/powr/probe")], sae, scale)
    with pytest.raises(BadInput, match="Give one of them"):
        Steering(features=((1, 1.0),), direction=name)
    assert Steering(direction=name, strength=0.0).name == "base"
