"""A decode loop over transformers' cache: finished sequences leave the batch, and waiting prompts take their place.

All sequences of the batch end at the same place in the cache, and shorter ones are padded on the left, as in
transformers' `generate`. A step appends one token to each of them, in place. What a sequence reads, and at which
positions, does not depend on the other sequences, so neither do its logits, except for rounding.

Shapes: B sequences of a batch, H heads, L positions of the cache, D size of a head, V rows of the lm_head.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer
from transformers.generation import GenerationMixin

from simct.losses.head import decoder_of
from simct.models.loading import input_device
from simct.models.packing import PACKED, attends_to_all, packed_inputs, packs, parameters_of
from simct.models.plain_step import PlainStep, is_plain
from simct.models.sampling import Sampling
from simct.models.step_attention import STEP, added_mask, attending_by, suits_steps

ROOM = 64  # the number of positions by which a full cache grows
# sequences leave and join the batch when this share of it is free, because joining reads the weights once more
FREE_SHARE = 8
PREFILL_TOKENS = 2**15  # the most tokens of one forward pass over prompts, which limits its activations
# reading without padding saves more time than separate attention for each prompt costs if the layers have this many
# parameters, and if the longest prompt has this many tokens or there are this many padded places per token
LEAST_PACKED, LONG, LEAST_PADDED = 2**23, 128, 0.1
# padded prompts share a forward pass if the shortest has this share of the longest's tokens, or at most this many fewer
SIMILAR, NEARLY = 0.75, 16
NEEDED = {"input_ids", "attention_mask", "position_ids", "past_key_values", "use_cache", "logits_to_keep"}
# these prepare inputs in their own way only beyond the context length with which they were first trained
OWN_PREPARATION_BEYOND_CONTEXT = {"phi3"}


def plain_model(model: Any) -> Any:
    """The transformers model in a PEFT model, its adapters in place."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def can_decode(model: PreTrainedModel, longest: int) -> bool:
    """Whether the loop decodes this model up to `longest` tokens (prompt and completion) as `generate` does.

    It does not if a layer has a sliding window shorter than that, shares its keys or keeps a state, if the model
    prepares inputs in its own way, or if positions are scaled by the longest sequence of the batch.
    """
    plain = plain_model(model)
    kind: Any = type(plain)
    if not issubclass(kind, GenerationMixin) or not parameters_of(kind.forward) >= NEEDED:
        return False
    config = plain.config.get_text_config(decoder=True)
    own_preparation = kind.prepare_inputs_for_generation is not GenerationMixin.prepare_inputs_for_generation
    if own_preparation and config.model_type not in OWN_PREPARATION_BEYOND_CONTEXT:
        return False
    if not kind._supports_default_dynamic_cache():
        return False
    return longest <= _scaled_beyond(config) and attends_to_all(plain, longest)


def _scaled_beyond(config: Any) -> float:
    """The length beyond which RoPE depends on the longest sequence of a batch."""
    parameters = getattr(config, "rope_parameters", None) or {}
    nested = [each for each in parameters.values() if isinstance(each, dict)]
    scaled = [each for each in (parameters, *nested) if each.get("rope_type") in ("dynamic", "longrope")]
    if not scaled:
        return float("inf")
    first = [getattr(config, "original_max_position_embeddings", None), config.max_position_embeddings]
    known = [each.get("original_max_position_embeddings") for each in scaled] + first
    return min(length for length in known if length)


class GrowingLayer(DynamicLayer):
    """Keys and values [B, H, L, D] of all tokens read, in buffers with room for more, so that a step copies none."""

    # no tensors before the first update
    keys: Any
    values: Any

    def __init__(self, is_sliding: bool = False) -> None:
        super().__init__()
        self.is_sliding = is_sliding  # models look for their mask by it
        self.length = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.keys, self.values, self.is_initialized = key_states, value_states, True
        else:
            self.keys = _appended(self.keys, key_states, self.length)
            self.values = _appended(self.values, value_states, self.length)
        self.length += key_states.shape[2]
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def get_seq_length(self) -> int:
        return self.length

    def spread(self, lengths: list[int]) -> None:
        """Turn keys and values of sequences that were read packed [1, H, T, D] into those of a batch, with room for
        more; all sequences end at the same place.
        """
        self.keys, self.values = (_spread(each, lengths) for each in (self.keys, self.values))
        self.length = max(lengths)


def _appended(buffer: torch.Tensor, states: torch.Tensor, length: int) -> torch.Tensor:
    """The buffer with `states` after its first `length` positions; a larger one if they do not fit."""
    end = length + states.shape[2]
    if end > buffer.shape[2]:
        larger = buffer.new_zeros(*buffer.shape[:2], end + ROOM, buffer.shape[3])
        larger[:, :, :length] = buffer[:, :, :length]
        buffer = larger
    buffer[:, :, length:end] = states
    return buffer


def _spread(states_1HTD: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    _, heads, _, size = states_1HTD.shape
    longest = max(lengths)
    spread_BHLD = states_1HTD.new_zeros(len(lengths), heads, longest + ROOM, size)
    for row, states_HLD in enumerate(states_1HTD[0, :, : sum(lengths)].split(lengths, dim=1)):
        spread_BHLD[row, :, longest - lengths[row] : longest] = states_HLD
    return spread_BHLD


@dataclass
class _Sequence:
    """One completion that is being written; its last token has not been read yet."""

    index: int
    prompt: list[int]
    written: list[int] = field(default_factory=list)
    finished: bool = False

    @property
    def read(self) -> int:
        """How many of its tokens are in the cache."""
        return len(self.prompt) + max(0, len(self.written) - 1)


@dataclass
class _Batch:
    """Sequences in one cache, each from its position in `starts` to the end. Finished sequences keep running until they
    leave; what is written for them is dropped.
    """

    sequences: list[_Sequence]
    cache: Cache
    starts: list[int]
    seen_BV: torch.Tensor | None

    @property
    def length(self) -> int:
        return cast(GrowingLayer, self.cache.layers[0]).length

    @property
    def running(self) -> list[int]:
        """The rows that are not finished."""
        return [row for row, sequence in enumerate(self.sequences) if not sequence.finished]


class DecodeLoop:
    """Writes completions of prompts (token ids), by a model in evaluation mode that `can_decode` accepts."""

    def __init__(
        self, model: Any, end_ids: tuple[int, ...], pad_id: int, max_new_tokens: int, sampling: Sampling
    ) -> None:
        self.model, self.sampling = plain_model(model), sampling
        self.ends, self.pad_id, self.limit = set(end_ids), pad_id, max_new_tokens
        self.config = config = self.model.config.get_text_config(decoder=True)
        self.is_sliding = DynamicCache(config=config).is_sliding
        # sdpa takes a mask of [B, 1, 1, L] as it is; for other kernels the model makes its own from [B, L]
        self.whole_masks = config._attn_implementation == "sdpa"
        self.attention = STEP if suits_steps(self.model) else config._attn_implementation
        self.plain = PlainStep(self.model, self.attention) if is_plain(self.model) else None
        self.packed = False
        self.device = input_device(self.model)  # of an offloaded model, where its layers run

    # not inference_mode: a sharded model writes into its gathered weights again outside of it
    @torch.no_grad()
    def write(self, prompts: list[list[int]], batch_size: int) -> Iterator[tuple[int, list[int]]]:
        """(prompt index, completion ids) as they are finished; at most `batch_size` are written at a time."""
        self.packed = bool(prompts) and self._packs(max(map(len, prompts)))
        waiting = [_Sequence(index, prompt) for index, prompt in enumerate(prompts)]
        # the longest first, so that prompts of similar length are read together and the cache rarely grows
        waiting.sort(key=lambda sequence: -len(sequence.prompt))
        batch: _Batch | None = None
        while waiting or batch:
            parts = [batch] if batch else []
            free = batch_size - sum(len(part.running) for part in parts)
            if waiting and free >= max(1, batch_size // FREE_SHARE):
                taken, waiting = waiting[:free], waiting[free:]
                parts += [self._read_prompts(group) for group in groups_of(taken, self.packed)]
                yield from ((each.index, each.written) for each in taken if each.finished)
            batch = parts[0] if len(parts) == 1 and not _may_leave(parts[0]) else self._joined(parts)
            if batch:
                yield from self._step(batch)

    def _packs(self, longest: int) -> bool:
        """Whether prompts are read one after another, without padding."""
        decoder: Any = decoder_of(self.model)
        large = decoder.num_parameters(exclude_embeddings=True) >= LEAST_PACKED
        # the model passes on to its decoder what the attention needs
        return large and "kwargs" in parameters_of(type(self.model).forward) and packs(decoder, longest)

    def _read_prompts(self, sequences: list[_Sequence]) -> _Batch:
        """The batch of these sequences, with the first token of each written."""
        prompts = [sequence.prompt for sequence in sequences]
        cache = Cache(layers=[GrowingLayer(is_sliding) for is_sliding in self.is_sliding])
        longest, tokens = max(map(len, prompts)), sum(map(len, prompts))
        batch = self._batch(sequences, cache, longest)
        if self.packed and (longest >= LONG or longest * len(prompts) > (1 + LEAST_PADDED) * tokens):
            logits_BV = self._packed_logits(cache, prompts)
        else:
            ids_BL, mask_BL = left_pad(prompts, self.pad_id, self.device)
            position_BL = (mask_BL.cumsum(dim=1) - 1).clamp(min=0)
            logits_BV = self._logits(cache, ids_BL, mask_BL, position_BL)
        self._pick(batch, logits_BV)
        return batch

    def _packed_logits(self, cache: Cache, prompts: list[list[int]]) -> torch.Tensor:
        """Of the last position of each prompt, float32 [B, V]; their keys and values are put into the cache."""
        lengths = list(map(len, prompts))
        with attending_by(self.config, PACKED):
            output = self.model(
                **packed_inputs(self.model, prompts),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=torch.tensor(lengths).cumsum(0) - 1,
            )
        for layer in cast(list[GrowingLayer], cache.layers):
            layer.spread(lengths)
        return output.logits[0].float()

    def _step(self, batch: _Batch) -> list[tuple[int, list[int]]]:
        """Write one more token of each sequence; returns the ones that this finished."""
        rows = batch.running
        ids_B1 = torch.tensor([[sequence.written[-1]] for sequence in batch.sequences], device=self.device)
        position_B1 = torch.tensor([[sequence.read] for sequence in batch.sequences], device=self.device)
        if self.plain:
            logits_BV = self.plain.logits(batch.cache, ids_B1, self._mask(batch), position_B1).float()
        else:
            with attending_by(self.config, self.attention):
                logits_BV = self._logits(batch.cache, ids_B1, self._mask(batch), position_B1)
        self._pick(batch, logits_BV)
        written = [batch.sequences[row] for row in rows]
        return [(each.index, each.written) for each in written if each.finished]

    def _mask(self, batch: _Batch) -> torch.Tensor | None:
        """What each sequence reads in a step, in the model's form; None if all read everything."""
        if self.whole_masks and not any(batch.starts):
            return None
        start_B1 = torch.tensor(batch.starts, device=self.device)[:, None]
        reads_BL = torch.arange(batch.length + 1, device=self.device) >= start_B1
        if not self.whole_masks:
            return reads_BL.long()
        return added_mask(reads_BL[:, None, None]) if self.attention == STEP else reads_BL[:, None, None]

    def _logits(
        self, cache: Cache, ids_BL: torch.Tensor, mask: torch.Tensor | None, position_BL: torch.Tensor
    ) -> torch.Tensor:
        """Of the last position, float32 [B, V]."""
        output = self.model(
            input_ids=ids_BL,
            attention_mask=mask,
            position_ids=position_BL,
            past_key_values=cache,
            use_cache=True,
            # an index copies only that position; with a slice, torch would copy the lm_head for each sequence
            logits_to_keep=1 if ids_BL.shape[1] == 1 else torch.tensor([-1], device=self.device),
        )
        return output.logits[:, -1].to(device=self.device, dtype=torch.float32, copy=True)

    def _pick(self, batch: _Batch, logits_BV: torch.Tensor) -> None:
        """Append the next token to each sequence that is not finished."""
        samples = [sequence.index for sequence in batch.sequences]
        positions = [min(len(sequence.written), self.limit - 1) for sequence in batch.sequences]
        picked_B = self.sampling.pick(logits_BV, samples, positions, batch.seen_BV)
        if batch.seen_BV is not None:
            batch.seen_BV.scatter_(1, picked_B[:, None], True)
        for sequence, token in zip(batch.sequences, picked_B.tolist(), strict=True):
            if not sequence.finished:
                sequence.written.append(token)
                sequence.finished = token in self.ends or len(sequence.written) == self.limit

    def _joined(self, parts: list[_Batch]) -> _Batch | None:
        """One batch of the sequences that are not finished; None if all are. The parts give up their caches."""
        rows = [part.running for part in parts]
        sequences = [part.sequences[row] for part, kept in zip(parts, rows, strict=True) for row in kept]
        if not sequences:
            return None
        length = max(sequence.read for sequence in sequences)
        kept_rows = [torch.tensor(kept, dtype=torch.long, device=self.device) for kept in rows]
        layers: list[Any] = []
        for is_sliding in self.is_sliding:
            # layer by layer, so that little more than one cache is in memory
            old = [cast(GrowingLayer, part.cache.layers.pop(0)) for part in parts]
            layers.append(joined_layers(old, kept_rows, length, is_sliding))
        return self._batch(sequences, Cache(layers=layers), length)

    def _batch(self, sequences: list[_Sequence], cache: Cache, length: int) -> _Batch:
        """A batch whose cache holds, or is about to hold, `length` positions."""
        seen_BV = None
        if self.sampling.repetition_penalty != 1:
            rows = self.model.get_output_embeddings().weight.shape[0]
            seen_BV = torch.zeros(len(sequences), rows, dtype=torch.bool, device=self.device)
            for row, sequence in enumerate(sequences):
                seen_BV[row, torch.tensor([*sequence.prompt, *sequence.written], device=self.device)] = True
        return _Batch(sequences, cache, [length - sequence.read for sequence in sequences], seen_BV)


def _may_leave(batch: _Batch) -> bool:
    """Whether so many sequences are finished that removing them saves more than copying the others costs."""
    finished = len(batch.sequences) - len(batch.running)
    return finished >= max(1, len(batch.sequences) // FREE_SHARE)


def joined_layers(layers: list[GrowingLayer], rows: list[torch.Tensor], length: int, is_sliding: bool) -> GrowingLayer:
    """Rows of several layers in one, their last `length` positions, aligned at the end."""
    joined = GrowingLayer(is_sliding)
    lengths = [layer.length for layer in layers]
    joined.keys = _gathered([layer.keys for layer in layers], lengths, rows, length)
    joined.values = _gathered([layer.values for layer in layers], lengths, rows, length)
    joined.is_initialized, joined.length = True, length
    return joined


def _gathered(buffers: list[torch.Tensor], lengths: list[int], rows: list[torch.Tensor], length: int) -> torch.Tensor:
    kept = [buffer.index_select(0, some.to(buffer.device)) for buffer, some in zip(buffers, rows, strict=True)]
    if len(kept) == 1:
        return kept[0][:, :, lengths[0] - length :]  # the buffer keeps its free space
    _, heads, _, size = buffers[0].shape
    gathered_BHLD = buffers[0].new_zeros(sum(map(len, kept)), heads, length + ROOM, size)
    first = 0
    for kept_BHLD, filled in zip(kept, lengths, strict=True):
        width, end = min(length, filled), first + len(kept_BHLD)
        gathered_BHLD[first:end, :, length - width : length] = kept_BHLD[:, :, filled - width : filled]
        first = end
    return gathered_BHLD


def groups_of(sequences: list[_Sequence], packed: bool) -> list[list[_Sequence]]:
    """Sequences (the longest prompt first) whose prompts are read in one pass each, with little padding or packed."""
    groups: list[list[_Sequence]] = []
    longest = tokens = 0
    for sequence in sequences:
        length = len(sequence.prompt)
        similar = packed or length >= min(SIMILAR * longest, longest - NEARLY)
        added = length if packed else longest
        if groups and similar and tokens + added <= PREFILL_TOKENS:
            groups[-1].append(sequence)
            tokens += added
        else:
            groups.append([sequence])
            longest = tokens = length
    return groups


def left_pad(sequences: list[list[int]], pad_id: int, device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
    """Input ids and attention mask, int64 [B, L], padded on the left as generation needs."""
    length = max(map(len, sequences))
    ids = torch.full((len(sequences), length), pad_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, length - len(sequence) :] = torch.tensor(sequence, dtype=torch.long)
        mask[row, length - len(sequence) :] = 1
    return ids.to(device), mask.to(device)
