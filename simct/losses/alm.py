"""alm: approximate likelihood matching of chunks (Minixhofer et al. 2025, arXiv 2503.20083, Eq. 4-6).

A chunk is a unit; each model gives it the product of its own tokens' probabilities. With both raised to 1/τ, "this
chunk" and "anything else" are two outcomes, and the loss is the divergence between the two-outcome distributions. Only
the written text counts: no alternative is ever compared.
Shapes: N units of a chunk, R rows of those, V vocabulary.
"""

from typing import TYPE_CHECKING

import torch

from simct.losses.divergence import divergence
from simct.losses.settings import LossSettings
from simct.losses.side import Side, Totals
from simct.losses.unit_loss import sum_over_units, written_log_probabilities
from simct.tokenization.units import UnitBatch

if TYPE_CHECKING:
    from simct.tokenization.pair import TokenizerPair

# If a model is certain of a chunk, the log of "anything else" would be log 0.
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

    def read(logits_RV: torch.Tensor, ids: torch.Tensor, rows_R: torch.Tensor, owner_R: torch.Tensor) -> torch.Tensor:
        return outcomes(chunk_log_probability(logits_RV, ids, rows_R, owner_R), chunk_temperature)

    def loss_of(student_N2: torch.Tensor, teacher_N2: torch.Tensor) -> torch.Tensor:
        return divergence(student_N2, teacher_N2, settings.divergence, settings.beta)

    return sum_over_units(units, student, teacher, settings, read, loss_of)


def chunk_log_probability(
    logits_RV: torch.Tensor, ids: torch.Tensor, rows_R: torch.Tensor, owner_R: torch.Tensor
) -> torch.Tensor:
    """Log-probability [N] of each unit: the sum over its own tokens."""
    own_R = written_log_probabilities(logits_RV, ids, rows_R)
    count = int(owner_R[-1]) + 1 if len(owner_R) else 0
    return own_R.new_zeros(count).index_add(0, owner_R, own_R)


def outcomes(log_p_N: torch.Tensor, chunk_temperature: float) -> torch.Tensor:
    """log p^(1/τ) and log(1 - p^(1/τ)), stacked [N, 2]."""
    scaled_N = (log_p_N / chunk_temperature).clamp_max(-LEAST_SURPRISE)
    return torch.stack([scaled_N, torch.log(-torch.expm1(scaled_N))], 1)
