"""Tokenizer families as exact byte encoders: the bytes of each id and an encoder stripped of whatever changes bytes.

A clone of the tokenizers backend is edited (no post-processor, no dummy prefix, no special-token parsing, Unicode
normalisation bypassed), so the user's tokenizer object is never changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from simct.errors import TokenizerError

SPACE = "▁"  # U+2581, SentencePiece's visible space
_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class ByteEncoder:
    """bytes_of by id (None = special or unused); byte_ids [256]; encode(text) -> ids, to be checked by the caller."""

    bytes_of: list[bytes | None]
    byte_ids: tuple[int | None, ...]
    encode: Callable[[str], list[int]]


def byte_encoder(tokenizer: PreTrainedTokenizerBase) -> ByteEncoder:
    """Return the exact encoder of `tokenizer`'s family; TokenizerError names the family that cannot be exact."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise TokenizerError(
            f"{_name(tokenizer)} ({type(tokenizer).__name__}) has no fast tokenizer, so its bytes cannot be known: "
            "choose a model that ships a tokenizer.json."
        )
    return _from_backend(tokenizer, json.loads(backend.to_str()))


def _from_backend(tokenizer: PreTrainedTokenizerBase, spec: dict) -> ByteEncoder:
    model = spec["model"]
    family = model.get("type") or "BPE"
    if family == "WordPiece":
        raise TokenizerError(
            f"{_name(tokenizer)} is a WordPiece tokenizer, which drops spaces and maps unknown words to [UNK]: "
            "choose a model with a byte-level BPE or SentencePiece tokenizer."
        )
    vocabulary = (
        {piece: i for i, (piece, _) in enumerate(model["vocab"])} if family == "Unigram" else dict(model["vocab"])
    )
    added = {token["id"]: token for token in spec["added_tokens"]}
    byte_level = _mentions(spec["pre_tokenizer"], "ByteLevel") or _mentions(spec["decoder"], "ByteLevel")
    sentencepiece = not byte_level and SPACE in json.dumps(
        [spec["normalizer"], spec["pre_tokenizer"], spec["decoder"]], ensure_ascii=False
    )
    size = max([*vocabulary.values(), *added], default=-1) + 1
    bytes_of: list[bytes | None] = [None] * size
    for piece, token_id in vocabulary.items():
        bytes_of[token_id] = _piece_bytes(piece, byte_level, sentencepiece)
    for token_id, token in added.items():
        text = token["content"].replace(SPACE, " ") if sentencepiece else token["content"]
        bytes_of[token_id] = None if token["special"] else text.encode() or None
    for token_id in tokenizer.all_special_ids:
        bytes_of[token_id] = None

    _refuse_or_bypass_normalizer(tokenizer, spec)
    spec["pre_tokenizer"] = _without_dummy_prefix(spec["pre_tokenizer"])
    spec["post_processor"] = spec["truncation"] = spec["padding"] = None
    spec["added_tokens"] = [
        {**token, "lstrip": False, "rstrip": False} for token in spec["added_tokens"] if bytes_of[token["id"]]
    ]
    clone = Tokenizer.from_str(json.dumps(spec, ensure_ascii=False))
    byte_ids = _single_byte_ids(vocabulary, bytes_of, sentencepiece)

    def encode(text: str) -> list[int]:
        if sentencepiece and SPACE in text:  # a literal U+2581 must not turn into a space
            ids: list[int] = []
            for i, part in enumerate(text.split(SPACE)):
                if i:
                    ids.extend(j for j in (byte_ids[b] for b in SPACE.encode()) if j is not None)
                if part:
                    ids.extend(clone.encode(part, add_special_tokens=False).ids)
            return ids
        return clone.encode(text, add_special_tokens=False).ids

    return ByteEncoder(bytes_of, byte_ids, encode)


def _byte_table() -> dict[str, int]:
    """GPT-2's reversible byte table: printable Latin-1 bytes are themselves, the others follow from U+0100."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(value): value for value in plain}
    others = (value for value in range(256) if value not in set(plain))
    return table | {chr(256 + i): value for i, value in enumerate(others)}


BYTE_OF_CHAR = _byte_table()


def _piece_bytes(piece: str, byte_level: bool, sentencepiece: bool) -> bytes | None:
    if byte_level:
        try:
            return bytes(BYTE_OF_CHAR[c] for c in piece) or None
        except KeyError:
            return None  # a control token kept inside the vocabulary
    if sentencepiece:
        byte = _BYTE_PIECE.fullmatch(piece)
        return bytes([int(byte[1], 16)]) if byte else piece.replace(SPACE, " ").encode() or None
    return piece.encode() or None


def _single_byte_ids(vocabulary: dict[str, int], bytes_of: list, sentencepiece: bool) -> tuple[int | None, ...]:
    ids: list[int | None] = [None] * 256
    for token_id, data in enumerate(bytes_of):
        if data is not None and len(data) == 1 and ids[data[0]] is None:
            ids[data[0]] = token_id
    if sentencepiece:
        for value in range(256):
            token_id = vocabulary.get(f"<0x{value:02X}>")
            if token_id is not None and (ids[value] is None or value >= 0x80):
                ids[value] = token_id
    return tuple(ids)


def _mentions(part: dict | None, kind: str) -> bool:
    return any(step.get("type") == kind for step in _steps(part))


def _steps(part: dict | None) -> list[dict]:
    if part is None:
        return []
    if part["type"] == "Sequence":
        inner = part.get("normalizers") or part.get("pretokenizers") or part.get("decoders") or []
        return [step for child in inner for step in _steps(child)]
    return [part]


def _refuse_or_bypass_normalizer(tokenizer: PreTrainedTokenizerBase, spec: dict) -> None:
    kept = []
    for step in _steps(spec["normalizer"]):
        kind = step["type"]
        if kind in {"NFKC", "NFKD", "Lowercase", "StripAccents", "BertNormalizer", "Nmt", "Precompiled"}:
            raise TokenizerError(
                f"{_name(tokenizer)} changes its input ({kind} normaliser), so its tokens do not spell the text: "
                "choose a model whose tokenizer keeps the bytes."
            )
        if kind == "Replace" and step["content"] == SPACE:
            kept.append(step)
    spec["normalizer"] = {"type": "Sequence", "normalizers": kept} if kept else None


def _without_dummy_prefix(part: dict | None) -> dict | None:
    for step in _steps(part):
        if step["type"] == "ByteLevel":
            step["add_prefix_space"] = False
        if step["type"] == "Metaspace":
            step["prepend_scheme"] = "never"
            step.pop("add_prefix_space", None)
    return part


def _name(tokenizer: PreTrainedTokenizerBase) -> str:
    return getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
