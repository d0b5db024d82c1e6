"""The loop over units for methods that compare whole units: `alm`, `dpca`, `gold`, and `uld` with `aligned`.

Shapes: U units, N units of a chunk, R rows of those units, V vocabulary.
"""

from collections.abc import Callable
from functools import partial

import torch

from simct.losses.settings import LossSettings
from simct.losses.side import Side, Totals, backpropagate
from simct.tokenization.units import UnitBatch, chunks_by_rows, row_ranges

# (logits_RV, ids of all rows, rows_R, owner_R, the last two as row_ranges gives them) -> what a model says of N units
ReadUnits = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def written_log_probabilities(logits_RV: torch.Tensor, ids: torch.Tensor, rows_R: torch.Tensor) -> torch.Tensor:
    """Log-probability [R] of the token that was written at each row."""
    return torch.log_softmax(logits_RV, -1).gather(1, ids[rows_R][:, None]).squeeze(1)


def sum_over_units(
    units: UnitBatch,
    student: Side,
    teacher: Side,
    settings: LossSettings,
    read: ReadUnits,
    loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> Totals:
    """Sum of `loss_of(student's, teacher's) -> [N]` over all units, each side as `read` gives it."""

    def value(logits_RV: torch.Tensor, rows: tuple[torch.Tensor, torch.Tensor], theirs: torch.Tensor) -> torch.Tensor:
        return loss_of(read(logits_RV, units.student_ids_S, *rows), theirs)

    single_U = units.single_U
    every_U = torch.arange(len(units), device=single_U.device)
    loss_sum, shared_sum = settings.zero(), settings.zero()
    for chunk_N in chunks_by_rows(every_U, units, settings.chunk_rows):
        teacher_rows = row_ranges(units.teacher_start_U[chunk_N], units.teacher_end_U[chunk_N])
        theirs = read(teacher.block(teacher_rows[0]).logits_NC, units.teacher_ids_T, *teacher_rows)
        student_rows = row_ranges(units.student_start_U[chunk_N], units.student_end_U[chunk_N])
        value_N = backpropagate(student.block(student_rows[0]), partial(value, rows=student_rows, theirs=theirs))
        loss_sum += value_N.sum()
        shared_sum += value_N[single_U[chunk_N]].sum()
    singles = single_U.sum()
    stats: dict[str, float | torch.Tensor] = {
        "kl_shared": shared_sum / singles.clamp_min(1),
        "kl_recovered": (loss_sum - shared_sum) / (len(units) - singles).clamp_min(1),
        "units_recovered": len(units) - singles,
    }
    return Totals(loss_sum, len(units), stats)
