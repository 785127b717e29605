import hashlib

import pytest

from feature_store.files import digest, replacing, write_atomically


def test_a_file_is_replaced_when_its_content_is_complete(tmp_path):
    file = tmp_path / "weights.bin"
    file.write_bytes(b"old")
    with replacing(file) as beside:
        beside.write_bytes(b"new")
        assert file.read_bytes() == b"old"
    assert file.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [file]


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "weights.bin"
    file.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), replacing(file) as beside:
        beside.write_bytes(b"ne")
        raise ZeroDivisionError
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_digest_is_that_of_the_content(tmp_path):
    file = tmp_path / "text"
    write_atomically(file, "self-direction: é")
    assert digest(file) == digest(str(file)) == hashlib.sha256(file.read_bytes()).hexdigest()
