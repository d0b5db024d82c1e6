"""What is trained and how: frozen parts, LoRA, optimisers by name, the schedule, a running mean of the weights."""

import importlib
import inspect
import math
from collections.abc import Iterable
from dataclasses import replace

import torch

from simct.config import LoraConfig, RunConfig, TrainingConfig
from simct.errors import ConfigError, brief
from simct.models.loading import load_model
from simct.training.sharding import like, own_part


def trainable_student(student, config: RunConfig):
    """`student` with parts frozen and LoRA added as the run says. Raises ConfigError if nothing is left to train."""
    if config.lora.rank:
        torch.manual_seed(config.training.seed)  # adapters start at random
        student = _with_lora(student, config.lora, config.lora.rank)
    for part in config.training.freeze:
        matched = [parameter for name, parameter in student.named_parameters() if part in name]
        if not matched:
            raise ConfigError(f"training.freeze: no parameter of the student has {part!r} in its name.")
        for parameter in matched:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in student.parameters()):
        raise ConfigError(f"training.freeze is {config.training.freeze!r}, which leaves nothing to train.")
    return student


def _with_lora(student, lora: LoraConfig, rank: int):
    import peft

    try:
        return peft.get_peft_model(
            student,
            peft.LoraConfig(
                r=rank,
                lora_alpha=lora.alpha or 2 * rank,
                lora_dropout=lora.dropout,
                target_modules=lora.targets[0] if len(lora.targets) == 1 else lora.targets,
                task_type="CAUSAL_LM",
            ),
        )
    except ValueError as error:
        reason = brief(error)
        raise ConfigError(f"lora.targets is {lora.targets!r}: {reason}") from error


def merged_student(student, config: RunConfig, token: str | None = None):
    """The plain model: LoRA adapters, if any, merged into the weights they adapt.

    Adapters of a quantized student are merged into its weights as they were before, read anew on the CPU: merged into
    the quantized ones they would be rounded with them.
    """
    if not hasattr(student, "merge_and_unload"):
        return student
    if config.student.quantization is None:
        return student.merge_and_unload()
    import peft

    whole = trainable_student(load_model(replace(config.student, quantization=None), token=token), config)
    peft.set_peft_model_state_dict(whole, peft.get_peft_model_state_dict(student))
    return whole.merge_and_unload()


def build_optimizer(parameters: Iterable[torch.nn.Parameter], training: TrainingConfig) -> torch.optim.Optimizer:
    """An optimiser of torch.optim by name (AdamW, SGD, …), or of bitsandbytes as bitsandbytes.AdamW8bit.

    Raises ConfigError for a name that does not exist or a package that is not installed.
    """
    package, _, name = training.optimizer.rpartition(".")
    if package not in ("", "torch.optim", "bitsandbytes"):
        raise ConfigError(f"training.optimizer is {training.optimizer!r}; give AdamW or bitsandbytes.AdamW8bit, say.")
    try:
        module = importlib.import_module("bitsandbytes.optim" if package == "bitsandbytes" else "torch.optim")
    except ImportError as error:
        raise ConfigError(f"training.optimizer is {training.optimizer!r}: install {package} first.") from error
    kind = getattr(module, name, None)
    if not isinstance(kind, type) or name == "Optimizer":
        raise ConfigError(f"training.optimizer is {training.optimizer!r}; {module.__name__} has no such optimiser.")
    parameters = list(parameters)
    # in one pass over memory instead of one for each term, on the devices that have it
    fusible = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
    options = {"fused": True} if fusible and "fused" in inspect.signature(kind).parameters else {}
    try:
        return kind(parameters, lr=training.learning_rate, weight_decay=training.weight_decay, **options)
    except TypeError as error:
        raise ConfigError(f"training.optimizer is {training.optimizer!r}: {error}.") from error


def learning_rate_at(step: int, training: TrainingConfig) -> float:
    """The rate for optimiser step `step` (1-based): linear warm-up, then the schedule down to zero after the last."""
    warmup = math.ceil(training.warmup_ratio * training.steps)
    if step <= warmup:
        return training.learning_rate * step / warmup
    progress = (step - 1 - warmup) / max(1, training.steps - warmup)
    if training.schedule == "cosine":
        return training.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
    if training.schedule == "linear":
        return training.learning_rate * (1 - progress)
    return training.learning_rate


class WeightAverage:
    """An exponential running mean of trained parameters, kept beside them and checkpointed with them."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter], decay: float):
        self.parameters, self.decay = list(parameters), decay
        self.means = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        parameters = [own_part(parameter.detach()) for parameter in self.parameters]
        torch._foreach_lerp_([own_part(mean) for mean in self.means], parameters, 1 - self.decay)

    @torch.no_grad()
    def apply(self) -> None:
        """Give the model the means, once training is over."""
        for parameter, mean in zip(self.parameters, self.means, strict=True):
            parameter.copy_(mean)

    def state_dict(self) -> dict:
        return {"means": self.means}

    def load_state_dict(self, state: dict) -> None:
        for mean, saved in zip(self.means, state["means"], strict=True):
            own_part(mean).copy_(own_part(like(saved, mean)))
