"""A file of answers that is only ever added to, so that nothing is asked or paid for twice.

1. One JSON object a line, with a `key`: the digest of what determines the answer.
2. Lines are written whole, under a lock, and flushed to disk before the answer is used; a line torn
   by a crash is passed over, and the next one begins on its own line.
3. `catch_up` reads what other processes have added. Two that ask the same at the same moment both
   pay.

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


class Lines:
    """The answers in the file at `file`, which need not exist yet."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._read_to = 0

    def catch_up(self) -> list[dict[str, Any]]:
        """What was added since the last call."""
        if not self.file.exists():
            return []
        with self.file.open("rb") as handle:
            handle.seek(self._read_to)
            new = handle.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read_to += len(whole)
        found = []
        for line in whole.splitlines():
            try:
                told = json.loads(line)
            except ValueError:
                continue  # torn by a crash; the question is asked again
            if isinstance(told, dict) and "key" in told:
                found.append(told)
        return found

    def add(self, told: Sequence[Mapping[str, Any]]) -> None:
        """Keep some answers. Raises WorkbenchError where the disk does not take them."""
        text = b"".join(json.dumps(one).encode() + b"\n" for one in told)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("ab+") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                size = handle.seek(0, os.SEEK_END)
                if size:
                    handle.seek(size - 1)
                    text = text if handle.read(1) == b"\n" else b"\n" + text
                handle.write(text)
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            raise WorkbenchError(
                f"Answers cannot be kept in {self.file}: {error.strerror}. Make room; the same"
                " command goes on."
            ) from None


def digest(*told: Any) -> str:
    """SHA-256 of everything that determines an answer."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
