"""The machine panel of a run: speed, processor, memory compared with the estimate, GPU, and a Job's cost so far."""

import contextlib
import json
import threading
import time
from typing import Any, TypeGuard

from app.page import markup
from app.server.studio import Studio
from app.server.visitor import Visitor
from app.train import estimate
from simct.errors import SimCTError
from simct.files import read_json, write_atomically
from simct.report.formats import dollars, share, size
from simct.runs.folder import RunFolder
from simct.runs.status import RunStatus

# the estimate of a run, computed once by the studio that shows it
ESTIMATE_FILE = "estimate.json"
# the speed is the mean over this many steps
RECENT = 20
# more than this multiple of the estimate means that something is not as planned
OVER = 1.15


def panel(run: RunFolder, status: RunStatus, metrics: list[dict[str, Any]]) -> str:
    """Tiles with the known numbers; empty for a run that has not trained."""
    used = status.usage or {}
    tiles = [*_speed(metrics), *_memory(run, used), *_load(used), *_money(status)]
    if not tiles:
        return ""
    where = f"{status.machine} on Hugging Face Jobs" if status.remote else used.get("gpu_name") or "This machine"
    return f"<h3>Machine</h3>{markup.tiles(tiles)}<p class='under'>{markup.escape(str(where))}{_remark(status)}</p>"


def _remark(status: RunStatus) -> str:
    return "" if status.started or not status.step else ", at the last step"


def _speed(metrics: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    recent = [each for each in metrics[-RECENT:] if _is_number(each.get("tokens")) and _is_number(each.get("seconds"))]
    seconds = sum(each["seconds"] for each in recent)
    if not seconds:
        return []
    rate = sum(each["tokens"] for each in recent) / seconds
    why = "Tokens per second that the student wrote and learned from, over the last steps."
    return [(f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}", "Tokens per second", why)]


def _memory(run: RunFolder, used: dict[str, Any]) -> list[tuple[str, str, str]]:
    expected = read_json(run.path / ESTIMATE_FILE).get("peak")
    on_gpu = _is_number(used.get("gpu_memory_peak"))
    peak, total = used.get("gpu_memory_peak" if on_gpu else "memory_peak"), used.get("memory_total")
    found = []
    if _is_number(peak):
        beside = f", {size(expected)} estimated" if _is_number(expected) else ""
        why = "The most memory that the training process has used, compared with the estimate."
        if _is_number(expected) and peak > OVER * expected:
            why += " It is more than estimated; long prompts or another program may be the reason."
        found.append((size(peak), f"Peak {'GPU ' * on_gpu}memory{beside}", why))
    if on_gpu and _is_number(used.get("gpu_memory_total")) and _is_number(used.get("gpu_memory")):
        whole = size(used["gpu_memory_total"])
        found.append((size(used["gpu_memory"]), f"GPU memory now, of {whole}", "Used by all programs on this GPU."))
    elif _is_number(used.get("memory")) and _is_number(total):
        found.append((size(used["memory"]), f"Memory now, of {size(total)}", "Used by the training process."))
    return found


def _load(used: dict[str, Any]) -> list[tuple[str, str, str]]:
    found = []
    if _is_number(used.get("gpu")):
        found.append((share(used["gpu"]), "GPU in use", "Share of the last second in which the GPU was busy."))
    if _is_number(used.get("cpu")):
        why = "Share of all cores that the training process used since the previous step."
        found.append((share(used["cpu"]), "Processor in use", why))
    return found


def _money(status: RunStatus) -> list[tuple[str, str, str]]:
    spent = spent_so_far(status)
    if spent is None or not status.hours or not status.price:
        return []
    most = dollars(status.price * status.hours)
    return [(dollars(spent), f"Spent so far, {most} at most", "The price of the Job for the time since it started.")]


def spent_so_far(status: RunStatus) -> float | None:
    """The most US dollars that a Job can have cost so far, limited by its timeout; None for other runs."""
    if not (status.remote and status.price and status.hours and status.started_at):
        return None
    until = time.time() if status.active else status.finished_at or status.started_at
    return status.price * min(status.hours, max(0.0, until - status.started_at) / 3600)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


class PeakEstimates:
    """Estimates the peak memory of each training run once, one run at a time, and keeps it in the run's folder."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.asked: set[str] = set()
        self.turn = threading.Lock()

    def ask(self, visitor: Visitor, run: RunFolder, status: RunStatus) -> None:
        """Start an estimate, unless the run has one, one was already started, or the run is not training now."""
        if status.state != "running" or run.id in self.asked or (run.path / ESTIMATE_FILE).exists():
            return
        self.asked.add(run.id)
        threading.Thread(target=self._estimate, args=(visitor, run, status.remote), daemon=True).start()

    def _estimate(self, visitor: Visitor, run: RunFolder, remote: bool) -> None:
        with self.turn:
            try:
                config = run.config()
                if config.kind == "warmup":
                    return
                found = estimate.estimate(self.studio, config, visitor.token)
            except SimCTError:
                return
            here = found.here.peak if found.here and not remote else None
            # a run that was deleted in the meantime has no folder
            with contextlib.suppress(OSError):
                write_atomically(run.path / ESTIMATE_FILE, json.dumps({"peak": here or found.peak}))
