"""The KL that is seen when units are compared one by one but not when merged: Proposition 1 of arXiv 2605.07711.

Two neighboring units have a joint distribution: the first unit's candidates and, if the written candidate is chosen,
the second unit's. By the chain rule, its KL is the KL of the first unit plus the student's probability of the written
candidate times the KL of the second unit. If both units are merged, the second is known only as "as written" or
"otherwise". That is a coarser partition of the same events, so its KL is never larger. Shapes: U units, P pairs of
neighboring units.
"""

import torch

# a probability of 0 or 1 has no logarithm
TINY = 1e-12


def written_kl(student_U: torch.Tensor, teacher_U: torch.Tensor) -> torch.Tensor:
    """Reverse KL (nats) of "as written" against "otherwise", from both models' probabilities of what was written."""
    total_U = torch.zeros_like(student_U)
    for one_U, other_U in ((student_U, teacher_U), (1 - student_U, 1 - teacher_U)):
        total_U += one_U * (one_U.clamp_min(TINY).log() - other_U.clamp_min(TINY).log())
    return total_U


def neighboring_kl(
    kl_U: torch.Tensor, student_U: torch.Tensor, teacher_U: torch.Tensor, sequence_U: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Reverse KL (nats) of every two neighboring units of one answer, compared one by one and merged; [P] each.

    kl_U: of a unit's candidates. student_U, teacher_U: the normalized probability of the candidate that was written.
    """
    pair_P = (sequence_U[1:] == sequence_U[:-1]).nonzero().squeeze(1)
    first_P, written_P = kl_U[pair_P], student_U[pair_P]
    apart_P = first_P + written_P * kl_U[pair_P + 1]
    merged_P = first_P + written_P * written_kl(student_U, teacher_U)[pair_P + 1]
    return apart_P, merged_P
