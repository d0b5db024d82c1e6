"""Messages between a child and its parent: frames over a socket pair, with results as plain records.

A parent pickles its requests, because the child trusts it. The answers come from our own code, but from a process in
which a library has read an untrusted file. So only plain values, our own dataclasses and arrays are unpickled, and even
a compromised child cannot run code in its parent.
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
# seconds within which the other side must read a message; it does nothing else in the meantime
SEND_SECONDS = 60.0
# classes that arrays and counters consist of, allowed besides our dataclasses
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
    """The announced message is larger than the limit."""


def send(to: socket.socket, kind: bytes, content: bytes = b"") -> None:
    """Send one frame. Raises Gone."""
    try:
        to.settimeout(SEND_SECONDS)
        to.sendall(HEAD.pack(kind, len(content)) + content)
    except OSError as error:
        raise Gone from error


class Inbox:
    """Frames as they arrive; `most` is the largest accepted size, in bytes."""

    def __init__(self, connection: socket.socket, most: int | None = None) -> None:
        self.connection, self.most = connection, most
        self._waiting = bytearray()

    def next(self, seconds: float | None = None) -> tuple[bytes, bytes] | None:
        """The kind and the content of the next frame; None if it is not complete after `seconds`.

        Raises Gone; raises TooLarge before storing any of the message.
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
        # nothing is imported here
        if module in sys.modules:
            found = super().find_class(module, name)
            ours = module.partition(".")[0] in ("simct", "app") and isinstance(found, type) and is_dataclass(found)
            if ours or (module, name) in CONSTRUCTORS:
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is not a plain value")


def plain_value(content: bytes) -> Any:
    """Unpickle the value that a child sent.

    Raises pickle.UnpicklingError unless it is plain values, records, arrays.
    """
    return _PlainUnpickler(io.BytesIO(content)).load()
