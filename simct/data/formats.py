"""Rows of one file: JSON, JSON Lines, CSV with any delimiter, Parquet, Arrow or plain text.

Files may be compressed, and text may be in any encoding; the detected encoding and delimiter are noted, so that people
can check them. A row that cannot be read becomes `Unreadable`, with the reason, so one bad line never costs the rest of
the file.
"""

import codecs
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simct.data.compressed import expansion_error, most_expanded, open_bytes
from simct.data.csv_rows import delimiter_of, table_rows
from simct.errors import DataError, quoted

# by the last suffix of a file's name, without a suffix for compression
READERS = {
    ".jsonl": "JSON Lines",
    ".ndjson": "JSON Lines",
    ".json": "JSON",
    ".csv": "CSV",
    ".tsv": "CSV",
    ".parquet": "Parquet",
    ".arrow": "Arrow",
    ".txt": "text",
}
COMPRESSED = (".gz", ".zst", ".zstd", ".bz2", ".xz")
KINDS = "JSONL, JSON, CSV, TSV, Parquet, Arrow or text, plain or as .gz or .zst"
LONGEST_LINE = 2**24  # characters, far more than any prompt has
LARGEST_JSON = 2**31  # bytes of a file that must be read whole
# rows of a Parquet file that are read together; only a few, because one stored value may be repeated for all of them
BATCH_ROWS, CAREFUL_ROWS, CAREFUL_EXPANSION = 1000, 10, 20
HEAD = 2**26  # bytes read to find the encoding
SNIFFED = 2**16  # characters read to find the delimiter, and bytes to guess an encoding

# encodings of text files other than UTF-8, by Python's names
WESTERN = "cp1252"
RELATED = ("cp1257", "cp1258")  # these differ from Western in a few letters
LATIN = (WESTERN, "cp1254", *RELATED, "mac_roman", "cp850")
OTHER_SCRIPTS = (
    "cp1251", "koi8_r", "koi8_u", "cp866", "cp1253", "cp1255", "cp1256", "cp874", "cp932", "euc_jp", "gb18030", "big5",
    "cp949",
)  # fmt: skip
# by charset_normalizer's names; without Hungarian, because it mistakes short French texts for Hungarian
CENTRAL_LANGUAGES = ("Polish", "Czech", "Slovak", "Slovene", "Croatian", "Romanian")
# columns that hold a conversation
CONVERSATIONS = ("messages", "conversations", "conversation", "chosen", "rejected")

Row = dict[str, Any]


@dataclass(frozen=True)
class Unreadable:
    """Takes the place of a row that cannot be read; `reason` completes "1 row is skipped: …"."""

    reason: str


@dataclass
class FileNotes:
    """What was found while files were opened; several files may differ."""

    formats: Counter[str] = field(default_factory=Counter)
    encodings: Counter[str] = field(default_factory=Counter)
    delimiters: Counter[str] = field(default_factory=Counter)


def format_of(path: Path | str) -> str | None:
    """The format of a file by its name, compressed or not; None if it is not supported."""
    suffixes = [suffix for suffix in suffix_of(path).split(".") if f".{suffix}" not in COMPRESSED]
    return READERS.get(f".{suffixes[-1]}")


def unknown_format(path: Path | str) -> str:
    """Why a file without a known format is refused, and what to do."""
    name = Path(path).name
    if suffix_of(name):
        return f"{name!r} is not {KINDS}. Convert it to one of these."
    return f"{name!r} has no ending that says how to read it. If it is text, rename it to {quoted(f'{name}.txt')}."


def suffix_of(path: Path | str) -> str:
    """The end of a file's name that decides how it is read, such as .csv or .jsonl.gz, in lower case."""
    found: list[str] = []
    for suffix in reversed([suffix.lower() for suffix in Path(path).suffixes]):
        found.insert(0, suffix)
        if suffix not in COMPRESSED:
            break
    return "".join(found)


def rows_of_file(path: Path, notes: FileNotes, split: str = "train") -> Iterator[Row | Unreadable]:
    """The rows of one file, read one by one. Raises DataError, and whatever libraries raise for bad files.

    A text file has a row for each line, with the column `prompt`, and so has a list of texts in JSON. If one JSON
    file holds several splits, `split` is the one to read.
    """
    kind = format_of(path)
    if kind is None:
        raise DataError(unknown_format(path))
    notes.formats[kind] += 1
    if kind == "Parquet":
        return _parquet_rows(path)
    if kind == "Arrow":
        return _arrow_rows(path)
    reader = {"JSON Lines": _json_lines, "JSON": _json_rows, "CSV": _csv_rows, "text": _text_rows}[kind]
    encoding = file_encoding(path)
    notes.encodings[encoding] += 1
    return reader(path, encoding, notes, split)


# Bytes and text


def open_text(path: Path, encoding: str, newline: str | None = None) -> io.TextIOWrapper:
    """The file's text. Bytes that are not valid become lone surrogates in UTF-8, so that their rows can be skipped."""
    errors = "surrogateescape" if encoding.startswith("utf-8") else "replace"
    return io.TextIOWrapper(open_bytes(path), encoding=encoding, errors=errors, newline=newline)


def file_encoding(path: Path) -> str:
    """The encoding of a text file, as encoding_of finds it."""
    with open_bytes(path) as file:
        return encoding_of(file.read(HEAD))


def encoding_of(data: bytes) -> str:
    """The encoding of the beginning of a file: by its byte order mark, UTF-8 if most of it is valid, else guessed."""
    marks = {
        codecs.BOM_UTF8: "utf-8-sig",
        codecs.BOM_UTF32_LE: "utf-32",
        codecs.BOM_UTF32_BE: "utf-32",
        codecs.BOM_UTF16_LE: "utf-16",
        codecs.BOM_UTF16_BE: "utf-16",
    }
    for mark, name in marks.items():
        if data.startswith(mark):
            return name
    if data[:SNIFFED].count(0) > len(data[:SNIFFED]) // 4:
        # text in Latin letters without a byte order mark: every second byte is zero
        return "utf-16-le" if data[1:SNIFFED:2].count(0) > data[0:SNIFFED:2].count(0) else "utf-16-be"
    if data.isascii():
        return "iso2022_jp" if b"\x1b$" in data else "utf-8"
    lines = [line for line in data.splitlines() if not line.isascii()]
    if len(data) == HEAD:
        lines = lines[:-1]  # it may end in the middle of a character
    if 2 * sum(map(_is_utf8, lines)) >= len(lines):
        return "utf-8"
    return _guessed(b"\n".join(lines)[:SNIFFED])


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _guessed(data: bytes) -> str:
    """The encoding of text that is not UTF-8, as charset_normalizer finds it among the usual encodings.

    If several related encodings fit, it is Windows-1252, the most common after UTF-8, unless the language has letters
    that Windows-1252 lacks.
    """
    from charset_normalizer import from_bytes

    # Windows-1250 has letters where ISO 8859-2 has none
    central = "cp1250" if re.search(rb"[\x80-\x9f]", data) else "iso8859_2"
    others = () if _mostly_alone(data) else OTHER_SCRIPTS
    matches = from_bytes(data, cp_isolation=[*LATIN, central, *others])
    best = matches.best()
    if best is None:
        return WESTERN
    by_name = {name: each for each in reversed(list(matches)) for name in (each.encoding, *each.could_be_from_charset)}
    middle, western = by_name.get(central), by_name.get(WESTERN)
    if middle and middle.language in CENTRAL_LANGUAGES and middle.coherence > best.coherence - 0.05:
        return central
    if western and (western is best or (best.encoding in (*RELATED, central) and western.chaos < best.chaos + 0.06)):
        return WESTERN
    return best.encoding


def _mostly_alone(data: bytes) -> bool:
    """Whether most bytes beyond ASCII have ASCII neighbors, which is true only of accented letters in Latin script."""
    runs = re.findall(rb"[\x80-\xff]+", data)
    return 4 * sum(len(run) == 1 for run in runs) >= 3 * sum(map(len, runs))


def _lines(text: io.TextIOWrapper) -> Iterator[str | Unreadable]:
    """Lines that are not blank; a line that is too long is skipped without being read into memory."""
    while line := text.readline(LONGEST_LINE):
        if len(line) < LONGEST_LINE or line.endswith("\n"):
            if line.strip():
                yield line
            continue
        while (more := text.readline(LONGEST_LINE)) and not more.endswith("\n"):
            pass
        yield Unreadable(f"a line has more than {LONGEST_LINE:,} characters")


# One reader for each format


def _text_rows(path: Path, encoding: str, notes: FileNotes, split: str) -> Iterator[Row | Unreadable]:
    with open_text(path, encoding) as text:
        for line in _lines(text):
            yield line if isinstance(line, Unreadable) else {"prompt": line.rstrip("\n")}


def _json_lines(path: Path, encoding: str, notes: FileNotes, split: str) -> Iterator[Row | Unreadable]:
    with open_text(path, encoding) as text:
        start = text.read(SNIFFED).lstrip()
    if start.startswith("[") or re.match(r"\{\s*\n", start):
        yield from _json_rows(path, encoding, notes, split)
        return
    with open_text(path, encoding) as text:
        yield from _parsed(_lines(text))


def _parsed(lines: Iterable[str | Unreadable]) -> Iterator[Row | Unreadable]:
    for line in lines:
        try:
            yield line if isinstance(line, Unreadable) else _json_row(json.loads(line))
        except (ValueError, RecursionError):
            yield Unreadable("a line is not valid JSON")


def _json_row(value: Any) -> Row | Unreadable:
    if isinstance(value, str):
        return {"prompt": value}
    if isinstance(value, dict) and isinstance(value.get("row"), dict) and "row_idx" in value:
        return value["row"]  # the rows of the Hub's dataset viewer
    return value if isinstance(value, dict) else Unreadable("a row is not a JSON object")


def _json_rows(path: Path, encoding: str, notes: FileNotes, split: str) -> Iterator[Row | Unreadable]:
    with open_text(path, encoding) as text:
        content = text.read(LARGEST_JSON)
        if text.read(1):
            raise DataError(f"{path.name!r} is one JSON value of more than 2 GiB. Convert it to JSON Lines.")
    try:
        value = json.loads(content)
    except RecursionError as error:
        raise DataError(f"{path.name!r} is nested too deeply to be read.") from error
    except ValueError:
        lines = [line for line in content.split("\n") if line.strip()]
        if any(isinstance(row, dict) for row in _parsed(lines[:2])):
            yield from _parsed(lines)  # JSON Lines in a file named .json
            return
        yield from map(_json_row, _values_in(content))
        return
    yield from (_json_row(row) for row in rows_in(value, split))


def _values_in(content: str) -> Iterator[Any]:
    """JSON values in sequence, each over several lines. Raises ValueError for anything else."""
    decoder, at = json.JSONDecoder(), 0
    while match := re.compile(r"\s*,?\s*(?=\S)").match(content, at):
        value, at = decoder.raw_decode(content, match.end())
        yield value


def rows_in(value: Any, split: str = "train") -> list[Any]:
    """The rows of a JSON value: a list, the rows of the split or else the most under a key, a table, or one row."""
    if not isinstance(value, dict):
        return value if isinstance(value, list) else [value]
    if _is_rows(value.get(split)):
        return value[split]
    lists = [each for name, each in value.items() if _is_rows(each) and name not in CONVERSATIONS]
    if lists:
        return max(lists, key=len)
    columns = list(value.values())
    if any(map(_is_rows, columns)):
        return [value]
    if columns and all(isinstance(column, list) for column in columns) and len({*map(len, columns)}) == 1:
        return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    if columns and all(isinstance(column, dict) for column in columns):
        if all(key.isdigit() for column in columns for key in column):  # a table as pandas writes it
            return [{name: column.get(key) for name, column in value.items()} for key in columns[0]]
        nested = [rows_in(column, split) for column in columns]
        return max(nested, key=len) if any(len(rows) > 1 for rows in nested) else columns
    return [value]


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _csv_rows(path: Path, encoding: str, notes: FileNotes, split: str) -> Iterator[Row | Unreadable]:
    with open_text(path, encoding, newline="") as text:
        delimiter = delimiter_of(text.read(SNIFFED))
    notes.delimiters[delimiter] += 1
    csv.field_size_limit(LONGEST_LINE)
    with open_text(path, encoding, newline="") as text:
        for row in table_rows(text, delimiter):
            yield Unreadable(row) if isinstance(row, str) else row


def _parquet_rows(path: Path) -> Iterator[Row | Unreadable]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        groups = (file.metadata.row_group(index) for index in range(file.metadata.num_row_groups))
        size, held = path.stat().st_size, sum(group.total_byte_size for group in groups)
        left = most_expanded(path)
        if held > left:
            raise expansion_error(path.name)
        rows = BATCH_ROWS if held < CAREFUL_EXPANSION * size else CAREFUL_ROWS
        for batch in file.iter_batches(batch_size=rows):
            # one dictionary entry may stand for every row
            left -= batch.nbytes
            if left < 0:
                raise expansion_error(path.name)
            yield from batch.to_pylist()


def _arrow_rows(path: Path) -> Iterator[Row | Unreadable]:
    import pyarrow

    with pyarrow.memory_map(str(path)) as source:
        try:
            batches = pyarrow.ipc.open_stream(source)
        except pyarrow.ArrowInvalid:
            file = pyarrow.ipc.open_file(source)
            batches = (file.get_batch(index) for index in range(file.num_record_batches))
        for batch in batches:
            yield from batch.to_pylist()


def known_rows(path: Path) -> int | None:
    """How many rows a file has, if its header says so."""
    if format_of(path) != "Parquet":
        return None
    import pyarrow.parquet

    return pyarrow.parquet.read_metadata(path).num_rows
