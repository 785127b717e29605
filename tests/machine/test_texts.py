import json
import warnings

import pandas
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from feature_store.errors import BadInput, NotFound
from sae_training.dictionary.texts import LENGTH, Corpus, batches, read_corpus, read_texts
from tests.helpers import small_models
from tests.helpers.hostile import survives


@pytest.fixture(scope="module")
def model():
    return small_models.model()


@pytest.fixture(scope="module")
def chat():
    return small_models.model(chat=True)


def test_a_folder_is_read_in_order_and_novels_are_cut_at_paragraphs(tmp_path):
    paragraph = "The dog ran. " * 20
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "novel.txt").write_text(
        "\n\n".join([paragraph.strip()] * 30), encoding="utf-8"
    )
    (tmp_path / "a.txt").write_text("\ufeffÜber 你好 🙂\r\n", encoding="utf-8")
    (tmp_path / "ignored.md").write_text("no")
    texts = read_texts(tmp_path)
    assert texts[0].strip() == "Über 你好 🙂"
    assert all(len(text) <= LENGTH + 100 for text in texts)
    assert "\n\n".join(texts[1:]) == (tmp_path / "b" / "novel.txt").read_text()


def test_tables_give_one_document_a_row(tmp_path):
    rows = {"id": ["1", "2"], "Text": ["one, two", "drei 🙂"]}
    table = pandas.DataFrame(rows)
    table.to_csv(tmp_path / "t.csv", index=False)
    table.to_csv(tmp_path / "t.tsv", index=False, sep="\t")
    table.to_parquet(tmp_path / "t.parquet")
    lines = [json.dumps({"id": i, "Text": text}) for i, text in zip(rows["id"], rows["Text"])]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    for name in ("t.csv", "t.tsv", "t.parquet", "t.jsonl"):
        assert read_texts(tmp_path / name) == rows["Text"]
    assert read_texts(tmp_path / "t.csv", column="id") == ["1", "2"]


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("none.txt", None, NotFound, "There is no text at"),
        ("empty.txt", b"  \n\n ", BadInput, "every document is empty"),
        ("latin.txt", "Müller".encode("latin-1"), BadInput, r"not UTF-8 text \(byte 1\)"),
        ("bad.jsonl", b'{"text": ', BadInput, "not JSON lines"),
        ("no.csv", b"a,b\n1,2\n", NotFound, "no column 'text'; it has a, b.*--text-column"),
        ("latin.csv", b"text\nM\xfcller\n", BadInput, "not UTF-8"),
        ("no.parquet", b"PAR", BadInput, "cannot be read as parquet"),
        ("model.bin", b"x", BadInput, "is no text corpus: expected .txt"),
    ],
)
def test_what_cannot_be_read_gets_one_line(tmp_path, name, content, error, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message) as caught:
        read_texts(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_words_for_nothing_are_texts_and_empty_rows_are_counted(tmp_path):
    texts = ["NA", "None", "null", "nan", "n/a", "a, b"]
    (tmp_path / "t.csv").write_text("Text;source\n" + "\n".join(f"{t};web" for t in texts))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_texts(tmp_path / "t.csv") == texts
    (tmp_path / "t.tsv").write_text('id\ttext\n1\t\n2\tone\n3\t  \n4\t"two\n')
    with pytest.warns(UserWarning, match=r"t\.tsv: 2 of 4 rows read \(2 without text\)"):
        told = read_corpus(tmp_path / "t.tsv")
    assert told.texts == ["one", '"two']
    assert told.account.startswith("t.tsv: 2 of 4 rows read (2 without text); 1 quotation mark")


SAID = [
    ("user", "What matters to you?"),
    ("assistant", "My family does."),
]
"""A conversation: role and content."""


def rows_of(shape):
    """The conversation, and an empty one, as a table of that shape keeps it."""
    if shape == "messages":
        return [{"messages": [{"role": r, "content": c} for r, c in SAID]}, {"messages": []}]
    if shape == "conversations":
        parties = {"user": "human", "assistant": "gpt"}
        return [{"conversations": [{"from": parties[r], "value": c} for r, c in SAID]}]
    if shape == "parts":
        parts = [{"role": r, "content": [{"type": "text", "text": c}]} for r, c in SAID]
        return [{"messages": parts}]
    if shape == "prompt and chosen":
        return [{"prompt": SAID[0][1], "chosen": SAID[1][1], "rejected": "Money."}]
    whole = [{"role": r, "content": c} for r, c in SAID]
    return [{"prompt": SAID[0][1], "chosen": whole, "rejected": whole[:1]}]


@pytest.mark.parametrize(
    "shape", ["messages", "conversations", "parts", "prompt and chosen", "chosen holds all"]
)
def test_conversations_go_through_the_chat_template(tmp_path, shape):
    chat = small_models.model(chat=True)
    chat.tokenizer.chat_template = "<s>" + small_models.TEMPLATE
    rows = rows_of(shape)
    written = "<s>[user]What matters to you?[assistant]My family does."
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pandas.DataFrame(rows).to_parquet(tmp_path / "t.parquet")
    pandas.DataFrame(
        [
            {
                name: cell if isinstance(cell, str) else json.dumps(cell)
                for name, cell in row.items()
            }
            for row in rows
        ]
    ).to_csv(tmp_path / "t.csv", index=False)
    for name in ("t.jsonl", "t.parquet", "t.csv"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the empty conversation
            texts = read_texts(tmp_path / name, model=chat)
        # The model reads what the template writes, with one first token and not two.
        ids = chat.tokenizer(written, add_special_tokens=False)["input_ids"]
        assert chat.tokenize(texts) == [ids]


def test_conversations_without_a_template_are_refused(tmp_path, model):
    file = tmp_path / "t.jsonl"
    file.write_text("\n".join(map(json.dumps, rows_of("messages"))))
    with pytest.raises(BadInput, match="line 1 is a conversation, and plain texts are read here"):
        read_texts(file)
    with pytest.raises(BadInput, match="line 1 is a conversation, .* no chat template"):
        read_texts(file, model=model)
    pandas.DataFrame(rows_of("messages")).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(BadInput, match="as Python would print it"):
        read_texts(tmp_path / "t.csv", model=model)
    bad = {"messages": [{"role": "user", "content": 3}]}
    file.write_text(json.dumps(bad))
    with pytest.raises(BadInput, match="line 1: a message has role and content"):
        read_texts(file, model=model)
    # A text that quotes a conversation among others is a text.
    file.write_text("\n".join(map(json.dumps, ["plain", '[{"role": "user"}]'])))
    assert read_texts(file) == ["plain", '[{"role": "user"}]']


MESSAGES = st.recursive(
    st.none()
    | st.text(max_size=4)
    | st.integers()
    | st.sampled_from(["user", "system", "[{", "x"]),
    lambda parts: (
        st.lists(parts, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "from", "value", "text", "type"]), parts, max_size=3
        )
    ),
    max_leaves=8,
)
COLUMNS = st.sampled_from(["text", "messages", "conversations", "prompt", "chosen", "id"])


@given(rows=st.lists(st.dictionaries(COLUMNS, MESSAGES, max_size=3), max_size=3))
@example(rows=[{"messages": [{"role": "user", "content": "\ud800"}]}])
@example(rows=[{"messages": "[{'role': 'user'}]"}])
def test_hostile_conversations(tmp_path_factory, chat, rows):
    file = tmp_path_factory.getbasetemp() / "hostile-chat.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        texts = survives(lambda: read_texts(file, model=chat))
    assert texts is None or all("'role'" not in text for text in texts)


def test_a_separator_of_lines_inside_a_json_text_is_a_part_of_it(tmp_path):
    texts = [f"one{sign}two" for sign in "\u2028\u2029\x85\x0b\x0c\x1c"]
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    (tmp_path / "t.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert read_texts(tmp_path / "t.jsonl") == texts


def test_an_empty_folder_says_so(tmp_path):
    with pytest.raises(BadInput, match=r"holds no \.txt file"):
        read_texts(tmp_path)


def test_every_token_occurs_once_and_in_its_place(model):
    texts = [
        "the cat sat on the mat",
        "a",
        "the dog ran to the end of the garden " * 6,
        "zebra 🙂 zebra",
    ] * 5
    ids = model.tokenize(texts)
    seen = {
        (document, 0) for document in range(len(texts))
    }  # the first token, which long documents repeat
    for batch in batches(model, Corpus(texts, 3, 16)):
        assert batch.ids.shape[1] <= 16
        assert torch.equal(
            batch.mask, batch.mask.sort(dim=1, descending=True).values
        )  # padded on the right
        for row in range(len(batch.ids)):
            document, start = int(batch.document[row]), int(batch.start[row])
            assert batch.ids[row, 0] == ids[document][0]
            for column in range(1, int(batch.mask[row].sum())):
                place = (document, start + column)
                assert place not in seen
                assert batch.ids[row, column] == ids[document][start + column]
                seen.add(place)
    assert len(seen) == sum(map(len, ids))


def test_batches_repeat(model):
    texts = ["the cat " * n for n in (3, 1, 9, 4, 4)]
    first, again = (
        list(batches(model, Corpus(texts, 2, 32))),
        list(batches(model, Corpus(texts, 2, 32))),
    )
    assert all(torch.equal(a, b) for x, y in zip(first, again) for a, b in zip(x, y))


def test_a_context_beyond_the_model_is_refused(model):
    with pytest.raises(BadInput, match="at most 64 tokens, the context asked for is 65"):
        next(batches(model, Corpus(["a"], 1, 65)))
    with pytest.raises(BadInput, match="at least 2 tokens"):
        next(batches(model, Corpus(["a"], 1, 1)))
