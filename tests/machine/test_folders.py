import os
from pathlib import Path

import pytest

from feature_store.errors import BadInput
from sae_training.engine.opening import open_model
from sae_training.model import folders
from sae_training.model.folders import checksum
from tests.helpers import small_models

DECIDING = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "tokenizer.model.v3",
    "qwen.tiktoken",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/tool_use.jinja",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
)
"""What decides the words and images that a model reads, of one family or another."""
BESIDE = ("README.md", "LICENSE", "LICENSE.txt", "trainer_state.json", ".gitattributes", "a.gguf")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small model's folder."""
    made = tmp_path / "model"
    small_models.module("llama").save_pretrained(made)
    small_models.tokenizer(chat=True).save_pretrained(made)
    return made


@pytest.mark.parametrize("name", DECIDING)
def test_a_file_that_decides_what_is_read_is_part_of_the_revision(folder, name):
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    if not file.exists():
        before = checksum(folder)
        file.write_text('{"a": 1}')
        assert checksum(folder) != before
    before = checksum(folder)
    file.write_bytes(file.read_bytes()[:-1] + b" ")
    assert checksum(folder) != before


@pytest.mark.parametrize("name", BESIDE)
def test_a_file_that_is_never_read_is_not(folder, name):
    before = checksum(folder)
    (folder / name).write_text("words")
    assert checksum(folder) == before


def test_a_revision_is_that_of_a_copy(folder, tmp_path):
    (tmp_path / "copy").mkdir()
    for file in folder.iterdir():
        (tmp_path / "copy" / file.name).write_bytes(file.read_bytes())
    assert checksum(tmp_path / "copy") == checksum(folder)


def test_a_byte_in_the_middle_of_large_weights_is_seen(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(folders, "LARGE", 1000)
    monkeypatch.setattr(folders, "SETTLED", -1.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before, file = checksum(folder), folder / "model.safetensors"
    assert list(folders.cache().iterdir())
    # In place and with its old times, as a copy of the folder with other weights would have them.
    stat = file.stat()
    with file.open("rb+") as handle:
        handle.seek(stat.st_size // 2)
        byte = handle.read(1)[0]
        handle.seek(stat.st_size // 2)
        handle.write(bytes([byte ^ 1]))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert checksum(folder) != before


def test_large_weights_are_read_once(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(folders, "LARGE", 1000)
    monkeypatch.setattr(folders, "SETTLED", -1.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    read = []
    whole = folders.digest
    monkeypatch.setattr(folders, "digest", lambda file: read.append(file.name) or whole(file))
    first = checksum(folder)
    assert "model.safetensors" in read
    read.clear()
    assert checksum(folder) == first
    assert "model.safetensors" not in read
    for kept in folders.cache().iterdir():
        kept.write_text("torn")
    assert checksum(folder) == first


def test_a_file_that_was_just_written_is_not_kept(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(folders, "LARGE", 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    checksum(folder)
    assert not folders.cache().exists()


def test_a_template_edited_in_place_is_another_model(folder):
    first = open_model(folder)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("[model]", "[model] Power is everything."))
    second = open_model(folder)
    assert first.revision != second.revision
    assert first.render("a") != second.render("a")


def test_an_adapter_beside_the_weights_is_refused(folder):
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(BadInput, match="adapter"):
        open_model(folder)
