"""Sequences one after another in one row, so that a forward pass has no padding.

Except for attention, a decoder computes every position separately. Attention runs over one sequence at a time.
Shapes: L tokens of all sequences together, H heads, D size of a head.
"""

import functools
import inspect
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from simct.losses.products import KNOWN_ROWS, uses_onednn
from simct.models.step_attention import attending_by

PACKED = "simct_packed"
# the number of scores that fit in a core's cache, and the number of queries that are compared with earlier keys
# together
CACHED_SCORES = 2**19
BLOCK = 128
# the longest sequence, in tokens, whose probabilities are kept for the backward pass; they grow with its square
KEPT_LENGTH = 512
PROBE = [[1, 2, 3], [4, 5, 6, 7]]
# results of checking that a decoder's hidden states are the same packed as for separate sequences
_agreeing: weakref.WeakKeyDictionary[torch.nn.Module, bool] = weakref.WeakKeyDictionary()


@functools.cache
def parameters_of(forward: Callable[..., Any]) -> frozenset[str]:
    """The names of the parameters of a model's forward pass."""
    return frozenset(inspect.signature(forward).parameters)


def attends_to_all(model: Any, longest: int) -> bool:
    """Whether each layer reads all earlier tokens of a sequence of `longest` tokens, has no other memory of them, and
    knows positions only from the position ids. `model` may be the whole model or its decoder.
    """
    config = model.config.get_text_config(decoder=True)
    if getattr(model, "_is_stateful", False) or getattr(config, "alibi", False):
        return False
    layers = DynamicCache(config=config).layers
    return bool(layers) and all(
        type(layer) is DynamicLayer or (type(layer) is DynamicSlidingWindowLayer and longest <= layer.sliding_window)
        for layer in layers
    )


def needs_no_mask(decoder: Any, longest: int) -> bool:
    """Whether sequences that are padded on the right can be read without a mask, because no position sees a later
    one.
    """
    config = decoder.config.get_text_config(decoder=True)
    return config._attn_implementation == "sdpa" and attends_to_all(decoder, longest)


def packs(decoder: Any, longest: int) -> bool:
    """Whether `packed_states` reads sequences of up to `longest` tokens as this decoder reads each alone.

    Only on a CPU, where a padded position costs as much as a token; not if gradient checkpointing runs a layer again
    later, or if layers are split over processes.
    """
    if next(decoder.parameters()).device.type != "cpu" or not getattr(decoder, "_supports_attention_backend", False):
        return False
    modules = list(decoder.modules())
    if any(isinstance(each, FSDPModule) or getattr(each, "gradient_checkpointing", False) for each in modules):
        return False
    if "position_ids" not in parameters_of(type(decoder).forward) or not needs_no_mask(decoder, longest):
        return False
    if decoder not in _agreeing:
        _agreeing[decoder] = _agrees(decoder)
    return _agreeing[decoder]


@torch.no_grad()
def _agrees(decoder: PreTrainedModel) -> bool:
    """Whether two short sequences have the same hidden states packed and separately. This is tried, because models
    differ.
    """
    rows = getattr(decoder.get_input_embeddings(), "num_embeddings", 1)
    sequences = [[token % rows for token in sequence] for sequence in PROBE]
    was_training = decoder.training
    decoder.eval()
    try:
        packed_LH = packed_states(decoder, sequences)
        apart = [decoder(input_ids=torch.tensor([each]), use_cache=False).last_hidden_state[0] for each in sequences]
    except (TypeError, ValueError):
        return False  # it does not pass on what attention needs
    finally:
        decoder.train(was_training)
    apart_LH = torch.cat(apart).float()
    limit = max(1e-3, 4 * torch.finfo(packed_LH.dtype).eps) * float(apart_LH.nan_to_num(0.0, 0.0, 0.0).abs().max())
    return torch.allclose(packed_LH.float(), apart_LH, rtol=0, atol=limit, equal_nan=True)


def packed_states(decoder: Any, sequences: list[list[int]]) -> torch.Tensor:
    """Last hidden states [L, hidden size] of the sequences, one after another."""
    inputs = packed_inputs(decoder, sequences)
    with attending_by(decoder.config.get_text_config(decoder=True), PACKED):
        output = decoder(**inputs, use_cache=False)
    return output.last_hidden_state[0, : sum(map(len, sequences))]


def packed_inputs(model: Any, sequences: list[list[int]]) -> dict[str, Any]:
    """The inputs with which a model with PACKED attention reads the sequences one after another.

    If products are prepared per shape, an extra sequence is read with them, so that only a few numbers of tokens occur.
    """
    tokens = sum(map(len, sequences))
    if tokens % KNOWN_ROWS and uses_onednn(next(model.parameters())):
        sequences = [*sequences, [0] * (-tokens % KNOWN_ROWS)]
    lengths = list(map(len, sequences))
    return {
        "input_ids": torch.tensor([[token for sequence in sequences for token in sequence]]),
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "packed_lengths": lengths,
    }


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    packed_lengths: list[int],
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention on each sequence of queries, keys and values [1, H, L, D]; returns [1, L, H, D].

    transformers creates no mask for an attention with a name that is not its own.
    """
    own, dropped = AttentionInterface()["sdpa"], options.get("dropout", 0.0)
    outputs = []
    # split instead of sliced, so that the gradient of all parts is a single tensor
    for part in zip(*(each.split(packed_lengths, dim=2) for each in (query, key, value)), strict=True):
        if query.dtype == torch.bfloat16 and not dropped:
            scale = options.get("scaling") or query.shape[-1] ** -0.5
            outputs.append(_ProductAttention.apply(*part, scale).transpose(1, 2))
        else:
            outputs.append(own(module, *part, None, **options)[0])
    return torch.cat(outputs, dim=1), None


class _ProductAttention(torch.autograd.Function):
    """Causal attention of one sequence by plain matrix products: on CPUs, in bfloat16, up to twice as fast as torch's
    fused kernel. Like that kernel, it keeps no probabilities of a long sequence for the backward pass. The
    probabilities of a short sequence take less memory than its other activations, and computing them again would take 3
    % of a training step of SmolLM2-135M.

    The R = H/K heads of queries [1, H, L, D] that share keys and values [1, K, L, D] are read together, a block of P
    positions at a time, which sees no later position: G = R·P rows.
    """

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
        query_KRLD = (query * scale).view(key.shape[1], -1, *query.shape[2:])
        ctx.scale = scale
        output_KRLD, kept = torch.empty_like(query_KRLD), []
        for heads, rows in _blocks(query_KRLD):
            seen = (heads, slice(rows.stop))
            p_KGL = _probabilities(_block(query_KRLD, heads, rows), key[0][seen])
            _put(output_KRLD, heads, rows, torch.bmm(p_KGL, value[0][seen]))
            if query.shape[2] <= KEPT_LENGTH:
                kept.append(p_KGL)
        ctx.save_for_backward(query_KRLD, key, value, *kept)
        return output_KRLD.view(query.shape)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query_KRLD, key, value, *kept = ctx.saved_tensors
        gradient_KRLD = gradient.reshape(query_KRLD.shape)
        of_query_KRLD = torch.empty_like(query_KRLD)
        # many blocks add to these
        sums = torch.promote_types(key.dtype, torch.float32)
        of_key, of_value = torch.zeros_like(key[0], dtype=sums), torch.zeros_like(value[0], dtype=sums)
        for place, (heads, rows) in enumerate(_blocks(query_KRLD)):
            seen = (heads, slice(rows.stop))
            query_KGD, own_KGD = (_block(each, heads, rows) for each in (query_KRLD, gradient_KRLD))
            p_KGL = kept[place] if kept else _probabilities(query_KGD, key[0][seen])
            of_value[seen] += torch.bmm(p_KGL.transpose(1, 2), own_KGD)
            of_p_KGL = torch.bmm(own_KGD, value[0][seen].transpose(1, 2))
            of_score_KGL = torch._softmax_backward_data(of_p_KGL, p_KGL, -1, p_KGL.dtype)
            of_key[seen] += torch.bmm(of_score_KGL.transpose(1, 2), query_KGD)
            _put(of_query_KRLD, heads, rows, torch.bmm(of_score_KGL, key[0][seen]))
        of_query = of_query_KRLD.mul_(ctx.scale).view(gradient.shape)
        return of_query, of_key[None].to(key.dtype), of_value[None].to(value.dtype), None


def _blocks(query_KRLD: torch.Tensor) -> list[tuple[slice, slice]]:
    """How many heads of keys and positions of queries fit in the cache together with their scores."""
    heads, shared, length, _ = query_KRLD.shape
    found = []
    for start in range(0, length, BLOCK):
        end = min(start + BLOCK, length)
        size = max(CACHED_SCORES * torch.get_num_threads() // (shared * (end - start) * end), 1)
        found += [(slice(first, first + size), slice(start, end)) for first in range(0, heads, size)]
    return found


def kept_bytes(heads: int, length: int) -> int:
    """The bytes that a layer keeps, until its backward pass, of the attention of one bfloat16 sequence of `length`
    tokens.
    """
    if length > KEPT_LENGTH:
        return 0
    ends = [min(start + BLOCK, length) for start in range(0, length, BLOCK)]
    return 2 * heads * sum((end - start) * end for start, end in zip(range(0, length, BLOCK), ends, strict=True))


def _block(states_KRLD: torch.Tensor, heads: slice, rows: slice) -> torch.Tensor:
    """These positions of these heads [K, G, D]."""
    block_KRPD = states_KRLD[heads, :, rows]
    return block_KRPD.reshape(len(block_KRPD), -1, block_KRPD.shape[3])


def _put(states_KRLD: torch.Tensor, heads: slice, rows: slice, block_KGD: torch.Tensor) -> None:
    place_KRPD = states_KRLD[heads, :, rows]
    place_KRPD.copy_(block_KGD.view(place_KRPD.shape))


def _probabilities(query_KGD: torch.Tensor, key_KLD: torch.Tensor) -> torch.Tensor:
    """The attention probabilities of each query [K, G, L]; the last queries belong to the last positions."""
    score_KGL = torch.bmm(query_KGD, key_KLD.transpose(1, 2))
    length = key_KLD.shape[1]
    block = (length - 1) % BLOCK + 1
    of_block_KRPL = score_KGL.view(len(score_KGL), -1, block, length)
    of_block_KRPL[..., length - block :] += _later(BLOCK, score_KGL.dtype)[:block, :block]
    return torch.softmax(score_KGL, dim=-1)


@functools.cache
def _later(length: int, dtype: torch.dtype) -> torch.Tensor:
    """Minus infinity for the positions that come later."""
    return torch.full((length, length), float("-inf"), dtype=dtype).triu_(1)


AttentionInterface.register(PACKED, packed_attention)
