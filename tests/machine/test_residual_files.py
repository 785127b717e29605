"""One reading of a corpus serves several layers, training and harvest, and goes on when stopped."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch

from feature_store.errors import BadInput
from feature_store.records import Site
from sae_training.dictionary.stream import read
from sae_training.dictionary.texts import Corpus
from sae_training.training import residual_files as module
from sae_training.training.residual_files import (
    CorpusSplit,
    file_of,
    open_residuals,
    read_residuals,
    reading_order,
)
from tests.helpers import small_models
from tests.machine.test_train import config

TEXTS = [f"the cat sat on the mat and then the dog ran to garden {i}" for i in range(40)]
SETTINGS = config(batch_tokens=64, context=12, rows=4, tokens=10_000, held_out=0.2)
SITES = [Site(2), Site(0, "resid_pre"), Site(1)]


@pytest.fixture
def model():
    return small_models.model("llama")


def files(folder):
    return {site: file_of(folder, site) for site in SITES}


def passes(model, monkeypatch):
    """Count the forward passes of a model."""
    counted = []
    forward = model.forward
    monkeypatch.setattr(
        model, "forward", lambda *args, **kw: counted.append(1) or forward(*args, **kw)
    )
    return counted


def test_several_sites_in_one_pass_are_what_each_gives_alone(model):
    ids = torch.arange(20).reshape(2, 10)
    mask = torch.ones_like(ids, dtype=torch.bool)
    together = model.residuals_at(ids, mask, SITES)
    for site, residual in zip(SITES, together, strict=True):
        assert torch.equal(residual, model.residuals(ids, mask, site))


def test_one_pass_a_batch_fills_the_files_of_all_layers(model, tmp_path, monkeypatch):
    counted = passes(model, monkeypatch)
    read_residuals(model, TEXTS, SETTINGS, files(tmp_path))
    assert len(counted) == len(list(reading_order(model, TEXTS, SETTINGS)))
    alone = tmp_path / "alone"
    for site in SITES:
        read_residuals(model, TEXTS, SETTINGS, {site: file_of(alone, site)})
        ours, theirs = (
            open_residuals(file_of(at, site), model.d_model) for at in (tmp_path, alone)
        )
        assert torch.equal(ours.x, theirs.x)
        assert ours.held_out == theirs.held_out > 0
    counted.clear()
    read_residuals(model, TEXTS, SETTINGS, files(tmp_path))
    assert not counted, "what is there is not read again"


def test_everything_is_the_corpus_whatever_the_file_holds(model, tmp_path, monkeypatch):
    site = Site(1)
    expected = {}
    for tokens in read(model, Corpus(TEXTS, 1, SETTINGS.context), site):
        for x, document, position in zip(tokens.x, tokens.document, tokens.position, strict=True):
            expected[int(document), int(position)] = x
    for tokens_wanted in (10_000, 150):  # the whole corpus, and less of it than there is
        settings = config(batch_tokens=64, context=12, rows=4, tokens=tokens_wanted, held_out=0.2)
        file = file_of(tmp_path / str(tokens_wanted), site)
        read_residuals(model, TEXTS, settings, {site: file})
        written = open_residuals(file, model.d_model)
        counted = passes(model, monkeypatch)
        seen = {}
        for tokens in written.everything(model, TEXTS, settings, site):
            for i in range(len(tokens.x)):
                place = int(tokens.document[i]), int(tokens.position[i])
                assert place not in seen
                seen[place] = tokens.x[i]
                assert tokens.ids[tokens.row[i], tokens.column[i]] >= 0
        assert seen.keys() == expected.keys()
        for place, x in seen.items():
            assert torch.allclose(x, expected[place], atol=1e-5)
        assert bool(counted) == (tokens_wanted == 150), "the model reads what the file lacks only"


def test_residuals_of_other_tokens_are_refused(model, tmp_path):
    site = Site(1)
    file = file_of(tmp_path, site)
    read_residuals(model, TEXTS, SETTINGS, {site: file})
    written = open_residuals(file, model.d_model)
    longer = [f"{text} and then" for text in TEXTS]
    with pytest.raises(BadInput, match="are not those of the texts as they are cut"):
        list(written.everything(model, longer, SETTINGS, site))


def test_held_out_documents_come_first(model, tmp_path):
    site = Site(1)
    file = file_of(tmp_path, site)
    read_residuals(model, TEXTS, SETTINGS, {site: file})
    written = open_residuals(file, model.d_model)
    held_out = set(CorpusSplit.of(TEXTS, SETTINGS).held_out)
    count = 0
    for tokens in written.everything(model, TEXTS, SETTINGS, site):
        inside = [int(document) in held_out for document in tokens.document]
        assert all(inside) == (count < written.held_out)
        count += len(inside)


@pytest.mark.parametrize("mark", [1, 3, 1000])
def test_a_stopped_reading_goes_on_with_the_same_bits(model, tmp_path, monkeypatch, mark):
    monkeypatch.setattr(module, "MARK", mark)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    read_residuals(model, TEXTS, SETTINGS, files(whole))
    batches = len(list(reading_order(model, TEXTS, SETTINGS)))
    counted = passes(model, monkeypatch)

    def stop(done, total):
        if len(counted) == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_residuals(model, TEXTS, SETTINGS, files(stopped), stop)
    assert len(counted) == 7 < batches
    read_residuals(model, TEXTS, SETTINGS, files(stopped))
    assert len(counted) == batches, "no batch is read twice"
    for site in SITES:
        assert file_of(whole, site).read_bytes() == file_of(stopped, site).read_bytes()


@pytest.mark.parametrize("damage", ["cut", "changed", "torn description", "longer"])
def test_a_file_that_is_not_as_described_is_made_again(model, tmp_path, damage):
    site = Site(1)
    file = file_of(tmp_path, site)
    read_residuals(model, TEXTS, SETTINGS, {site: file})
    good = file.read_bytes()
    description = file.with_suffix(".json")
    if damage == "cut":
        file.write_bytes(good[:-4])
    elif damage == "changed":
        file.write_bytes(b"\0" * 100 + good[100:])
    elif damage == "longer":  # written on after the last description
        part = json.loads(description.read_text()) | {"whole": False}
        description.write_text(json.dumps(part))
        file.write_bytes(good + b"\1" * 40)
    else:
        description.write_text(description.read_text()[:20])
    read_residuals(model, TEXTS, SETTINGS, {site: file})
    assert file.read_bytes() == good


def test_a_full_disk_is_one_line_and_what_is_there_stays(model, tmp_path, monkeypatch):
    counted = passes(model, monkeypatch)
    usage = shutil.disk_usage

    def full(path):
        return usage(path) if len(counted) < 5 else SimpleNamespace(free=10)

    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "disk_usage", full)
        with pytest.raises(BadInput, match="fill the disk"):
            read_residuals(model, TEXTS, SETTINGS, files(tmp_path))
    read_residuals(model, TEXTS, SETTINGS, files(tmp_path))
    assert len(counted) == 1 + len(list(reading_order(model, TEXTS, SETTINGS)))


def test_a_stop_between_two_files_of_a_batch_costs_that_batch(model, tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    read_residuals(model, TEXTS, SETTINGS, files(whole))
    counted = passes(model, monkeypatch)
    add = module.ResidualWriter.add

    def interrupted(writer, x, held_out, files):
        if len(counted) == 5 and writer.site == SITES[1]:
            raise KeyboardInterrupt
        add(writer, x, held_out, files)

    with monkeypatch.context() as patch:
        patch.setattr(module.ResidualWriter, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            read_residuals(model, TEXTS, SETTINGS, files(stopped))
    read_residuals(model, TEXTS, SETTINGS, files(stopped))
    assert len(counted) == 1 + len(list(reading_order(model, TEXTS, SETTINGS)))
    for site in SITES:
        assert file_of(whole, site).read_bytes() == file_of(stopped, site).read_bytes()


def test_texts_without_a_second_token_are_refused(model, tmp_path):
    texts = ["the"] * 5
    if any(len(ids) > 1 for ids in model.tokenize(texts)):
        texts = [""] * 4 + ["the cat sat"]
    with pytest.raises(BadInput, match="no token beyond the first"):
        read_residuals(model, texts, SETTINGS, files(tmp_path))


def test_a_reading_says_from_the_first_batch_how_many_tokens_it_has(model, tmp_path):
    """Long texts are read first, so neither texts nor batches say how far a reading is."""
    texts = ["the cat sat " * (1 if i % 8 else 40) for i in range(200)]
    shown = []
    read_residuals(
        model, texts, SETTINGS, files(tmp_path), lambda done, total: shown.append((done, total))
    )
    read = shown[-1][0]
    assert shown[-1] == (read, read)
    assert all(0.9 * read <= total <= 1.1 * read for _, total in shown)
    assert all(done < total for done, total in shown[: len(shown) // 2])
