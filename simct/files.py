"""How the whole project writes and reads files: atomic replacement, JSON, JSON lines, logs, locks, the cache."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

# the errors for a full disk, a used-up quota and a limit on file size
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# number of tries for a lock without waiting, and seconds between them: another process may only be checking it
LOCK_TRIES = 5
LOCK_PAUSE = 0.01


def expanded(path: str | Path) -> Path:
    """`path` with a leading ~ replaced by the home folder; unchanged where there is no such user.

    Path.expanduser raises RuntimeError for these.
    """
    return Path(os.path.expanduser(path))


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace `path` as a whole: a reader or a crash sees the old content or the new, never a mixture.

    Text is written as UTF-8. Raises OSError, and then leaves the old content.
    """
    _replace(path, content, durable=True)


def write_cache(path: Path, content: bytes) -> None:
    """Replace a cache file as a whole. A full disk or a read-only folder is ignored; the content is then computed again
    next time.
    """
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, content, durable=False)


def _replace(path: Path, content: str | bytes, durable: bool) -> None:
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def overwrite(path: Path, content: str) -> None:
    """Replace the content of a small file in place, for a disk that has no room for a new file.

    Shorter content is padded with spaces. Raises OSError if the new content needs more room than the file has.
    """
    data = content.encode("utf-8")
    with open(path, "r+b") as file:
        facts = os.fstat(file.fileno())
        if len(data) > max(facts.st_size, facts.st_blocks * 512):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        # in one call, so that a reader almost never sees an incomplete file
        os.pwrite(file.fileno(), data.ljust(facts.st_size), 0)
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Flush the names in a folder to disk. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_file(path: Path, most: int = -1) -> bytes:
    """The first `most` bytes of a regular file, or all. Raises OSError, also for anything but a regular file."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    with open(handle, "rb") as file:
        return file.read(most)


def parse_json(text: str | bytes) -> dict[str, Any] | None:
    """The JSON object in `text`; None for anything else, such as a list, invalid JSON, or too deep nesting."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if there is none or it cannot be read."""
    try:
        return parse_json(read_file(path)) or {}
    except OSError:
        return {}


def append_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Append one line per record. If a crash cut the last line short, it is ended first, so it never joins a new one.

    Raises OSError, and then leaves the file as it was.
    """
    data = _lines(records)
    with open(path, "a+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                data = b"\n" + data
        try:
            # a disk that fills up may accept only a part
            while data:
                data = data[file.write(data) or 0 :]
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(size)
            raise


def _lines(records: Iterable[dict[str, Any]]) -> bytes:
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    # a lone surrogate, which UTF-8 cannot hold, becomes a question mark
    return lines.encode("utf-8", errors="replace")


def keep_jsonl(path: Path, wanted: Callable[[dict[str, Any]], bool]) -> int:
    """Keep the wanted records of a JSON-lines file, in their order; returns the number of removed lines.

    Lines that hold no record are removed, too. Raises OSError, and then leaves the file as it was.
    """
    try:
        lines = [line for line in read_file(path).split(b"\n") if line]
    except FileNotFoundError:
        return 0
    kept = [record for line in lines if (record := parse_json(line)) is not None and wanted(record)]
    if len(kept) < len(lines):
        write_atomically(path, _lines(kept))
    return len(lines) - len(kept)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Every whole record of a JSON-lines file; empty if it cannot be read. Damaged lines are skipped."""
    try:
        text = read_file(path).decode("utf-8", errors="replace")
    except OSError:
        return []
    # not splitlines: it also splits at U+2028 and the like, which JSON allows within a string
    return [record for line in text.split("\n") if line and (record := parse_json(line)) is not None]


def tail(path: Path, lines: int) -> str:
    """The last `lines` lines of a text file, read from its last 200 bytes per line; empty if it cannot be read."""
    if not path.is_file():
        return ""
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 200 * lines))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def acquire_lock(path: Path, wait: bool = False, shared: bool = False) -> int | None:
    """An open file descriptor that holds the lock file `path`, or None if another process holds it and `wait` is false.

    The caller closes the descriptor to release the lock; the system releases it when the process ends, however it ends.
    A child process that inherits the descriptor holds the lock, too. Raises OSError if the file cannot be opened.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o644)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM) or not path.exists():
            raise
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # read access is enough to hold a lock
    mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        if wait:
            fcntl.flock(handle, mode)
            return handle
        for attempt in range(LOCK_TRIES):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(handle, mode | fcntl.LOCK_NB)
                return handle
            if not shared and attempt < LOCK_TRIES - 1:
                time.sleep(LOCK_PAUSE)
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for the lock file `path` and hold it while the block runs. Raises OSError if it cannot be opened."""
    handle = acquire_lock(path, wait=True)
    assert handle is not None
    try:
        yield
    finally:
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock file `path`. Raises OSError if it exists and cannot be opened."""
    if not path.exists():
        return False
    handle = acquire_lock(path, shared=True)
    if handle is None:
        return True
    os.close(handle)
    return False


def cache_folder(name: str) -> Path:
    """The folder `name` under $SIMCT_CACHE, or else under simct in $XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get("SIMCT_CACHE")
    base = Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "simct"
    return base / name
