"""uld: distance of sorted probabilities, whatever the tokens are (Boizard et al. 2024, arXiv 2402.12030, Eq. 5).

The two rows' probabilities are sorted, the shorter is padded with zeros, and the loss is the sum of absolute
differences. It knows neither which token a probability belongs to nor, as published, whether the rows read the same
text: row j of one side meets row j of the other, up to the shorter length. `aligned` compares units instead.
Shapes: N rows of a chunk, V vocabulary.
"""

from functools import partial
from typing import TYPE_CHECKING

import torch

from simct.losses.merged_units import merged_units
from simct.losses.settings import LossSettings
from simct.losses.side import Side, Totals, backpropagate, row_chunks
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
    aligned: bool = False,
) -> Totals:
    """Sum of L1 distances of sorted probabilities. Rows are positions, or units if `aligned`. No divergence is used."""
    if aligned:
        return merged_units(units, student, teacher, settings, sorted_distance)
    student_row_P, teacher_row_P = _positions(units)
    loss_sum = settings.zero()
    for chunk_N in row_chunks(torch.arange(len(student_row_P), device=student_row_P.device), settings.chunk_rows):
        teacher_NV = torch.softmax(teacher.block(teacher_row_P[chunk_N]).logits_NC, -1)
        block = student.block(student_row_P[chunk_N])
        loss_sum += backpropagate(block, partial(_distance_of_logits, teacher_NV=teacher_NV)).sum()
    return Totals(loss_sum, len(student_row_P))


def _positions(units: UnitBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows with the same place in their own sequence on both sides [P], up to the shorter of the two."""
    places = []
    for sequence in (units.student_sequence_S, units.teacher_sequence_T):
        count = torch.bincount(sequence) if len(sequence) else sequence
        start = torch.cumsum(count, 0) - count
        places.append((sequence, torch.arange(len(sequence), device=sequence.device) - start[sequence], start))
    (student_of, place, _), (_, teacher_place, teacher_start) = places
    length = torch.bincount(units.teacher_sequence_T) if len(teacher_place) else teacher_place
    row = torch.arange(len(place), device=place.device)
    keep = place < length[student_of] if len(place) else row.bool()
    return row[keep], (teacher_start[student_of] + place)[keep]


def _distance_of_logits(student_logits_NV: torch.Tensor, teacher_NV: torch.Tensor) -> torch.Tensor:
    return sorted_distance(torch.softmax(student_logits_NV, -1), teacher_NV)


def sorted_distance(student_NV: torch.Tensor, teacher_NV: torch.Tensor) -> torch.Tensor:
    """L1 distance [N] of two sets of non-negative masses after sorting each in descending order."""
    student_NV, teacher_NV = student_NV.sort(-1, descending=True).values, teacher_NV.sort(-1, descending=True).values
    both = min(student_NV.shape[1], teacher_NV.shape[1])
    distance_N = (student_NV[:, :both] - teacher_NV[:, :both]).abs().sum(-1)
    return distance_N + student_NV[:, both:].sum(-1) + teacher_NV[:, both:].sum(-1)
