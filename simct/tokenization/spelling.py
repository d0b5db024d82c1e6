"""Spelling text by ids: run by run and around added tokens, with each spelling checked against its text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Encoding

from simct.errors import AlignmentError


@dataclass(frozen=True)
class Spelling:
    """Encodes text by the rebuilt backend, and again wherever its tokens do not have the text's bytes."""

    bytes_of: list[bytes | None]
    byte_ids: tuple[int | None, ...]
    run: Callable[[str], Encoding | SentencePieceRun]
    visible_space: str  # a literal U+2581 in the text must not become a space

    def __call__(self, text: str) -> list[int]:
        if not self.visible_space or self.visible_space not in text:
            return self._plain(text)
        ids: list[int] = []
        for i, part in enumerate(text.split(self.visible_space)):
            ids.extend(self._bytewise(self.visible_space) if i else [])
            ids.extend(self._plain(part) if part else [])
        return ids

    def _plain(self, text: str) -> list[int]:
        encoding = self.run(text)
        if spelling_of(self.bytes_of, encoding.ids) == text.encode():
            return encoding.ids
        ids: list[int] = []
        for start, end, group in by_span(encoding.ids, encoding.offsets, len(text)):
            exact = spelling_of(self.bytes_of, group) == text[start:end].encode()
            ids.extend(group if exact else self._characters(text[start:end]))
        return ids

    def _characters(self, text: str) -> list[int]:
        ids: list[int] = []
        for char in text:
            group = self.run(char).ids
            ids.extend(group if spelling_of(self.bytes_of, group) == char.encode() else self._bytewise(char))
        return ids

    def _bytewise(self, char: str) -> list[int]:
        ids: list[int] = []
        for value in char.encode():
            token_id = self.byte_ids[value]
            if token_id is None:
                raise AlignmentError(f"The vocabulary has no way to spell {char!r} (U+{ord(char):04X}).")
            ids.append(token_id)
        return ids


def spelling_of(bytes_of: Sequence[bytes | None], ids: Iterable[int]) -> bytes | None:
    """The bytes of `ids` joined; None if one of them has none."""
    try:
        return b"".join([bytes_of[i] for i in ids])  # type: ignore[misc]  # a None among them is caught below
    except TypeError:
        return None


def by_span(ids: list[int], offsets: list[tuple[int, int]], length: int) -> list[tuple[int, int, list[int]]]:
    """Group ids whose character spans overlap; characters that no id covers form groups without ids."""
    groups: list[tuple[int, int, list[int]]] = []
    covered = 0
    for token_id, (start, end) in zip(ids, offsets, strict=True):
        if groups and start < covered:
            first, last, group = groups[-1]
            group.append(token_id)
            groups[-1] = (first, max(last, end), group)
        else:
            if start > covered:
                groups.append((covered, start, []))
            groups.append((start, end, [token_id]))
        covered = max(covered, end)
    return [*groups, (covered, length, [])] if covered < length else groups


def around_added(
    added: Mapping[int, AddedToken], bytes_of: Sequence[bytes | None], encode: Callable[[str], list[int]]
) -> Callable[[str], list[int]]:
    """Let `encode` see only the text between the added tokens that are text (leftmost first, then longest)."""
    patterns: dict[str, int] = {}
    whole: set[str] = set()  # those that match whole words only
    for token_id, token in added.items():
        text = (bytes_of[token_id] or b"").decode()
        # a token that spells spaces must not match a U+2581
        if (token.normalized or text == token.content) and text not in patterns:
            patterns[text] = token_id
            whole |= {text} if token.single_word else set()
    if not patterns:
        return encode
    ordered = sorted(patterns, key=len, reverse=True)
    matcher = re.compile("|".join(rf"(?<!\w){re.escape(t)}(?!\w)" if t in whole else re.escape(t) for t in ordered))

    def encode_around(text: str) -> list[int]:
        ids: list[int] = []
        at = 0
        for match in matcher.finditer(text):
            if match.start() > at:
                ids.extend(encode(text[at : match.start()]))
            ids.append(patterns[match[0]])
            at = match.end()
        return ids + encode(text[at:]) if at < len(text) else ids

    return encode_around


SPACE = "▁"  # U+2581, SentencePiece's visible space


class SentencePieceRun:
    """SentencePiece's ids; character offsets are computed only when needed."""

    def __init__(self, processor: Any, text: str) -> None:
        self._processor, self._text = processor, text
        self.ids: list[int] = processor.encode(text)

    @property
    def offsets(self) -> list[tuple[int, int]]:
        pieces = self._processor.encode(self._text, out_type="immutable_proto").pieces
        return [(piece.begin, piece.end) for piece in pieces]
