"""Chat templates that think first, and those that take no system message: what the model reads."""

import pytest

from feature_store.errors import BadInput, Incompatible
from sae_training.dictionary.conversations import write
from sae_training.engine.model import Model
from sae_training.engine.opening import open_model
from sae_training.model import thoughts
from tests.helpers import small_models, small_vision
from workbench.llm import Message
from workbench.llm.local import LocalLLM
from workbench.workspace import Workspace

TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
ASKS = "{% if add_generation_prompt %}<|assistant|>"
END = "{% endif %}"
PLAIN = TURNS + ASKS + END
SWITCHED = (
    TURNS + ASKS + "{% if enable_thinking is defined and not enable_thinking %}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}" + END
)
"""As Qwen3's: thinks unless it is told not to."""
SWITCHED_ABOVE = (
    "<|system|>{% if enable_thinking is defined and enable_thinking is false %}/no_think"
    "{% else %}/think{% endif %}<|end|>" + PLAIN
)
"""As SmolLM3's: the system message says whether it thinks."""
ALWAYS = TURNS + ASKS + "{{ '<think>\\n' }}" + END
"""As DeepSeek-R1's: every answer begins inside a thought."""
REFUSING = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}" + PLAIN
)
"""As Gemma's."""
PASSING_OVER = PLAIN.replace("in messages %}", "in messages if m.role != 'system' %}")
"""As those that write the turns of user and assistant alone."""
CLOSED = "<think>\n\n</think>\n\n"
QUESTION = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}]


def model(template: str, chat: bool = True) -> Model:
    """A small model with a chat template."""
    tokenizer = small_models.tokenizer()
    tokenizer.chat_template = template
    return Model(small_models.module("llama"), tokenizer, "tiny", "abc", chat=chat)


@pytest.mark.parametrize(
    ("template", "written"),
    [
        (PLAIN, "<|user|>Why?<|end|><|assistant|>"),
        (SWITCHED, f"<|user|>Why?<|end|><|assistant|>{CLOSED}"),
        (SWITCHED_ABOVE, "<|system|>/no_think<|end|><|user|>Why?<|end|><|assistant|>"),
        (ALWAYS, f"<|user|>Why?<|end|><|assistant|>{CLOSED}"),
        (ALWAYS.replace("\\n", ""), f"<|user|>Why?<|end|><|assistant|>{CLOSED}"),
        (
            ALWAYS.replace("<think>\\n", "[THINK]"),
            "<|user|>Why?<|end|><|assistant|>[THINK]\n\n[/THINK]\n\n",
        ),
    ],
)
def test_no_answer_stands_inside_a_thought(template, written):
    reader = model(template)
    assert reader.render("Why?") == written
    assert reader.tokenize(["Why?"], prompt=True) == reader.encode([written], special=False)
    assert reader.thinks == (template != PLAIN)
    assert reader.pinned == ("abc without thought" if reader.thinks else "abc")
    assert reader.identity == ("tiny@abc without thought" if reader.thinks else "tiny@abc")


def test_a_user_who_writes_a_mark_thinks_no_thought():
    reader = model(PLAIN)
    assert reader.render("Why <think>") == "<|user|>Why <think><|end|><|assistant|>"
    assert model("{{ messages[0].content }}").render("Why <think>") == "Why <think>"


def test_without_its_template_a_model_is_read_as_before():
    off = model(SWITCHED, chat=False)
    assert off.render("Why?") == "Why?"
    assert off.pinned == "abc"


def test_a_template_that_says_something_in_its_thought_is_refused():
    with pytest.raises(Incompatible, match="begins a thought .*Well.*chat=off"):
        model(ALWAYS.replace("\\n", " Well, ")).render("Why?")
    with pytest.raises(Incompatible, match="begins a thought"):
        thoughts.end("<think></think><think>a", "tiny")


def test_conversations_of_a_corpus_end_where_they_do():
    reader = model(ALWAYS)
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert write(reader, talk, "here") == "<|user|>a<|end|><|assistant|>b<|end|>"


def test_what_is_written_and_scored_follows_the_closed_thought():
    reader, closed = model(ALWAYS), model(ALWAYS.replace("<think>\\n", CLOSED.replace("\n", "\\n")))
    assert reader.render("a") == closed.render("a")
    assert LocalLLM(reader).chat([(Message("user", "the cat"),)], max_new_tokens=4) == LocalLLM(
        closed
    ).chat([(Message("user", "the cat"),)], max_new_tokens=4)
    assert reader.score(["the cat"], ["sat"]).equal(closed.score(["the cat"], ["sat"]))
    assert closed.pinned == "abc"


@pytest.mark.parametrize("template", [REFUSING, PASSING_OVER])
def test_a_system_message_that_a_template_does_not_take_opens_the_users(template):
    reader = model(template)
    with pytest.warns(UserWarning, match="of tiny takes no system message"):
        assert reader.render(QUESTION) == "<|user|>Be kind.\n\nWhy?<|end|><|assistant|>"
    assert QUESTION[0]["role"] == "system", "what was given stays"
    with pytest.warns(UserWarning, match="takes no system message"):
        assert reader.render(QUESTION[:1]) == "<|user|>Be kind.<|end|><|assistant|>"
    assert reader.pinned == "abc"


def test_a_system_message_that_a_template_takes_stays_one(recwarn):
    assert (
        model(PLAIN).render(QUESTION) == "<|system|>Be kind.<|end|><|user|>Why?<|end|><|assistant|>"
    )
    assert model(REFUSING).render("Why?") == "<|user|>Why?<|end|><|assistant|>"
    assert not recwarn.list


def test_a_model_that_sees_thinks_and_listens_the_same_way(tmp_path):
    folder = small_vision.llava(tmp_path / "seeing")
    plain_text = open_model(f"vision:{folder}", device="cpu").render("Why?")
    reader = open_model(f"vision:{folder}", device="cpu")
    reader.processor.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}"
        + reader.processor.chat_template
        + "{% if enable_thinking is defined and not enable_thinking %}{{ '<think></think>' }}"
        "{% else %}{{ '<think>' }}{% endif %}"
    )
    assert reader.render("Why?") == f"{plain_text}<think></think>"
    with pytest.warns(UserWarning, match="takes no system message"):
        written = reader.render(QUESTION)
    assert written == plain_text.replace("Why?", "Be kind.\n\nWhy?") + "<think></think>"


def test_a_run_made_with_its_thought_is_not_gone_on_with(tmp_path):
    folder = small_models.saved(tmp_path / "model", SWITCHED)
    study = Workspace(tmp_path / "study")
    config = {"model": str(folder), "revision": "", "dtype": "float32", "device": "cpu"}
    opened = study.model(str(folder), "", "float32", "cpu")
    for pinned in (opened.revision, opened.pinned):
        with study.runs.begin("sae", config, {"model": pinned}, 0) as work:
            run = work.finish({})
        if pinned == opened.pinned:
            assert study.model_of(run) is opened
        else:
            with pytest.raises(Incompatible, match="was not kept from thinking"):
                study.model_of(run)


def test_a_template_that_refuses_everything_says_so_when_it_writes():
    reader = model("{{ raise_exception('never') }}")
    assert reader.pinned == "abc"
    with pytest.raises(BadInput, match="refuses the conversation: never. Leave out"):
        reader.render("Why?")
