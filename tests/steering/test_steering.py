"""What each method does to a residual, and where."""

import pytest
import torch

from feature_store import registry
from feature_store.errors import BadInput
from feature_store.records import Steering
from sae_training.model.edits import Frame, by_prompt, prompt_frame, settle
from tests.helpers.small_models import WIDTH, TinySAE
from workbench.steering.methods import StrengthScale, build_edit, unit_direction

SAE = TinySAE()
SCALE = StrengthScale(5.0, torch.linspace(1, 3, 40))
HIDDEN = torch.randn(3, 6, WIDTH, generator=torch.Generator().manual_seed(0))
ALL = torch.ones(3, 6, dtype=torch.bool)


def steer(*steerings, hidden=HIDDEN, where=ALL):
    return build_edit(steerings, SAE, SCALE)(hidden, where)


def test_every_method_is_a_plug_in():
    assert {"add", "clamp", "ablate", "orthogonal"} <= set(registry.names("steerings"))


@pytest.mark.parametrize(("unit", "length"), [("raw", 2.0), ("norm_share", 10.0)])
def test_add_moves_by_a_known_length(unit, length):
    moved = (
        steer(Steering(features=((1, 1.0), (2, -3.0)), method="add", strength=2.0, unit=unit))
        - HIDDEN
    )
    torch.testing.assert_close(moved.norm(dim=-1), torch.full((3, 6), length))
    mixed = SAE.W_dec[1] - 3 * SAE.W_dec[2]
    torch.testing.assert_close(moved[0, 0], length * mixed / mixed.norm(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", ["add", "clamp"])
@pytest.mark.parametrize("unit", ["raw", "norm_share", "feature_max"])
def test_a_sum_of_one_feature_is_the_single_steering_to_the_bit(method, unit):
    for dose in (0.3, -0.7, 1.1):
        alone = steer(Steering(features=((6, 1.0),), method=method, strength=dose, unit=unit))
        assert torch.equal(
            steer(
                Steering(
                    features=((6, dose),), method=method, strength=1.0, unit=unit, combine="sum"
                )
            ),
            alone,
        )


@pytest.mark.parametrize("unit", ["raw", "norm_share", "feature_max"])
def test_doses_of_a_sum_add_up_whatever_the_decoder_norms(unit):
    uneven, doses = TinySAE(), ((3, 0.4), (9, -0.2), (21, 0.7))
    uneven.W_dec = uneven.W_dec * torch.linspace(0.3, 4, 40)[:, None]

    def moves(steering):
        return build_edit([steering], uneven, SCALE)(HIDDEN, ALL) - HIDDEN

    moved = moves(Steering(features=doses, method="add", strength=1.0, unit=unit, combine="sum"))
    alone = sum(
        moves(Steering(features=((feature, 1.0),), method="add", strength=dose, unit=unit))
        for feature, dose in doses
    )
    torch.testing.assert_close(moved, alone, atol=1e-4, rtol=1e-4)
    named = Steering(features=doses, method="add", strength=1.0, unit=unit, combine="sum").name
    assert named == f"add f3*0.4 & f9*-0.2 & f21*0.7 @1 {unit}"


@pytest.mark.parametrize("unit", ["raw", "norm_share", "feature_max"])
def test_steerings_that_are_given_together_add_up(unit):
    parts = (
        Steering(features=((3, 0.6), (9, -0.8)), strength=0.4, unit=unit),
        Steering(random=5, strength=-0.3, unit=unit),
    )
    both = Steering(together=parts, strength=1.0, unit=unit)
    moved = sum(steer(part) - HIDDEN for part in parts)
    torch.testing.assert_close(steer(both) - HIDDEN, moved, atol=1e-4, rtol=1e-4)
    assert both.name == f"add (f3*0.6+f9*-0.8)*0.4 & (random5)*-0.3 @1 {unit}"
    turned = Steering(together=parts[::-1], strength=1.0, unit=unit)
    assert turned.key != both.key != "base"
    with pytest.raises(BadInput, match="given together by adding them, got method clamp"):
        Steering(together=parts, method="clamp", strength=1.0, unit=unit)


def test_feature_max_moves_each_feature_by_its_own_maximum():
    moved = (
        steer(
            Steering(features=((1, 1.0), (39, 0.5)), method="add", strength=2.0, unit="feature_max")
        )
        - HIDDEN
    )
    expected = 2 * (float(SCALE.max_activation[1]) * SAE.W_dec[1] + 0.5 * 3 * SAE.W_dec[39])
    torch.testing.assert_close(moved[1, 3], expected, atol=1e-5, rtol=1e-4)


def test_clamp_adds_the_difference_of_the_feature_and_nothing_else():
    moved = (
        steer(
            Steering(
                features=((4, 1.0), (5, -1.0)), method="clamp", strength=1.5, unit="feature_max"
            )
        )
        - HIDDEN
    )
    active = SAE.encode(HIDDEN)
    targets = [1.5 * float(SCALE.max_activation[4]), -1.5 * float(SCALE.max_activation[5])]
    expected = sum((target - active[..., [f]]) * SAE.W_dec[f] for f, target in zip((4, 5), targets))
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=1e-4)
    raw = steer(Steering(features=((4, 1.0),), method="clamp", strength=2.0, unit="raw"))
    again = steer(
        Steering(features=((4, 1.0),), method="add", strength=2.0, unit="raw"),
        hidden=steer(Steering(features=((4, 1.0),), method="ablate", strength=1.0, unit="raw")),
    )
    torch.testing.assert_close(raw, again, atol=1e-5, rtol=1e-4)


def test_ablate_takes_the_feature_away():
    gone = steer(Steering(features=((6, 1.0),), method="ablate", strength=0.5, unit="raw"))
    torch.testing.assert_close(
        gone - HIDDEN, -SAE.encode(HIDDEN)[..., [6]] * SAE.W_dec[6], atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(
        gone, steer(Steering(features=((6, 1.0),), method="clamp", strength=0.0, unit="raw"))
    )


def test_orthogonal_sets_the_component_and_leaves_the_rest():
    steering = Steering(features=((7, 1.0),), method="orthogonal", strength=-0.5, unit="norm_share")
    unit = unit_direction(steering, SAE)
    out = steer(steering)
    torch.testing.assert_close(out @ unit, torch.full((3, 6), -2.5), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        out - (out @ unit)[..., None] * unit,
        HIDDEN - (HIDDEN @ unit)[..., None] * unit,
        atol=1e-5,
        rtol=1e-4,
    )


@pytest.mark.parametrize("method", ["add", "clamp", "ablate", "orthogonal"])
def test_the_base_and_unsteered_positions_keep_their_bits(method):
    where = torch.zeros_like(ALL)
    where[1, 1:] = True
    out = steer(
        Steering(features=((8, 1.0),), method=method, strength=1.0, unit="norm_share"), where=where
    )
    assert torch.equal(out[~where], HIDDEN[~where])
    assert not torch.equal(out[where], HIDDEN[where])
    base = (
        Steering(features=(), method=method, strength=1.0),
        Steering(features=((8, 1.0),), method="add", strength=0.0),
        Steering(features=(), method=method, strength=0.0),
    )
    assert torch.equal(steer(*base), HIDDEN)


def test_rows_of_several_methods_are_each_as_alone():
    steerings = [
        Steering(
            features=((i, 1.0), (i + 1, 0.5)),
            method=method,
            strength=1.0,
            unit=unit,
            positions=positions,
            random=random,
        )
        for i, (method, unit, positions, random) in enumerate(
            [
                ("clamp", "raw", "all", -1),
                ("add", "feature_max", "last", -1),
                ("clamp", "feature_max", "all", 5),
                ("orthogonal", "raw", "prompt", -1),
                ("ablate", "raw", "all", -1),
                ("add", "norm_share", "all", 6),
            ]
        )
    ]
    edit = build_edit(steerings, SAE, SCALE)
    order = torch.tensor([5, 0, 3, 0, 2, 1, 4])
    part = edit.take(order)
    assert part.rows == 7
    assert part.positions == tuple(steerings[i].positions for i in order.tolist())
    one = HIDDEN[:1]
    together = part(
        one.expand(7, -1, -1), torch.ones(7, 6, dtype=torch.bool)
    )  # one residual, seven interventions
    copied = part(one.repeat(7, 1, 1), torch.ones(7, 6, dtype=torch.bool))
    for row, i in enumerate(order.tolist()):
        alone = build_edit([steerings[i]], SAE, SCALE)(one, ALL[:1])[0]
        torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(copied[row], alone, atol=1e-5, rtol=1e-4)


def test_rows_taken_from_a_batch_depend_on_the_prompt_only_where_one_of_them_does():
    edit = build_edit(
        [
            Steering(features=((1, 1.0),), method=method, strength=0.5)
            for method in ("add", "conva", "clamp")
        ],
        SAE,
        SCALE,
    )
    assert by_prompt(edit)
    assert by_prompt(edit.take(torch.tensor([0, 1])))
    plain = edit.take(torch.tensor([0, 2]))
    assert not by_prompt(plain)
    assert not by_prompt(settle(edit.take(torch.tensor([1, 2])), torch.zeros(2, WIDTH)))


def test_random_directions_repeat_and_differ():
    first, again, other = (unit_direction(Steering(random=seed), SAE) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert float(first.norm()) == pytest.approx(1)
    assert abs(float(first @ other)) < 0.9
    moved = steer(Steering(method="add", strength=2.0, unit="feature_max", random=1)) - HIDDEN
    torch.testing.assert_close(
        moved.norm(dim=-1), torch.full((3, 6), 2 * float(SCALE.max_activation.median()))
    )


@pytest.mark.parametrize(
    ("steering", "message"),
    [
        (
            Steering(features=((40, 1.0),), method="add", strength=1.0),
            "features 0 to 39, got feature 40",
        ),
        (
            Steering(features=((-1, 1.0),), method="clamp", strength=1.0),
            "features 0 to 39, got feature -1",
        ),
        (Steering(features=((1, 1.0), (1, -1.0)), method="add", strength=1.0), "length 0"),
    ],
)
def test_what_cannot_be_steered_gets_one_line(steering, message):
    with pytest.raises(BadInput, match=message):
        build_edit([steering], SAE, SCALE)


def test_a_feature_without_a_maximum_says_so():
    with pytest.raises(BadInput, match="Feature 0 was never active"):
        build_edit(
            [Steering(features=((0, 1.0),), method="add", strength=1.0, unit="feature_max")],
            SAE,
            StrengthScale(5.0, torch.zeros(40)),
        )
    with pytest.raises(BadInput, match="at least one steering"):
        build_edit([], SAE, SCALE)


def test_positions_know_padding_prompt_and_answer():
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]], dtype=torch.bool)
    frame = prompt_frame(mask)
    assert frame.where(("all", "last")).int().tolist() == [[0, 0, 0, 1, 1, 1], [0, 0, 1, 0, 0, 0]]
    assert frame.where(("prompt",)).int().tolist() == [[0, 0, 0, 1, 1, 1], [0, 1, 1, 0, 0, 0]]
    assert not frame.where(("generated",)).any()
    answer = torch.tensor([[0, 0, 0, 0, 1, 1]] * 2, dtype=torch.bool)
    full = Frame(
        real=torch.ones(2, 6, dtype=torch.bool),
        first=torch.zeros(2, 6, dtype=torch.bool),
        last=answer & False,
        generated=answer,
    )
    assert full.where(("generated", "prompt")).int().tolist() == [
        [0, 0, 0, 0, 1, 1],
        [1, 1, 1, 1, 0, 0],
    ]
    with pytest.raises(BadInput, match="3 rows, the batch has 2"):
        frame.where(("all", "all", "all"))
    with pytest.raises(BadInput, match="Steered positions are"):
        frame.where(("first",))
