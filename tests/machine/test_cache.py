import torch

from sae_training.training.cached import CachedStream
from sae_training.training.residual_files import CorpusSplit, file_of
from tests.helpers import small_models
from tests.machine.test_train import config

TEXTS = [f"the cat sat on the mat and then the dog ran to garden {i}" for i in range(30)]
SETTINGS = config(batch_tokens=64, context=32, rows=4, tokens=64 * 40)


def test_every_token_comes_once_an_epoch(tmp_path):
    stream = CachedStream(small_models.model("llama"), TEXTS, SETTINGS, tmp_path)
    batches = len(stream._all) // 64
    seen = torch.cat([next(stream) for _ in range(batches)])
    rows = {row.numpy().tobytes() for row in stream._all}
    assert {row.numpy().tobytes() for row in seen} <= rows
    second = torch.cat([next(stream) for _ in range(batches)])
    assert not torch.equal(seen, second), "each epoch has an order of its own"


def test_it_continues_where_it_was_and_the_model_is_read_once(tmp_path, monkeypatch):
    model = small_models.model("llama")
    stream = CachedStream(model, TEXTS, SETTINGS, tmp_path)
    for _ in range(9):  # more than one epoch
        next(stream)
    place, following = stream.state(), [next(stream) for _ in range(6)]
    before = (file_of(tmp_path, SETTINGS.site)).stat().st_mtime_ns
    again = CachedStream(model, TEXTS, SETTINGS, tmp_path)
    assert (file_of(tmp_path, SETTINGS.site)).stat().st_mtime_ns == before
    again.restore(place)
    assert all(torch.equal(x, next(again)) for x in following)


def test_a_damaged_file_is_made_again(tmp_path):
    model = small_models.model("llama")
    first = next(CachedStream(model, TEXTS, SETTINGS, tmp_path))
    file = file_of(tmp_path, SETTINGS.site)
    file.write_bytes(b"\0" * 100 + file.read_bytes()[100:])
    assert torch.equal(next(CachedStream(model, TEXTS, SETTINGS, tmp_path)), first)


def test_held_out_documents_are_not_in_it(tmp_path):
    stream = CachedStream(small_models.model("llama"), TEXTS, SETTINGS, tmp_path)
    trained = [TEXTS[number] for number in CorpusSplit.of(TEXTS, SETTINGS).trained]
    assert not set(trained) & set(stream.held_out_texts)
    whole = sum(len(ids) - 1 for ids in stream.model.tokenize(trained))
    assert len(stream._all) == whole
