"""The minimum time that this machine needs for a model's matrix products, measured once for each shape."""

import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedModel

from simct.losses.products import linear

CUDA = torch.cuda.is_available()
ROWS = 1024  # of a product of the lm_head that is measured


def now() -> float:
    if CUDA:
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def best(work: Callable[[], object], times: int = 5) -> float:
    """The minimum number of seconds that `work` takes."""
    work()
    taken = []
    for _ in range(times):
        started = now()
        work()
        taken.append(now() - started)
    return min(taken)


class Products:
    """Seconds of bare matrix products, each shape measured once. `tokens`: the most that a pass reads."""

    def __init__(self, dtype: torch.dtype, device: torch.device, tokens: int) -> None:
        self.dtype, self.device, self.tokens = dtype, device, tokens
        self._known: dict[tuple[int, int, int], float] = {}

    def seconds(self, rows: int, inner: int, outer: int) -> float:
        """[rows, inner] times [inner, outer]."""
        shape = (rows, inner, outer)
        if shape not in self._known:
            left = torch.randn(rows, inner, device=self.device).to(self.dtype)
            right = torch.randn(outer, inner, device=self.device).to(self.dtype)
            self._known[shape] = best(lambda: linear(left, right))
        return self._known[shape]

    def forward(self, model: PreTrainedModel, lengths: list[int]) -> float:
        """A decoder's products over sequences of these lengths."""
        tokens = sum(lengths)
        rows = min(tokens, self.tokens)
        layers = sum(self.seconds(rows, layer.in_features, layer.out_features) for layer in linears(model))
        return layers * tokens / rows + sum(self.attention(model.config, length) for length in lengths)

    def backward(self, model: PreTrainedModel, lengths: list[int]) -> float:
        """The products of its backward pass: for the inputs' gradients, and for the weights'."""
        tokens = sum(lengths)
        rows = min(tokens, self.tokens)
        layers = 0.0
        for layer in linears(model):
            layers += self.seconds(rows, layer.out_features, layer.in_features)
            layers += self.seconds(layer.out_features, rows, layer.in_features)
        return layers * tokens / rows + sum(2 * self.attention(model.config, length) for length in lengths)

    def attention(self, config: Any, length: int) -> float:
        """The two products of every head of a sequence, half of each, because later positions are not read."""
        width = config.hidden_size // config.num_attention_heads
        # measured at a length near it, and scaled
        near = 1 << max(4, (length - 1).bit_length())
        both = self.seconds(near, width, near) + self.seconds(near, near, width)
        return both / 2 * (length / near) ** 2 * config.num_attention_heads * config.num_hidden_layers

    def head(self, rows: int, hidden: int, columns: int, backward: bool) -> float:
        seconds = self.seconds(ROWS, hidden, columns)
        if backward:
            seconds += self.seconds(ROWS, columns, hidden) + self.seconds(columns, ROWS, hidden)
        return seconds * rows / ROWS


def linears(model: PreTrainedModel) -> list[torch.nn.Linear]:
    """The products of the decoder's layers, without the lm_head."""
    return [module for module in model.base_model.modules() if isinstance(module, torch.nn.Linear)]


def bandwidth(device: torch.device) -> float:
    """Bytes per second of a sum over memory: two reads and a write."""
    left, right = (torch.ones(32 << 20, device=device) for _ in range(2))
    return 3 * left.numel() * 4 / best(lambda: torch.add(left, right, out=left))
