"""What Compare asks of models: answers as they are written. A few models are kept, the one unused longest goes."""

import gc
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from app.data import source as data_source
from app.server import model_facts as models
from app.server import weights
from app.server.settings import Settings
from app.server.work import Work
from simct import demo
from simct.config import RunConfig
from simct.config.sections import DataConfig
from simct.errors import SimCTError
from simct.runs.folder import RunFolder

MOST = 3
OFFERED = 40
MOST_TOKENS = 2048
SIDES = {"before": "Student before", "after": "Student after", "teacher": "Teacher"}

_kept: OrderedDict[tuple, object] = OrderedDict()


@dataclass
class Answer:
    """What one model has written so far: `ids` of its own tokenizer, `units` once the teacher has read it."""

    ids: list[int] = field(default_factory=list)
    text: str = ""
    ended: bool = False
    seconds: float = 0.0
    state: str = "waiting"
    units: list[dict] | None = None


def name_of(side: str, run: RunFolder, config: RunConfig) -> str:
    """The model of a side as the fields of the pair name it: pinned, or the run's own folder."""
    if side == "after":
        return str(run.model_dir)
    model = config.teacher if side == "teacher" else config.student
    return models.joined(model.model, model.revision)


def sides_of(settings: Settings, run: RunFolder, config: RunConfig, token: str | bool | None) -> list[tuple[str, str]]:
    """(what its box says, side) for every model of the run that can be asked; sizes where weights would be fetched."""
    offered, status = [], run.status()
    for side, words in SIDES.items():
        if side == "after":
            if not (run.model_dir / "config.json").is_file():
                continue
            if status.model_step not in (None, status.step):
                # a run that went on and was ended at once has the model of its last ordinary stop
                words = f"{words} {status.model_step:,} steps"
        model = name_of(side, run, config)
        if models.is_folder(model):
            offered.append((words, side))
        else:
            size = models.facts(settings, model, token).size
            offered.append((f"{words}, {models.human_size(size)} from the Hub" if size else f"{words}, Hub", side))
    return offered


def load(settings: Settings, side: str, run: RunFolder, config: RunConfig, token: str | bool | None, work: Work):
    """The model of a side in evaluation mode. Raises a one-line SimCTError; Stopped after a cancel."""
    model = name_of(side, run, config)
    dtype = (config.teacher if side == "teacher" else config.student).dtype
    changed = (run.model_dir / "config.json").stat().st_mtime_ns if side == "after" else None
    key = (model, dtype, changed, token)
    if key in _kept:
        _kept.move_to_end(key)
        return _kept[key]
    if not models.is_folder(model) and (size := models.facts(settings, model, token).size):
        # told before gigabytes are fetched for a machine that cannot hold them
        weights.precision(size, weights.free_memory())
    while len(_kept) >= MOST:
        _kept.popitem(last=False)
    weights.forget()
    gc.collect()
    loaded = weights.load_one(settings, model, SIDES[side].lower(), dtype, token, work)
    _kept[key] = loaded
    return loaded


def prompts_of(settings: Settings, run, token: str | bool | None) -> list:
    """Prompts of the run to try: those it is scored on where they come with it, then those it trains on."""
    config, found = run.config(), []
    if "demo" in config.evaluation.tasks:
        found = data_source.read(settings, DataConfig(prompts=str(demo.EVAL)), token).prompts[:OFFERED]
    try:
        return found + data_source.read(settings, config.data, token).prompts[: OFFERED - len(found) // 2]
    except SimCTError:
        # data that has gone since must not keep anybody from asking
        return found


def write(
    settings: Settings,
    run,
    text: str,
    chosen: Sequence[str],
    heat: float,
    most: int,
    token: str | bool | None,
    state: dict[str, Answer],
    task: Work,
) -> None:
    """Fill `state` with one answer a side of `chosen`, and the students' with what the teacher thinks of them."""
    from simct.data.templates import prompt_ids
    from simct.inspection.side_by_side import agreement, write_answer

    config = run.config()
    teacher, student = (name_of(side, run, config) for side in ("teacher", "before"))
    weights.allow(settings, teacher, student, token)
    pair = models.pair_of(settings, teacher, student, token)
    messages = [{"role": "user", "content": text}]
    if config.data.system:
        messages.insert(0, {"role": "system", "content": config.data.system})
    state.update({side: Answer() for side in SIDES if side in chosen})
    for side, answer in state.items():
        tokens = pair.teacher if side == "teacher" else pair.student
        thinking = (config.teacher if side == "teacher" else config.student).enable_thinking
        ids = prompt_ids(tokens.tokenizer, messages, thinking)
        answer.state = "loading"
        model = load(settings, side, run, config, token, task)
        task.step(f"{SIDES[side]} writes…")
        answer.state, began = "writing", time.monotonic()
        written = write_answer(
            model, ids, tokens.end_ids, len(tokens.bytes_of), min(most, MOST_TOKENS), heat, config.rollout.top_p
        )
        for token_id in written:
            answer.ids.append(token_id)
            answer.text = tokens.tokenizer.decode(answer.ids, skip_special_tokens=True)
            answer.seconds = time.monotonic() - began
            if task.should_stop():
                break
        answer.ended = bool(answer.ids) and answer.ids[-1] in tokens.end_ids
        answer.state = "done" if answer.ended else "cut"
        if task.should_stop():
            return
    if "teacher" not in state:
        return
    task.step("The teacher reads what the student wrote…")
    model = load(settings, "teacher", run, config, token, task)
    ids = prompt_ids(pair.teacher.tokenizer, messages, config.teacher.enable_thinking)
    for side in ("before", "after"):
        if side in state and state[side].ids:
            state[side].units = agreement(pair, model, ids, state[side].ids)
