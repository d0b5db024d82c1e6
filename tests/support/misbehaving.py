"""What a file can make the process do that reads it, as functions that a child runs."""

import os
import signal
import time
from dataclasses import dataclass

import numpy as np

from simct.errors import DataError
from simct.workers.child import Worker


@dataclass(frozen=True)
class Stranger:
    """A record that is not the project's own."""

    number: int = 0


class Forged:
    """Runs code where it is unpickled without care."""

    def __reduce__(self):
        return os.mkdir, (os.environ.get("FORGED", "/nowhere/at/all"),)


def add(worker: Worker, one: int, other: int) -> int:
    return one + other


def pid(worker: Worker) -> int:
    return os.getpid()


def environment(worker: Worker) -> dict[str, str]:
    return dict(os.environ)


def array(worker: Worker) -> np.ndarray:
    return np.arange(5)


def stranger(worker: Worker) -> Stranger:
    return Stranger(1)


def forged(worker: Worker) -> Forged:
    return Forged()


def refuse(worker: Worker) -> None:
    raise DataError("There is nothing to read.")


def fail(worker: Worker) -> None:
    raise ZeroDivisionError("division by zero")


class Panic(BaseException):
    """As a Rust library panics."""


def panic(worker: Worker) -> None:
    raise Panic("called `Option::unwrap()` on a `None` value")


def compute_forever(worker: Worker) -> None:
    while True:
        pass


def wait_forever(worker: Worker) -> None:
    time.sleep(10_000)


def crash(worker: Worker) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def fill_memory(worker: Worker) -> None:
    kept = []
    while True:
        kept.append(bytearray(10_000_000))
        kept[-1][::4096] = b"x" * len(kept[-1][::4096])


def ask_for_everything(worker: Worker) -> int:
    return len(bytearray(1 << 46))


def talk_without_end(worker: Worker) -> str:
    return "x" * 70_000_000


def leave_much_behind(worker: Worker) -> int:
    return worker.kept(_much)[-1]


def _much() -> bytearray:
    return bytearray(b"x" * 700_000_000)


def count(worker: Worker, most: int) -> int:
    """Counts until it is stopped; each number is a step of its own."""
    for number in range(most):
        if worker.should_stop():
            return number
        worker.progress(number, most)
        time.sleep(0.01)
    return most


def slow_steps(worker: Worker) -> str:
    """Computes for longer than a limit of 0.5 s, but no step of it does."""
    for number in range(4):
        worker.step(f"Step {number}")
        until = time.process_time() + 0.3
        while time.process_time() < until:
            pass
    return "done"


def stuck_in_a_step(worker: Worker) -> None:
    worker.step("The chat template of 'acme/loops'")
    compute_forever(worker)
