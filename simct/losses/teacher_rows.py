"""The teacher's distributions at the requested positions, in the forms that a loss reads.

Shapes: R rows, V vocabulary, H hidden size, C shared columns, K listed tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from simct.errors import ConfigError
from simct.losses.divergence import LOG_ZERO
from simct.losses.head import Head
from simct.losses.side import HeadSide, ListedSide, Side, chunk_rows_for, row_chunks


@dataclass(eq=False)
class HiddenRows:
    """Whole distributions: last hidden states [R, H] and the lm_head that turns them into logits.

    device: where logits are computed, which is that of the lm_head; a teacher's decoder may be on another.
    """

    hidden_RH: torch.Tensor
    head: Head

    @property
    def device(self) -> torch.device:
        return self.head.weight.device


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
# all probabilities together, less the rounding error
ROUNDING = 1e-6


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


def certain_rows(ids: Sequence[int], vocabulary: int) -> ListedRows:
    """Rows of a teacher that is certain of each of these ids."""
    ids_R1 = torch.tensor(ids)[:, None]
    return ListedRows(ids_R1, torch.zeros(ids_R1.shape), torch.full((len(ids),), LOG_ZERO), vocabulary)


@torch.no_grad()
def most_likely(rows: TeacherRows, written_R: torch.Tensor, k: int, vocabulary: int) -> ListedRows:
    """The k most likely ids below `vocabulary` of each row and the written one, on the CPU, as a server lists them."""
    if isinstance(rows, ListedRows):
        return rows
    side = side_of(rows, torch.zeros(0, dtype=torch.long), rows.device)
    parts = []
    for rows_N in row_chunks(torch.arange(len(written_R)), chunk_rows_for(rows.device, side.vocabulary)):
        log_p_NV = side.block(rows_N.to(rows.device)).logits_NC.log_softmax(-1)[:, :vocabulary].cpu()
        written_N1 = written_R[rows_N, None]
        ids_NK = log_p_NV.topk(min(k, vocabulary), dim=-1).indices
        known_N1 = (ids_NK == written_N1).any(1, keepdim=True)
        ids_NK = torch.cat([torch.where(known_N1, vocabulary, written_N1), ids_NK], 1)
        padded_NV = torch.nn.functional.pad(log_p_NV, (0, 1), value=LOG_ZERO)
        found_NK = padded_NV.gather(1, ids_NK)
        rest_N = 1.0 - found_NK.double().exp().sum(1)
        log_rest_N = torch.where(rest_N > ROUNDING, rest_N.clamp_min(ROUNDING).log(), LOG_ZERO)
        parts.append((ids_NK, found_NK.float(), log_rest_N.float()))
    ids_RK, log_p_RK, log_rest_R = (torch.cat(each) for each in zip(*parts, strict=True))
    return ListedRows(ids_RK, log_p_RK, log_rest_R, vocabulary)
