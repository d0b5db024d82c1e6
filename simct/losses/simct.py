"""SimCT: shared tokens plus the aligned unit itself as one more candidate (arXiv 2605.07711, Eq. 6-9).

At a unit's start both models have read the same text h. Candidates are the shared tokens and, where the unit takes more
than one token on either side, the unit u. A shared token scores log p(v|h); u scores the mean of its own tokens'
log-probabilities under the model that reads them. Each model's scores are normalized by a softmax, and the loss is the
divergence between the two, averaged over units. Shapes: U units, N units of a chunk, R rows of those units,
V vocabulary, C shared columns.
"""

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch

from simct.errors import ConfigError
from simct.losses.divergence import LOG_ZERO, divergence_with_gradient
from simct.losses.settings import LossSettings
from simct.losses.side import ListedSide, Side, Totals, pieces_of, row_chunks
from simct.losses.strict import add_single_units
from simct.tokenization.units import UnitBatch, chunks_by_rows, merge_with_next, row_ranges, without_units

if TYPE_CHECKING:
    from simct.tokenization.pair import TokenizerPair


def accumulate(
    pair: "TokenizerPair",
    units: UnitBatch,
    student: Side,
    teacher: Side,
    settings: LossSettings,
    *,
    scoring: str = "log_probs",
    mass_mask: bool | float = False,
    prefix_free: bool = False,
    unit_mask_ratio: float = 0.0,
    random_span_ratio: float = 0.0,
    option_seed: int = 0,
) -> Totals:
    """Sum of divergences over all units. Rows are units.

    scoring: `log_probs` as published, or `raw_logits`, the mean of raw logits, as in the authors' released code.
    mass_mask: leave out units where the teacher's candidates have less mass than this (true means 0.5).
    prefix_free: leave out, in a unit's row, the shared token that is the unit's own first piece on either side.
    unit_mask_ratio, random_span_ratio: the paper's ablations. Each multi-token unit is left out, and each 1:1 unit is
    joined with the unit that follows, with this probability. The choice in a sequence depends on `option_seed` and its
    own ids alone, so that splitting a step differently does not change it.
    """
    least_mass = 0.5 if mass_mask is True else float(mass_mask)
    if scoring == "raw_logits" and isinstance(teacher, ListedSide):
        raise ConfigError("scoring is 'raw_logits'; a teacher that lists log-probabilities has no raw logits.")
    if random_span_ratio:
        units = merge_with_next(units, random_choice(units, units.single_U, random_span_ratio, (option_seed, 0)))
    if unit_mask_ratio:
        units = without_units(units, random_choice(units, ~units.single_U, unit_mask_ratio, (option_seed, 1)))

    single_U = units.single_U
    single_N, multi_N = single_U.nonzero().squeeze(1), (~single_U).nonzero().squeeze(1)
    if least_mass and scoring == "log_probs":
        single_N = single_N[_shared_mass(units, single_N, teacher, settings) >= least_mass]
    shared_sum = add_single_units(units, single_N, student, teacher, settings)
    recovered_sum, recovered = settings.zero(), 0
    for chunk_N in chunks_by_rows(multi_N, units, settings.chunk_rows):
        value_N = _add_units(pair, units, chunk_N, student, teacher, settings, scoring, prefix_free, least_mass)
        recovered_sum += value_N.sum()
        recovered += len(value_N)
    return Totals(
        shared_sum + recovered_sum,
        len(single_N) + recovered,
        {
            "kl_shared": shared_sum / max(len(single_N), 1),
            "kl_recovered": recovered_sum / max(recovered, 1),
            "units_shared": len(single_N),
            "units_recovered": recovered,
        },
    )


def random_choice(
    units: UnitBatch, eligible_U: torch.Tensor, probability: float, seeds: tuple[int, ...]
) -> torch.Tensor:
    """Mask of the eligible units that are chosen, each with this probability, by `seeds` and its sequence's ids."""
    ids_S, sequence_S, sequence_U = (
        tensor.cpu().numpy() for tensor in (units.student_ids_S, units.student_sequence_S, units.sequence_U)
    )
    draws_U = np.empty(len(sequence_U))
    for number in np.unique(sequence_U):
        own_U = sequence_U == number
        generator = np.random.Generator(
            np.random.Philox(np.random.SeedSequence([*seeds, *ids_S[sequence_S == number]]))
        )
        draws_U[own_U] = generator.random(int(own_U.sum()))
    return eligible_U & torch.from_numpy(draws_U < probability).to(eligible_U.device)


def _shared_mass(units: UnitBatch, single_N: torch.Tensor, teacher: Side, settings: LossSettings) -> torch.Tensor:
    """The teacher's probability of the shared tokens [N] at the start of each unit; needs its whole rows."""
    masses = [settings.zero().new_zeros(0)]
    for chunk_N in row_chunks(single_N, settings.chunk_rows):
        logits_NV = teacher.block(units.teacher_start_U[chunk_N]).logits_NC
        shared_N = logits_NV.index_select(1, teacher.shared_ids_C).logsumexp(1)
        masses.append((shared_N - logits_NV.logsumexp(1)).exp())
    return torch.cat(masses)


class _UnitScores:
    """One model's candidate scores [N, C+1] for multi-token units, and the way back from their gradient."""

    def __init__(
        self,
        side: Side,
        start_N: torch.Tensor,
        end_N: torch.Tensor,
        ids_R: torch.Tensor,
        shared_ids_C: torch.Tensor,
        scoring: str,
    ) -> None:
        rows_R, self.owner_R = row_ranges(start_N, end_N)
        self.ids_R, self.shared_ids_C, self.raw = ids_R[rows_R], shared_ids_C, scoring == "raw_logits"
        self.size_N = end_N - start_N
        self.first_N = torch.cumsum(self.size_N, 0) - self.size_N
        self.block = side.block(rows_R)
        self.pieces = _pieces(self.block.product_NC, self.first_N)
        own, shared, self.largest, self.sums = [], [], [], []
        for rows, of_units in self.pieces:
            logits_RV = self.block.read(rows)
            first_N = self.first_N[of_units] - rows.start
            own_R = logits_RV.gather(1, self.ids_R[rows, None]).squeeze(1)
            shared_NC = logits_RV.index_select(0, first_N).index_select(1, shared_ids_C)
            if not self.raw:
                largest_R = logits_RV.amax(1)
                sum_R = (logits_RV - largest_R[:, None]).exp_().sum(1)
                log_normalizer_R = largest_R + sum_R.log()
                own_R -= log_normalizer_R
                shared_NC -= log_normalizer_R[first_N, None]
                self.largest.append(largest_R)
                self.sums.append(sum_R)
            own.append(own_R)
            shared.append(shared_NC)
        own_R = torch.cat(own)
        unit_N = own_R.new_zeros(len(start_N)).index_add_(0, self.owner_R, own_R / self.size_N[self.owner_R])
        self.scores_NC = torch.cat([torch.cat(shared), unit_N[:, None]], 1)

    def backward(self, gradient_NC: torch.Tensor) -> None:
        """Carry a gradient whose rows sum to zero from candidate scores to the logits of every row of the unit."""
        per_token_R = (gradient_NC[:, -1] / self.size_N)[self.owner_R]
        # Every log-probability contributes -p times its own gradient: the unit's share at each of its tokens, and at
        # the first row also all the shared candidates, which sum to minus the unit's.
        weight_R = -per_token_R
        weight_R[self.first_N] += gradient_NC[:, -1]
        for place, (rows, of_units) in enumerate(self.pieces):
            logits_RV = self.block.read(rows)
            if self.raw:
                gradient_RV = torch.zeros_like(logits_RV)
            else:
                gradient_RV = logits_RV.sub_(self.largest[place][:, None]).exp_()
                gradient_RV *= (weight_R[rows] / self.sums[place])[:, None]
            index = (self.first_N[of_units, None] - rows.start, self.shared_ids_C[None, :])
            gradient_RV[index] += gradient_NC[of_units, :-1]
            every_R = torch.arange(len(gradient_RV), device=gradient_RV.device)
            gradient_RV[every_R, self.ids_R[rows]] += per_token_R[rows]
            self.block.write(gradient_RV, rows)
        self.block.backward()


def _pieces(product_RV: torch.Tensor, first_N: torch.Tensor) -> list[tuple[slice, slice]]:
    """Pieces of the rows of some units, each with the units whose first row is in it."""
    pieces = pieces_of(product_RV)
    ends = torch.tensor([rows.stop for rows in pieces], device=first_N.device)
    counts = torch.searchsorted(first_N, ends).tolist()
    return [(rows, slice(*of_units)) for rows, of_units in zip(pieces, pairwise([0, *counts]), strict=True)]


def _add_units(
    pair: "TokenizerPair",
    units: UnitBatch,
    chunk_N: torch.Tensor,
    student: Side,
    teacher: Side,
    settings: LossSettings,
    scoring: str,
    prefix_free: bool,
    least_mass: float,
) -> torch.Tensor:
    """Row losses of the multi-token units that have enough candidate mass; their gradients go to the student."""
    student_start_N, teacher_start_N = units.student_start_U[chunk_N], units.teacher_start_U[chunk_N]
    ours = _UnitScores(
        student, student_start_N, units.student_end_U[chunk_N], units.student_ids_S, student.shared_ids_C, scoring
    )
    theirs = _UnitScores(
        teacher, teacher_start_N, units.teacher_end_U[chunk_N], units.teacher_ids_T, teacher.shared_ids_C, scoring
    )
    if theirs.block.listed_NC is not None:
        known_NC = theirs.block.listed_NC.index_select(0, theirs.first_N).index_select(1, teacher.shared_ids_C)
        for side in (ours, theirs):
            side.scores_NC[:, :-1].masked_fill_(~known_NC, LOG_ZERO)
    if prefix_free:
        for first_ids_N, to_shared in (
            (units.student_ids_S[student_start_N], pair.student_to_shared),
            (units.teacher_ids_T[teacher_start_N], pair.teacher_to_shared),
        ):
            column_N = to_shared.to(first_ids_N.device)[first_ids_N]
            unit_N = (column_N >= 0).nonzero().squeeze(1)
            ours.scores_NC[unit_N, column_N[unit_N]] = LOG_ZERO
            theirs.scores_NC[unit_N, column_N[unit_N]] = LOG_ZERO
    kept_N = torch.ones(len(chunk_N), dtype=torch.bool, device=chunk_N.device)
    if least_mass and scoring == "log_probs":
        kept_N = theirs.scores_NC.logsumexp(1).exp() >= least_mass
    value_N, gradient_NC = divergence_with_gradient(
        ours.scores_NC, theirs.scores_NC, settings.divergence, settings.beta
    )
    gradient_NC[~kept_N] = 0.0
    ours.backward(gradient_NC)
    return value_N[kept_N]
