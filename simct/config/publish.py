"""What a finished run pushes to the Hub by itself."""

from typing import TYPE_CHECKING

from simct.errors import ConfigError
from simct.setting import Section, quoted, setting

if TYPE_CHECKING:
    from simct.config import RunConfig

WEIGHTS = ("merged", "adapter", "both")


class PublishConfig(Section):
    """What the run itself pushes to the Hub once it has finished; without a repository, nothing."""

    repo_id: str | None = setting(
        "Publish to",
        None,
        "When the run has finished, it pushes the student and its model card here: owner/name, or a name in your own "
        "account. Set it to publish automatically.",
        empty="not published",
        max_length=200,
    )
    private: bool = setting("Private", True, "Whether only you, or your organization, can see the new repository.")
    what: str = setting(
        "Weights",
        "merged",
        "After LoRA: merged, a whole model; adapter, the LoRA weights alone, which are loaded onto the original "
        "student; or both, with the adapter in NAME-adapter. Usual: merged; adapter if the student is large.",
        choices=WEIGHTS,
    )
    rollouts: bool = setting("Rollouts", False, "Also push rollouts.jsonl, as the dataset NAME-rollouts.")
    space: bool = setting("Chat demo", False, "Also push a chat demo, as the Space NAME-demo.")
    only_if_improved: bool = setting(
        "Only if improved",
        False,
        "Publish only a student whose score or distance to the teacher improved by more than noise.",
    )


def check_publish(config: "RunConfig") -> None:
    """Raise ConfigError for a name that the Hub does not allow, for an adapter that the run does not train, or if
    nothing would show an improvement.
    """
    publish = config.publish
    if publish.repo_id is None:
        return
    _check_weights(config)
    # the Hub's client takes a while to import, and most runs do not publish
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(publish.repo_id)
    except HFValidationError as error:
        raise ConfigError(
            f"publish.repo_id is {quoted(publish.repo_id)}; it must be owner/name, or a name in your account, of "
            "at most 96 letters, digits, '-', '_' and '.'."
        ) from error
    scored = bool(config.evaluation.tasks) or config.evaluation.every != 0
    if publish.only_if_improved and not scored:
        raise ConfigError(
            "publish.only_if_improved is true, but the run measures nothing before and after. Add evaluation.tasks, "
            "or set it to false."
        )


def _check_weights(config: "RunConfig") -> None:
    what = config.publish.what
    if what == "merged":
        return
    if config.lora.rank is None:
        raise ConfigError(
            f"publish.what is {quoted(what)}, but this run trains no adapter. Set lora.rank, or publish.what to merged."
        )
    if config.training.parallel == "fsdp2":
        raise ConfigError(
            f"publish.what is {quoted(what)}, but training.parallel fsdp2 saves only the merged model. Set "
            "publish.what to merged, or training.parallel to ddp."
        )
    if what == "adapter" and config.publish.space:
        raise ConfigError("publish.space is true, but the chat demo needs the merged model. Set publish.what to both.")
