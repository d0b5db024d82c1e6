"""The checkpoints of a run on disk: step-N folders, each with a manifest of its files, which reveals damage.

A checkpoint is written under another name, flushed to disk and then renamed, so that a folder named step-N is complete.
Later damage (a file cut short, a flipped byte) shows in the checksums of manifest.json. Older checkpoints without a
manifest are checked for the files they must have.
"""

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from simct.files import read_json, sync_folder, write_atomically

MANIFEST = "manifest.json"
# the run.yaml that the checkpoint was trained with
CONFIG_FILE = "run.yaml"
STEP_FILE = "trainer.json"
NAME = re.compile(r"step-(0|[1-9][0-9]{0,14})")
TRAINED_FILE = "trained.safetensors"


def checkpoints_in(folder: Path) -> list[tuple[int, Path]]:
    """(step, path) of every folder named like a checkpoint, whole or not, the newest first."""
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.is_dir()]
    except OSError:
        return []
    matches = [match for name in names if (match := NAME.fullmatch(name))]
    return sorted(((int(match[1]), folder / match[0]) for match in matches), reverse=True)


def newest_whole(folder: Path, thorough: bool = False) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint, or None, and what is wrong with each newer one, as the start of a sentence.

    thorough: compare the checksums of all files, not only their names and sizes.
    """
    damaged: list[str] = []
    for step, path in checkpoints_in(folder):
        reason = damage(path, step, thorough)
        if reason is None:
            return path, damaged
        damaged.append(f"Checkpoint {path.name} is damaged ({reason})")
    return None, damaged


def seal(folder: Path) -> None:
    """Flush a finished checkpoint to disk and write its manifest. Raises OSError."""
    files: dict[str, dict[str, Any]] = {}
    for path in _files(folder):
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": digest}
    write_atomically(folder / MANIFEST, json.dumps({"files": files}, indent=1))
    for inner in [*(path for path in folder.rglob("*") if path.is_dir()), folder]:
        sync_folder(inner)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MANIFEST)


def damage(folder: Path, step: int, thorough: bool) -> str | None:
    """What is wrong with the checkpoint of `step` in `folder`, in a few words; None if it is whole."""
    try:
        if not (folder / MANIFEST).exists():
            return _damage_without_manifest(folder, step, thorough)
        files = read_json(folder / MANIFEST).get("files")
        if not isinstance(files, dict) or not files:
            return f"{MANIFEST} cannot be read"
        return next((found for name, facts in files.items() if (found := _wrong(folder, name, facts, thorough))), None)
    except OSError as error:
        return f"{Path(error.filename or folder).name} cannot be read: {error.strerror}"


def _wrong(folder: Path, name: str, facts: Any, thorough: bool) -> str | None:
    path = folder / name
    if not isinstance(facts, dict) or not {"bytes", "sha256"} <= facts.keys():
        return f"{MANIFEST} cannot be read"
    if not path.is_file():
        return f"{name} is missing"
    size = path.stat().st_size
    if size != facts["bytes"]:
        return f"{name} has {size:,} bytes instead of {facts['bytes']}"
    if thorough:
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != facts["sha256"]:
                return f"the checksum of {name} differs"
    return None


def _damage_without_manifest(folder: Path, step: int, thorough: bool) -> str | None:
    """As damage, for an older checkpoint without a manifest: by its required files and their own formats."""
    if read_json(folder / STEP_FILE).get("step") != step:
        return f"{STEP_FILE} does not name its step"
    if not (folder / TRAINED_FILE).is_file():
        return f"{TRAINED_FILE} is missing"
    return next((found for path in _files(folder) if (found := _broken(path, thorough))), None)


def _broken(path: Path, thorough: bool) -> str | None:
    if not path.stat().st_size:
        return f"{path.name} is empty"
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), framework="numpy"):
                return None
        except SafetensorError:
            return f"{path.name} is cut short"
    if path.suffix in (".bin", ".pt", ".pkl"):
        # torch writes ZIP archives, which have checksums
        try:
            with zipfile.ZipFile(path) as archive:
                broken = archive.testzip() if thorough else None
        except (zipfile.BadZipFile, NotImplementedError, EOFError):
            return f"{path.name} is cut short"
        return f"a checksum in {path.name} differs" if broken else None
    return None
