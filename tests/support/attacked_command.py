"""Carries out an attack in this process, and says what is wrong with how the command ended."""

import contextlib
import io
import os
import re
import signal
import sys
import tempfile
import traceback
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import psutil

from simct import demo
from simct.cli.main import main
from simct.errors import RunError
from simct.jobs import actions
from tests.support.bad_input import Attack

MOST_SECONDS, MOST_BYTES = 30, 2 * 2**30
STUDENT_FILES = [path for path in demo.STUDENT.iterdir() if path.is_file()]


class TooSlow(BaseException):
    """The command took longer than any refusal may."""


@contextlib.contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    def end(number: int, frame: types.FrameType | None) -> None:
        raise TooSlow

    # of computing, so that a busy machine makes no difference; the command has a use for SIGALRM itself
    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextlib.contextmanager
def libraries_errors() -> Iterator[list[str]]:
    """What libraries that are no Python print on standard error while this lasts, a line each."""
    lines: list[str] = []
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            lines += file.read().decode("utf-8", errors="replace").splitlines()


def prepared(attack: Attack, here: Path) -> list[str]:
    """Write the attack's files under `here`; returns its arguments."""
    if any(name.startswith("student/") for name in attack.files):
        (here / "student").mkdir()
        for path in STUDENT_FILES:
            if f"student/{path.name}" not in attack.files:
                (here / "student" / path.name).symlink_to(path)
    student = here / "student" if (here / "student").exists() else demo.STUDENT
    for name, content in attack.files.items():
        (here / name).write_bytes(content)
    places = {"{here}": str(here), "{teacher}": str(demo.TEACHER), "{student}": str(student)}
    arguments = []
    for argument in attack.arguments:
        for name, place in places.items():
            argument = argument.replace(name, place)
        arguments.append(argument)
    return arguments


def accepted(*arguments: object, **options: object) -> None:
    raise RunError("The run would start now.")


def what_is_wrong(attack: Attack) -> str | None:
    """Carry out the attack with every start of a run replaced; None if it ended as a command should."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        here = Path(folder)
        arguments = prepared(attack, here)
        before = {path.relative_to(here) for path in here.rglob("*")}
        out, err = io.StringIO(), io.StringIO()
        children = set(psutil.Process().children())
        forget_most_memory()
        memory = most_memory()
        status: object = None
        more: list[str] = []
        try:
            with (
                libraries_errors() as more,
                mock.patch.object(actions, "start_here", accepted),
                mock.patch.object(actions, "start_on_jobs", accepted),
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
                warnings.catch_warnings(),
                mock.patch.object(sys, "stdin", io.StringIO("")),
                time_limit(MOST_SECONDS),
            ):
                status = main(arguments)
        except SystemExit as error:
            status = error.code
        except TooSlow:
            return f"takes more than {MOST_SECONDS} s"
        except BaseException as error:
            return f"ends in {type(error).__name__}: {''.join(traceback.format_exception(error)[-4:])}"
        lines = err.getvalue().splitlines() + more
        if status not in (0, 2):
            return f"ends with status {status}: {lines[-3:]}"
        if status == 2 and (len(lines) != 1 or not lines[0].startswith("simct")):
            return f"says {len(lines)} lines: {lines[:5]}"
        if status == 2 and len(lines[0]) > 1000:
            return f"says {len(lines[0])} characters"
        left = {path.relative_to(here) for path in here.rglob("*")} - before
        if status == 2 and left:
            return f"leaves {sorted(map(str, left))[:3]} behind"
        if set(psutil.Process().children()) - children:
            return "leaves a process behind"
        # not what earlier tests in this process have left
        if most_memory() - memory > MOST_BYTES:
            return f"takes {MOST_BYTES / 2**30:.0f} GiB more"
    return None


def forget_most_memory() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def most_memory() -> int:
    """The most bytes that this process had in memory since it was last forgotten; 0 where the system does not say."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0
