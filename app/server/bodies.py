"""The body of a request that a page of a Space sends as JSON, read before Gradio parses it on the one thread for all.

A few megabytes of empty lists take seconds to parse and fifty times their size in memory.
"""

import asyncio

from app.server.assets import Receive

# values in the JSON of a request, at most; a text of a million characters has fewer commas than this
MOST_VALUES = 250_000
# seconds within which a body must arrive
ARRIVES_SECONDS = 120.0


class Refused(Exception):
    """The body cannot be used; the arguments are the status and the reason."""


async def whole_body(receive: Receive) -> bytes:
    """The whole body, whose length has been checked. Raises Refused."""
    parts: list[bytes] = []
    try:
        async with asyncio.timeout(ARRIVES_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(400, "The connection ended before the whole request had arrived.")
                parts.append(message.get("body", b""))
                if not message.get("more_body"):
                    break
    except TimeoutError as error:
        raise Refused(408, f"The request did not arrive within {ARRIVES_SECONDS:g} s.") from error
    body = b"".join(parts)
    if sum(body.count(each) for each in (b",", b"[", b"{")) > MOST_VALUES:
        raise Refused(413, f"A request may have {MOST_VALUES:,} commas and brackets; this has more. Shorten the text.")
    return body


def replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` for an application that reads `body` as if it arrived now."""
    waiting = [body]

    async def received() -> dict[str, object]:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return dict(await receive())

    return received
