"""Losses between two models that tokenize the same text differently. One file a method; `METHODS` names them all.

Shapes: S student rows, T teacher rows (row j is the distribution that predicts that side's id j, rows of several
sequences one after another), V vocabulary, H hidden size.
"""

import inspect
from dataclasses import dataclass, field

import torch

from simct.errors import AlignmentError, ConfigError
from simct.losses import alm, bpm, escd, gold, marginal, simct, strict, uld
from simct.losses.diagnostics import measure
from simct.losses.divergence import check_divergence
from simct.losses.side import Head, HeadSide, LogitsSide, chunk_rows_for, one_pass
from simct.tokenization.units import UnitBatch, as_sequences, build_units

__all__ = ["METHODS", "Head", "LossResult", "check_options", "compute", "compute_from_hidden"]

METHODS = {
    "simct": simct,
    "strict": strict,
    "marginal": marginal,
    "bpm": bpm,
    "escd": escd,
    "uld": uld,
    "gold": gold,
    "alm": alm,
}


@dataclass(eq=False)
class LossResult:
    """`loss` is the mean over `rows`, `loss_sum` their sum (both differentiable, zero where there are no rows).

    `stats` are plain floats: counts of units by kind, coverage (shares of student tokens), divergences by kind, and
    what simct.losses.diagnostics measures.
    """

    loss: torch.Tensor
    rows: int
    loss_sum: torch.Tensor
    stats: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """What every method is told besides its own options."""

    divergence: str
    beta: float
    chunk_rows: int
    shared_chunk_rows: int
    device: torch.device
    dtype: torch.dtype

    def zero(self) -> torch.Tensor:
        return torch.zeros((), device=self.device, dtype=self.dtype)


def compute(
    method: str,
    pair,
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    student_ids,
    teacher_ids,
    divergence: str | None = None,
    *,
    beta: float = 0.5,
    temperature: float = 1.0,
    diagnostics: bool = True,
    chunk_rows: int | None = None,
    **options,
) -> LossResult:
    """The loss of `method` from full logits: student [S, V_s], teacher [T, V_t]; ids are a sequence or a list of them.

    `divergence` None is the method's own: reverse_kl, but forward_kl for bpm and alm; uld has none.
    `temperature` divides both models' logits. Options are those of the method's file. Raises ConfigError for an unknown
    method or option, AlignmentError where ids and logits do not fit or the two sides spell different bytes.
    """
    device = student_logits.device
    student = LogitsSide(student_logits, pair.shared_student_ids.to(device), temperature)
    teacher = LogitsSide(teacher_logits.detach().to(device), pair.shared_teacher_ids.to(device), temperature)
    common = (divergence, beta, temperature, diagnostics, chunk_rows)
    return _run(method, pair, student, teacher, student_ids, teacher_ids, common, options)


def compute_from_hidden(
    method: str,
    pair,
    student_hidden: torch.Tensor,
    student_head: Head,
    teacher_hidden: torch.Tensor,
    teacher_head: Head,
    student_ids,
    teacher_ids,
    divergence: str | None = None,
    *,
    chunk_rows: int | None = None,
    beta: float = 0.5,
    temperature: float = 1.0,
    diagnostics: bool = True,
    **options,
) -> LossResult:
    """The same loss from last hidden states (student [S, H_s], teacher [T, H_t]) and heads, without full logits.

    Logits exist for at most `chunk_rows` rows of each side at a time; gradients reach the student's hidden states, its
    head's weight and bias. The result allows one backward. Raises as `compute` does.
    """
    device = student_hidden.device
    student = HeadSide(student_hidden, student_head, pair.shared_student_ids.to(device), temperature)
    teacher = HeadSide(teacher_hidden.to(device), teacher_head, pair.shared_teacher_ids.to(device), temperature)
    common = (divergence, beta, temperature, diagnostics, chunk_rows)
    return _run(method, pair, student, teacher, student_ids, teacher_ids, common, options)


def _run(method, pair, student, teacher, student_ids, teacher_ids, common, options) -> LossResult:
    divergence, beta, temperature, diagnostics, chunk_rows = common
    module = _method(method, options)
    divergence = divergence or getattr(module, "DIVERGENCE", "reverse_kl")
    check_divergence(divergence, beta)
    if not temperature > 0.0:
        raise ConfigError(f"temperature must be positive, got {temperature}.")
    units = _units(pair, student, teacher, student_ids, teacher_ids)
    rows = student.tensors[0]
    block_rows = chunk_rows_for(rows.device, max(student.vocabulary, teacher.vocabulary), chunk_rows)
    dtype = torch.float64 if rows.dtype == torch.float64 else torch.float32
    shared_rows = chunk_rows_for(rows.device, len(pair.shared_student_ids), chunk_rows)
    settings = Settings(divergence, beta, block_rows, shared_rows, rows.device, dtype)
    measured = {}

    def work(student, teacher):
        if diagnostics:
            measured.update(measure(pair, units, student, teacher, settings))
        return module.accumulate(pair, units, student, teacher, settings, **options)

    loss_sum, totals = one_pass(work, student, teacher)
    stats = {**_coverage(units), **totals.stats, **measured}
    stats["units_outside"] = len(units) - stats["units_shared"] - stats["units_recovered"]
    return LossResult(loss_sum / max(totals.rows, 1), totals.rows, loss_sum, _floats(stats))


def check_options(method: str, pair, divergence: str | None = None, **options) -> None:
    """Raise ConfigError for what `compute` would refuse of these, or could not use: it is given no text, so no time."""
    none = torch.zeros(0, len(pair.student.bytes_of)), torch.zeros(0, len(pair.teacher.bytes_of))
    try:
        compute(method, pair, *none, [], [], divergence, **{"diagnostics": False, **options})
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"An option of method {method!r} has a value of the wrong kind: {error}.") from error


def _method(name: str, options: dict):
    if name not in METHODS:
        raise ConfigError(f"Unknown method {name!r}. Choose one of: {', '.join(METHODS)}.")
    known = list(inspect.signature(METHODS[name].accumulate).parameters)[5:]
    for option in options:
        if option not in known:
            told = ", ".join(known) or "none"
            raise ConfigError(f"Unknown option {option!r} of method {name!r}. Its options: {told}.")
    return METHODS[name]


def _units(pair, student, teacher, student_ids, teacher_ids) -> UnitBatch:
    student_sequences, teacher_sequences = as_sequences(student_ids), as_sequences(teacher_ids)
    if len(student_sequences) != len(teacher_sequences):
        raise AlignmentError(
            f"{len(student_sequences)} student sequences but {len(teacher_sequences)} teacher sequences."
        )
    for side, sequences, name in ((student, student_sequences, "student"), (teacher, teacher_sequences, "teacher")):
        count, rows = sum(map(len, sequences)), side.tensors[0].shape[0]
        if count != rows:
            raise AlignmentError(f"The {name} has {count} ids but {rows} rows: row j must predict id j.")
    units = build_units(pair, zip(teacher_sequences, student_sequences, strict=True))
    return units.to(student.tensors[0].device)


def _coverage(units: UnitBatch) -> dict[str, float | torch.Tensor]:
    single_U, size_U = units.single_U, units.student_size_U
    tokens = max(len(units.student_ids_S), 1)
    return {
        "units_shared": single_U.sum(),
        "units_recovered": 0,
        "coverage_strict": single_U.sum() / tokens,
        "coverage_recovered": (size_U * ~single_U).sum() / tokens,
    }


def _floats(stats: dict) -> dict[str, float]:
    """All statistics as plain floats, with a single transfer from the device."""
    names = [name for name, value in stats.items() if isinstance(value, torch.Tensor)]
    plain = {name: float(value) for name, value in stats.items() if name not in names}
    if names:
        values = torch.stack([stats[name].detach().double() for name in names]).tolist()
        plain.update(zip(names, values, strict=True))
    return {name: plain[name] for name in stats}
