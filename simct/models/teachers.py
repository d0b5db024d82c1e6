"""The teacher, wherever its weights are: it provides the rows of probabilities with which a student is compared.

A loss, a measurement and the trainer ask a `Teacher` for the rows that predict each id of some completions, and need
not know which kind it is. Shapes: R rows, H hidden size.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from accelerate import cpu_offload
from transformers import PreTrainedModel

from simct.config import RunConfig
from simct.config.sections import ModelConfig
from simct.config.teachers import teachers_of, with_one_teacher
from simct.hub.model_config import context_of
from simct.losses.head import Head, check_head, decoder_of
from simct.losses.teacher_rows import HiddenRows, TeacherRows
from simct.models.loading import hidden_rows, load_model, pad_id_of
from simct.models.served import ServedTeacher
from simct.models.stored import StoredTeacher
from simct.tokenization.pair import TokenizerPair
from simct.tokenization.token_bytes import TokenBytes

# of each completion, the (start, end) of the ids whose rows are wanted
Spans = list[list[tuple[int, int]]]


class Teacher(Protocol):
    """`start` requests the rows that predict each id of `completions`, or those in `spans` of each, one sequence after
    another; calling its result waits for them. Several requests may be started before the first result is called.
    """

    tokens: TokenBytes

    @property
    def context_length(self) -> int | None:
        """The most tokens that it reads at once, if known."""

    def start(
        self, prompts: list[list[int]], completions: list[list[int]], spans: Spans | None = None
    ) -> Callable[[], TeacherRows]: ...

    def usage(self) -> dict[str, float]:
        """The fields of a step's record about the teacher, since the last call."""

    def close(self) -> None: ...


class LocalTeacher:
    """A teacher whose weights are in this process."""

    def __init__(self, model: PreTrainedModel, tokens: TokenBytes) -> None:
        self.model, self.tokens = model, tokens
        self.pad_id = pad_id_of(tokens.tokenizer, tokens.end_ids)
        self.offloaded = False

    @property
    def context_length(self) -> int | None:
        return context_of(self.model.config)

    @cached_property
    def head(self) -> Head:
        """Raises ModelError for an lm_head that cannot be read."""
        return Head.of(self.model)

    def freeze(self, device: torch.device) -> None:
        """For training: no gradients, and a copy of the lm_head on `device`, where the student is compared with it."""
        self.model.requires_grad_(False).eval()
        if self.offloaded:
            return
        head = Head.of(self.model)
        bias = None if head.bias is None else head.bias.to(device)
        self.head = replace(head, weight=head.weight.to(device), bias=bias)

    def offload(self, device: torch.device) -> None:
        """Keep the decoder in the CPU's memory; each of its layers is on `device` only while it runs. The lm_head stays
        there, as the losses read its columns at every step, and the teacher writes with it.
        """
        self.freeze(device)
        # not moved as a module, because the embedding, which may share its weight, stays on the CPU
        output: torch.nn.Module = self.model.get_output_embeddings()
        output.weight = torch.nn.Parameter(self.head.weight.detach(), requires_grad=False)
        if self.head.bias is not None:
            output.bias = torch.nn.Parameter(self.head.bias.detach(), requires_grad=False)
        decoder = decoder_of(self.model)
        weights = {name: each.detach().cpu() for name, each in decoder.state_dict().items()}
        if device.type == "cuda":
            weights = {name: each.pin_memory() for name, each in weights.items()}
        cpu_offload(decoder, device, state_dict=weights)
        self.offloaded = True

    def start(
        self, prompts: list[list[int]], completions: list[list[int]], spans: Spans | None = None
    ) -> Callable[[], TeacherRows]:
        """The rows are computed when they are asked for, so that only one batch of them is in memory."""
        return lambda: self.rows(prompts, completions, spans)

    @torch.no_grad()
    def rows(self, prompts: list[list[int]], completions: list[list[int]], spans: Spans | None = None) -> HiddenRows:
        """Last hidden states [R, H] with the head. Raises ModelError for an id that the embedding has no row for."""
        hidden_RH, _ = hidden_rows(self.model, prompts, completions, self.pad_id, spans)
        return HiddenRows(hidden_RH, self.head)

    def usage(self) -> dict[str, float]:
        return {}

    def close(self) -> None:
        """Nothing to release: whoever loaded the weights frees them."""


@dataclass(frozen=True)
class PairedTeacher:
    """A teacher of a run with its tokenizer pair.

    weight: how much a row that it grades counts. config: the run with only this teacher.
    """

    name: str
    weight: float
    config: RunConfig
    pair: TokenizerPair
    teacher: Teacher


def paired(config: RunConfig, teacher: Teacher, pair: TokenizerPair) -> list[PairedTeacher]:
    """The only teacher of a run."""
    return [PairedTeacher(teachers_of(config)[0].name, 1.0, config, pair, teacher)]


def load_teachers(
    config: RunConfig, device: torch.device | str | None = None, token: str | bool | None = None
) -> list[PairedTeacher]:
    """All teachers of a run, each with its pair. Raises as TokenizerPair.of_run and load_teacher do."""
    named = teachers_of(config)
    runs = [with_one_teacher(config, teacher) for teacher in named]
    # tokenizers first, so that a wrong one is noticed before weights are loaded
    pairs = [TokenizerPair.of_run(run, token) for run in runs]
    return [
        # the weight of a single teacher cancels out
        PairedTeacher(
            settings.name,
            settings.weight if len(named) > 1 else 1.0,
            run,
            pair,
            load_teacher(run.teacher, pair.teacher, device, token),
        )
        for settings, run, pair in zip(named, runs, pairs, strict=True)
    ]


def writes(teacher: Teacher) -> bool:
    """Whether it can answer prompts, which stored scores cannot."""
    return isinstance(teacher, ServedTeacher | LocalTeacher)


def load_teacher(
    config: ModelConfig,
    tokens: TokenBytes,
    device: torch.device | str | None = None,
    token: str | bool | None = None,
    grades: bool = True,
    key: str | None = None,
) -> Teacher:
    """The teacher that a run names, its weights on `device` unless the run says otherwise.

    grades: it will be compared with a student, so its lm_head is checked. key: of its server, if it is not the one that
    key_for finds. Raises ModelError as load_model and
    check_head do, ConfigError or RunError for a server that cannot be used.
    """
    if config.scores:
        return StoredTeacher(config.scores, tokens, config.model)
    if config.server:
        return ServedTeacher(config, tokens, token, key=key)
    # a teacher that will be sharded is too large for one device; it is moved there layer by layer
    model = load_model(config, None if config.sharded or config.offload else device, token).eval()
    if grades:
        check_head(model)
    teacher = LocalTeacher(model, tokens)
    if config.offload and device is not None and torch.device(device).type != "cpu":
        teacher.offload(torch.device(device))
    return teacher
