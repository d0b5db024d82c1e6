"""Aligned units of a batch as index tensors, the only view of the text that the losses have.

Rows are token positions flattened over the sequences of the batch, in order: row j of a side is the distribution that
predicts that side's id j. Shapes: S student rows, T teacher rows, U units, B sequences.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from simct.errors import AlignmentError
from simct.tokenization.pair import TokenizerPair


@dataclass(eq=False)
class UnitBatch:
    """Units of many sequences. All tensors are int64 on one device; ends are exclusive.

    A unit's rows on one side are `start..end-1`. `byte_start_U` and `byte_end_U` count from the start of their own
    sequence; an end-of-turn unit has no bytes. `sequence_U` says which sequence a unit belongs to.
    """

    student_ids_S: torch.Tensor
    teacher_ids_T: torch.Tensor
    student_start_U: torch.Tensor
    student_end_U: torch.Tensor
    teacher_start_U: torch.Tensor
    teacher_end_U: torch.Tensor
    byte_start_U: torch.Tensor
    byte_end_U: torch.Tensor
    sequence_U: torch.Tensor
    student_sequence_S: torch.Tensor
    teacher_sequence_T: torch.Tensor

    def __len__(self) -> int:
        return len(self.student_start_U)

    @property
    def student_size_U(self) -> torch.Tensor:
        return self.student_end_U - self.student_start_U

    @property
    def teacher_size_U(self) -> torch.Tensor:
        return self.teacher_end_U - self.teacher_start_U

    @property
    def single_U(self) -> torch.Tensor:
        """Whether a unit has one token on both sides; exact matching loses all other units."""
        return (self.student_size_U == 1) & (self.teacher_size_U == 1)

    def to(self, device: torch.device | str) -> "UnitBatch":
        return UnitBatch(**{name: value.to(device) for name, value in vars(self).items()})


def row_ranges(start_U: torch.Tensor, end_U: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """All rows of the given units in order, and for each the index (0..U-1) of the unit that owns it. Both [R]."""
    size_U = end_U - start_U
    owner_R = torch.repeat_interleave(torch.arange(len(size_U), device=size_U.device), size_U)
    first_U = torch.cumsum(size_U, 0) - size_U
    offset_R = torch.arange(len(owner_R), device=size_U.device) - first_U[owner_R]
    return start_U[owner_R] + offset_R, owner_R


def chunks_by_rows(unit_N: torch.Tensor, units: UnitBatch, chunk_rows: int) -> list[torch.Tensor]:
    """Split units so that a piece has at most about `chunk_rows` rows on its larger side (at least one unit)."""
    if not len(unit_N):
        return []
    size_N = torch.maximum(units.student_size_U[unit_N], units.teacher_size_U[unit_N])
    piece_N = torch.div(torch.cumsum(size_N, 0) - 1, chunk_rows, rounding_mode="floor")
    counts = torch.unique_consecutive(piece_N, return_counts=True)[1]
    return list(unit_N.split(counts.tolist()))


def as_sequences(ids: Any) -> list[list[int]]:
    """One sequence of ids or a list of them, as tensors or lists, made a list of lists of int."""
    if isinstance(ids, torch.Tensor):
        return [ids.tolist()] if ids.dim() == 1 else [row.tolist() for row in ids]
    if isinstance(ids, np.ndarray):
        return as_sequences(torch.from_numpy(ids))
    if len(ids) == 0:
        return [[]]
    if isinstance(ids[0], Sequence | torch.Tensor | np.ndarray):
        return [list(map(int, sequence)) for sequence in ids]
    return [list(map(int, ids))]


def build_units(pair: TokenizerPair, sequences: Iterable[tuple[Sequence[int], Sequence[int]]]) -> UnitBatch:
    """Align every (teacher_ids, student_ids) of `sequences` and concatenate the units.

    Raises AlignmentError if the two sides of a sequence do not spell the same bytes (see TokenizerPair.align).
    """
    columns: dict[str, list] = {
        name: [] for name in ("student_start", "student_end", "teacher_start", "teacher_end", "byte_start", "byte_end")
    }
    student_ids, teacher_ids, sequence_of, student_counts, teacher_counts = [], [], [], [], []
    student_offset = teacher_offset = 0
    for number, both in enumerate(sequences):
        # convert to arrays once: converting a list of ids costs more than aligning it
        teacher_sequence, student_sequence = (np.asarray(ids, dtype=np.int64) for ids in both)
        if len(teacher_sequence) and len(student_sequence):
            aligned = pair.align(teacher_sequence, student_sequence)
            for name, parts in columns.items():
                offset = student_offset if name.startswith("student") else teacher_offset
                offset = 0 if name.startswith("byte") else offset
                parts.append(np.asarray(getattr(aligned, name), dtype=np.int64) + offset)
            sequence_of.append(np.full(len(aligned), number, dtype=np.int64))
        elif len(teacher_sequence) or len(student_sequence):
            raise AlignmentError(
                f"Sequence {number} has {len(teacher_sequence)} teacher ids but {len(student_sequence)} student ids: "
                "both must spell the same text."
            )
        student_ids.append(student_sequence)
        teacher_ids.append(teacher_sequence)
        student_counts.append(len(student_sequence))
        teacher_counts.append(len(teacher_sequence))
        student_offset += len(student_sequence)
        teacher_offset += len(teacher_sequence)

    def joined(parts: list) -> torch.Tensor:
        return torch.from_numpy(np.concatenate(parts)) if parts else torch.zeros(0, dtype=torch.int64)

    def owners(counts: list) -> torch.Tensor:
        return torch.from_numpy(np.repeat(np.arange(len(counts), dtype=np.int64), counts))

    return UnitBatch(
        student_ids_S=joined(student_ids),
        teacher_ids_T=joined(teacher_ids),
        sequence_U=joined(sequence_of),
        student_sequence_S=owners(student_counts),
        teacher_sequence_T=owners(teacher_counts),
        **{f"{name}_U": joined(parts) for name, parts in columns.items()},
    )


def without_units(units: UnitBatch, dropped_U: torch.Tensor) -> UnitBatch:
    """The same rows without some units. `dropped_U` is a mask."""
    kept = {name: value[~dropped_U] if name.endswith("_U") else value for name, value in vars(units).items()}
    return UnitBatch(**kept)


def merge_with_next(units: UnitBatch, marked_U: torch.Tensor) -> UnitBatch:
    """Coarser units: every marked unit is joined with the one after it in its sequence, chains included.

    A unit with no successor in its sequence, or before an end-of-turn unit, stays as it is.
    """
    if len(units) < 2:
        return units
    open_U = torch.zeros_like(marked_U)
    same_N = units.sequence_U[1:] == units.sequence_U[:-1]
    open_U[:-1] = marked_U[:-1] & same_N & (units.byte_end_U[1:] > units.byte_start_U[1:])
    last_U = ~open_U
    first_U = torch.ones_like(last_U)
    first_U[1:] = last_U[:-1]
    merged = {}
    for name, value in vars(units).items():
        if not name.endswith("_U"):
            merged[name] = value
        else:
            merged[name] = value[last_U] if "_end_" in name else value[first_U]
    return UnitBatch(**merged)
