"""Plain supervised fine-tuning on completions, under Accelerate: what the warm start trains by.

One optimizer step takes a batch over all processes; its gradient is that of the mean over all completion ids of the
step, however it is split. Data order and learning rate are functions of (seed, step), so a resumed run continues as if
it had not stopped. Shapes: N completion ids of a micro-batch, H hidden size, V vocabulary.
"""

import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch.nn.functional import cross_entropy

from simct.config import RunConfig
from simct.config.sections import TrainingConfig
from simct.data.samples import prompt_order
from simct.errors import RunError
from simct.losses.head import Head
from simct.losses.side import HeadSide, Totals, backpropagate, chunk_rows_for, one_pass, row_chunks
from simct.models.loading import hidden_rows, pad_id_of
from simct.tokenization.token_bytes import TokenBytes
from simct.training.checkpoints import checkpoint_trained_parameters, save_checkpoint
from simct.training.optimizer import build_optimizer
from simct.training.schedule import learning_rate_at
from simct.training.sharding import on_any_process


@dataclass(frozen=True)
class Example:
    """Token ids of the student: what it reads, and what it is to write (its end of turn included)."""

    prompt_ids: list[int]
    completion_ids: list[int]


class FineTuningStep(torch.nn.Module):
    """The student with its loss inside, so that distributed wrappers see all that uses its parameters."""

    def __init__(self, student, pad_id: int):
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
    """Σ −log p(id) in nats, with logits of a few rows at a time; allows one backward."""
    side = HeadSide(hidden_NH, head, torch.zeros(0, dtype=torch.long, device=ids_N.device))

    def accumulate(student: HeadSide, teacher: None) -> Totals:
        total = torch.zeros((), device=hidden_NH.device)
        rows_N = torch.arange(len(ids_N), device=ids_N.device)
        for rows in row_chunks(rows_N, chunk_rows_for(ids_N.device, side.vocabulary)):
            block = student.block(rows)
            wanted = ids_N[rows]
            total += backpropagate(block, partial(cross_entropy, target=wanted, reduction="none")).sum()
        return Totals(total, len(ids_N))

    return one_pass(accumulate, side, None)[0]


def warmup_training(config: RunConfig, n_examples: int, processes: int) -> TrainingConfig:
    """The optimization of the warm-up: `training` with the warm-up's rate and batch, and steps for its epochs."""
    warmup = config.warmup
    batch_size = min(warmup.batch_size, n_examples)
    batch_size = max(1, batch_size // processes) * processes
    return config.training.model_copy(
        update={
            "learning_rate": warmup.learning_rate,
            "batch_size": batch_size,
            "steps": math.ceil(warmup.epochs * n_examples / batch_size),
        }
    )


def fine_tune(
    config: RunConfig,
    accelerator: Accelerator,
    student,
    tokens: TokenBytes,
    examples: list[Example],
    checkpoints: Path,
    on_step: Callable[[dict, int], None] = lambda record, total: None,
    stop_requested: Callable[[], bool] = lambda: False,
    resume_from: Path | None = None,
) -> tuple[int, bool]:
    """Train `student` in place on `examples`; returns (last step, whether all steps were done).

    `on_step(record, total steps)` is called on the main process. Raises RunError when the loss is not finite.
    """
    world = accelerator.num_processes
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        raise RunError("A warm-up keeps the student whole on each process: set training.parallel to ddp.")
    training = warmup_training(config, len(examples), world)
    local_size = training.batch_size // world
    if training.gradient_checkpointing:
        student.gradient_checkpointing_enable()
    student.train()
    torch.manual_seed(training.seed)
    module = FineTuningStep(student, pad_id_of(tokens.tokenizer, tokens.end_ids))
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    module, optimizer = accelerator.prepare(module, build_optimizer(parameters, training))
    checkpoint_trained_parameters(accelerator)
    step = 0
    losses: list[float] = []
    if resume_from is not None:
        accelerator.load_state(str(resume_from))
        step = json.loads((resume_from / "trainer.json").read_text())["step"]

    def save_state(folder: Path) -> None:
        accelerator.save_state(str(folder))

    def checkpoint() -> None:
        loss = sum(losses) / len(losses) if losses else math.nan
        save_checkpoint(accelerator, save_state, checkpoints, step, training.keep_checkpoints, loss)
        losses.clear()

    while step < training.steps:
        if on_any_process(accelerator, stop_requested()):
            checkpoint()
            return step, False
        step += 1
        started = time.perf_counter()
        order = prompt_order(len(examples), (step - 1) * training.batch_size, training.batch_size, training.seed)
        first = accelerator.process_index * local_size
        batch = [examples[index] for index in order[first : first + local_size]]
        rows = torch.tensor(sum(len(example.completion_ids) for example in batch), device=accelerator.device)
        all_rows = int(accelerator.reduce(rows)) if world > 1 else int(rows)
        loss_sum = torch.zeros((), device=accelerator.device)
        for start in range(0, local_size, training.micro_batch_size):
            last = start + training.micro_batch_size >= local_size
            with nullcontext() if last else accelerator.no_sync(module):
                part_sum = module(batch[start : start + training.micro_batch_size])
                loss_sum += part_sum.detach()
                # gradients are averaged over processes; this makes them those of the mean over all rows
                accelerator.backward(part_sum * (world / all_rows))
        loss = float(accelerator.reduce(loss_sum) if world > 1 else loss_sum) / all_rows
        grad_norm = float(accelerator.clip_grad_norm_(parameters, training.max_grad_norm))
        if not (math.isfinite(loss) and (math.isfinite(grad_norm) or accelerator.scaler)):
            raise RunError(
                f"Warm-up step {step}: loss {loss}, gradient norm {grad_norm}. It stopped before applying it; lower "
                "warmup.learning_rate or use float32, and resume from the last checkpoint."
            )
        rate = learning_rate_at(step, training)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss)
        if accelerator.is_main_process:
            record = {"step": step, "loss": loss, "rows": all_rows, "tokens": all_rows, "learning_rate": rate}
            on_step(
                record | {"grad_norm": grad_norm, "seconds": round(time.perf_counter() - started, 4)}, training.steps
            )
        if step % training.checkpoint_every == 0 and step < training.steps:
            checkpoint()
    checkpoint()
    return step, True
