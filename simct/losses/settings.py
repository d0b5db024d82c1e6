"""The settings that every method gets in addition to its own options."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class LossSettings:
    """`chunk_rows` bounds the rows of a block with whole rows of logits, `shared_chunk_rows` of shared columns only."""

    divergence: str
    beta: float
    chunk_rows: int
    shared_chunk_rows: int
    device: torch.device
    dtype: torch.dtype

    def zero(self) -> torch.Tensor:
        return torch.zeros((), device=self.device, dtype=self.dtype)
