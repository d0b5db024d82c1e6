"""The reason why a run ended, in one line, if a person can fix it."""

import os

import torch

from simct.errors import SimCTError
from simct.files import FULL

# how safetensors (Rust) and torch (C++) report a failed write; torch does not say why
FULL_MESSAGES = (
    *(os.strerror(number) for number in FULL),
    "PytorchStreamWriter failed",
    "iostream error",
)
LESS = "Lower training.micro_batch_tokens (or micro_batch_size) or rollout.max_new_tokens, and resume."


def explain_failure(error: BaseException) -> str | None:
    """One line for an error that a person can fix, or None for a defect."""
    if isinstance(error, SimCTError):
        return str(error)
    if isinstance(error, torch.OutOfMemoryError):
        return f"The GPU ran out of memory. {LESS}"
    if isinstance(error, MemoryError):
        return f"The machine ran out of memory. {LESS}"
    if is_disk_full(error):
        return "The disk is full. Free some space and resume; the last complete checkpoint is kept."
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"Cannot use {str(error.filename)!r}: {error.strerror}. Check the disk and the permissions, and resume."
    return None


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, of Python or of a library that writes files itself, comes from a full disk."""
    while error is not None:
        if (isinstance(error, OSError) and error.errno in FULL) or any(each in str(error) for each in FULL_MESSAGES):
            return True
        error = error.__cause__ or error.__context__
    return False
