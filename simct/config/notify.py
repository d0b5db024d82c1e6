"""Where a run sends a message about how it ended."""

from simct.setting import Section, setting


class NotifyConfig(Section):
    """A webhook; nothing without one."""

    webhook: str | None = setting(
        "Webhook",
        None,
        "An address that gets a JSON message when the run finishes, stops, fails or first becomes unhealthy. Chat "
        "services such as Slack and Discord give out such addresses.",
        empty="none",
        max_length=4096,
    )
