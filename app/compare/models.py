"""The models of a run that can answer: the student before, at its checkpoints and after, and its teachers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from app.data.prompt_source import context_length
from app.reading.records import Source
from app.server import model_facts, weights
from app.server.studio import Studio
from app.server.work import Work
from simct.config import RunConfig
from simct.config.sections import ModelConfig
from simct.config.teachers import with_one_teacher
from simct.errors import DataError, ModelError
from simct.hub.repo_ids import is_folder
from simct.report.formats import human_size
from simct.runs.checkpoints import CONFIG_FILE, STEP_FILE, checkpoints_in, damage
from simct.runs.folder import RunFolder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from simct.data.conversations import Message
    from simct.tokenization.pair import TokenizerPair
    from simct.tokenization.token_bytes import TokenBytes

# a side is one of these, step-N for a checkpoint, TEACHER, or TEACHER:NAME if there are several teachers
STUDENTS = {"before": "Student before", "after": "Student after"}
TEACHER, CHECKPOINT = "teacher", "step-"
# for a conversation that a model's chat template cannot take
ASK_ELSE = "Try another prompt or a new conversation, or let another model answer."


def title(side: str) -> str:
    """What the page calls a side."""
    step = checkpoint_step(side)
    if step is not None:
        return f"Student at step {step:,}"
    return STUDENTS.get(side) or f"Teacher {side.partition(':')[2]}".strip()


def in_sentence(side: str) -> str:
    """The title inside a sentence; the name of a teacher keeps its case."""
    words = title(side)
    return words[0].lower() + words[1:]


def is_teacher(side: str) -> bool:
    return side.partition(":")[0] == TEACHER


def teachers_by_side(config: RunConfig) -> dict[str, ModelConfig]:
    """The settings of the run's teacher, or of each of several, by the side that it answers as."""
    return {f"{TEACHER}:{each.name}": each for each in config.teachers} or {TEACHER: config.teacher}


def served_teachers(config: RunConfig) -> list[str]:
    """The sides of the run's teachers that are on a server and therefore have no weights here."""
    return [side for side, teacher in teachers_by_side(config).items() if teacher.server]


def served_line(config: RunConfig) -> str:
    """The line above the models of a run that says which teachers cannot answer; empty if all can."""
    served = served_teachers(config)
    if not served:
        return ""
    who = ", ".join(map(title, served)) if config.teachers else "The teacher of this run"
    several = len(served) > 1
    where = (
        "are on servers, so they have no weights here and do"
        if several
        else ("is on a server, so it has no weights here and does")
    )
    return f"{who} {where} not answer. The students can be tried; their distance to the teacher is under Runs."


def checkpoint_step(side: str) -> int | None:
    number = side.removeprefix(CHECKPOINT)
    return int(number) if side.startswith(CHECKPOINT) and number.isdecimal() else None


def in_order(sides: Iterable[str]) -> list[str]:
    """Sides in the order of training: before, checkpoints by step, after, and the teachers last, in their given
    order.
    """

    def place(side: str) -> tuple[int, int]:
        step = checkpoint_step(side)
        return (3 if is_teacher(side) else 2 if side == "after" else 0, 0) if step is None else (1, step)

    return sorted(dict.fromkeys(sides), key=place)


def side_config(side: str, config: RunConfig) -> ModelConfig:
    """The settings of the model that answers as `side`."""
    return teachers_by_side(config).get(side, config.student)


def model_of(side: str, run: RunFolder, config: RunConfig) -> str:
    """The name of a side's model, as in the fields of the pair: a pinned id, or the run's own folder."""
    if side == "after":
        return str(run.model_dir)
    model = side_config(side, config)
    return model_facts.joined(model.model, model.revision)


def is_here(side: str, run: RunFolder, config: RunConfig) -> bool:
    """Whether nothing has to be downloaded for a side to answer."""
    return is_folder(model_of(side, run, config))


def offered_sides(studio: Studio, run: RunFolder, config: RunConfig, token: str | bool | None) -> list[tuple[str, str]]:
    """(label, side) of every model of the run that can answer, with its size if it must be downloaded."""
    offered, status = [], run.status()
    served = served_teachers(config)
    steps = (f"{CHECKPOINT}{step}" for step in whole_checkpoints(run))
    for side in in_order([*STUDENTS, *steps, *(each for each in teachers_by_side(config) if each not in served)]):
        label = title(side)
        if side == "after":
            if not (run.model_dir / "config.json").is_file():
                continue
            if status.model_step not in (None, status.step):
                # a run that was resumed and then forced to stop has the model of its last normal stop
                label = f"{label} {status.model_step:,} steps"
        model = model_of(side, run, config)
        if is_folder(model):
            offered.append((label, side))
        else:
            size = model_facts.facts(studio, model, token).size
            offered.append((f"{label}, {human_size(size)} from the Hub" if size else f"{label}, Hub", side))
    return offered


def whole_checkpoints(run: RunFolder) -> list[int]:
    """The steps of the checkpoints that can be loaded, the newest first."""
    return [step for step, path in checkpoints_in(run.checkpoints_dir) if damage(path, step, thorough=False) is None]


@dataclass(frozen=True)
class RunModels:
    """A run with everything that its models need to answer. Create it with `of`, which checks that they may be loaded.

    pairs: the student with each teacher, by the teacher's side. reader: the teacher that reads the students' answers.
    """

    studio: Studio
    run: RunFolder
    config: RunConfig
    pairs: "dict[str, TokenizerPair]"
    reader: str
    token: str | bool | None

    @classmethod
    def of(cls, studio: Studio, run: RunFolder, token: str | bool | None, sides: Iterable[str] = ()) -> Self:
        """For the given sides. Raises a one-line SimCTError, for example for models that this studio may not load."""
        config = run.config()
        teachers, student = teachers_by_side(config), model_of("before", run, config)
        asked = [side for side in teachers if side in set(sides)]
        # the first teacher that can answer reads the students' answers; a student has the same tokens in every pair
        reader = next(iter([*asked, *teachers]))
        pairs = {}
        for side in dict.fromkeys([reader, *asked]):
            teacher = model_of(side, run, config)
            is_served = bool(teachers[side].server)
            if is_served and side in asked:
                raise ModelError(served_line(config))
            # only the tokenizer of a teacher on a server is read
            weights.allow(studio, student if is_served else teacher, student, token)
            alone = next((with_one_teacher(config, each) for each in config.teachers if each is teachers[side]), config)
            pairs[side] = model_facts.pair_of(studio, teacher, student, token, alone)
        return cls(studio, run, config, pairs, reader, token)

    def tokens(self, side: str) -> "TokenBytes":
        return self.pairs[side].teacher if is_teacher(side) else self.pairs[self.reader].student

    def prompt_ids(self, side: str, messages: "list[Message]", room: int = 0) -> list[int]:
        """The ids of a conversation in the side's own template, by the tokenizer of the run's pair.

        Raises a one-line SimCTError, also if they and `room` more tokens are more than the model can read.
        """
        from app.reading import models
        from simct.data.templates import USE_ANOTHER, USE_PROMPTS

        source = self._source(side)
        try:
            ids = self.studio.workers.run(models.read_prompt, source, messages, what="The prompt", near=source)
        except DataError as error:
            why = str(error).removesuffix(USE_PROMPTS).removesuffix(USE_ANOTHER).rstrip()
            raise DataError(f"{why} {ASK_ELSE}") from error
        most = context_length(self.studio, source)
        if most and len(ids) + room > most:
            raise DataError(
                f"The prompt has {len(ids):,} tokens and the answer may have {room:,}, but “{title(side)}” "
                f"reads at most {most:,}. Shorten the prompt or the answer, or begin a new conversation."
            )
        return ids

    def _source(self, side: str) -> Source:
        model = model_of(side if is_teacher(side) else "before", self.run, self.config)
        return model_facts.source(self.studio, model, self.token, side_config(side, self.config))

    def load(self, side: str, work: Work) -> "PreTrainedModel":
        """The model of a side in evaluation mode. A few are kept in memory; the least recently used one is dropped
        first.

        Raises a one-line SimCTError; Stopped after a cancel.
        """
        return load(self.studio, side, self.run, self.config, self.token, work)


def load(
    studio: Studio, side: str, run: RunFolder, config: RunConfig, token: str | bool | None, work: Work
) -> "PreTrainedModel":
    """As RunModels.load, without the pair."""
    model, dtype = model_of(side, run, config), side_config(side, config).dtype
    checkpoint = None if checkpoint_step(side) is None else side
    key, kept = (model, dtype, checkpoint, _changed(side, run), token), studio.models.answering
    if key in kept:
        kept.move_to_end(key)
        return kept[key]
    if not is_folder(model) and (size := model_facts.facts(studio, model, token).size):
        # refuse now, before gigabytes are downloaded that this machine cannot hold
        weights.precision(size, weights.free_memory())
    studio.models.make_room_to_answer()
    if side == "after":
        kept[key] = weights.load_own(run.model_dir, dtype, work)
    else:
        loaded = weights.load_one(studio, model, in_sentence(side), dtype, token, work)
        kept[key] = loaded if checkpoint is None else _at_checkpoint(loaded, side, run, config)
    return kept[key]


def _changed(side: str, run: RunFolder) -> int | None:
    """When the files that the run itself wrote for a side were last changed."""
    step = checkpoint_step(side)
    path = run.model_dir / "config.json" if side == "after" else run.checkpoints_dir / side / STEP_FILE
    if side != "after" and step is None:
        return None
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        raise ModelError(f"{title(side)} is no longer there. Choose another model.") from error


def _at_checkpoint(student: "PreTrainedModel", side: str, run: RunFolder, config: RunConfig) -> "PreTrainedModel":
    from simct.config import load_run_config
    from simct.training.checkpoints import student_at

    folder = run.checkpoints_dir / side
    trained_with = load_run_config(folder / CONFIG_FILE) if (folder / CONFIG_FILE).is_file() else config
    return student_at(student, folder, trained_with)
