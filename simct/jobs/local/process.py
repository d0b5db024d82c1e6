"""Processes of this machine, through psutil: whether one is alive, and which belong to a process group."""

import os
import subprocess
import threading

import psutil

# Start times depend on the clock, which may be adjusted a little; process ids are not reused this soon.
SAME_START_SECONDS = 5.0


def start_time(pid: int) -> float | None:
    """When process `pid` started, in seconds since the epoch; None if it has ended or is a zombie."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:
        return 0.0


def is_alive(pid: int | None, started: float | None = None) -> bool:
    """Whether process `pid` is alive and started at `started`, so that it is not a later one with the same id."""
    if pid is None:
        return False
    found = start_time(pid)
    # the start time of another user's process may be hidden
    return found is not None and (not found or started is None or abs(found - started) < SAME_START_SECONDS)


def group_members(group: int | None) -> list[int]:
    """The living processes of a process group; zombies are left out."""
    return [pid for pid in psutil.pids() if _in_group(pid, group) and start_time(pid) is not None] if group else []


def _in_group(pid: int, group: int) -> bool:
    try:
        return os.getpgid(pid) == group
    except (ProcessLookupError, PermissionError):
        return False


def reap(process: subprocess.Popen[bytes]) -> None:
    """Wait for a child in the background, as it would otherwise remain a zombie."""
    threading.Thread(target=process.wait, daemon=True, name="reap").start()
