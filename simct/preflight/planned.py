"""A run before it starts, with everything that its checks read, each part only once."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from transformers import PretrainedConfig

from simct.config import RunConfig, local_path
from simct.config.sections import DataConfig, ModelConfig
from simct.config.teachers import named_teachers, teachers_of
from simct.data.held_out import PromptSplit, split_prompts
from simct.data.prompts import Prompt, PromptSet, read_prompts
from simct.data.rendering import RenderedPrompts, render_prompts
from simct.data.routing import grading_teachers
from simct.data.selection import has_allowed_length
from simct.errors import ConfigError, DataError, SimCTError, brief
from simct.estimate.memory import Shape, load_shape_config, shape_of
from simct.hub.model_config import context_of
from simct.hub.search import ModelHit, model_facts
from simct.jobs.backend import Token
from simct.models.server_check import ServerReport, look_at_server
from simct.models.stored import StoredTeacher
from simct.tokenization.model_tokens import load_tokens
from simct.tokenization.pair import TokenizerPair
from simct.tokenization.token_bytes import TokenBytes

STUDENT = "student"
# How many prompts are rendered and measured: evenly spaced ones, and the longest ones.
SPACED, LONGEST = 100, 8

Found = TypeVar("Found")


class NotRead(Exception):
    """A part that a check needs could not be read; the check that tried first has reported the reason."""


@dataclass(frozen=True)
class Place:
    """Where the run will be: on this machine under `runs_dir`, or a Job on `flavor` that `namespace` pays.

    gpus: GPUs of this machine that it takes; None for one. push_to: repositories that are written at its end. public:
    the run belongs to a visitor, so only the teacher's server is contacted, if it is a public one.
    """

    on_jobs: bool = False
    runs_dir: str = "runs"
    gpus: int | None = None
    flavor: str | None = None
    namespace: str | None = None
    push_to: tuple[str, ...] = ()
    public: bool = False


def _tokens(model: ModelConfig, token: Token) -> TokenBytes:
    return load_tokens(model.model, model.revision, token, model.chat_template)


@dataclass(frozen=True)
class Readers:
    """The functions that read tokenizers and prompts. The studio has its own, which cache their results."""

    tokens: Callable[[ModelConfig, Token], TokenBytes] = _tokens
    prompts: Callable[[DataConfig, Token], PromptSet] = read_prompts


@dataclass(frozen=True)
class PromptLength:
    """A prompt's tokens as the model reads it that has the least room left, and the most that leave room for an
    answer. allowed: whether data.min_tokens and data.max_tokens keep it.
    """

    tokens: int
    room: int
    allowed: bool

    @property
    def fits(self) -> bool:
        return self.allowed and self.tokens <= self.room


@dataclass
class PlannedRun:
    """The parts that a run needs, read when a check first asks for them.

    A part that cannot be read raises its SimCTError for the first check that asks, and NotRead for all others.
    """

    config: RunConfig
    token: Token = None
    place: Place = field(default_factory=Place)
    readers: Readers = field(default_factory=Readers)
    teacher_key: str | None = field(default=None, repr=False)
    _read: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def teachers(self) -> list[str]:
        """The sides that teach: "teacher", or "teachers[0]" and so on."""
        return [where for where, _ in named_teachers(self.config)]

    @property
    def sides(self) -> list[str]:
        """The teachers, then the student."""
        return [*self.teachers, STUDENT]

    def title(self, side: str) -> str:
        """The title of a side: "Teacher", "Student", or "Teacher" and its name if there are several."""
        if side in (STUDENT, "teacher"):
            return side.capitalize()
        return f"Teacher {teachers_of(self.config)[self.teachers.index(side)].name}"

    def setting(self, side: str, name: str) -> str:
        """The setting of run.yaml to change; that of one of several teachers is in their list."""
        return f"{side}.{name}" if side in (STUDENT, "teacher") else "teachers"

    def model(self, side: str) -> ModelConfig:
        """A side's settings. Raises NotRead if no model is named, which the check of settings reports."""
        model = {**dict(named_teachers(self.config)), STUDENT: self.config.student}[side]
        if not model.model.strip():
            raise NotRead
        return model

    def on_hub(self, side: str) -> bool:
        return local_path(self.model(side).model) is None

    def hit(self, side: str) -> ModelHit | None:
        """What the Hub says about a model that may be read; None for a folder."""
        model = self.model(side)
        if not self.on_hub(side):
            return None
        return self._once(f"hit {side}", lambda: model_facts(model.model, self.token, model.revision))

    def shape_config(self, side: str) -> PretrainedConfig:
        model = self.model(side)
        return self._once(f"config {side}", lambda: load_shape_config(model, self.token))

    def shape(self, side: str) -> Shape | None:
        """The model's sizes and, for the student, how much is trained; None for a type of model that cannot be
        estimated.
        """
        run = self.config if side == STUDENT else None
        config, model = self.shape_config(side), self.model(side)

        def measure() -> Shape | None:
            try:
                return shape_of(config, model, run)
            except ConfigError as error:
                raise NotRead from error  # the settings of the trained part have their own check
            except Exception:  # architectures differ in what their configs say
                return None

        return self._once(f"shape {side}", measure)

    def tokens(self, side: str) -> TokenBytes:
        model = self.model(side)
        return self._once(f"tokenizer {side}", lambda: self.readers.tokens(model, self.token))

    def pair(self, side: str) -> TokenizerPair:
        """A teacher's pair with the student."""
        return self._once(f"pair {side}", lambda: self._make_pair(side))

    def _make_pair(self, side: str) -> TokenizerPair:
        pair = TokenizerPair(self.tokens(side), self.tokens(STUDENT))
        pair.thinking = self.model(side).enable_thinking, self.config.student.enable_thinking
        return pair

    @property
    def prompt_set(self) -> PromptSet:
        if not self.config.data.prompts.strip():
            raise NotRead
        return self._once("prompts", lambda: self.readers.prompts(self.config.data, self.token))

    @property
    def split(self) -> PromptSplit:
        """The training prompts and the held-out prompts."""
        return self._once("split", lambda: split_prompts(self.prompt_set.prompts, self.config.data, self.token))

    @property
    def spaced(self) -> list[Prompt]:
        """Prompts from all over the training data, for measuring shares."""
        prompts = self.split.trained
        return prompts[:: max(1, len(prompts) // SPACED)][:SPACED]

    @property
    def rendered_prompts(self) -> list[Prompt]:
        """The spaced prompts, and then the longest of the others."""
        spaced = self.spaced
        chosen = {id(prompt) for prompt in spaced}
        others = (prompt for prompt in self.split.trained if id(prompt) not in chosen)
        return [*spaced, *sorted(others, key=lambda prompt: -len(prompt.text))[:LONGEST]]

    def rendered(self, side: str) -> RenderedPrompts:
        """`rendered_prompts` in the side's own template."""
        model, prompts = self.model(side), self.rendered_prompts
        return self._once(
            f"rendered {side}",
            lambda: render_prompts(
                STUDENT if side == STUDENT else "teacher",
                self.tokens(side).tokenizer,
                prompts,
                model.enable_thinking,
                model.system,
            ),
        )

    @property
    def new_tokens(self) -> int:
        """The longest answer that the run samples; of a warm-up, at first and by the teacher with the least room."""
        config = self.config
        if config.kind == "distill":
            return config.rollout.max_new_tokens
        return min(config.warmup.first_limit(self.longest(side), config.training) for side in self.teachers)

    def longest(self, *sides: str) -> int:
        """The most tokens of a prompt and its answer that all of these sides read."""
        return self.config.training.longest(map(self.context, sides))

    def context(self, side: str) -> int | None:
        """How many tokens the model can read, if its server, its stored scores or its config says so."""
        model = self.model(side)
        try:
            if model.scores:
                return self.stored_context(side)
            if model.server:
                found = self.server(side)
                return found.context_length if found else None
            return context_of(self.shape_config(side))
        except (NotRead, SimCTError):
            return None  # the check of the model reports it

    def stored_context(self, side: str) -> int | None:
        """The most tokens that a teacher with stored scores read, if known; the scores are checked."""

        def read() -> int | None:
            stored = StoredTeacher(self.model(side).scores or "", self.tokens(side), self.model(side).model)
            stored.close()
            return stored.context_length

        return self._once(f"scores {side}", read)

    def server(self, side: str) -> ServerReport | None:
        """What a teacher's server says; None if it may not be asked."""
        public = self.place.public or None
        if public and not isinstance(self.token, str):
            # a public studio does not connect to a server for visitors who have not signed in
            return None
        # the key is only for the server of `teacher`
        key = self.teacher_key if side == "teacher" else None
        model = self.model(side)
        return self._once(f"server {side}", lambda: look_at_server(model, self.tokens(side), self.token, key, public))

    def lengths(self, most: int | None = None) -> list[PromptLength]:
        """The length of each prompt that its models can read; with `most`, only of the first prompts."""
        # in a warm-up, only the teacher reads prompts that have no answer yet
        warmup = self.config.kind == "warmup"
        readers = {side: [side] if warmup else [side, STUDENT] for side in self.teachers}
        rooms = {side: self.longest(*read) - self.new_tokens for side, read in readers.items()}
        ids = {side: self.rendered(side).ids for side in self.sides}
        found = []
        for index, prompt in enumerate(self.rendered_prompts[:most]):
            graded = [self.teachers[place] for place in grading_teachers(prompt, self.config)]
            lengths = {side: [len(ids[each][index]) for each in readers[side]] for side in graded}
            if not lengths or not all(map(all, lengths.values())):
                continue
            allowed = all(has_allowed_length(self.config.data, each) for each in lengths.values())
            least = min(
                ((max(each), rooms[side]) for side, each in lengths.items()), key=lambda each: each[1] - each[0]
            )
            found.append(PromptLength(*least, allowed))
        return found

    def _once(self, name: str, read: Callable[[], Found]) -> Found:
        if name not in self._read:
            try:
                self._read[name] = read()
            except Exception as error:
                self._read[name] = NotRead()
                if isinstance(error, SimCTError | NotRead):
                    raise
                raise DataError(f"Cannot read the {name}: {type(error).__name__}: {brief(error)}.") from error
        found = self._read[name]
        if isinstance(found, NotRead):
            raise found
        return found
