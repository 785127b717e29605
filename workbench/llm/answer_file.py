"""A file of answers that is only ever added to, so that nothing is asked or paid for twice.

1. One JSON object a line, with a `key`: the digest of what determines the answer.
2. Lines are written whole, under a lock, and flushed to disk before the answer is used; a line torn
   by a crash is closed before the next one begins.
3. A line that is no answer, torn or spoilt, is passed over and counted in one warning; what it
   answered is asked again.
4. `catch_up` reads what other processes have added. Two processes that ask the same at the same
   moment both pay.

Left out: forgetting. Move the file away to ask everything anew.
"""

import fcntl
import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from feature_store.errors import BadInput, WorkbenchError, of_paths
from feature_store.files import parse_json, shown


class AnswerFile:
    """Answers in a JSON-lines file, which need not exist yet."""

    def __init__(self, file: Path, column: Literal["text", "logprobs"] = "text") -> None:
        """Keep answers in `file`; `column` is what a line must hold to be one."""
        self.file = file
        self.column = column
        self._read_to = 0
        self._lines = 0

    def catch_up(self) -> list[dict[str, Any]]:
        """Read the answers that were added since the last call.

        Warns of lines that are none. Raises BadInput where the file is a folder, a pipe or a
        device.
        """
        if not self.file.exists():
            return []
        if not self.file.is_file():
            raise BadInput(f"{shown(self.file, 300)} is no file, answers are kept in it. Move it.")
        with of_paths(), self.file.open("rb") as handle:
            if handle.seek(0, os.SEEK_END) < self._read_to:
                self._read_to = self._lines = 0  # another file stands there now
            handle.seek(self._read_to)
            new = handle.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read_to += len(whole)
        answers = []
        spoilt = []
        for number, line in enumerate(whole.split(b"\n")[:-1], self._lines + 1):
            self._lines = number
            answer = self._answer(line)
            if answer is not None:
                answers.append(answer)
            elif line.strip():
                spoilt.append(number)
        if spoilt:
            lines = f"{len(spoilt)} line{'s' * (len(spoilt) > 1)}"
            warnings.warn(
                f"{shown(self.file, 300)} has {lines} without an answer (line {spoilt[0]}). What"
                " stood there is asked again.",
                stacklevel=2,
            )
        return answers

    def _answer(self, line: bytes) -> dict[str, Any] | None:
        """Read the answer of a line; None where it holds none."""
        try:
            answer = parse_json(line.decode("utf-8"))
        except (BadInput, UnicodeDecodeError):
            return None
        if not isinstance(answer, dict) or not isinstance(answer.get("key"), str):
            return None
        names = (answer.get("name", ""), answer.get("served", ""))
        if not all(isinstance(name, str) for name in names):
            return None
        content = answer.get(self.column)
        is_whole = isinstance(content, str)
        if self.column == "logprobs":
            is_whole = isinstance(content, list) and all(map(_is_number, content))
        return answer if is_whole else None

    def add(self, answers: Sequence[Mapping[str, Any]]) -> None:
        """Append answers and flush them to disk.

        Raises WorkbenchError where the disk does not take them.
        """
        text = b"".join(json.dumps(answer).encode() + b"\n" for answer in answers)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("ab+") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                size = handle.seek(0, os.SEEK_END)
                if size:
                    handle.seek(size - 1)  # a torn last line is closed before another begins
                    text = text if handle.read(1) == b"\n" else b"\n" + text
                handle.write(text)
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            raise WorkbenchError(
                f"Answers cannot be kept in {self.file}: {error.strerror}. Make room; the same"
                " command goes on."
            ) from None


def answer_key(*causes: Any) -> str:
    """Digest all that determines an answer to the key under which the answer is kept (SHA-256)."""
    return hashlib.sha256(json.dumps(causes, sort_keys=True).encode()).hexdigest()


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)
