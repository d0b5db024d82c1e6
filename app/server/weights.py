"""Both models' weights, loaded only when asked for. One pair is kept at a time; the next one takes its place."""

import gc
import os
from dataclasses import dataclass
from pathlib import Path

from app.page.markup import one_line
from app.server import model_facts as models
from app.server.settings import ZERO_GPU, Settings
from app.server.work import Stopped, Work
from simct.errors import ModelError, SimCTError

# In a public Space weights are read only if its owner says how much memory they may take, in GB.
ALLOWANCE = "SIMCT_WEIGHTS_GB"
PUBLIC = (
    f"This public studio loads no weights: its owner has not set {ALLOWANCE}. Duplicate the Space, or run the studio "
    "on a machine of yours."
)
FILES = ["model*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json"]


@dataclass(frozen=True, eq=False)
class Weights:
    """Both models in evaluation mode. `key` is who asked for which pair: access is not lent on."""

    key: tuple
    pair: object
    teacher: object
    student: object


_kept: Weights | None = None


def kept(teacher: str, student: str, token: str | bool | None) -> Weights | None:
    """The pair's weights, if they are the ones in memory."""
    return _kept if _kept is not None and _kept.key == (teacher, student, token) else None


def forget() -> None:
    """Free the weights in memory, before something else loads its own."""
    global _kept
    _kept = None
    gc.collect()


def size(settings: Settings, teacher: str, student: str, token: str | bool | None) -> int:
    """Bytes of both models' weights files; unknown ones count nothing. Raises a one-line SimCTError."""
    return sum(models.facts(settings, model, token).size or 0 for model in (teacher, student))


def allow(settings: Settings, teacher: str, student: str, token: str | bool | None) -> int:
    """The bytes of both models, if this studio may load them. Raises a one-line ModelError."""
    bytes_ = size(settings, teacher, student, token)
    if settings.public and not {teacher, student} <= models.EMBEDDED.keys():
        try:
            allowance = float(os.environ.get(ALLOWANCE) or 0)
        except ValueError:
            allowance = 0.0
        if not allowance:
            raise ModelError(PUBLIC)
        if not bytes_ or 2 * bytes_ > allowance * 1e9:
            told = models.human_size(bytes_) if bytes_ else "of unknown size"
            raise ModelError(
                f"Both models are {told}, which may take twice that in memory, and this studio allows "
                f"{allowance:g} GB. Choose a smaller pair."
            )
    return bytes_


def label(settings: Settings, teacher: str, student: str, token: str | bool | None, words: str) -> tuple[str, str]:
    """What the button says with the size it stands for, and why it cannot be pressed (or nothing)."""
    try:
        bytes_ = allow(settings, teacher, student, token)
    except SimCTError as error:
        return words, one_line(error)
    if kept(teacher, student, token):
        return f"{words} (loaded)", ""
    return f"{words}, {models.human_size(bytes_)}" if bytes_ else words, ""


def load(settings: Settings, teacher: str, student: str, token: str | bool | None, work: Work) -> Weights:
    """Load both, or take the ones in memory. Raises a one-line SimCTError; Stopped after a cancel."""
    global _kept
    from simct.losses.head import check_head

    found = kept(teacher, student, token)
    if found:
        return found
    bytes_ = allow(settings, teacher, student, token)
    forget()
    work.step("Reading both tokenizers…")
    pair = models.pair_of(settings, teacher, student, token)
    dtype = precision(bytes_, free_memory())
    loaded = {}
    for side, model in (("teacher", teacher), ("student", student)):
        loaded[side] = load_one(settings, model, side, dtype, token, work)
        check_head(loaded[side])
    _kept = Weights((teacher, student, token), pair, **loaded)
    return _kept


def load_one(settings: Settings, model: str, side: str, dtype: str, token: str | bool | None, work: Work):
    from simct.config.sections import ModelConfig
    from simct.models.loading import device_for_training, load_model

    facts = fetch(settings, model, side, token, work)
    work.step(f"Loading the {side} {facts.name}…")
    device = "cpu" if ZERO_GPU else device_for_training()
    return load_model(
        ModelConfig(model=models.location(model), revision=facts.revision, dtype=dtype), device, token
    ).eval()


def fetch(settings: Settings, model: str, side: str, token: str | bool | None, work: Work) -> models.Facts:
    """Bring the model's files to this machine, unless they are there."""
    facts = models.facts(settings, model, token)
    if facts.revision:
        work.step(f"Downloading the {side} {facts.name}…")
        work.form = models.human_size
        _download(facts, token, work)
    return facts


def _download(facts: models.Facts, token: str | bool | None, work: Work) -> None:
    """Fetch the weights into the Hub's own cache, counting bytes; nothing is fetched twice."""
    from huggingface_hub import snapshot_download
    from tqdm.auto import tqdm

    from simct.hub.errors import hub_error

    class Meter(tqdm):
        """Counts the bytes on disk for the page, prints nothing, and ends the download on a cancel."""

        def __init__(self, *args, **options):
            self.counts = str(options.get("desc", "")).startswith("Reconstructing")
            super().__init__(*args, **{**options, "disable": True})
            self.so_far = 0

        def update(self, n=1):
            if work.should_stop():
                raise Stopped("Canceled.")
            if self.counts:
                self.so_far += int(n or 0)
                work.progress(self.so_far, facts.size)
            return super().update(n)

    try:
        snapshot_download(
            facts.name, revision=facts.revision, token=token, allow_patterns=FILES, tqdm_class=Meter, max_workers=4
        )
    except Exception as error:
        raise hub_error(error, facts.name) from error


def precision(bytes_: int, room: int | None) -> str:
    """float32 where it fits in `room` bytes even if the files hold 16 bits, else bfloat16; or a ModelError."""
    if room is None or 2.2 * bytes_ < room:
        return "float32"
    if 1.1 * bytes_ < room:
        return "bfloat16"
    raise ModelError(
        f"Both models are {models.human_size(bytes_)}, and {models.human_size(room)} of memory is free here. Choose a "
        "smaller pair, or a larger machine."
    )


def free_memory() -> int | None:
    """Free bytes of the GPU, or of this machine where it tells."""
    import torch

    if torch.cuda.is_available() and not ZERO_GPU:
        return torch.cuda.mem_get_info()[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None
