"""One tokenizer as exact bytes: the bytes of each token id, and the ids by which the tokenizer spells given bytes.

Everything downstream compares models on bytes, so this module is either exact or refuses with a reason
(TokenizerError). The families are read in families.py; here every spelling is checked against its input before it is
returned.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from simct.errors import AlignmentError, ModelError, SimCTError, TokenizerError, brief, quoted
from simct.hub.errors import known_hub_error
from simct.hub.model_config import check_small_files
from simct.hub.model_files import adapter_of, model_files_problem
from simct.hub.repo_ids import is_path, no_folder
from simct.tokenization.chat_templates import processor_template, select_chat_template
from simct.tokenization.end_of_turn import end_ids_of
from simct.tokenization.families import ByteEncoder, byte_encoder, sentencepiece_file
from simct.tokenization.spelling import spelling_of

# Other files of a repository whose tokenizer is a tokenizer.model.
_BESIDE_MODEL_FILE = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


@dataclass(frozen=True, eq=False)
class TokenBytes:
    """A tokenizer as exact bytes. Rows of the lm_head at and beyond len(bytes_of) belong to no token."""

    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    bytes_of: list[bytes | None] = field(repr=False)  # by token id; None = special, control or unused
    lengths: np.ndarray = field(repr=False)  # int64 [n_ids], 0 where bytes_of is None
    end_ids: tuple[int, ...]  # ids that end a turn, the one the chat template emits first
    id_of: dict[bytes, int] = field(repr=False)  # of several ids with equal bytes, the one the tokenizer emits
    byte_ids: tuple[int | None, ...] = field(repr=False)  # [256] id that spells a single byte, None if there is none
    vocabulary: int  # tokens in the tokenizer, special ones included
    table: tuple[np.ndarray, np.ndarray] = field(repr=False)  # all bytes joined (uint8), start of each id's (int64)
    fingerprint: str  # of bytes_of, id_of and end_ids: equal for tokenizers that pair alike
    encode_text: Callable[[str], list[int]] = field(repr=False)
    rows: int | None = None  # how many ids the model's embedding has, if that is known

    def encode(self, data: bytes) -> list[int]:
        """Return the ids by which this tokenizer spells `data`: no dummy prefix, no special tokens, byte for byte.

        Runs that are not valid UTF-8 are spelled byte by byte. Raises AlignmentError if the vocabulary lacks a byte.
        """
        return encode_exactly(data, self.encode_text, self.byte_ids, self.bytes_of)

    def decode(self, ids: Iterable[int]) -> bytes:
        """Return the concatenated bytes of `ids`; AlignmentError names the first id that has none."""
        ids = ids if isinstance(ids, Sequence) else list(ids)
        try:
            if not ids or min(ids) >= 0:
                return b"".join(map(self.bytes_of.__getitem__, ids))  # type: ignore[arg-type]  # a None is caught below
        except (TypeError, IndexError):
            pass
        position = next(p for p, i in enumerate(ids) if not self.is_text(i))
        raise AlignmentError(
            f"Token {ids[position]} at position {position} is a special or unused id and spells no text."
        )

    def spelled(self, ids_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the joined bytes of int64 ids (uint8) and the length of each (int64 [N]); raises as decode."""
        if len(ids_N) and not 0 <= ids_N.min() <= ids_N.max() < len(self.bytes_of):
            self.decode(ids_N.tolist())  # raises an error that names the id
        lengths_N = self.lengths[ids_N]
        if not lengths_N.all():
            self.decode(ids_N.tolist())
        joined, starts = self.table
        shift_N = starts[ids_N] - np.cumsum(lengths_N) + lengths_N
        return joined[np.repeat(shift_N, lengths_N) + np.arange(lengths_N.sum())], lengths_N

    def beyond_embedding(self, ids: Sequence[int]) -> int | None:
        """The largest of `ids`, if the model's embedding has no row for it."""
        largest = max(ids, default=0)
        return largest if self.rows is not None and largest >= self.rows else None

    def is_text(self, token_id: int) -> bool:
        """Whether the id spells bytes."""
        return 0 <= token_id < len(self.bytes_of) and self.bytes_of[token_id] is not None


def token_bytes(tokenizer: PreTrainedTokenizerBase, end_ids: Iterable[int] = (), rows: int | None = None) -> TokenBytes:
    """Return `tokenizer` as exact bytes, or raise TokenizerError with its family, the reason and what to do.

    `end_ids` are further ids that end a turn (generation_config.eos_token_id). Those of the chat template, of the
    tokenizer and of a generation_config.json next to a local tokenizer are found here. `rows` is how many ids the
    model's embedding has, if that is known: tokens that were added beyond it spell nothing and do not end a turn.
    """
    ends = tuple(end for end in end_ids_of(tokenizer, end_ids) if rows is None or end < rows)
    with panics_as(TokenizerError, f"The tokenizer of {tokenizer.name_or_path!r} is damaged"):
        encoder = _encoder(tokenizer, ends, rows)
    bytes_of = encoder.bytes_of
    lengths = np.array([len(data) if data else 0 for data in bytes_of], dtype=np.int64)
    id_of = _id_of(encoder)
    return TokenBytes(
        tokenizer=tokenizer,
        bytes_of=bytes_of,
        lengths=lengths,
        end_ids=ends,
        id_of=id_of,
        byte_ids=encoder.byte_ids,
        vocabulary=len(tokenizer),
        table=(np.frombuffer(b"".join(filter(None, bytes_of)), np.uint8), np.cumsum(lengths) - lengths),
        fingerprint=_fingerprint(bytes_of, lengths, id_of, ends),
        encode_text=encoder.encode,
        rows=rows,
    )


def encode_exactly(
    data: bytes,
    encode_text: Callable[[str], list[int]],
    byte_ids: Sequence[int | None],
    bytes_of: Sequence[bytes | None],
) -> list[int]:
    """Spell `data` by text runs and single bytes; AlignmentError unless the ids spell exactly `data`."""
    ids: list[int] = []
    for chunk, text in _utf8_runs(data):
        if text is not None:
            with panics_as(AlignmentError, "The tokenizer fails on this text"):
                ids.extend(encode_text(text))
            continue
        for value in chunk:
            token_id = byte_ids[value]
            if token_id is None:
                raise AlignmentError(f"The vocabulary has no token for the byte 0x{value:02X}.")
            ids.append(token_id)
    if spelling_of(bytes_of, ids) != data:
        raise AlignmentError("The tokenizer does not reproduce this text.")
    return ids


def load_tokenizer(
    name_or_path: str,
    revision: str | None = None,
    token: str | bool | None = None,
    chat_template: str | None = None,
) -> PreTrainedTokenizerBase:
    """Load a tokenizer by Hub id or folder, for an adapter without one that of its base model.

    Code in the repository is never run. `chat_template` names one of several chat templates; DataError if there is none
    of that name. A template that is stored only for the processor (chat_template.json) becomes the tokenizer's.
    Raises one-line ModelErrors.
    """
    name = str(name_or_path)
    try:
        check_small_files(name, revision, token)
        with panics_as(ModelError, f"The tokenizer of {quoted(name)} is damaged"):
            tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, token=token, trust_remote_code=False)
    except ModelError:
        raise
    except Exception as error:
        adapter = adapter_of(name, revision, token)
        if adapter is not None and adapter.base != name:
            return load_tokenizer(adapter.base, adapter.base_revision, token, chat_template)
        problem = model_files_problem(name, revision, token)
        raise ModelError(problem or _load_reason(name, error)) from error
    if not tokenizer.chat_template:
        tokenizer.chat_template = processor_template(name, revision, token)
    select_chat_template(tokenizer, chat_template)
    return tokenizer


@contextmanager
def panics_as(kind: type[SimCTError], message: str) -> Iterator[None]:
    """Turn a panic of the tokenizers library, which is not an Exception, into an error of the class `kind`."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise kind(f"{message}: {brief(error)}") from error


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: str | os.PathLike) -> None:
    """Write `tokenizer` into `folder` such that a tokenizer loaded from there spells text with the same ids.

    For a tokenizer that only has a tokenizer.model, transformers (5.23) would write a tokenizer.json whose merges
    differ from SentencePiece's; such a tokenizer keeps its original files.
    """
    tokenizer.save_pretrained(folder)
    source = sentencepiece_file(tokenizer)
    if source is None:
        return
    Path(folder, "tokenizer.json").unlink(missing_ok=True)
    for name in (source.name, *_BESIDE_MODEL_FILE):
        if source.with_name(name).is_file():
            shutil.copyfile(source.with_name(name), Path(folder, name))


def _load_reason(name: str, error: BaseException) -> str:
    if os.path.isdir(name):
        return f"{name} holds no tokenizer that can be loaded: save one there with tokenizer.save_pretrained."
    if is_path(name):
        return no_folder(name)
    # transformers wraps the Hub's error for a gated or absent repository in its own
    known = known_hub_error(error, name)
    if known is not None:
        return str(known)
    text = str(error).strip()
    if "trust_remote_code" in text:
        return (
            f"{name} needs its own Python code to tokenize, which is never run: choose a model with a tokenizer.json."
        )
    return f"No tokenizer could be loaded from {name}: {brief(text.splitlines()[0]) if text else type(error).__name__}"


# Building blocks

_ENCODERS: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[tuple, ByteEncoder]] = WeakKeyDictionary()


def _encoder(tokenizer: PreTrainedTokenizerBase, ends: tuple[int, ...], rows: int | None) -> ByteEncoder:
    """The tokenizer's encoder, built once for an object until tokens are added to it."""
    state = (len(tokenizer), tuple(tokenizer.all_special_ids), ends, rows)
    known = _ENCODERS.get(tokenizer)
    if known is None or known[0] != state:
        known = _ENCODERS[tokenizer] = (state, byte_encoder(tokenizer, ends, rows))
    return known[1]


def _id_of(encoder: ByteEncoder) -> dict[bytes, int]:
    id_of = {data: i for i, data in enumerate(encoder.bytes_of) if data is not None}
    several: dict[bytes, list[int]] = {}
    for token_id, data in enumerate(encoder.bytes_of):
        if data is not None and id_of[data] != token_id:
            several.setdefault(data, [id_of[data]]).append(token_id)
    for data, ids in several.items():
        try:
            emitted = encode_exactly(data, encoder.encode, encoder.byte_ids, encoder.bytes_of)
        except AlignmentError:
            emitted = []
        id_of[data] = emitted[0] if len(emitted) == 1 and emitted[0] in ids else min(ids)
    return id_of


def _fingerprint(bytes_of: list[bytes | None], lengths: np.ndarray, id_of: dict[bytes, int], ends: tuple) -> str:
    digest = hashlib.blake2b(digest_size=20)
    digest.update(lengths.tobytes())
    digest.update(b"".join([data for data in bytes_of if data is not None]))
    digest.update(np.fromiter(id_of.values(), np.int64, len(id_of)).tobytes())
    digest.update(repr(ends).encode())
    return digest.hexdigest()


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
