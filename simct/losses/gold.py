"""gold: merged spans, a divergence where tokens match and sorted distance where they do not (TRL's GOLD).

"Unlocking On-Policy Distillation for Any Model Family" (Patiño et al. 2025): units are merged into single rows of
probability; the (unnormalized) masses of shared tokens are compared by a divergence, all others by sorted L1. The
weight of the first part is the share of the teacher's vocabulary that is shared, unless given.
Shapes: N units of a chunk, V vocabulary, C shared columns.
"""

import math
from typing import TYPE_CHECKING

import torch

from simct.losses.merged_units import merged_units
from simct.losses.settings import LossSettings
from simct.losses.side import Side, Totals
from simct.losses.uld import sorted_distance
from simct.tokenization.units import UnitBatch

if TYPE_CHECKING:
    from simct.tokenization.pair import TokenizerPair

LEAST_MASS = 1e-8


def accumulate(
    pair: "TokenizerPair",
    units: UnitBatch,
    student: Side,
    teacher: Side,
    settings: LossSettings,
    *,
    matched_weight: float | None = None,
    unmatched_weight: float | None = None,
) -> Totals:
    """Sum over units of weighted matched divergence and unmatched distance. Both weights or neither are given."""
    if matched_weight is None or unmatched_weight is None:
        matched_weight = len(student.shared_ids_C) / teacher.vocabulary
        unmatched_weight = 1.0 - matched_weight
    only_student = _others(student.vocabulary, student.shared_ids_C)
    only_teacher = _others(teacher.vocabulary, teacher.shared_ids_C)

    def value(student_NV: torch.Tensor, teacher_NV: torch.Tensor) -> torch.Tensor:
        value_N = matched_weight * matched_divergence(
            student_NV.index_select(1, student.shared_ids_C),
            teacher_NV.index_select(1, teacher.shared_ids_C),
            settings.divergence,
            settings.beta,
        )
        if len(only_student) and len(only_teacher):
            distance_N = sorted_distance(
                student_NV.index_select(1, only_student), teacher_NV.index_select(1, only_teacher)
            )
            value_N = value_N + unmatched_weight * distance_N
        return value_N

    return merged_units(units, student, teacher, settings, value)


def _others(vocabulary: int, ids_C: torch.Tensor) -> torch.Tensor:
    rest_V = torch.ones(vocabulary, dtype=torch.bool, device=ids_C.device)
    rest_V[ids_C] = False
    return rest_V.nonzero().squeeze(1)


def matched_divergence(student_NC: torch.Tensor, teacher_NC: torch.Tensor, name: str, beta: float) -> torch.Tensor:
    """Σ p·log(p/q) forms [N] on masses that need not sum to one, as GOLD applies them to merged rows."""
    student_NC, teacher_NC = student_NC.clamp_min(LEAST_MASS), teacher_NC.clamp_min(LEAST_MASS)
    log_student_NC, log_teacher_NC = student_NC.log(), teacher_NC.log()
    if name == "reverse_kl":
        return (student_NC * (log_student_NC - log_teacher_NC)).sum(-1)
    if name == "forward_kl":
        return (teacher_NC * (log_teacher_NC - log_student_NC)).sum(-1)
    log_mix_NC = torch.logaddexp(log_student_NC + math.log1p(-beta), log_teacher_NC + math.log(beta))
    teacher_N = (teacher_NC * (log_teacher_NC - log_mix_NC)).sum(-1)
    student_N = (student_NC * (log_student_NC - log_mix_NC)).sum(-1)
    return beta * teacher_N + (1.0 - beta) * student_N
