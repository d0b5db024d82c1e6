"""What a training step measures about the pair: the probability of the candidates, and where tokenization splits it.

Measured on an even sample of the batch's units, because whole rows of both models are needed for it.
Shapes: D sampled units, R rows of those units, V vocabulary, K distinct strings of a vocabulary.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch

from simct.losses.side import Side
from simct.losses.strings import pair_strings
from simct.tokenization.units import UnitBatch, row_ranges

if TYPE_CHECKING:
    from simct.tokenization.pair import TokenizerPair

SAMPLED_SHARE = 64  # one unit in this many
MOST_SAMPLED = 128
LARGE_HEADS = 2**25  # entries of both heads together
SMALL_BATCH = 2048  # units
TOP_STRINGS = 16  # how many teacher strings of a row are searched for prefix conflicts


def measure(pair: "TokenizerPair", units: UnitBatch, student: Side, teacher: Side) -> dict[str, torch.Tensor | float]:
    """Means over the sample:

    mass_student, mass_teacher: probability of the shared tokens. candidate_mass: what the teacher gives SimCT's
    candidates (Z_T). prefix_conflict_mass: student probability of shared tokens that are proper prefixes of more likely
    teacher strings. hindsight_mass: the teacher's probability of tokens that extend the one it wrote, over that plus
    its own. Empty if there are no units, and for every other small batch of models with large heads, where even one row
    means reading both heads once more.
    """
    if not len(units) or _skipped(units, student, teacher):
        return {}
    count = min(max(len(units) // SAMPLED_SHARE, 1), MOST_SAMPLED)
    # the middle unit of each group, so that short batches are not only measured at their first unit
    unit_D = (torch.arange(count, device=units.student_start_U.device) * 2 + 1) * len(units) // (2 * count)
    return measure_units(pair, units, unit_D, student, teacher)


def measure_units(
    pair: "TokenizerPair", units: UnitBatch, unit_D: torch.Tensor, student: Side, teacher: Side
) -> dict[str, torch.Tensor | float]:
    """The same means over the units chosen by index."""
    p_student_DV = torch.softmax(student.block(units.student_start_U[unit_D]).logits_NC, -1)
    rows_R, owner_R = row_ranges(units.teacher_start_U[unit_D], units.teacher_end_U[unit_D])
    p_teacher_RV = torch.softmax(teacher.block(rows_R).logits_NC, -1)
    size_D = units.teacher_size_U[unit_D]
    first_D = torch.cumsum(size_D, 0) - size_D
    p_teacher_DV = p_teacher_RV[first_D]
    mass_teacher_D = p_teacher_DV.index_select(1, teacher.shared_ids_C).sum(1)
    own_R = p_teacher_RV.gather(1, units.teacher_ids_T[rows_R][:, None]).squeeze(1)
    mean_log_D = torch.zeros_like(mass_teacher_D).index_add_(0, owner_R, own_R.clamp_min(1e-30).log() / size_D[owner_R])
    unit_mass_D = mean_log_D.exp() * ~units.single_U[unit_D]
    measured: dict[str, torch.Tensor | float] = {
        "mass_student": p_student_DV.index_select(1, student.shared_ids_C).sum(1).mean(),
        "mass_teacher": mass_teacher_D.mean(),
        "candidate_mass": (mass_teacher_D + unit_mass_D).mean(),
        "prefix_conflict_mass": _prefix_conflict(pair, p_student_DV, p_teacher_DV).mean(),
    }
    beyond_D = _hindsight(pair, units.teacher_ids_T[units.teacher_start_U[unit_D]], p_teacher_DV)
    if len(beyond_D):
        measured["hindsight_mass"] = beyond_D.mean()
    return measured


def _skipped(units: UnitBatch, student: Side, teacher: Side) -> bool:
    size = sum(side.vocabulary * side.tensors[0].shape[1] for side in (student, teacher))
    return size > LARGE_HEADS and len(units) < SMALL_BATCH and int(units.student_ids_S.sum()) % 2 == 1


def _prefix_conflict(pair: "TokenizerPair", p_student_DV: torch.Tensor, p_teacher_DV: torch.Tensor) -> torch.Tensor:
    """Student probability [D] of shared tokens that a more likely teacher token strictly extends."""
    vocabulary = pair_strings(pair).teacher
    # by string and not by id: of several ids with equal bytes, such as "1" and <0x31>, any may be the shared one
    column_K = np.full(vocabulary.size + 1, -1)
    column_K[vocabulary.rank_of_id[pair.shared_teacher_ids].numpy()] = np.arange(len(pair.shared_teacher_ids))
    shared = torch.stack([pair.shared_teacher_ids, pair.shared_student_ids], 1).numpy()
    top = p_teacher_DV[:, : len(pair.teacher.bytes_of)].topk(min(TOP_STRINGS, len(pair.teacher.bytes_of)), dim=1)
    hits: dict[tuple[int, int, int], float] = {}
    for row, (ids, masses) in enumerate(zip(top.indices.tolist(), top.values.tolist(), strict=True)):
        for token, mass in zip(ids, masses, strict=True):
            data = pair.teacher.bytes_of[token] or b""
            for size in range(1, len(data)):
                rank = vocabulary.rank_of.get(data[:size])
                if rank is not None and column_K[rank] >= 0:
                    shorter, of_student = shared[column_K[rank]].tolist()
                    key = (row, shorter, of_student)
                    hits[key] = max(hits.get(key, 0.0), mass)
    conflict_D = p_student_DV.new_zeros(len(p_student_DV))
    if hits:
        row_K, shorter_K, student_K = torch.tensor(list(hits), device=conflict_D.device).unbind(1)
        likelier_K = torch.tensor(list(hits.values()), device=conflict_D.device) > p_teacher_DV[row_K, shorter_K]
        conflict_D.index_add_(0, row_K, p_student_DV[row_K, student_K] * likelier_K)
    return conflict_D


def _hindsight(pair: "TokenizerPair", ids_D: torch.Tensor, p_DV: torch.Tensor) -> torch.Tensor:
    """Per sampled teacher token (end of turn aside): the mass that extends it over that plus its own."""
    vocabulary = pair_strings(pair).teacher
    shares = []
    for row, token in enumerate(ids_D.tolist()):
        data = None if token in pair.teacher.end_ids else pair.teacher.bytes_of[token]
        if data is None:
            continue
        low, high = vocabulary.longer(data)
        beyond = p_DV[row, vocabulary.ids_between(low, high).to(p_DV.device)].sum()
        shares.append(beyond / (beyond + p_DV[row, token]).clamp_min(1e-30))
    return torch.stack(shares) if shares else p_DV.new_zeros(0)
