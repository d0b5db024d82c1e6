"""One tokenizer as exact bytes: what each token id spells, and how the tokenizer itself would spell given bytes.

Everything downstream compares models on bytes, so this module either is exact or refuses (TokenizerError) and says why.
The encoders are built in byte_encoders.py; here they are wrapped so that every result is checked against its input.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from simct.byte_encoders import byte_encoder
from simct.errors import AlignmentError, ModelError, TokenizerError


@dataclass(frozen=True, eq=False)
class TokenBytes:
    """A tokenizer as exact bytes. Ids at and beyond len(bytes_of) are rows of the lm_head that no token owns."""

    tokenizer: PreTrainedTokenizerBase
    bytes_of: list[bytes | None]  # by token id; None = special, control or unused
    lengths: np.ndarray  # int64 [n_ids], 0 where bytes_of is None
    end_ids: tuple[int, ...]  # ids that end a turn, the one the chat template emits first
    byte_ids: tuple[int | None, ...] = ()  # [256] id that spells a single byte, None where there is none
    encode_text: Callable[[str], list[int]] = field(default=None, repr=False)

    def encode(self, data: bytes) -> list[int]:
        """Return the ids by which this tokenizer spells `data`: no dummy prefix, no special tokens, byte for byte.

        Runs that are not valid UTF-8 are spelled byte by byte. Raises AlignmentError where the vocabulary lacks a byte.
        """
        ids: list[int] = []
        for chunk, valid in _utf8_runs(data):
            if valid is not None:
                ids.extend(self.encode_text(valid))
            else:
                ids.extend(self._bytewise(chunk))
        self._check(ids, data)
        return ids

    def decode(self, ids: Iterable[int]) -> bytes:
        """Return the concatenated bytes of `ids`; AlignmentError names the first id that has none."""
        parts = []
        for position, token_id in enumerate(ids):
            piece = self.bytes_of[token_id] if 0 <= token_id < len(self.bytes_of) else None
            if piece is None:
                raise AlignmentError(
                    f"Token {token_id} at position {position} is a special or unused id and spells no text."
                )
            parts.append(piece)
        return b"".join(parts)

    def _bytewise(self, data: bytes) -> list[int]:
        ids = [self.byte_ids[value] for value in data]
        if None in ids:
            value = data[ids.index(None)]
            raise AlignmentError(
                f"{_name(self.tokenizer)} has no token for the byte 0x{value:02X}, so it cannot spell this text."
            )
        return ids

    def _check(self, ids: Sequence[int], data: bytes) -> None:
        spelled = b"".join(self.bytes_of[i] or b"" for i in ids)
        if spelled != data or any(self.bytes_of[i] is None for i in ids):
            at = next(
                (i for i, (a, b) in enumerate(zip(spelled, data, strict=False)) if a != b), min(len(spelled), len(data))
            )
            near = data[max(0, at - 8) : at + 12]
            raise AlignmentError(f"{_name(self.tokenizer)} does not reproduce the text near {near!r} (byte {at}).")


def token_bytes(tokenizer: PreTrainedTokenizerBase, end_ids: Iterable[int] = ()) -> TokenBytes:
    """Return `tokenizer` as exact bytes, or raise TokenizerError with its family, the reason and what to do.

    `end_ids` are further ids that end a turn (generation_config.eos_token_id); the template's and EOS are found here.
    """
    encoder = byte_encoder(tokenizer)
    lengths = np.fromiter((len(b) if b else 0 for b in encoder.bytes_of), dtype=np.int64, count=len(encoder.bytes_of))
    return TokenBytes(
        tokenizer=tokenizer,
        bytes_of=encoder.bytes_of,
        lengths=lengths,
        end_ids=_end_ids(tokenizer, end_ids),
        byte_ids=encoder.byte_ids,
        encode_text=encoder.encode,
    )


def load_tokenizer(name_or_path: str, revision: str | None = None, token: str | None = None) -> PreTrainedTokenizerBase:
    """Load a tokenizer by Hub id or folder; no code from the repository is run. Raises one-line ModelErrors."""
    try:
        return AutoTokenizer.from_pretrained(name_or_path, revision=revision, token=token, trust_remote_code=False)
    except Exception as error:
        raise ModelError(_load_reason(str(name_or_path), error)) from error


def _load_reason(name: str, error: Exception) -> str:
    from huggingface_hub import errors as hub

    causes, cause = [], error
    while cause is not None and len(causes) < 8:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    text = " ".join(str(c) for c in causes)
    if any(isinstance(c, hub.GatedRepoError) for c in causes) or "gated repo" in text:
        return f"{name} is gated: accept its licence on its Hub page and log in with `hf auth login`."
    if any(isinstance(c, hub.RevisionNotFoundError) for c in causes):
        return f"{name} has no such revision: check the branch, tag or commit."
    if any(isinstance(c, hub.RepositoryNotFoundError) for c in causes):
        return f"{name} is not on the Hub, or is private: check the name, or log in with `hf auth login`."
    if "trust_remote_code" in text:
        return (
            f"{name} needs its own Python code to tokenize, which is never run: choose a model with a tokenizer.json."
        )
    if os.path.isdir(name):
        return f"{name} holds no tokenizer that can be loaded: save one there with tokenizer.save_pretrained."
    if any(isinstance(c, hub.LocalEntryNotFoundError | ConnectionError | hub.OfflineModeIsEnabled) for c in causes):
        return f"The Hub cannot be reached and {name} is not cached: check the connection, or give a local folder."
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"No tokenizer could be loaded from {name}: {first}"


def _end_ids(tokenizer: PreTrainedTokenizerBase, more: Iterable[int]) -> tuple[int, ...]:
    ids: list[int] = []
    template_end = _template_end_id(tokenizer)
    if template_end is not None:
        ids.append(template_end)
    if tokenizer.eos_token_id is not None:
        ids.append(tokenizer.eos_token_id)
    ids.extend(int(i) for i in more)
    return tuple(dict.fromkeys(ids))


def _template_end_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The special id that the chat template writes right after an answer, if it has a template that says so."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    answer = "end-of-turn-probe"
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": answer}]
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False)
    except Exception:
        return None
    after = text.rpartition(answer)[2].lstrip()
    added = tokenizer.added_tokens_decoder
    starts = [i for i, t in added.items() if t.special and t.content and after.startswith(t.content)]
    return max(starts, key=lambda i: len(added[i].content), default=None)


def _utf8_runs(data: bytes) -> list[tuple[bytes, str | None]]:
    """Cut `data` into maximal valid UTF-8 runs (with their text) and the bytes between them (with None)."""
    runs: list[tuple[bytes, str | None]] = []
    start = 0
    while start < len(data):
        try:
            runs.append((data[start:], data[start:].decode("utf-8")))
            break
        except UnicodeDecodeError as error:
            if error.start:
                valid = data[start : start + error.start]
                runs.append((valid, valid.decode("utf-8")))
            runs.append((data[start + error.start : start + error.end], None))
            start += error.end
    return runs


def _name(tokenizer: PreTrainedTokenizerBase) -> str:
    return getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__


__all__ = ["TokenBytes", "TokenizerError", "load_tokenizer", "token_bytes"]
