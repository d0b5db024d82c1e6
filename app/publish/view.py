"""Which account publishes, and what the button does now."""

from app.page import markup
from simct.runs.status import PublishingStatus


def account_line(name: str | None, public: bool, typed: bool) -> str:
    """Which account publishes; without one, how to sign in."""
    if name:
        return markup.note("ok", f"Publishing as {name}.")
    if public:
        return markup.note("warn", "Sign in at the top of the page to publish.")
    if typed:
        return markup.note(
            "error", "The Hub does not know this token. Check it, or create a new one with write access."
        )
    return markup.note(
        "warn",
        "You are not signed in. Run hf auth login in a terminal, or paste an access token with write access below.",
    )


def button_label(status: PublishingStatus) -> str:
    """What the button does now."""
    labels = {"failed": "Try again", "published": "Publish again", "publishing": "Publishing…"}
    return labels.get(status.state, "Publish")
