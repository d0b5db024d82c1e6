"""The memory-bounded core: logits of a few rows at a time, and their gradients in the same pass.

Shapes: N rows of a block, V vocabulary, C shared columns, H hidden size, S student rows, T teacher rows.
A method asks a side for a block of rows, computes the gradient of its loss with respect to those logits, and hands it
back; only one block per side is alive at a time. Whether the side holds full logits (research, tests) or hidden states
and an lm_head (training) makes no difference to the method, so both give the same numbers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from simct.losses.divergence import LOG_ZERO
from simct.losses.head import Head
from simct.losses.products import linear

# Bytes of one block of float32 logits. Larger blocks need fewer passes over the lm_head's gradient, one per block.
BLOCK_BYTES = {"cpu": 128 * 2**20, "cuda": 2**30}
# Bytes of a piece of a block: for methods with a fixed cost per piece, and, per thread, for the others.
PIECE_BYTES = {"cpu": 2**24}
CACHED_BYTES = 2**20


ALL = slice(None)


@dataclass(eq=False)
class Block:
    """Logits of some rows, kept as the matrix product returned them, and the path back for gradients.

    `read` gives some of the rows in float32 (or the given float64), which may be overwritten; `write` puts their
    gradient in their place, and `backward` adds what was written to what the side accumulates. With `logits_NC` and
    `backward(gradient_NC)` the block is read and written at once. A gradient that is handed over may be overwritten.
    listed_NC: the known columns, if a teacher lists only some; the others hold LOG_ZERO.
    """

    product_NC: torch.Tensor
    add: Callable[[torch.Tensor], None]
    scale: float = 1.0
    softcap: float | None = None
    temperature: float = 1.0
    listed_NC: torch.Tensor | None = None

    def __post_init__(self) -> None:
        self.dtype = self.product_NC.dtype
        self._slopes: dict[int, torch.Tensor] = {}

    @cached_property
    def logits_NC(self) -> torch.Tensor:
        self.product_NC = self.read()  # the product is not needed again
        return self.product_NC

    def read(self, rows: slice | torch.Tensor = ALL) -> torch.Tensor:
        changed = self.scale != 1.0 or self.softcap is not None or self.temperature != 1.0
        logits_NC = self.product_NC[rows].to(working_dtype(self.dtype), copy=changed)
        if self.scale != 1.0:
            logits_NC *= self.scale
        if self.softcap is not None:
            squashed_NC = logits_NC.div_(self.softcap).tanh_()
            if isinstance(rows, slice):
                self._slopes[rows.start or 0] = 1.0 - squashed_NC.square()
            logits_NC = squashed_NC.mul_(self.softcap)
        if self.temperature != 1.0:
            logits_NC /= self.temperature
        return logits_NC

    def write(self, gradient_NC: torch.Tensor, rows: slice = ALL) -> None:
        self.product_NC[rows] = self._of_product(gradient_NC, rows)

    def backward(self, gradient_NC: torch.Tensor | None = None) -> None:
        self.add(self.product_NC if gradient_NC is None else self._of_product(gradient_NC, ALL).to(self.dtype))

    def _of_product(self, gradient_NC: torch.Tensor, rows: slice) -> torch.Tensor:
        """The gradient with respect to the product; overwrites the gradient with respect to the logits."""
        slope_NC = self._slopes.pop(rows.start or 0, None)
        if slope_NC is not None:
            gradient_NC *= slope_NC
        factor = self.scale / self.temperature
        return gradient_NC if factor == 1.0 else gradient_NC.mul_(factor)


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype for computations between two products of this dtype."""
    return torch.promote_types(dtype, torch.float32)


class LogitsSide:
    """Rows of given logits [R, V]. `gradients` are those of the logits, allocated once and only if wanted."""

    def __init__(self, logits_RV: torch.Tensor, shared_ids_C: torch.Tensor, temperature: float = 1.0):
        self.logits_RV, self.shared_ids_C, self.temperature = logits_RV, shared_ids_C, temperature
        self.tensors = (logits_RV,)
        self.gradients: list[torch.Tensor | None] = [None]

    @property
    def vocabulary(self) -> int:
        return self.logits_RV.shape[1]

    def want_gradients(self, needs: tuple[bool, ...]) -> None:
        self.gradients = [torch.zeros_like(self.logits_RV, requires_grad=False) if needs[0] else None]

    def block(self, rows_N: torch.Tensor, shared: bool = False) -> Block:
        logits_NV = self.logits_RV.detach().index_select(0, rows_N)
        if shared:
            logits_NV = logits_NV.index_select(1, self.shared_ids_C)

        def add(gradient_NC: torch.Tensor) -> None:
            if self.gradients[0] is None:
                return
            if shared:
                index = (rows_N[:, None], self.shared_ids_C[None, :])
                self.gradients[0].index_put_(index, gradient_NC, accumulate=True)
            else:
                self.gradients[0].index_add_(0, rows_N, gradient_NC)

        return Block(logits_NV, add, temperature=self.temperature)


class HeadSide:
    """Rows of hidden states [R, H] under an lm_head. `gradients` are those of hidden states, weight and bias."""

    def __init__(self, hidden_RH: torch.Tensor, head: Head, shared_ids_C: torch.Tensor, temperature: float = 1.0):
        self.head, self.shared_ids_C, self.temperature = head, shared_ids_C, temperature
        self.tensors = (hidden_RH, head.weight) if head.bias is None else (hidden_RH, head.weight, head.bias)
        self.hidden_RH, self.weight_VH = hidden_RH.detach(), head.weight.detach()
        self.bias_V = None if head.bias is None else head.bias.detach()
        self.dtype = product_dtype(head.weight)
        self.gradients: list[torch.Tensor | None] = [None, None, None]
        self._wants_weight = False
        self._whole: tuple[torch.Tensor, torch.Tensor | None] | None = None
        self._shared: tuple[torch.Tensor, torch.Tensor | None] | None = None
        self._shared_gradient_CH: torch.Tensor | None = None

    @property
    def vocabulary(self) -> int:
        return self.weight_VH.shape[0]

    def want_gradients(self, needs: tuple[bool, ...]) -> None:
        dtype = working_dtype(self.hidden_RH.dtype)
        self.gradients[0] = torch.zeros_like(self.hidden_RH, dtype=dtype) if needs[0] else None
        self._wants_weight = needs[1]
        self.gradients[2] = torch.zeros_like(self.bias_V) if self.bias_V is not None and needs[2] else None

    def _columns(self, shared: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        if not shared:
            if self._whole is None:
                self._whole = self._cast(self.weight_VH, self.bias_V)
            return self._whole
        if self._shared is None:  # one gather per step: far cheaper than multiplying by the columns that are not shared
            self._shared = self._cast(*self.head.columns(self.shared_ids_C))
        return self._shared

    def _cast(self, weight_CH: torch.Tensor, bias_C: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        return weight_CH.to(self.dtype), None if bias_C is None else bias_C.to(self.dtype)

    def block(self, rows_N: torch.Tensor, shared: bool = False) -> Block:
        weight_CH, bias_C = self._columns(shared)
        hidden_NH = self.hidden_RH.index_select(0, rows_N).to(weight_CH.dtype)
        product_NC = linear(hidden_NH, weight_CH, bias_C)

        def add(gradient_NC: torch.Tensor) -> None:
            self._accumulate(gradient_NC, rows_N, hidden_NH, weight_CH, shared)

        return Block(product_NC, add, self.head.scale, self.head.softcap, self.temperature)

    def _accumulate(
        self,
        gradient_NC: torch.Tensor,
        rows_N: torch.Tensor,
        hidden_NH: torch.Tensor,
        weight_CH: torch.Tensor,
        shared: bool,
    ) -> None:
        hidden_gradient_RH, _, bias_gradient_V = self.gradients
        if hidden_gradient_RH is not None:
            hidden_gradient_RH.index_add_(0, rows_N, linear(gradient_NC, weight_CH.T).to(hidden_gradient_RH.dtype))
        if self._wants_weight:
            # The first product creates the buffer, since filling the step's largest tensor with zeros also takes time.
            dtype = self.weight_VH.dtype
            if shared:
                self._shared_gradient_CH = _add_product(self._shared_gradient_CH, gradient_NC, hidden_NH, dtype)
            else:
                self.gradients[1] = _add_product(self.gradients[1], gradient_NC, hidden_NH, dtype)
        if bias_gradient_V is not None:
            sum_C = gradient_NC.sum(0, dtype=bias_gradient_V.dtype)
            bias_gradient_V.index_add_(0, self.shared_ids_C, sum_C) if shared else bias_gradient_V.add_(sum_C)

    def finish(self) -> None:
        """Scatter the accumulated gradient of the shared columns into the gradient of the whole weight, and give that
        of the hidden states, which was summed in float32, their own dtype.
        """
        if self.gradients[0] is not None:
            self.gradients[0] = self.gradients[0].to(self.hidden_RH.dtype)
        if self._wants_weight:
            gradient_VH = self.gradients[1]
            if gradient_VH is None:
                gradient_VH = self.gradients[1] = torch.zeros_like(self.weight_VH)
            if self._shared_gradient_CH is not None:
                gradient_VH.index_add_(0, self.shared_ids_C, self._shared_gradient_CH)
        self._whole = self._shared = self._shared_gradient_CH = None


def product_dtype(weight: torch.Tensor) -> torch.dtype:
    """The dtype in which a head's `weight` is multiplied.

    This is its own dtype, or bfloat16 if it is float32 under bfloat16 autocast. Under float16 autocast it stays
    float32, because a row's gradient is computed here, before the loss is scaled, and most of it is too small for
    float16.
    """
    device = weight.device.type
    mixed = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16
    return torch.bfloat16 if mixed and weight.dtype == torch.float32 else weight.dtype


def _add_product(
    total_CH: torch.Tensor | None, gradient_NC: torch.Tensor, hidden_NH: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """`total_CH` plus the product, in `dtype`, because a sum of many products in bfloat16 would lose the small ones.

    oneDNN is not used here, because it would copy the transposed gradient.
    """
    if total_CH is None:
        return (gradient_NC.T @ hidden_NH).to(dtype)
    if dtype == gradient_NC.dtype:
        return total_CH.addmm_(gradient_NC.T, hidden_NH)
    return total_CH.add_(gradient_NC.T @ hidden_NH)


class ListedSide:
    """Rows of a teacher that lists some tokens only: ids and log-probabilities [R, K], and the log of the rest [R].

    Unused places of `ids_RK` hold `vocabulary`. A block of whole rows has one more column than the vocabulary, which
    stands for the rest and has no bytes; in a block of shared columns the rest is left out.
    """

    def __init__(
        self,
        ids_RK: torch.Tensor,
        log_p_RK: torch.Tensor,
        log_rest_R: torch.Tensor,
        vocabulary: int,
        shared_ids_C: torch.Tensor,
    ) -> None:
        self.ids_RK, self.log_p_RK, self.log_rest_R = ids_RK, log_p_RK, log_rest_R
        self.vocabulary, self.shared_ids_C = vocabulary, shared_ids_C
        self.tensors = (log_p_RK,)
        self.gradients: list[torch.Tensor | None] = [None]
        self.column_V = torch.full((vocabulary + 1,), len(shared_ids_C), dtype=torch.int64, device=ids_RK.device)
        self.column_V[shared_ids_C] = torch.arange(len(shared_ids_C), device=ids_RK.device)

    def want_gradients(self, needs: tuple[bool, ...]) -> None:
        """There are no gradients: only a teacher lists its tokens."""

    def block(self, rows_N: torch.Tensor, shared: bool = False) -> Block:
        ids_NK, log_p_NK = self.ids_RK.index_select(0, rows_N), self.log_p_RK.index_select(0, rows_N)
        columns_NK = self.column_V[ids_NK] if shared else ids_NK
        width = len(self.shared_ids_C) if shared else self.vocabulary
        logits_NC = log_p_NK.new_full((len(rows_N), width + 1), LOG_ZERO).scatter_(1, columns_NK, log_p_NK)
        logits_NC[:, width] = self.log_rest_R.index_select(0, rows_N)
        if shared:
            logits_NC = logits_NC[:, :width].contiguous()
        return Block(logits_NC, lambda gradient_NC: None, listed_NC=logits_NC > LOG_ZERO)


Side = LogitsSide | HeadSide | ListedSide


@dataclass(eq=False)
class Totals:
    """The result of a method: the sum of its row losses (0-d), the number of rows, and its statistics.

    counts: over how many items a statistic is a mean, where that is neither the rows nor a number of units.
    """

    loss_sum: torch.Tensor
    rows: int
    stats: dict[str, float | torch.Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


def row_chunks(rows_N: torch.Tensor, chunk_rows: int) -> Iterator[torch.Tensor]:
    """Consecutive pieces of at most `chunk_rows` indices; none for an empty tensor."""
    return iter(rows_N.split(chunk_rows)) if len(rows_N) else iter(())


def chunk_rows_for(device: torch.device, vocabulary: int, chunk_rows: int | None = None) -> int:
    """The number of rows of a block: as requested, or as many as fit into BLOCK_BYTES."""
    if chunk_rows is None:
        return min(max(BLOCK_BYTES.get(device.type, 2**30) // (4 * vocabulary), 32), 2048)
    return chunk_rows


def piece_rows_for(device: torch.device, vocabulary: int) -> int:
    """Rows of a block that are processed at a time between matrix products, to stay in the processor's cache."""
    return max(PIECE_BYTES.get(device.type, 2**28) // (4 * vocabulary), 8)


def pieces_of(block_NC: torch.Tensor) -> list[slice]:
    """The rows of a block in pieces that are small enough to stay in a core's cache for a dozen operations."""
    rows, columns = block_NC.shape
    size = (
        max(CACHED_BYTES * torch.get_num_threads() // (4 * max(columns, 1)), 4)
        if block_NC.device.type == "cpu"
        else rows
    )
    return [slice(start, min(start + size, rows)) for start in range(0, rows, max(size, 1))]


class _OnePass(torch.autograd.Function):
    """Runs forward and backward at once, and returns the finished gradients when autograd asks for them."""

    @staticmethod
    def forward(ctx: Any, work: Callable[[tuple[bool, ...]], tuple], *tensors: torch.Tensor) -> torch.Tensor:
        loss_sum, ctx.finished = work(ctx.needs_input_grad[1:])
        return loss_sum

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if ctx.finished is None:
            raise RuntimeError("The gradients of this loss were already used: call backward once.")
        finished, ctx.finished = ctx.finished, None
        if gradient.device.type == "cpu" and gradient.item() == 1:
            return None, *finished  # would be a useless pass over the lm_head's gradient
        # In place: a copy of the lm_head's gradient would double the peak. A 0-d factor keeps the buffer's dtype.
        return None, *(None if value is None else value.mul_(gradient) for value in finished)


def one_pass(method: Callable[..., Totals], student: Side, teacher: Side | None) -> tuple[torch.Tensor, Totals]:
    """Run `method(student, teacher)` once; returns the differentiable sum of row losses and its Totals."""
    captured: list[Totals] = []

    def work(needs: tuple[bool, ...]) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
        student.want_gradients(needs)
        # each side has chosen its dtype, and a sum of many rows must not be cast on the way
        with torch.no_grad(), torch.autocast(student.tensors[0].device.type, enabled=False):
            totals = method(student, teacher)
            for side in (student, teacher):
                if isinstance(side, HeadSide):
                    side.finish()
        captured.append(totals)
        return totals.loss_sum, student.gradients[: len(needs)]

    if torch.is_grad_enabled():
        loss_sum = _OnePass.apply(work, *student.tensors)
    else:
        loss_sum, _ = work((False,) * len(student.tensors))
    return loss_sum, captured[0]


def backpropagate(block: Block, loss_of: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Row losses [N] that `loss_of` makes from the block's logits; their sum's gradient goes to the block's side."""
    leaf_NC = block.logits_NC.detach().requires_grad_()
    with torch.enable_grad():
        value_N = loss_of(leaf_NC)
        (gradient_NC,) = torch.autograd.grad(value_N.sum(), leaf_NC)
    block.backward(gradient_NC)
    return value_N.detach()
