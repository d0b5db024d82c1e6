"""Supervised fine-tuning on completions, under Accelerate: how a warm-up trains the student.

One optimizer step takes a batch over all processes; its gradient is that of the mean over all completion ids of the
step, however it is split. Data order and learning rate are functions of (seed, step), so a resumed run continues as if
it had not stopped. Shapes: N completion ids of a micro-batch, H hidden size, V vocabulary.
"""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from simct.config import RunConfig, dump_config
from simct.config.optimization import TrainingConfig
from simct.data.samples import prompt_order
from simct.errors import RunError
from simct.losses.head import Head, decoder_of
from simct.losses.side import HeadSide, Totals, backpropagate, chunk_rows_for, one_pass, row_chunks
from simct.models.loading import hidden_rows, pad_id_of
from simct.models.packing import packs
from simct.tokenization.token_bytes import TokenBytes
from simct.training.loop import TrainingLoop
from simct.training.micro_batches import MicroBatches
from simct.training.precision import reading


@dataclass(frozen=True)
class Example:
    """Token ids of the student: the prompt it reads, and the completion it learns, with its end of turn."""

    prompt_ids: list[int]
    completion_ids: list[int]


class FineTuningStep(torch.nn.Module):
    """The student with its loss inside, so that distributed wrappers see everything that uses its parameters."""

    def __init__(self, student: PreTrainedModel, pad_id: int):
        super().__init__()
        self.student, self.pad_id = student, pad_id

    def forward(self, examples: list[Example]) -> torch.Tensor:
        """The sum of the cross-entropies (nats) of all completion ids."""
        hidden_NH, _ = hidden_rows(
            self.student,
            [example.prompt_ids for example in examples],
            [example.completion_ids for example in examples],
            self.pad_id,
        )
        ids_N = torch.tensor([token for example in examples for token in example.completion_ids])
        return completion_loss(hidden_NH, Head.of(self.student), ids_N.to(hidden_NH.device))


def completion_loss(hidden_NH: torch.Tensor, head: Head, ids_N: torch.Tensor) -> torch.Tensor:
    """Σ −log p(id) in nats, with logits of a few rows at a time; allows one backward pass."""
    side = HeadSide(hidden_NH, head, torch.zeros(0, dtype=torch.long, device=ids_N.device))

    def accumulate(student: HeadSide, teacher: None) -> Totals:
        dtype = torch.float64 if hidden_NH.dtype == torch.float64 else torch.float32
        total = torch.zeros((), device=hidden_NH.device, dtype=dtype)
        rows_N = torch.arange(len(ids_N), device=ids_N.device)
        for rows in row_chunks(rows_N, chunk_rows_for(ids_N.device, side.vocabulary)):
            block = student.block(rows)
            total += backpropagate(block, partial(cross_entropy, target=ids_N[rows], reduction="none")).sum()
        return Totals(total, len(ids_N))

    return one_pass(accumulate, side, None)[0]


def warmup_training(config: RunConfig, n_examples: int, processes: int) -> TrainingConfig:
    """`config.training` with the warm-up's learning rate and batch size, and the steps of its epochs."""
    warmup, training = config.warmup, config.training.model_copy()
    batch_size = min(warmup.batch_size, n_examples)
    training.batch_size = max(1, batch_size // processes) * processes
    training.learning_rate = warmup.learning_rate
    training.steps = math.ceil(warmup.epochs * n_examples / training.batch_size)
    training.ema_decay = None  # the running mean belongs to distillation
    return training


def fine_tune(
    config: RunConfig,
    accelerator: Accelerator,
    student: PreTrainedModel,
    tokens: TokenBytes,
    examples: list[Example],
    checkpoints: Path,
    on_step: Callable[[dict[str, Any], int], None] = lambda record, total: None,
    stop_requested: Callable[[], bool] = lambda: False,
    resume_from: Path | None = None,
) -> tuple[int, bool]:
    """Train `student` in place on `examples`; returns (last step, whether all steps were taken).

    `on_step(record, total steps)` is called on the main process. Raises RunError when the loss is not finite.
    """
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        raise RunError("A warm-up keeps the student whole on each process: set training.parallel to ddp.")
    training = warmup_training(config, len(examples), accelerator.num_processes)
    if training.gradient_checkpointing:
        student.gradient_checkpointing_enable()
    student.train()
    torch.manual_seed(training.seed)
    module = FineTuningStep(student, pad_id_of(tokens.tokenizer, tokens.end_ids))
    loop = TrainingLoop(accelerator, module, training, checkpoints, "warmup.learning_rate", dump_config(config))
    loop.resume(resume_from)
    packed = packs(decoder_of(student), training.max_length)
    micro_batches = MicroBatches(training, accelerator, _lengths_of, packed=packed)
    for step in loop.steps(stop_requested):
        batch = _own_batch(examples, training, step, accelerator)
        accumulate = partial(_backward, loop, micro_batches, batch)
        with reading(accelerator, student):
            numbers = micro_batches.run(accumulate, loop.optimizer.zero_grad)
        grad_norm = loop.update(numbers["loss"])
        record = loop.finish_step(numbers, grad_norm)
        if accelerator.is_main_process:
            on_step(record, training.steps)
    return loop.step, loop.done


def _own_batch(examples: list[Example], training: TrainingConfig, step: int, accelerator: Accelerator) -> list[Example]:
    """This process's examples of a step: a function of (seed, step)."""
    size = training.batch_size // accelerator.num_processes
    order = prompt_order(len(examples), (step - 1) * training.batch_size, training.batch_size, training.seed)
    first = accelerator.process_index * size
    return [examples[index] for index in order[first : first + size]]


def _lengths_of(example: Example) -> tuple[int, ...]:
    return (len(example.prompt_ids) + len(example.completion_ids) - 1,)


def _backward(loop: TrainingLoop, micro_batches: MicroBatches[Example], batch: list[Example]) -> dict[str, Any]:
    """Accumulate the gradient of a step's mean loss over all completion ids.

    Returns that mean, the number of ids as rows and tokens, and the share of padding.
    """
    accelerator, parts = loop.accelerator, micro_batches.split(batch)
    processes = accelerator.num_processes
    own_rows = torch.tensor(sum(len(example.completion_ids) for example in batch), device=accelerator.device)
    rows = int(accelerator.reduce(own_rows)) if processes > 1 else int(own_rows)
    loss_sum = torch.zeros((), device=accelerator.device)
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        with nullcontext() if last else accelerator.no_sync(loop.module):
            part_sum = loop.module(micro_batches.begin(part))
            loss_sum += part_sum.detach()
            # gradients are averaged over processes; this makes them those of the mean over all rows
            accelerator.backward(part_sum * (processes / rows))
    loss = float(accelerator.reduce(loss_sum) if processes > 1 else loss_sum) / rows
    padding = micro_batches.padding(parts)
    return {"loss": loss, "rows": rows, "tokens": rows, "padding_share": padding.share}
