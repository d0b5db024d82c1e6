"""The functions of a backend, a place where runs train: local/backend.py (this machine) and hf/backend.py (Hugging Face
Jobs) are modules with these functions, and actions.py chooses between them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from simct.config import RunConfig
from simct.runs.folder import RunFolder
from simct.runs.status import RunStatus

# False: use no token, not even the one stored on this machine
Token = str | bool | None


@dataclass(frozen=True)
class Rental:
    """A machine of Hugging Face Jobs for one run: `hours` until its Job is ended, `price` in US dollars per hour."""

    flavor: str
    hours: float
    price: float
    namespace: str | None = None

    @property
    def max_cost(self) -> float:
        """US dollars that the Job can cost at most."""
        return self.hours * self.price

    def line(self) -> str:
        # this imports torch, which takes seconds
        from simct.report.formats import hours

        return f"{self.flavor} for at most {hours(self.hours)}, ${self.max_cost:.2f}"


class Backend(Protocol):
    """Messages are sentences for people. Every function may raise a one-line SimCTError, and then nothing has changed.

    `rental` is a rented machine, by default the run's last one; this machine ignores it. `token` is the visitor's.
    """

    def refresh(self, run: RunFolder, token: Token = None) -> RunStatus:
        """The run's current status."""
        ...

    def stop(self, run: RunFolder, token: Token = None) -> str:
        """Let an active run write a checkpoint and end; returns a message."""
        ...

    def kill(self, run: RunFolder, token: Token = None) -> str:
        """End an active run at once; returns a message."""
        ...

    def resume(self, run: RunFolder, token: str | None = None, rental: Rental | None = None) -> str:
        """Continue a run that stopped or failed from its last checkpoint; returns a message."""
        ...

    def retry(
        self,
        run: RunFolder,
        config: RunConfig,
        owner: str | None = None,
        token: str | None = None,
        rental: Rental | None = None,
    ) -> RunFolder:
        """Start `config` as a new run next to `run`, on the same kind of machine; returns the new run."""
        ...

    def log(self, run: RunFolder, lines: int, token: Token = None) -> str:
        """The last lines that the run printed."""
        ...

    def follow_log(self, run: RunFolder, token: Token, wanted: Callable[[], bool]) -> None:
        """Save the machine's output in the run folder while `wanted()` is true, until the run has ended."""
        ...

    def fetch_inputs(self, run: RunFolder, token: Token = None) -> None:
        """Download files that the run was given on another machine into the run folder."""
        ...

    def fetch_model(self, run: RunFolder, token: Token = None) -> Path:
        """The folder of the run's student, which is downloaded if it was trained elsewhere."""
        ...

    def delete(self, run: RunFolder, token: Token = None) -> None:
        """Remove the folder of a run that has ended, and whatever it keeps elsewhere."""
        ...
