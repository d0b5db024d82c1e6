"""Losses between two models that tokenize the same text differently. One file for each method of simct.methods.

Shapes: S student rows, T teacher rows (row j is the distribution that predicts that side's id j, rows of several
sequences one after another), V vocabulary, H hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from simct.errors import AlignmentError
from simct.losses import alm, bpm, dpca, escd, gold, marginal, simct, strict, uld
from simct.losses.diagnostics import measure
from simct.losses.divergence import check_divergence
from simct.losses.head import Head
from simct.losses.settings import LossSettings
from simct.losses.side import HeadSide, ListedSide, LogitsSide, Side, Totals, chunk_rows_for, one_pass
from simct.losses.teacher_rows import HiddenRows, TeacherRows, side_of
from simct.methods import METHODS, LossOptions, check_listed, checked_options
from simct.tokenization.units import UnitBatch, as_sequences, build_units

if TYPE_CHECKING:
    from simct.tokenization.pair import TokenizerPair

MODULES = {
    "simct": simct,
    "strict": strict,
    "marginal": marginal,
    "bpm": bpm,
    "escd": escd,
    "uld": uld,
    "gold": gold,
    "alm": alm,
    "dpca": dpca,
}
# Token ids of one sequence, or of several.
Ids = Sequence[int] | Sequence[Sequence[int]]


@dataclass(eq=False)
class LossResult:
    """`loss` is the mean over `rows`, `loss_sum` their sum (both differentiable, zero if there are no rows).

    `stats` are plain floats: counts of units by kind, coverage (shares of student tokens), divergences by kind, and
    what simct.losses.diagnostics measures. `counts` is that of simct.losses.side.Totals.
    """

    loss: torch.Tensor
    rows: int
    loss_sum: torch.Tensor
    stats: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


def compute(
    method: str,
    pair: "TokenizerPair",
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    student_ids: Ids,
    teacher_ids: Ids,
    divergence: str | None = None,
    **options: Any,
) -> LossResult:
    """The loss of `method` from full logits: student [S, V_s], teacher [T, V_t]; ids are a sequence or a list of them.

    `divergence` None is the method's own. `options` are those of the method in simct.methods; every method takes beta,
    temperature, diagnostics and chunk_rows. Raises ConfigError for an unknown method or option and for a value that is
    not allowed, AlignmentError if ids and logits do not match or the two sides spell different bytes.
    """
    checked, device = checked_options(method, options), student_logits.device
    student = LogitsSide(student_logits, pair.shared_student_ids.to(device), checked.temperature)
    teacher_logits = teacher_logits.detach().to(device)
    teacher = LogitsSide(teacher_logits, pair.shared_teacher_ids.to(device), checked.temperature)
    return _run(method, pair, student, teacher, student_ids, teacher_ids, divergence, checked)


def compute_from_hidden(
    method: str,
    pair: "TokenizerPair",
    student_hidden: torch.Tensor,
    student_head: Head,
    teacher_hidden: torch.Tensor,
    teacher_head: Head,
    student_ids: Ids,
    teacher_ids: Ids,
    divergence: str | None = None,
    **options: Any,
) -> LossResult:
    """The same loss from last hidden states (student [S, H_s], teacher [T, H_t]) and heads, without full logits.

    Logits exist for at most `chunk_rows` rows of each side at a time; gradients reach the student's hidden states, its
    head's weight and bias. The result allows one backward. Raises as `compute` does.
    """
    teacher = HiddenRows(teacher_hidden, teacher_head)
    return compute_from_rows(
        method, pair, student_hidden, student_head, teacher, student_ids, teacher_ids, divergence, **options
    )


def compute_from_rows(
    method: str,
    pair: "TokenizerPair",
    student_hidden: torch.Tensor,
    student_head: Head,
    teacher: TeacherRows,
    student_ids: Ids,
    teacher_ids: Ids,
    divergence: str | None = None,
    **options: Any,
) -> LossResult:
    """`compute_from_hidden` with the rows of a teacher of simct.models.teachers. Raises as `compute` does."""
    checked, device = checked_options(method, options), student_hidden.device
    student = HeadSide(student_hidden, student_head, pair.shared_student_ids.to(device), checked.temperature)
    theirs = side_of(teacher, pair.shared_teacher_ids, device, checked.temperature)
    return _run(method, pair, student, theirs, student_ids, teacher_ids, divergence, checked)


def _run(
    method: str,
    pair: "TokenizerPair",
    student: Side,
    teacher: Side,
    student_ids: Ids,
    teacher_ids: Ids,
    divergence: str | None,
    options: LossOptions,
) -> LossResult:
    # ignored by methods that use no divergence
    if isinstance(teacher, ListedSide):
        check_listed(method)
    divergence = divergence or METHODS[method].divergence or "reverse_kl"
    check_divergence(divergence)
    units = _units(pair, student, teacher, student_ids, teacher_ids)
    rows = student.tensors[0]
    block_rows = chunk_rows_for(rows.device, max(student.vocabulary, teacher.vocabulary), options.chunk_rows)
    dtype = torch.float64 if rows.dtype == torch.float64 else torch.float32
    shared_rows = chunk_rows_for(rows.device, len(pair.shared_student_ids), options.chunk_rows)
    settings = LossSettings(divergence, options.beta, block_rows, shared_rows, rows.device, dtype)
    own = {name: getattr(options, name) for name in METHODS[method].own_options}
    measured: dict[str, torch.Tensor | float] = {}

    def work(student: Side, teacher: Side) -> Totals:
        if options.diagnostics:
            measured.update(measure(pair, units, student, teacher))
        return MODULES[method].accumulate(pair, units, student, teacher, settings, **own)

    loss_sum, totals = one_pass(work, student, teacher)
    stats = {**_coverage(units), **totals.stats, **measured}
    stats["units_outside"] = len(units) - stats["units_shared"] - stats["units_recovered"]
    return LossResult(loss_sum / max(totals.rows, 1), totals.rows, loss_sum, _floats(stats), totals.counts)


def _units(pair: "TokenizerPair", student: Side, teacher: Side, student_ids: Ids, teacher_ids: Ids) -> UnitBatch:
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
        # Apple's devices have no float64
        wide = torch.float32 if stats[names[0]].device.type == "mps" else torch.float64
        values = torch.stack([stats[name].detach().to(wide) for name in names]).tolist()
        plain.update(zip(names, values, strict=True))
    return {name: plain[name] for name in stats}
