"""The estimate of a run as typed records. The names of their fields are the keys of the JSON."""

from dataclasses import dataclass, field

from simct.records import ABSENT, Record


@dataclass(frozen=True)
class TeacherSize(Record):
    """The teacher and how many parameters it has."""

    model: str
    parameters: int


@dataclass(frozen=True)
class StudentSize(Record):
    """The student, how many parameters it has, and how many of them are trained."""

    model: str
    parameters: int
    trainable: int


@dataclass(frozen=True)
class MachineEstimate(Record):
    """A run on one kind of machine.

    memory: bytes of each device; fits: whether the peak does. seconds_per_step: by "generating" and "training".
    evaluating: seconds of all evaluations along the run. precision: the number formats on this machine. hours and cost
    are None if the steps, or the price in US dollars per hour, are not known. peak: bytes, only of this machine
    next to others.
    """

    name: str
    devices: int
    memory: float
    fits: bool
    seconds_per_step: dict[str, float]
    hours: float | None
    price: float | None
    cost: float | None
    evaluating: float = 0.0
    precision: str = ""
    peak: int | None = field(default=None, metadata=ABSENT)


@dataclass(frozen=True)
class ServedUse(Record):
    """A run's use of a teacher on a server if all completions have full length: requests, and the tokens that the
    server reads and writes.

    cost: US dollars by teacher.price_per_million_tokens, None if that is not given. All are None if the steps are not
    known.
    """

    requests: int | None
    tokens: int | None
    cost: float | None


@dataclass
class MemoryEstimate:
    """Bytes on one device, by part (`parts`) and by phase of a step (`phases`); the largest phase is the peak."""

    parts: dict[str, int] = field(default_factory=dict)
    phases: dict[str, int] = field(default_factory=dict)

    @property
    def peak(self) -> int:
        return max(self.phases.values())


@dataclass(frozen=True)
class Estimate(Record):
    """Memory in bytes on each device, time and cost of a run.

    steps: None if they depend on unknown data. parts: what the memory is needed for; phases: what is in memory at the
    same time, the largest of them being the peak. here: this machine. served: only for a teacher on a server, whose
    cost is not part of the machines' costs. teachers: each of several teachers; `teacher` is their sum.
    """

    teacher: TeacherSize
    student: StudentSize
    steps: int | None
    prompt_tokens: int
    peak: int
    parts: dict[str, int]
    phases: dict[str, int]
    hardware: list[MachineEstimate]
    here: MachineEstimate | None = field(default=None, metadata=ABSENT)
    served: ServedUse | None = field(default=None, metadata=ABSENT)
    teachers: list[TeacherSize] | None = field(default=None, metadata=ABSENT)
