"""What a teacher says at the positions it was asked about, as a loss reads it.

Shapes: R rows, V vocabulary, H hidden size, C shared columns, K listed tokens.
"""

from dataclasses import dataclass

import torch

from simct.errors import ConfigError
from simct.losses.head import Head
from simct.losses.side import HeadSide, ListedSide, Side


@dataclass(eq=False)
class HiddenRows:
    """Whole distributions: last hidden states [R, H] and the lm_head that turns them into logits."""

    hidden_RH: torch.Tensor
    head: Head

    @property
    def device(self) -> torch.device:
        return self.hidden_RH.device


@dataclass(eq=False)
class ListedRows:
    """The most likely tokens and the one that was written, by id, with their log-probabilities [R, K]; float32.

    Unused places hold the id `vocabulary` and LOG_ZERO. log_rest_R is the log of the probability of all other tokens.
    """

    ids_RK: torch.Tensor
    log_p_RK: torch.Tensor
    log_rest_R: torch.Tensor
    vocabulary: int

    @property
    def device(self) -> torch.device:
        return self.log_p_RK.device


TeacherRows = HiddenRows | ListedRows


def side_of(rows: TeacherRows, shared_ids_C: torch.Tensor, device: torch.device, temperature: float = 1.0) -> Side:
    """The teacher's side of a loss, on `device`. Raises ConfigError for listed rows at another temperature than 1."""
    shared_ids_C = shared_ids_C.to(device)
    if isinstance(rows, HiddenRows):
        return HeadSide(rows.hidden_RH.to(device), rows.head, shared_ids_C, temperature)
    if temperature != 1.0:
        raise ConfigError(
            f"temperature is {temperature:g}; it must be 1 with a teacher that lists only its most likely tokens, "
            "because the rest cannot be divided by it."
        )
    listed = (rows.ids_RK.to(device), rows.log_p_RK.to(device), rows.log_rest_R.to(device))
    return ListedSide(*listed, rows.vocabulary, shared_ids_C)
