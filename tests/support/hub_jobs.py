"""The Jobs side of the loopback Hub. A job really runs, as a process of this machine with only what it was given:
its command, environment and secrets; so what works here depends on nothing of the caller's."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tests.support.hub_repos import Refused
from tests.support.hub_routes import Answer, Request, route

if TYPE_CHECKING:
    from tests.support.hub_server import HubServer

NAMESPACE = r"(?P<namespace>[\w.-]+)"
JOB = rf"/api/jobs/{NAMESPACE}/(?P<job_id>[0-9a-f]{{24}})"
HARDWARE = [
    ("cpu-basic", "CPU Basic", "2 vCPU", "16 GB", None, 167),
    ("t4-small", "Nvidia T4 - small", "4 vCPU", "15 GB", ("T4", "1", "16 GB"), 6667),
    ("a10g-large", "Nvidia A10G - large", "12 vCPU", "46 GB", ("A10G", "1", "24 GB"), 25000),
    ("a100x4", "4x Nvidia A100", "48 vCPU", "568 GB", ("A100", "4", "320 GB"), 166667),
    ("h200", "Nvidia H200", "23 vCPU", "256 GB", ("H200", "1", "141 GB"), 83333),
]
TERMINAL = ("COMPLETED", "CANCELED", "ERROR")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Job:
    """One job: what was asked, the process that runs it, and the lines it printed, each with its time."""

    id: str
    namespace: str
    spec: dict
    stage: str = "SCHEDULING"
    message: str | None = None
    created: str = field(default_factory=now)
    lines: list[tuple[str, str]] = field(default_factory=list)
    process: subprocess.Popen | None = None
    folder: tempfile.TemporaryDirectory | None = None

    def got(self) -> dict:
        """What the API says; of the secrets, only their names."""
        got = {key: self.spec.get(key) for key in ("command", "arguments", "environment", "flavor", "labels")}
        return got | {
            "id": self.id,
            "createdAt": self.created,
            "dockerImage": self.spec.get("dockerImage"),
            "secrets": sorted(self.spec.get("secrets") or {}),
            "timeout": self.spec.get("timeoutSeconds", 1800),
            "status": {"stage": self.stage, "message": self.message},
            "owner": {"id": "0" * 24, "name": self.namespace, "type": "user"},
        }

    def start(self, hub: "HubServer") -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="job-")
        environment = {"PATH": f"{os.path.dirname(sys.executable)}:{os.environ.get('PATH', '')}", "LANG": "C.UTF-8"}
        environment |= {"HOME": self.folder.name, "TMPDIR": self.folder.name, "OMP_NUM_THREADS": "1"}
        environment |= {**hub.settings(token=None), "HF_HOME": self.folder.name + "/hf"}
        del environment["HF_TOKEN"]
        environment |= {**(self.spec.get("environment") or {}), **(self.spec.get("secrets") or {})}
        self.process = subprocess.Popen(
            [*self.spec["command"], *(self.spec.get("arguments") or [])],
            cwd=self.folder.name,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.stage = "RUNNING"
        threading.Thread(target=self._follow, daemon=True).start()
        timer = threading.Timer(self.spec.get("timeoutSeconds", 1800), self.end, ("ERROR", "Job timeout"))
        timer.daemon = True
        timer.start()

    def _follow(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append((now(), line.rstrip("\n")))
        code = self.process.wait()
        if self.stage == "RUNNING":
            self.stage = "ERROR" if code else "COMPLETED"
            self.message = f"Job failed with exit code: {code}" if code else None

    def end(self, stage: str, message: str | None = None) -> None:
        """Kill the process group, as a canceled or timed-out container ends: nothing of it can react."""
        if self.stage in TERMINAL:
            return
        self.stage, self.message = stage, message
        if self.process is not None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                return


def close(hub: "HubServer") -> None:
    """End every job's process and remove its disk."""
    for job in hub.jobs.values():
        job.end("CANCELED")
        if job.process is not None:
            job.process.wait(10)
        if job.folder is not None:
            job.folder.cleanup()


def _owned(hub: "HubServer", request: Request, namespace: str) -> None:
    if request.user is None:
        raise Refused(401, "Invalid username or password.")
    if not request.user.may_write(namespace):
        raise Refused(403, f"You don't have permission to use Jobs under the namespace {namespace}")


def _job(hub: "HubServer", request: Request, namespace: str, job_id: str) -> Job:
    _owned(hub, request, namespace)
    job = hub.jobs.get(job_id)
    if job is None or job.namespace != namespace:
        raise Refused(404, "Job not found")
    return job


@route("GET", "/api/jobs/hardware")
def _hardware(hub: "HubServer", request: Request) -> Answer:
    got = []
    for name, pretty, cpu, ram, gpu, micro_usd in HARDWARE:
        accelerator = gpu and {
            "type": "gpu",
            "model": gpu[0],
            "quantity": gpu[1],
            "vram": gpu[2],
            "manufacturer": "Nvidia",
        }
        cost = {"unitCostMicroUSD": micro_usd, "unitCostUSD": micro_usd / 1e6, "unitLabel": "minute"}
        got.append({"name": name, "prettyName": pretty, "cpu": cpu, "ram": ram, "accelerator": accelerator, **cost})
    return Answer.of(got)


@route("POST", rf"/api/jobs/{NAMESPACE}")
def _run(hub: "HubServer", request: Request, namespace: str) -> Answer:
    _owned(hub, request, namespace)
    spec = request.json()
    if spec.get("flavor") not in [each[0] for each in HARDWARE]:
        raise Refused(400, f"Unknown flavor {spec.get('flavor')}")
    for key, value in (spec.get("labels") or {}).items():
        if not all(character.isalnum() or character in "-_." for character in key + value) or len(value) > 100:
            raise Refused(400, f"Invalid label {key}")
    job = Job(uuid.uuid4().hex[:24], namespace, spec)
    hub.jobs[job.id] = job
    if hub.run_jobs:
        job.start(hub)
    return Answer.of(job.got())


@route("GET", rf"/api/jobs/{NAMESPACE}")
def _list(hub: "HubServer", request: Request, namespace: str) -> Answer:
    _owned(hub, request, namespace)
    wanted = [label.split("=", 1) for label in request.values("label")]
    stages = request.values("stage")
    found = [
        job.got()
        for job in reversed(hub.jobs.values())
        if job.namespace == namespace
        and all((job.spec.get("labels") or {}).get(key) == value for key, value in wanted)
        and (not stages or job.stage in stages)
    ]
    return Answer.of(found)


@route("GET", JOB)
def _inspect(hub: "HubServer", request: Request, namespace: str, job_id: str) -> Answer:
    return Answer.of(_job(hub, request, namespace, job_id).got())


@route("POST", JOB + "/cancel")
def _cancel(hub: "HubServer", request: Request, namespace: str, job_id: str) -> Answer:
    job = _job(hub, request, namespace, job_id)
    if job.stage in TERMINAL:
        raise Refused(409, "Job is not running")
    job.end("CANCELED")
    return Answer.of({})


@route("GET", JOB + "/logs")
def _logs(hub: "HubServer", request: Request, namespace: str, job_id: str) -> Answer:
    job = _job(hub, request, namespace, job_id)
    tail = int(request.query.get("tail", ["0"])[0])

    def stream():
        sent = max(0, len(job.lines) - tail) if tail else 0
        while True:
            ended = job.stage in TERMINAL
            for at, line in job.lines[sent:]:
                sent += 1
                yield b"data: " + json.dumps({"timestamp": at, "data": line}).encode() + b"\n\n"
            if ended and sent == len(job.lines):
                return
            yield b": keep-alive\n\n"
            time.sleep(0.1)

    return Answer(200, headers={"Content-Type": "text/event-stream"}, stream=stream)
