"""The engine's promise: resumed scores equal those of the full forward pass, for every family."""

import itertools

import pytest
import torch

from feature_store.errors import BadInput
from feature_store.records import Site, Steering
from sae_training.engine import losses as losses_module
from sae_training.engine import resume, scoring, walk
from sae_training.engine.losses import losses, losses_work
from sae_training.engine.prefixes import tree
from sae_training.engine.resume import branches
from sae_training.engine.scoring import TokenizedPrompts, full_scores, score_rows, sweep, sweep_ids
from sae_training.engine.tails import tails
from tests.helpers import small_models
from tests.helpers.counting import assert_counts
from workbench.steering.methods import StrengthScale, build_edit

STEERINGS = [
    Steering(
        features=((0, 1.0), (1, -0.5)),
        method="add",
        strength=1.0,
        unit="norm_share",
        positions="all",
    ),
    Steering(
        features=((2, 1.0),), method="clamp", strength=2.0, unit="feature_max", positions="prompt"
    ),
    Steering(features=((3, 1.0),), method="ablate", strength=1.0, unit="raw", positions="all"),
    Steering(features=((4, 1.0),), method="orthogonal", strength=2.0, unit="raw", positions="last"),
    Steering(
        features=((5, 1.0),), method="clamp", strength=0.5, unit="norm_share", positions="last"
    ),
    Steering(
        features=(), method="add", strength=1.0, unit="norm_share", positions="generated", random=3
    ),
    Steering(
        features=(), method="clamp", strength=1.0, unit="norm_share", positions="all", random=4
    ),
]
OPTIONS = [[11], [12], [13, 14], [13, 15, 16], [13, 15, 17], [18, 15, 16], [18, 19]]
"""Of one token, and of several that share their beginnings or not: a tree that branches."""


@pytest.fixture(scope="module")
def edit():
    return build_edit(STEERINGS, small_models.TinySAE(), StrengthScale(5.0, torch.full((40,), 3.0)))


@pytest.fixture(scope="module")
def prompts():
    """Shared beginnings of two lengths, one prompt that is another's beginning, a duplicate, and
    a single token.
    """
    source = torch.Generator().manual_seed(1)
    starts = [torch.randint(300, (n,), generator=source).tolist() for n in (12, 19)]
    found = [
        starts[i % 2] + torch.randint(300, (3 + i % 4,), generator=source).tolist()
        for i in range(9)
    ]
    return [*found, [5], [5, 6], starts[0], found[0]]


def by_full_passes(model, prompts, edit, layer, point):
    rows = []
    for row in range(edit.rows):
        with model.steered(edit.take(torch.tensor([row])), Site(layer, point)):
            rows.append(full_scores(model, prompts, OPTIONS))
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("family", "layer", "point"),
    [
        *((family, 1, "resid_post") for family in small_models.CONFIGS),
        *(
            (family, layer, point)
            for family in ("gpt2", "gemma2")
            for layer, point in [(0, "resid_pre"), (3, "resid_post")]
        ),
    ],
)
def test_resumed_scores_are_those_of_the_full_forward(
    family, layer, point, edit, prompts, monkeypatch
):
    monkeypatch.setitem(walk.TOKENS, "cpu", 60)  # several chunks of interventions and of prompts
    model = small_models.model(family)
    seen = []
    found = sweep_ids(
        model,
        prompts,
        OPTIONS,
        edit,
        Site(layer, point),
        lambda *count: seen.append(count),
    )
    base = full_scores(model, prompts, OPTIONS)
    expected = by_full_passes(model, prompts, edit, layer, point)
    torch.testing.assert_close(found.base, base, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.steered, expected, atol=1e-4, rtol=0)
    assert ((expected - base).abs().amax((1, 2)) > 1e-2).sum() >= 5  # they did steer
    assert_counts(seen)


@pytest.mark.parametrize("family", small_models.CONFIGS)
def test_prompts_with_options_of_their_own_are_scored_together(family, edit, prompts, monkeypatch):
    """Each prompt has one to six options of one to twelve tokens; the scores are those of the
    plain forward of each whole text.
    """
    source, model = torch.Generator().manual_seed(2), small_models.model(family)

    def answer(start, count):
        return [*start, *torch.randint(300, (count,), generator=source).tolist()]

    asked = [*prompts, prompts[0]]  # the same prompt with other options
    starts = [answer([], 3) for _ in asked]
    options = [
        [answer(starts[row][: k % 3], 1 + (row * k) % 9) for k in range(1 + row % 6)]
        for row in range(len(asked))
    ]
    some = edit.take(torch.tensor([0, 4, 5]))
    told = []
    ran = walk.run
    monkeypatch.setattr(
        walk, "run", lambda *given, **more: told.append(given[2].groups) or ran(*given, **more)
    )
    found = sweep_ids(model, asked, options, some, Site(1))
    assert max(told) >= 5, "prompts run side by side, whatever their options"
    for row, (prompt, answers) in enumerate(zip(asked, options, strict=True)):
        assert (found.base[row, len(answers) :] == -torch.inf).all()
        for column, one in enumerate(answers):
            logprobs = model.logits(
                torch.tensor([[*prompt, *one]]),
                torch.ones(1, len(prompt) + len(one), dtype=torch.bool),
            )[0].log_softmax(-1)
            plain = sum(
                float(logprobs[len(prompt) - 1 + at, token]) for at, token in enumerate(one)
            )
            assert float(found.base[row, column]) == pytest.approx(plain, abs=1e-4)
    with model.steered(some.take(torch.tensor([2])), Site(1)):
        torch.testing.assert_close(
            full_scores(model, asked, options), found.steered[2], atol=1e-4, rtol=0
        )
    alone = [
        sweep_ids(model, [prompt], answers, some, Site(1)).steered
        for prompt, answers in zip(asked, options, strict=True)
    ]
    for row, scores in enumerate(alone):
        torch.testing.assert_close(
            found.steered[:, row, : scores.shape[-1]], scores[:, 0], atol=1e-4, rtol=0
        )
    monkeypatch.setattr(scoring, "branches", lambda _: False)  # each path by itself
    apart = sweep_ids(model, asked, options, some, Site(1))
    torch.testing.assert_close(apart.steered, found.steered, atol=1e-4, rtol=0)
    torch.testing.assert_close(apart.base, found.base, atol=1e-4, rtol=0)
    with pytest.raises(BadInput, match="Got 14 prompts and options for 13"):
        sweep_ids(model, asked, options[1:], some, Site(1))


def test_which_families_take_a_mask_of_ours_is_found_by_trying(monkeypatch):
    assert {family: branches(small_models.model(family)) for family in small_models.CONFIGS} == {
        family: family != "bloom" for family in small_models.CONFIGS
    }
    undeclared = small_models.model("qwen2")  # a window in layers that are not told
    monkeypatch.setattr(undeclared.module.config, "sliding_window", 6)
    monkeypatch.setattr(undeclared.module.config, "layer_types", None)
    assert not branches(undeclared)


def test_a_tail_holds_every_stem_once():
    (whole,) = tails(OPTIONS, True)
    assert sorted(whole.tokens) == [13, 15, 15, 18]
    assert not whole.is_path
    for tail in (whole, *tails(OPTIONS, False)):
        path = [
            [(0, *tail.tokens)[other] for other in row.nonzero()[1:, 0].tolist()]
            for row in tail.sees
        ]
        assert [len(one) for one in path] == tail.depths.tolist()
        for number, option in enumerate(OPTIONS):
            reads = sorted(
                (one for one in tail.reads if one.option == number),
                key=lambda one: len(path[one.place]),
            )
            assert [one.token for one in reads] in ([], option)
            assert all(path[one.place] == option[:at] for at, one in enumerate(reads))
    assert all(tail.is_path for tail in tails(OPTIONS, False))
    assert sorted(one.option for tail in tails(OPTIONS, False) for one in tail.reads) == sorted(
        one.option for one in whole.reads
    )


def test_answers_are_steered_only_where_positions_say(edit, prompts):
    model = small_models.model("qwen3")
    found = sweep_ids(model, prompts, OPTIONS, edit, Site(1))
    generated = found.steered[5] - found.base
    assert generated[:, :2].abs().max() < 1e-5  # one-token options: nothing has been generated yet
    assert generated[:, 2:].abs().min() > 0
    alone = sweep_ids(
        model, [[5]], OPTIONS[:2], edit, Site(1)
    )  # a single token is the first one, which never is steered
    torch.testing.assert_close(alone.steered, alone.base.expand(7, -1, -1), atol=1e-5, rtol=0)


def test_the_model_is_untouched_by_a_sweep(edit, prompts):
    model = small_models.model("gpt2")
    ids = torch.tensor([prompts[0]])
    mask = torch.ones_like(ids, dtype=torch.bool)
    before = model.logits(ids, mask)
    sweep_ids(model, prompts, OPTIONS, edit, Site(2))
    with pytest.raises(RuntimeError):
        sweep_ids(model, prompts, OPTIONS, Broken(), Site(2))
    assert torch.equal(model.logits(ids, mask), before)
    assert all(
        "forward" not in layer.__dict__ and not layer._forward_hooks for layer in model.layers
    )


class Broken:
    """Fails in the middle of a pass."""

    rows, positions = 1, ("all",)

    def take(self, rows):
        return self

    def __call__(self, hidden, where):
        raise RuntimeError("broken")


def test_texts_and_chat_templates(edit):
    for chat in (False, True):
        model = small_models.model("llama", chat)
        questions = ["the cat sat on", "the cat sat on the mat and", "Ünïcode 你好 🙂?"]
        options = [" the", " then", " garden"]
        found = sweep(model, questions, options, edit, Site(1))
        torch.testing.assert_close(model.score(questions, options), found.base)
        torch.testing.assert_close(
            score_rows(model, TokenizedPrompts.of(model, questions), options)[0], found.base
        )
        with model.steered(edit.take(torch.tensor([0])), Site(1)):
            torch.testing.assert_close(
                model.score(questions, options), found.steered[0], atol=1e-4, rtol=0
            )
            with pytest.raises(BadInput, match="outside the steered block"):
                sweep(model, questions, options, edit, Site(1))
        text = [
            model.render(question) + (options[2].lstrip() if chat else options[2])
            for question in questions
        ]
        whole = model.tokenizer(text, add_special_tokens=not chat)["input_ids"]
        given = model.tokenize(questions, prompt=True)
        for row, ids in enumerate(whole):
            logprobs = model.logits(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool))[
                0
            ].log_softmax(-1)
            answer = range(len(given[row]), len(ids))
            assert float(found.base[row, 2]) == pytest.approx(
                sum(float(logprobs[at - 1, ids[at]]) for at in answer), abs=1e-4
            )


def test_a_long_prompt_is_named():
    model = small_models.model()
    with pytest.raises(BadInput, match=r"Prompt 2 .*tokens; llama reads 64"):
        model.score(["the", "the cat " * 200], [" the"])
    fits = "the" + " cat" * 62
    assert len(model.tokenize([fits])[0]) == 64
    with pytest.raises(BadInput, match="Prompt 1 "):
        model.score([fits], [" the"])
    with pytest.raises(BadInput, match="at least one prompt"):
        model.score([], [" the"])


def test_models_that_keep_no_keys_are_scored_in_full(edit, prompts, monkeypatch):
    model = small_models.model("llama")
    resumed = sweep_ids(model, prompts, OPTIONS, edit, Site(1))
    monkeypatch.setattr(scoring, "resumable", lambda _: False)
    full = sweep_ids(model, prompts, OPTIONS, edit, Site(1))
    torch.testing.assert_close(full.steered, resumed.steered, atol=1e-4, rtol=0)


def test_progress_counts_each_token_in_each_layer_that_it_runs_through(edit, prompts, monkeypatch):
    """Unsteered from the embedding, steered from the site, the last tokens with their logits."""
    monkeypatch.setitem(walk.TOKENS, "cpu", 60)
    model = small_models.model("llama")
    passes = []

    def run(model, segment, cache, watch):
        layers = model.n_layers - segment.at
        if not segment.body:
            layers += walk.head_layers(model)
        passes.append(sum(map(len, segment.ids)) * cache.rows * layers)
        return resume.run(model, segment, cache, watch)

    monkeypatch.setattr(walk, "run", run)
    seen = []
    sweep_ids(model, prompts, OPTIONS, edit, Site(1), lambda *count: seen.append(count))
    assert seen[-1][1] == sum(passes)
    steps = [after[0] - before[0] for before, after in itertools.pairwise(seen)]
    assert steps == passes, "each pass is told when it has run"


@pytest.mark.parametrize("resumes", [True, False])
def test_progress_of_losses_and_of_full_passes_ends_at_its_total(
    resumes, edit, prompts, monkeypatch
):
    monkeypatch.setitem(walk.TOKENS, "cpu", 60)
    model = small_models.model("llama")
    if not resumes:
        monkeypatch.setattr(losses_module, "resumable", lambda _: False)
        monkeypatch.setattr(scoring, "resumable", lambda _: False)
    scored, lost = [], []
    sweep_ids(model, prompts, OPTIONS, edit, Site(1), lambda *count: scored.append(count))
    losses(model, prompts[:4], edit, Site(1), lambda *count: lost.append(count))
    for counts in (scored, lost):
        assert_counts(counts)
        assert len(counts) > edit.rows
    assert lost[-1][1] == losses_work(model, prompts[:4], edit.rows, Site(1))


def test_the_tree_holds_each_prompt_once(prompts):
    unique = list(dict.fromkeys(map(tuple, prompts)))
    root = tree(unique)

    def paths(node, before):
        here = (*before, *node.ids)
        for final in node.finals:
            yield final.prompt, (*here, final.token)
        for child in node.children:
            yield from paths(child, here)

    assert dict(paths(root, ())) == dict(enumerate(unique))
    assert (
        sum(len(node.ids) for node in root.walk()) < sum(map(len, unique)) - 70
    )  # the two beginnings, once each


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_losses_are_those_of_the_steered_model(family, edit, prompts, monkeypatch):
    model = small_models.model(family)
    texts = prompts[:4]
    found = losses(model, texts, edit, Site(1))
    for column, ids in enumerate(texts):
        one = torch.tensor([ids])
        mask = torch.ones_like(one, dtype=torch.bool)
        torch.testing.assert_close(
            found.base[[column]], model.loss(one, mask), atol=1e-5, rtol=1e-5
        )
        with model.steered(edit, Site(1)):
            expected = model.loss(one.expand(7, -1), mask.expand(7, -1))
        torch.testing.assert_close(found.steered[:, column], expected, atol=1e-5, rtol=1e-5)
    monkeypatch.setattr(losses_module, "resumable", lambda _: False)
    torch.testing.assert_close(
        losses(model, texts, edit, Site(1)).steered, found.steered, atol=1e-5, rtol=1e-5
    )
    with pytest.raises(BadInput, match="Text 2 has 1 tokens; a loss needs 2 to 64"):
        losses(model, [texts[0], [5]], edit, Site(1))


@pytest.mark.parametrize("family", small_models.CONFIGS)
def test_pasts_of_different_length_stand_side_by_side(family, edit, monkeypatch):
    """Items that share passages: responses of one length after passages of three; in few passes,
    and the same scores when memory is short.
    """
    source = torch.Generator().manual_seed(3)

    def tokens(count):
        return torch.randint(300, (count,), generator=source).tolist()

    asked = [
        passage + response + tail
        for passage in map(tokens, (9, 14, 20))
        for response in (tokens(8), tokens(11))
        for tail in (tokens(9), tokens(9))
    ]
    model, passes = small_models.model(family), []
    ran = walk.run
    monkeypatch.setattr(
        walk, "run", lambda *told, **more: passes.append(told[2].lengths) or ran(*told, **more)
    )
    found = sweep_ids(model, asked, OPTIONS, edit.take(torch.tensor([0])), Site(1))
    assert any(len(set(lengths)) > 1 for lengths in passes)
    assert max(map(len, passes)) == len(asked) * len(tails(OPTIONS, branches(model))), (
        "all last tokens run together"
    )
    torch.testing.assert_close(found.base, full_scores(model, asked, OPTIONS), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        found.steered,
        by_full_passes(model, asked, edit.take(torch.tensor([0])), 1, "resid_post"),
        atol=1e-4,
        rtol=0,
    )
    monkeypatch.setitem(walk.HELD, "cpu", 1)
    torch.testing.assert_close(sweep_ids(model, asked, OPTIONS).base, found.base, atol=1e-5, rtol=0)


def test_an_options_tokens_are_those_of_the_whole_text():
    """The ends of prompts are tokenized for them; the result is that of the whole, special
    characters and short prompts included.
    """
    from sae_training.engine.answers import by_answers
    from sae_training.engine.generate import prompt_ids

    for chat in (False, True):
        model = small_models.model("llama", chat)
        texts = [
            "the",
            "the cat sat on the mat " * 4 + "and",
            "x" * 30,
            "the dog 🙂 " * 6,
            "a garden of the " * 5,
            "cat\n\nthe dog ran to the end: ",
            "",
        ]
        options = [" the", " then", "garden", " 🙂"]
        ids = prompt_ids(model, texts)
        for rows, answers in by_answers(model, texts, ids, options):
            for row in rows:
                for option, answer in zip(
                    [one.lstrip() if chat else one for one in options], answers, strict=True
                ):
                    whole = model.tokenizer(
                        model.render(texts[row]) + option, add_special_tokens=not chat
                    )["input_ids"]
                    bare = model.tokenizer(option, add_special_tokens=False)["input_ids"]
                    assert answer == (
                        whole[len(ids[row]) :] if whole[: len(ids[row])] == ids[row] else bare
                    )
