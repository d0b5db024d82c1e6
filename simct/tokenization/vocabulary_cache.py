"""The shared vocabularies of pairs, kept by content: in memory, and as .npz files under the user's cache folder.

A shared vocabulary is the byte-equal ids of two tokenizers. Its key is the fingerprints of both, so a changed tokenizer
gets a new entry and never a stale one. If a file cannot be read or written, the vocabularies are matched again.
"""

from __future__ import annotations

import contextlib
import io
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from simct.files import cache_folder, write_cache

SharedIds = tuple[np.ndarray, np.ndarray]  # teacher ids [n], student ids [n]; int64, ascending in the student's
KEPT_IN_MEMORY = 16
KEPT_ON_DISK = 128
_memory: OrderedDict[str, SharedIds] = OrderedDict()


def shared_ids(
    teacher: str, student: str, match: Callable[[], SharedIds], valid: Callable[[SharedIds], bool]
) -> SharedIds:
    """Return the shared ids of two fingerprints: from memory, from a file that `valid` accepts, or from `match`."""
    key = f"{teacher}-{student}"
    found = _memory.pop(key, None)
    if found is None:
        path = cache_folder("shared_vocabularies") / f"{key}.npz"
        found = _read(path)
        if found is None or not valid(found):
            found = match()
            _write(path, found)
    _memory[key] = found
    while len(_memory) > KEPT_IN_MEMORY:
        _memory.popitem(last=False)
    return found


def _read(path: Path) -> SharedIds | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            teacher, student = stored["teacher"].astype(np.int64), stored["student"].astype(np.int64)
    except Exception:  # missing, cut short, or written by something else
        return None
    return (teacher, student) if teacher.ndim == 1 and teacher.shape == student.shape else None


def _write(path: Path, found: SharedIds) -> None:
    file = io.BytesIO()
    np.savez(file, teacher=found[0].astype(np.int32), student=found[1].astype(np.int32))
    write_cache(path, file.getvalue())
    with contextlib.suppress(OSError):  # another process may remove old files at the same time
        stored = sorted(path.parent.glob("*.npz"), key=lambda file: file.stat().st_mtime)
        for old in stored[:-KEPT_ON_DISK]:
            old.unlink(missing_ok=True)
