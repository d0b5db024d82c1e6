"""All runs of a folder, and one run by its id."""

import os
import threading
from pathlib import Path

from simct.errors import RunError
from simct.files import read_json
from simct.runs.folder import RUN_ID, RunFolder


def open_run(runs_dir: str | Path, run_id: str) -> RunFolder:
    """The run `run_id` under `runs_dir`. Raises RunError when the id is malformed or no such run exists."""
    if not RUN_ID.fullmatch(run_id or ""):
        raise RunError(f"{run_id!r} is not a run id. See `simct jobs` for the list.")
    root = Path(runs_dir).expanduser().resolve()
    path = (root / run_id).resolve()
    if path.parent != root or not (path / "status.json").is_file():
        raise RunError(f"There is no run {run_id!r} in {str(root)!r}. See `simct jobs` for the list.")
    return RunFolder(path)


def list_runs(runs_dir: str | Path) -> list[RunFolder]:
    """Every run under `runs_dir`, newest first by creation time."""
    return [run for run, _ in list_statuses(runs_dir)]


_statuses: dict[str, tuple[tuple, dict]] = {}


_statuses_lock = threading.Lock()


def list_statuses(runs_dir: str | Path) -> list[tuple[RunFolder, dict]]:
    """Every run under `runs_dir` with its status, newest first. Each status.json is read once for each time it is
    replaced, so that a long history costs one `stat` a run. The dicts are shared: copy before changing one."""
    root = Path(runs_dir).expanduser().resolve()
    found = []
    try:
        entries = [entry.path for entry in os.scandir(root) if not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    with _statuses_lock:
        for path in entries:
            try:
                told = os.stat(os.path.join(path, "status.json"))
            except OSError:
                continue
            stamp = (told.st_ino, told.st_mtime_ns, told.st_size)
            known = _statuses.get(path)
            if known is None or known[0] != stamp:
                status = read_json(Path(path) / "status.json")
                known = _statuses[path] = (stamp, status)
            found.append((RunFolder(Path(path)), known[1]))
        if len(_statuses) > 2 * len(found) + 1000:
            _statuses.clear()
    return sorted(found, key=lambda each: each[1].get("created_at") or 0, reverse=True)
