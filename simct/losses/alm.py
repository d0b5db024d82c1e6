"""alm: approximate likelihood matching of chunks (Minixhofer et al. 2025, arXiv 2503.20083, Eq. 4-6).

A chunk is a unit; each model gives it the product of its own tokens' probabilities. With both raised to 1/τ, "this
chunk" and "anything else" are two outcomes, and the loss is the divergence between the two-outcome distributions. Only
the written text is looked at: no alternative is ever compared.
Shapes: N units of a chunk, R rows of those, V vocabulary.
"""

from typing import TYPE_CHECKING

import torch

from simct.losses.divergence import divergence
from simct.losses.settings import LossSettings
from simct.losses.side import Side, Totals, backpropagate
from simct.tokenization.units import UnitBatch, chunks_by_rows, row_ranges

if TYPE_CHECKING:
    from simct.tokenization.pair import TokenizerPair

# A chunk that a model is sure of leaves log 0 for "anything else".
LEAST_SURPRISE = 1e-7


def accumulate(
    pair: "TokenizerPair",
    units: UnitBatch,
    student: Side,
    teacher: Side,
    settings: LossSettings,
    *,
    chunk_temperature: float = 100.0,
) -> Totals:
    """Sum of two-outcome divergences over units. `chunk_temperature` is τ (100 in the paper)."""
    single_U = units.single_U
    loss_sum, shared_sum = settings.zero(), settings.zero()
    for chunk_N in chunks_by_rows(torch.arange(len(units), device=single_U.device), units, settings.chunk_rows):
        teacher_rows = row_ranges(units.teacher_start_U[chunk_N], units.teacher_end_U[chunk_N])
        teacher_N = chunk_log_probability(teacher.block(teacher_rows[0]).logits_NC, units.teacher_ids_T, *teacher_rows)
        target_N2 = outcomes(teacher_N, chunk_temperature)
        student_rows = row_ranges(units.student_start_U[chunk_N], units.student_end_U[chunk_N])

        def value(
            logits_RV: torch.Tensor,
            rows: tuple[torch.Tensor, torch.Tensor] = student_rows,
            target_N2: torch.Tensor = target_N2,
        ) -> torch.Tensor:
            student_N2 = outcomes(chunk_log_probability(logits_RV, units.student_ids_S, *rows), chunk_temperature)
            return divergence(student_N2, target_N2, settings.divergence, settings.beta)

        value_N = backpropagate(student.block(student_rows[0]), value)
        loss_sum += value_N.sum()
        shared_sum += value_N[single_U[chunk_N]].sum()
    singles = single_U.sum()
    stats: dict[str, float | torch.Tensor] = {
        "kl_shared": shared_sum / singles.clamp_min(1),
        "kl_recovered": (loss_sum - shared_sum) / (len(units) - singles).clamp_min(1),
        "units_recovered": len(units) - singles,
    }
    return Totals(loss_sum, len(units), stats)


def chunk_log_probability(
    logits_RV: torch.Tensor, ids: torch.Tensor, rows_R: torch.Tensor, owner_R: torch.Tensor
) -> torch.Tensor:
    """Log-probability [N] of each unit: the sum over its own tokens."""
    own_R = torch.log_softmax(logits_RV, -1).gather(1, ids[rows_R][:, None]).squeeze(1)
    count = int(owner_R[-1]) + 1 if len(owner_R) else 0
    return own_R.new_zeros(count).index_add(0, owner_R, own_R)


def outcomes(log_p_N: torch.Tensor, chunk_temperature: float) -> torch.Tensor:
    """log p^(1/τ) and log(1 - p^(1/τ)), stacked [N, 2]."""
    scaled_N = (log_p_N / chunk_temperature).clamp_max(-LEAST_SURPRISE)
    return torch.stack([scaled_N, torch.log(-torch.expm1(scaled_N))], 1)
