"""A prompt is what the model goes on from: nothing that a tokenizer sets after a text stands before
an answer, and what it sets before a text stands there once.

The right values are computed by hand: the prompt's words in tokens, what the tokenizer sets before
them, and a plain forward pass.
"""

import pytest
import torch
from PIL import Image
from tokenizers.processors import TemplateProcessing

from feature_store.errors import BadInput, Incompatible
from feature_store.records import Site, Span
from sae_training.dictionary.texts import Corpus, batches
from sae_training.engine import neighbours
from sae_training.engine.generate import continuations, prompt_ids
from sae_training.engine.model import Model
from sae_training.engine.opening import open_model
from sae_training.engine.scoring import sweep
from sae_training.engine.vision import Shown
from sae_training.model.edits import Add
from tests.helpers import small_models, small_vision
from workbench.llm import Message
from workbench.llm.local import LocalLLM
from workbench.sweeps.texts import losses
from workbench.sweeps.value_prompts import rises

AROUND = {
    "end": ("<s> $A </s>", [0], [1]),
    "end alone": ("$A </s>", [], [1]),
    "two before, two after": ("</s> <s> $A <s> </s>", [1, 0], [0, 1]),
}
PROMPTS = ["the cat sat on the mat and", "then the dog ran to the end of the", "the"]
OPTIONS = [" cat", " garden of the dog", " mat"]


def tokenizer(around: str):
    """The small tokenizer, which sets tokens around every text."""
    made = small_models.tokenizer()
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single=AROUND[around][0], special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return made


@pytest.fixture(params=AROUND)
def around(request):
    return request.param


@pytest.fixture
def model(around):
    return Model(small_models.module("llama"), tokenizer(around), around)


def plain(model, text):
    return model.tokenizer(text, add_special_tokens=False)["input_ids"]


def logprob(model, ids, answer, change=None):
    """Log-probability of an answer's tokens after ids, by one forward pass [nats]."""
    handle = model.layers[1].register_forward_hook(change) if change else None
    with torch.no_grad():
        logits = model.module(input_ids=torch.tensor([[*ids, *answer]])).logits[0].log_softmax(-1)
    if handle:
        handle.remove()
    return sum(float(logits[len(ids) - 1 + at, token]) for at, token in enumerate(answer))


def test_answers_stand_right_behind_the_words(model, around):
    before = AROUND[around][1]
    expected = torch.tensor(
        [
            [logprob(model, before + plain(model, p), plain(model, o)) for o in OPTIONS]
            for p in PROMPTS
        ]
    )
    found = model.score(PROMPTS, OPTIONS)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(neighbours.score(model, PROMPTS, OPTIONS), found, atol=1e-4, rtol=0)
    assert [ids[: len(before)] for ids in model.tokenize(PROMPTS)] == [before] * len(PROMPTS)


def test_steered_sweeps_stand_behind_the_words_too(model, around):
    vector = 4 * torch.randn(model.d_model, generator=torch.Generator().manual_seed(1))
    for position in ("all", "last", Span("the")):
        edit = Add(vector[None], (position,))
        found = sweep(model, PROMPTS, OPTIONS, edit, Site(1)).steered[0]
        for row, prompt in enumerate(PROMPTS):
            ids = AROUND[around][1] + plain(model, prompt)
            places = torch.zeros(1, 64, 1)
            if position == "all":
                places[:, 1:] = 1
            elif position == "last":
                places[:, len(ids) - 1] = 1
            else:
                start = len(AROUND[around][1])
                words = [model.tokenizer.decode([id]).strip() for id in ids[start:]]
                inside = [start + at for at, word in enumerate(words) if word in ("the", "then")]
                places[:, inside] = 1
            places[:, 0] = 0

            def change(_, __, out, places=places):
                return out + places[:, : out.shape[1]] * vector

            expected = [logprob(model, ids, plain(model, o), change) for o in OPTIONS]
            torch.testing.assert_close(found[row], torch.tensor(expected), atol=1e-4, rtol=0)


def test_text_goes_on_from_the_words(model, around):
    for prompt in PROMPTS:
        ids = AROUND[around][1] + plain(model, prompt)
        for _ in range(6):
            ids.append(int(model.module(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        given = prompt_ids(model, [prompt])
        assert given[0] + continuations(model, given, 6, 0.0, 0)[0] == ids
    conversation = (Message("user", "the cat"),)
    talk = LocalLLM(model).chat([conversation], max_new_tokens=5)[0]
    assert talk == model.generate(["user: the cat\nassistant:"], 5)[0].split("\nuser:")[0].strip()
    assert prompt_ids(model, [""])[0] in ([0], AROUND[around][1])


def test_losses_count_no_token_of_the_tokenizers_own(model, around):
    before = AROUND[around][1] or [0]
    opening, text = "the cat sat", " on the mat and then"
    ids, answer = AROUND[around][1] + plain(model, opening), plain(model, text)
    expected = -logprob(model, ids, answer) / len(answer)
    assert losses(model, [opening], [text])[0] == pytest.approx(expected, abs=1e-4)
    if AROUND[around][1]:
        words = plain(model, text)
        alone = -logprob(model, before, words) / len(words)
        rise = rises(model, ["the dog ran "], [text])[0, 0]
        after = before + plain(model, "the dog ran ")
        assert rise == pytest.approx(-logprob(model, after, words) / len(words) - alone, abs=1e-4)


def test_each_window_of_a_document_begins_as_a_text_does(model, around):
    text = "the cat sat on the mat and then the dog ran to the end of the garden " * 3
    before, words = AROUND[around][1], plain(model, text)
    rows = [
        (ids[mask].tolist(), start)
        for batch in batches(model, Corpus([text], 4, 12))
        for ids, mask, start in zip(batch.ids, batch.mask, batch.start.tolist(), strict=True)
    ]
    rows.sort(key=lambda row: row[1])
    assert [ids[: len(before)] for ids, _ in rows] == [before] * len(rows)
    assert [token for ids, _ in rows for token in ids[len(before) :]] == words


def test_an_image_is_answered_behind_the_words(tmp_path):
    folder = small_vision.llava(tmp_path / "llava", chat=False)
    plain_model = open_model(f"vision:{folder}", device="cpu")
    ending = open_model(f"vision:{folder}", device="cpu")
    ending.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    shown = [Shown("the cat sat", Image.new("RGB", (50, 40), "red"))]
    assert ending.tokenizer("a")["input_ids"][-1] == 1
    torch.testing.assert_close(
        ending.score_shown(shown, OPTIONS), plain_model.score_shown(shown, OPTIONS)
    )
    seen = [m.generate_shown(shown, 5, 0.0, [0]) for m in (ending, plain_model)]
    assert seen[0] == seen[1]


def test_a_token_beyond_the_embedding_is_named():
    beyond = small_models.tokenizer()
    beyond.add_special_tokens(
        {"additional_special_tokens": [*(f"<{number}>" for number in range(10)), "<turn>"]}
    )
    id = beyond.convert_tokens_to_ids("<turn>")
    model = Model(small_models.module("llama"), beyond, "tiny")
    assert id >= small_models.VOCABULARY
    assert model.generate(["the cat"], 2)
    for call in (
        lambda: model.generate(["the <turn>"], 2),
        lambda: model.score(["the"], [" cat", "<turn>"]),
        lambda: model.tokenize(["<turn>"]),
    ):
        with pytest.raises(Incompatible, match=f"'<turn>' as token {id}.* ends at 299"):
            call()
    beyond.chat_template = "<turn>{{ messages[0].content }}"
    with pytest.raises(Incompatible, match="'<turn>'"):
        Model(small_models.module("llama"), beyond, "tiny", chat=True).generate(["the"], 2)


def test_an_empty_prompt_without_a_start_is_refused():
    bare = tokenizer("end alone")
    bare.bos_token = bare.eos_token = None
    with pytest.raises(BadInput, match="has no start token"):
        prompt_ids(Model(small_models.module("llama"), bare, "tiny"), [""])


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no') }}",
        "{{ messages[0].content + 1 }}",
        "{{ 1 / 0 }}",
        "{% for m in messages %}",
        "{{ messages[9].content.upper() }}",
    ],
)
def test_a_chat_template_that_fails_is_one_line(template):
    failing = small_models.tokenizer()
    failing.chat_template = template
    model = Model(small_models.module("llama"), failing, "tiny", chat=True)
    with pytest.raises(BadInput, match="chat template of tiny") as caught:
        model.generate(["the cat"], 2)
    assert str(caught.value).isprintable()
    with pytest.raises(BadInput, match="chat template of tiny"):
        LocalLLM(model).chat([(Message("system", "be kind"), Message("user", "the cat"))])
