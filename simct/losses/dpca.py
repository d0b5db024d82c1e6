"""dpca: the teacher's likelihood of the written text as a reward for the student's tokens (Niu et al. 2026, arXiv
2606.09456; their "dual-pointer chunks" are our units).

A unit's advantage is how much more likely the teacher finds it than the student, in nats. It is divided among the
student's tokens in proportion to how surprising each was to the student, and every token's log-probability moves by its
part: a policy gradient. With one tokenizer for both models, this is the sampled reverse KL of plain on-policy
distillation. Only the written text counts, and only if the student wrote it.
Not covered: the authors skip units of more than six tokens, because their alignment of decoded text is uncertain there;
ours is of bytes. Their clipping of probability ratios has no effect, because each completion is used for one step.
Shapes: N units of a chunk, K tokens of the longest of them, R rows of the units, V vocabulary.
"""

from typing import TYPE_CHECKING

import torch

from simct.losses.settings import LossSettings
from simct.losses.side import Side, Totals
from simct.losses.unit_loss import sum_over_units, written_log_probabilities
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
    max_advantage: float = 10.0,
) -> Totals:
    """Sum over the student's tokens, which are the rows. Its value is log p_S - log p_T of the text (if no advantage
    exceeds `max_advantage`), its gradient that of the policy gradient.
    """

    def loss_of(student_NK: torch.Tensor, teacher_NK: torch.Tensor) -> torch.Tensor:
        advantage_NK = advantages(student_NK.detach(), teacher_NK).clamp(-max_advantage, max_advantage)
        # 1 in value, and its gradient is that of the log-probability; a place without a token has no advantage
        ratio_NK = (student_NK - student_NK.detach()).nan_to_num().exp()
        return -(advantage_NK * ratio_NK).sum(1)

    totals = sum_over_units(units, student, teacher, settings, token_log_probabilities, loss_of)
    return Totals(totals.loss_sum, len(units.student_ids_S), totals.stats)


def token_log_probabilities(
    logits_RV: torch.Tensor, ids: torch.Tensor, rows_R: torch.Tensor, owner_R: torch.Tensor
) -> torch.Tensor:
    """Log-probabilities [N, K] of each unit's own tokens, NaN after its last one."""
    own_R = written_log_probabilities(logits_RV, ids, rows_R)
    size_N = torch.bincount(owner_R)
    place_R = torch.arange(len(owner_R), device=owner_R.device) - (torch.cumsum(size_N, 0) - size_N)[owner_R]
    return own_R.new_full((len(size_N), int(size_N.max())), torch.nan).index_put((owner_R, place_R), own_R)


def advantages(student_NK: torch.Tensor, teacher_NK: torch.Tensor) -> torch.Tensor:
    """The advantage [N, K] of each of the student's tokens, 0 where a unit has none.

    The parts of a unit add up to log p_T - log p_S of it; a unit of which the student is certain is divided evenly.
    """
    student_N, teacher_N = student_NK.nansum(1), teacher_NK.nansum(1)
    even_NK = 1 / student_NK.isfinite().sum(1, keepdim=True).expand_as(student_NK)
    certain_N = student_N > -1e-8
    share_NK = torch.where(
        certain_N[:, None], even_NK, student_NK / student_N.where(~certain_N, student_N - 1)[:, None]
    )
    return (share_NK * (teacher_N - student_N)[:, None]).where(student_NK.isfinite(), 0.0)
