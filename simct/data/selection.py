"""Which prompts of the data a run uses: rows that are left out by number, duplicates, and lengths."""

import hashlib
import json
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from simct.config.rules import ROWS
from simct.config.sections import DataConfig

if TYPE_CHECKING:
    from simct.data.conversations import Message
    from simct.data.tools import Tool


class ExcludedRows:
    """The rows of data.exclude_rows, counted from 1: `row in excluded`. The entries were checked with the run."""

    def __init__(self, entries: Sequence[str]) -> None:
        found = [match for entry in entries if (match := ROWS.fullmatch(entry.strip()))]
        self.ranges = sorted((int(match[1]), int(match[2] or match[1])) for match in found)
        self.starts = [start for start, _ in self.ranges]
        # the last row of all ranges up to each, as ranges may overlap
        self.ends: list[int] = []
        for _, end in self.ranges:
            self.ends.append(max([end, *self.ends[-1:]]))

    def __contains__(self, row: int) -> bool:
        place = bisect_right(self.starts, row)
        return place > 0 and row <= self.ends[place - 1]


def row_ranges(rows: Iterable[int], entries: Sequence[str] = ()) -> list[str]:
    """`rows` and those of `entries` as the shortest list for data.exclude_rows, such as ["7", "20-29"]."""
    spans = [*((row, row) for row in rows), *ExcludedRows(entries).ranges]
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return [str(start) if start == end else f"{start}-{end}" for start, end in merged]


class Duplicates:
    """Finds repeated prompts: the same messages and tools, or as data.deduplicate says.

    Memory: 16 bytes and a set entry for each different prompt.
    """

    def __init__(self, kind: str = "exact") -> None:
        self.kind = kind
        self.seen: set[bytes] = set()

    def again(self, messages: "Sequence[Message]", tools: "Sequence[Tool]") -> bool:
        """Whether this prompt has occurred before; it counts as seen from now on."""
        said = [[message["role"], self._text(message["content"] or "")] for message in messages]
        calls = [message.get("tool_calls") for message in messages]
        written = json.dumps([said, calls, list(tools)], default=str)
        key = hashlib.blake2b(written.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        known = key in self.seen
        self.seen.add(key)
        return known

    def _text(self, text: str) -> str:
        if self.kind == "exact":
            return text
        return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def has_allowed_length(data: DataConfig, lengths: Sequence[int]) -> bool:
    """Whether a prompt with these lengths, in tokens of each model, is within data.min_tokens and data.max_tokens."""
    return (data.min_tokens or 0) <= min(lengths) and (data.max_tokens is None or max(lengths) <= data.max_tokens)
