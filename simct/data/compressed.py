"""Reading files that may be compressed, with a limit on how far they may expand."""

import bz2
import gzip
import io
import lzma
from pathlib import Path
from typing import Any, BinaryIO, cast

from simct.errors import DataError, quoted

# text rarely expands more than tenfold; a file that expands more than this was made to fill a disk
MOST_EXPANSION, FREE_EXPANSION = 200, 2**24


class _Expanded(io.RawIOBase):
    """The content of a compressed file. Raises DataError once it is too large for the file's size."""

    def __init__(self, source: BinaryIO, path: Path) -> None:
        self._source, self._name = source, path.name
        self._left = most_expanded(path)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._source.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise expansion_error(self._name)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._source.close()
        super().close()


def most_expanded(path: Path) -> int:
    """How many bytes a file may expand to."""
    return FREE_EXPANSION + MOST_EXPANSION * path.stat().st_size


def expansion_error(name: str) -> DataError:
    """The error for a file that expands to far more than its size."""
    return DataError(
        f"{quoted(name)} expands to more than {MOST_EXPANSION} times its size. Give the data uncompressed."
    )


def open_bytes(path: Path) -> BinaryIO:
    """The file's bytes, decompressed if it begins like a compressed file, whatever its name.

    Reading raises DataError for a file that expands to far more than its size.
    """
    source = _decompressed(path)
    if source is None:
        return open(path, "rb")
    return cast(BinaryIO, io.BufferedReader(_Expanded(source, path), 1 << 16))


def _decompressed(path: Path) -> BinaryIO | None:
    with open(path, "rb") as file:
        head = file.read(6)
    if head.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, gzip.open(path))
    if head.startswith(b"BZh"):
        return cast(BinaryIO, bz2.open(path))
    if head.startswith(b"\xfd7zXZ"):
        return cast(BinaryIO, lzma.open(path))
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        import pyarrow

        return cast(BinaryIO, io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd")))
    return None
