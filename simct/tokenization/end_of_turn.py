"""Which ids end a turn: those of the chat template, of the tokenizer, and of generation_config.json."""

from __future__ import annotations

import os
from collections.abc import Iterable

from transformers import PreTrainedTokenizerBase


def end_ids_of(tokenizer: PreTrainedTokenizerBase, more: Iterable[int]) -> tuple[int, ...]:
    found = [_template_end_id(tokenizer), tokenizer.eos_token_id, *more, *_local_generation_ends(tokenizer)]
    return tuple(dict.fromkeys(int(i) for i in found if i is not None))


def _template_end_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The added token that the chat template writes right after an answer, if it has a template that writes one."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    answer = "end-of-turn-probe"
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": answer}]
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        added = tokenizer.added_tokens_decoder
    except Exception:  # templates may raise on anything, and some tokenizers have no such table
        return None
    if not isinstance(text, str) or answer not in text:
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
    """eos_token_id of the model's generation config as a list; empty where it has none."""
    from transformers import GenerationConfig

    try:
        eos = GenerationConfig.from_pretrained(name_or_path, revision=revision or "main", token=token).eos_token_id
    except Exception:  # many repositories have no such file, and the tokenizer's own EOS is enough
        return []
    return list(eos) if isinstance(eos, list | tuple) else [] if eos is None else [eos]
