"""Measure a pair on a whole corpus: read as a stream, stoppable at any time, cached by content.

Texts are counted in chunks. The counts of a chunk are kept in a file named by the chunk's text and by both tokenizers,
so that measuring a corpus again, in part or after a stop, only takes the time to read it. Memory is bounded by a
chunk and by how many different disagreements are kept.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from simct.config import local_path
from simct.config.sections import DataConfig
from simct.data.conversations import Unusable, messages_in
from simct.data.formats import Unreadable, file_encoding, format_of, open_text
from simct.data.sources import RowSource, open_rows
from simct.errors import DataError, brief, listed, quoted
from simct.files import cache_folder, write_cache
from simct.inspection.coverage import Counts
from simct.inspection.records import PairReport
from simct.inspection.text_kinds import KINDS
from simct.tokenization.pair import TokenizerPair
from simct.tokenization.token_bytes import TokenBytes

TEXT_COLUMNS = (
    "text", "content", "messages", "conversations", "prompt", "question", "instruction", "problem", "completion",
    "response", "answer", "code",
)  # fmt: skip
CHUNK_CHARACTERS = 2**19
PIECE_CHARACTERS = 2**14  # characters of a piece of a text file, cut at the end of a line
MOST_DISAGREEMENTS = 200_000
KEPT_BYTES = 2**29
FORMAT = "1"  # the version of the file format and of the counts
PROGRESS_SECONDS = 0.1
SHOWN_REASONS = 3

OnProgress = Callable[[int, int | None], None]
ShouldStop = Callable[[], bool]


def inspect_corpus(
    pair: TokenizerPair,
    texts: Iterable[str],
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
    cache_dir: Path | str | None = None,
    top: int = 20,
    total: int | None = None,
) -> PairReport:
    """The report of `coverage.inspect_pair` over a stream of texts, with `stopped` and `texts_remembered`.

    on_progress(texts counted, total) is called about ten times a second; should_stop() is asked before every text, and
    a stopped report holds the counts so far. Beyond MOST_DISAGREEMENTS different disagreements, the rarest are
    dropped; `disagreements_lost` then says by how much a count may be too low (0: all are exact).
    cache_dir: where chunks are kept, by default `corpora` next to the other caches (files.cache_folder).
    """
    folder = Path(cache_dir) if cache_dir else cache_folder("corpora")
    counter = _Counter(pair, folder, on_progress, should_stop, total)
    for chunk in _chunks(texts, counter.should_stop):
        counter.count(chunk)
        if counter.stopped:
            break
    counter.report_progress(last=True)
    _forget_oldest(folder)
    return replace(counter.counts.report(pair, top), stopped=counter.stopped, texts_remembered=counter.remembered)


class _Counter:
    """Adds up chunks, each from its file or by counting, and reports its progress."""

    def __init__(
        self,
        pair: TokenizerPair,
        folder: Path,
        on_progress: OnProgress | None,
        should_stop: ShouldStop | None,
        total: int | None,
    ) -> None:
        self.pair, self.folder, self.total = pair, folder, total
        self.on_progress, self._asked = on_progress, should_stop
        self.counts, self.remembered, self.stopped = Counts(), 0, False
        self._key = _pair_key(pair)
        self._reported = 0.0

    def should_stop(self) -> bool:
        self.stopped = self.stopped or bool(self._asked and self._asked())
        return self.stopped

    def count(self, chunk: list[str]) -> None:
        path = self.folder / f"{_chunk_key(self._key, chunk)}.json.gz" if self._key else None
        counts = path and _read(path)
        if counts:
            self.remembered += counts.texts
        else:
            counts = Counts()
            for text in chunk:
                if self.should_stop():
                    break
                counts.add(self.pair, text)
                self.report_progress(counts.texts)
            if path and counts.texts == len(chunk):
                _write(path, counts)
        self.counts.join(counts)
        if len(self.counts.disagreements) > 2 * MOST_DISAGREEMENTS:
            self.counts.drop_rare(MOST_DISAGREEMENTS)
        self.report_progress()

    def report_progress(self, more: int = 0, last: bool = False) -> None:
        now = time.monotonic()
        if self.on_progress and (last or now - self._reported > PROGRESS_SECONDS):
            self._reported = now
            self.on_progress(self.counts.texts + more, self.total)


def _chunks(texts: Iterable[str], should_stop: ShouldStop) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(text)
        size += len(text)
        if size >= CHUNK_CHARACTERS or should_stop():
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


# Texts from files and datasets


def dataset_texts(
    source: str,
    column: str | None = None,
    split: str = "train",
    limit: int | None = None,
    token: str | bool | None = None,
    *,
    config_name: str | None = None,
    revision: str | None = None,
    skipped: Counter[str] | None = None,
) -> Iterator[str]:
    """Stream the texts of a local JSONL, CSV, Parquet or text file, a folder, or a column of a Hub dataset.

    A text file comes in pieces of some kilobytes, cut at line ends. The contents of chat messages are joined by line
    breaks. Without `column`, it is the first of TEXT_COLUMNS that exists, or the first column with text. At most
    `limit` texts; empty ones do not count. Rows that cannot be read or hold no text are counted by reason in `skipped`.
    Raises DataError or HubError (one line), possibly after the first texts, and if there is no text at all.
    """
    skipped = Counter() if skipped is None else skipped
    path = local_path(source)
    if path is not None and path.is_file() and format_of(path) == "text":
        found = _file_pieces(path)
    else:
        data = DataConfig(prompts=source, split=split, config_name=config_name, revision=revision)
        found = _column_texts(data, open_rows(data, token, streaming=True), column, skipped)
    return _some(source, found, limit, skipped)


def sample_texts() -> list[str]:
    """A small balanced sample: prose in eleven languages, code, numbers, LaTeX and chat, a text each."""
    lines = (Path(__file__).parent / "sample.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def pieces_of(text: str) -> Iterator[str]:
    """`text` in pieces of PIECE_CHARACTERS or a little more, cut at the end of a line if possible."""
    file = io.StringIO(text, newline="")
    while piece := file.read(PIECE_CHARACTERS):
        yield piece + file.readline(PIECE_CHARACTERS)


def _some(source: str, texts: Iterator[str], limit: int | None, skipped: Counter[str]) -> Iterator[str]:
    count = 0
    for text in texts:
        if not text:
            continue
        yield text
        count += 1
        if count == limit:
            return
    if not count:
        why = ", ".join(f"{n:,} × {reason}" for reason, n in skipped.most_common(SHOWN_REASONS))
        raise DataError(f"{source!r} has no text{f' ({why})' if why else ''}. Give a file or dataset column with some.")


def _file_pieces(path: Path) -> Iterator[str]:
    try:
        with open_text(path, file_encoding(path), newline="") as file:
            while piece := file.read(PIECE_CHARACTERS):
                yield (piece + file.readline(PIECE_CHARACTERS)).encode("utf-8", "replace").decode("utf-8")
    except OSError as error:
        raise DataError(f"Cannot read {str(path)!r}: {error.strerror or brief(error)}. Check the path.") from error


def _column_texts(data: DataConfig, source: RowSource, column: str | None, skipped: Counter[str]) -> Iterator[str]:
    name = ""
    for row in source.rows:
        if isinstance(row, Unreadable):
            skipped[f"row skipped: {row.reason}"] += 1
            continue
        name = name or _text_column(data.prompts, row, column)
        try:
            yield _text_of(row.get(name))
        except Unusable:
            skipped[f"row skipped: no text in the column {name!r}"] += 1


def _text_column(source: str, row: dict, column: str | None) -> str:
    if column is not None:
        if column not in row:
            raise DataError(f"{source!r} has no column {quoted(column)}; it has {listed(row)}.")
        return column
    found = next((name for name in TEXT_COLUMNS if name in row), None)
    found = found or next((name for name, value in row.items() if isinstance(value, str)), None)
    if found is None:
        raise DataError(f"{source!r} has no column of text; it has {listed(row)}. Name one with --column.")
    return found


def _text_of(value: Any) -> str:
    """The text of a cell, empty for an empty one. Raises Unusable for a cell that holds something else."""
    try:
        turns = messages_in(value)
    except Unusable:
        turns = None
    if value is None or (isinstance(value, str) and turns is None):
        return value or ""
    if turns is not None:
        parts = [turn.get("content") or turn.get("value") if isinstance(turn, dict) else turn for turn in turns]
        parts = [_joined(part) for part in parts]
        if all(part is None or isinstance(part, str) for part in parts):
            return "\n".join(filter(None, parts))
    raise Unusable("no text")


def _joined(content: Any) -> Any:
    """The content of a message, with a list of parts joined to text."""
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        return "".join(part["text"] for part in content if isinstance(part.get("text"), str))
    return content


# Chunks kept as files


def _pair_key(pair: TokenizerPair) -> str | None:
    """The hash of both tokenizers, on which the counts depend; None if a tokenizer's rules cannot be read."""
    teacher_state, student_state = _state(pair.teacher), _state(pair.student)
    if teacher_state is None or student_state is None:
        return None
    return "-".join([FORMAT, pair.teacher.fingerprint, pair.student.fingerprint, teacher_state, student_state])


def _state(tokens: TokenBytes) -> str | None:
    """A hash of how a tokenizer splits text, because tokenizers with equal vocabularies can have different rules."""
    backend = getattr(tokens.tokenizer, "backend_tokenizer", None)
    try:
        if backend is not None:
            return hashlib.blake2b(backend.to_str().encode(), digest_size=16).hexdigest()
        data = Path(tokens.tokenizer.vocab_file).read_bytes()
    except (AttributeError, TypeError, OSError):
        return None
    return hashlib.blake2b(type(tokens.tokenizer).__name__.encode() + data, digest_size=16).hexdigest()


def _chunk_key(pair_key: str, chunk: list[str]) -> str:
    digest = hashlib.blake2b(pair_key.encode(), digest_size=20)
    for text in chunk:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def _write(path: Path, counts: Counts) -> None:
    kept: dict[str, Any] = {name: value for name, value in vars(counts).items() if isinstance(value, int)}
    kept["shapes"] = [[*shape, n] for shape, n in counts.shapes.items()]
    kept["disagreements"] = [[student, teacher, n] for (student, teacher), n in counts.disagreements.items()]
    kept["excluded"] = dict(counts.excluded)
    kept["by_kind"] = counts.by_kind.tolist()
    write_cache(path, gzip.compress(json.dumps(kept, separators=(",", ":")).encode(), 3))


def _read(path: Path) -> Counts | None:
    try:
        kept = json.loads(gzip.decompress(path.read_bytes()))
        shapes = Counter({(student, teacher): n for student, teacher, n in kept.pop("shapes")})
        disagreements = Counter({(tuple(s), tuple(t)): n for s, t, n in kept.pop("disagreements")})
        by_kind = np.array(kept.pop("by_kind"), np.int64).reshape(3, len(KINDS))
        excluded = Counter(kept.pop("excluded"))
        counts = Counts(**kept, shapes=shapes, disagreements=disagreements, by_kind=by_kind, excluded=excluded)
        os.utime(path)
    except Exception:  # missing, cut short, or written by something else
        return None
    return counts


def _forget_oldest(folder: Path) -> None:
    """Delete the least recently used files beyond KEPT_BYTES in total."""
    try:
        stored = [(file, file.stat()) for file in folder.glob("*.json.gz")]
        room = KEPT_BYTES
        for file, stat in sorted(stored, key=lambda pair: -pair[1].st_mtime):
            room -= stat.st_size
            if room < 0:
                file.unlink(missing_ok=True)
    except OSError:  # another process may remove old files at the same time
        return
