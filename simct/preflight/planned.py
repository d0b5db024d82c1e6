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
from simct.errors import ConfigError, DataError, SimCTError, brief
from simct.estimate.memory import Shape, load_shape_config, shape_of
from simct.hub.model_config import context_of
from simct.hub.search import ModelHit, model_facts
from simct.jobs.backend import Token
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

    def rendered(self, side: str) -> RenderedPrompts:
        """The spaced prompts, and then the longest, in the side's own template."""
        spaced = self.spaced
        chosen = {id(prompt) for prompt in spaced}
        others = (prompt for prompt in self.split.trained if id(prompt) not in chosen)
        longest = sorted(others, key=lambda prompt: -len(prompt.text))[:LONGEST]
        model, prompts = self.model(side), [*spaced, *longest]
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
        """The longest answer that the run samples."""
        config = self.config
        return config.warmup.max_new_tokens if config.kind == "warmup" else config.rollout.max_new_tokens

    @property
    def room(self) -> int:
        """The most tokens that a prompt may have, so that its answer fits both models."""
        limits = [] if self.config.kind == "warmup" else [self.context(side) for side in self.sides]
        return self.config.training.longest(limits) - self.new_tokens

    def context(self, side: str) -> int | None:
        """How many tokens the model can read, if its config says so."""
        try:
            return context_of(self.shape_config(side))
        except NotRead:
            return None

    def lengths(self, most: int | None = None) -> list[int]:
        """Tokens of each prompt that all sides can read, by the side with the most; with `most`, only of the first
        prompts.
        """
        read = zip(*(self.rendered(side).ids[:most] for side in self.sides), strict=True)
        return [max(len(ids) for ids in each if ids) for each in read if all(each)]

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
