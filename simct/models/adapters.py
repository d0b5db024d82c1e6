"""Which parts of a student are trained: frozen parts, LoRA adapters, and merging or saving adapters."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from simct.config import RunConfig
from simct.config.optimization import LoraConfig
from simct.errors import ConfigError, brief
from simct.hub.model_files import ADAPTER_CONFIG
from simct.models.loading import load_model
from simct.setting import quoted


def trainable_student(student: PreTrainedModel, config: RunConfig) -> PreTrainedModel:
    """`student` with the run's frozen parts and LoRA adapters. Raises ConfigError if nothing is left to train."""
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


ALL_LINEAR = "all-linear"


def adapted_layers(student: torch.nn.Module, targets: list[str]) -> list[str] | str:
    """The full names of the layers that `targets` name, each by its whole name or its last parts.

    PEFT would treat a single text as a regular expression, and regular expressions never come from input. Raises
    ConfigError for a name that no layer has.
    """
    if targets == [ALL_LINEAR]:
        return ALL_LINEAR
    names = [name for name, _ in student.named_modules() if name]
    found: dict[str, None] = {}
    for target in targets:
        named = [name for name in names if name == target or name.endswith(f".{target}")]
        if not named:
            raise ConfigError(
                f"lora.targets is {quoted(targets)}: no layer of the student is named {quoted(target)}. Give the last "
                f"part of a layer's name, such as q_proj, or {ALL_LINEAR}."
            )
        found |= dict.fromkeys(named)
    _refuse_shared_weights(student, list(found))
    return list(found)


def _refuse_shared_weights(student: torch.nn.Module, names: list[str]) -> None:
    """Raise ConfigError for a layer that shares its weight: an adapter merged into it would change the other layer
    too.
    """
    owners: dict[int, list[str]] = {}
    for name, parameter in student.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), []).append(name.removesuffix(".weight"))
    for name in names:
        weight = getattr(student.get_submodule(name), "weight", None)
        other = next((each for each in owners.get(id(weight), []) if each != name), None)
        if other:
            raise ConfigError(
                f"lora.targets: {name} shares its weight with {other} in this student, so an adapter cannot be merged "
                "into it. Leave it out."
            )


def _with_lora(student: PreTrainedModel, lora: LoraConfig, rank: int) -> Any:
    import peft

    layers = adapted_layers(student, lora.targets)
    try:
        return peft.get_peft_model(
            student,
            peft.LoraConfig(
                r=rank,
                lora_alpha=lora.alpha or 2 * rank,
                lora_dropout=lora.dropout,
                target_modules=layers,
                task_type="CAUSAL_LM",
            ),
        )
    except ValueError as error:
        reason = brief(error)
        raise ConfigError(f"lora.targets is {quoted(lora.targets)}: {reason}") from error


def merged_student(student: Any, config: RunConfig, token: str | None = None) -> PreTrainedModel:
    """The plain model: LoRA adapters, if any, merged into the weights they adapt.

    Adapters of a quantized student are merged into the original weights, which are loaded again on the CPU: merged into
    the quantized weights they would be rounded too.
    """
    if not has_adapter(student):
        return student
    if config.student.quantization is None:
        return student.merge_and_unload()
    import peft

    whole: Any = trainable_student(
        load_model(config.student.model_copy(update={"quantization": None}), token=token), config
    )
    peft.set_peft_model_state_dict(whole, peft.get_peft_model_state_dict(student))
    return whole.merge_and_unload()


def has_adapter(student: Any) -> bool:
    return hasattr(student, "merge_and_unload")


def save_adapter(student: Any, folder: Path, base: str, revision: str | None) -> None:
    """Write the LoRA weights of `student` to `folder` in the layout of PEFT, to be loaded onto the model `base`."""
    # "auto" would ask the Hub whether the vocabulary has grown, which no run does
    student.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / ADAPTER_CONFIG
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings |= {"base_model_name_or_path": base, "revision": revision}
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def without_adapters(student: Any) -> Any:
    """The model that LoRA adapts, or the student itself if there are no adapters."""
    return student.get_base_model() if hasattr(student, "get_base_model") else student


def plain_state(student: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The student's weights by the names of the plain model, LoRA added to copies of them; the student is unchanged."""
    from peft.tuners.lora import LoraLayer

    base = without_adapters(student)
    # Any: get_delta_weight is a method of each kind of LoRA layer, not of their common class
    adapted: dict[str, Any] = {name: module for name, module in base.named_modules() if isinstance(module, LoraLayer)}
    merged = {
        f"{name}.weight": module.base_layer.weight + sum(map(module.get_delta_weight, module.active_adapters))
        for name, module in adapted.items()
    }
    # not state_dict(), which would shard the gathered weights again
    named = dict(base.named_parameters(remove_duplicate=False))
    for prefix, module in base.named_modules():
        kept = {
            name: value for name, value in module._buffers.items() if name not in module._non_persistent_buffers_set
        }
        named |= {f"{prefix}.{name}".lstrip("."): value for name, value in kept.items() if value is not None}
    state = {name.replace(".base_layer.", "."): value for name, value in named.items() if ".lora_" not in name}
    return {name: merged.get(name, value).detach() for name, value in state.items()}
