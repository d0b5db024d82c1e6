"""The process that children are forked from: it has imported their libraries, holds no secret, and reads no file.

Importing tokenizers, transformers and pyarrow takes seconds; a fork takes milliseconds and shares their memory.
"""

import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import cache

from simct.workers.child import serve

# the environment variables that a child gets: locations and settings, no secrets
ENVIRONMENT = (
    "PATH", "HOME", "USER", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "SIMCT_CACHE",
    "XDG_CACHE_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTP_PROXY",
    "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy", "HF_HOME",
    "HF_HUB_CACHE", "HF_ENDPOINT", "HF_DATASETS_CACHE", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_XET",
    "CUDA_VISIBLE_DEVICES", "HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT", "HUGGINGFACE_HUB_CACHE",
)  # fmt: skip
# there are many children, so each computes on one thread
ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1"),
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
}
# a vocabulary has a hundred thousand long-lived objects, which the garbage collector need not visit
COLLECT_AFTER = (100_000, 20, 50)
START = (
    "import json, sys; start = json.loads(sys.argv[1]); sys.path[:] = start['path']; "
    "from simct.workers.nursery import tend; tend(start['control'], start['preload'])"
)


class Nursery:
    """The parent's side: starts the process when the first child is needed, and again if it has ended."""

    def __init__(self, preload: Sequence[str]) -> None:
        self.preload = list(preload)
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the process and its imports, if they have not started."""
        with self._lock:
            self._running()

    def fork(self) -> socket.socket:
        """The connection to a new child, which sends a greeting when it is ready."""
        ours, theirs = socket.socketpair()
        with self._lock, theirs:
            try:
                socket.send_fds(self._running(), [b"f"], [theirs.fileno()])
            except OSError:
                # it has ended, perhaps for lack of memory
                self._stop()
                socket.send_fds(self._running(), [b"f"], [theirs.fileno()])
        return ours

    def _running(self) -> socket.socket:
        if self._process is not None and self._process.poll() is not None:
            self._stop()
        if self._control is None:
            self._control, theirs = socket.socketpair()
            start = {
                "path": [os.path.abspath(path) for path in sys.path],
                "preload": self.preload,
                "control": theirs.fileno(),
            }
            known = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", START, json.dumps(start)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env={**known, **ONE_THREAD},
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
        return self._control

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._control = self._process = None


@cache
def nursery_with(preload: tuple[str, ...]) -> Nursery:
    """This process's nursery with these modules. It keeps nothing of its children's work."""
    return Nursery(preload)


def tend(control_fd: int, preload: Sequence[str]) -> None:
    """Fork a child for every connection that arrives. When the parent ends, all forked processes end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended children are reaped at once
    control = socket.socket(fileno=control_fd)
    for name in preload:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # memory pages stay shared as long as the collector does not write to them
    gc.set_threshold(*COLLECT_AFTER)
    while True:
        asked, lines, _, _ = socket.recv_fds(control, 1, 1)
        if not asked:
            os.killpg(0, signal.SIGKILL)
        if os.fork() == 0:
            try:
                control.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                serve(socket.socket(fileno=lines[0]))
            finally:
                os._exit(0)
        os.close(lines[0])
