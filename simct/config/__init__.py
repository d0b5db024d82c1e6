"""RunConfig: the one description of a run, as pydantic models and as plain data in YAML.

The `run.yaml` that the studio writes is the file that the command runs; nothing about a run is stored elsewhere. Values
are checked once, here, so that a mistake is reported before a model is downloaded. The settings of each section are in
`simct.config.sections`, the methods and their options in `simct.methods`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, ValidationInfo, model_validator

from simct.config.evaluation import EvaluationConfig
from simct.config.notify import NotifyConfig
from simct.config.optimization import LoraConfig, TrainingConfig, WarmupConfig
from simct.config.publish import PublishConfig, check_publish
from simct.config.rules import (
    check_data,
    check_engine,
    check_evaluation,
    check_models,
    check_server,
    check_sizes,
    check_webhook,
)
from simct.config.sections import DataConfig, ModelConfig, RolloutConfig
from simct.config.teachers import MOST_TEACHERS, TeacherConfig, check_teachers, named_teachers
from simct.config.yaml_text import MOST_CHARACTERS, read_yaml
from simct.errors import ConfigError, quoted
from simct.methods import DIVERGENCES, METHODS, checked_options
from simct.setting import WHOLE, Section, problem, setting, settings_of

KINDS = ("distill", "warmup")
# These are always written, even at their defaults.
ABOUT = ("teacher.model", "student.model", "data.prompts", "method", "training.steps", "training.learning_rate")

CHECKS = (check_data, check_sizes, check_models, check_server, check_engine, check_evaluation, check_webhook)

# What runs did before these settings existed.
BEFORE: dict[str, dict[str, Any]] = {"data": {"held_out": 0}, "evaluation": {"every": 0}}


def _section(kind: type[Section]) -> Any:
    return Field(default_factory=kind, validate_default=True)


class RunConfig(Section):
    """Everything about a run. `output` is the run folder; None lets the caller choose one under `runs/`."""

    teacher: ModelConfig = _section(ModelConfig)
    teachers: list[TeacherConfig] = setting(
        "Teachers",
        [],
        "Several teachers instead of one. Each has the settings of teacher, and name, weight, routes, method and "
        "method_options.",
        max_length=MOST_TEACHERS,
    )
    student: ModelConfig = _section(ModelConfig)
    data: DataConfig = _section(DataConfig)
    method: str = setting(
        "Method",
        "simct",
        "How the two models are compared. `simct inspect --weights` measures which one suits a pair.",
        choices=tuple(METHODS),
    )
    method_options: dict[str, Any] = setting(
        "Method options", {}, "Options of the method, such as mass_mask: 0.5. Their defaults suit most pairs."
    )
    divergence: str | None = setting(
        "Divergence",
        None,
        "How the two distributions are compared. Usual: the method's own; forward KL gives more varied answers.",
        choices=tuple(DIVERGENCES),
        empty="the method's own",
    )
    rollout: RolloutConfig = _section(RolloutConfig)
    lora: LoraConfig = _section(LoraConfig)
    training: TrainingConfig = _section(TrainingConfig)
    evaluation: EvaluationConfig = _section(EvaluationConfig)
    warmup: WarmupConfig = _section(WarmupConfig)
    publish: PublishConfig = _section(PublishConfig)
    notify: NotifyConfig = _section(NotifyConfig)
    kind: str = setting(
        "Kind", "distill", "distill, or warmup for a warm start on the teacher's answers.", choices=KINDS
    )
    output: str | None = setting(
        "Run folder", None, "Folder of the run, new or empty.", empty="one under runs/", max_length=4096
    )

    @model_validator(mode="after")
    def _check_whole(self, info: ValidationInfo) -> "RunConfig":
        if info.context == WHOLE:
            options = checked_options(self.method, self.method_options, "method_options")
            self.method_options = {name: getattr(options, name) for name in self.method_options}
            for check in (
                check_data,
                check_sizes,
                check_teachers,
                check_models,
                check_server,
                check_engine,
                check_evaluation,
                check_webhook,
            ):
                check(self)
            check_publish(self)
        return self

    @property
    def teacher_models(self) -> list[ModelConfig]:
        """The settings of the run's teacher, or of all its teachers, as run.yaml has them."""
        return [model for _, model in named_teachers(self)]

    @property
    def models(self) -> list[ModelConfig]:
        """The settings of all models of the run: its teachers, then its student."""
        return [*self.teacher_models, self.student]


def divergence_of(config: RunConfig) -> str | None:
    """The divergence of the run: the one it names, or its method's own; None for a method that uses none."""
    own = METHODS[config.method].divergence
    return own and (config.divergence or own)


def validate(config: RunConfig) -> RunConfig:
    """Check a whole run: every value, the names, and the rules between settings; returns the same object.

    Raises ConfigError with the setting, its value and what is allowed.
    """
    _validated(config)
    return config


def config_from_dict(mapping: Any) -> RunConfig:
    """A checked RunConfig from plain data, complete or brief. Raises ConfigError that names the setting."""
    return _validated(mapping)


def _validated(described: Any) -> RunConfig:
    try:
        return RunConfig.model_validate(described, context=WHOLE)
    except ValidationError as error:
        raise problem(error, RunConfig) from error


def config_from_text(text: str, what: str = "This") -> RunConfig:
    """A checked RunConfig from YAML. Raises ConfigError, which calls the YAML `what` if it cannot be read."""
    return config_from_dict(read_yaml(text, what) or {})


def load_config(path: str | Path) -> RunConfig:
    """Read and check `run.yaml`. Raises ConfigError for an unreadable file, an unknown setting or a bad value."""
    return config_from_text(_text_of(path), repr(str(path)))


def load_run_config(path: str | Path) -> RunConfig:
    """Read and check the run.yaml of a run folder, which has every setting that existed when the run started.

    Settings that were added later get the values that keep the run as it was. Raises ConfigError as load_config does.
    """
    described = read_yaml(_text_of(path), repr(str(path))) or {}
    if isinstance(described, dict):
        for section, names in BEFORE.items():
            owner = described.get(section)
            if isinstance(owner, dict):
                described[section] = names | owner
    return config_from_dict(described)


def _text_of(path: str | Path) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(MOST_CHARACTERS + 1)
    except OSError as error:
        raise ConfigError(f"Cannot read the configuration {str(path)!r}: {error.strerror}. Check the path.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{str(path)!r} is not valid YAML: it is not UTF-8 text (byte {error.start}).") from error


def dump_config(config: RunConfig) -> str:
    """The YAML of a run with every setting, so that the run stays the same if a default changes."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True)


def save_config(config: RunConfig, path: str | Path) -> None:
    Path(path).write_text(dump_config(config), encoding="utf-8")


def leaves(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The plain data of a run by dotted names ("training.steps"); `method_options` is one of them."""
    flat: dict[str, Any] = {}
    for name, value in mapping.items():
        if isinstance(value, Mapping) and name != "method_options":
            flat |= {f"{name}.{key}": each for key, each in value.items()}
        else:
            flat[name] = value
    return flat


def brief(config: RunConfig) -> dict[str, Any]:
    """The run as plain data: its models, its data, and everything that is not at its default.

    `output` is left out, because it says where a run is stored, not what it does.
    """
    defaults = leaves(RunConfig().model_dump())
    short: dict[str, Any] = {}
    for name, value in leaves(config.model_dump(exclude={"output"})).items():
        if name == "teachers":
            value = [_brief_entry(teacher) for teacher in config.teachers]
        if (name in ABOUT and not (name == "teacher.model" and config.teachers)) or value != defaults[name]:
            *parents, last = name.split(".")
            owner = short
            for parent in parents:
                owner = owner.setdefault(parent, {})
            owner[last] = value
    return short


def _brief_entry(teacher: TeacherConfig) -> dict[str, Any]:
    defaults = TeacherConfig().model_dump()
    described = teacher.model_dump().items()
    return {name: value for name, value in described if name in ("model", "name") or value != defaults[name]}


def brief_yaml(config: RunConfig) -> str:
    """`brief` as the text of a run.yaml."""
    return yaml.safe_dump(brief(config), sort_keys=False, allow_unicode=True)


def config_from_brief(described: Mapping[str, Any]) -> RunConfig:
    """The run that `brief` wrote, from an untrusted place such as a browser.

    Unknown or invalid values are replaced by their defaults, and so is `output`, always; rules between settings are
    left to `validate`.
    """
    config = RunConfig()
    for name, value in leaves(described).items():
        if name != "output":
            try:
                set_option(config, name, value)
            except ConfigError:
                continue
    return config


def set_option(config: RunConfig, dotted: str, value: Any) -> None:
    """Set `a.b` in place, as `--set a.b=value` does. Text is read according to the setting's type; method options as
    YAML.

    Raises ConfigError for an unknown setting or a value that is not allowed; rules between settings are left to
    `validate`.
    """
    *parents, last = str(dotted).split(".")
    if parents == ["method_options"]:
        config.method_options[last] = read_yaml(value, dotted) if isinstance(value, str) else value
        return
    owner: Section = config
    for parent in parents:
        found = settings_of(type(owner)).get(parent)
        if found is None or not found.section:
            raise ConfigError(f"Unknown setting {quoted(dotted)}. `simct settings` lists them all.")
        owner = getattr(owner, parent)
    if last not in settings_of(type(owner)):
        known = ", ".join(settings_of(type(owner)))
        raise ConfigError(f"Unknown setting {quoted(dotted)}. Known here: {known}.")
    if dotted in ("method_options", "teachers") and isinstance(value, str):
        value = read_yaml(value, dotted) or type(getattr(owner, last))()
    try:
        checked = type(owner).model_validate({last: value})
    except ValidationError as error:
        raise problem(error, type(owner), "".join(f"{parent}." for parent in parents)) from error
    setattr(owner, last, getattr(checked, last))
    if dotted == "training.steps":
        # an explicit number of steps overrides the epochs of a preset
        config.training.epochs = None


def local_path(name: str) -> Path | None:
    """The folder or file that `name` means on this machine, or None if it looks like a Hub id."""
    path = Path(os.path.expanduser(name))
    # unlike Path.exists, False for text that cannot be a path
    return path if os.path.exists(path) else None
