"""Micro-batches: the part of a step that goes through the models in one forward and backward pass.

`training.micro_batch_tokens` limits the tokens of a pass, padding included. Models that read packed sequences
(simct.models.packing) have no padding; for others, sequences of similar length go together, so that there is little.
The gradient of a step does not depend on the split, because the losses of all micro-batches are added up and divided
once, by the rows of the whole step.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import torch
from accelerate import Accelerator

from simct.config.optimization import TrainingConfig

T = TypeVar("T")
R = TypeVar("R")
Lengths = tuple[int, ...]

log = logging.getLogger(__name__)

# The fixed cost of a pass (starting its operations, casting weights, adding to gradients), in tokens
# that all models together could read instead. It keeps sequences from being split one by one for a little padding.
PASS_TOKENS = {"cpu": 128}
PASS_TOKENS_OF_GPUS = 256


@dataclass(frozen=True)
class Padding:
    """The number of tokens that the models read, and of positions that are only padding."""

    tokens: int = 0
    places: int = 0

    @property
    def share(self) -> float:
        """The share of padding in what the models computed."""
        return self.places / max(1, self.tokens + self.places)


class MicroBatches(Generic[T]):
    """Splits the samples of a step, and splits them smaller after memory ran out.

    lengths_of: the tokens of a sample for each model, 0 for one that does not read it. few_passes: each pass is
    expensive, because the teacher's weights are moved for it. packed: the models read without padding. With several
    processes nothing is made smaller, because they agree on their passes before one of them can run out of memory.
    """

    def __init__(
        self,
        training: TrainingConfig,
        accelerator: Accelerator,
        lengths_of: Callable[[T], Lengths],
        few_passes: bool = False,
        packed: bool = False,
    ) -> None:
        self.packed = packed
        self.size, self.tokens = training.micro_batch_size, training.micro_batch_tokens
        self.lengths_of = lengths_of
        self.pass_tokens = PASS_TOKENS.get(accelerator.device.type, PASS_TOKENS_OF_GPUS)
        if few_passes:
            self.pass_tokens = self.tokens
        self._fixed = accelerator.num_processes > 1
        self._current: list[T] = []

    def split(self, samples: Sequence[T]) -> list[list[T]]:
        """The micro-batches of a step: `micro_batch_size` samples each, in order, where that is given; else within
        `micro_batch_tokens`, the longest first, so that whatever does not fit in memory fails first.
        """
        if self.size:
            return [list(samples[start : start + self.size]) for start in range(0, len(samples), self.size)]
        lengths = [self.lengths_of(sample) for sample in samples]
        order = sorted(range(len(samples)), key=lambda index: (sum(lengths[index]), index))
        split = packed_lengths if self.packed else partial(similar_lengths, pass_tokens=self.pass_tokens)
        groups = split([lengths[index] for index in order], self.tokens)
        return [[samples[index] for index in sorted(order[start:end])] for start, end in reversed(groups)]

    def begin(self, part: list[T]) -> list[T]:
        """Record that the pass of this micro-batch begins; returns the micro-batch."""
        self._current = part
        return part

    def run(self, accumulate: Callable[[], R], discard: Callable[[], object]) -> R:
        """`accumulate()`, which splits the step and passes each micro-batch to `begin`; again, with smaller ones, each
        time memory runs out in one. `discard` drops the gradients of the attempt that failed.

        Raises what `accumulate` raises, out of memory included where a single sample does not fit.
        """
        while True:
            try:
                return accumulate()
            except (MemoryError, RuntimeError) as error:
                if not (is_out_of_memory(error) and self._halve()):
                    raise
            discard()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _halve(self) -> bool:
        """Make micro-batches at most half as large as the one that failed; returns whether that is possible."""
        part = self._current
        if self._fixed or len(part) < 2:
            return False
        if self.size:
            before, self.size = len(part), len(part) // 2
            log.warning("Memory ran out in a micro-batch of %d completions: from here on it has %d.", before, self.size)
            return True
        before = tokens_of_pass([self.lengths_of(sample) for sample in part], self.packed)
        self.tokens = before // 2
        log.warning(
            "Memory ran out in a micro-batch of %s tokens: from here on it has at most %s.",
            f"{before:,}",
            f"{self.tokens:,}",
        )
        return True

    def padding(self, parts: Sequence[Sequence[T]]) -> Padding:
        """What the models read in these micro-batches."""
        lengths = [[self.lengths_of(sample) for sample in part] for part in parts if part]
        tokens = sum(sum(each) for part in lengths for each in part)
        return Padding(tokens, 0 if self.packed else sum(_area(part) for part in lengths) - tokens)


def similar_lengths(lengths: Sequence[Lengths], tokens: int, pass_tokens: int) -> list[tuple[int, int]]:
    """(start, end) of each group of sequences, given in the order of their length: the split of least cost.

    A group costs what the models compute, padding included, and `pass_tokens`. Each model reads at most `tokens` of a
    group; a longer sequence forms its own group. O(n · sequences of a group), by dynamic programming.
    """
    best, start_of = [0], [0]
    for end in range(1, len(lengths) + 1):
        width: Lengths = ()
        least, chosen = None, end - 1
        for start in range(end - 1, -1, -1):
            width = tuple(map(max, width, lengths[start])) if width else lengths[start]
            if end - start > 1 and (end - start) * max(width) > tokens:
                break
            cost = best[start] + (end - start) * sum(width) + pass_tokens
            if least is None or cost < least:
                least, chosen = cost, start
        best.append(least or 0)
        start_of.append(chosen)
    groups, end = [], len(lengths)
    while end:
        groups.append((start_of[end], end))
        end = start_of[end]
    return groups[::-1]


def packed_lengths(lengths: Sequence[Lengths], tokens: int) -> list[tuple[int, int]]:
    """(start, end) of each group of sequences, in order, of which each model reads at most `tokens`; a longer sequence
    is a group of its own.
    """
    groups, start = [], 0
    for end in range(1, len(lengths) + 1):
        if end == len(lengths) or tokens_of_pass(lengths[start : end + 1], packed=True) > tokens:
            groups.append((start, end))
            start = end
    return groups


def tokens_of_pass(lengths: Sequence[Lengths], packed: bool) -> int:
    """The most tokens that one model reads of these sequences at once, padding included."""
    return max(map(sum, zip(*lengths, strict=True))) if packed else len(lengths) * max(map(max, lengths))


def _area(lengths: Sequence[Lengths]) -> int:
    # a model that does not read a sequence computes nothing for it
    return sum(sum(map(bool, each)) * max(each) for each in zip(*lengths, strict=True))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the machine had no memory left, which torch reports differently on each kind of device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in message or "can't allocate memory" in message)
