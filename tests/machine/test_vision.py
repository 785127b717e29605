"""A vision-language model is a model: read, steered and put back, with an image before it or
without."""

import pytest
import torch
from PIL import Image

from feature_store.errors import BadInput, Incompatible
from feature_store.records import Site
from sae_training.engine.opening import open_model
from sae_training.engine.vision import Shown, VisionModel
from sae_training.model import sites
from sae_training.model.edits import Add
from tests.helpers import small_vision

OPTIONS = [" yes", " no", " not at all"]


@pytest.fixture(scope="module", params=["llava", "idefics"])
def model(request, tmp_path_factory):
    folder = getattr(small_vision, request.param)(tmp_path_factory.mktemp("vision") / request.param)
    return open_model(f"vision:{folder}", device="cpu")


def image(colour, size=(50, 40)):
    return Image.new("RGB", size, colour)


def push(model, by=30.0):
    vector = torch.zeros(1, model.d_model)
    vector[0, 3] = by
    return Add(vector, ("all",))


def test_the_language_model_is_found_beside_a_vision_tower_of_equal_depth(model):
    assert model.n_layers == small_vision.LAYERS
    assert model.path in ("model.language_model.layers", "model.text_model.layers")


def test_what_is_seen_decides_and_neighbours_in_a_batch_do_not(model):
    shown = [
        Shown("the cat sat", image("red")),
        Shown("the cat sat", image("blue", (30, 60))),
        Shown("the dog ran to the end", image("red")),
    ]
    together = model.score_shown(shown, OPTIONS)
    alone = torch.cat([model.score_shown([one], OPTIONS) for one in shown])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert (together[0] - together[1]).abs().max() > 1e-4
    assert (together[0] - together[2]).abs().max() > 1e-4


def test_scores_are_those_of_a_forward_pass(model):
    """By hand: the whole sequence once, log-softmax at each token of the answer."""
    shown = Shown("the cat sat", image("red"))
    inputs = model.prepared(shown)
    for option, told in zip(OPTIONS, model.score_shown([shown], OPTIONS)[0], strict=True):
        answer = torch.tensor([model.tokenizer(option, add_special_tokens=False)["input_ids"]])
        whole = inputs | {"input_ids": torch.cat([inputs["input_ids"], answer], 1)}
        whole["attention_mask"] = torch.ones_like(whole["input_ids"])
        with torch.no_grad():
            logits = model.module(**whole).logits[0].log_softmax(-1)
        n = inputs["input_ids"].shape[1]
        by_hand = sum(logits[n - 1 + at, token] for at, token in enumerate(answer[0]))
        torch.testing.assert_close(told, by_hand, atol=1e-5, rtol=0)


def test_greedy_texts_are_those_of_transformers(model):
    shown = [Shown("the cat sat", image("red")), Shown("the cat sat", image("green"))]
    ours = model.generate_shown(shown, 8, 0.0, [0, 0])
    theirs = []
    for one in shown:
        inputs = model.prepared(one)
        made = model.module.generate(**inputs, max_new_tokens=8, do_sample=False)
        theirs.append(
            model.tokenizer.decode(
                made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True
            )
        )
    assert [text.strip() for text in ours] == [text.strip() for text in theirs]
    sampled = model.generate_shown(shown, 8, 1.0, [3, 4])
    assert sampled == [
        model.generate_shown([one], 8, 1.0, [seed])[0]
        for one, seed in zip(shown, (3, 4), strict=True)
    ]


def test_steering_changes_answers_and_leaves_no_trace(model):
    shown = [
        Shown("the cat sat", image("red")),
        Shown([{"role": "user", "content": "the cat"}], image("blue")),
    ]
    before, said = model.score_shown(shown, OPTIONS), model.generate_shown(shown, 6, 0.0, [0, 0])
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.module.modules())
    with model.steered(push(model), Site(1)):
        steered, says = (
            model.score_shown(shown, OPTIONS),
            model.generate_shown(shown, 6, 0.0, [0, 0]),
        )
    assert (steered - before).abs().max() > 0.1
    assert says != said
    assert torch.equal(model.score_shown(shown, OPTIONS), before)
    assert (
        sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.module.modules())
        == hooks
    )
    with model.steered(push(model, 0.0), Site(1)):
        torch.testing.assert_close(model.score_shown(shown, OPTIONS), before)


def test_without_an_image_it_is_a_model_like_any_other(model):
    """Its sweeps, resumed above the site, equal full forward passes."""
    from sae_training.engine.scoring import TokenizedPrompts, full_scores, score_rows

    prompts = ["the cat", "the dog ran to the end"]
    asked = TokenizedPrompts.of(model, prompts)
    told = score_rows(model, asked, OPTIONS, push(model), Site(1))[0]
    ids = model.tokenize(prompts, prompt=True)
    answers = model.tokenizer(["yes", "no", "not at all"], add_special_tokens=False)["input_ids"]
    with model.steered(push(model), Site(1)):
        full = full_scores(model, ids, answers)
    torch.testing.assert_close(told, full, atol=1e-4, rtol=0)
    assert model.generate(["the cat"], 4) != [""]


def test_the_sign_of_an_image_in_a_text_is_text(model):
    sign = model.processor.image_token
    assert model.with_image(f"{sign} the cat").count(sign) == 1
    assert sign not in model.render(f"{sign} the cat")
    assert model.score_shown([Shown(f"{sign} the cat", image("red"))], OPTIONS).isfinite().all()


def test_a_template_that_knows_parts_alone_or_no_system_role(model, monkeypatch):
    only = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{%"
        " endif %}{% for part in m.content %}"
    )
    only += (
        "{% if part.type == 'image' %}<image>{% elif part.type == 'text' %}{{ part.text }}{% endif"
        " %}{% endfor %}{% endfor %}"
    )
    monkeypatch.setattr(model.processor, "chat_template", only)
    model = VisionModel(model.module, model.processor, model.name, chat=True)
    assert model.render("the cat") == "the cat"
    assert (
        model.tokenize(["the cat"], prompt=True)
        == model.tokenizer(["the cat"], add_special_tokens=False)["input_ids"]
    )
    assert model.with_image("the cat") == "<image>the cat"
    persona = {"role": "system", "content": "You are."}
    with pytest.warns(UserWarning, match="takes no system message"):
        whole = model.with_image([persona, {"role": "user", "content": "the cat"}])
    assert whole == "<image>You are.\n\nthe cat"
    monkeypatch.setattr(model.processor, "chat_template", only.replace("<image>", ""))
    with pytest.raises(BadInput, match="sets 0 signs"):
        model.with_image("the cat")


def test_one_steering_at_a_time(model):
    two = Add(push(model).vectors.expand(2, -1), ("all", "all"))
    with model.steered(two, Site(1)), pytest.raises(BadInput, match="one steering at a time"):
        model.score_shown([Shown("the cat", image("red"))], OPTIONS)


def test_a_model_without_a_template_gets_the_image_first(tmp_path):
    model = open_model(f"vision:{small_vision.llava(tmp_path / 'bare', chat=False)}", device="cpu")
    assert not model.chat
    assert model.with_image("the cat") == "<image>\nthe cat"
    assert model.score_shown([Shown("the cat", image("red"))], OPTIONS).isfinite().all()


def test_what_does_not_see_is_refused(tmp_path):
    from tests.helpers.small_models import module, tokenizer

    module("llama").save_pretrained(tmp_path / "blind")
    tokenizer().save_pretrained(tmp_path / "blind")
    with pytest.raises(BadInput, match="cannot be loaded as a vision-language model"):
        open_model(f"vision:{tmp_path / 'blind'}")
    folder = small_vision.llava(tmp_path / "sees")
    with pytest.raises(BadInput, match="named vision:FOLDER-OR-HUB-ID"):
        open_model(folder)
    for file in ("processor_config.json", "chat_template.jinja"):
        (folder / file).unlink()
    with pytest.raises((BadInput, Incompatible)) as caught:
        open_model(f"vision:{folder}")
    assert "\n" not in str(caught.value)


def test_layers_of_a_model_whose_tower_stands_first():
    """Qwen2-VL: `model.visual.blocks` is as near the top as the language model's layers."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    text = small_vision._text | {
        "vocab_size": 300,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
    }
    made = Qwen2VLForConditionalGeneration(
        Qwen2VLConfig(
            text_config=text,
            vision_config={
                "depth": small_vision.LAYERS,
                "embed_dim": 32,
                "hidden_size": small_vision.WIDTH,
                "num_heads": 4,
                "mlp_ratio": 2,
            },
        )
    )
    assert sites.layers(made, small_vision.LAYERS)[0] == "model.language_model.layers"
