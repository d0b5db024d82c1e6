"""The scores of many units at once: both models, as SimCT compares them.

Shapes: N units of a chunk, R rows of those units, V vocabulary, C shared columns, K most likely shared tokens.
"""

from dataclasses import dataclass, fields

import torch

from simct.inspection.records import UnitScore
from simct.losses.divergence import LOG_ZERO, divergence_with_gradient
from simct.losses.side import Side
from simct.tokenization.units import UnitBatch, row_ranges

TOP = 16  # the top_k of strict in its strongest published form


@dataclass
class ScoredUnits:
    """Both models at N units, each [N] on the CPU, with the meaning of UnitScore's fields; further top_s, top_t."""

    student_logprob: torch.Tensor
    teacher_logprob: torch.Tensor
    student_score: torch.Tensor
    teacher_score: torch.Tensor
    kl: torch.Tensor
    z_s: torch.Tensor
    z_t: torch.Tensor
    top_s: torch.Tensor  # mass of either model on the student's TOP most likely shared tokens
    top_t: torch.Tensor

    def rows(self) -> list[UnitScore]:
        columns = (getattr(self, each.name).tolist() for each in fields(UnitScore))
        return [UnitScore(*row) for row in zip(*columns, strict=True)]


def score_chunk(units: UnitBatch, chunk_N: torch.Tensor, student: Side, teacher: Side) -> ScoredUnits:
    """The scores of the units of a batch chosen by index.

    student, teacher: the sides of a loss (simct.losses.side) over the batch's rows; one chunk's whole rows are made.
    """
    ours, theirs = (
        _side_scores(side, starts_U[chunk_N], ends_U[chunk_N], ids_R)
        for side, starts_U, ends_U, ids_R in (
            (student, units.student_start_U, units.student_end_U, units.student_ids_S),
            (teacher, units.teacher_start_U, units.teacher_end_U, units.teacher_ids_T),
        )
    )
    is_candidate_N = ~units.single_U[chunk_N]
    # if a teacher lists only its most likely tokens, only these are candidates
    ours.shared_NC.masked_fill_(theirs.shared_NC < LOG_ZERO / 2, LOG_ZERO)
    scores_NC, teacher_scores_NC = (
        torch.cat([side.shared_NC, side.mean_N.where(is_candidate_N, LOG_ZERO)[:, None]], 1) for side in (ours, theirs)
    )
    kl_N, _ = divergence_with_gradient(scores_NC, teacher_scores_NC, "reverse_kl")
    top_NK = ours.shared_NC.topk(min(TOP, ours.shared_NC.shape[1]), dim=1).indices
    return ScoredUnits(
        student_logprob=ours.joint_N,
        teacher_logprob=theirs.joint_N,
        student_score=ours.mean_N,
        teacher_score=theirs.mean_N,
        kl=kl_N,
        z_s=scores_NC.logsumexp(1).exp(),
        z_t=teacher_scores_NC.logsumexp(1).exp(),
        top_s=ours.shared_NC.gather(1, top_NK).exp().sum(1),
        top_t=theirs.shared_NC.gather(1, top_NK).exp().sum(1),
    )


@dataclass
class _SideScores:
    """One model at N units: log p of the shared tokens [N, C] at their starts, and of the units, joint and mean [N]."""

    shared_NC: torch.Tensor
    joint_N: torch.Tensor
    mean_N: torch.Tensor


def _side_scores(side: Side, start_N: torch.Tensor, end_N: torch.Tensor, ids_R: torch.Tensor) -> _SideScores:
    device = side.tensors[0].device
    rows_R, owner_R = row_ranges(start_N, end_N)
    size_N = end_N - start_N
    first_N = torch.cumsum(size_N, 0) - size_N
    log_p_RV = torch.log_softmax(side.block(rows_R.to(device)).logits_NC, -1)
    own_R = log_p_RV.gather(1, ids_R[rows_R].to(device)[:, None]).squeeze(1).cpu()
    joint_N = own_R.new_zeros(len(start_N)).index_add_(0, owner_R, own_R)
    shared_NC = log_p_RV.index_select(0, first_N.to(device)).index_select(1, side.shared_ids_C).cpu()
    return _SideScores(shared_NC, joint_N, joint_N / size_N)
