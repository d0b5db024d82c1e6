"""Retries of requests that failed temporarily (429, 5xx, a lost connection), after growing waits.

The requests go to the Hub or to a teacher's server, and must be safe to send twice.
"""

import random
import time
from collections.abc import Callable
from typing import TypeVar

import httpx2
from huggingface_hub.errors import HfHubHTTPError

Result = TypeVar("Result")
# all waits of one request together, in seconds, while a person waits
PATIENCE = 20.0
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0


def passing_status(code: int) -> bool:
    """Whether a request with this HTTP status may succeed a little later."""
    return code in (408, 425, 429) or code >= 500


def passing(error: BaseException) -> bool:
    """Whether the same request may succeed a little later."""
    if isinstance(error, HfHubHTTPError | httpx2.HTTPStatusError) and error.response is not None:
        return passing_status(error.response.status_code)
    return isinstance(error, httpx2.TransportError | ConnectionError | TimeoutError)


def wanted_wait(error: BaseException) -> float | None:
    """The seconds that the Hub asks to wait (Retry-After), or None."""
    response = getattr(error, "response", None)
    seconds = response.headers.get("Retry-After", "") if response is not None else ""
    return float(seconds) if seconds.isdecimal() else None


def patiently(
    call: Callable[[], Result], patience: float | None = None, left_of: Callable[[], float] | None = None
) -> Result:
    """The result of `call`. Temporary failures are retried for `patience` seconds of waiting (PATIENCE if None), or
    while `left_of()` says that seconds are left; the last one is raised unchanged.

    If the server asks for a longer wait than is left, the failure is raised at once.
    """
    left, wait = PATIENCE if patience is None else patience, FIRST_WAIT
    while True:
        try:
            return call()
        except Exception as error:
            if not passing(error):
                raise
            pause = max(wanted_wait(error) or 0.0, wait * random.uniform(0.8, 1.2))
            left = left if left_of is None else left_of()
            if pause > left:
                raise
        time.sleep(pause)
        left, wait = left - pause, min(wait * 2, LONGEST_WAIT)


class BackOff:
    """Decides when to send the next of many requests: every `every` seconds, and after failures later and later, up to
    five minutes.
    """

    LONGEST = 300.0

    def __init__(self, every: float) -> None:
        self.every = self.wait = every
        self.next = 0.0

    def due(self) -> bool:
        return time.monotonic() >= self.next

    def succeeded(self) -> None:
        self.wait = self.every
        self.next = time.monotonic() + self.wait

    def failed(self, error: BaseException) -> None:
        self.wait = min(2 * self.wait, self.LONGEST)
        chain = [error, error.__cause__]
        asked = max((wanted_wait(each) or 0.0 for each in chain if each is not None), default=0.0)
        self.next = time.monotonic() + max(self.wait, min(asked, 3600.0))
