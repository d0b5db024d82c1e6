"""The message that a run sends to the webhook of its run.yaml: when it ended, and when it first became unhealthy.

It is one POST of a JSON object, repeated a few times if the receiver has temporary trouble. `text` and `content` are
the same line, for Slack and Discord; the other keys are for programs. Nothing else is sent, and no answer is read.
"""

import contextlib
import time
from typing import Any

import httpx2

from simct.errors import SimCTError
from simct.hub.redact import redact
from simct.hub.retry import passing
from simct.models.server_address import target_of
from simct.runs.folder import RunFolder

SECONDS = 10.0
WAITS = (1.0, 5.0)


def message_of(run: RunFolder, event: str, line: str | None = None) -> dict[str, Any]:
    """The content of the message.

    `event` is finished, stopped, failed or unhealthy; `line` replaces the status text.
    """
    status, published = run.status(), run.publishing()
    words = redact(line or (status.error if event == "failed" else status.message) or event)
    text = f"Run {run.id} ({status.method or status.kind}, {status.student}): {event}. {words}"
    fields = ("kind", "method", "teacher", "student", "step", "total_steps")
    about = {name: getattr(status, name) for name in fields}
    url = published.url if published.state == "published" else None
    return {"text": text, "content": text, "event": event, "run": run.id, "message": words, **about, "published": url}


def notify(run: RunFolder, event: str, line: str | None = None) -> str | None:
    """Send the message if the run names a webhook; returns the reason if it could not be sent. Never raises."""
    try:
        address = run.config().notify.webhook
        if address is None:
            return None
        place, mark, query = address.partition("?")
        target = target_of(place)
        _post(f"{target.url}{mark}{query}", target.headers, target.extensions, message_of(run, event, line))
    except (SimCTError, httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        reason = str(error) if isinstance(error, SimCTError) else type(error).__name__
        # the address itself is a secret
        return f"The webhook could not be reached: {reason}."
    return None


def _post(url: str, headers: dict[str, str], extensions: dict[str, str], message: dict[str, Any]) -> None:
    with httpx2.Client(timeout=SECONDS, follow_redirects=False) as http:
        for wait in (*WAITS, None):
            try:
                http.post(url, headers=headers, extensions=extensions, json=message).raise_for_status()
                return
            except httpx2.HTTPError as error:
                if wait is None or not passing(error):
                    raise
            with contextlib.suppress(KeyboardInterrupt):
                time.sleep(wait)
