"""Web servers in processes of their own."""

import os
import socket
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.waiting import until


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
        return True
    except OSError:
        return False


@contextmanager
def serving(
    command: list[str | Path],
    port: int,
    environment: dict[str, str] | None = None,
    folder: Path | None = None,
    path: str = "",
    seconds: float = 300,
) -> Iterator[tuple[str, subprocess.Popen]]:
    """Run `command`, a server at `port`, in `folder`; gives its address, once it answers at `path`, and the process.

    Fails with what the command printed if it ends before it answers, or does not answer within `seconds`.
    """
    url = f"http://127.0.0.1:{port}/"
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment or dict(os.environ), stdout=output, stderr=subprocess.STDOUT
        )

        def printed() -> str:
            output.seek(0)
            return f"Exit status {process.poll()}: {output.read()}"

        try:
            until(lambda: answers(url + path) or process.poll() is not None, seconds, 0.1, printed)
            assert process.poll() is None, printed()
            yield url, process
        finally:
            process.terminate()
            process.wait(timeout=20)
