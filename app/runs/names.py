"""The names of a run in lists and headings. Its run.yaml is read only if its status does not name the models."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from app.server.model_facts import display_name
from app.server.studio import Studio
from simct.errors import SimCTError
from simct.report.evaluations import distance_line
from simct.runs.folder import RunFolder, title
from simct.runs.labels import read_label
from simct.runs.status import RunStatus

SIGNS = {
    "queued": "◌",
    "running": "●",
    "stopping": "◐",
    "stopped": "■",
    "failed": "✕",
    "finished": "✓",
    "unreadable": "?",
}


def label(run: RunFolder, status: RunStatus | None = None, place: str | None = None) -> str:
    """The lines of a label: star, name and tags, if any; state, step (or place in the queue) and rented machine;
    method, student and time; distance, if measured.
    """
    status = status or run.status()
    when = datetime.fromtimestamp(status.created_at or 0).strftime("%d %b %H:%M")
    steps = f"{status.step}/{'?' if status.total_steps is None else status.total_steps}"
    where = f" · {status.machine}" if status.machine else ""
    measured = distance_line(status.distance)
    end = f"\n{measured}" if measured else ""
    written = read_label(run)
    start = f"{written.line}\n" if written.name or written.tags else "★ " * written.starred
    return f"{start}{SIGNS[status.state]} {status.state} · {place or steps}{where}\n{kind(run, status)} · {when}{end}"


def kind(run: RunFolder, status: RunStatus) -> str:
    """Method and student."""
    method, _, student = names(run, status)
    return f"{method} · {student}"


def names(run: RunFolder, status: RunStatus) -> tuple[str, str, str]:
    """Method (or warm-up), teacher, student; from run.yaml if the status does not have them."""
    if status.student:
        found = {name: getattr(status, name) or "?" for name in ("method", "kind", "teacher", "student")}
    else:
        found = _title(run.path, None)
    method = "warm-up" if found.get("kind") == "warmup" else found.get("method", "?")
    return method, display_name(found.get("teacher", "?")), display_name(found.get("student", "unreadable run.yaml"))


def titled(studio: Studio, run: RunFolder, status: RunStatus) -> RunStatus:
    """The status with the run's method and models; read from run.yaml if an older version did not write them."""
    if status.student:
        return status
    found: dict[str, Any] = {**studio.kept(_title, 1024)(run.path, stamp(run, "run.yaml"))}
    return replace(status, **found)


def _title(path: Path, changed: tuple[int, int] | None) -> dict[str, str]:
    """`changed` is the time and size of the file, so that a changed file is read again."""
    try:
        return title(RunFolder(path).config())
    except SimCTError:
        return {}


def stamp(run: RunFolder, name: str) -> tuple[int, int] | None:
    """Time and size of a file of the run; None if it does not exist."""
    try:
        found = (run.path / name).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
