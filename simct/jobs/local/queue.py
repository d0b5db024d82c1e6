"""Which run of this machine starts next: one run per device, the others wait, and owners take turns.

There is no daemon, and no file next to the run folders except a lock. A run waits while its status.json has the state
`queued` and `queued_at`; the studio, `simct jobs` and every run at its end call `advance`, which starts the runs that
are due under the lock. The CPU is one device; if there are CUDA GPUs, each is a device, and a run only sees its own.

Owners take turns: next is the first run of the owner whose last start is longest ago. A run that needs several GPUs
keeps its turn until they are free.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from simct.errors import RunError, SimCTError
from simct.files import acquire_lock, expanded
from simct.jobs.local import job as local_job
from simct.runs.folder import RunFolder
from simct.runs.listing import list_statuses
from simct.runs.status import RunStatus

LOCK_FILE = ".queue.lock"
MAX_WAITING = 200
MAX_WAITING_PER_OWNER = 20
# A process that fails to start is not retried forever.
MAX_STARTS = 3
# Seconds in which the processes of an ended run must release its device.
RELEASE_SECONDS = 120.0

Listed = Sequence[tuple[RunFolder, RunStatus]]

# Visitors' tokens for their waiting runs, None for a run that only needs the key of a server. They are never on disk,
# so they must be provided again after a restart.
_tokens: dict[Path, str | None] = {}


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = acquire_lock(root / LOCK_FILE, wait=True)
    except OSError as error:
        raise RunError(f"Cannot write the runs folder {str(root)!r}: {error.strerror}.") from error
    assert handle is not None
    try:
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


def submit(run: RunFolder, resume: bool = False, gpus: int | None = None, token: str | None = None) -> RunStatus:
    """Start `run` if a device is free, or else queue it; returns its status.

    `gpus` is how many GPUs it takes (by default as many as last time, or one). `token` is a visitor's own: it is kept
    in this process's memory until the run starts, and the run never gets another. A new run is best created with
    `queued_at`, so that it is in the queue from its first moment. Raises RunError if a run to resume is active, the
    queue is full, or the machine does not have that many GPUs.
    """
    root = run.path.parent
    with _locked(root):
        status = local_job.refresh(run)
        if status.started or (status.state == "queued" and local_job.is_locked(run)):
            if resume:
                raise RunError(f"Run {run.id} is already {status.state}.")
            return status  # another process has started the new run in the meantime
        gpus = gpus or status.gpus or 1
        if gpus > 1 and gpus > len(devices()):
            raise RunError(f"Run {run.id} asks for {gpus} GPUs; this machine has {_count_gpus()}.")
        _check_room(root, run, status.owner)
        lent = bool(token or local_job.given_key(run, status.owner))
        if lent:
            _tokens[run.path] = token
        run.set_status(
            state="queued",
            queued_at=status.queued_at or time.time(),
            resume=resume,
            gpus=gpus,
            lent=lent,
            starts=0,
            error=None,
            backend=None,
            pid=None,
            group=None,
            message="Waiting for its turn",
        )
    advance(root)
    return run.status()


def _check_room(root: Path, run: RunFolder, owner: str | None) -> None:
    """Raise RunError if the queue has no room for one more run of `owner`."""
    others = [status for other, status in in_order(list_statuses(root)) if other != run]
    if len(others) >= MAX_WAITING:
        raise RunError(f"The queue is full: {len(others)} runs are waiting. Try again when some have finished.")
    own = sum(status.owner == owner for status in others)
    if owner is not None and own >= MAX_WAITING_PER_OWNER:
        raise RunError(f"You already have {own} runs waiting. Wait until some have started, or stop some under Runs.")


def _count_gpus() -> str:
    return "none" if devices() == ("cpu",) else f"{len(devices())}"


def provide_token(run: RunFolder, token: str) -> None:
    """Give a waiting run its visitor's present token: a restart of the studio has forgotten the earlier one, or it has
    expired. A run that was queued without a token keeps none.
    """
    if run.status().lent and _tokens.get(run.path, "") is not None:
        _tokens[run.path] = token


def _forget_tokens(root: Path, listed: Listed) -> None:
    """Forget the tokens of runs that no longer wait, such as deleted ones. Called under the queue's lock."""
    waiting = {run.path for run, status in listed if status.state == "queued"}
    for path in [each for each in _tokens if each.parent == root and each not in waiting]:
        del _tokens[path]


def advance(runs_dir: str | Path) -> list[RunFolder]:
    """Mark dead runs, and start every waiting run that is due and has a device; returns the started runs."""
    root = expanded(runs_dir).resolve()
    active = any(status.active_here for _, status in list_statuses(root))
    if not active and all(path.parent != root for path in _tokens):
        return []
    started = []
    with _locked(root):
        listed = [(run, _refreshed(run, status)) for run, status in list_statuses(root)]
        _forget_tokens(root, listed)
        line = in_order(listed)
        if not line:
            return []
        free = _free_devices(listed)
        for run, status in line:
            if _lacks_token(run, status) or _given_up(run, status):
                continue
            wanted = status.gpus or 1
            if wanted > len(free):
                break
            if _start(run, status, list(free[:wanted])):
                free = free[wanted:]
                started.append(run)
    return started


def _start(run: RunFolder, status: RunStatus, own_devices: list[str]) -> bool:
    """Start the next run; returns whether it started. If not, it fails with the reason."""
    token = _tokens.get(run.path) if status.lent else None
    try:
        local_job.launch(run, status.resume, token, own_devices, devices())
    except SimCTError as error:
        if run.status().state == "queued" and not local_job.is_locked(run):
            _fail(run, str(error))
        return False
    _tokens.pop(run.path, None)
    return True


def _lacks_token(run: RunFolder, status: RunStatus) -> bool:
    """Whether the run needs a token, or the key of its server, that this process does not have; the studio, which has
    it, starts the run.
    """
    if not status.lent or run.path in _tokens:
        return False
    return status.owner is not None or local_job.given_key(run, None) is None


def _given_up(run: RunFolder, status: RunStatus) -> bool:
    """Mark a run as failed if its process was started several times and never came up; returns whether it was."""
    if status.starts < MAX_STARTS:
        return False
    error = f"Its process did not start in {MAX_STARTS} tries. {local_job.last_error(run) or ''}".strip()
    _fail(run, error)
    return True


def _fail(run: RunFolder, error: str) -> None:
    # while the disk cannot be written, the run keeps waiting
    with suppress(OSError):
        run.set_status(state="failed", queued_at=None, message="Failed", error=error)


def _refreshed(run: RunFolder, status: RunStatus) -> RunStatus:
    return local_job.refresh(run) if status.active else status


def _free_devices(listed: Listed) -> tuple[str, ...]:
    """Devices that no process of a run holds."""
    taken: set[str] = set()
    for run, status in listed:
        releasing = time.time() - (status.finished_at or 0.0) < RELEASE_SECONDS
        if not (status.active_here or releasing or status.state == "unreadable"):
            continue
        begun = status.active_here and not status.waiting
        if local_job.has_process(run, status) if begun else local_job.is_locked(run):
            # a run that was started by hand does not name its devices; it may use any
            taken.update(status.devices or devices())
    return tuple(device for device in devices() if device not in taken)


def in_order(listed: Listed) -> list[tuple[RunFolder, RunStatus]]:
    """The waiting runs, the next one first. `listed` comes from list_statuses."""
    waiting: dict[str | None, list[tuple[RunFolder, RunStatus]]] = {}
    for run, status in sorted(listed, key=lambda each: (each[1].queued_at or 0, each[0].id)):
        if status.waiting and not local_job.is_locked(run):
            waiting.setdefault(status.owner, []).append((run, status))
    turns = dict.fromkeys(waiting, 0.0)
    for _, status in listed:
        if status.owner in turns and not status.remote:
            turns[status.owner] = max(turns[status.owner], status.started_at or 0.0)
    line, now = [], time.time()
    while any(waiting.values()):
        owner = min(
            (each for each in waiting if waiting[each]),
            key=lambda each: (turns[each], waiting[each][0][1].queued_at or 0),
        )
        line.append(waiting[owner].pop(0))
        turns[owner] = now = now + 1
    return line


def position(run: RunFolder) -> int | None:
    """The run's place among the waiting runs, from 1; None if it does not wait."""
    line = [other.path for other, _ in in_order(list_statuses(run.path.parent))]
    return line.index(run.path) + 1 if run.path in line else None


def place_line(place: int, of: int) -> str:
    """The place in the queue, in words."""
    if place == 1:
        return "Next in line" if of == 1 else f"Next of {of} in line"
    return f"Place {place} of {of} in line"


def waiting_reason(run: RunFolder, status: RunStatus) -> str | None:
    """The place in the queue of a run that waits, and what it waits for; None for other runs."""
    if not status.waiting:
        return None
    listed = list_statuses(run.path.parent)
    line = [other.path for other, _ in in_order(listed)]
    if run.path not in line:
        return None
    if _lacks_token(run, status):
        return "Waiting until its owner opens the studio again: the run needs their token or key"
    busy = [other.id for other, status in listed if status.active_here and other.path not in line]
    return place_line(line.index(run.path) + 1, len(line)) + (f", behind {busy[0]}" if busy else "")
