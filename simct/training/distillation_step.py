"""The student compared with its teachers: its hidden states once, and the loss against each teacher that grades them.

Shapes: S student rows, G rows of the data's completions, H hidden size.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel

from simct import losses
from simct.config import RunConfig
from simct.data.samples import Sample
from simct.losses.head import Head
from simct.losses.teacher_rows import TeacherRows
from simct.models.loading import hidden_rows
from simct.models.teachers import PairedTeacher
from simct.tokenization.pair import TokenizerPair
from simct.training.fine_tuning import completion_loss


class Graded(NamedTuple):
    """Samples of one teacher, by its place among those of the run, with its rows for them."""

    place: int
    samples: list[Sample]
    rows: TeacherRows


class DistillationStep(torch.nn.Module):
    """The student with the loss inside its forward pass, so that DDP and FSDP see everything that uses its
    parameters."""

    def __init__(self, student: PreTrainedModel, teachers: Sequence[PairedTeacher], pad_id: int):
        super().__init__()
        self.student = student
        # the layers that Accelerate shards separately
        self._no_split_modules = list(getattr(student, "_no_split_modules", None) or [])
        self.compared: list[tuple[TokenizerPair, RunConfig]] = [(each.pair, each.config) for each in teachers]
        self.pad_id = pad_id

    def forward(self, *arguments: Any, inside: Callable[[], Any] | None = None) -> Any:
        """`compare(*arguments)`, or what `inside()` returns."""
        return self.compare(*arguments) if inside is None else inside()

    def compare(self, graded: Sequence[Graded]) -> list[losses.LossResult]:
        """The loss against each teacher, in the order of `graded`."""
        head = Head.of(self.student)
        hidden = self._hidden(graded)
        return [self._loss(each, hidden_SH, head) for each, hidden_SH in zip(graded, hidden, strict=True)]

    def _loss(self, graded: Graded, student_hidden_SH: torch.Tensor, head: Head) -> losses.LossResult:
        pair, config = self.compared[graded.place]
        samples, weight = graded.samples, config.training.sft_weight
        result = losses.compute_from_rows(
            config.method,
            pair,
            student_hidden_SH,
            head,
            graded.rows,
            [piece for sample in samples for piece in sample.student_pieces],
            [piece for sample in samples for piece in sample.teacher_pieces],
            divergence=config.divergence,
            **config.method_options,
        )
        return with_cross_entropy(result, weight, samples, student_hidden_SH, head) if weight else result

    def _hidden(self, graded: Sequence[Graded]) -> list[torch.Tensor]:
        """The student's rows [S, H] for the samples of each teacher; a completion that several grade is read once."""
        if len(graded) == 1:
            samples = graded[0].samples
            prompts = [sample.prompt.student_ids for sample in samples]
            completions = [sample.student_ids for sample in samples]
            spans = [sample.student_spans for sample in samples]
            return [hidden_rows(self.student, prompts, completions, self.pad_id, spans)[0]]
        texts: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
        for sample in (sample for each in graded for sample in each.samples):
            texts.setdefault(_read_by_student(sample), len(texts))
        hidden_RH, lengths = hidden_rows(
            self.student, [list(prompt) for prompt, _ in texts], [list(ids) for _, ids in texts], self.pad_id
        )
        starts = [sum(lengths[:index]) for index in range(len(lengths))]
        found = []
        for each in graded:
            rows = [
                torch.arange(first + start, first + end)
                for sample in each.samples
                for first in [starts[texts[_read_by_student(sample)]]]
                for start, end in sample.student_spans
            ]
            found.append(hidden_RH[torch.cat(rows).to(hidden_RH.device)])
        return found


def _read_by_student(sample: Sample) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(sample.prompt.student_ids), tuple(sample.student_ids)


def with_cross_entropy(
    result: losses.LossResult,
    weight: float,
    samples: Sequence[Sample],
    student_hidden_SH: torch.Tensor,
    head: Head,
) -> losses.LossResult:
    """`result` with `weight` times the cross-entropy (nats) of the data's completions added to its sum.

    Both are divided by the rows of `result`; stats["sft"] is the cross-entropy's sum divided by them, without weight.
    """
    supervised = [(sample.given, token) for sample in samples for piece in sample.student_pieces for token in piece]
    given_S, ids_S = (torch.tensor(column) for column in zip(*supervised, strict=True))
    result.stats["sft"] = 0.0
    if not given_S.any():
        return result
    device, rows = student_hidden_SH.device, max(1, result.rows)
    rows_G = given_S.nonzero().squeeze(1)
    added = completion_loss(student_hidden_SH[rows_G.to(device)], head, ids_S[rows_G].to(device))
    loss_sum = result.loss_sum + weight * added
    stats, counts = result.stats | {"sft": float(added.detach()) / rows}, result.counts | {"sft": rows}
    return losses.LossResult(loss_sum / rows, result.rows, loss_sum, stats, counts)
