"""Who is visiting: the token to ask the Hub with, the account that runs belong to, and which runs are theirs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simct.errors import RunError, quoted
from simct.runs.folder import RunFolder
from simct.runs.listing import open_run

if TYPE_CHECKING:
    from app.server.studio import Studio


@dataclass(frozen=True)
class Visitor:
    """`token` is what the Hub's clients take: the visitor's own; None, the one stored on this machine; False, none.

    `owner` is the account that signed in, None where nobody has.
    """

    token: str | bool | None
    owner: str | None

    @property
    def own_token(self) -> str | None:
        """The visitor's own token, which a run may be given; None if there is none."""
        return self.token if isinstance(self.token, str) and self.token else None


def owned_run(studio: "Studio", run_id: str | None, visitor: Visitor) -> RunFolder:
    """The run, if this visitor may act on it. Raises RunError."""
    run = open_run(studio.runs_dir, run_id or "")
    if studio.public and (visitor.owner is None or run.status().owner != visitor.owner):
        raise RunError(f"There is no run {quoted(run_id)} of yours.")
    return run
