"""Answers, shown token by token as they are written, and how likely the teacher finds the students' answers."""

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.compare.models import RunModels, in_order, is_teacher, title
from app.data import prompt_source
from app.page import amounts
from app.page.markup import one_line
from app.server.studio import Studio
from app.server.work import Stopped, Work
from simct import demo
from simct.config.sections import DataConfig
from simct.errors import DataError, SimCTError
from simct.runs.folder import RunFolder

if TYPE_CHECKING:
    from simct.data.conversations import Message
    from simct.data.prompts import Prompt

OFFERED = 40
MOST_TOKENS = 2048
HOTTEST = 10


@dataclass(frozen=True)
class Sampling:
    """How answers are sampled: greedily at temperature 0, otherwise with the run's own top-p and other settings."""

    temperature: float = 0.0
    length: int = 64
    seed: int = 0

    @property
    def tokens(self) -> int:
        return max(1, min(self.length, MOST_TOKENS))


def sampling(temperature: float | None, length: float | None, default: int, seed: int = 0) -> Sampling:
    """What two fields say; `default` is the length where its field is empty. Raises ConfigError."""
    return Sampling(
        amounts.real("Temperature", temperature, 0.0, 0, HOTTEST),
        amounts.whole("Tokens at most", length, default, 1, MOST_TOKENS),
        seed,
    )


def sampling_fields(name: str, length: int) -> tuple[gr.Number, gr.Number]:
    """Temperature and length, for `sampling`."""
    info, options = "0: always the most likely.", {"min_width": 110}
    temperature = amounts.field(0.0, "Temperature", info=info, step=0.1, elem_id=f"{name}-temperature", **options)
    return temperature, amounts.field(length, "Tokens at most", info="Per answer.", elem_id=f"{name}-length", **options)


@dataclass(frozen=True)
class Question:
    """A prompt, and which sides answer it."""

    text: str
    sides: Sequence[str]
    sampling: Sampling = Sampling()


@dataclass
class Answer:
    """What one model has written so far: `ids` of its own tokenizer, `units` once the teacher has read it."""

    ids: list[int] = field(default_factory=list)
    text: str = ""
    ended: bool = False
    seconds: float = 0.0
    # waiting, loading, writing, done, cut (before its end), or none (nothing was written, and nothing will be)
    state: str = "waiting"
    # why the model cannot answer
    error: str = ""
    units: list[dict[str, Any]] | None = None


def prompts_of(studio: Studio, run: RunFolder, token: str | bool | None) -> "list[Prompt]":
    """Prompts of the run to try: first its evaluation prompts, if it has any, then its training prompts."""
    config = run.config()
    found: list[Prompt] = []
    if "demo" in config.evaluation.tasks:
        found = list(prompt_source.read(studio, DataConfig(prompts=str(demo.EVAL)), token).prompts[:OFFERED])
    try:
        return [*found, *prompt_source.read(studio, config.data, token).prompts[: OFFERED - len(found) // 2]]
    except SimCTError:
        # the models can answer other prompts even if the data is gone
        return found


def conversation(text: str, system: str | None) -> "list[Message]":
    """One question, after a system text if there is one."""
    asked: list[Message] = [{"role": "user", "content": text}]
    return [{"role": "system", "content": system}, *asked] if system else asked


def reply(
    models: RunModels, side: str, messages: "list[Message]", sampling: Sampling, answer: Answer, work: Work
) -> None:
    """Fill `answer` token by token, until it ends or the visitor cancels. Raises a one-line SimCTError."""
    from simct.inspection.side_by_side import write_answer

    answer.state = "loading"
    prompt = models.prompt_ids(side, messages, sampling.tokens)
    model = models.load(side, work)
    work.step(f"{title(side)} writes…")
    tokens, began = models.tokens(side), time.monotonic()
    answer.state = "writing"
    written = write_answer(
        model,
        prompt,
        tokens.end_ids,
        len(tokens.bytes_of),
        sampling.tokens,
        sampling.temperature,
        models.config.rollout,
        sampling.seed,
    )
    for token_id in written:
        answer.ids.append(token_id)
        answer.text = b"".join(tokens.bytes_of[each] or b"" for each in answer.ids).decode("utf-8", "replace")
        answer.seconds = time.monotonic() - began
        if work.should_stop():
            break
    answer.ended = bool(answer.ids) and answer.ids[-1] in tokens.end_ids
    answer.state = "done" if answer.ended else "cut"


def try_reply(
    models: RunModels, side: str, messages: "list[Message]", sampling: Sampling, answer: Answer, work: Work
) -> bool:
    """As `reply`, but a model that cannot answer says why in `answer.error`, so that the others still answer.

    Returns whether the model can be asked something else. Raises Stopped after a cancel.
    """
    try:
        reply(models, side, messages, sampling, answer, work)
    except Stopped:
        raise
    except SimCTError as error:
        answer.state, answer.error = "none", one_line(error)
        return isinstance(error, DataError)
    return True


def could_not(answers: Collection[Answer]) -> str:
    """How many of the answers could not be written, in one line; empty if all could."""
    failed = sum(bool(answer.error) for answer in answers)
    said = f"{failed} of {len(answers)} answers could not be written. The reason is where the answer would be."
    return said if failed else ""


def end(answers: Iterable[Answer]) -> None:
    """Nothing more is written, after a failure or a cancel."""
    for answer in answers:
        if answer.state not in ("done", "cut"):
            answer.state = "cut" if answer.ids else "none"


def write(models: RunModels, question: Question, answers: dict[str, Answer], work: Work) -> None:
    """Fill `answers` with one for each side, and add how likely the teacher finds the students' answers.

    Raises Stopped after a cancel, and a one-line SimCTError if the teacher cannot read the students' answers.
    """
    messages = conversation(question.text, models.config.data.system)
    answers.update({side: Answer() for side in in_order(question.sides)})
    for side, answer in answers.items():
        try_reply(models, side, messages, question.sampling, answer, work)
        if work.should_stop():
            return
    if models.reader not in answers or answers[models.reader].error:
        return
    work.step("The teacher reads what the student wrote…")
    from simct.inspection.side_by_side import agreement

    model = models.load(models.reader, work)
    prompt = models.prompt_ids(models.reader, messages)
    for side, answer in answers.items():
        if not is_teacher(side) and answer.ids:
            answer.units = agreement(models.pairs[models.reader], model, prompt, answer.ids)
