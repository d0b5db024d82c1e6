"""What a child and its parent say to each other: frames over a socket pair, with results as plain records.

A parent pickles what it asks for, since it trusts itself. What comes back was made by our own code, but beside a
library that was fed with a stranger's file: it is unpickled with nothing but plain values, our own dataclasses and
arrays, so that not even a child that was taken over can run code in its parent.
"""

import io
import pickle
import socket
import struct
import sys
from dataclasses import is_dataclass
from typing import Any

HELLO, ASK, RESULT, ERROR, STEP, PROGRESS, STOP = b"h", b"a", b"r", b"e", b"s", b"p", b"x"
HEAD = struct.Struct("!cQ")
CHUNK = 1 << 20
# how long the other side may take to read a message: it does nothing else
SEND_SECONDS = 60.0
# besides our dataclasses: what arrays and counters are made of
CONSTRUCTORS = {
    ("collections", "Counter"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.numeric", "_frombuffer"),
}


class Gone(Exception):
    """The other process has ended."""


class TooLarge(Exception):
    """A message is announced that is larger than what is accepted."""


def send(to: socket.socket, kind: bytes, content: bytes = b"") -> None:
    """Send one frame. Raises Gone."""
    try:
        to.settimeout(SEND_SECONDS)
        to.sendall(HEAD.pack(kind, len(content)) + content)
    except OSError as error:
        raise Gone from error


class Inbox:
    """Frames as they arrive; `most` is the largest that is accepted, in bytes."""

    def __init__(self, connection: socket.socket, most: int | None = None) -> None:
        self.connection, self.most = connection, most
        self._waiting = bytearray()

    def next(self, seconds: float | None = None) -> tuple[bytes, bytes] | None:
        """The kind and the content of the next frame; None if it is not whole after `seconds`.

        Raises Gone, and TooLarge before anything of such a message is kept.
        """
        self.connection.settimeout(seconds)
        while (frame := self._whole()) is None:
            try:
                more = self.connection.recv(CHUNK)
            except (TimeoutError, BlockingIOError):
                return None
            except OSError as error:
                raise Gone from error
            if not more:
                raise Gone
            self._waiting += more
        return frame

    def _whole(self) -> tuple[bytes, bytes] | None:
        if len(self._waiting) < HEAD.size:
            return None
        kind, size = HEAD.unpack_from(self._waiting)
        if self.most is not None and size > self.most:
            raise TooLarge
        end = HEAD.size + size
        if len(self._waiting) < end:
            return None
        content = bytes(self._waiting[HEAD.size : end])
        del self._waiting[:end]
        return kind, content


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # what is not imported yet is not imported now
        if module in sys.modules:
            found = super().find_class(module, name)
            ours = module.partition(".")[0] in ("simct", "app") and isinstance(found, type) and is_dataclass(found)
            if ours or (module, name) in CONSTRUCTORS:
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is no plain value")


def plain_value(content: bytes) -> Any:
    """The value that a child sent. Raises pickle.UnpicklingError for anything but plain values, records and arrays."""
    return _PlainUnpickler(io.BytesIO(content)).load()
