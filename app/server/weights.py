"""Models' weights, loaded only on request. One pair is kept at a time; the next one replaces it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from app.page.markup import one_line
from app.server import model_facts
from app.server.memory import LoadedPair
from app.server.studio import ZERO_GPU, Studio
from app.server.work import Stopped, Work
from simct.errors import ModelError, SimCTError
from simct.report.formats import human_size

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# In a public Space weights are loaded only if its owner sets how much memory they may use, in GB.
ALLOWANCE = "SIMCT_WEIGHTS_GB"
PUBLIC = (
    f"This public studio loads no weights: its owner has not set {ALLOWANCE}. Duplicate the Space, or run the studio "
    "on your own machine."
)

SERVED = (
    "A public studio does not measure a pair whose teacher is on a server. On your own machine, "
    "`simct inspect --weights 16 --teacher-server` does."
)


NO_WEIGHTS = "The teacher is on a server, so its weights are not here to be read at each position."
MEASURE = "Reliability measures this pair through the server."


def served_line(studio: Studio) -> str:
    """A line that says why the weights of a teacher on a server are not offered, and what you can do instead."""
    return f"{NO_WEIGHTS} {SERVED if studio.public else MEASURE}"


def size(studio: Studio, teacher: str, student: str, token: str | bool | None, served: bool = False) -> int:
    """Bytes of both models' weights files, or only the student's if the teacher is `served`. Unknown sizes count as 0.
    Raises a one-line SimCTError.
    """
    models = (student,) if served else (teacher, student)
    return sum(model_facts.facts(studio, model, token).size or 0 for model in models)


def allow(studio: Studio, teacher: str, student: str, token: str | bool | None, served: bool = False) -> int:
    """The bytes of `size`, if this studio may load them. Raises a one-line ModelError."""
    if served and studio.public:
        raise ModelError(SERVED)
    bytes_ = size(studio, teacher, student, token, served)
    if studio.public and not {teacher, student} <= model_facts.EMBEDDED.keys():
        try:
            allowance = float(os.environ.get(ALLOWANCE) or 0)
        except ValueError:
            allowance = 0.0
        if not allowance:
            raise ModelError(PUBLIC)
        if not bytes_ or 2 * bytes_ > allowance * 1e9:
            size_ = human_size(bytes_) if bytes_ else "of unknown size"
            raise ModelError(
                f"Both models are {size_}, which may take twice that in memory, and this studio allows "
                f"{allowance:g} GB. Choose a smaller pair."
            )
    return bytes_


def button(
    studio: Studio, teacher: str, student: str, token: str | bool | None, words: str, served: bool = False
) -> tuple[str, str]:
    """The label of the button with the size of the weights, and the reason if it is disabled."""
    try:
        bytes_ = allow(studio, teacher, student, token, served)
    except SimCTError as error:
        return words, one_line(error)
    if not served and studio.models.pair_of(teacher, student, token):
        return f"{words} (loaded)", ""
    return f"{words}, {human_size(bytes_)}" if bytes_ else words, ""


def load(studio: Studio, teacher: str, student: str, token: str | bool | None, work: Work) -> LoadedPair:
    """Load both models, or use those in memory. Raises a one-line SimCTError; Stopped after a cancel."""
    from simct.losses.head import check_head

    found = studio.models.pair_of(teacher, student, token)
    if found:
        return found
    bytes_ = allow(studio, teacher, student, token)
    studio.models.forget_pair()
    work.step("Reading both tokenizers…")
    pair = model_facts.pair_of(studio, teacher, student, token)
    dtype = precision(bytes_, free_memory())
    loaded = {}
    for side, model in (("teacher", teacher), ("student", student)):
        loaded[side] = load_one(studio, model, side, dtype, token, work)
        check_head(loaded[side])
    studio.models.pair = LoadedPair((teacher, student, token), pair, **loaded)
    return studio.models.pair


def load_one(
    studio: Studio, model: str, side: str, dtype: str, token: str | bool | None, work: Work
) -> "PreTrainedModel":
    """One model in evaluation mode, not kept. Raises a one-line SimCTError; Stopped after a cancel."""
    from simct.config.sections import ModelConfig
    from simct.models.loading import device_for_training, load_model

    facts = fetch(studio, model, side, token, work)
    work.step(f"Loading the {side} {facts.name}…")
    device = "cpu" if ZERO_GPU else device_for_training()
    described = ModelConfig(model=model_facts.location(model), revision=facts.revision, dtype=dtype)
    return load_model(described, device, token).eval()


def load_own(folder: Path, dtype: str, work: Work) -> "PreTrainedModel":
    """The student of a run, from the run's own folder. Raises a one-line SimCTError.

    It must be a whole model, because an adapter from a Job's repository could name someone else's folder as its base.
    """
    from simct.config.sections import ModelConfig
    from simct.hub.model_files import ADAPTER_CONFIG
    from simct.models.loading import device_for_training, load_model

    if (folder / ADAPTER_CONFIG).exists():
        raise ModelError("The run's student is an adapter, and a run saves whole models. Fetch it again.")
    work.step("Loading the student after…")
    device = "cpu" if ZERO_GPU else device_for_training()
    return load_model(ModelConfig(model=str(folder), dtype=dtype), device, False).eval()


def fetch(studio: Studio, model: str, side: str, token: str | bool | None, work: Work) -> model_facts.Facts:
    """Download the model's files, unless they are already here."""
    facts = model_facts.facts(studio, model, token)
    if facts.revision:
        work.step(f"Downloading the {side} {facts.name}…")
        work.form = human_size
        _download(facts, token, work)
    return facts


def _download(facts: model_facts.Facts, token: str | bool | None, work: Work) -> None:
    """Download the weights into the Hub's cache and count bytes for the page; a cancel ends the download."""
    from simct.hub.downloads import fetch_weights
    from simct.hub.errors import hub_error

    def count(so_far: int, total: int | None) -> None:
        if work.should_stop():
            raise Stopped("Canceled.")
        work.progress(so_far, facts.size)

    try:
        fetch_weights(facts.name, facts.revision, token, count)
    except Exception as error:
        raise hub_error(error, facts.name) from error


def precision(bytes_: int, room: int | None) -> str:
    """float32 if it fits in `room` bytes, even for files in 16 bits; else bfloat16. Raises ModelError if neither
    fits.
    """
    if room is None or 2.2 * bytes_ < room:
        return "float32"
    if 1.1 * bytes_ < room:
        return "bfloat16"
    raise ModelError(
        f"Both models are {human_size(bytes_)}, and {human_size(room)} of memory is free "
        "here. Choose a smaller pair, or a larger machine."
    )


def free_memory() -> int | None:
    """Free bytes of the GPU or, if known, of this machine."""
    import torch

    if torch.cuda.is_available() and not ZERO_GPU:
        return torch.cuda.mem_get_info()[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None
