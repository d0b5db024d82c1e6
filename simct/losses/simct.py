"""SimCT: shared tokens plus the aligned unit itself as one more candidate (arXiv 2605.07711, Eq. 6-9).

At a unit's start both models have read the same text h. Candidates are the shared tokens and, where the unit takes more
than one token on either side, the unit u. A shared token scores log p(v|h); u scores the mean of its own tokens'
log-probabilities under the model that reads them. Each model's scores are normalised by a softmax, and the loss is the
divergence between the two, averaged over units. Shapes: U units, N units of a chunk, R rows of those units,
V vocabulary, C shared columns.
"""

import torch

from simct.divergence import LOG_ZERO, divergence_with_gradient
from simct.errors import ConfigError
from simct.losses.chunked import Totals
from simct.losses.strict import add_single_units
from simct.units import UnitBatch, chunks_by_rows, row_ranges

SCORINGS = ("log_probs", "raw_logits")


def accumulate(
    pair, units: UnitBatch, student, teacher, settings, scoring: str = "log_probs", prefix_free: bool = False
) -> Totals:
    """Sum of divergences over all units. Rows are units.

    scoring: `log_probs` as published, or `raw_logits`, the mean of raw logits, as the authors' released code has it.
    prefix_free: leave out, in a unit's row, the shared token that is the unit's own first piece on either side.
    """
    if scoring not in SCORINGS:
        raise ConfigError(f"Unknown scoring {scoring!r}. Choose one of: {', '.join(SCORINGS)}.")
    single_U = units.single_U
    single_N, multi_N = single_U.nonzero().squeeze(1), (~single_U).nonzero().squeeze(1)
    shared_sum = add_single_units(units, single_N, student, teacher, settings)
    recovered_sum = settings.zero()
    for chunk_N in chunks_by_rows(multi_N, units, settings.chunk_rows):
        recovered_sum += _add_units(pair, units, chunk_N, student, teacher, settings, scoring, prefix_free)
    return Totals(
        shared_sum + recovered_sum,
        len(units),
        {
            "kl_shared": shared_sum / max(len(single_N), 1),
            "kl_recovered": recovered_sum / max(len(multi_N), 1),
            "units_recovered": len(multi_N),
        },
    )


class _UnitScores:
    """One model's candidate scores [N, C+1] for multi-token units, and the way back from their gradient."""

    def __init__(self, side, start_N, end_N, ids_R, shared_ids_C, scoring: str):
        self.rows_R, self.owner_R = row_ranges(start_N, end_N)
        self.ids_R, self.shared_ids_C, self.raw = ids_R[self.rows_R], shared_ids_C, scoring == "raw_logits"
        self.size_N = end_N - start_N
        self.first_N = torch.cumsum(self.size_N, 0) - self.size_N
        self.block = side.block(self.rows_R)
        self.score_RV = self.block.logits_NC
        if not self.raw:
            self.score_RV = torch.log_softmax(self.score_RV, -1)
        own_R = self.score_RV.gather(1, self.ids_R[:, None]).squeeze(1)
        unit_N = own_R.new_zeros(len(start_N)).index_add_(0, self.owner_R, own_R / self.size_N[self.owner_R])
        shared_NC = self.score_RV[self.first_N].index_select(1, shared_ids_C)
        self.scores_NC = torch.cat([shared_NC, unit_N[:, None]], 1)

    def backward(self, gradient_NC: torch.Tensor) -> None:
        """Carry a gradient whose rows sum to zero from candidate scores to the logits of every row of the unit."""
        per_token_R = (gradient_NC[:, -1] / self.size_N)[self.owner_R]
        if self.raw:
            gradient_RV = torch.zeros_like(self.score_RV)
        else:
            # Every log-probability brings -p times its own gradient: the unit's share at each of its tokens, and at
            # the first row also all the shared candidates, which sum to minus the unit's.
            weight_R = -per_token_R
            weight_R[self.first_N] += gradient_NC[:, -1]
            gradient_RV = self.score_RV.exp_().mul_(weight_R[:, None])
        index = (self.first_N[:, None], self.shared_ids_C[None, :])
        gradient_RV[index] += gradient_NC[:, :-1]
        rows_R = torch.arange(len(per_token_R), device=per_token_R.device)
        gradient_RV[rows_R, self.ids_R] += per_token_R
        self.block.backward(gradient_RV)


def _add_units(pair, units, chunk_N, student, teacher, settings, scoring, prefix_free) -> torch.Tensor:
    student_start_N, teacher_start_N = units.student_start_U[chunk_N], units.teacher_start_U[chunk_N]
    ours = _UnitScores(
        student, student_start_N, units.student_end_U[chunk_N], units.student_ids_S, student.shared_ids_C, scoring
    )
    theirs = _UnitScores(
        teacher, teacher_start_N, units.teacher_end_U[chunk_N], units.teacher_ids_T, teacher.shared_ids_C, scoring
    )
    if prefix_free:
        for first_ids_N, to_shared in (
            (units.student_ids_S[student_start_N], pair.student_to_shared),
            (units.teacher_ids_T[teacher_start_N], pair.teacher_to_shared),
        ):
            column_N = to_shared.to(first_ids_N.device)[first_ids_N]
            unit_N = (column_N >= 0).nonzero().squeeze(1)
            ours.scores_NC[unit_N, column_N[unit_N]] = LOG_ZERO
            theirs.scores_NC[unit_N, column_N[unit_N]] = LOG_ZERO
    value_N, gradient_NC = divergence_with_gradient(
        ours.scores_NC, theirs.scores_NC, settings.divergence, settings.beta
    )
    ours.backward(gradient_NC)
    return value_N.sum()
