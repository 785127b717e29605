from sae_training.engine.opening import open_model
from sae_training.model.tokens import strings
from tests.helpers import small_models
from workbench import organism


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
