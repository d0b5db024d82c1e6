"""A run on Hugging Face Jobs: the same run.yaml, trained by hf_job_runner on rented hardware.

A Job's disk is lost when it ends, so the run lives in a private repository, <namespace>/simct-run-<id>: what to train
goes up before the Job starts, and the Job pushes status, metrics, log and checkpoints as they are made. `refresh`
brings them home; a Job that timed out resumes from the last checkpoint pushed. Labels tell which Job belongs to which
run, so history can be rebuilt from the API alone. The token travels as a Job secret, everything else in the open.
"""

import io
import json
import re
import secrets
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

import simct
from simct.config import RunConfig, dump_config, local_path
from simct.errors import ConfigError, HubError, RunError
from simct.hub.errors_from_hub import hub_error, page_url
from simct.hub.search import hub_api
from simct.jobs.run_folder import ACTIVE_STATES, RunFolder, write_atomically

IMAGE = "python:3.12"
SOURCE_FILE = "simct-src.zip"
STOP_FILE = "stop"
# Between two pushes of a Job: the Hub allows some hundred commits an hour.
PUSH_SECONDS = 60.0
# What the runner pushes while it trains, and `refresh` brings home.
REPORT_FILES = ("status.json", "metrics.jsonl", "rollouts.jsonl", "evaluation.json", "inspect.json", "log.txt")
PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "huggingface_hub",
    "peft",
    "safetensors",
    "sentencepiece",
    "protobuf",
    "tiktoken",
    "jinja2",
    "numpy",
    "pyyaml",
)
# Run by the Job's own Python before anything is installed there: fixed text, told what to do by the environment.
BOOTSTRAP = """\
import os, subprocess, sys, tempfile, zipfile
pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
subprocess.check_call([*pip, *os.environ["SIMCT_PACKAGES"].split()])
from huggingface_hub import hf_hub_download
folder = tempfile.mkdtemp()
zipfile.ZipFile(hf_hub_download(os.environ["SIMCT_RUN_REPO"], "simct-src.zip")).extractall(folder)
os.environ["PYTHONPATH"] = folder
os.execv(sys.executable, [sys.executable, "-m", "simct.jobs.hf_job_runner"])
"""
# Job stages to states of a run, for a Job that ended without reporting by itself.
ENDED = {
    "CANCELED": ("stopped", "The Job was cancelled"),
    "DELETED": ("stopped", "The Job was deleted"),
    "COMPLETED": ("failed", "The Job ended without saying how"),
    "ERROR": ("failed", "The Job failed"),
}


@dataclass(frozen=True)
class Hardware:
    """A kind of machine Jobs run on. Memory in GB (of all its GPUs together), price in US dollars an hour."""

    name: str
    title: str
    gpu: str | None
    gpus: int
    gpu_memory: float
    memory: float
    price: float

    def cost(self, hours: float) -> float:
        return self.price * hours


def list_hardware(token: str | None = None, gpu_memory: float = 0.0) -> list[Hardware]:
    """Machines with at least `gpu_memory` GB on their GPUs, cheapest first. Raises a one-line HubError."""
    try:
        offered = hub_api(token).list_jobs_hardware()
    except Exception as error:
        raise hub_error(error, kind="job") from error
    machines = []
    for each in offered:
        gpu = each.accelerator
        machines.append(
            Hardware(
                name=str(each.name),
                title=each.pretty_name,
                gpu=gpu.model if gpu else None,
                gpus=int(gpu.quantity) if gpu else 0,
                gpu_memory=_gigabytes(gpu.vram) if gpu else 0.0,
                memory=_gigabytes(each.ram),
                price=each.unit_cost_usd * {"second": 3600, "minute": 60, "hour": 1}[each.unit_label],
            )
        )
    fitting = [machine for machine in machines if machine.gpu_memory >= gpu_memory]
    return sorted(fitting, key=lambda machine: machine.price)


def hours_for(machine: Hardware, spend_limit: float) -> float:
    """How long `spend_limit` US dollars last on `machine`: the timeout that keeps a Job within them."""
    if spend_limit <= 0:
        raise ConfigError(f"The spending limit is {spend_limit}; it must be more than 0 US dollars.")
    return spend_limit / machine.price


def launch(run: RunFolder, flavor: str, hours: float, token: str | None = None, namespace: str | None = None) -> str:
    """Start (or resume) `run` as a Job on `flavor` that ends after `hours` at the latest; returns the Job's id.

    `namespace` (a user or organisation that pays) defaults to the token's own. Raises a one-line HubError or RunError;
    launching again after one takes up what is already uploaded.
    """
    status = run.status()
    if status.get("job_id") and status.get("state") in ACTIVE_STATES:
        raise RunError(f"Run {run.id} is already on Jobs. Stop it first, or wait.")
    if not 0 < hours <= 24 * 14:
        raise ConfigError(f"hours is {hours}; it must be above 0 and at most {24 * 14}.")
    token = token or get_token()
    api = hub_api(token)
    repo_id, attempt = None, secrets.token_hex(8)
    try:
        namespace = namespace or api.whoami()["name"]
        repo_id = f"{namespace}/simct-run-{run.id}"
        api.create_repo(repo_id, private=True, exist_ok=True)
        if not api.repo_info(repo_id).private:
            raise HubError(f"{repo_id} exists and is public; a run's working files stay private. Delete or rename it.")
        _upload_inputs(api, run, repo_id)
        job = api.run_job(
            image=IMAGE,
            command=["python", "-c", BOOTSTRAP],
            env={
                "SIMCT_RUN_REPO": repo_id,
                "SIMCT_ATTEMPT": attempt,
                "SIMCT_PACKAGES": " ".join(_pinned_packages()),
                "SIMCT_PUSH_SECONDS": str(PUSH_SECONDS),
            },
            secrets={"HF_TOKEN": token},
            flavor=flavor,
            timeout=int(hours * 3600),
            labels={"app": "simct-studio", "simct-run": run.id, "method": run.config().method},
            namespace=namespace,
        )
    except Exception as error:
        raise hub_error(error, repo_id, kind="job", writing=True) from error
    run.set_status(
        state="queued",
        backend="hf",
        job_id=job.id,
        attempt=attempt,
        namespace=namespace,
        flavor=flavor,
        run_repo=repo_id,
        job_url=job.url,
        message=f"Waiting for {flavor}",
        error=None,
        pid=None,
    )
    return job.id


def refresh(run: RunFolder, token: str | None = None) -> dict:
    """Bring home what the Job has pushed and return the run's status. An unreachable Hub raises and changes nothing."""
    status = _remote_status(run)
    if status.get("state") not in ACTIVE_STATES:
        return status
    api = hub_api(token)
    try:
        job = api.inspect_job(job_id=status["job_id"], namespace=status["namespace"])
        reported = _bring_home(api, run, status)
    except Exception as error:
        raise hub_error(error, status.get("run_repo"), kind="job") from error
    stage = str(getattr(job.status.stage, "value", job.status.stage))
    if reported.get("attempt") != status["attempt"]:
        reported = {}  # what an earlier Job left
    if reported.get("state") not in (None, *ACTIVE_STATES):
        return run.set_status(**{key: reported.get(key) for key in ("state", "step", "message", "error")})
    if stage in ENDED:
        state, told = ENDED[stage]
        detail = f"{told}: {job.status.message}." if job.status.message else f"{told}."
        step = reported.get("step", status.get("step", 0))
        return run.set_status(state=state, step=step, message=told, error=detail if state == "failed" else None)
    if reported and status["state"] != "stopping":
        return run.set_status(**{key: reported[key] for key in ("state", "step", "message") if key in reported})
    return status


def bring_model_home(run: RunFolder, token: str | None = None) -> Path:
    """Download the finished student into the run's model/; returns the folder."""
    status = _remote_status(run)
    try:
        hub_api(token).snapshot_download(status["run_repo"], allow_patterns=["model/*"], local_dir=run.path)
    except Exception as error:
        raise hub_error(error, status.get("run_repo")) from error
    if not (run.model_dir / "config.json").exists():
        raise RunError(f"The Job of run {run.id} has pushed no model yet. Wait until it has finished.")
    return run.model_dir


def stop(run: RunFolder, token: str | None = None) -> None:
    """Ask the Job to write a checkpoint and end; it looks every few seconds."""
    status = _remote_status(run)
    try:
        hub_api(token).upload_file(
            path_or_fileobj=status["job_id"].encode(),
            path_in_repo=STOP_FILE,
            repo_id=status["run_repo"],
            commit_message="Stop the run",
        )
    except Exception as error:
        raise hub_error(error, status["run_repo"], writing=True) from error
    run.set_status(state="stopping", message="Asked to stop; a checkpoint is written first")


def cancel(run: RunFolder, token: str | None = None) -> None:
    """End the Job at once. What it pushed so far is kept and can be resumed."""
    status = _remote_status(run)
    try:
        hub_api(token).cancel_job(job_id=status["job_id"], namespace=status["namespace"])
    except Exception as error:
        raise hub_error(error, status["run_repo"], kind="job", writing=True) from error
    refresh(run, token)


def log_lines(run: RunFolder, token: str | None = None, follow: bool = False):
    """The Job's own output (installation and all), line by line; with `follow`, until it ends."""
    status = _remote_status(run)
    try:
        yield from hub_api(token).fetch_job_logs(job_id=status["job_id"], namespace=status["namespace"], follow=follow)
    except Exception as error:
        raise hub_error(error, kind="job") from error


def list_remote_runs(namespace: str, token: str | None = None) -> list[dict]:
    """Every Job of ours in `namespace`, newest first, from the API alone: run id, Job id, stage, hardware, times."""
    try:
        jobs = list(hub_api(token).list_jobs(namespace=namespace, labels={"app": "simct-studio"}))
    except Exception as error:
        raise hub_error(error, kind="job") from error
    return [
        {
            "run": (job.labels or {}).get("simct-run"),
            "method": (job.labels or {}).get("method"),
            "job_id": job.id,
            "stage": str(getattr(job.status.stage, "value", job.status.stage)),
            "flavor": str(job.flavor),
            "created_at": job.created_at.timestamp() if job.created_at else None,
            "url": job.url,
            "run_repo": f"{namespace}/simct-run-{(job.labels or {}).get('simct-run')}",
        }
        for job in jobs
    ]


def _remote_status(run: RunFolder) -> dict:
    status = run.status()
    if not status.get("job_id"):
        raise RunError(f"Run {run.id} has never been on Hugging Face Jobs.")
    return status


def _upload_inputs(api: HfApi, run: RunFolder, repo_id: str) -> None:
    """One commit with run.yaml, the local files it names and this package, without an earlier Job's stop request."""
    config, inputs = portable_config(run.config())
    operations: list = [
        CommitOperationAdd("run.yaml", dump_config(config).encode()),
        CommitOperationAdd(SOURCE_FILE, package_source()),
        *(CommitOperationAdd(name, path) for name, path in inputs.items()),
    ]
    if api.file_exists(repo_id, STOP_FILE):
        operations.append(CommitOperationDelete(STOP_FILE))
    api.create_commit(repo_id, operations, commit_message=f"Inputs of run {run.id}")


def portable_config(config: RunConfig) -> tuple[RunConfig, dict[str, Path]]:
    """The configuration with local models and files renamed to inputs/…, and those files by their new names."""
    inputs: dict[str, Path] = {}

    def carry(name: str, role: str) -> str:
        path = local_path(name)
        if path is None:
            return name
        target = f"inputs/{role}{path.suffix if path.is_file() else ''}"
        if path.is_file():
            inputs[target] = path
        else:
            inputs.update({f"{target}/{p.name}": p for p in path.iterdir() if p.is_file() and p.suffix != ".py"})
        return target

    config.output = None
    config.teacher.model = carry(config.teacher.model, "teacher")
    config.student.model = carry(config.student.model, "student")
    config.data.prompts = carry(config.data.prompts, "prompts")
    config.evaluation.tasks = [
        task if task == "demo" else carry(task, f"task-{index}") for index, task in enumerate(config.evaluation.tasks)
    ]
    return config, inputs


def package_source() -> bytes:
    """A zip of this package as it runs here, without the weights of the embedded models; equal sources, equal bytes."""
    root = Path(simct.__file__).parent
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*")):
            wanted = path.suffix in (".py", ".md", ".yaml", ".jsonl") and "__pycache__" not in path.parts
            if path.is_file() and wanted:
                entry = zipfile.ZipInfo(f"simct/{path.relative_to(root).as_posix()}")
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return file.getvalue()


def _pinned_packages() -> list[str]:
    """The versions that run here, for the Job to install; a local build tag such as +cpu is dropped."""
    pinned = []
    for name in PACKAGES:
        try:
            pinned.append(f"{name}=={metadata.version(name).split('+')[0]}")
        except metadata.PackageNotFoundError:
            continue
    return pinned


def _bring_home(api: HfApi, run: RunFolder, status: dict) -> dict:
    """Copy the pushed reports into the run folder; returns the remote status.json, or {} before there is one."""
    repo_id = status["run_repo"]
    reported: dict = {}
    try:
        held = set(api.list_repo_files(repo_id))
    except RepositoryNotFoundError as error:
        raise HubError(f"The run's repository {page_url(repo_id)} is gone; its checkpoints with it.") from error
    for name in REPORT_FILES:
        if name not in held:
            continue
        try:
            text = Path(api.hf_hub_download(repo_id, name)).read_text(encoding="utf-8", errors="replace")
        except EntryNotFoundError:
            continue
        if name == "status.json":
            reported = json.loads(text)
        else:
            write_atomically(run.path / name, text)
    return reported


def _gigabytes(text: str) -> float:
    found = re.match(r"([\d.]+)\s*(TB|GB|MB)?", text or "")
    return float(found[1]) * {"TB": 1000.0, "MB": 0.001}.get(found[2] or "GB", 1.0) if found else 0.0
