"""The end of a turn: the ids that mean it to a model, and how they all become one event that both sides share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from simct.errors import LimitError
from simct.tokenization.chat_templates import apply_template


def end_ids_of(tokenizer: PreTrainedTokenizerBase, more: Iterable[int]) -> tuple[int, ...]:
    found = [_template_end_id(tokenizer), tokenizer.eos_token_id, *more, *_local_generation_ends(tokenizer)]
    return tuple(dict.fromkeys(int(i) for i in found if _is_id(i)))


def _is_id(value: object) -> bool:
    """Whether a value in a configuration can be the id of a token."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _template_end_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The added token that the chat template writes right after an answer; None if there is none."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    answer = "end-of-turn-probe"
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": answer}]
    try:
        text = apply_template(tokenizer, messages)
        added = tokenizer.added_tokens_decoder
    except LimitError:
        raise
    except Exception:  # templates may raise anything, and some tokenizers lack the table of added tokens
        return None
    if answer not in text:
        return None
    after = text.rpartition(answer)[2].lstrip()
    following = [i for i, token in added.items() if token.content.strip() and after.startswith(token.content)]
    return max(following, key=lambda i: len(added[i].content), default=None)


def _local_generation_ends(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    folder = getattr(tokenizer, "name_or_path", "") or ""
    if not os.path.isfile(os.path.join(folder, "generation_config.json")):
        return []
    return generation_ends(folder)


def generation_ends(name_or_path: str, revision: str | None = None, token: str | bool | None = None) -> list[int]:
    """eos_token_id of the model's generation config as a list; empty if it has none."""
    from transformers import GenerationConfig

    try:
        eos = GenerationConfig.from_pretrained(name_or_path, revision=revision or "main", token=token).eos_token_id
    except Exception:  # many repositories lack this file, and the tokenizer's own EOS is enough
        return []
    return list(eos) if isinstance(eos, list | tuple) else [] if eos is None else [eos]


# One shared event on both sides


def shared_columns(shared_ids_C: torch.Tensor, end_ids: Sequence[int], n_ids: int) -> torch.Tensor:
    """id -> column of `shared_ids_C` or -1, LongTensor [n_ids or more]; end ids have the last one, the end of turn."""
    columns = torch.full((max(n_ids, max(end_ids) + 1),), -1, dtype=torch.long)
    columns[shared_ids_C] = torch.arange(len(shared_ids_C))
    columns[list(end_ids)] = len(shared_ids_C) - 1
    return columns


def split_end(ids: Sequence[int] | np.ndarray, end_ids: Sequence[int]) -> tuple[np.ndarray, bool]:
    """The ids of the text (int64), and whether an end id came after them."""
    array = np.asarray(ids, dtype=np.int64)
    ended = len(array) > 0 and int(array[-1]) in end_ids
    return (array[:-1] if ended else array), ended
