"""Value neurons: found where they are planted, edited as the paper says, and gone without a
trace."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from feature_store.errors import BadInput, Incompatible
from feature_store.records import Site
from sae_training.engine.losses import losses
from sae_training.engine.model import Model
from sae_training.engine.neurons import (
    NeuronEdit,
    Neurons,
    answer,
    edited,
    gates,
    latents,
    percentiles,
)
from sae_training.engine.scoring import full_scores, sweep_ids
from tests.helpers import small_models
from workbench.systems.value_locate.effects import MeasuredEdits, cells, effect_rows, plan
from workbench.systems.value_locate.experiment import group_of, places
from workbench.systems.value_locate.locate import Located, amounts, locate, shares, weight

PROMPTS = [[0, 40, 41, 42], [0, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59], [0, 60, 61]]


def padded(rows):
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    return ids, torch.tensor(
        [[1] * len(row) + [0] * (width - len(row)) for row in rows], dtype=torch.bool
    )


def edit(groups, dropout=0.0, seed=0):
    """A few neurons of each group, half of them held down."""
    group = np.repeat(np.arange(len(groups)), 6)
    index = np.concatenate([np.arange(6) * 3 for _ in groups])
    return NeuronEdit(
        neurons=Neurons(group, index),
        add=np.full(len(group), 0.7),
        opposing=np.arange(len(group)) % 2 == 0,
        dropout=dropout,
        seed=seed,
    )


def read_down(model, layer):
    """What the MLP of a layer hands to its down projection, caught there by name."""
    found = []
    down = next(
        m
        for n, m in model.layers[layer].named_modules()
        if n.split(".")[-1] in ("down_proj", "dense_4h_to_h") or n == "mlp.c_proj"
    )
    return found, down.register_forward_pre_hook(
        lambda _, args: found.append(args[0].detach().clone())
    )


@pytest.mark.parametrize("family", small_models.CONFIGS)
def test_the_neurons_of_each_family_stand_behind_its_activation_function(family):
    model = small_models.model(family)
    groups = gates(model)
    assert [group.layer for group in groups] == list(range(small_models.LAYERS))
    assert {group.width for group in groups} == {
        48 if family not in ("gpt2", "bloom") else 4 * small_models.WIDTH
    }
    ids, mask = padded(PROMPTS)
    before = model.logits(ids, mask)
    seen = []
    with groups[2].hook(lambda a: seen.append(a) or a):
        assert torch.equal(model.logits(ids, mask), before), "watching changes nothing"
    mlp = next(m for n, m in model.layers[2].named_modules() if n.endswith("mlp") or n == "mlp")
    gated = hasattr(mlp, "gate_proj")
    read, handle = read_down(model, 2)
    given = []
    inner = mlp.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    with groups[2].hook(lambda a: torch.zeros_like(a)):
        model.logits(ids, mask)
    handle.remove()
    inner.remove()
    assert not read[0].any(), "the down projection reads what the neuron became"
    if gated:  # the first pass' input of this MLP is the same: only layer 2 was changed
        torch.testing.assert_close(seen[0], mlp.act_fn(mlp.gate_proj(given[0])))
    assert seen[0].shape == (3, 11, groups[2].width)


@pytest.mark.parametrize("family", small_models.CONFIGS)
def test_edits_do_what_they_say_and_leave_no_trace(family):
    model = small_models.model(family)
    groups = gates(model)
    ids, mask = padded(PROMPTS)
    before = model.logits(ids, mask)
    change = edit(groups)
    plain, edits = [], []
    with (
        groups[0].hook(lambda a: plain.append(a) or a),
        edited(model, groups, change),
        groups[0].hook(lambda a: edits.append(a) or a),
    ):
        moved = model.logits(ids, mask)
    inner = mask & (torch.arange(11) > 0)
    first = change.neurons.of(0)
    for place in first:
        column = change.neurons.index[place]
        was, now = plain[0][..., column], edits[0][..., column]
        expected = was.clamp(max=0) if change.opposing[place] else was + 0.7
        torch.testing.assert_close(now[inner], expected[inner])
        assert torch.equal(now[~inner], was[~inner]), "the first token and padding stay"
    rest = np.setdiff1d(np.arange(groups[0].width), change.neurons.index[first])
    assert torch.equal(edits[0][..., rest], plain[0][..., rest])
    assert not torch.equal(moved, before)
    with pytest.raises(ZeroDivisionError), edited(model, groups, change):
        raise ZeroDivisionError
    assert torch.equal(model.logits(ids, mask), before)
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in model.module.modules()
    )


@pytest.mark.parametrize("family", small_models.CONFIGS)
def test_scores_with_shared_beginnings_are_those_of_full_passes(family):
    model = small_models.model(family)
    groups = gates(model)
    prompts = [[0, *range(40, 56), 100 + k] for k in range(4)] + [[0, *range(40, 56), 7, 8, 9]]
    options = [[20], [21, 22]]
    for found in (groups, latents(model, small_models.TinySAE(), Site(1))):
        with edited(model, found, edit(found)):
            torch.testing.assert_close(
                sweep_ids(model, prompts, options).base,
                full_scores(model, prompts, options),
                atol=2e-4,
                rtol=1e-4,
            )
            text = torch.tensor([prompts[0]])
            nothing = small_models_edit(0.0)
            assert float(losses(model, [prompts[0]], nothing, Site(2)).steered) == pytest.approx(
                float(model.loss(text, text > -1)), abs=1e-4
            )


def small_models_edit(strength):
    from feature_store.records import Steering
    from workbench.steering.methods import StrengthScale, build_edit

    return build_edit(
        [Steering(features=((0, 1.0),), method="add", strength=strength, unit="raw")],
        small_models.TinySAE(),
        StrengthScale(5.0, torch.ones(40)),
    )


def test_a_cached_answer_is_edited_as_the_whole_text_is():
    model = small_models.model("llama")
    groups = gates(model)
    with edited(model, groups, edit(groups)):
        new = answer(model, groups, PROMPTS[:1], 6).new[0]
        ids = list(PROMPTS[0])
        for token in new:
            assert (
                int(
                    model.logits(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool))[
                        0, -1
                    ].argmax()
                )
                == token
            )
            ids.append(token)


def test_dropout_is_seeded_and_leaves_about_its_share_out():
    model = small_models.model("llama")
    groups = gates(model)
    ids, mask = padded(PROMPTS)
    width = groups[0].width
    everything = NeuronEdit(
        neurons=Neurons(np.zeros(width, int), np.arange(width)),
        add=np.full(width, 100.0),
        opposing=np.zeros(width, bool),
        dropout=0.3,
        seed=5,
    )
    shares_left = []
    for _ in range(2):
        kept = []
        with (
            edited(model, groups, everything),
            groups[0].hook(lambda a, kept=kept: kept.append(a[0, 1]) or a),
        ):
            for _ in range(60):
                model.logits(ids, mask)
        shares_left.append(torch.stack(kept) > 50)
    assert torch.equal(*shares_left), "the same seed drops the same neurons"
    assert abs(float(shares_left[0].float().mean()) - 0.7) < 3 * np.sqrt(
        0.21 / shares_left[0].numel()
    )
    assert len({tuple(row.tolist()) for row in shares_left[0]}) > 50, "each pass drops others"


@pytest.mark.parametrize("on", ["mlp", "sae"])
def test_response_tokens_are_counted_and_nothing_else(on):
    model = small_models.model("gpt2")
    groups = gates(model) if on == "mlp" else latents(model, small_models.TinySAE(), Site(1))
    found = answer(model, groups, PROMPTS, 9, temperature=1.0, seed=3)
    assert len({len(new) for new in found.new}) >= 1
    for row, (prompt, new) in enumerate(zip(PROMPTS, found.new)):
        counted = (
            new if len(new) < 9 else new[:-1]
        )  # the last token of a cut answer never enters the model
        assert found.tokens[row] == len(counted)
        if not counted:
            continue
        ids = torch.tensor([prompt + counted])
        for number, group in enumerate(groups):
            seen = []
            with group.hook(lambda a, seen=seen: seen.append(a) or a):
                model.logits(ids, torch.ones_like(ids, dtype=torch.bool))
            whole = (seen[0][0, len(prompt) :] > 0).sum(0).numpy()
            assert np.abs(found.active[number][row] - whole).sum() <= 1, (
                "cached and whole agree but for rounding at 0"
            )


def test_an_answer_that_ended_is_counted_no_further(monkeypatch):
    model = small_models.model("gpt2")
    groups = gates(model)
    free = answer(model, groups, PROMPTS, 8, temperature=1.0, seed=1)
    stop = free.new[0][3]
    at = [new.index(stop) if stop in new else len(new) for new in free.new]
    model.__dict__["stop_tokens"] = frozenset([stop])
    ended = answer(model, groups, PROMPTS, 8, temperature=1.0, seed=1)
    assert [len(new) for new in ended.new] == at
    assert ended.tokens.tolist() == [n if n < 8 else 7 for n in at]
    assert ended.active[0][0].sum() < free.active[0][0].sum()


def test_percentiles_are_those_of_the_active_response_tokens():
    model = small_models.model("llama")
    groups = gates(model)
    new = [[70, 71, 72, 73, 74], [80, 81], []]
    wanted = Neurons(np.array([0, 0, 3, 3]), np.array([1, 40, 2, 5]))
    found = percentiles(model, groups, PROMPTS, new, wanted)
    for place in range(4):
        values = []
        for prompt, added in zip(PROMPTS, new):
            seen = []
            ids = torch.tensor([prompt + added])
            with groups[wanted.group[place]].hook(lambda a, seen=seen: seen.append(a) or a):
                model.logits(ids, torch.ones_like(ids, dtype=torch.bool))
            values += seen[0][0, len(prompt) :, wanted.index[place]].tolist()
        active = [v for v in values if v > 0]
        assert found[place] == pytest.approx(np.percentile(active, 95) if active else 0.0, abs=1e-4)


def test_an_sae_edit_keeps_what_the_sae_does_not_reconstruct():
    model, sae = small_models.model("llama"), small_models.TinySAE()
    groups = latents(model, sae, Site(1))
    ids, mask = padded(PROMPTS)
    plain = model.residuals(ids, mask, Site(1))
    target = NeuronEdit(
        neurons=Neurons(np.array([0, 0]), np.array([4, 9])),
        add=np.array([2.0, 0.0]),
        opposing=np.array([False, True]),
    )
    seen = []
    with edited(model, groups, target), model.hooked(2, lambda h: seen.append(h) or h):
        model.logits(ids, mask)
    inner = mask & (torch.arange(11) > 0)
    wanted = plain + 2 * sae.W_dec[4] - sae.encode(plain)[..., 9:10] * sae.W_dec[9]
    torch.testing.assert_close(seen[0][inner], wanted[inner], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(seen[0][~inner], plain[~inner])


def test_bad_edits_and_models_without_one_mlp_a_layer_are_refused():
    model = small_models.model("llama")
    groups = gates(model)
    with (
        pytest.raises(BadInput, match="neurons 0 to 47"),
        edited(
            model,
            groups,
            NeuronEdit(
                neurons=Neurons(np.array([1]), np.array([48])),
                add=np.ones(1),
                opposing=np.zeros(1, bool),
            ),
        ),
    ):
        pass
    with pytest.raises(BadInput, match="chance"):
        edit(groups, dropout=1.0)
    with pytest.raises(BadInput, match="finite"):
        NeuronEdit(
            neurons=Neurons(np.zeros(1, int), np.zeros(1, int)),
            add=np.array([np.nan]),
            opposing=np.zeros(1, bool),
        )
    model.layers[1].mlp.act = nn.ReLU()
    with pytest.raises(Incompatible, match="Layer 1.*2 activation modules"):
        gates(model)
    del model.layers[1].mlp.act
    model.layers[1].mlp.act_fn = model.layers[0].mlp.act_fn
    with pytest.raises(Incompatible, match="2 times"):
        gates(model)


def test_f_delta_and_the_amounts():
    assert weight(np.array([0.15])).tolist() == [0.5]
    assert weight(np.array([1.0])) == pytest.approx(1 / (1 + np.exp(-8.5)))
    located = Located(np.array([3, 8]), np.array([0.15, -0.4]))
    assert amounts(located, np.array([2.0, 5.0]), 0.6) == pytest.approx([0.6, 0.0])
    assert amounts(located.reverse(), np.array([2.0, 5.0]), 0.6) == pytest.approx(
        [0.0, 0.6 * 5 * weight(np.array([0.4]))[0]]
    )
    assert located.reverse().opposing.tolist() == [True, False]


def test_neurons_are_chosen_by_rank_or_by_difference_and_only_with_the_right_sign():
    delta = np.array([0.3, 0.05, 0.0, -0.02, -0.5, 0.12, 0.04])
    found = locate(delta, 1, 0.1)
    assert found.neuron.tolist() == [0, 5, 4]
    assert found.delta == pytest.approx([0.3, 0.12, -0.5])
    everything = locate(delta, 2000, 0.1)
    assert sorted(everything.neuron) == [
        0,
        1,
        3,
        4,
        5,
        6,
    ], "a neuron without a difference has no role"
    swapped = locate(-delta, 2000, 0.1)
    assert {(n, -d) for n, d in zip(swapped.neuron, swapped.delta)} == set(
        zip(everything.neuron, everything.delta)
    ), "antisymmetric"
    with pytest.raises(BadInput, match="delta > 0"):
        locate(delta, 5, 0.0)


def test_shares_have_the_standard_error_of_clustered_answers():
    rng = np.random.default_rng(0)
    n, truth, z = 60, 0.3, []
    for _ in range(400):
        tokens = rng.integers(5, 30, n)
        rate = rng.beta(3 * truth, 3 * (1 - truth), n)  # answers differ
        active = rng.binomial(tokens, rate)
        found = shares(
            np.array([active.sum()]),
            np.array([(active**2).sum()]),
            np.array([(active * tokens).sum()]),
            tokens,
        )
        z.append((found.share[0] - truth) / found.error[0])
        assert found.tokens == tokens.sum()
    assert 0.9 < np.std(z) < 1.12
    assert 0.92 < np.mean(np.abs(z) < 1.96) < 0.98
    binomial = np.sqrt(truth * (1 - truth) / found.tokens)
    assert found.error[0] > 1.5 * binomial, "tokens of an answer are not independent"
    with pytest.raises(BadInput, match="answered nothing"):
        shares(np.zeros(2, int), np.zeros(2, int), np.zeros(2, int), np.zeros(3, int))


def test_the_control_edits_as_many_live_neurons_of_each_layer_with_the_same_deltas():
    group = np.repeat([0, 1, 2], 50)
    alive = np.arange(150) % 3 != 0
    own = Located(
        np.array([1, 4, 7, 52, 55, 58, 61]), np.array([0.5, -0.2, 0.3, 0.9, 0.1, -0.6, -0.7])
    )
    control = own.control(group, alive, 3)
    assert not set(control.neuron) & set(own.neuron)
    assert alive[control.neuron].all()
    for number in (0, 1):
        assert sorted(control.delta[group[control.neuron] == number]) == sorted(
            own.delta[group[own.neuron] == number]
        )
    assert len(set(control.neuron)) == 7
    assert set(control.neuron) != set(own.control(group, alive, 4).neuron)
    crowded = Located(np.arange(40), np.linspace(-1, 1, 40))
    assert len(set(crowded.control(group, alive, 0).neuron)) == 40, (
        "where others are too few, its own fill up"
    )
    assert set(range(40, 50)) <= set(crowded.control(group, alive, 0).neuron)


def test_neurons_are_numbered_over_all_groups():
    groups = gates(small_models.model("llama"))
    where = places(groups, np.array([0, 47, 48, 191]))
    assert where.group.tolist() == [0, 0, 1, 3]
    assert where.index.tolist() == [0, 47, 0, 47]
    assert group_of(groups)[[0, 47, 48, 191]].tolist() == [0, 0, 1, 3]


# --- a toy with planted neurons
# ---------------------------------------------------------------------------------------

A, B, HIGH, LOW = 10, 11, 20, 21
"""Tokens of which one's answers consist under the value and under its reverse; the options of
the readout."""
PLANTED = {(0, 3): 1, (0, 17): 1, (1, 5): 1, (2, 30): 1, (0, 8): -1, (1, 40): -1, (2, 2): -1}
"""(layer, neuron) -> +1 target, -1 opposing."""


@pytest.fixture(scope="module")
def toy():
    """A Llama without attention that repeats its last token; planted neurons tell A from B and
    write the readout.
    """
    torch.manual_seed(1)
    d = 64
    config = LlamaConfig(
        vocab_size=30,
        hidden_size=d,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=False,
    )
    module = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        module.model.embed_tokens.weight.zero_()
        module.lm_head.weight.zero_()
        for token in range(30):  # its own direction, and one that all tokens share
            module.model.embed_tokens.weight[token, token] = 6.0
            module.model.embed_tokens.weight[token, 40] = 6.0
            module.lm_head.weight[token, token] = 2.0
        module.lm_head.weight[HIGH, 41] = 1.0
        module.lm_head.weight[LOW, 41] = -1.0
        for number, layer in enumerate(module.model.layers):
            layer.self_attn.o_proj.weight.zero_()
            mlp = layer.mlp
            mlp.gate_proj.weight.zero_()
            mlp.up_proj.weight.zero_()
            mlp.down_proj.weight.zero_()
            mlp.up_proj.weight[:, 40] = 0.5
            mlp.gate_proj.weight[:, 40] = torch.randn(48) * 0.5  # alike under A and B, on or off
            mlp.down_proj.weight[50:60] = (
                torch.randn(10, 48) * 0.05
            )  # they write where nothing is read
            for (at, neuron), sign in PLANTED.items():
                if at == number:
                    mlp.gate_proj.weight[neuron, 40] = 0.0
                    mlp.gate_proj.weight[neuron, A], mlp.gate_proj.weight[neuron, B] = (
                        0.5 * sign,
                        -0.5 * sign,
                    )
                    mlp.down_proj.weight[:, neuron] = 0.0
                    mlp.down_proj.weight[41, neuron] = 0.3 * sign
    return Model(module, None, "toy")


@pytest.fixture(scope="module")
def toy_found(toy):
    """Groups, what was located, its control and u."""
    groups = gates(toy)
    held = [[0, 12 + k % 5, A] for k in range(10)]
    denied = [[0, 12 + k % 5, B] for k in range(10)]
    answers = [answer(toy, groups, prompts, 6) for prompts in (held, denied)]
    assert answers[0].new[0] == [A] * 6
    p = [np.concatenate([a.sum(0) for a in found.active]) / found.tokens.sum() for found in answers]
    own = locate(p[0] - p[1], 2000, 0.1)
    control = own.control(group_of(groups), (p[0] > 0) | (p[1] > 0), 0)
    used = np.concatenate([own.neuron, control.neuron])
    u = np.zeros(3 * 48)
    u[used] = percentiles(
        toy, groups, held + denied, [*answers[0].new, *answers[1].new], places(groups, used)
    )
    return groups, own, control, u, p


def readout(model):
    """How much more likely the high option is than the low one, after questions with A, B and
    neither.
    """
    prompts = [[0, 5, A], [0, 5, B], [0, 6, 7]]
    scores = sweep_ids(model, prompts, [[HIGH], [LOW]]).base
    return float((scores[:, 0] - scores[:, 1]).mean())


def test_the_planted_neurons_are_found_and_no_other(toy_found):
    groups, own, _, u, p = toy_found
    where = places(groups, own.neuron)
    assert {
        (g, n): int(np.sign(d))
        for g, n, d in zip(where.group.tolist(), where.index.tolist(), own.delta)
    } == PLANTED
    assert np.abs(own.delta) == pytest.approx(1.0)
    assert (u[own.neuron] > 0).all()
    swapped = locate(p[1] - p[0], 2000, 0.1)
    assert dict(zip(swapped.neuron, swapped.delta)) == {
        n: -d for n, d in zip(own.neuron, own.delta)
    }


def test_the_planted_readout_follows_gamma_and_the_control_stays_flat(toy, toy_found):
    groups, own, control, u, _ = toy_found
    base = readout(toy)

    def under(located, gamma):
        with edited(
            toy,
            groups,
            NeuronEdit(
                neurons=places(groups, located.neuron),
                add=amounts(located, u[located.neuron], gamma),
                opposing=located.opposing,
            ),
        ):
            return readout(toy) - base

    gammas = (0.0, 0.25, 0.5, 1.0, 2.0)
    up, down, flat = (
        [under(one, gamma) for gamma in gammas] for one in (own, own.reverse(), control)
    )
    assert up[0] > 1e-3, "gamma 0 still holds the opposing neurons down"
    assert (np.diff(up) > 0).all()
    assert (np.diff(down) < 0).all()
    assert down[0] < -1e-3
    assert np.abs(flat).max() < 0.05 * up[-1]
    assert readout(toy) == base


# --- effects
# --------------------------------------------------------------------------------------------------


def test_effects_are_paired_by_context_and_the_control_is_pooled_over_its_draws():
    rng = np.random.default_rng(0)
    targets = ("power", "security")
    planned = plan(("power",), (0.5, 1.0), 2)
    assert [(one.condition, one.gamma, one.draw) for one in planned] == [
        ("edited", 0.5, -1),
        ("edited", 1.0, -1),
        ("reversed", 0.5, -1),
        ("reversed", 1.0, -1),
        ("random", 0.5, 0),
        ("random", 1.0, 0),
        ("random", 0.5, 1),
        ("random", 1.0, 1),
    ]
    base = rng.normal(
        3.5, 2.0, (12, 2)
    )  # contexts differ widely: only pairing sees an effect of 0.3
    true = np.array([0.3, 0.6, -0.3, -0.6, 0.1, 0.2, -0.1, 0.0])
    ratings = base + true[:, None, None] * np.array([1.0, 0.0]) + rng.normal(0, 0.05, (8, 12, 2))
    damage = np.abs(true)[:, None] + rng.normal(0, 0.01, (8, 5))
    made = cells(
        planned,
        targets,
        MeasuredEdits(ratings=ratings, base=base, damage=damage, neurons=[7] * 8),
    )
    rows = {
        (r["value"], r["condition"], r["gamma"], r["target"]): r for r in effect_rows(made, 500, 0)
    }
    assert len(rows) == 2 + 6 * 2 + 6
    one = rows["power", "edited", 1.0, "power"]
    changes = (ratings - base)[1, :, 0]
    assert one["effect"] == pytest.approx(changes.mean())
    assert one["low"] < 0.6 < one["high"]
    assert one["high"] - one["low"] == pytest.approx(
        2 * stats.t.ppf(0.975, 11) * changes.std(ddof=1) / np.sqrt(12), rel=0.35
    )
    assert one["mean"] == pytest.approx(base[:, 0].mean() + changes.mean())
    assert (one["n"], one["neurons"], one["damage_n"], one["draws"]) == (12, 7, 5, 0)
    assert one["damage_low"] < 0.6 < one["damage_high"]
    control = rows["power", "random", 1.0, "power"]
    pooled = (ratings - base)[[5, 7], :, 0]
    assert control["effect"] == pytest.approx(pooled.mean())
    assert control["draws"] == 2
    assert control["draw_sd"] == pytest.approx(pooled.mean(1).std(ddof=1))
    assert one["excess"] == pytest.approx(changes.mean() - pooled.mean())
    assert (
        rows["power", "edited", 1.0, "security"]["low"]
        < 0
        < rows["power", "edited", 1.0, "security"]["high"]
    )
    assert rows["all", "edited", 1.0, "own"]["effect"] == pytest.approx(one["effect"])
    default = rows["", "default", 0.0, "power"]
    assert (default["effect"], default["damage"]) == (0, 0)
    assert default["mean"] == pytest.approx(base[:, 0].mean())
    assert default["mean_low"] < default["mean"] < default["mean_high"]


def test_without_a_control_there_is_no_excess():
    base = np.random.default_rng(0).normal(3, 1, (6, 1))
    made = cells(
        plan(("power",), (1.0,), 0),
        ("power",),
        MeasuredEdits(
            ratings=np.stack([base + 1, base - 1]),
            base=base,
            damage=np.zeros((2, 4)),
            neurons=[3, 3],
        ),
    )
    rows = effect_rows(made, 200, 0)
    assert all(np.isnan(row["excess"]) for row in rows)
    with pytest.raises(BadInput, match="rising"):
        plan(("power",), (1.0, 0.5), 1)
