"""What a run is called in lists and headings, without reading its run.yaml where status.json tells."""

from datetime import datetime
from functools import lru_cache
from pathlib import Path

from app.server.model_facts import display_name
from simct.errors import SimCTError
from simct.runs.folder import RunFolder, title

SIGNS = {"queued": "◌", "running": "●", "stopping": "◐", "stopped": "■", "failed": "✕", "finished": "✓"}


def label(run: RunFolder, status: dict | None = None, place: str | None = None) -> str:
    """Two lines: state, step (or place in the queue) and rented machine; method, student, when."""
    status = status or run.status()
    state = status.get("state", "unknown")
    when = datetime.fromtimestamp(status.get("created_at") or 0).strftime("%d %b %H:%M")
    first = place or f"{status.get('step', 0)}/{status.get('total_steps', '?')}"
    where = f" · {status.get('flavor')}" if status.get("backend") == "hf" else ""
    return f"{SIGNS.get(state, '?')} {state} · {first}{where}\n{kind(run, status)} · {when}"


def kind(run: RunFolder, status: dict) -> str:
    """Method and student."""
    method, _, student = names(run, status)
    return f"{method} · {student}"


def names(run: RunFolder, status: dict) -> tuple[str, str, str]:
    """Method (or warm-up), teacher, student; from run.yaml for folders whose status does not tell them."""
    told = status if status.get("student") else _title(run.path, stamp(run, "run.yaml"))
    method = "warm-up" if told.get("kind") == "warmup" else told.get("method", "?")
    return method, display_name(told.get("teacher", "?")), display_name(told.get("student", "unreadable run.yaml"))


@lru_cache(maxsize=1024)
def _title(path: Path, changed: tuple[int, int] | None) -> dict:
    """Read again only when run.yaml has changed."""
    try:
        return title(RunFolder(path).config())
    except SimCTError:
        return {}


def stamp(run: RunFolder, name: str) -> tuple[int, int] | None:
    """Time and size of a file of the run, None while it is absent."""
    try:
        found = (run.path / name).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
