"""A Hub on the loopback interface, for the real huggingface_hub, transformers and datasets clients to speak to.

In a test:
    with HubServer() as hub:
        hub.add_model("acme/teacher", folder)
        subprocess.run([...], env=hub.env())            # a process of its own: HF_ENDPOINT and the rest are set
        hub.use(monkeypatch)                             # or this process, until the test ends
        assert "README.md" in hub.repos["tester/student"].files
From a shell:
    python -m tests.support.hub_server --port 8901 --add-model acme/teacher=FOLDER     # GET /_state returns its
    contents
"""

import argparse
import os
import re
import signal
import socket
import tempfile
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support import (
    hub_jobs,
    hub_writes,  # noqa: F401  (it adds its routes)
)
from tests.support.hub_repos import PREFIXES, Blob, Refused, Repo, User, folder_blobs, is_lfs
from tests.support.hub_routes import ROUTES, Answer, Request

TOKEN = "hf_loopbackwritetoken"
USER = "tester"


@dataclass
class Fault:
    """What to do to the next `times` requests that match, instead of or before answering them."""

    path: str
    method: str | None
    times: float
    status: int | None
    message: str
    headers: dict[str, str]
    delay: float
    cut_after: int | None
    cut_upload: int | None


class HubServer:
    """See the top of the file. `repos` is keyed as in Hub URLs: `me/model`, `datasets/me/data`, `spaces/me/demo`."""

    def __init__(self, port: int = 0, token: str = TOKEN, user: str = USER):
        self.repos: dict[str, Repo] = {}
        self.users: dict[str, User] = {token: User(user)}
        self.lfs: dict[str, Blob] = {}
        self.requests: list[Request] = []
        self.unknown: list[str] = []
        self.faults: list[Fault] = []
        self.storage_limit: int | None = None
        self.rate: int | None = None  # bytes a second of what is sent and received, None for no limit
        self.jobs: dict[str, hub_jobs.Job] = {}
        self.run_jobs = True
        self.lock = threading.RLock()
        self.token = token
        self._http = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"hub": self}))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._home = tempfile.TemporaryDirectory(prefix="hub-home-")

    def __enter__(self) -> "HubServer":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._http.shutdown()
        self._http.server_close()
        hub_jobs.close(self)
        self._home.cleanup()

    # What the Hub holds

    def add_user(self, name: str, token: str, role: str = "write", orgs: tuple[str, ...] = ()) -> User:
        self.users[token] = User(name, role, orgs)
        return self.users[token]

    def add_model(self, repo_id: str, folder: str | Path | None = None, **about) -> Repo:
        """A model repository with the files of `folder`, or with `files={path: bytes}`; `about` as in Repo."""
        return self._add("model", repo_id, folder, **about)

    def add_dataset(self, repo_id: str, folder: str | Path | None = None, **about) -> Repo:
        return self._add("dataset", repo_id, folder, **about)

    def _add(self, kind, repo_id, folder=None, files: dict[str, bytes] | None = None, **about) -> Repo:
        repo = Repo(kind, repo_id, **about)
        blobs = folder_blobs(folder) if folder else {}
        blobs |= {path: Blob(data, is_lfs(path, len(data))) for path, data in (files or {}).items()}
        if blobs:
            repo.add_files(blobs)
        with self.lock:
            self.repos[PREFIXES[kind] + repo_id] = repo
        return repo

    # How a client is pointed here

    def settings(self, token: str | None = TOKEN) -> dict[str, str]:
        """The variables that point a Hugging Face client here, with a cache of its own."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": self._home.name,
            "HF_TOKEN": token or "",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }

    def env(self, token: str | None = TOKEN, **more: str) -> dict[str, str]:
        """A whole environment for a subprocess: this one's, without its own Hugging Face settings."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
        return {**kept, **self.settings(token), "OMP_NUM_THREADS": "1", **more}

    def use(self, monkeypatch, token: str | None = TOKEN) -> None:
        """Point the Hugging Face clients of this very process here, until the test ends."""
        import huggingface_hub
        from huggingface_hub import constants

        for key, value in self.settings(token).items():
            monkeypatch.setenv(key, value)
        monkeypatch.setattr(constants, "ENDPOINT", self.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", self.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", os.path.join(self._home.name, "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", os.path.join(self._home.name, "token"))
        monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", os.path.join(self._home.name, "harnesses.json"))
        monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", self.url)
        import datasets
        from transformers.utils import hub as transformers_hub

        monkeypatch.setattr(transformers_hub, "_hf_api", None)  # it keeps a client of the Hub it first spoke to
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", self.url)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", os.path.join(self._home.name, "datasets"))

    def fail(self, path: str = "", status: int | None = None, *, method: str | None = None, times: float = 1,
             message: str = "Injected", headers: dict | None = None, delay: float = 0.0,
             cut_after: int | None = None, cut_upload: int | None = None) -> None:  # fmt: skip
        """Upset the next `times` requests whose path matches the pattern: answer `status`, wait `delay` seconds first,
        or close the connection after `cut_after` bytes of the answer or `cut_upload` bytes of what is sent here."""
        self.faults.append(Fault(path, method, times, status, message, headers or {}, delay, cut_after, cut_upload))

    def find_fault(self, request: Request) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                matches = fault.method in (None, request.method) and re.search(fault.path, request.path)
                if matches and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    # Answering

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        try:
            kind, _, given = request.headers.get("authorization", "").partition(" ")
            if kind == "Bearer":
                request.user = self.users.get(given.strip())
                if request.user is None or request.user.role == "none":
                    raise Refused(401, "Invalid credentials in Authorization header")
            for method, pattern, function in ROUTES:
                if method == request.method and (found := pattern.match(request.path)):
                    with self.lock:
                        return function(self, request, **{k: unquote(v or "") for k, v in found.groupdict().items()})
            self.unknown.append(f"{request.method} {request.path}")
            raise Refused(404, "Sorry, we can't find the page you are looking for.")
        except Refused as refusal:
            headers = {"X-Error-Message": refusal.message, "X-Request-Id": "loopback"}
            if refusal.code:
                headers["X-Error-Code"] = refusal.code
            return Answer.of({"error": refusal.message, **refusal.extra}, refusal.status, **headers)

    def repo(self, kind: str, repo_id: str, user: User | None, write: bool = False, content: bool = False) -> Repo:
        """The repository, if `user` may see it (`content`: its files; `write`: change it), or the Hub's refusal."""
        kind = kind.removesuffix("s") or "model"
        found = self.repos.get(PREFIXES[kind] + repo_id)
        if found is None or (found.private and not (user and user.may_read(found.namespace))):
            # Without a token the Hub does not distinguish an absent repository from a private one.
            raise Refused(
                404 if user else 401,
                "Repository not found" if user else "Invalid username or password.",
                "RepoNotFound",
            )
        if write and not (user and user.may_write(found.namespace)):
            raise Refused(403 if user else 401, "You don't have the rights to write to this repository")
        if content and found.gated and not (user and (user.may_read(found.namespace) or user.name in found.allowed)):
            page = f"{self.url}/{PREFIXES[kind]}{repo_id}"
            got = f"Access to {kind} {repo_id} is restricted and you are not in the authorized list."
            raise Refused(403 if user else 401, f"{got} Visit {page} to ask for access.", "GatedRepo")
        return found

    def state(self) -> dict:
        return {
            "repos": {
                key: {
                    "private": repo.private,
                    "files": {path: blob.size for path, blob in repo.head.files.items()},
                    "commits": [commit.title for commit in repo.commits.values()],
                }
                for key, repo in self.repos.items()
            },
            "jobs": [job.got() for job in self.jobs.values()],
            "unknown": self.unknown,
        }


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_: object) -> None:
        pass

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        length = int(self.headers.get("Content-Length") or 0)
        if self.hub.rate is None:
            return self.rfile.read(length)
        parts, left = [], length
        while left > 0 and (part := self.rfile.read(min(left, self.hub.rate // 10 if self.hub.rate else left))):
            parts.append(part)
            left -= len(part)
            time.sleep(0.1)
        return b"".join(parts)

    def _serve(self) -> None:
        url = urlsplit(self.path)
        headers = {key.lower(): value for key, value in self.headers.items()}
        query = parse_qs(url.query, keep_blank_values=True)
        request = Request(self.command, url.path, query, headers, b"")
        fault = self.hub.find_fault(request)
        if fault and fault.cut_upload is not None:
            self.rfile.read(fault.cut_upload)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        request.body = self._body()
        if fault and fault.delay:
            time.sleep(fault.delay)
        if fault and fault.status:
            self.hub.requests.append(request)
            headers = {"X-Error-Message": fault.message, **fault.headers}
            answer = Answer.of({"error": fault.message}, fault.status, **headers)
        else:
            answer = self.hub.answer(request)
        try:
            self._send(answer, fault)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _send(self, answer: Answer, fault: Fault | None) -> None:
        self.send_response(answer.status)
        for key, value in answer.headers.items():
            self.send_header(key, value)
        if answer.stream is not None:
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            for part in answer.stream():
                self.wfile.write(part)
                self.wfile.flush()
            return
        if "Content-Length" not in answer.headers:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            if fault and fault.cut_after is not None:
                self.wfile.write(answer.body[: fault.cut_after])
                self.wfile.flush()
                self.close_connection = True
                return
            self._send_body(answer.body)
        self.wfile.flush()

    def _send_body(self, body: bytes) -> None:
        if self.hub.rate is None:
            self.wfile.write(body)
            return
        step = self.hub.rate // 10
        for start in range(0, len(body), step):
            self.wfile.write(body[start : start + step])
            self.wfile.flush()
            time.sleep(0.1)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve a loopback Hub until interrupted.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token", default=TOKEN)
    parser.add_argument("--user", default=USER)
    parser.add_argument("--add-model", action="append", default=[], metavar="ID=FOLDER")
    parser.add_argument("--add-dataset", action="append", default=[], metavar="ID=FOLDER")
    parser.add_argument("--gated", action="append", default=[], metavar="ID", help="models to gate")
    arguments = parser.parse_args()
    with HubServer(arguments.port, arguments.token, arguments.user) as hub:
        for pair in arguments.add_model:
            repo_id, folder = pair.split("=", 1)
            hub.add_model(repo_id, folder, gated="manual" if repo_id in arguments.gated else False)
        for pair in arguments.add_dataset:
            repo_id, folder = pair.split("=", 1)
            hub.add_dataset(repo_id, folder)
        print(hub.url, flush=True)
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        signal.signal(signal.SIGINT, lambda *_: stop.set())
        stop.wait()


if __name__ == "__main__":
    main()
