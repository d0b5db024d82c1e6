"""What Compare asks of models: answers as they are written. A few models are kept; the longest unused goes first."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.data import prompt_source
from app.server import model_facts, weights
from app.server.studio import Studio
from app.server.work import Work
from simct import demo
from simct.config import RunConfig
from simct.config.sections import DataConfig, ModelConfig, RolloutConfig
from simct.config.teachers import with_one_teacher
from simct.errors import SimCTError
from simct.hub.repo_ids import is_folder
from simct.runs.folder import RunFolder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from simct.data.prompts import Prompt
    from simct.tokenization.token_bytes import TokenBytes

OFFERED = 40
MOST_TOKENS = 2048
# of several teachers each is a side of its own: "teacher:" and its name
STUDENTS, TEACHER = {"before": "Student before", "after": "Student after"}, "teacher"


@dataclass(frozen=True)
class Question:
    """A prompt, which sides are to answer it, and how: `length` is the most tokens of an answer."""

    text: str
    sides: Sequence[str]
    temperature: float = 0.0
    length: int = 64


@dataclass
class Answer:
    """What one model has written so far: `ids` of its own tokenizer, `units` once the teacher has read it."""

    ids: list[int] = field(default_factory=list)
    text: str = ""
    ended: bool = False
    seconds: float = 0.0
    state: str = "waiting"
    units: list[dict[str, Any]] | None = None


def teachers_by_side(config: RunConfig) -> dict[str, ModelConfig]:
    """The settings of the run's teacher, or of each of several, by the side that it answers as."""
    return {f"{TEACHER}:{each.name}": each for each in config.teachers} or {TEACHER: config.teacher}


def side_title(side: str) -> str:
    """What a side is called on the page."""
    return STUDENTS.get(side) or f"Teacher {side.partition(':')[2]}".strip()


def side_config(side: str, config: RunConfig) -> ModelConfig:
    """The settings of the model that answers as `side`."""
    return teachers_by_side(config).get(side, config.student)


def model_of(side: str, run: RunFolder, config: RunConfig) -> str:
    """The model of a side as the fields of the pair name it: pinned, or the run's own folder."""
    if side == "after":
        return str(run.model_dir)
    model = side_config(side, config)
    return model_facts.joined(model.model, model.revision)


def offered_sides(studio: Studio, run: RunFolder, config: RunConfig, token: str | bool | None) -> list[tuple[str, str]]:
    """(what its box says, side) for every model of the run that can be asked; sizes where weights would be fetched."""
    offered, status = [], run.status()
    for side in (*STUDENTS, *teachers_by_side(config)):
        words = side_title(side)
        if side == "after":
            if not (run.model_dir / "config.json").is_file():
                continue
            if status.model_step not in (None, status.step):
                # a run that was resumed and then forced to stop has the model of its last ordinary stop
                words = f"{words} {status.model_step:,} steps"
        model = model_of(side, run, config)
        if is_folder(model):
            offered.append((words, side))
        else:
            size = model_facts.facts(studio, model, token).size
            offered.append((f"{words}, {model_facts.human_size(size)} from the Hub" if size else f"{words}, Hub", side))
    return offered


def load(
    studio: Studio, side: str, run: RunFolder, config: RunConfig, token: str | bool | None, work: Work
) -> "PreTrainedModel":
    """The model of a side in evaluation mode. Raises a one-line SimCTError; Stopped after a cancel."""
    model, dtype = model_of(side, run, config), side_config(side, config).dtype
    changed = (run.model_dir / "config.json").stat().st_mtime_ns if side == "after" else None
    key, kept = (model, dtype, changed, token), studio.models.answering
    if key in kept:
        kept.move_to_end(key)
        return kept[key]
    if not is_folder(model) and (size := model_facts.facts(studio, model, token).size):
        # refused before gigabytes are fetched for a machine that cannot hold them
        weights.precision(size, weights.free_memory())
    studio.models.make_room_to_answer()
    if side == "after":
        kept[key] = weights.load_own(run.model_dir, dtype, work)
    else:
        kept[key] = weights.load_one(studio, model, _in_sentence(side), dtype, token, work)
    return kept[key]


def prompts_of(studio: Studio, run: RunFolder, token: str | bool | None) -> "list[Prompt]":
    """Prompts of the run to try: those it is scored on where they come with it, then those it trains on."""
    config = run.config()
    found: list[Prompt] = []
    if "demo" in config.evaluation.tasks:
        found = list(prompt_source.read(studio, DataConfig(prompts=str(demo.EVAL)), token).prompts[:OFFERED])
    try:
        return [*found, *prompt_source.read(studio, config.data, token).prompts[: OFFERED - len(found) // 2]]
    except SimCTError:
        # the other models can be asked even if the data is gone
        return found


def write(
    studio: Studio,
    run: RunFolder,
    question: Question,
    token: str | bool | None,
    answers: dict[str, Answer],
    work: Work,
) -> None:
    """Fill `answers` with one a side, and the students' with how likely the teacher finds them.

    Raises a one-line SimCTError; Stopped after a cancel.
    """
    config = run.config()
    theirs, student = teachers_by_side(config), model_of("before", run, config)
    # the student's answers are read by the first teacher that answers, and written in the tokens of any pair
    reader = next((side for side in theirs if side in question.sides), next(iter(theirs)))
    pairs = {}
    for side in [reader, *(each for each in theirs if each in question.sides)]:
        teacher = model_of(side, run, config)
        weights.allow(studio, teacher, student, token)
        alone = next((with_one_teacher(config, each) for each in config.teachers if each is theirs[side]), config)
        pairs[side] = model_facts.pair_of(studio, teacher, student, token, alone)
    messages = [{"role": "user", "content": question.text}]
    if config.data.system:
        messages.insert(0, {"role": "system", "content": config.data.system})
    answers.update({side: Answer() for side in (*STUDENTS, *theirs) if side in question.sides})
    for side, answer in answers.items():
        answer.state = "loading"
        prompt = _prompt_ids(studio, side, run, config, messages, token)
        model = load(studio, side, run, config, token, work)
        work.step(f"{side_title(side)} writes…")
        tokens = pairs[side].teacher if side in theirs else pairs[reader].student
        _write_one(tokens, model, prompt, question, config.rollout, answer, work)
        if work.should_stop():
            return
    if reader not in answers:
        return
    work.step("The teacher reads what the student wrote…")
    from simct.inspection.side_by_side import agreement

    model = load(studio, reader, run, config, token, work)
    prompt = _prompt_ids(studio, reader, run, config, messages, token)
    for side in STUDENTS:
        if side in answers and answers[side].ids:
            answers[side].units = agreement(pairs[reader], model, prompt, answers[side].ids)


def _in_sentence(side: str) -> str:
    title = side_title(side)
    return title[0].lower() + title[1:]


def _prompt_ids(
    studio: Studio,
    side: str,
    run: RunFolder,
    config: RunConfig,
    messages: list[dict[str, str]],
    token: str | bool | None,
) -> list[int]:
    """The ids of the conversation for a side, by the template of the pair: the student's after as before."""
    from app.reading import models

    model = model_of("before" if side in STUDENTS else side, run, config)
    where = model_facts.source(studio, model, token, side_config(side, config))
    return studio.workers.run(models.read_prompt, where, messages, what="The prompt", near=where)


def _write_one(
    tokens: "TokenBytes",
    model: "PreTrainedModel",
    prompt: list[int],
    question: Question,
    rollout: RolloutConfig,
    answer: Answer,
    work: Work,
) -> None:
    """Fill `answer` token by token, until it ends or the visitor cancels."""
    from simct.inspection.side_by_side import write_answer

    answer.state, began = "writing", time.monotonic()
    length = min(question.length, MOST_TOKENS)
    written = write_answer(model, prompt, tokens.end_ids, len(tokens.bytes_of), length, question.temperature, rollout)
    for token_id in written:
        answer.ids.append(token_id)
        answer.text = b"".join(tokens.bytes_of[each] or b"" for each in answer.ids).decode("utf-8", "replace")
        answer.seconds = time.monotonic() - began
        if work.should_stop():
            break
    answer.ended = bool(answer.ids) and answer.ids[-1] in tokens.end_ids
    answer.state = "done" if answer.ended else "cut"
