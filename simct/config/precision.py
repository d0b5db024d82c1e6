"""The number formats of a run, with every auto replaced by the chosen format."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from simct.config import RunConfig
    from simct.config.sections import ModelConfig

AUTO = "auto"
NAMES = {"bf16": "bfloat16", "fp16": "float16"}


def trained_dtype(model: ModelConfig) -> str:
    """The number format of a model's weights when they are trained."""
    return "float32" if model.dtype == AUTO else model.dtype


@dataclass(frozen=True)
class Precision:
    """The number formats of a run: of the weights of the student and of each teacher in order, and of the student's
    arithmetic in training ("no": the same as its weights).
    """

    teachers: tuple[str, ...]
    student: str
    mixed_precision: str

    @classmethod
    def of(cls, config: RunConfig) -> Self:
        """The formats in the settings, including auto."""
        teachers = tuple(teacher.dtype for teacher in config.teacher_models)
        return cls(teachers, config.student.dtype, config.training.mixed_precision)

    @classmethod
    def from_dict(cls, record: Any) -> Self | None:
        """From the result of `to_dict`; None for anything else."""
        if not isinstance(record, dict) or record.keys() != cls.__dataclass_fields__.keys():
            return None
        teachers, *others = (record[name] for name in cls.__dataclass_fields__)
        whole = isinstance(teachers, list) and all(isinstance(value, str) for value in [*teachers, *others])
        return cls(tuple(teachers), *others) if whole else None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"teachers": list(self.teachers)}

    @property
    def open(self) -> bool:
        """Whether a setting is still auto."""
        return AUTO in (*self.teachers, self.student, self.mixed_precision)

    @property
    def student_text(self) -> str:
        """Such as "student float32 in bfloat16 arithmetic"."""
        mixed = NAMES.get(self.mixed_precision, self.mixed_precision)
        return f"student {self.student}" + ("" if mixed in ("no", self.student) else f" in {mixed} arithmetic")

    def filled(self, config: RunConfig) -> RunConfig:
        """A copy of `config` with these formats instead of auto; explicit formats stay."""
        config = config.model_copy(deep=True)
        # a teacher that was added to run.yaml later has no format here; the check of changes refuses it
        for model, dtype in [*zip(config.teacher_models, self.teachers, strict=False), (config.student, self.student)]:
            if model.dtype == AUTO:
                model.dtype = dtype
        if config.training.mixed_precision == AUTO:
            config.training.mixed_precision = self.mixed_precision
        return config


def precision_text(config: RunConfig) -> str:
    """The formats of the student and the teachers; the format of a teacher elsewhere is not known here."""
    found = Precision.of(config)
    here = [f for model, f in zip(config.teacher_models, found.teachers, strict=True) if not model.elsewhere]
    teachers = f"teacher{'s' if len(here) > 1 else ''} {', '.join(here)}"
    return f"{found.student_text}, {teachers}" if here else found.student_text
