"""Visitors' uploads: limits on their size, where they are kept, who owns them, and for how long.

A file arrives in Gradio's temporary folder. Files that a run may need are copied next to the runs: in public, into a
folder of the account or, for a visitor who has not signed in, into one whose name only their browser knows.
"""

import contextlib
import hashlib
import hmac
import os
import re
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from gradio.utils import get_upload_folder

from app.server.visitor import ACCOUNT, Visitor
from simct.data.formats import suffix_of
from simct.errors import DataError, RunError
from simct.files import write_atomically

# the most bytes of one file
MOST_BYTES = 200_000_000
# the most bytes per visitor and day, and of all visitors together on disk; those who have not signed in leave room for
# those who have, because one of them may come from many addresses
MOST_A_DAY, MOST_IN_ALL, MOST_UNSIGNED = 1_000_000_000, 20_000_000_000, 10_000_000_000
DAY = 24 * 3600.0
# seconds between two counts of what is on disk
MEASURED_SECONDS = 30.0
# how long a file is kept next to the runs, unless a run uses it
KEPT_SECONDS = 30 * DAY
UNSIGNED = re.compile(r"visitor-[0-9a-f]{32}")
BY_CONTENT = re.compile(r"[0-9a-f]{32}(\.[a-z0-9]+){0,2}")
MOST_KNOWN = 10_000
NO_ROOM = "This studio has no room for more uploads. Use a dataset on the Hub, or try again tomorrow."


@dataclass
class Uploads:
    """The uploads of a studio, in `folder`; `brought` is (time, bytes) by visitor, and `stored` the bytes on disk when
    they were last counted, plus what has been accepted since.

    `secret` makes names of folders that cannot be guessed without the same file.
    """

    folder: Path
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    brought: "OrderedDict[str, list[tuple[float, int]]]" = field(default_factory=OrderedDict)
    under_way: dict[str, int] = field(default_factory=dict)
    stored: int = 0
    measured: float = float("-inf")
    measuring: threading.Lock = field(default_factory=threading.Lock)

    def measure(self) -> None:
        """Count the bytes on disk, unless they were counted a moment ago. With many small files this takes seconds, so
        it must not be called on the thread that answers requests.
        """
        with self.measuring:
            if time.monotonic() - self.measured > MEASURED_SECONDS:
                self.stored = bytes_in(self.folder) + bytes_in(Path(get_upload_folder()))
                self.measured = time.monotonic()

    def has_room(self, length: int, signed_in: bool) -> bool:
        """Whether `length` more bytes may be stored, and then these bytes are counted."""
        fits = self.stored + length <= (MOST_IN_ALL if signed_in else MOST_UNSIGNED)
        self.stored += length if fits else 0
        return fits

    def refusal(self, who: str, length: int) -> str | None:
        """The reason why this visitor may not upload `length` bytes now; None if they may, and then these bytes are
        counted. `measure` comes first.
        """
        now = time.time()
        recent = [each for each in self.brought.get(who, []) if now - each[0] < DAY]
        if self.under_way.get(who, 0) >= 4:
            return "You are already uploading four files. Wait until one has finished."
        if sum(size for _, size in recent) + length > MOST_A_DAY:
            return (
                f"You have uploaded {MOST_A_DAY / 1e9:g} GB within a day, which is the limit. Use a dataset on the Hub."
            )
        if not self.has_room(length, who.startswith(ACCOUNT)):
            return NO_ROOM
        self.brought[who] = [*recent, (now, length)]
        self.brought.move_to_end(who)
        while len(self.brought) > MOST_KNOWN:
            self.brought.popitem(last=False)
        self.under_way[who] = self.under_way.get(who, 0) + 1
        return None

    def arrived(self, who: str) -> None:
        """Record that an upload has ended, complete or not."""
        left = self.under_way.get(who, 0) - 1
        self.under_way[who] = left
        if left <= 0:
            del self.under_way[who]

    def keep(self, path: str, visitor: Visitor, public: bool) -> str:
        """Copy an upload next to the runs, under a name that depends on its content; returns the path of the copy.

        Raises DataError for a path that is not an upload, RunError if the copy cannot be written.
        """
        uploaded = arrived_file(path)
        return self.keep_bytes(uploaded.read_bytes(), suffix_of(uploaded), visitor, public)

    def keep_bytes(self, data: bytes, suffix: str, visitor: Visitor, public: bool) -> str:
        """Save a visitor's data next to the runs, under a name that depends on its content; returns the path.

        Raises RunError if it cannot be written, and in public if there is no room left.
        """
        folder = self.folder
        if public:
            unsigned = hmac.new(self.secret, data, hashlib.sha256).hexdigest()[:32]
            folder = self.folder / (visitor.folder or f"visitor-{unsigned}")
            self.measure()
            if not self.has_room(len(data), visitor.owner is not None):
                raise RunError(NO_ROOM)
        return str(_kept(data, suffix, folder))

    def owns(self, path: Path, visitor: Visitor, public: bool) -> bool:
        """Whether `path`, resolved, is a file that this visitor uploaded."""
        root = self.folder.resolve()
        if not path.is_relative_to(root):
            return False
        parts = path.relative_to(root).parts
        if not public:
            return True
        if len(parts) == 1:
            # names from earlier versions, which depend only on the content
            return bool(BY_CONTENT.fullmatch(parts[0]))
        return len(parts) == 2 and (parts[0] == visitor.folder or bool(UNSIGNED.fullmatch(parts[0])))

    def of_account(self, path: Path, visitor: Visitor) -> Path:
        """The account's own copy of a file that the visitor uploaded before they signed in. Raises RunError."""
        if visitor.folder is None or path.parent.name == visitor.folder:
            return path
        return _kept(path.read_bytes(), suffix_of(path), self.folder / visitor.folder)

    def forget_old(self, runs_dir: Path) -> None:
        """Remove old uploads that no run uses."""
        old = [path for path in self.folder.rglob("*") if path.is_file() and _age(path) > KEPT_SECONDS]
        if not old:
            return
        named = "".join(_text(path) for path in runs_dir.glob("*/run.yaml"))
        for path in old:
            if path.name not in named:
                with contextlib.suppress(OSError):
                    path.unlink()
                    path.parent.rmdir()  # only if it is empty


def arrived_file(path: str | None) -> Path:
    """An uploaded file in Gradio's temporary folder. Raises DataError for any other path."""
    try:
        uploaded = Path(path or "").resolve()
        if path and uploaded.is_file() and uploaded.is_relative_to(Path(get_upload_folder()).resolve()):
            return uploaded
    except (OSError, ValueError):
        pass
    raise DataError("The upload did not arrive. Choose the file again.")


def bytes_in(folder: Path) -> int:
    """Bytes of the files below `folder`; files that are removed in the meantime do not count."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def _kept(data: bytes, suffix: str, folder: Path) -> Path:
    kept = folder / f"{hashlib.sha256(data).hexdigest()[:32]}{suffix}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            os.utime(kept)  # it is kept for as long again, also if it was uploaded long ago
        except FileNotFoundError:
            write_atomically(kept, data)
    except OSError as error:
        raise RunError(f"Cannot keep the upload in {str(folder)!r}: {error.strerror}.") from error
    return kept


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
