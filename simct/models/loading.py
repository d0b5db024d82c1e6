"""Loading causal language models safely, and reading their last hidden states.

Only safetensors weights are read and code from a repository is never run. Shapes: B sequences, L padded length or
tokens of packed sequences, N rows (positions that predict a completion token), H hidden size.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import snapshot_download
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedTokenizerBase

from simct.config import local_path
from simct.config.precision import AUTO, trained_dtype
from simct.config.sections import ModelConfig
from simct.errors import ModelError, brief
from simct.hub.errors import known_hub_error
from simct.hub.model_config import load_config
from simct.hub.model_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, check_model_files
from simct.losses.head import decoder_of
from simct.losses.products import multiply_faster
from simct.models.packing import needs_no_mask, packed_states, packs
from simct.models.precision import dtype_of
from simct.tokenization.model_tokens import adapter_rows

if TYPE_CHECKING:
    # importing it takes seconds
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)
SHOWN_NAMES = 5

# otherwise transformers would ask a Space to convert weights that are not safetensors, and send it the reader's token
os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"


def load_model(
    model: ModelConfig, device: torch.device | str | None = None, token: str | bool | None = None
) -> PreTrainedModel:
    """The causal LM in evaluation mode, in `model.dtype`, on `device`; an adapter merged into its base model.

    auto is the format for a model that is only read (simct.models.precision).

    Raises ModelError (one line) if it cannot be loaded, or if the checkpoint lacks parameters or has other shapes, as
    these parameters would be random.
    """
    adapter = check_model_files(model.model, model.revision, token)
    base_name, base_revision = (adapter.base, adapter.base_revision) if adapter else (model.model, model.revision)
    if model.dtype == AUTO:
        model = model.model_copy(update={"dtype": _dtype_here(base_name, base_revision, model, device, token)})
    loaded: Any
    if adapter is None:
        loaded = _whole_model(model.model, model.revision, model, device, token)
    else:
        base = _whole_model(base_name, base_revision, model, device, token)
        loaded = merged_adapter(base, model.model, model.revision, token)
    if model.quantization or model.device == "auto":
        return loaded
    target = model.device or device
    multiply_faster(loaded)
    return loaded.to(torch.device(target)) if target is not None else loaded  # type: ignore[arg-type]


def _dtype_here(
    name: str, revision: str | None, model: ModelConfig, device: torch.device | str | None, token: str | bool | None
) -> str:
    target = device_for_training() if model.device == "auto" else model.device or device or "cpu"
    try:
        return dtype_of(model, load_config(name, revision, token), target)
    except Exception:
        # loading it reports why it cannot be read
        return trained_dtype(model)


def _whole_model(
    name: str, revision: str | None, settings: ModelConfig, device: torch.device | str | None, token: str | bool | None
) -> PreTrainedModel:
    path = local_path(name)
    try:
        # different shapes are refused below, by name
        loaded_and_report: Any = AutoModelForCausalLM.from_pretrained(
            str(path) if path else name,
            revision=revision,
            dtype=getattr(torch, settings.dtype),
            use_safetensors=True,
            trust_remote_code=False,
            token=token,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **_placement(settings, device),
        )
    except ModelError:
        raise
    except Exception as error:
        known = known_hub_error(error, name) if path is None else None
        if known is not None:
            raise known from error
        reason = brief(error)
        if "custom code" in reason or "trust_remote_code" in reason:
            raise ModelError(f"{name!r} needs its own Python code to load, which is never run.") from error
        raise ModelError(f"Cannot load the model in {name!r}: {reason}") from error
    loaded, report = loaded_and_report
    _check_loaded(name, report)
    if encodes(loaded):
        raise ModelError(encoder_line(name, loaded))
    if getattr(loaded, "_hf_peft_config_loaded", False):
        raise ModelError(f"{name!r} holds an adapter that is not merged. Give a whole model, or the adapter alone.")
    return loaded


def encodes(model: PreTrainedModel) -> bool:
    """Whether a model reads the text after each position too, as BERT and RoBERTa do, and so cannot write.

    Transformers loads such a checkpoint as a causal language model without an error.
    """
    is_encoder = getattr(model.config, "is_decoder", None) is False
    return is_encoder and any(getattr(module, "is_decoder", None) is False for module in model.modules())


def encoder_line(name: str, model: PreTrainedModel) -> str:
    """Why an encoder is refused."""
    return (
        f"{name!r} is an encoder ({model.config.model_type}), which reads the text after each position too, so it "
        "cannot write text. Choose a causal language model."
    )


def _check_loaded(name: str, report: dict) -> None:
    """Raise ModelError if a checkpoint left parameters random; log parameters that the model has no place for."""
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"The checkpoint of {name!r} lacks {_listed(missing)}, which would stay random. Download it again, or give "
            "a complete one."
        )
    mismatched = sorted(f"{key} ({list(found)} for {list(wanted)})" for key, found, wanted in report["mismatched_keys"])
    if mismatched:
        raise ModelError(
            f"The checkpoint of {name!r} does not fit its config.json: {_listed(mismatched)}. Correct the config, or "
            "give the checkpoint that belongs to it."
        )
    unexpected = sorted(report["unexpected_keys"])
    if unexpected:
        log.warning("The model has no place for %s of the checkpoint of %r.", _listed(unexpected), name)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return f"{', '.join(names[:SHOWN_NAMES])}{more}"


def merged_adapter(
    base: PreTrainedModel, name: str, revision: str | None = None, token: str | bool | None = None
) -> PreTrainedModel:
    """`base` with the PEFT adapter of that folder or repository merged into its weights. Raises ModelError."""
    import peft

    path = local_path(name)
    try:
        folder = path or Path(
            snapshot_download(name, revision=revision, token=token, allow_patterns=[ADAPTER_CONFIG, ADAPTER_WEIGHTS])
        )
        rows = adapter_rows(str(folder))
        if rows and rows != embedding_rows(base):
            base.resize_token_embeddings(rows, mean_resizing=False)
        with warnings.catch_warnings(record=True) as raised:
            warnings.simplefilter("always")
            adapted: Any = peft.PeftModel.from_pretrained(base, str(folder))
        lacking = next((str(each.message) for each in raised if "missing adapter keys" in str(each.message)), None)
        if lacking:
            raise ModelError(f"The adapter {name!r} lacks weights that its config asks for: {brief(lacking)}")
        merged = adapted.merge_and_unload()
        for parameter in merged.parameters():
            # PEFT has frozen the base, and a student is trained whole
            parameter.requires_grad_(parameter.is_floating_point())
        return merged
    except ModelError:
        raise
    except Exception as error:
        known = known_hub_error(error, name) if path is None else None
        raise known or ModelError(f"Cannot load the adapter {name!r} on its base model: {brief(error)}") from error


def _placement(model: ModelConfig, device: torch.device | str | None) -> dict:
    """Options to place a model while it is loaded: spread over GPUs, or quantized, which cannot be moved afterward."""
    if model.device == "auto":
        return {"device_map": "auto"} | _quantized(model)
    if not model.quantization:
        return {}
    return _quantized(model) | {"device_map": {"": model.device or device or "cpu"}}


def _quantized(model: ModelConfig) -> dict:
    if not model.quantization:
        return {}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(f"{model.model!r} is to be loaded in {model.quantization}: install bitsandbytes first.")
    return {
        "quantization_config": BitsAndBytesConfig(
            **{f"load_in_{model.quantization}": True},
            # as in QLoRA (arXiv 2305.14314)
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=getattr(torch, model.dtype),
        ),
    }


def hidden_rows(
    model: Any,
    prompts: list[list[int]],
    completions: list[list[int]],
    pad_id: int,
    spans: list[list[tuple[int, int]]] | None = None,
) -> tuple[torch.Tensor, list[int]]:
    """Last hidden states at the positions that predict each completion id, or those in `spans` of each completion.

    Returns [N, H] with the sequences' rows one after another (row j of a sequence predicts its completion id j), and
    the number of rows of each sequence, or of each span. Sequences are packed, or padded on the right, so that no
    position sees padding. Raises ModelError for an id that the embedding has no row for.
    """
    spans = spans or [[(0, len(completion))] for completion in completions]
    lengths = [end - start for each in spans for start, end in each]
    sequences = [prompt + completion[:-1] for prompt, completion in zip(prompts, completions, strict=True)]
    decoder, widths = decoder_of(model), list(map(len, sequences))
    check_ids(decoder, max(map(max, sequences)))
    if len(sequences) > 1 and packs(decoder, max(widths)):
        hidden_LH, starts = packed_states(decoder, sequences), [sum(widths[:row]) for row in range(len(widths))]
    else:
        hidden_LH = _padded_states(decoder, sequences, pad_id).flatten(0, 1)
        starts = [row * max(widths) for row in range(len(widths))]
    rows = [
        torch.arange(first + len(prompt) - 1 + start, first + len(prompt) - 1 + end)
        for first, prompt, each in zip(starts, prompts, spans, strict=True)
        for start, end in each
    ]
    return hidden_LH.index_select(0, torch.cat(rows).to(hidden_LH.device)), lengths


def _padded_states(decoder: Any, sequences: list[list[int]], pad_id: int) -> torch.Tensor:
    """Last hidden states [B, L, H] of sequences that are padded on the right."""
    width = max(map(len, sequences))
    ids_BL = torch.full((len(sequences), width), padding_id(decoder, pad_id), dtype=torch.long)
    mask_BL = torch.zeros_like(ids_BL)
    for row, sequence in enumerate(sequences):
        ids_BL[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.long)
        mask_BL[row, : len(sequence)] = 1
    device = input_device(decoder)
    mask = None if needs_no_mask(decoder, width) else mask_BL.to(device)
    return decoder(input_ids=ids_BL.to(device), attention_mask=mask, use_cache=False).last_hidden_state


def input_device(decoder: torch.nn.Module) -> torch.device:
    """The device for a decoder's ids: that of its first weights, or the one to which Accelerate moves them."""
    device = next(decoder.parameters()).device
    if device.type != "meta":
        return device
    hooks = [hook for module in decoder.modules() if (hook := getattr(module, "_hf_hook", None)) is not None]
    single = [each for hook in hooks for each in getattr(hook, "hooks", [hook])]
    placed = [each.execution_device for each in single if getattr(each, "execution_device", None) is not None]
    return torch.device(placed[0])


def check_ids(model: Any, largest: int) -> None:
    """Raise ModelError for an id beyond the model's embedding, which a GPU reports only as a failed assertion."""
    rows = embedding_rows(model)
    if rows is not None and largest >= rows:
        raise ModelError(
            f"The text contains token id {largest}, and the model's embedding has {rows} rows. The tokenizer was "
            "extended without the model: resize its embedding (model.resize_token_embeddings) and save it, or give "
            "the tokenizer that belongs to it."
        )


def embedding_rows(model: Any) -> int | None:
    """How many ids the model can read; None if its embedding does not say."""
    try:
        return getattr(model.get_input_embeddings(), "num_embeddings", None)
    except (AttributeError, NotImplementedError):
        return None


def padding_id(model: Any, pad_id: int) -> int:
    """`pad_id`, unless it is beyond the embedding (a [PAD] that was added without resizing the model): masks hide it,
    so any other id works.
    """
    rows = embedding_rows(model)
    return pad_id if rows is None or pad_id < rows else 0


def pad_id_of(tokenizer: PreTrainedTokenizerBase, end_ids: tuple[int, ...]) -> int:
    """An id to pad with; attention masks hide it, so any valid id works."""
    if tokenizer.pad_token_id is not None:
        return tokenizer.pad_token_id
    return end_ids[0] if end_ids else 0


def device_for_training() -> torch.device:
    """The accelerator that PyTorch finds, such as cuda or mps, or the CPU."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")
