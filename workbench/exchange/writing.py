"""Write an export whole or not at all.

`new_file` writes a file beside its place and renames it, `new_folder` does the same with a folder.
A process that is killed leaves nothing under the name that was asked for. Both have the rights of
any new file, whatever a library gives its own. Left out: replacing what is there; `export` refuses
that before.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from feature_store.files import BESIDE, replacing


@contextlib.contextmanager
def new_file(out: Path) -> Iterator[Path]:
    """Give a path to write to, and rename it to `out` when the block ends well.

    with new_file(Path("power.safetensors")) as beside:
        save_file({"steering_vector": vector}, beside)
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as beside:
        yield beside
        beside.chmod(0o666 & ~_umask())


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Give a folder to write into, and rename it to `out` when the block ends well.

    Where the block raises, what it wrote is removed.

        with new_folder(Path("mine")) as folder:
            (folder / "model.jsonl").write_text("{}")
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=BESIDE, dir=out.parent))
    try:
        yield beside
        # A temporary folder is its maker's alone; an export is for others.
        beside.chmod(0o777 & ~_umask())
        beside.rename(out)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _umask() -> int:
    """Give the rights that new files of this process lack."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
