"""Several teachers in one run, each with the settings of a teacher and its weight in the loss."""

import re
from typing import TYPE_CHECKING, Any

from pydantic import model_validator

from simct.config.sections import ModelConfig
from simct.errors import ConfigError, quoted
from simct.methods import METHODS, checked_options
from simct.setting import setting

if TYPE_CHECKING:
    from simct.config import RunConfig

MOST_TEACHERS = 16
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class TeacherConfig(ModelConfig):
    """One of several teachers. A plain text sets only `model`."""

    name: str = setting(
        "Name",
        "",
        "The name of this teacher in metrics, reports and the card. Usual: empty, which uses the last part of its "
        "model's name.",
        allowed="a short name of letters, digits, '-', '_' and '.'",
        max_length=64,
    )
    weight: float = setting(
        "Weight",
        1.0,
        "How much each row that this teacher grades counts. Only the ratio of the weights matters. Usual: 1.",
        gt=0,
        le=1e6,
    )
    routes: list[str] = setting(
        "Routes",
        [],
        "Values of data.teacher_column whose rows this teacher grades. Empty: its name.",
        max_length=1000,
    )
    method: str | None = setting(
        "Method",
        None,
        "How this teacher is compared with the student, if that differs from the run's method.",
        choices=tuple(METHODS),
        empty="the run's method",
    )
    method_options: dict[str, Any] = setting(
        "Method options", {}, "Options of the method for this teacher, instead of those of the run."
    )

    @model_validator(mode="after")
    def _name_of_model(self) -> "TeacherConfig":
        if not self.name and self.model:
            self.name = default_name(self.model)
        return self

    @property
    def routed(self) -> list[str]:
        """The values in the data's column whose rows this teacher grades."""
        return self.routes or [self.name]


def default_name(model: str) -> str:
    """The last part of a model's id or folder, as a name."""
    last = model.rstrip("/\\").replace("\\", "/").rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", last).strip("-_.")[:64] or "teacher"


def teachers_of(config: "RunConfig") -> list[TeacherConfig]:
    """The teachers of a run in order: those of its list, or its one teacher with weight 1."""
    return config.teachers or [TeacherConfig(**config.teacher.model_dump())]


def with_one_teacher(config: "RunConfig", teacher: TeacherConfig) -> "RunConfig":
    """The run with only this teacher: its model as `teacher`, its method and options as the run's.

    Other sections are shared with `config`. A run with one `teacher` is returned unchanged.
    """
    if not config.teachers:
        return config
    method, options = method_of(config, teacher)
    model = ModelConfig(**{name: getattr(teacher, name) for name in ModelConfig.model_fields})
    return config.model_copy(
        update={"teacher": model, "teachers": [], "method": method, "method_options": options},
    )


def method_of(config: "RunConfig", teacher: TeacherConfig) -> tuple[str, dict[str, Any]]:
    """The method that compares this teacher, and its options; the run's options apply only to the run's method."""
    if teacher.method and teacher.method != config.method:
        return teacher.method, dict(teacher.method_options)
    return config.method, config.method_options | teacher.method_options


def named_teachers(config: "RunConfig") -> list[tuple[str, ModelConfig]]:
    """The place of each teacher's settings in run.yaml, with the settings: ("teacher", …), or ("teachers[0]", …) and so
    on.
    """
    if not config.teachers:
        return [("teacher", config.teacher)]
    return [(f"teachers[{place}]", teacher) for place, teacher in enumerate(config.teachers)]


def numbered_teachers(config: "RunConfig") -> list[tuple[str, ModelConfig]]:
    """The run's teacher with "", or several with "-0", "-1" and so on; these are suffixes of their file names in a
    Job.
    """
    return [(f"-{place}" if config.teachers else "", model) for place, model in enumerate(config.teacher_models)]


def teacher_names(config: "RunConfig") -> str:
    """The model of the run's teacher, or of all its teachers: "a/b + c/d"."""
    return " + ".join(model.model for _, model in named_teachers(config))


def check_teachers(config: "RunConfig") -> None:
    """The rules of a list of teachers. Raises ConfigError with the setting and its value."""
    if not config.teachers:
        if config.data.teacher_column:
            raise ConfigError(
                f"data.teacher_column is {quoted(config.data.teacher_column)}; it must be empty without a list of "
                "teachers to choose from."
            )
        return
    if config.teacher != ModelConfig():
        raise ConfigError("Both teacher and teachers are given. Keep one of them.")
    if config.kind == "warmup":
        raise ConfigError(
            "teachers is given, but a warm-up needs one teacher, which writes the answers. Set teacher instead."
        )
    names: set[str] = set()
    for place, teacher in enumerate(config.teachers):
        where = f"teachers[{place}]"
        if not NAME.fullmatch(teacher.name):
            raise ConfigError(
                f"{where}.name is {quoted(teacher.name)}; it must be up to 64 letters, digits, '-', '_' and '.'."
            )
        if teacher.name in names:
            raise ConfigError(
                f"{where}.name is {quoted(teacher.name)}, but another teacher has the same name. Give each its own "
                "name."
            )
        names.add(teacher.name)
        _check_routes(config, teacher, where)
        if teacher.sharded:
            raise ConfigError(
                f"{where}.sharded is True; it must be false with several teachers. Use offload or server."
            )
        checked = checked_options(*method_of(config, teacher), f"{where}.method_options")
        teacher.method_options = {name: getattr(checked, name) for name in teacher.method_options}


def _check_routes(config: "RunConfig", teacher: TeacherConfig, where: str) -> None:
    if teacher.routes and not config.data.teacher_column:
        raise ConfigError(
            f"{where}.routes is {quoted(teacher.routes)}, but no column chooses the teacher. Set data.teacher_column, "
            "or leave routes empty to combine the teachers by weight."
        )
    if any(not route.strip() for route in teacher.routes):
        raise ConfigError(f"{where}.routes is {quoted(teacher.routes)}; it must name values of data.teacher_column.")
