"""Weights split over the processes: FSDP2 (the teacher's by us, the student's by Accelerate) and DeepSpeed ZeRO.

A sharded parameter is a DTensor of which each process holds a part.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from simct.config import RunConfig
from simct.errors import ConfigError, RunError
from simct.models.adapters import plain_state, without_adapters

T = TypeVar("T")

# How long a process waits for the others. It must outlast what one process does alone, such as scoring the student on
# tasks, and the usual ten minutes of NCCL do not. It must also end, because processes that hang keep their GPUs. The
# launcher ends all processes as soon as one fails.
LONGEST_WAIT = timedelta(hours=12)


def shard_teacher(teacher: torch.nn.Module) -> None:
    """Split the teacher's decoder over all processes, layer by layer, in place; each layer is gathered while it runs.

    The lm_head stays whole: the losses read its columns at every step.
    """
    decoder = cast(torch.nn.Module, teacher.base_model)
    for module in decoder.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) and module is not decoder:
            for layer in module:
                fully_shard(layer)
    fully_shard(decoder)


def with_whole_weights(module: torch.nn.Module, work: Callable[[], T]) -> T:
    """The result of `work()`, run while every sharded part of `module` is whole on every process.

    For generation and saving, between training steps, by all processes; `module.forward(inside=work)` must call `work`,
    as FSDP2 wants all use of its weights inside its root. For a module that is not sharded, `work` is simply called.
    """
    sharded = [part for part in module.modules() if isinstance(part, FSDPModule)]
    if not sharded:
        return work()
    root, *layers = sharded

    def inside() -> T:
        for layer in layers:
            layer.unshard()
            # the processes write texts of different length, so no layer may wait for the others
            layer.set_reshard_after_forward(False)
        try:
            return work()
        finally:
            for layer in layers:
                layer.set_reshard_after_forward(True)
                layer.reshard()

    with torch.no_grad():
        result = module(inside=inside)
    root.reshard()
    return result


def to_whole(value: Any) -> Any:
    """`value` with every DTensor in it gathered, in dicts and lists too. To be called by all processes."""
    if isinstance(value, DTensor):
        return value.full_tensor()
    if isinstance(value, dict):
        return {key: to_whole(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_whole(item) for item in value]
    return value


def like(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """The whole tensor `value`, split as `parameter` is; as it is when `parameter` is not sharded."""
    if not isinstance(parameter, DTensor):
        return value
    return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)


def own_part(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part of a sharded tensor, sharing its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict:
    """The optimizer's state with whole tensors. To be called by all processes."""
    return to_whole(optimizer.state_dict())


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict) -> None:
    """Give the optimizer a state of whole tensors, split as its parameters are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, kept in state["state"].items():
        parameter = parameters[int(index)]
        for name, value in kept.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                kept[name] = like(value, parameter)
    optimizer.load_state_dict(state)


def whole_student(module: torch.nn.Module, student: PreTrainedModel, keep: bool) -> PreTrainedModel | None:
    """The trained student as a separate plain model, LoRA merged, on the CPU; None where `keep` is false.

    `module` is what Accelerate sharded, `student` the model in it. To be called by all processes.
    """

    def weights() -> dict[str, torch.Tensor]:
        return {name: value.to("cpu", copy=True) for name, value in plain_state(student).items()} if keep else {}

    state = with_whole_weights(module, weights)
    if not keep:
        return None
    base = without_adapters(student)
    plain: Any = type(base)(base.config)
    plain.to(base.dtype)
    plain.load_state_dict(state)
    plain.generation_config = base.generation_config
    return plain


def on_any_process(accelerator: Accelerator, flag: bool) -> bool:
    """Whether `flag` is set on any process, so that all stop at the same step."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device)).item())


def on_all_processes(accelerator: Accelerator, count: int) -> int:
    """The largest of the processes' counts, which all of them then use."""
    if accelerator.num_processes == 1:
        return count
    return int(accelerator.gather(torch.tensor([count], device=accelerator.device)).max())


def configure_deepspeed(accelerator: Accelerator, config: RunConfig) -> None:
    """Set what Accelerate would set from a data loader. Raises ConfigError for settings DeepSpeed does not support."""
    training = config.training
    stage = accelerator.deepspeed_plugin.zero_stage
    if stage > 2:
        raise ConfigError(f"DeepSpeed ZeRO {stage} is not supported; use ZeRO 2, or training.parallel fsdp2.")
    local = training.batch_size // accelerator.num_processes
    if training.micro_batch_size and training.micro_batch_size < local:
        # DeepSpeed steps at every backward pass, and the rows of the whole step must be counted before that
        raise ConfigError(
            f"training.micro_batch_size is {training.micro_batch_size}; with DeepSpeed it must be at least the "
            f"{local} rollouts of a process. Leave it empty, or use training.parallel fsdp2."
        )
    accelerator.deepspeed_plugin.deepspeed_config |= {
        "train_micro_batch_size_per_gpu": local,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": training.max_grad_norm,
        "zero_allow_untested_optimizer": True,
    }


def deepspeed_step(accelerator: Accelerator, engine: Any, loss: torch.Tensor) -> float:
    """Backward pass, clipping and optimizer step in one, as DeepSpeed does them; returns the norm of the gradient.

    Raises RunError, before anything is applied, when the loss is not finite.
    """
    if not torch.isfinite(accelerator.reduce(loss.detach())):
        raise RunError("The loss is not finite. Lower training.learning_rate or use bf16, and resume.")
    accelerator.backward(loss)
    return float(engine.get_global_grad_norm() or 0.0)
