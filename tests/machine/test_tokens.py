import json
from pathlib import Path

import pytest
import sentencepiece
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE, WordLevel, WordPiece
from transformers import (
    ByT5Tokenizer,
    CTRLTokenizer,
    GPTSw3Tokenizer,
    PreTrainedTokenizerFast,
)

from sae_training.engine.model import Model
from sae_training.engine.opening import open_model
from sae_training.model.tokens import strings
from tests.helpers import small_models
from workbench import organism

LLAMA = decoders.Sequence(
    [
        decoders.Replace("▁", " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ]
)


def read_by(tokenizer, tokens):
    """What people see of some tokens of a tokenizer."""
    model = Model(small_models.module("gpt2"), tokenizer, "test")
    return strings(model, tokenizer.convert_tokens_to_ids(tokens))


def fast(model, tokens, decoder=None, **more):
    """A fast tokenizer whose vocabulary is `tokens`, read by `decoder`."""
    base = Tokenizer(model({token: number for number, token in enumerate(tokens)}, **more))
    if decoder is not None:
        base.decoder = decoder
    return PreTrainedTokenizerFast(tokenizer_object=base)


def bpe(vocabulary, **more):
    return BPE(vocabulary, [], **more)


def test_words_keep_their_spaces():
    model = open_model(organism.folder())
    ids = model.tokenize(["I locked the doors twice."])[0][1:]
    assert "".join(strings(model, ids)).split() == ["i", "locked", "the", "doors", "twice", "."]


def test_bytes_become_text_again():
    model = small_models.model("gpt2")
    ids = model.tokenize(["the dog ran to é"])[0][1:]
    told = strings(model, ids)
    assert "".join(told[:-2]).strip().startswith("the dog")
    assert "Ġ" not in "".join(told)


@pytest.mark.parametrize(
    ("model", "decoder", "tokens", "read"),
    [
        (
            bpe,
            decoders.ByteLevel(),
            ["Ġdog", "dog", "Ċ", "Ã©", "Ã"],
            [" dog", "dog", "\n", "é", "�"],
        ),
        # Maltese: the letter is a letter.
        (
            WordPiece,
            decoders.WordPiece(),
            ["Ġorġ", "##Ġ", "##ing", "."],
            [" Ġorġ", "Ġ", "ing", " ."],
        ),
        (WordPiece, decoders.WordPiece("@@"), ["dog", "@@s", "##s"], [" dog", "s", " ##s"]),
        (WordLevel, None, ["Ġorġ", "dog", "▁"], [" Ġorġ", " dog", " ▁"]),
        (bpe, decoders.Metaspace(), ["▁dog", "Ġorġ", "▁▁"], [" dog", "Ġorġ", "  "]),
        (bpe, LLAMA, ["▁dog", "<0x0A>", "<0xE2>", "Ġ", "▁"], [" dog", "\n", "�", "Ġ", " "]),
        (bpe, decoders.BPEDecoder(), ["dog</w>", "do", "Ġorġ</w>"], ["dog ", "do", "Ġorġ "]),
        # Bytes, and no sign of the table in sight: `â` stands for a part of a character.
        (bpe, decoders.ByteLevel(), ["a", "â", "猫"], ["a", "�", "猫"]),
        (bpe, decoders.Fuse(), ["▁dog", "Ġ"], ["▁dog", "Ġ"]),
    ],
)
def test_a_token_is_read_by_its_tokenizers_own_decoder(model, decoder, tokens, read):
    more = {"unk_token": tokens[0]} if model is not bpe else {}
    assert read_by(fast(model, tokens, decoder, **more), tokens) == read


def test_an_added_token_is_shown_as_it_was_added():
    tokenizer = fast(bpe, ["a"], decoders.ByteLevel())
    tokenizer.add_tokens(["é", "Ġx", "<|end|>"])
    assert read_by(tokenizer, ["é", "Ġx", "<|end|>", "a"]) == ["é", "Ġx", "<|end|>", "a"]


def test_a_letter_of_the_vocabulary_makes_no_script_of_the_others():
    """A vocabulary of words with one `Ġ` was once read as bytes: `café` lost its last letter."""
    tokenizer = fast(WordPiece, ["café", "##é", "Ġ"], decoders.WordPiece(), unk_token="Ġ")
    assert read_by(tokenizer, ["café", "##é", "Ġ"]) == [" café", "é", " Ġ"]


def test_slow_tokenizers_read_by_their_own_methods(tmp_path: Path):
    assert read_by(ByT5Tokenizer(), ["a", " ", "z"]) == ["a", " ", "z"]
    (tmp_path / "vocab.json").write_text(json.dumps({"do@@": 0, "g": 1, "Ġ": 2, "<unk>": 3}))
    (tmp_path / "merges.txt").write_text("#version\nd o\n")
    ctrl = CTRLTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    assert read_by(ctrl, ["Ġ", "do@@", "g"]) == [" Ġ", " do", " g"]
    (tmp_path / "texts.txt").write_text("the dog ran to Ġorġ\n" * 50)
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "texts.txt"),
        model_prefix=str(tmp_path / "small"),
        vocab_size=28,
        model_type="bpe",
        minloglevel=2,
    )
    swedish = GPTSw3Tokenizer(str(tmp_path / "small.model"))
    tokens = swedish.tokenize("the dog Ġ")
    assert "".join(read_by(swedish, tokens)).split() == ["the", "dog", "Ġ"]
    assert "▁" not in "".join(read_by(swedish, tokens))
