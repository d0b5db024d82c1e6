"""Whether the machine can run it: device, memory compared with the estimate, disk space, the address of vLLM."""

import shutil
from pathlib import Path

import httpx2
import psutil
import torch
from huggingface_hub import constants, try_to_load_from_cache

from simct.config import RunConfig
from simct.config.precision import trained_dtype
from simct.config.teachers import named_teachers
from simct.errors import SimCTError
from simct.estimate.memory import SIZES, Shape, estimate_memory
from simct.files import expanded
from simct.preflight.planned import STUDENT, NotRead, PlannedRun
from simct.preflight.records import Check, ok, problem, warning
from simct.preflight.weights import INDEX, SINGLE
from simct.report.formats import size

# Models with more parameters than this train too slowly on a CPU.
CPU_PARAMETERS = 300e6
# The estimate is accurate to a few percent; a run that exceeds the memory by more does not fit.
CERTAIN = 1.1
ANSWER_SECONDS = 3.0


def check_device(planned: PlannedRun) -> list[Check]:
    """Check the device that trains here, and settings that it does not support."""
    if planned.place.on_jobs:
        return []
    config, found = planned.config, []
    gpus = torch.cuda.device_count()
    for side, model in (*named_teachers(config), (STUDENT, config.student)):
        device = model.device
        number = (device or "").partition(":")[2]
        if device and device.startswith("cuda") and int(number if number.isdecimal() else 0) >= gpus:
            line = f"{side}.device is {device!r}, and this machine has {_count(gpus)}."
            found.append(problem(line, f"Change {side}.device.", planned.setting(side, "device")))
    wanted = planned.place.gpus
    if wanted and wanted > gpus > 0:
        found.append(problem(f"{wanted} GPUs are requested, and this machine has {gpus}.", "Lower --gpus."))
    if wanted and gpus and config.training.batch_size % wanted:
        line = f"training.batch_size is {config.training.batch_size}, which {wanted} GPUs cannot share evenly."
        found.append(problem(line, f"Make it a multiple of {wanted}.", "training.batch_size"))
    if gpus:
        return [*found, ok(f"Device: {torch.cuda.get_device_name()}.")]
    if config.training.mixed_precision == "fp16":
        line = "training.mixed_precision is 'fp16', which needs a GPU, but this machine has none."
        found.append(problem(line, "Set it to bf16 or no.", "training.mixed_precision"))
    try:
        here = [side for side in planned.sides if not planned.model(side).elsewhere]
        parameters = sum(shape.parameters for side in here if (shape := planned.shape(side)))
    except (SimCTError, NotRead):
        parameters = 0
    if parameters > CPU_PARAMETERS:
        line = f"This machine has no GPU, and {parameters / 1e9:.1f} billion parameters take very long on a CPU."
        return [*found, warning(line, "Use smaller models, or train on Hugging Face Jobs.")]
    return [*found, ok("Device: this machine's CPU.")]


def _count(gpus: int) -> str:
    return f"{gpus} GPU{'' if gpus == 1 else 's'}" if gpus else "no GPU"


def check_memory(planned: PlannedRun) -> list[Check]:
    """Compare the estimated peak with the memory of this machine's device. The machine of a Job is checked
    elsewhere.
    """
    config = planned.config
    if planned.place.on_jobs or config.kind == "warmup":
        return []
    try:
        prompt = max([length.tokens for length in planned.lengths() if length.fits], default=256)
    except (SimCTError, NotRead):
        prompt = 256
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    unknown = warning("The memory that this run needs could not be estimated.", "Try a few steps first.")
    if not all(map(planned.shape, planned.sides)):
        return [unknown]
    configs = tuple(map(planned.shape_config, planned.sides))
    gpus = planned.place.gpus or 1
    try:
        peak = estimate_memory(config, prompt, kind, gpus, planned.token, configs).peak
    except SimCTError:  # a model that cannot be estimated may still train
        return [unknown]
    free, total = torch.cuda.mem_get_info() if kind == "cuda" else _ram()
    device = "the GPU" if kind == "cuda" else "this machine"
    line = f"The run needs about {size(peak)} of memory; {device} has {size(total)}"
    lower = config.training.micro_batch_setting
    remedy = f"Lower {lower}, training.batch_size or rollout.max_new_tokens, or choose smaller models."
    split = gpus > 1 and (config.training.parallel != "ddp" or any(each.sharded for each in config.teacher_models))
    if peak > CERTAIN * total and not split:
        return [problem(f"{line}.", remedy, lower)]
    if peak > 0.97 * total:
        return [warning(f"{line}.", remedy, lower)]
    if peak > free:
        return [warning(f"{line}, of which {size(free)} are free now.", "Close other programs that use it.")]
    return [ok(f"{line}.")]


def _ram() -> tuple[int, int]:
    memory = psutil.virtual_memory()
    return memory.available, memory.total


def checkpoint_bytes(config: RunConfig, student: Shape) -> int:
    """Bytes of one checkpoint: trained weights, two states of the optimizer for each, and their running mean."""
    copies = 3 + bool(config.training.ema_decay)
    return student.trainable * SIZES[trained_dtype(config.student)] * copies


def disk_bytes(config: RunConfig, student: Shape) -> int:
    """The largest size of the run folder: the kept checkpoints, the best one, the one being written, and model/."""
    training = config.training
    written = 1 if training.epochs else training.steps // training.checkpoint_every
    kept = min(training.keep_checkpoints + 2, written + 1)
    return kept * checkpoint_bytes(config, student) + 2 * student.parameters * SIZES[trained_dtype(config.student)]


def check_disk(planned: PlannedRun) -> list[Check]:
    """Check the space for checkpoints and the student in the runs folder, and for downloads in the Hub's cache."""
    if planned.place.on_jobs:
        return []
    folder = _existing(expanded(planned.config.output or planned.place.runs_dir).absolute())
    cache = _existing(Path(constants.HF_HUB_CACHE).absolute())
    student, download = planned.shape("student"), _download_bytes(planned)
    run = disk_bytes(planned.config, student) if student else 0
    places = [(folder, run, "checkpoints and the student")]
    if download and folder.stat().st_dev == cache.stat().st_dev:
        places = [(folder, run + download, "checkpoints, the student and downloaded models")]
    elif download:
        places.append((cache, download, "downloaded models"))
    found = []
    for place, wanted, what in places:
        free = shutil.disk_usage(place).free
        line = f"{size(wanted)} for {what}; {size(free)} are free in {str(place)!r}."
        remedy = "Free some space, lower training.keep_checkpoints, or name another folder with --runs."
        if wanted > free:
            found.append(problem(f"The disk is too full: {line}", remedy, "training.keep_checkpoints"))
        elif wanted > 0.8 * free:
            found.append(warning(f"The disk is nearly full: {line}", remedy, "training.keep_checkpoints"))
        else:
            found.append(ok(f"Disk: {line}"))
    return found


def _existing(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if each.exists())


def _download_bytes(planned: PlannedRun) -> int:
    """The bytes of weights that still have to be downloaded."""
    total = 0
    for side in planned.sides:
        try:
            hit, model = planned.hit(side), planned.model(side)
        except (SimCTError, NotRead):
            continue
        if hit is None or not hit.size or model.elsewhere:
            continue
        files = (SINGLE, INDEX)
        cached = any(isinstance(try_to_load_from_cache(hit.id, name, revision=model.revision), str) for name in files)
        total += 0 if cached else hit.size
    return total


def check_server(planned: PlannedRun) -> list[Check]:
    """Check that a vLLM server answers at the address that the run names."""
    url = planned.config.rollout.vllm_url
    if not url or planned.place.on_jobs or planned.place.public:
        return []
    try:
        httpx2.get(f"{url.rstrip('/')}/health", timeout=ANSWER_SECONDS)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        line = f"The vLLM server at {url} does not answer ({type(error).__name__})."
        return [problem(line, "Start it, or correct rollout.vllm_url.", "rollout.vllm_url")]
    return [ok(f"The vLLM server at {url} answers.")]
