"""Checks of every request before Gradio receives it: the studio's names, its paths, and limits per visitor.

They run inside Gradio's session, so that a signed-in visitor is known by account.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradio.route_utils import CustomCORSMiddleware

from app.server import assets
from app.server.assets import App, Assets, Receive, Scope, Send, own_path
from app.server.bodies import Refused, replayed, whole_body
from app.server.hosts import Hosts
from app.server.uploads import MOST_BYTES, Uploads
from app.server.visitor import caller

# the paths of the page and of Gradio's clients; Gradio has more, such as one that fetches any address
PATHS = ("/", "/run", "/config", "/favicon.ico", "/manifest.json", "/robots.txt", "/theme.css", "/logout")
FOLDERS = ("/assets/", "/static/", "/svelte/", "/pwa_icon", "/login/")
API = "/gradio_api/"
UPLOAD = f"{API}upload"
CALLS = (
    "app_id", "call/", "cancel", "custom_component/", "file=", "heartbeat/", "info", "login_check", "openapi.json",
    "queue/", "reset", "startup-events", "theme.css", "token", "upload", "user",
)  # fmt: skip
# a text of a million characters, as JSON
MOST_BODY = 16_000_000
# bodies of one visitor that are still arriving, together
MOST_ARRIVING = 2 * MOST_BODY
# an uploaded file, including the multipart lines around it
MOST_UPLOAD = MOST_BYTES + 100_000
# open requests per visitor: each page has two, and those that it waits for
MOST_OPEN = 96
# requests that change or compute something: at once, and then per second; a large one counts as one more for each
# BYTES_EACH
BURST, PER_SECOND, BYTES_EACH = 240, 8.0, 100_000
MOST_KNOWN = 10_000


@dataclass
class Allowance:
    """A visitor's remaining requests until they must wait, their open requests, and the bytes of bodies that are still
    arriving.
    """

    left: float = BURST
    at: float = field(default_factory=time.monotonic)
    open: int = 0
    arriving: int = 0

    def take(self, length: int) -> bool:
        """Take a request with a body of `length` bytes from the allowance, if enough is left."""
        now = time.monotonic()
        self.left, self.at = min(BURST, self.left + (now - self.at) * PER_SECOND), now
        count = 1 + length // BYTES_EACH
        if self.left < count:
            return False
        self.left -= count
        return True


class Guard:
    """The application `app` behind these checks. In public each visitor has limits."""

    def __init__(self, app: App, hosts: Hosts, uploads: Uploads) -> None:
        self.app, self.hosts, self.uploads = Assets(app), hosts, uploads
        self.visitors: OrderedDict[str, Allowance] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        method = scope.get("method", "GET")
        refusal = self.hosts.refusal(method, scope["headers"])
        if refusal or scope["type"] == "websocket":
            # no page of the studio opens a websocket
            return await self._refuse(scope, send, 403, refusal or "This studio has no websockets.")
        if not served(own_path(scope)):
            return await self._refuse(scope, send, 404, "The studio has no such page.")
        more = assets.headers(own_path(scope))
        return await self._within_limits(scope, receive, self._with_headers(send, more))

    async def _within_limits(self, scope: Scope, receive: Receive, send: Send) -> None:
        who = caller(scope)
        allowance = self._allowance(who)
        uploading = own_path(scope) == UPLOAD
        if self.hosts.public and uploading and scope.get("method") == "POST":
            await asyncio.to_thread(self.uploads.measure)
        try:
            length = self._check(scope, who, allowance)
            allowance.open += 1
            try:
                if self.hosts.public and length is not None and not uploading:
                    receive = await self._arrived(receive, length, allowance)
                await self.app(scope, receive, send)
            finally:
                allowance.open -= 1
                if self.hosts.public and uploading and length is not None:
                    self.uploads.arrived(who)
        except Refused as refused:
            await self._refuse(scope, send, *refused.args)

    async def _arrived(self, receive: Receive, length: int, allowance: Allowance) -> Receive:
        allowance.arriving += length
        try:
            return replayed(await whole_body(receive), receive)
        finally:
            allowance.arriving -= length

    def _check(self, scope: Scope, who: str, allowance: Allowance) -> int | None:
        """The length of the body of a request that changes or computes something, None for others. Raises Refused."""
        limited = self.hosts.public
        if limited and allowance.open >= MOST_OPEN:
            raise Refused(429, f"You have {MOST_OPEN} requests open. Wait until some have finished.")
        if scope.get("method") in ("GET", "HEAD", "OPTIONS"):
            return None
        length = content_length(scope)
        if length is None:
            raise Refused(411, "A request with a body needs a Content-Length header.")
        uploading = own_path(scope) == UPLOAD
        most = MOST_UPLOAD if uploading else MOST_BODY
        if length > most:
            raise Refused(413, f"A request may have {most:,} bytes; this has {length:,}.")
        arriving = 0 if uploading else length
        if limited and (allowance.arriving + arriving > MOST_ARRIVING or not allowance.take(arriving)):
            raise Refused(429, "You have sent many requests at once. Wait a moment.")
        if limited and uploading and (reason := self.uploads.refusal(who, length)):
            raise Refused(413, reason)
        return length

    def _allowance(self, who: str) -> Allowance:
        found = self.visitors.get(who)
        if found is None:
            found = self.visitors[who] = Allowance()
            while len(self.visitors) > MOST_KNOWN:
                self.visitors.popitem(last=False)
        self.visitors.move_to_end(who)
        return found

    def _with_headers(self, send: Send, more: Sequence[assets.Header] = ()) -> Send:
        async def sent(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                # a missing file must not be cached either
                own = [*self.hosts.headers(), *(more if message["status"] == 200 else ())]
                names = {name for name, _ in own}
                kept = [each for each in message.get("headers", []) if each[0].lower() not in names]
                message = {**message, "headers": [*kept, *own]}
            await send(message)

        return sent

    async def _refuse(self, scope: Scope, send: Send, status: int, reason: str) -> None:
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008, "reason": reason[:100]})
        text = reason.encode()
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(text)).encode())]
        await self._with_headers(send)({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text})


class Preflights(CustomCORSMiddleware):
    """Gradio's middleware for other origins, which runs before the guard, without its own response to preflights."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            return await self.app(scope, receive, send)
        await super().__call__(scope, receive, send)


def served(path: str) -> bool:
    """Whether the studio uses the path. A file must have been created by the studio or uploaded to it, never an
    address.
    """
    if ".." in Path(path).parts or path.startswith((f"{API}file=http:", f"{API}file=https:")):
        return False
    if path.startswith(API):
        return path.removeprefix(API).startswith(CALLS)
    return (path.rstrip("/") or "/") in PATHS or path.startswith(FOLDERS)


def content_length(scope: Scope) -> int | None:
    """The number of bytes of a request's body, from its header; None without the header."""
    named = [value for name, value in scope["headers"] if name.lower() == b"content-length"]
    return int(named[0]) if len(named) == 1 and named[0].isdigit() and len(named[0]) < 16 else None
