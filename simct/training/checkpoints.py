"""Checkpoints: the trained parameters, the optimizer and the running mean, written completely or not at all.

Sharded weights are written whole, so that a run can resume on another number of processes.
"""

import json
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from safetensors.torch import load_file, save_file

from simct.config import RunConfig
from simct.errors import RunError, brief
from simct.files import read_json, sync_folder, write_atomically
from simct.models.adapters import merged_student, trainable_student
from simct.runs.checkpoints import CONFIG_FILE, STEP_FILE, TRAINED_FILE, checkpoints_in, seal
from simct.training.optimizer import WeightAverage
from simct.training.sharding import like, load_optimizer_state, optimizer_state, own_part, to_whole

SHARDED_FILE = "optimizer.pt"
BEST_FILE = "best.json"
# prefix of the student's parameters within the module that is trained
WRAPPED = "student."
# Accelerate's name for the first object registered with it, the running mean
AVERAGE_FILE = "custom_checkpoint_0.pkl"


def trained_parameters(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The parameters that checkpoints hold: no frozen base under LoRA, no tied weight twice."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def checkpoint_trained_parameters(accelerator: Accelerator) -> None:
    """Make Accelerate's checkpoints hold the trained parameters only."""

    def save(models: list[torch.nn.Module], weights: list[dict], folder: str) -> None:
        if accelerator.is_main_process:
            trained = trained_parameters(accelerator.unwrap_model(models[0]))
            save_file({n: p.detach().contiguous() for n, p in trained.items()}, Path(folder) / TRAINED_FILE)
        weights.clear()

    def load(models: list[torch.nn.Module], folder: str) -> None:
        saved = load_file(Path(folder) / TRAINED_FILE)
        with torch.no_grad():
            for name, parameter in trained_parameters(accelerator.unwrap_model(models[0])).items():
                parameter.copy_(saved[name])
        models.clear()

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)


def save_state(
    accelerator: Accelerator,
    module: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
    folder: Path,
) -> None:
    """Write everything that a run resumes from into `folder`. All processes must call this."""
    if accelerator.distributed_type == DistributedType.FSDP:
        _save_sharded(accelerator, module, optimizer, average, folder)
    else:
        accelerator.save_state(str(folder))


def load_state(
    accelerator: Accelerator,
    module: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
    folder: Path,
) -> int:
    """Load what `save_checkpoint` wrote to `folder`; returns its step. To be called by all processes.

    Raises RunError if the checkpoint has undetected damage, or is of another student.
    """
    try:
        if accelerator.distributed_type == DistributedType.FSDP:
            _load_sharded(accelerator, module, optimizer, average, folder)
        else:
            accelerator.load_state(str(folder))
        return json.loads((folder / STEP_FILE).read_text())["step"]
    except Exception as error:
        reason = f"{type(error).__name__}: {brief(error)}".rstrip(".")
        raise RunError(
            f"Cannot resume from {folder.name}: {reason}. Remove {str(folder)!r} to resume from the one before it."
        ) from error


def student_at(student: Any, folder: Path, config: RunConfig) -> Any:
    """`student`, loaded as the run with `config` starts, with the weights of the checkpoint in `folder`; LoRA merged.

    The weights are the running mean if the run keeps one, as in the student that it saves. `student` is changed. Raises
    RunError for a checkpoint that cannot be read or is of another student.
    """
    student = trainable_student(student, config)
    parameters = trained_parameters(student)
    try:
        saved = {name.removeprefix(WRAPPED): value for name, value in load_file(folder / TRAINED_FILE).items()}
        means = _running_mean(folder, list(parameters)) if config.training.ema_decay else {}
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(means.get(name, saved[name]))
    except Exception as error:
        raise RunError(f"Cannot read the checkpoint {folder.name}: {type(error).__name__}: {brief(error)}") from error
    return merged_student(student, config).eval()


def _running_mean(folder: Path, names: list[str]) -> dict[str, torch.Tensor]:
    """The running mean of the parameters with these names, from a checkpoint saved in either way."""
    sharded = (folder / SHARDED_FILE).is_file()
    path = folder / (SHARDED_FILE if sharded else AVERAGE_FILE)
    state = torch.load(path, map_location="cpu", weights_only=True)
    return dict(zip(names, (state["average"] if sharded else state)["means"], strict=True))


def _save_sharded(
    accelerator: Accelerator,
    module: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
    folder: Path,
) -> None:
    tensors = {name: to_whole(parameter.detach()) for name, parameter in trained_parameters(module).items()}
    state: dict[str, Any] = {
        "optimizer": optimizer_state(optimizer),
        "average": to_whole(average.state_dict()) if average else None,
    }
    if accelerator.scaler:
        state["scaler"] = accelerator.scaler.state_dict()
    if accelerator.is_main_process:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / TRAINED_FILE)
        torch.save(state, folder / SHARDED_FILE)


def _load_sharded(
    accelerator: Accelerator,
    module: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
    folder: Path,
) -> None:
    """Load what `_save_sharded` wrote, each process its own part."""
    saved = load_file(folder / TRAINED_FILE)
    state = torch.load(folder / SHARDED_FILE, map_location="cpu", weights_only=True)
    with torch.no_grad():
        for name, parameter in trained_parameters(module).items():
            own_part(parameter).copy_(own_part(like(saved[name], parameter)))
    load_optimizer_state(optimizer, state["optimizer"])
    if average:
        average.load_state_dict(state["average"])
    # checkpoints of earlier versions have none
    if accelerator.scaler and state.get("scaler"):
        accelerator.scaler.load_state_dict(state["scaler"])


def save_checkpoint(
    accelerator: Accelerator, save: Callable[[Path], None], folder: Path, step: int, described: str = ""
) -> None:
    """Write checkpoints/step-N completely or not at all. `save(folder)` writes the state, called by all processes.

    `described` is the run.yaml that it is trained with.
    """
    target, temporary = folder / f"step-{step}", folder / f".step-{step}"
    if accelerator.is_main_process:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    accelerator.wait_for_everyone()
    try:
        save(temporary)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            (temporary / STEP_FILE).write_text(json.dumps({"step": step}))
            if described:
                (temporary / CONFIG_FILE).write_text(described, encoding="utf-8")
            seal(temporary)
            shutil.rmtree(target, ignore_errors=True)
            os.replace(temporary, target)
            sync_folder(folder)
    except BaseException:
        # on a full disk it would keep the space occupied
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    accelerator.wait_for_everyone()


@dataclass(frozen=True)
class BestCheckpoint:
    """The content of best.json: the best checkpoint's step, and the value that makes it the best."""

    step: int
    by: str
    value: float


def best_checkpoint(folder: Path, by: str) -> BestCheckpoint | None:
    """The best checkpoint in `folder` so far.

    None if there is none, or if best.json is damaged or was made with another `best_by`.
    """
    record = read_json(folder / BEST_FILE)
    step, value = record.get("step"), record.get("value", record.get(by))
    if record.get("by", by) != by or type(step) is not int or not isinstance(value, int | float) or math.isnan(value):
        return None
    return BestCheckpoint(step, by, float(value)) if (folder / f"step-{step}" / STEP_FILE).is_file() else None


def note_best(
    folder: Path, step: int, by: str, value: float, higher_is_better: bool = False, better: bool | None = None
) -> None:
    """Name checkpoints/step-N in best.json if no other is better by `value`; of two equal ones, the newer is named.

    `better` says whether it is, where the two values alone do not.
    """
    before = best_checkpoint(folder, by)
    sign = -1 if higher_is_better else 1
    if better is None or before is None:
        better = before is None or sign * value <= sign * before.value
    if math.isfinite(value) and better:
        write_atomically(folder / BEST_FILE, json.dumps({"step": step, "by": by, "value": value}))


def remove_old(folder: Path, step: int, keep: int) -> None:
    """Remove all checkpoints except the newest `keep` up to `step` and the best one."""
    best = read_json(folder / BEST_FILE).get("step")
    # a leftover folder with a higher number does not count as one of the newest
    steps = [each for each, _ in checkpoints_in(folder) if each <= step]
    for old in steps[keep:]:
        if old != best:
            shutil.rmtree(folder / f"step-{old}", ignore_errors=True)
