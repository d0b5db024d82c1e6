"""Tokenizer families as exact byte encoders: the bytes of each id, and an encoder without steps that change bytes.

A fast tokenizer's backend is rebuilt around the same model without post-processor, dummy prefix, special-token parsing
and Unicode normalization, so the given tokenizer is never changed. Slow-only tokenizers (SentencePiece,
Mistral's own) are read through their own library. If the rebuilt backend still spells something differently (an
unknown character, a literal U+2581, text that looks like a control piece), that is spelled by characters, then by
bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Encoding, Tokenizer, models
from transformers import PreTrainedTokenizerBase

from simct.errors import TokenizerError, quoted
from simct.tokenization.spelling import SPACE, SentencePieceRun, Spelling, around_added

ModelProto = sentencepiece_model_pb2.ModelProto  # type: ignore[attr-defined]  # generated code makes it at run time
ADVICE = "choose a model whose tokenizer is byte-level BPE or SentencePiece without normalization"
_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
# no vocabulary is nearly this large; a larger id is a mistake or an attack
MAX_IDS = 1 << 23
_CHANGES_TEXT = {"NFKC", "NFKD", "Lowercase", "StripAccents", "BertNormalizer", "Nmt", "Precompiled"}
_DROPS_SPACES = {"Whitespace", "WhitespaceSplit", "BertPreTokenizer", "CharDelimiterSplit"}


@dataclass(frozen=True)
class ByteEncoder:
    """bytes_of by id (None = special or unused), byte_ids [256], encode(text) -> ids that spell exactly the text."""

    bytes_of: list[bytes | None]
    byte_ids: tuple[int | None, ...]
    encode: Callable[[str], list[int]]


def byte_encoder(
    tokenizer: PreTrainedTokenizerBase, control_ids: Iterable[int] = (), rows: int | None = None
) -> ByteEncoder:
    """Return the exact encoder of `tokenizer`; TokenizerError says what cannot be exact, why, and what to do.

    `control_ids` (end of turn) never count as text, even if the tokenizer does not mark them as special. Neither do ids
    from `rows` on, which the model's embedding lacks.
    """
    silent = _Silent({*control_ids, *tokenizer.all_special_ids}, rows)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if isinstance(backend, Tokenizer):
        model_file = _sentencepiece_source(tokenizer, backend)
        if model_file is not None:
            return _from_sentencepiece(tokenizer, model_file, tokenizer.added_tokens_decoder, silent)
        return _from_backend(tokenizer, backend, silent)
    if hasattr(tokenizer, "sp_model"):
        proto = tokenizer.sp_model.serialized_model_proto()
        return _from_sentencepiece(tokenizer, proto, tokenizer.added_tokens_decoder, silent)
    mistral = getattr(getattr(getattr(tokenizer, "tokenizer", None), "instruct_tokenizer", None), "tokenizer", None)
    if hasattr(mistral, "id_to_byte_piece") and hasattr(mistral, "num_special_tokens"):
        return _from_tekken(mistral, silent)
    model = getattr(mistral, "_model", None)
    if model is not None and hasattr(model, "serialized_model_proto"):
        return _from_sentencepiece(tokenizer, model.serialized_model_proto(), {}, silent)
    raise _refusal(tokenizer, f"a {type(tokenizer).__name__} without a fast tokenizer", "its bytes cannot be known")


@dataclass(frozen=True)
class _Silent:
    """The ids that spell nothing: `control`, and all from `rows` on."""

    control: set[int]
    rows: int | None

    def __call__(self, bytes_of: list[bytes | None]) -> None:
        for token_id in self.control:
            if 0 <= token_id < len(bytes_of):
                bytes_of[token_id] = None
        if self.rows is not None:
            bytes_of[self.rows :] = [None] * len(bytes_of[self.rows :])


# Fast tokenizers


def _from_backend(tokenizer: PreTrainedTokenizerBase, backend: Tokenizer, silent: _Silent) -> ByteEncoder:
    model = backend.model
    spec = _shell(tokenizer, backend)
    _refuse(tokenizer, model, spec)
    added = backend.get_added_tokens_decoder()
    vocabulary = backend.get_vocab(with_added_tokens=False)
    byte_level = any(_has(spec[part], "ByteLevel") for part in ("normalizer", "pre_tokenizer", "decoder"))
    spaced = not byte_level and SPACE in json.dumps(list(spec.values()), ensure_ascii=False)
    fallback = not byte_level and (_has(spec["decoder"], "ByteFallback") or getattr(model, "byte_fallback", False))

    clone = Tokenizer.from_str(json.dumps(_without_changes(spec), ensure_ascii=False))
    clone.model = model

    def run(text: str) -> Encoding:
        return clone.encode(text, add_special_tokens=False)

    bytes_of = _no_bytes(tokenizer, max([*vocabulary.values(), *added], default=-1))
    for piece, token_id in vocabulary.items():
        bytes_of[token_id] = _byte_level_bytes(piece) if byte_level else _piece_bytes(piece, spaced, fallback)
    for token_id, token in added.items():
        bytes_of[token_id] = None if token.special else _added_bytes(token_id, token, spaced, run)
    silent(bytes_of)
    byte_ids = _byte_ids(bytes_of, vocabulary if fallback else {})
    words = {i: token for i, token in added.items() if bytes_of[i] is not None}
    spell = Spelling(bytes_of, byte_ids, run, SPACE if spaced else "")
    return ByteEncoder(bytes_of, byte_ids, around_added(words, bytes_of, spell))


def _no_bytes(tokenizer: PreTrainedTokenizerBase, last_id: int) -> list[bytes | None]:
    """A table for ids up to `last_id`. Raises TokenizerError if it would fill the memory."""
    if last_id >= MAX_IDS:
        name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
        raise TokenizerError(f"{name} gives a token the id {last_id}, which no model has. Repair its tokenizer.json.")
    return [None] * (last_id + 1)


def _added_bytes(token_id: int, token: AddedToken, spaced: bool, run: Callable[[str], Encoding]) -> bytes | None:
    """The bytes of an added token.

    If it is matched before normalization, a U+2581 in it means that character (Gemma has runs of them), unless the
    model itself uses its id to spell spaces.
    """
    as_spaces = token.content.replace(SPACE, " ")
    if not spaced or as_spaces == token.content:
        return token.content.encode() or None
    spells_spaces = token.normalized or run(as_spaces).ids == [token_id]
    return (as_spaces if spells_spaces else token.content).encode()


def _shell(tokenizer: PreTrainedTokenizerBase, backend: Tokenizer) -> dict:
    """The backend's steps as plain data, without its (large) vocabulary."""
    shell = Tokenizer(models.BPE())
    try:
        shell.normalizer, shell.pre_tokenizer, shell.decoder = (
            backend.normalizer,
            backend.pre_tokenizer,
            backend.decoder,
        )
        spec = json.loads(shell.to_str())
    except Exception as error:
        raise _refusal(tokenizer, "a tokenizer with custom Python steps", "its bytes cannot be known") from error
    return {name: spec[name] for name in ("normalizer", "pre_tokenizer", "decoder")}


def _refuse(tokenizer: PreTrainedTokenizerBase, model: models.Model, spec: dict) -> None:
    if isinstance(model, models.WordPiece):
        raise _refusal(tokenizer, "a WordPiece tokenizer", "it drops spaces and turns unknown words into [UNK]")
    if getattr(model, "dropout", None):
        raise _refusal(tokenizer, "a BPE with dropout", "it spells the same text differently each time")
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        if getattr(model, name, None):
            raise _refusal(
                tokenizer, f"a BPE with {name} {quoted(getattr(model, name))}", "its pieces do not spell their spaces"
            )
    for step in _steps(spec["normalizer"]):
        if step["type"] in _CHANGES_TEXT and step.get("precompiled_charsmap", "x"):
            kind = "SentencePiece charsmap, such as nmt_nfkc" if step["type"] == "Precompiled" else step["type"]
            raise _refusal(
                tokenizer, f"a tokenizer with a normalizer ({kind})", "its tokens do not spell the text it was given"
            )
    for step in _steps(spec["pre_tokenizer"]):
        if step["type"] in _DROPS_SPACES or step.get("behavior") == "Removed":
            raise _refusal(
                tokenizer, f"a tokenizer that splits with {step['type']}", "it drops the spaces it splits on"
            )


def _refusal(tokenizer: PreTrainedTokenizerBase, what: str, why: str) -> TokenizerError:
    name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
    return TokenizerError(f"{name} has {what}, which cannot be exact: {why}. Please {ADVICE}.")


def _without_changes(spec: dict) -> dict:
    """The backend's steps without dummy prefix and normalization, around an empty model."""
    kept = [
        step
        for step in _steps(spec["normalizer"])
        if step["type"] == "ByteLevel"
        or (step["type"] == "Replace" and step["content"] == SPACE and step["pattern"] == {"String": " "})
    ]
    splits = _steps(spec["pre_tokenizer"])
    for step in splits:
        if step["type"] == "ByteLevel":
            step["add_prefix_space"] = False
        if step["type"] == "Metaspace":
            step["prepend_scheme"] = "never"
            step.pop("add_prefix_space", None)
    shell = json.loads(Tokenizer(models.BPE()).to_str())
    shell["normalizer"] = {"type": "Sequence", "normalizers": kept} if kept else None
    shell["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": splits} if splits else None
    return shell


def _steps(part: dict | None) -> list[dict]:
    if part is None:
        return []
    if part["type"] == "Sequence":
        inner = part.get("normalizers") or part.get("pretokenizers") or part.get("decoders") or []
        return [step for child in inner for step in _steps(child)]
    return [part]


def _has(part: dict | None, kind: str) -> bool:
    return any(step["type"] == kind for step in _steps(part))


# Bytes of pieces


def _byte_table() -> dict[str, int]:
    """GPT-2's reversible byte table: printable Latin-1 bytes are themselves, the others follow from U+0100."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [value for value in range(256) if value not in set(plain)]
    return {chr(value): value for value in plain} | {chr(256 + i): value for i, value in enumerate(others)}


BYTE_OF_CHAR = _byte_table()
_TO_LATIN1 = {value: "\uffff" for value in range(256)} | {ord(char): chr(value) for char, value in BYTE_OF_CHAR.items()}


def _byte_level_bytes(piece: str) -> bytes | None:
    try:
        return piece.translate(_TO_LATIN1).encode("latin-1") or None
    except UnicodeEncodeError:
        return None  # a control string kept inside the model's vocabulary


def _piece_bytes(piece: str, spaced: bool, fallback: bool) -> bytes | None:
    byte = _BYTE_PIECE.fullmatch(piece) if fallback else None
    if byte:
        return bytes([int(byte[1], 16)])
    return (piece.replace(SPACE, " ") if spaced else piece).encode("utf-8", "surrogatepass") or None


def _byte_ids(bytes_of: Sequence[bytes | None], pieces: Mapping[str, int]) -> tuple[int | None, ...]:
    """The id of each single byte: its byte piece if there is one, else the first token that is that byte."""
    ids: list[int | None] = [None] * 256
    for token_id, data in enumerate(bytes_of):
        if data is not None and len(data) == 1 and ids[data[0]] is None:
            ids[data[0]] = token_id
    for value in range(256):
        piece_id = pieces.get(f"<0x{value:02X}>")
        if piece_id is not None and bytes_of[piece_id] == bytes([value]):
            ids[value] = piece_id
    return tuple(ids)


# Encoders


# Tokenizers that exist only as slow ones


def sentencepiece_file(tokenizer: PreTrainedTokenizerBase) -> Path | None:
    """The tokenizer.model that `tokenizer` was converted from; None if there is a tokenizer.json next to it."""
    path = Path(getattr(tokenizer, "vocab_file", None) or "")
    alone = path.suffix == ".model" and path.is_file() and not path.with_name("tokenizer.json").is_file()
    return path if alone else None


def _sentencepiece_source(tokenizer: PreTrainedTokenizerBase, backend: Tokenizer) -> bytes | None:
    """The SentencePiece model of a repository that has no tokenizer.json.

    transformers (5.23) converts such a model with its merges in id order, while SentencePiece orders them by score (the
    runs of spaces of Mistral and Llama come first in one and last in the other), so the model file itself decides.
    """
    path = sentencepiece_file(tokenizer)
    if path is None:
        return None
    data = path.read_bytes()
    try:
        proto = ModelProto.FromString(data)
    except Exception:  # a tiktoken file of the same name
        return None
    same_ids = all(backend.token_to_id(p.piece) == i for i, p in enumerate(proto.pieces) if p.type == 1)
    return data if proto.pieces and same_ids else None


def _from_sentencepiece(
    tokenizer: PreTrainedTokenizerBase, model: bytes, added: Mapping[int, AddedToken], silent: _Silent
) -> ByteEncoder:
    """A serialized SentencePiece model, read by its own library without dummy prefix and space folding."""
    proto = ModelProto.FromString(model)
    rules = proto.normalizer_spec
    if rules.precompiled_charsmap:
        kind = rules.name or "a SentencePiece charsmap"
        raise _refusal(
            tokenizer, f"a tokenizer with a normalizer ({kind})", "its tokens do not spell the text it was given"
        )
    rules.add_dummy_prefix = rules.remove_extra_whitespaces = False
    rules.escape_whitespaces = True
    exact = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
    bytes_of = _no_bytes(tokenizer, max([len(proto.pieces) - 1, *added]))
    for token_id, piece in enumerate(proto.pieces):
        if piece.type in (1, 4, 5, 6):  # normal, user-defined, unused, byte; not unknown (2) or control (3)
            bytes_of[token_id] = _piece_bytes(piece.piece, True, piece.type == 6)
    for token_id, token in added.items():
        if token.special:
            bytes_of[token_id] = None
        elif token_id >= len(proto.pieces) or bytes_of[token_id] is None:
            bytes_of[token_id] = token.content.encode() or None
    silent(bytes_of)
    byte_ids = _byte_ids(bytes_of, {piece.piece: i for i, piece in enumerate(proto.pieces) if piece.type == 6})
    spell = Spelling(bytes_of, byte_ids, lambda text: SentencePieceRun(exact, text), SPACE)
    words = {i: token for i, token in added.items() if bytes_of[i] is not None and i >= len(proto.pieces)}
    return ByteEncoder(bytes_of, byte_ids, around_added(words, bytes_of, spell))


def _from_tekken(tekken: Any, silent: _Silent) -> ByteEncoder:
    """Mistral's tekken: control tokens first, then tiktoken ranks."""
    offset = tekken.num_special_tokens
    pieces = (tekken.id_to_byte_piece(i) for i in range(offset, tekken.n_words))
    bytes_of = [*([None] * offset), *pieces]
    silent(bytes_of)
    byte_ids = _byte_ids(bytes_of, {})
    return ByteEncoder(bytes_of, byte_ids, lambda text: tekken.encode(text, bos=False, eos=False))
