"""What a teacher says at the positions it was asked about, as a loss reads it.

Shapes: R rows, V vocabulary, H hidden size, K listed tokens.
"""

from dataclasses import dataclass

import torch

from simct.losses.head import Head
from simct.losses.side import HeadSide, Side


@dataclass(eq=False)
class HiddenRows:
    """Whole distributions: last hidden states [R, H] and the lm_head that turns them into logits."""

    hidden_RH: torch.Tensor
    head: Head

    @property
    def device(self) -> torch.device:
        return self.hidden_RH.device


TeacherRows = HiddenRows


def side_of(rows: TeacherRows, shared_ids_C: torch.Tensor, device: torch.device, temperature: float = 1.0) -> Side:
    """The teacher's side of a loss, on `device`."""
    return HeadSide(rows.hidden_RH.to(device), rows.head, shared_ids_C.to(device), temperature)
