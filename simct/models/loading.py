"""Loading causal language models safely, and reading their last hidden states.

Only safetensors weights are read and code from a repository is never run. Shapes: B sequences, L padded length,
N rows (positions that predict a completion token), H hidden size.
"""

import importlib.util
import os
from typing import Any

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from simct.config import local_path
from simct.config.sections import ModelConfig
from simct.errors import ModelError, brief
from simct.hub.errors import known_hub_error
from simct.losses.head import decoder_of

# for weights that are no safetensors transformers would ask a Space to convert them, and give it the reader's token
os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"


def load_model(model: ModelConfig, device=None, token: str | bool | None = None) -> PreTrainedModel:
    """The causal LM in evaluation mode, in `model.dtype`, on `device`. Raises ModelError (one line)."""
    path = local_path(model.model)
    if path is not None and not (path / "config.json").is_file():
        raise ModelError(f"{model.model!r} is not a model folder: it has no config.json.")
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(path) if path else model.model,
            revision=model.revision,
            dtype=getattr(torch, model.dtype),
            use_safetensors=True,
            trust_remote_code=False,
            token=token,
            **_placement(model, device),
        )
    except ModelError:
        raise
    except Exception as error:
        told = known_hub_error(error, model.model) if path is None else None
        if told is not None:
            raise told from error
        reason = brief(error)
        if "custom code" in reason or "trust_remote_code" in reason:
            raise ModelError(f"{model.model!r} needs its own Python code to load, which is never run.") from error
        raise ModelError(f"Cannot load the model in {model.model!r}: {reason}") from error
    if model.quantization:
        return loaded
    target = model.device or device
    return loaded.to(target) if target is not None else loaded


def _placement(model: ModelConfig, device) -> dict:
    """Loading options for a quantized model: bitsandbytes places it while loading and it cannot be moved after."""
    if not model.quantization:
        return {}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(f"{model.model!r} is to be loaded in {model.quantization}: install bitsandbytes first.")
    return {
        "quantization_config": BitsAndBytesConfig(
            **{f"load_in_{model.quantization}": True},
            # as QLoRA (arXiv 2305.14314) has it
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=getattr(torch, model.dtype),
        ),
        "device_map": {"": model.device or device or "cpu"},
    }


def hidden_rows(
    model, prompts: list[list[int]], completions: list[list[int]], pad_id: int
) -> tuple[torch.Tensor, list[int]]:
    """Last hidden states at the positions that predict each completion id.

    Returns [N, H] with the sequences' rows one after another (row j of a sequence predicts its completion id j), and
    the number of rows of each sequence. Sequences are padded on the right, so no position sees padding.
    """
    lengths = [len(completion) for completion in completions]
    sequences = [prompt + completion[:-1] for prompt, completion in zip(prompts, completions, strict=True)]
    width = max(map(len, sequences))
    ids_BL = torch.full((len(sequences), width), pad_id, dtype=torch.long)
    mask_BL = torch.zeros_like(ids_BL)
    rows = []
    for row, sequence in enumerate(sequences):
        ids_BL[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.long)
        mask_BL[row, : len(sequence)] = 1
        first = row * width + len(prompts[row]) - 1
        rows.append(torch.arange(first, first + lengths[row]))
    decoder = decoder_of(model)
    device = next(decoder.parameters()).device
    hidden_BLH = decoder(
        input_ids=ids_BL.to(device), attention_mask=mask_BL.to(device), use_cache=False
    ).last_hidden_state
    return hidden_BLH.flatten(0, 1)[torch.cat(rows).to(device)], lengths


def pad_id_of(tokenizer, end_ids: tuple[int, ...]) -> int:
    """An id to pad with; attention masks hide it, so any valid id will do."""
    if tokenizer.pad_token_id is not None:
        return tokenizer.pad_token_id
    return end_ids[0] if end_ids else 0


def device_for_training() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
