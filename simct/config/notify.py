"""Where a run sends messages about its end and its health."""

from simct.setting import Section, setting


class NotifyConfig(Section):
    """A webhook; without one, nothing is sent."""

    webhook: str | None = setting(
        "Webhook",
        None,
        "An address that gets a JSON message when the run finishes, stops, fails or first becomes unhealthy. You can "
        "create such addresses in chat services such as Slack and Discord.",
        empty="none",
        max_length=4096,
    )
