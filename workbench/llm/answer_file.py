"""A file of answers that is only ever added to, so that nothing is asked or paid for twice.

1. One JSON object a line, with a `key`: the digest of what determines the answer.
2. Lines are written whole, under a lock, and flushed to disk before the answer is used; a line torn
   by a crash is passed over, and the next one begins on its own line.
3. `catch_up` reads what other processes have added. Two processes that ask the same at the same
   moment both pay.

Left out: forgetting. Move the file away to ask everything anew.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from feature_store.errors import WorkbenchError


class AnswerFile:
    """Answers in a JSON-lines file, which need not exist yet."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._read_to = 0

    def catch_up(self) -> list[dict[str, Any]]:
        """Read the answers that were added since the last call."""
        if not self.file.exists():
            return []
        with self.file.open("rb") as handle:
            handle.seek(self._read_to)
            new = handle.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read_to += len(whole)
        answers = []
        for line in whole.splitlines():
            try:
                answer = json.loads(line)
            except ValueError:
                continue  # torn by a crash; the question is asked again
            if isinstance(answer, dict) and "key" in answer:
                answers.append(answer)
        return answers

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
