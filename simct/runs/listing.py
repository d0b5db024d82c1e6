"""All runs of a folder, and one run by its id."""

import os
import stat
import threading
from pathlib import Path

from simct.errors import RunError, quoted
from simct.files import expanded
from simct.runs.folder import RUN_ID, RunFolder
from simct.runs.status import RunStatus, read_status

# (inode, time, size) of a status.json and its content then, by run folder
_statuses: dict[str, tuple[tuple[int, int, int], RunStatus]] = {}
_statuses_lock = threading.Lock()


def open_run(runs_dir: str | Path, run_id: str) -> RunFolder:
    """The run `run_id` under `runs_dir`. Raises RunError when the id is malformed or no such run exists."""
    if not RUN_ID.fullmatch(run_id or ""):
        raise RunError(f"{quoted(run_id)} is not a run id. See `simct jobs` for the list.")
    root = expanded(runs_dir).resolve()
    run = RunFolder((root / run_id).resolve())
    if run.path.parent != root or not run.exists:
        raise RunError(f"There is no run {quoted(run_id)} in {str(root)!r}. See `simct jobs` for the list.")
    return run


def list_statuses(runs_dir: str | Path) -> list[tuple[RunFolder, RunStatus]]:
    """Every run under `runs_dir` with its status, newest first.

    A status.json is only read again after it was replaced, so a long history costs one `stat` per run.
    """
    root = expanded(runs_dir).resolve()
    found = []
    try:
        # no run has a name that cannot be shown
        names = [entry for entry in os.scandir(root) if not entry.name.startswith(".") and entry.name.isprintable()]
        entries = [entry.path for entry in names]
    except (FileNotFoundError, NotADirectoryError):
        return []
    with _statuses_lock:
        for path in entries:
            try:
                info = os.stat(os.path.join(path, "status.json"))
            except OSError:
                continue
            if not stat.S_ISREG(info.st_mode):
                continue
            stamp = (info.st_ino, info.st_mtime_ns, info.st_size)
            known = _statuses.get(path)
            if known is None or known[0] != stamp:
                known = _statuses[path] = (stamp, read_status(Path(path) / "status.json"))
            found.append((RunFolder(Path(path)), known[1]))
        if len(_statuses) > 2 * len(found) + 1000:
            _statuses.clear()
    return sorted(found, key=lambda each: each[1].created_at or 0.0, reverse=True)
