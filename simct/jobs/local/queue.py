"""Whose turn it is: one run a device, the others wait, fairly between their owners.

There is no daemon and no file beside the run folders but a lock. A run waits while its status.json says `queued` and
`queued_at`; whoever looks (the studio, `simct jobs`, a run at its end) calls `advance`, which starts what is due under
the lock. The CPU is one device; where there are CUDA GPUs each of them is one, and a run is shown only its own.

Turns go round the owners: next is the first run of the owner whose last start is longest ago. A run that needs several
GPUs keeps its turn until they are free.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from simct.errors import RunError, SimCTError
from simct.jobs.local import job as local_job
from simct.runs.folder import ACTIVE_STATES, RunFolder
from simct.runs.listing import list_statuses

LOCK_FILE = ".queue.lock"
MOST_WAITING = 200
MOST_WAITING_EACH = 20
# A process that does not even come up is not tried for ever.
MOST_STARTS = 3
# How long a run that has said it is over may take to let go of its device.
LEAVING_SECONDS = 120.0

# Tokens that visitors lent to runs of theirs that wait. Never on disk: after a restart they are lent anew.
_lent: dict[Path, str] = {}


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = os.open(root / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RunError(f"Cannot write the runs folder {str(root)!r}: {error.strerror}.") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def devices() -> tuple[str, ...]:
    """The devices that runs take turns on: SIMCT_DEVICES, or GPUs as CUDA_VISIBLE_DEVICES names them, or the CPU."""
    named = _names(os.environ.get("SIMCT_DEVICES", ""))
    return named or _found_devices()


@lru_cache(maxsize=1)
def _found_devices() -> tuple[str, ...]:
    count = local_job.gpu_count()
    visible = _names(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    return (visible[:count] or tuple(str(index) for index in range(count))) if count else ("cpu",)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def submit(run: RunFolder, resume: bool = False, gpus: int | None = None, token: str | None = None) -> dict:
    """Start `run` if a device is free, else let it wait its turn; returns its status.

    `gpus` is how many GPUs it takes (by default what it took last, or one). `token` is a visitor's own: it is kept in
    this process's memory until the run starts, and the run never gets another. A new run is best created with
    `queued_at`, so that it is in the queue from its first moment. Raises RunError when a run to resume is active, the
    queue is full, or the machine has not so many GPUs.
    """
    root = run.path.parent
    with _locked(root):
        status = local_job.refresh(run)
        begun = status.get("pid") or local_job.is_locked(run)
        if status.get("state") in ("running", "stopping") or (status.get("state") == "queued" and begun):
            if resume:
                raise RunError(f"Run {run.id} is already {status.get('state')}.")
            return status  # a new run, which somebody who looked in between has started
        gpus = gpus or status.get("gpus") or 1
        if gpus > 1 and gpus > len(devices()):
            raise RunError(f"Run {run.id} asks for {gpus} GPUs; this machine has {_count_gpus()}.")
        others = [told for other, told in in_order(list_statuses(root)) if other != run]
        owner = status.get("owner")
        if len(others) >= MOST_WAITING:
            raise RunError(f"{len(others)} runs wait already, which is as many as may. Try again when some have ended.")
        mine = sum(told.get("owner") == owner for told in others)
        if owner is not None and mine >= MOST_WAITING_EACH:
            raise RunError(f"{mine} runs of yours wait already. Wait for some to end, or stop some under Runs.")
        if token:
            _lent[run.path] = token
        run.set_status(
            state="queued",
            queued_at=status.get("queued_at") or time.time(),
            resume=resume,
            gpus=gpus,
            lent=bool(token),
            starts=0,
            error=None,
            backend=None,
            pid=None,
            group=None,
            message="Waiting for its turn",
        )
    advance(root)
    return run.status()


def _count_gpus() -> str:
    return "none" if devices() == ("cpu",) else f"{len(devices())}"


def lend(run: RunFolder, token: str) -> None:
    """Give a waiting run its visitor's token again, which a restart of the studio has forgotten."""
    if run.status().get("lent") and run.path not in _lent:
        _lent[run.path] = token


def advance(runs_dir: str | Path) -> list[RunFolder]:
    """Notice runs that died, and start every waiting run whose turn and device have come; returns the started ones."""
    root = Path(runs_dir).expanduser().resolve()
    listed = list_statuses(root)
    if not any(told.get("state") in ACTIVE_STATES and told.get("backend") != "hf" for _, told in listed):
        return []
    started = []
    with _locked(root):
        listed = [(run, _looked_at(run, told)) for run, told in list_statuses(root)]
        line = in_order(listed)
        if not line:
            return []
        free = _free_devices(listed)
        for run, told in line:
            if told.get("lent") and run.path not in _lent:
                continue  # its token is with the studio, which starts it
            if told.get("starts", 0) >= MOST_STARTS:
                error = (
                    f"Its process did not come up in {MOST_STARTS} tries. {local_job.last_reason(run) or ''}".strip()
                )
                run.set_status(state="failed", queued_at=None, message="Failed", error=error)
                continue
            wanted = told.get("gpus", 1)
            if wanted > len(free):
                break
            try:
                token = _lent.get(run.path) if told.get("lent") else None
                local_job.launch(run, bool(told.get("resume")), token, list(free[:wanted]), devices())
            except SimCTError as error:
                if run.status().get("state") == "queued" and not local_job.is_locked(run):
                    run.set_status(state="failed", queued_at=None, message="Failed", error=str(error))
                continue
            _lent.pop(run.path, None)
            free = free[wanted:]
            started.append(run)
    return started


def _looked_at(run: RunFolder, told: dict) -> dict:
    return local_job.refresh(run) if told.get("state") in ACTIVE_STATES else told


def _free_devices(listed: list[tuple[RunFolder, dict]]) -> tuple[str, ...]:
    """Devices that no process of a run holds."""
    taken: set[str] = set()
    for run, told in listed:
        active = told.get("state") in ACTIVE_STATES and told.get("backend") != "hf"
        leaving = time.time() - (told.get("finished_at") or 0) < LEAVING_SECONDS
        if not (active or leaving):
            continue
        if local_job.is_locked(run) or (active and not local_job.is_waiting(told) and local_job.is_alive(told)):
            # what was started by hand does not say where; it may be anywhere
            taken.update(told.get("devices") or devices())
    return tuple(device for device in devices() if device not in taken)


def in_order(listed: list[tuple[RunFolder, dict]]) -> list[tuple[RunFolder, dict]]:
    """The runs that wait, the next one first. `listed` as list_statuses gives it."""
    waiting: dict[str | None, list[tuple[RunFolder, dict]]] = {}
    for run, told in sorted(listed, key=lambda each: (each[1].get("queued_at") or 0, each[0].id)):
        if local_job.is_waiting(told) and not local_job.is_locked(run):
            waiting.setdefault(told.get("owner"), []).append((run, told))
    turns = dict.fromkeys(waiting, 0.0)
    for _, told in listed:
        owner = told.get("owner")
        if owner in turns and told.get("backend") != "hf":
            turns[owner] = max(turns[owner], told.get("started_at") or 0.0)
    line, now = [], time.time()
    while any(waiting.values()):
        owner = min(
            (each for each in waiting if waiting[each]),
            key=lambda each: (turns[each], waiting[each][0][1].get("queued_at") or 0),
        )
        line.append(waiting[owner].pop(0))
        turns[owner] = now = now + 1
    return line


def position(run: RunFolder) -> int | None:
    """The run's place among those that wait beside it, from 1; None when it does not wait."""
    line = [other.path for other, _ in in_order(list_statuses(run.path.parent))]
    return line.index(run.path) + 1 if run.path in line else None


def place_line(place: int, of: int) -> str:
    """A place in the queue in words."""
    if place == 1:
        return "Next in line" if of == 1 else f"Next of {of} in line"
    return f"Place {place} of {of} in line"


def waiting_words(run: RunFolder, status: dict) -> str | None:
    """What to tell of a run that waits: its place, and what it waits for; None for others."""
    if not local_job.is_waiting(status):
        return None
    listed = list_statuses(run.path.parent)
    line = [other.path for other, _ in in_order(listed)]
    if run.path not in line:
        return None
    if status.get("lent") and run.path not in _lent:
        return "Waits until its owner opens the studio again, as it acts with their token only"
    active = [other for other, told in listed if told.get("state") in ACTIVE_STATES and told.get("backend") != "hf"]
    busy = [other.id for other in active if other.path not in line]
    return place_line(line.index(run.path) + 1, len(line)) + (f", behind {busy[0]}" if busy else "")
