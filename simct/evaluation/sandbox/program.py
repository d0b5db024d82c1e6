"""Run a program that a model wrote, confined: no environment, no network, only its own files, low limits.

The program runs in a process (see child.py) that cannot read or write outside a scratch folder (Landlock), open sockets
or make a dozen other system calls (seccomp), or gain privileges. If the machine permits it, the process also sees no
other processes and no network (namespaces). If root starts it, it runs as nobody. Its environment is empty, so there
are no tokens to find. The kernel limits CPU time, memory, processes, open files and file sizes; this module limits
their totals and ends the whole process tree. On a machine that cannot confine a program, it is not run. This keeps a
program from doing harm; it does not protect a test from a program written to fool it.
"""

import contextlib
import json
import os
import platform
import secrets
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psutil

from simct.errors import ConfigError, RunError

CHILD = Path(__file__).with_name("child.py")
POLL_SECONDS = 0.02
MEGABYTE = 1 << 20
OUTPUT_SHOWN = 4000
MAX_FILES = 2000
SYSTEM_FOLDERS = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/usr/share/zoneinfo")
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/localtime")


@dataclass(frozen=True)
class Limits:
    """What a program may use: `seconds` by the clock, memory and files in MB (all its processes together)."""

    seconds: float = 10.0
    cpu_seconds: int = 8
    memory_mb: int = 1024
    file_mb: int = 16
    processes: int = 24


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Outcome:
    """`passed` when the program ran to its end without an exception; otherwise `reason` says why not."""

    passed: bool
    reason: str
    output: str
    seconds: float


def why_unavailable() -> str | None:
    """Why programs cannot be confined on this machine, or None when they can."""
    if not sys.platform.startswith("linux"):
        return "generated code runs only on Linux, which can confine it"
    from simct.evaluation.sandbox.child import DENIED, landlock_version

    if platform.machine() not in DENIED:
        return f"there is no system call filter for {platform.machine()} processors"
    if not landlock_version() and os.geteuid() != 0:
        return "this kernel has no Landlock (Linux 5.13 or later), so the program could read any file"
    return None


def needs_permission(task: str) -> ConfigError:
    """The error of a task that may not run what the model wrote."""
    return ConfigError(
        f"Task {task!r} runs what the model wrote, in a sandbox. Permit it with --allow-code-execution "
        "(evaluation.allow_code_execution in run.yaml)."
    )


def check_can_confine(task: str) -> None:
    """Raise ConfigError if this machine cannot confine the code that a task runs."""
    reason = why_unavailable()
    if reason:
        raise ConfigError(f"Task {task!r} was not run: {reason}.")


def run_program(code: str, limits: Limits = DEFAULT_LIMITS) -> Outcome:
    """Run Python source `code` in the sandbox. Raises RunError if this machine cannot confine it."""
    reason = why_unavailable()
    if reason:
        raise RunError(f"Generated code was not run: {reason}. Use a Linux machine, or leave code tasks out.")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="simct-", ignore_cleanup_errors=True) as folder:
        scratch = Path(folder, "scratch")
        scratch.mkdir()
        if os.geteuid() == 0:
            os.chmod(folder, 0o711)
            os.chmod(scratch, 0o777)
        with open(Path(folder, "output"), "w+b") as output:
            ended, reports = _supervise(code, limits, scratch, output)
            output.seek(0, os.SEEK_END)
            output.seek(max(0, output.tell() - OUTPUT_SHOWN))
            text = output.read().decode("utf-8", errors="replace")
    passed, reason = _verdict(ended, reports, limits)
    return Outcome(passed, reason, text, time.monotonic() - started)


def _supervise(code: str, limits: Limits, scratch: Path, output: BinaryIO) -> tuple[str | None, list[dict]]:
    """Start the program and wait; returns why it was ended from here (or None) and what the processes reported."""
    report, report_end = os.pipe()
    try:
        packages = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
        own = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), *packages]
        job = {
            "code": code,
            "cpu_seconds": limits.cpu_seconds,
            "memory_bytes": limits.memory_mb * MEGABYTE,
            "file_bytes": limits.file_mb * MEGABYTE,
            "processes": limits.processes,
            "readable": sorted({*own, *SYSTEM_FOLDERS, *SYSTEM_FILES}),
            "packages": sorted(set(packages)),
            "scratch": str(scratch.resolve()),
            "report": report_end,
            "secret": secrets.token_hex(16),
        }
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", str(CHILD)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={},
            cwd=scratch,
            pass_fds=(report_end,),
            start_new_session=True,
        )
    finally:
        os.close(report_end)
    try:
        assert process.stdin is not None  # a pipe, as requested
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(json.dumps(job).encode())
        ended = _watch(process, limits, scratch)
    finally:
        _end(process)
    os.set_blocking(report, False)
    with open(report, "rb") as pipe:
        lines = (pipe.read(1 << 16) or b"").splitlines()
    reports = []
    for line in lines:
        with contextlib.suppress(ValueError):
            reports.append(json.loads(line))
    # a line without the secret was written by the program, not by the sandbox
    return ended, [each for each in reports if isinstance(each, dict) and each.get("secret") == job["secret"]]


def _watch(process: subprocess.Popen, limits: Limits, scratch: Path) -> str | None:
    """Wait for the end; returns the exceeded limit, if any."""
    deadline = time.monotonic() + limits.seconds
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL_SECONDS)
            return None
        if time.monotonic() > deadline:
            return f"took more than {limits.seconds:g} s"
        tree = _tree(process)
        # the three processes of the sandbox do not count
        if len(tree) > limits.processes + 3:
            return f"started more than {limits.processes} processes"
        if sum(_resident(each) for each in tree) > limits.memory_mb * MEGABYTE:
            return f"used more than {limits.memory_mb} MB of memory"
        if _written(scratch) > limits.file_mb * MEGABYTE:
            return f"wrote more than {limits.file_mb} MB of files (or too many)"


def _tree(process: subprocess.Popen) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        return []


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def _written(folder: Path) -> int:
    """Bytes of the files under `folder`; beyond MAX_FILES files it stops counting and returns a huge number."""
    total = count = 0
    for where, folders, files in os.walk(folder):
        count += len(folders) + len(files)
        if count > MAX_FILES:
            return 1 << 62
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(where, name)).st_blocks * 512
    return total


def _end(process: subprocess.Popen) -> None:
    """Kill the program and everything it started. Orphans stay below `process`, which is therefore killed last."""
    while process.poll() is None and (tree := _tree(process)):
        for each in tree:
            with contextlib.suppress(psutil.Error):
                each.kill()
        time.sleep(POLL_SECONDS / 4)
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.wait()


def _verdict(ended: str | None, reports: list[dict], limits: Limits) -> tuple[bool, str]:
    if ended:
        return False, ended
    by_outcome = {report.get("outcome"): report for report in reversed(reports)}
    if "unconfined" in by_outcome:
        raise RunError(
            f"Generated code was not run: it could not be confined ({by_outcome['unconfined'].get('reason')}). Use a "
            "machine that permits Landlock and seccomp, or leave code tasks out."
        )
    if "killed" in by_outcome:
        number = by_outcome["killed"]["signal"]
        if number in (signal.SIGXCPU, signal.SIGKILL):
            return False, f"used more than {limits.cpu_seconds} s of CPU time"
        return False, f"ended by signal {number}"
    if "passed" in by_outcome and "failed" not in by_outcome:
        return True, ""
    return False, str(by_outcome.get("failed", {}).get("reason", "exited before it finished"))
