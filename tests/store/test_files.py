import errno
import hashlib
import json
import os
import socket
import tomllib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from feature_store import files
from feature_store.errors import BadInput, NotFound, WorkbenchError
from feature_store.files import digest, replacing, write_atomically
from tests.helpers.hostile import survives


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


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(tmp_path / "socket"))
    for path, error, message in [
        (tmp_path, BadInput, "is a folder, a file is needed"),
        (tmp_path / "pipe", BadInput, "is a pipe"),
        ("/dev/zero", BadInput, "is a device"),
        (tmp_path / "socket", BadInput, "cannot be read"),
        (tmp_path / "none", NotFound, "There is no file"),
        (tmp_path / "none" / "none", NotFound, "There is no file"),
        (str(tmp_path / "a") + chr(0), BadInput, "is no path of a file"),
        ("x" * 5000, BadInput, "File name too long"),
    ]:
        with pytest.raises(error, match=message) as caught:
            survives_or_raises(path)
        assert str(caught.value).isprintable()


def survives_or_raises(path):
    """Read a file within the time that a reader has; what it refuses is raised."""
    refusals = []

    def read():
        try:
            return files.read_bytes(path)
        except WorkbenchError as error:
            refusals.append(error)
            raise

    content = survives(read)
    if refusals:
        raise refusals[0]
    return content


def test_a_file_beyond_its_limit_is_refused_before_it_is_read(tmp_path):
    file = tmp_path / "sparse"
    with file.open("wb") as handle:
        handle.truncate(2**33)
    with pytest.raises(BadInput, match="larger than 1024 MiB"):
        files.read_bytes(file)
    assert files.read_bytes("/proc/self/cmdline", 10**6)  # says 0 bytes and holds more
    with pytest.raises(BadInput, match="larger than 0 MiB"):
        files.read_bytes("/proc/self/cmdline", 1)


def test_a_file_without_permission_is_refused(monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(BadInput, match="secret cannot be read: Permission denied"):
        files.read_bytes("secret")


def test_text_is_utf_8_or_utf_16_with_a_mark(tmp_path):
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / "t").write_bytes("Über 你好\r\n\u2028".encode(encoding))
        assert files.read_text(tmp_path / "t") == "Über 你好\r\n\u2028"
    for content, message in [
        ("Müller".encode("latin-1"), r"not UTF-8 text \(byte 1\)"),
        ("ab".encode("utf-16-le"), r"holds a NUL \(sign 2\)"),
        (b"\xff\xfea", "not UTF-8 text"),
    ]:
        (tmp_path / "t").write_bytes(content)
        with pytest.raises(BadInput, match=message):
            files.read_text(tmp_path / "t")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "'a' stands there twice"),
        ("[" * 101 + "]" * 101, "more than 100 levels"),
        ("[" * 100_000, "more than 100 levels"),
        ("1e400", "'1e400' is no finite number"),
        ("[NaN]", "'NaN' is no finite number"),
        ("9" * 5000, "5000 digits"),
        ('["\\ud800"]', "half of a surrogate pair"),
        ('{"\\udfff": 1}', "half of a surrogate pair"),
        ('{"a": ', "Expecting value"),
        ('"a\nb"', "Invalid control character"),
    ],
)
def test_json_that_no_run_can_keep_is_refused(tmp_path, text, message):
    with pytest.raises(BadInput, match=message):
        files.parse_json(text)
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(BadInput, match=r"x\.json is not valid JSON"):
        files.read_json(tmp_path / "x.json")


def test_our_files_may_hold_nan():
    assert repr(files.parse_json("[NaN, 1e999]", finite=False)) == "[nan, inf]"
    assert files.parse_json('"\\ud83d\\ude42"') == "🙂"
    assert files.parse_json("[" * 99 + "]" * 99)


def test_json_lines_end_at_line_feeds_alone(tmp_path):
    texts = [f"one{sign}two" for sign in "\u2028\u2029\x85\x0b\x0c\x1c\r"]
    lines = [json.dumps(text, ensure_ascii=False) for text in texts]
    (tmp_path / "x.jsonl").write_bytes("\r\n".join(["", *lines, ""]).encode())
    assert list(files.json_lines(tmp_path / "x.jsonl")) == list(enumerate(texts, 2))
    (tmp_path / "x.jsonl").write_text('"a"\n\n"b')
    with pytest.raises(BadInput, match="line 3: Unterminated string"):
        list(files.json_lines(tmp_path / "x.jsonl"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = inf", "inf is no finite number"),
        ("a = " + "[" * 5000, "more than 100 levels"),
        (".".join("a" * 500) + " = 1", "more than 100 levels"),
        ("a = " + "9" * 5000, "not valid TOML"),
        ("a = 1\na = 2", "not valid TOML: Cannot overwrite a value"),
    ],
)
def test_toml_that_no_run_can_keep_is_refused(tmp_path, text, message):
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(BadInput, match=message):
        files.read_toml(tmp_path / "x.toml")


MARKS = [*"[]{},:-=.#", "true", "1", "e9", "NaN", "inf", "a", "é", "[[", "]]"]
SIGNS = ["\n", "\r", " ", '"', "'", '"""', "\\", "\\ud800", "\u2028", "\0", "9" * 400]
PARTS = st.sampled_from([*MARKS, *SIGNS])
HOSTILE = st.one_of(
    st.binary(max_size=200),
    st.lists(PARTS, max_size=40).map(lambda parts: "".join(parts).encode()),
)


@given(content=HOSTILE)
@example(content=b"[" * 100_000)
@example(content=b"9" * 5000)
def test_hostile_json_and_json_lines(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "hostile.json"
    file.write_bytes(content)
    value = survives(lambda: files.read_json(file))
    if value is not None:
        assert json.loads(files.read_text(file)) == value
    survives(lambda: list(files.json_lines(file)))


@given(content=HOSTILE)
@example(content=b"a=" + b"[" * 100_000)
@example(content=b"a." * 20_000 + b"a=1")
def test_hostile_toml(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "hostile.toml"
    file.write_bytes(content)
    tables = survives(lambda: files.read_toml(file))
    if tables is not None:
        assert tomllib.loads(files.read_text(file)) == tables
