"""Waiting for what another process or thread does."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(
    condition: Callable[[], T], seconds: float = 60.0, every: float = 0.03, context: Callable[[], object] = lambda: ""
) -> T:
    """The first true value of `condition`; fails with `context` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"It did not happen within {seconds:g} s. {context()}"
        time.sleep(every)
    return value
