"""Whether the packages that the settings need are installed, and whether trackers have the login that they need."""

import importlib.util
import netrc
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import get_token

from simct.config import RunConfig
from simct.config.tasks import named_tasks
from simct.config.teachers import named_teachers
from simct.evaluation.task_names import is_own_task
from simct.preflight.planned import PlannedRun
from simct.preflight.records import Check, ok, problem, warning

TRACKER = "training.tracker"
# Possible package names of a tracker, the same that Accelerate looks for.
MODULES = {"tensorboard": ("tensorboard", "tensorboardX")}
WANDB = "https://api.wandb.ai"


@dataclass(frozen=True)
class Needed:
    """A package that a setting needs. `name` is what pip installs, `module` is what is imported."""

    name: str
    module: str
    setting: str
    value: str


def needed_packages(config: RunConfig, gpus: int | None = None) -> list[Needed]:
    """The optional packages that the run's settings need."""
    training, tasks = config.training, named_tasks(config)
    deepspeed = (gpus or 1) > 1 and training.parallel.startswith("zero") and training.parallel
    maths = config.kind == "warmup" and config.warmup.checker == "maths"
    asked: list[tuple[str, str, str, object]] = [
        (training.tracker or "", training.tracker or "", TRACKER, training.tracker),
        *(
            ("bitsandbytes", "bitsandbytes", f"{where}.quantization", model.quantization)
            for where, model in named_teachers(config)
        ),
        ("bitsandbytes", "bitsandbytes", "student.quantization", config.student.quantization),
        ("bitsandbytes", "bitsandbytes", "training.optimizer", _from_bitsandbytes(training.optimizer)),
        ("vllm", "vllm", "rollout.engine", config.rollout.engine == "vllm" and not config.rollout.vllm_url and "vllm"),
        ("peft", "peft", "lora.rank", config.lora.rank),
        ("deepspeed", "deepspeed", "training.parallel", deepspeed),
        ("lm_eval", "lm_eval", "evaluation.tasks", ", ".join(task for task in tasks if not is_own_task(task))),
        ("math-verify", "math_verify", "warmup.checker", maths and "maths"),
    ]
    return [Needed(name, module, setting, str(value)) for name, module, setting, value in asked if value]


def _from_bitsandbytes(optimizer: str) -> str | None:
    return optimizer if optimizer.partition(".")[0] == "bitsandbytes" else None


def is_installed(module: str) -> bool:
    """Whether a package can be imported; it is not imported."""
    return any(importlib.util.find_spec(each) is not None for each in MODULES.get(module, (module,)))


def check_packages(planned: PlannedRun) -> list[Check]:
    """Check that the packages that the settings need are installed; a Job installs its own."""
    needed = needed_packages(planned.config, planned.place.gpus)
    if planned.place.on_jobs:
        names = ", ".join(dict.fromkeys(each.name for each in needed))
        return [ok(f"The Job installs {names}.")] if needed else []
    missing = [each for each in needed if not is_installed(each.module)]
    found = [
        problem(
            f"{each.setting} is {each.value!r}, and the package {each.name} is not installed.",
            f"Install it (pip install {each.name}), or change {each.setting}.",
            each.setting,
        )
        for each in missing
    ]
    there = ", ".join(dict.fromkeys(each.name for each in needed if each not in missing))
    return [*found, ok(f"Installed: {there}.")] if there else found


def check_tracker(planned: PlannedRun) -> list[Check]:
    """Check the login that a tracker needs, and whether its records outlive a Job."""
    tracker = planned.config.training.tracker
    if tracker == "wandb":
        return _check_wandb(planned)
    signed_in = bool(planned.token or (planned.token is None and get_token()))
    if tracker == "trackio" and os.environ.get("TRACKIO_SPACE_ID") and not planned.place.on_jobs and not signed_in:
        line = "TRACKIO_SPACE_ID names a Space, and you are not signed in to the Hub."
        return [problem(line, "Sign in with `hf auth login`, or unset TRACKIO_SPACE_ID.", TRACKER)]
    if tracker and planned.place.on_jobs:
        line = f"What {tracker} keeps is stored on the Job's disk and lost with it."
        return [warning(line, "metrics.jsonl of the run has the same numbers.", TRACKER)]
    return []


def _check_wandb(planned: PlannedRun) -> list[Check]:
    if planned.place.on_jobs:
        line = "A Job gets no wandb key, so the run would end when tracking starts."
        return [problem(line, "Choose tensorboard or no tracker.", TRACKER)]
    if os.environ.get("WANDB_MODE", "").lower() in ("offline", "disabled", "dryrun"):
        return []
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or WANDB).hostname or ""
    named = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")
    if any(map(os.environ.get, named)) or _netrc_has(host):
        return [ok("wandb has a key.")]
    line = "training.tracker is 'wandb', and this machine has no key for it."
    return [problem(line, "Run `wandb login`, or set WANDB_API_KEY, or WANDB_MODE=offline.", TRACKER)]


def _netrc_has(host: str) -> bool:
    file = os.environ.get("NETRC")
    for path in [Path(file)] if file else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            if path.is_file() and netrc.netrc(path).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False
