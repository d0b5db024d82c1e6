"""One pass of a distillation step: the student's hidden states of some samples and the loss against the teacher's rows.

Shapes: S student rows, G of them of the data's completions, H hidden size.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from simct import losses
from simct.config import RunConfig
from simct.data.samples import Sample
from simct.losses.head import Head
from simct.losses.teacher_rows import TeacherRows
from simct.models.loading import hidden_rows
from simct.tokenization.pair import TokenizerPair
from simct.training.fine_tuning import completion_loss


class DistillationStep(torch.nn.Module):
    """The student with the loss inside its forward pass, so that DDP and FSDP see all that uses its parameters."""

    def __init__(self, student: PreTrainedModel, pair: TokenizerPair, config: RunConfig, pad_id: int):
        super().__init__()
        self.student = student
        # the layers that Accelerate gives shards of their own
        self._no_split_modules = list(getattr(student, "_no_split_modules", None) or [])
        self.pair, self.config, self.pad_id = pair, config, pad_id

    def forward(self, *arguments: Any, inside: Callable[[], Any] | None = None) -> Any:
        """`compare(*arguments)`, or what `inside()` returns."""
        return self.compare(*arguments) if inside is None else inside()

    def compare(self, samples: Sequence[Sample], teacher: TeacherRows) -> losses.LossResult:
        """The loss of `samples`, given the teacher's rows."""
        student_hidden_SH, _ = hidden_rows(
            self.student,
            [sample.prompt.student_ids for sample in samples],
            [sample.student_ids for sample in samples],
            self.pad_id,
            [sample.student_spans for sample in samples],
        )
        head = Head.of(self.student)
        result = losses.compute_from_rows(
            self.config.method,
            self.pair,
            student_hidden_SH,
            head,
            teacher,
            [piece for sample in samples for piece in sample.student_pieces],
            [piece for sample in samples for piece in sample.teacher_pieces],
            divergence=self.config.divergence,
            **self.config.method_options,
        )
        weight = self.config.training.sft_weight
        return with_cross_entropy(result, weight, samples, student_hidden_SH, head) if weight else result


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
    stats = result.stats | {"sft": float(added.detach()) / rows}
    return losses.LossResult(loss_sum / rows, result.rows, loss_sum, stats)
