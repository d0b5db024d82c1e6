"""strict: supervise only units of one token on both sides, over the shared tokens renormalized.

The baseline that exact token matching gives (arXiv 2605.07711, section 2). `top_k` keeps, of the shared tokens, the
student's own k most likely ones, on which both distributions are renormalized (arXiv 2610.08448; k = 16 there). If a
teacher lists only some tokens, only those are compared.
Shapes: U units, N units of a chunk, C shared columns.
"""

from typing import TYPE_CHECKING

import torch

from simct.losses.divergence import LOG_ZERO, divergence_with_gradient
from simct.losses.settings import LossSettings
from simct.losses.side import Side, Totals, pieces_of, row_chunks
from simct.tokenization.units import UnitBatch

if TYPE_CHECKING:
    from simct.tokenization.pair import TokenizerPair


def accumulate(
    pair: "TokenizerPair",
    units: UnitBatch,
    student: Side,
    teacher: Side,
    settings: LossSettings,
    *,
    top_k: int | None = None,
) -> Totals:
    """Sum of divergences over the 1:1 units. Rows are those units."""
    single_N = units.single_U.nonzero().squeeze(1)
    loss_sum = add_single_units(units, single_N, student, teacher, settings, top_k)
    return Totals(loss_sum, len(single_N), {"kl_shared": loss_sum / max(len(single_N), 1)})


def add_single_units(
    units: UnitBatch,
    single_N: torch.Tensor,
    student: Side,
    teacher: Side,
    settings: LossSettings,
    top_k: int | None = None,
) -> torch.Tensor:
    """Loss sum over the given 1:1 units on the shared tokens; their gradients go to the student's side."""
    loss_sum = settings.zero()
    for chunk_N in row_chunks(single_N, settings.shared_chunk_rows):
        block = student.block(units.student_start_U[chunk_N], shared=True)
        theirs = teacher.block(units.teacher_start_U[chunk_N], shared=True)
        values = []
        for piece in pieces_of(block.product_NC):
            student_NC, teacher_NC = block.read(piece), theirs.read(piece)
            if theirs.listed_NC is not None:
                student_NC.masked_fill_(~theirs.listed_NC[piece], LOG_ZERO)
            if top_k is not None and top_k < student_NC.shape[1]:
                left_out_NC = torch.ones_like(student_NC, dtype=torch.bool)
                left_out_NC.scatter_(1, student_NC.topk(top_k, dim=1).indices, False)
                student_NC.masked_fill_(left_out_NC, LOG_ZERO)
                teacher_NC.masked_fill_(left_out_NC, LOG_ZERO)
            value_N, gradient_NC = divergence_with_gradient(student_NC, teacher_NC, settings.divergence, settings.beta)
            values.append(value_N)
            block.write(gradient_NC, piece)
        loss_sum += torch.cat(values).sum()
        block.backward()
    return loss_sum
