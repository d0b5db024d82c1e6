"""The visitor: their token for the Hub, the account that owns their runs, and which runs they may use."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradio.context import LocalContext

from simct.errors import RunError, quoted
from simct.jobs.local.confinement import account_folder
from simct.runs.folder import RunFolder
from simct.runs.listing import list_statuses, open_run
from simct.runs.status import RunStatus

if TYPE_CHECKING:
    from app.server.studio import Studio

# begins the name of a visitor who has signed in, for limits
ACCOUNT = "account "
# addresses of proxies in front of a studio that are trusted to name the visitor
INTERNAL = [
    ipaddress.ip_network(each)
    for each in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "::1", "fc00::/7")
]


@dataclass(frozen=True)
class Visitor:
    """`token` is in the form that the Hub's clients take: the visitor's own token, None for the one stored on this
    machine, False for none.

    `owner` is the account that signed in, None if there is none.
    """

    token: str | bool | None
    owner: str | None

    @property
    def own_token(self) -> str | None:
        """The visitor's own token, which may be passed to a run; None if there is none."""
        return self.token if isinstance(self.token, str) and self.token else None

    @property
    def folder(self) -> str | None:
        """The name of the folder for this account's files; None for a visitor who has not signed in."""
        return account_folder(self.owner) if self.owner else None


def owned_run(studio: "Studio", run_id: str | None, visitor: Visitor) -> RunFolder:
    """The run, if this visitor may act on it. Raises RunError."""
    if not run_id:
        raise RunError("No run is chosen. Choose one first.")
    try:
        run = open_run(studio.runs_dir, run_id)
    except RunError:
        run = None
    if run is None or (studio.public and (visitor.owner is None or run.status().owner != visitor.owner)):
        of_yours = " of yours" if studio.public else ""
        raise RunError(f"There is no run {quoted(run_id)}{of_yours}. It may have been deleted. Choose another one.")
    return run


def own_runs(studio: "Studio", visitor: Visitor) -> list[tuple[RunFolder, RunStatus]]:
    """Runs with their status, newest first; in public only the visitor's own."""
    listed = list_statuses(studio.runs_dir)
    if studio.public:
        listed = [each for each in listed if visitor.owner is not None and each[1].owner == visitor.owner]
    return listed


def caller(scope: Mapping[str, Any]) -> str:
    """The sender of a request, for limits: an account, or the network address of a visitor who has not signed in.

    `scope` is the ASGI scope. A trusted proxy appends the visitor's address, so anything that a visitor forged is to
    the left of it. For IPv6 the network counts, because one visitor has all of its addresses.
    """
    profile = ((scope.get("session") or {}).get("oauth_info") or {}).get("userinfo") or {}
    if profile.get("preferred_username"):
        return ACCOUNT + str(profile["preferred_username"])
    peer = (scope.get("client") or ("", 0))[0]
    named = [value.decode("latin-1") for name, value in scope.get("headers", ()) if name == b"x-forwarded-for"]
    hops = [peer, *reversed([each.strip() for value in named for each in value.split(",")])]
    found = hops[0]
    for hop in hops:
        found = hop if _address(hop) else found
        if not _is_internal(hop):
            break
    address = _address(found)
    if isinstance(address, ipaddress.IPv6Address):
        return f"address {ipaddress.ip_network((address, 64), strict=False)}"
    return f"address {found}"


def present_caller() -> str | None:
    """The sender of the request that this thread works for; None if it works for no request."""
    request = LocalContext.request.get(None)
    scope = getattr(getattr(request, "request", None), "scope", None)
    return caller(scope) if scope is not None else None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _is_internal(text: str) -> bool:
    address = _address(text)
    return address is not None and any(address in network for network in INTERNAL if network.version == address.version)
