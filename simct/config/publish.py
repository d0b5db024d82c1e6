"""Where a run's student goes when the run ends, without anybody watching."""

from simct.errors import ConfigError
from simct.setting import Section, quoted, setting


class PublishConfig(Section):
    """What the run itself pushes to the Hub once it has finished; nothing without a repository."""

    repo_id: str | None = setting(
        "Publish to",
        None,
        "When the run has finished, it pushes the student and its model card here: owner/name, or a name in your own "
        "account. Give it to publish without watching.",
        empty="not published",
        max_length=200,
    )
    private: bool = setting("Private", True, "Whether only you, or your organization, can see the new repository.")
    rollouts: bool = setting("Rollouts", False, "Also push rollouts.jsonl, as the dataset NAME-rollouts.")
    space: bool = setting("Chat demo", False, "Also push a chat demo, as the Space NAME-demo.")
    only_if_improved: bool = setting(
        "Only if improved",
        False,
        "Publish only a student whose score or distance to the teacher improved by more than noise.",
    )


def check_publish(publish: PublishConfig, scored: bool) -> None:
    """Raise ConfigError for a name that the Hub does not allow, or where nothing would show an improvement.

    `scored`: whether the run measures anything before and after.
    """
    if publish.repo_id is None:
        return
    # the Hub's client takes a while to import, and most runs do not publish
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(publish.repo_id)
    except HFValidationError as error:
        raise ConfigError(
            f"publish.repo_id is {quoted(publish.repo_id)}; it must be owner/name, or a name in your account, of "
            "letters, digits, '-', '_' and '.'."
        ) from error
    if publish.only_if_improved and not scored:
        raise ConfigError(
            "publish.only_if_improved is true, and the run measures nothing before and after. Add evaluation.tasks, "
            "or set it to false."
        )
