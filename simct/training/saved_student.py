"""The trained student in its run folder: model/ and, after LoRA, adapter/, each written completely or not at all."""

import os
import shutil

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from simct.config.sections import ModelConfig
from simct.models.adapters import has_adapter, save_adapter
from simct.runs.folder import RunFolder
from simct.tokenization.token_bytes import save_tokenizer


def save_student(run: RunFolder, step: int, student: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write model/ completely or not at all, in the usual Hugging Face layout; status.json has its step."""
    temporary = run.path / ".model"
    shutil.rmtree(temporary, ignore_errors=True)
    student.save_pretrained(temporary, safe_serialization=True)
    save_tokenizer(tokenizer, temporary)
    shutil.rmtree(run.model_dir, ignore_errors=True)
    os.replace(temporary, run.model_dir)
    run.set_status(model_step=step)


def keep_adapter(run: RunFolder, student: PreTrainedModel, base: ModelConfig) -> None:
    """Write adapter/ completely or not at all: the LoRA weights by themselves, if the student is trained by LoRA."""
    if not has_adapter(student):
        return
    temporary = run.path / ".adapter"
    shutil.rmtree(temporary, ignore_errors=True)
    save_adapter(student, temporary, base.model, base.revision)
    shutil.rmtree(run.adapter_dir, ignore_errors=True)
    os.replace(temporary, run.adapter_dir)
