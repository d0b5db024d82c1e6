"""Optimizers by name, and a running mean of the trained weights."""

import importlib
import inspect
from collections.abc import Iterable
from typing import Any

import torch

from simct.config.optimization import TrainingConfig
from simct.errors import ConfigError
from simct.training.sharding import like, own_part


def build_optimizer(parameters: Iterable[torch.nn.Parameter], training: TrainingConfig) -> torch.optim.Optimizer:
    """An optimizer of torch.optim by name (AdamW, SGD, …), or of bitsandbytes as bitsandbytes.AdamW8bit.

    Weight decay leaves out parameters with fewer than two dimensions, which are norms and biases, as in transformers.
    Raises ConfigError for a name that does not exist or a package that is not installed.
    """
    package, _, name = training.optimizer.rpartition(".")
    if package not in ("", "torch.optim", "bitsandbytes"):
        raise ConfigError(f"training.optimizer is {training.optimizer!r}; choose for example bitsandbytes.AdamW8bit.")
    try:
        module = importlib.import_module("bitsandbytes.optim" if package == "bitsandbytes" else "torch.optim")
    except ImportError as error:
        raise ConfigError(f"training.optimizer is {training.optimizer!r}: install {package} first.") from error
    # any: each class has its own options
    kind: Any = getattr(module, name, None)
    if not (isinstance(kind, type) and torch.optim.Optimizer in kind.__mro__[1:]):
        raise ConfigError(f"training.optimizer is {training.optimizer!r}; {module.__name__} has no such optimizer.")
    parameters = list(parameters)
    # one pass over memory instead of one for each term, on devices that support it
    fusible = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
    options = {"fused": True} if fusible and "fused" in inspect.signature(kind).parameters else {}
    # one group where nothing decays, so that such checkpoints of earlier versions still load
    groups: Any = _decayed_and_not(parameters) if training.weight_decay else parameters
    try:
        return kind(groups, lr=training.learning_rate, weight_decay=training.weight_decay, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"training.optimizer is {training.optimizer!r}: {error}. Choose another, such as AdamW."
        ) from error


def _decayed_and_not(parameters: list[torch.nn.Parameter]) -> list[dict[str, Any]]:
    matrices = [parameter for parameter in parameters if parameter.dim() >= 2]
    others = [parameter for parameter in parameters if parameter.dim() < 2]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


class WeightAverage:
    """An exponential running mean of the trained parameters, checkpointed with them."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter], decay: float):
        self.parameters, self.decay = list(parameters), decay
        self.means = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        parameters = [own_part(parameter.detach()) for parameter in self.parameters]
        torch._foreach_lerp_([own_part(mean) for mean in self.means], parameters, 1 - self.decay)

    @torch.no_grad()
    def apply(self) -> None:
        """Replace the model's parameters by their means, after training."""
        for parameter, mean in zip(self.parameters, self.means, strict=True):
            parameter.copy_(mean)

    @torch.no_grad()
    def exchange(self) -> None:
        """Swap the model's parameters with their means; a second call undoes the first, bit for bit."""
        for parameter, mean in zip(self.parameters, self.means, strict=True):
            own, other = own_part(parameter.detach()), own_part(mean)
            held = own.clone()
            own.copy_(other)
            other.copy_(held)

    def state_dict(self) -> dict:
        return {"means": self.means}

    def load_state_dict(self, state: dict) -> None:
        for mean, saved in zip(self.means, state["means"], strict=True):
            own_part(mean).copy_(own_part(like(saved, mean)))
