"""Reading, steering and generating, on small random models and on one real one."""

import threading

import pytest
import torch

from feature_store.errors import BadInput, Incompatible, NotFound
from feature_store.records import Site, Steering
from sae_training.dictionary.texts import Corpus, batches
from sae_training.engine import generate
from sae_training.engine.opening import open_model
from tests.helpers import small_models
from tests.helpers.counting import assert_counts
from workbench.steering.methods import StrengthScale, build_edit

PROMPTS = ["the cat sat on", "then the dog ran to the end of the garden and", "the"]


def edit(*strengths, positions="all", method="add"):
    steerings = [
        Steering(
            features=((i, 1.0),), method=method, strength=strength, unit="raw", positions=positions
        )
        for i, strength in enumerate(strengths)
    ]
    return build_edit(steerings, small_models.TinySAE(), StrengthScale(5.0, torch.ones(40)))


def padded(model, texts, side="right"):
    rows = model.tokenize(texts)
    width = max(map(len, rows))
    fill = [[0] * (width - len(row)) for row in rows]
    ids = [row + pad if side == "right" else pad + row for row, pad in zip(rows, fill)]
    real = [
        [1] * len(row) + pad if side == "right" else pad + [1] * len(row)
        for row, pad in zip(rows, fill)
    ]
    return torch.tensor(ids), torch.tensor(real, dtype=torch.bool)


@pytest.mark.parametrize("family", small_models.CONFIGS)
def test_residuals_are_those_between_the_layers(family):
    model = small_models.model(family)
    ids, mask = padded(model, PROMPTS)
    states = model.module(
        input_ids=ids, attention_mask=mask.long(), output_hidden_states=True
    ).hidden_states
    for layer in range(3):
        post = model.residuals(ids, mask, Site(layer))
        torch.testing.assert_close(post[mask], states[layer + 1][mask])
        assert torch.equal(model.residuals(ids, mask, Site(layer + 1, "resid_pre")), post)
    seen = []
    handle = model.layers[3].register_forward_hook(
        lambda m, a, out: seen.append(out[0] if isinstance(out, tuple) else out)
    )
    model.logits(ids, mask)
    handle.remove()
    assert torch.equal(model.residuals(ids, mask, Site(3)), seen[0])  # before the final norm
    assert not torch.equal(seen[0], states[4])


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3"])
def test_padding_changes_no_loss(family):
    model = small_models.model(family)
    losses = [model.loss(*padded(model, PROMPTS, side)) for side in ("right", "left")]
    for row, text in enumerate(PROMPTS):
        ids, mask = padded(model, [text])
        alone = torch.nn.functional.cross_entropy(model.logits(ids, mask)[0, :-1], ids[0, 1:])
        for loss in losses:
            assert float(loss[row]) == pytest.approx(float(alone), abs=1e-4)


def test_the_loss_is_the_same_in_groups_of_rows(monkeypatch):
    model = small_models.model()
    ids, mask = padded(model, PROMPTS)
    with model.steered(edit(1, 2, 3), Site(1)):
        whole = model.loss(ids, mask)
        monkeypatch.setattr("sae_training.model.runtime.LOGITS", 1)
        torch.testing.assert_close(model.loss(ids, mask), whole)
    assert torch.isnan(model.loss(torch.tensor([[5]]), torch.ones(1, 1, dtype=torch.bool))).all()


@pytest.mark.parametrize("family", small_models.CONFIGS)
def test_after_steering_the_logits_are_bit_identical(family):
    model = small_models.model(family)
    ids, mask = padded(model, PROMPTS)
    before = model.logits(ids, mask)
    with model.steered(edit(3.0), Site(1)):
        steered = model.logits(ids, mask)
    with pytest.raises(ZeroDivisionError), model.steered(edit(3.0), Site(0, "resid_pre")):
        raise ZeroDivisionError
    assert torch.equal(model.logits(ids, mask), before)
    assert not torch.equal(steered, before)
    assert torch.equal(steered[:, 0], before[:, 0])  # the first token never is steered
    assert not model.is_steered


def test_each_row_has_its_own_strength_under_either_padding():
    model = small_models.model("qwen3")
    vectors = edit(0.0, 2.0, -4.0).vectors
    for side in ("right", "left"):
        ids, mask = padded(model, PROMPTS, side)
        plain = model.residuals(ids, mask, Site(2))
        with model.steered(edit(0.0, 2.0, -4.0), Site(2)):
            moved = model.residuals(ids, mask, Site(2)) - plain
        inner = mask & (mask.long().cumsum(1) > 1)
        for row in range(3):
            torch.testing.assert_close(
                moved[row][inner[row]],
                vectors[row].expand(int(inner[row].sum()), -1),
                atol=1e-4,
                rtol=1e-4,
            )
            assert not moved[row][~inner[row]].any()
        with (
            pytest.raises(BadInput, match="2 rows, the batch has 3"),
            model.steered(edit(1.0, 2.0), Site(2)),
        ):
            model.logits(ids, mask)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "neox"])
@pytest.mark.parametrize("positions", ["all", "prompt", "last", "generated"])
def test_cached_and_uncached_greedy_are_the_same_text(family, positions):
    model = small_models.model(family)
    plain = model.generate(PROMPTS, 8)
    together = edit(4.0, -4.0, 4.0, positions=positions)
    with model.steered(together, Site(1)):
        cached = model.generate(PROMPTS, 8)
    assert cached != plain
    for row, prompt in enumerate(PROMPTS):
        alone = together.take(torch.tensor([row]))
        with model.steered(alone, Site(1)):
            assert model.generate([prompt], 8) == [cached[row]]
            assert "".join(model.stream(prompt, 8)) == cached[row]
        given = model.tokenize([prompt], prompt=True)[0]
        ids = list(given)
        for _ in range(8):
            answer = torch.arange(len(ids))[None] >= len(given)
            ids.append(int(uncached(model, alone, ids, answer)[0, -1].argmax()))
            if ids[-1] in model.stop_tokens:
                ids.pop()
                break
        anchor = model.tokenizer.decode(given[-8:], skip_special_tokens=True)
        text = model.tokenizer.decode([*given[-8:], *ids[len(given) :]], skip_special_tokens=True)
        assert text == anchor + cached[row]
    assert model.generate(PROMPTS, 8) == plain


def uncached(model, alone, ids, answer):
    """Logits of a full forward pass in which `answer` marks what was generated, by a hook of the
    test's own.
    """

    def change(module, args, out):
        place = torch.arange(len(ids))[None]
        given = int((~answer).sum())
        where = {
            "all": place > 0,
            "prompt": (place > 0) & ~answer,
            "last": (place == given - 1) & (place > 0),
            "generated": answer,
        }[alone.positions[0]]
        return alone(out, where)

    handle = model.layers[1].register_forward_hook(change)
    try:
        return model.module(input_ids=torch.tensor([ids])).logits
    finally:
        handle.remove()


def test_sampling_repeats_by_seed_and_does_not_depend_on_the_batch():
    model = small_models.model()
    first = model.generate(PROMPTS, 12, temperature=1.5, seed=3)
    assert model.generate(PROMPTS, 12, temperature=1.5, seed=3) == first
    assert model.generate(PROMPTS, 12, temperature=1.5, seed=4) != first
    assert model.generate(PROMPTS[:1], 12, temperature=1.5, seed=3) == first[:1]
    assert "".join(model.stream(PROMPTS[0], 12, temperature=1.5, seed=3)) == first[0]
    with pytest.raises(BadInput, match="temperature is a number >= 0"):
        model.generate(PROMPTS, 2, temperature=float("nan"))


def test_generation_ends_where_the_context_does():
    model = small_models.model("gpt2")
    prompt = "the cat " * 20
    length = len(model.tokenize([prompt])[0])
    text = model.generate([prompt], 500)[0]
    assert (
        len(model.tokenizer.encode(text, add_special_tokens=False)) <= 64 - length
        or "\ufffd" in text
    )
    with pytest.raises(BadInput, match=r"Prompt 1 .* tokens; gpt2 reads 64"):
        model.generate([prompt * 5], 1)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_row_that_fills_the_context_leaves_the_others_room(family):
    """Learned positions end with the context; the batch went on and asked for one more."""
    model = small_models.model(family)
    long, short = [2] * (model.context - 2), [3, 4]
    together = generate.continuations(model, [long, short], 6, 0.0, 0)
    alone = [generate.continuations(model, [ids], 6, 0.0, 0)[0] for ids in (long, short)]
    assert together == alone
    assert len(together[0]) <= 2


def test_progress_of_generation_ends_at_its_total_though_texts_end_before(monkeypatch):
    """Three batches; the context ends the longest prompt's text, a stop token most others."""
    monkeypatch.setattr(generate, "ROWS", 2)
    model = small_models.model()
    prompts = [*PROMPTS, PROMPTS[0], "the cat " * 24]
    reports = []
    texts = model.generate(prompts, 40, 1.0, 3, lambda *count: reports.append(count))
    assert_counts([(0, 3 * 40), *reports])
    assert texts == model.generate(prompts, 40, 1.0, 3)


def test_chat_prompts_go_through_the_template_and_emoji_survive():
    chat = small_models.model("llama", chat=True)
    text = "Grüß dich 你好 🙂"
    assert chat.tokenizer.decode(chat.tokenize([text], prompt=True)[0]) == f"[user]{text}[model]"
    assert chat.tokenizer.decode(chat.tokenize([text])[0], skip_special_tokens=True) == text
    assert len(chat.generate([text], 3)) == 1


def test_another_thread_waits_for_the_steered_block_to_end():
    model = small_models.model()
    ids, mask = padded(model, PROMPTS)
    found = []

    # threads of another number of cores may differ in the last bit, so both times it is another
    # thread that asks
    def other():
        thread = threading.Thread(target=lambda: found.append(model.logits(ids, mask)))
        thread.start()
        return thread

    other().join(10)
    with model.steered(edit(5.0), Site(1)):
        waiting = other()
        waiting.join(0.2)
        assert len(found) == 1
    waiting.join(10)
    assert torch.equal(found[0], found[1])


@pytest.fixture
def folder(tmp_path):
    small_models.module("llama").save_pretrained(tmp_path / "model")
    small_models.tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_folder_is_loaded_and_its_revision_pinned(folder):
    model = open_model(folder)
    assert (model.d_model, model.n_layers, model.context, model.dtype, model.chat) == (
        32,
        4,
        64,
        torch.float32,
        False,
    )
    assert open_model(folder, dtype="bfloat16").dtype == torch.bfloat16
    assert open_model(folder, revision=model.revision).revision == model.revision
    with pytest.raises(Incompatible, match="its files have changed"):
        open_model(folder, revision="0" * 40)
    with pytest.raises(Incompatible, match="no chat template"):
        open_model(folder, chat="on")


def test_a_cached_hub_model_is_pinned_to_its_commit(folder, tmp_path, monkeypatch):
    commit = "a" * 40
    cache = tmp_path / "hub" / "models--org--tiny"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(commit)
    (cache / "snapshots").mkdir()
    folder.rename(cache / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert open_model("org/tiny").revision == commit
    with pytest.raises(NotFound, match=r"org/tiny"):
        open_model("org/tiny", revision="other")


def test_what_is_no_model_gets_one_line(folder, tmp_path):
    cases = [
        (tmp_path / "absent", {}, NotFound, "There is no model folder at"),
        ("org/absent-model", {}, NotFound, "neither a folder here nor a hub model"),
        (tmp_path, {}, BadInput, "no model folder: it has no config.json"),
        (folder, {"dtype": "float23"}, BadInput, "Did you mean 'float32'"),
        (folder, {"device": "cudo"}, BadInput, "A device is auto, cpu"),
        (folder, {"chat": "maybe"}, BadInput, "chat is auto, on or off"),
    ]
    for address, settings, error, message in cases:
        with pytest.raises(error, match=message) as caught:
            open_model(address, **settings)
        assert "\n" not in str(caught.value)


def test_bad_weights_are_refused(folder):
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match="no valid safetensors file"):
        open_model(folder)
    small_models.module("gpt2").save_pretrained(folder.parent / "other")
    weights.write_bytes((folder.parent / "other" / "model.safetensors").read_bytes())
    with pytest.raises(BadInput, match=r"lack .* tensors of its configuration"):
        open_model(folder)
    weights.rename(folder / "pytorch_model.bin")
    with pytest.raises(BadInput, match="as a pickle"):
        open_model(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(BadInput, match="has no weights"):
        open_model(folder)


def test_the_real_model_tells_its_story(shared):
    model = open_model(shared / "models" / "stories260K", device="cpu")
    story = (
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the"
        " park. One day, she saw a big, red ball"
    )
    assert model.generate([""], 60)[0].startswith(story)
    samples = model.generate([""] * 96, 200, temperature=1.0, seed=0)
    total = count = 0.0
    for batch in batches(model, Corpus(samples, 32, 512)):
        tokens = batch.mask.sum(1) - 1
        total += float((model.loss(batch.ids, batch.mask) * tokens).sum())
        count += float(tokens.sum())
    assert total / count == pytest.approx(1.298, abs=0.06)
