"""The inputs of a Job: the run's configuration, the local files it names, this package's source, and the packages."""

import io
import os
import re
import zipfile
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

import simct
from simct.config import RunConfig, local_path
from simct.config.tasks import named_tasks, rename_tasks
from simct.config.teachers import named_teachers, numbered_teachers
from simct.data.formats import suffix_of
from simct.errors import ConfigError
from simct.evaluation.task_names import OWN_NAMES, check_task_names, is_own_task, is_task_name
from simct.hub.redact import KEY_VARIABLE
from simct.hub.repo_ids import is_repository, is_revision
from simct.models.server_address import on_space
from simct.models.server_keys import key_of

PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "huggingface_hub",
    "peft",
    "safetensors",
    "tokenizers",
    "sentencepiece",
    "protobuf",
    "tiktoken",
    "jinja2",
    "numpy",
    "pyyaml",
    "pydantic",
    "psutil",
    "pillow",
    "tqdm",
    "httpx2",
    "charset-normalizer",
    "pyarrow",
    "markupsafe",
)

# the names that files of this machine get in a Job; no other file of the Job can have them
INPUT = re.compile(r"inputs/((teacher|scores)(-\d{1,2})?|student|prompts|held-out|task-\d{1,4})(\.[a-z0-9]{1,8}){0,2}")


def portable_config(config: RunConfig) -> tuple[RunConfig, dict[str, Path]]:
    """The configuration with local models and files renamed to inputs/…, and the path of each by its new name.

    Raises ConfigError for a task file that holds code: a Job runs no code of a task.
    """
    check_task_names(config.evaluation.tasks, "on Hugging Face Jobs")
    for where, model in named_teachers(config):
        host = urlsplit(model.server or "").hostname or ""
        if host == "localhost" or host.startswith("127.") or host == "::1":
            raise ConfigError(
                f"{where}.server is {model.server!r}, on this machine, which a Job cannot reach. Give an address that "
                "is open to it."
            )
    inputs: dict[str, Path] = {}

    def carry(name: str, role: str) -> str:
        path = local_path(name)
        if path is None:
            return name
        target = f"inputs/{role}{suffix_of(path) if path.is_file() else ''}"
        if path.is_file():
            inputs[target] = path
        else:
            # prompts may be in a folder per split; of a model, only the files next to its config.json are needed
            files = path.rglob("*") if role in ("prompts", "held-out") else path.iterdir()
            wanted = [file for file in files if file.is_file() and file.suffix != ".py"]
            inputs.update({f"{target}/{file.relative_to(path).as_posix()}": file for file in wanted})
        return target

    config.output = None
    for number, model in numbered_teachers(config):
        model.model = carry(model.model, f"teacher{number}")
        if model.scores:
            model.scores = carry(model.scores, f"scores{number}")
    config.student.model = carry(config.student.model, "student")
    config.data.prompts = carry(config.data.prompts, "prompts")
    if config.data.held_out_prompts:
        config.data.held_out_prompts = carry(config.data.held_out_prompts, "held-out")
    places = {task: index for index, task in enumerate(named_tasks(config))}

    def carried(task: str) -> str:
        return carry(task, f"task-{places[task]}") if task not in OWN_NAMES and is_own_task(task) else task

    rename_tasks(config, carried)
    return config, inputs


def teacher_key(config: RunConfig, owner: str | None = None) -> dict[str, str]:
    """The secret with the key of the teacher's server: the one that the run's owner gave, or that of this machine; a
    Space never gives its own.
    """
    if not any(model.server for model in config.teacher_models):
        return {}
    own = None if on_space() else os.environ.get(KEY_VARIABLE)
    key = key_of(owner, config.teacher.server) or own
    return {KEY_VARIABLE: key} if key else {}


def as_data(config: RunConfig) -> RunConfig:
    """A configuration from a Job's repository, which anyone may have written, without the paths in it.

    Names of Hub repositories and tasks stay, and so do paths under inputs/, which are in the run's own folder. Anything
    else could name a file of the reader, and is replaced by an input that the run does not have.
    """
    config.output = None
    named = [(f"teacher{number}", f"scores{number}", model) for number, model in numbered_teachers(config)]
    for role, scores, model in (*named, ("student", "scores", config.student)):
        model.model = _named(model.model) or f"inputs/{role}"
        model.revision = model.revision if model.revision and is_revision(model.revision) else None
        if model.scores:
            model.scores = model.scores if INPUT.fullmatch(model.scores) else f"inputs/{scores}"
    data = config.data
    data.prompts = _named(data.prompts) or "inputs/prompts"
    data.revision = data.revision if data.revision and is_revision(data.revision) else None
    if data.held_out_prompts:
        data.held_out_prompts = _named(data.held_out_prompts) or "inputs/held-out"
    evaluation = config.evaluation
    known = {task for task in named_tasks(config) if INPUT.fullmatch(task) or is_task_name(task)}
    evaluation.tasks = [task for task in evaluation.tasks if task in known]
    evaluation.tracked_tasks = [task for task in evaluation.tracked_tasks if task in known]
    if evaluation.best_by not in known and not is_task_name(evaluation.best_by):
        evaluation.best_by = RunConfig().evaluation.best_by
    return config


def _named(name: str) -> str | None:
    ours = name.startswith("inputs/")
    return name if (INPUT.fullmatch(name) if ours else is_repository(name)) else None


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


def pinned_packages(config: RunConfig) -> list[str]:
    """What the Job installs: the versions that run here (without a local build tag such as +cpu), and what the run's
    own settings need, in the newest version if it is not installed here.
    """
    maths = config.kind == "warmup" and config.warmup.checker == "maths"
    extra = {
        "lm_eval[math]": maths or not all(map(is_own_task, named_tasks(config))),
        "bitsandbytes": any(model.quantization for model in config.models)
        or "bitsandbytes" in config.training.optimizer,
        "deepspeed": config.training.parallel.startswith("zero"),
        "vllm": config.rollout.engine == "vllm" and not config.rollout.vllm_url,
        config.training.tracker or "": config.training.tracker is not None,
    }
    pinned = []
    for name in (*PACKAGES, *(name for name, wanted in extra.items() if wanted)):
        try:
            pinned.append(f"{name}=={metadata.version(name.split('[')[0]).split('+')[0]}")
        except metadata.PackageNotFoundError:
            pinned += [name] if extra.get(name) else []
    return pinned
