"""The host names that a studio answers to, so that no other website can reach it under its own name (DNS rebinding)."""

import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

LOOPBACK = ("localhost", "127.0.0.1", "::1")
EVERYWHERE = ("0.0.0.0", "::", "")
# more names, in addition to --allow-host
ALLOWED = "SIMCT_ALLOW_HOSTS"
# the Hub, which shows a Space in a frame
HUB = "https://huggingface.co"
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?")


@dataclass(frozen=True)
class Hosts:
    """`names` are this studio's own names. `any_address`: it listens on every interface, so it answers to IP addresses.
    An IP address cannot be rebound: a page that was opened by an IP address has that address as its origin.
    """

    names: frozenset[str]
    given: frozenset[str]
    any_address: bool
    public: bool

    @classmethod
    def of(
        cls, host: str, public: bool, allowed: Iterable[str] = (), environment: Mapping[str, str] = os.environ
    ) -> Self:
        """The names of a studio that listens on `host`. The names of a Space are in its environment variables."""
        listed = [*allowed, *environment.get(ALLOWED, "").split(",")]
        if public:
            listed += environment.get("SPACE_HOST", "").split(",")
        given = frozenset(name.strip().lower().strip("[]").rstrip(".") for name in listed) - {""}
        own = () if host in EVERYWHERE else (host.lower(),)
        return cls(frozenset((*LOOPBACK, *own)) | given, given, host in EVERYWHERE, public)

    def answers(self, header: str) -> bool:
        """Whether the Host header of a request names this studio."""
        name = name_of(header)
        return name is not None and (name in self.names or (self.any_address and _is_address(name)))

    def refusal(self, method: str, headers: list[tuple[bytes, bytes]]) -> str | None:
        """The reason to refuse a request; None if it is for this studio and comes from its own page or a program."""
        named = _values(headers, b"host")
        if len(named) != 1 or not self.answers(named[0]):
            shown = name_of(named[0]) if len(named) == 1 else None
            return (
                f"This studio does not answer to the name {shown or '?'!r}. Open it at its own address, or start it "
                f"with --allow-host {shown or 'NAME'}."
            )
        reads = method in ("GET", "HEAD")
        origins = _values(headers, b"origin")
        if reads and self.public and origins == [HUB]:
            return None
        elsewhere = not all(self._is_own(origin, named[0]) for origin in origins)
        site, mode = (" ".join(_values(headers, name)) for name in (b"sec-fetch-site", b"sec-fetch-mode"))
        # other websites may only link to the studio
        if site in ("cross-site", "same-site") and not (reads and mode == "navigate"):
            elsewhere = True
        return (
            "This studio does not accept requests from other pages. Open it at its own address." if elsewhere else None
        )

    def _is_own(self, origin: str, host: str) -> bool:
        """Whether a page from `origin` is this studio's own, if the request names `host`."""
        try:
            parts = urlsplit(origin)
            name = (parts.hostname or "").rstrip(".")
        except ValueError:
            return False
        return parts.scheme in ("http", "https") and (parts.netloc.lower() == host.lower() or name in self.given)

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of every response: what a page may load and who may show it in a frame."""
        hub = f" {HUB} https://cdn-avatars.huggingface.co" if self.public else ""
        framed = f"'self' {HUB}" if self.public else "'none'"
        policy = {
            "default-src": "'self'",
            # the page's own scripts are inline in its head, and Gradio compiles the scripts of events
            "script-src": "'self' 'unsafe-inline' 'unsafe-eval' blob:",
            "style-src": "'self' 'unsafe-inline'",
            "img-src": f"'self' data: blob:{hub}",
            "font-src": "'self' data:",
            "media-src": "'self' data: blob:",
            "connect-src": f"'self' data: blob:{hub}",
            "worker-src": "'self' blob:",
            "object-src": "'none'",
            "base-uri": "'self'",
            "form-action": f"'self' {HUB}" if self.public else "'self'",
            "frame-ancestors": framed,
        }
        sent = {
            "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",
        }
        if not self.public:
            # the Hub shows a Space in a frame, and this older header cannot name an allowed site
            sent |= {"X-Frame-Options": "DENY", "Cross-Origin-Resource-Policy": "same-origin"}
        return [(name.lower().encode(), value.encode()) for name, value in sent.items()]


def name_of(header: str) -> str | None:
    """The name in a Host header, without its port; None if it is not valid."""
    found = HOST.fullmatch(header.strip())
    return found[1].lower().strip("[]").rstrip(".") or None if found else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _values(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in headers if name.lower() == wanted]
