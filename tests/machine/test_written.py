"""A corpus that a model writes itself: the same texts however often it is stopped, with the
residuals that reading them would give."""

import pytest
import torch

from feature_store.errors import BadInput
from feature_store.records import Site
from sae_training.engine.opening import open_model
from sae_training.training import written as module
from sae_training.training.residual_files import file_of, open_residuals, read_residuals
from sae_training.training.written import Assignment, write_corpus
from tests.helpers import small_models
from tests.machine.test_train import config
from workbench import organism

SITES = [Site(2), Site(0, "resid_pre")]
ASKED = Assignment(organism.contexts(60, seed=3), context=70, seed=1)


@pytest.fixture(scope="module")
def model():
    return open_model(str(organism.folder()))


@pytest.fixture(autouse=True)
def short_batches(monkeypatch):
    monkeypatch.setattr(module, "ROWS", 16)


def write(model, folder, progress=lambda *_: None):
    files = {site: file_of(folder / "residuals", site) for site in SITES}
    return write_corpus(model, ASKED, folder / "texts", files, progress)


def passes(model, monkeypatch):
    counted = []
    forward = model.forward
    monkeypatch.setattr(
        model, "forward", lambda *args, **kw: counted.append(1) or forward(*args, **kw)
    )
    return counted


def test_residuals_of_the_writing_are_those_of_reading(model, tmp_path):
    corpus = write(model, tmp_path)
    assert len(corpus.texts) > 40
    ids = model.tokenize(corpus.texts)
    assert sum(map(len, ids)) == corpus.tokens
    assert max(map(len, ids)) == 70
    for number, row in enumerate(ids):
        whole = torch.tensor([row])
        for site in SITES:
            expected = model.residuals(whole, torch.ones_like(whole, dtype=torch.bool), site)[0]
            begin = corpus.known.first[number]
            got = corpus.known.x[site][begin : begin + len(row)]
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_training_on_what_was_written_runs_the_model_no_second_time(model, tmp_path, monkeypatch):
    corpus = write(model, tmp_path)
    settings = config(context=70, rows=8, tokens=10_000, held_out=0.2)
    read = {site: file_of(tmp_path / "read", site) for site in SITES}
    read_residuals(model, corpus.texts, settings, read)
    counted = passes(model, monkeypatch)
    known = {site: file_of(tmp_path / "known", site) for site in SITES}
    read_residuals(model, corpus.texts, settings, known, known=corpus.known)
    assert not counted
    for site in SITES:
        one, other = (open_residuals(files[site], model.d_model) for files in (read, known))
        assert one.held_out == other.held_out
        torch.testing.assert_close(one.x, other.x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("at", [5, 20, 40])
def test_a_stopped_writing_goes_on_with_the_same_texts(model, tmp_path, monkeypatch, at):
    whole = write(model, tmp_path / "whole")

    def stop(done, total):
        if done >= at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(model, tmp_path / "stopped", stop)
    again = write(model, tmp_path / "stopped")
    assert again.texts == whole.texts
    for site in SITES:
        assert torch.equal(again.known.x[site], whole.known.x[site])
    counted = passes(model, monkeypatch)
    assert write(model, tmp_path / "stopped").texts == whole.texts
    assert not counted, "what is written is not written again"


def test_texts_without_their_residuals_are_read(model, tmp_path):
    corpus = write(model, tmp_path)
    file_of(tmp_path / "residuals", SITES[0]).unlink()
    again = write(model, tmp_path)
    assert again.texts == corpus.texts
    assert again.known is None


def test_a_torn_batch_is_written_again(model, tmp_path):
    corpus = write(model, tmp_path)
    torn = tmp_path / "texts" / "00001.json"
    torn.write_text(torn.read_text()[:50])
    again = write(model, tmp_path)
    assert again.texts == corpus.texts
    for site in SITES:
        assert torch.equal(again.known.x[site], corpus.known.x[site])


def test_a_text_ends_where_it_would_be_read_otherwise(tmp_path, monkeypatch):
    """A random model writes tokens that no tokenizer would: nearly all of its texts are cut."""
    random = small_models.model("llama")
    monkeypatch.setattr(module, "MOST_LEFT_OUT", 1.0)
    asked = Assignment([f"the cat sat on {i}" for i in range(64)], context=24, seed=0)
    corpus = write_corpus(random, asked, tmp_path)
    ids = random.tokenize(corpus.texts)
    assert corpus.texts
    assert corpus.left_out > 0
    assert sum(map(len, ids)) == corpus.tokens
    monkeypatch.setattr(module, "MOST_LEFT_OUT", 0.0)
    with pytest.raises(BadInput, match=f"^{corpus.left_out} of .* cut into other tokens"):
        write_corpus(random, asked, tmp_path)


def test_a_model_that_says_the_same_for_ever_is_refused(model, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TEMPERATURE", 0.0)
    asked = Assignment([ASKED.prompts[0]] * 16, context=70, seed=0)
    with pytest.raises(
        BadInput, match="writes the same over and over: of .* Give texts of another"
    ):
        write_corpus(model, asked, tmp_path)


def test_a_model_that_writes_nothing_is_refused(model, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "steps", lambda *_: iter(()))
    with pytest.raises(BadInput, match="writes nothing: 16 of 16 texts end before"):
        write_corpus(model, ASKED, tmp_path)


def test_a_prompt_without_room_is_refused(model, tmp_path):
    with pytest.raises(BadInput, match="A prompt has .* tokens, and a document is to have 8"):
        write_corpus(model, ASKED._replace(context=8), tmp_path)
