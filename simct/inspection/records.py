"""The results of inspecting a pair, as typed records. The names of their fields are the keys of the JSON files.

Shares and probabilities are 0 to 1. A unit is *shared* when it is one token on each side with equal bytes: exact
matching supervises it. It is *recovered* when it has several tokens on either side: exact matching loses it, SimCT
scores it as one candidate. It is *not covered* ("outside" in the files) when neither applies.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from simct.records import ABSENT, Record


@dataclass(frozen=True)
class KindTokens(Record):
    """Student tokens of one kind of text: all of them, and those in shared, recovered and not covered units."""

    student_tokens: int
    strict: int
    recovered: int
    outside: int


@dataclass(frozen=True)
class Disagreement(Record):
    """A text that the two sides split differently, its bytes in hex, both sides' pieces, and how often it occurred."""

    text: str
    bytes: str
    student_tokens: list[str]
    teacher_tokens: list[str]
    count: int


@dataclass(frozen=True)
class ShownUnit(Record):
    """One aligned unit of a text, to be shown: its bytes (hex), their range, its kind, and both sides' ids and pieces.

    kind: "shared", "recovered" or "outside"; reason: why it is not covered, else empty.
    """

    text: str
    bytes: str
    byte_start: int
    byte_end: int
    kind: str
    reason: str
    student_ids: list[int]
    teacher_ids: list[int]
    student_pieces: list[str]
    teacher_pieces: list[str]

    @property
    def shape(self) -> str:
        """Student × teacher tokens."""
        return f"{len(self.student_ids)}×{len(self.teacher_ids)}"


@dataclass(frozen=True)
class UnitScore(Record):
    """Both models at one unit, in nats.

    student_logprob, teacher_logprob: log of the joint probability of the unit's tokens given the text before it.
    student_score, teacher_score: the mean over its tokens, SimCT's score of the unit. kl: reverse KL between the
    renormalized candidates at its start, which is the unit's loss. z_s, z_t: the candidates' mass, which may exceed 1
    if the unit is one of them (docs/method.md).
    """

    student_logprob: float
    teacher_logprob: float
    student_score: float
    teacher_score: float
    kl: float
    z_s: float
    z_t: float


# One position


@dataclass(frozen=True)
class Candidate(Record):
    """One candidate at a position: a shared token, or the unit itself (kind "unit", without ids)."""

    text: str
    bytes: str
    student_id: int | None
    teacher_id: int | None
    kind: str


@dataclass(frozen=True)
class MeasuredCandidate(Candidate):
    """With both models: mass is p (of the unit: the geometric mean over its tokens), q its share of all candidates'.

    written: whether it is the one in the text.
    """

    student_mass: float
    teacher_mass: float
    student_q: float
    teacher_q: float
    written: bool


@dataclass(frozen=True)
class OtherCandidates(Record):
    """The number of candidates that are not listed, and the sums over them."""

    candidates: int
    student_mass: float
    teacher_mass: float
    student_q: float
    teacher_q: float


@dataclass(frozen=True)
class LostRow(Record):
    """What exact matching loses at a position: the row (or not), its tokens, the unit's masses, and its loss."""

    row: bool
    student_tokens: int
    teacher_tokens: int
    student_mass: float
    teacher_mass: float
    kl: float


@dataclass(frozen=True)
class TeacherToken(Record):
    """A token of the teacher that the student does not have, and how the student spells it (empty: it cannot)."""

    text: str
    bytes: str
    teacher_id: int
    mass: float
    student_tokens: list[str]
    student_ids: list[int]


@dataclass(frozen=True)
class StudentToken(Record):
    """A token of the student that the teacher does not have, and how the teacher spells it (empty: it cannot)."""

    text: str
    bytes: str
    student_id: int
    mass: float
    teacher_tokens: list[str]
    teacher_ids: list[int]


@dataclass(frozen=True)
class Candidates(Record):
    """What SimCT compares at the start of unit `index` of a text.

    shared_candidates: shared tokens including the end of turn; candidates: also the unit itself, if it is one.
    rows: without the models, only the unit if it is a candidate.
    """

    index: int
    unit: ShownUnit
    shared_candidates: int
    candidates: int
    rows: Sequence[Candidate]


@dataclass(frozen=True)
class MeasuredCandidates(Candidates):
    """The same with both models. rows: the candidates that are most likely on either side; rest: all others.

    Z_T, Z_S: the mass of all candidates; teacher_shared, student_shared: that of the shared tokens alone. kl: the
    reverse KL of the two q in nats, which is this row's loss. teacher_outside, student_outside: the most likely tokens
    of one side that the other does not have.
    """

    rows: Sequence[MeasuredCandidate]
    rest: OtherCandidates
    Z_S: float
    Z_T: float
    student_shared: float
    teacher_shared: float
    kl: float
    thrown_away_by_strict: LostRow
    teacher_outside: list[TeacherToken]
    student_outside: list[StudentToken]


# With weights


@dataclass(frozen=True)
class MassHistogram(Record):
    """How much of the teacher's mass the candidates have (Z_T): units between `edges`, and above the last of them.

    below_half: the share of all units whose Z_T is under 0.5.
    """

    edges: list[float]
    shared: list[int]
    recovered: list[int]
    below_half: float


@dataclass(frozen=True)
class KlQuantiles(Record):
    """The KL of units in nats at 10 %, 50 % and 90 %; None if there are no such units."""

    shared: list[float] | None = None
    recovered: list[float] | None = None


@dataclass(frozen=True)
class Splits(Record):
    """Recovered units of one kind of text by which side splits what the other has whole."""

    student_splits: int = 0
    teacher_splits: int = 0
    both_split: int = 0


@dataclass(frozen=True)
class StartDistance(Record):
    """One direction of the distance to the teacher before training, with the standard error over answers."""

    bits_per_byte: float
    stderr: float | None
    answers: int

    @property
    def text(self) -> str:
        error = "" if self.stderr is None else f" ± {self.stderr:.3f}"
        return f"{self.bits_per_byte:.3f}{error} bits per byte"


@dataclass(frozen=True, kw_only=True)
class Reliability(Record):
    """A pair measured with both models on answers of the student, and the verdict that follows.

    mass_student, mass_teacher, candidate_mass, prefix_conflict_mass, hindsight_mass: means over units, as
    losses.diagnostics defines them. kl_shared, kl_recovered: mean reverse KL in nats. recovered_share: share of the
    student's tokens. recovered_kinds: by kind of text. gradient_cosine: between the gradients of exact matches and of
    recovered units; None if nothing is recovered. gradient_ratio: the norm of the second over that of the first.
    gradient_noise: the cosine between the exact matches of two random halves of the answers, against which the other
    is read; None for one answer. top16_student, top16_teacher: either model's mass on the student's 16 most likely
    shared tokens. kl_units, kl_merged: of two neighboring units, one by one and merged (inspection/coarsening.py).
    answers: the number that was measured, of answers_written, of which
    answers_ended ended by themselves; excluded: answers left out, by reason. stopped: whether it was stopped before all
    prompts were answered. student_to_teacher, teacher_to_student: the distance to the teacher before training; None if
    it was not measured. listed: tokens that a teacher on a server listed at each position; None for one with all its
    probabilities. verdict: in words; method, method_options and settings (names as in run.yaml): what it recommends.
    """

    mass_student: float = 0.0
    mass_teacher: float = 0.0
    candidate_mass: float = 0.0
    prefix_conflict_mass: float = 0.0
    hindsight_mass: float = 0.0
    units_shared: int = 0
    units_recovered: int = 0
    kl_shared: float = 0.0
    kl_recovered: float = 0.0
    kl_quantiles: KlQuantiles = field(default_factory=KlQuantiles)
    z_t: MassHistogram = field(default_factory=lambda: MassHistogram([0.0], [0], [0], 0.0))
    recovered_share: float = 0.0
    recovered_kinds: dict[str, Splits] = field(default_factory=dict)
    gradient_cosine: float | None = None
    gradient_ratio: float | None = None
    gradient_noise: float | None = None
    top16_student: float | None = None
    top16_teacher: float | None = None
    kl_units: float | None = None
    kl_merged: float | None = None
    answers: int = 0
    answers_written: int = 0
    answers_ended: int = 0
    prompts_too_long: int = 0
    excluded: dict[str, int] = field(default_factory=dict)
    max_new_tokens: int = 0
    stopped: bool = False
    student_to_teacher: StartDistance | None = None
    teacher_to_student: StartDistance | None = None
    listed: int | None = field(default=None, metadata=ABSENT)
    verdict: str = ""
    method: str = ""
    method_options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def units(self) -> int:
        return self.units_shared + self.units_recovered


@dataclass(frozen=True, kw_only=True)
class PairRow(Record):
    """One pair in a table of several. `error` is the reason if it cannot be used; the numbers are then None.

    of_smaller: shared_tokens over the size of the smaller vocabulary. strict, recovered: shares of the student's
    tokens; teacher_strict: of the teacher's. method, verdict, reliability: None if no weights were read.
    """

    teacher: str
    student: str
    shared_tokens: int | None = None
    jaccard: float | None = None
    of_smaller: float | None = None
    strict: float | None = None
    recovered: float | None = None
    teacher_strict: float | None = None
    method: str | None = None
    verdict: str | None = None
    reliability: Reliability | None = None
    excluded: int = 0
    error: str | None = None


# The report


@dataclass(frozen=True, kw_only=True)
class PairReport(Record):
    """A pair on texts, each side in its own canonical tokenization; with more parts if they were requested.

    unit_shapes counts units as "k_S x k_T". by_kind: for each kind of text that occurs (text_kinds.KINDS); over the
    kinds the counts add up to the totals. excluded: texts that one side cannot spell and rows without text, by reason.
    disagreements_lost: by how much a count of a disagreement may be too low (0: all are exact). stopped,
    texts_remembered: of a corpus. source: what the texts are. comparison: other pairs on the same texts.
    """

    teacher: str | None = field(default=None, metadata=ABSENT)
    student: str | None = field(default=None, metadata=ABSENT)
    shared_tokens: int = 0
    jaccard: float = 0.0
    teacher_vocabulary: int = 0
    student_vocabulary: int = 0
    student_strict_coverage: float = 0.0
    teacher_strict_coverage: float = 0.0
    student_recovered_coverage: float = 0.0
    unit_shapes: dict[str, int] = field(default_factory=dict)
    by_kind: dict[str, KindTokens] = field(default_factory=dict)
    top_disagreements: list[Disagreement] = field(default_factory=list)
    disagreements_lost: int = 0
    excluded: dict[str, int] = field(default_factory=dict)
    texts: int = 0
    bytes: int = 0
    student_tokens: int = 0
    teacher_tokens: int = 0
    strict_tokens: int = 0
    recovered_tokens: int = 0
    stopped: bool | None = field(default=None, metadata=ABSENT)
    texts_remembered: int | None = field(default=None, metadata=ABSENT)
    source: str | None = field(default=None, metadata=ABSENT)
    candidates: MeasuredCandidates | Candidates | None = field(default=None, metadata=ABSENT)
    reliability: Reliability | None = field(default=None, metadata=ABSENT)
    comparison: list[PairRow] | None = field(default=None, metadata=ABSENT)

    @property
    def uncovered_tokens(self) -> int:
        """Student tokens that neither exact matching nor SimCT supervises."""
        return self.student_tokens - self.strict_tokens - self.recovered_tokens
