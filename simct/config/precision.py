"""What the number formats of a run became where its settings say auto."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from simct.config import RunConfig
    from simct.config.sections import ModelConfig

AUTO = "auto"
NAMES = {"bf16": "bfloat16", "fp16": "float16"}


def trained_dtype(model: ModelConfig) -> str:
    """The number format of a model's weights if they are trained."""
    return "float32" if model.dtype == AUTO else model.dtype


@dataclass(frozen=True)
class Precision:
    """The number formats of a run: of its models' weights, the teachers in order, and of the student's arithmetic in
    training ("no": that of its weights)."""

    teachers: tuple[str, ...]
    student: str
    mixed_precision: str

    @classmethod
    def of(cls, config: RunConfig) -> Self:
        """As the settings have it, auto included."""
        teachers = tuple(teacher.dtype for teacher in config.teacher_models)
        return cls(teachers, config.student.dtype, config.training.mixed_precision)

    @classmethod
    def from_dict(cls, record: Any) -> Self | None:
        """What `to_dict` gave; None for anything else."""
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
        """A copy of `config` with these formats in the place of auto; what it says itself stays."""
        config = config.model_copy(deep=True)
        # one that was added to run.yaml later has none here, and is refused where the changes are looked at
        for model, dtype in [*zip(config.teacher_models, self.teachers, strict=False), (config.student, self.student)]:
            if model.dtype == AUTO:
                model.dtype = dtype
        if config.training.mixed_precision == AUTO:
            config.training.mixed_precision = self.mixed_precision
        return config


def precision_text(config: RunConfig) -> str:
    """Of the student and of the teachers; that of a teacher elsewhere is not known here."""
    found = Precision.of(config)
    here = [f for model, f in zip(config.teacher_models, found.teachers, strict=True) if not model.elsewhere]
    teachers = f"teacher{'s' if len(here) > 1 else ''} {', '.join(here)}"
    return f"{found.student_text}, {teachers}" if here else found.student_text
