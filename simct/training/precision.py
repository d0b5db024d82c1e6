"""The number formats of a run that trains: chosen once, by the main process, and kept by every resume."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType, broadcast_object_list, parse_flag_from_env
from transformers import PretrainedConfig, PreTrainedModel

from simct.config import RunConfig, load_run_config
from simct.config.precision import Precision
from simct.config.sections import ModelConfig
from simct.errors import ConfigError
from simct.hub.model_config import load_config
from simct.hub.model_files import adapter_of
from simct.losses.head import decoder_of
from simct.models.precision import computing_in, precision_of, weights_in
from simct.runs.checkpoints import CONFIG_FILE
from simct.runs.folder import RunFolder
from simct.training.sharding import LONGEST_WAIT


def with_precision(run: RunFolder, config: RunConfig, resume: bool, token: str | None) -> RunConfig:
    """`config` with number formats instead of auto, the same on all processes.

    A resumed run keeps the formats that it was trained in, on any machine, so that it continues to exactly the same
    weights.
    """
    if not Precision.of(config).open:
        return config
    chosen: list[Precision | None] = [None]
    # in the same way as Accelerator, which then finds it already set up
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"), timeout=LONGEST_WAIT)
    if state.is_main_process:
        chosen[0] = (recorded(run) if resume else None) or precision_of(
            config, [config_of(model, token) for model in config.models], state.device.type
        )
    broadcast_object_list(chosen)
    return chosen[0].filled(config) if chosen[0] else config


def splits_weights(accelerator: Accelerator) -> bool:
    """Whether the student's weights are split over processes, or may be."""
    return accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)


def _rounds_weights(accelerator: Accelerator) -> bool:
    """Whether each process computes in bfloat16 with weights in float32, which it can then round once a step."""
    return accelerator.mixed_precision == "bf16" and not splits_weights(accelerator)


def writing(accelerator: Accelerator, student: PreTrainedModel) -> AbstractContextManager[None]:
    """Context for rollouts: under mixed precision, the student writes with the same rounding as it reads."""
    return weights_in(student, torch.bfloat16) if _rounds_weights(accelerator) else accelerator.autocast()


def reading(accelerator: Accelerator, student: PreTrainedModel) -> AbstractContextManager[None]:
    """For the forward and backward passes of a step. Autocast, which Accelerate adds, then finds the decoder's weights
    rounded.
    """
    return computing_in(decoder_of(student), torch.bfloat16) if _rounds_weights(accelerator) else nullcontext()


def recorded(run: RunFolder) -> Precision | None:
    """The formats that a run was trained in: from its last checkpoint, which is also copied to another machine, else
    from its status.
    """
    checkpoint = run.latest_checkpoint()
    found = _in_checkpoint(checkpoint) if checkpoint else None
    return found or Precision.from_dict(run.status().precision)


def _in_checkpoint(folder: Path) -> Precision | None:
    try:
        found = Precision.of(load_run_config(folder / CONFIG_FILE))
    except ConfigError:
        return None
    return None if found.open else found


def config_of(model: ModelConfig, token: str | None) -> PretrainedConfig | None:
    """The model's config; None if no weights are loaded, or if it cannot be read, which loading will report."""
    if model.elsewhere:
        return None
    try:
        adapter = adapter_of(model.model, model.revision, token)
        name, revision = (adapter.base, adapter.base_revision) if adapter else (model.model, model.revision)
        return load_config(name, revision, token)
    except Exception:
        return None
