"""Units as single rows of probability: what `uld` (aligned) and `gold` compare.

A unit of several tokens is merged by the chain rule: the distribution at its last token times the probabilities of its
own earlier tokens, so a merged row sums to the probability of those. Shapes: U units, N units of a chunk, R rows of
those units, V vocabulary.
"""

from collections.abc import Callable

import torch

from simct.losses.settings import LossSettings
from simct.losses.side import Side, Totals
from simct.losses.unit_loss import sum_over_units
from simct.tokenization.units import UnitBatch

# Below this the product of a unit's earlier probabilities carries no gradient.
LEAST_PROBABILITY = 1e-8


def merged_units(
    units: UnitBatch,
    student: Side,
    teacher: Side,
    settings: LossSettings,
    loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> Totals:
    """Sum of `loss_of(student_NV, teacher_NV) -> [N]` over all units as merged rows."""
    return sum_over_units(units, student, teacher, settings, merge, loss_of)


def merge(logits_RV: torch.Tensor, ids: torch.Tensor, rows_R: torch.Tensor, owner_R: torch.Tensor) -> torch.Tensor:
    """Merged rows [N, V] from the logits of all rows of N units (rows_R, owner_R as row_ranges gives them)."""
    p_RV = torch.softmax(logits_RV, -1)
    last_R = torch.ones_like(owner_R, dtype=torch.bool)
    last_R[:-1] = owner_R[1:] != owner_R[:-1]
    if last_R.all():
        return p_RV
    own_R = p_RV.gather(1, ids[rows_R][:, None]).squeeze(1).clamp_min(LEAST_PROBABILITY)
    log_earlier_R = torch.where(last_R, 0.0, own_R.log())
    earlier_N = log_earlier_R.new_zeros(int(last_R.sum())).index_add(0, owner_R, log_earlier_R).exp()
    return p_RV[last_R] * earlier_N[:, None]
