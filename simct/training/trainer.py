"""The Accelerate loop: the student writes, the teacher grades every unit, the student learns.

One optimizer step takes `batch_size` rollouts over all processes. The gradient is that of the mean over *all* rows of
the step: micro-batches add up sums, and the sum is divided once by the number of rows on all processes, so that
splitting the step differently does not change it. Rollouts, data order and learning rate are functions of (seed, step),
so a resumed run continues as if it had not stopped.
"""

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object

from simct import losses
from simct.config import RunConfig
from simct.data.samples import (
    PreparedPrompt,
    StepPrompts,
    placeholder,
    prompts_of_step,
    rollout_statistics,
    samples_of_teacher,
    shown_rollouts,
    to_samples,
    write_rollouts,
)
from simct.errors import ConfigError, RunError
from simct.losses.head import Head
from simct.models.loading import hidden_rows, pad_id_of
from simct.models.rollout import Rollout
from simct.models.vllm import VllmWriter
from simct.tokenization.pair import TokenizerPair
from simct.training.checkpoints import (
    checkpoint_trained_parameters,
    load_sharded,
    save_checkpoint,
    save_sharded,
    trained_parameters,
)
from simct.training.collapse import CollapseWatch
from simct.training.optimizer import WeightAverage, build_optimizer
from simct.training.schedule import learning_rate_at
from simct.training.sharding import (
    deepspeed_step,
    on_any_process,
    settle_deepspeed,
    shard_teacher,
    to_whole,
    whole_student,
    with_whole_weights,
)


@dataclass
class StepTotals:
    """Sums over the micro-batches of one step on one process."""

    loss_sum: float = 0.0
    rows: int = 0
    stats: Counter = field(default_factory=Counter)
    weights: Counter = field(default_factory=Counter)

    def add(self, result, student_tokens: int) -> None:
        self.loss_sum += float(result.loss_sum.detach())
        self.rows += result.rows
        for name, value in result.stats.items():
            if name.startswith("units_"):
                self.stats[name] += value
                continue
            # a mean is weighted by what it is a mean of, so that micro-batches of any size add up
            weight = result.stats.get(f"units_{name.removeprefix('kl_')}", result.rows)
            if name.startswith("coverage_"):
                weight = student_tokens
            if weight and math.isfinite(value):
                self.stats[name] += value * weight
                self.weights[name] += weight


class DistillationStep(torch.nn.Module):
    """The student with the loss inside its forward pass, so that DDP and FSDP see all that uses its parameters."""

    def __init__(self, student, pair: TokenizerPair, config: RunConfig, pad_id: int):
        super().__init__()
        self.student = student
        # the layers that Accelerate gives shards of their own
        self._no_split_modules = list(getattr(student, "_no_split_modules", None) or [])
        self.pair, self.config, self.pad_id = pair, config, pad_id

    def forward(self, samples=(), teacher_hidden_TH=None, teacher_head=None, inside: Callable | None = None):
        """The LossResult of `samples`, with the teacher's hidden states [T, H]; or what `inside()` returns."""
        if inside is not None:
            return inside()
        student_hidden_SH, _ = hidden_rows(
            self.student,
            [sample.prompt.student_ids for sample in samples],
            [sample.student_ids for sample in samples],
            self.pad_id,
        )
        return losses.compute_from_hidden(
            self.config.method,
            self.pair,
            student_hidden_SH,
            Head.of(self.student),
            teacher_hidden_TH,
            teacher_head,
            [sample.student_ids for sample in samples],
            [sample.teacher_ids for sample in samples],
            divergence=self.config.divergence,
            **self.config.method_options,
        )


class Trained(NamedTuple):
    """What `train` leaves: the last step, whether all were done, the student (on the main process only if sharded)."""

    step: int
    done: bool
    student: torch.nn.Module | None


def train(
    config: RunConfig,
    accelerator: Accelerator,
    teacher,
    student,
    pair: TokenizerPair,
    prompts: list[PreparedPrompt],
    checkpoints: Path,
    on_step: Callable[[dict, list[dict]], None] = lambda record, samples: None,
    stop_requested: Callable[[], bool] = lambda: False,
    resume_from: Path | None = None,
    history: Sequence[dict] = (),
) -> Trained:
    """Train `student` in place until config.training.steps, or until `stop_requested`.

    `on_step(record, samples)` is called on the main process after every step with the line for metrics.jsonl and,
    every `samples_every` steps, some rollouts. `history` are the records of the steps before `resume_from`.
    Raises RunError when the loss or the gradient is not finite or the student
    collapses; the last checkpoint then holds the state before the damage.
    """
    training, world = config.training, accelerator.num_processes
    sharded = accelerator.distributed_type == DistributedType.FSDP
    deepspeed = accelerator.distributed_type == DistributedType.DEEPSPEED
    if deepspeed:
        settle_deepspeed(accelerator, config)
    if training.batch_size % world:
        raise RunError(f"training.batch_size is {training.batch_size}; it must be a multiple of the {world} processes.")
    local_size = training.batch_size // world
    student_pad = pad_id_of(pair.student.tokenizer, pair.student.end_ids)
    teacher_pad = pad_id_of(pair.teacher.tokenizer, pair.teacher.end_ids)
    teacher.requires_grad_(False).eval()
    teacher_head = _head_on(accelerator.device, teacher)
    if config.teacher.sharded and world > 1:
        shard_teacher(teacher)
    if training.gradient_checkpointing:
        student.gradient_checkpointing_enable()
    student.train()
    module = DistillationStep(student, pair, config, student_pad)
    optimizer = build_optimizer(trained_parameters(module).values(), training)
    writer = _vllm_writer(config, accelerator, student, pair, checkpoints)
    module, optimizer = accelerator.prepare(module, optimizer)
    parameters = list(trained_parameters(module).values())
    checkpoint_trained_parameters(accelerator)
    average = WeightAverage(parameters, training.ema_decay) if training.ema_decay else None
    if average:
        accelerator.register_for_checkpointing(average)
    step = 0
    if resume_from is not None:
        if sharded:
            load_sharded(module, optimizer, average, resume_from)
        else:
            accelerator.load_state(str(resume_from))
        step = json.loads((resume_from / "trainer.json").read_text())["step"]
    watch = CollapseWatch([record for record in history if record["step"] <= step])
    recent: list[float] = []

    def save_state(folder: Path) -> None:
        if sharded:
            save_sharded(accelerator, module, optimizer, average, folder)
        else:
            accelerator.save_state(str(folder))

    def checkpoint() -> None:
        loss = sum(recent) / len(recent) if recent else math.nan
        save_checkpoint(accelerator, save_state, checkpoints, step, training.keep_checkpoints, loss)
        recent.clear()

    done = True
    while step < training.steps:
        if on_any_process(accelerator, stop_requested()):
            done = False
            break
        step += 1
        started = time.perf_counter()
        batch = prompts_of_step(prompts, config, step, accelerator.process_index, world)
        own_prompts, other_prompts = list(batch.own.values()), list(batch.others.values())
        # dropout, too, is a function of (seed, step), so that a resumed run draws what the uninterrupted one would
        torch.manual_seed(step_seed(training.seed, step, accelerator.process_index))
        if writer is None:
            ids, indices = [prompt.student_ids for prompt in own_prompts], list(batch.own)
            write = partial(write_rollouts, student, pair.student, config, ids, step, indices)
            rollouts = with_whole_weights(module, write)
        else:
            following = None
            if config.rollout.ahead and step < training.steps:
                following = prompts_of_step(prompts, config, step + 1, accelerator.process_index, world)
            rollouts = written_by_vllm(accelerator, writer, module, student, step, batch, following)
        off_policy = write_rollouts(
            teacher, pair.teacher, config, [prompt.teacher_ids for prompt in other_prompts], step, list(batch.others)
        )
        generated = time.perf_counter()
        excluded: Counter = Counter()
        samples = to_samples(pair, own_prompts, rollouts, excluded)
        samples += samples_of_teacher(pair, other_prompts, off_policy, excluded)
        totals = StepTotals()
        micro_batches = math.ceil(local_size / training.micro_batch_size)
        for number in range(micro_batches):
            part = samples[number * training.micro_batch_size : (number + 1) * training.micro_batch_size]
            last = number == micro_batches - 1
            if not part and world == 1:
                continue
            # every process runs the same number of passes, over a sample that counts nothing if need be
            seen = part or [placeholder(prompts[0], pair)]
            with nullcontext() if last else accelerator.no_sync(module):
                with torch.no_grad():
                    teacher_hidden_TH, _ = hidden_rows(
                        teacher,
                        [sample.prompt.teacher_ids for sample in seen],
                        [sample.teacher_ids for sample in seen],
                        teacher_pad,
                    )
                result = module(seen, teacher_hidden_TH, teacher_head)
                if part:
                    totals.add(result, sum(len(sample.student_ids) for sample in part))
                if not deepspeed:
                    accelerator.backward(result.loss_sum * bool(part))
        record = _gather(accelerator, pair, totals, rollouts, excluded)
        rows = record["rows"]
        rate = learning_rate_at(step, training)
        grad_norm = 0.0
        for group in optimizer.param_groups:
            group["lr"] = rate
        if deepspeed:
            grad_norm = deepspeed_step(accelerator, module, result.loss_sum * (bool(part) * world / max(1, rows)))
        elif rows:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.mul_(world / rows)
            grad_norm = float(to_whole(accelerator.clip_grad_norm_(parameters, training.max_grad_norm)))
            # under fp16 a gradient overflows now and then, and the scaler then skips the step by itself
            if not (math.isfinite(record["loss"]) and (math.isfinite(grad_norm) or accelerator.scaler)):
                raise RunError(
                    f"Step {step}: loss {record['loss']}, gradient norm {grad_norm}. The run stopped before applying "
                    "it; lower training.learning_rate or use float32, and resume from the last checkpoint."
                )
            optimizer.step()
        if average and rows:
            average.update()
        optimizer.zero_grad(set_to_none=True)
        record |= {
            "step": step,
            "learning_rate": rate,
            "grad_norm": grad_norm,
            "seconds": round(time.perf_counter() - started, 4),
            "seconds_generating": round(generated - started, 4),
        }
        recent.append(record["loss"])
        if accelerator.is_main_process:
            show = step == 1 or step == training.steps or step % training.samples_every == 0
            on_step(record, shown_rollouts(pair, own_prompts, rollouts, step) if show else [])
        if training.stop_on_collapse:
            watch.add(record)
        if step % training.checkpoint_every == 0 and step < training.steps:
            checkpoint()
    checkpoint()
    if average:
        average.apply()
    if writer is not None:
        writer.close()
    return Trained(step, done, whole_student(module, student, accelerator.is_main_process) if sharded else student)


def written_by_vllm(
    accelerator: Accelerator, writer: VllmWriter, module, student, step: int, batch: StepPrompts, following
) -> list[Rollout]:
    """This step's rollouts, by the weights as they are now or, if it was begun before, as they were then.

    `following` are the StepPrompts that vLLM is to begin now, while this step is trained; None for none.
    """

    def sync() -> None:
        # nobody may still be waiting for what the older weights write
        accelerator.wait_for_everyone()
        with_whole_weights(module, partial(writer.sync, student) if accelerator.is_main_process else int)
        accelerator.wait_for_everyone()

    begun = writer.has_begun(step)
    if not begun:
        sync()
    rollouts = writer.write([prompt.student_ids for prompt in batch.own.values()], step, list(batch.own))
    if following is not None:
        if begun:
            sync()
        writer.begin([prompt.student_ids for prompt in following.own.values()], step + 1, list(following.own))
    return rollouts


def step_seed(seed: int, step: int, process: int) -> int:
    """The seed of what a process draws in a step beside its rollouts."""
    return int(np.random.SeedSequence([seed, 15485863, step, process]).generate_state(1, np.uint32)[0])


def _vllm_writer(config: RunConfig, accelerator, student, pair: TokenizerPair, checkpoints: Path) -> VllmWriter | None:
    if config.rollout.engine != "vllm":
        return None
    if accelerator.num_processes > 1 and not config.rollout.vllm_url:
        raise ConfigError("vLLM beside the trainer takes one process. Give rollout.vllm_url, or launch one process.")
    return VllmWriter(config, student, pair.student, checkpoints.parent / ".vllm")


def _head_on(device: torch.device, model) -> Head:
    """The model's lm_head on `device`: a teacher placed elsewhere is compared where the student is."""
    head = Head.of(model)
    return replace(head, weight=head.weight.to(device), bias=None if head.bias is None else head.bias.to(device))


def _gather(accelerator, pair, totals: StepTotals, rollouts, excluded: Counter) -> dict:
    """The step's record over all processes: sums added up, then turned into means and shares."""
    local = {
        "loss_sum": totals.loss_sum,
        "rows": totals.rows,
        "stats": totals.stats,
        "weights": totals.weights,
        "excluded": excluded,
        **rollout_statistics(pair, rollouts),
    }
    parts = gather_object([local])
    total = {name: sum(part[name] for part in parts) for name in local if not isinstance(local[name], Counter)}
    stats: dict[str, float] = {}
    weights: dict[str, float] = {}
    left_out: dict[str, int] = {}
    into: dict[str, Any]
    for name, into in (("stats", stats), ("weights", weights), ("excluded", left_out)):
        for part in parts:
            for key, value in part[name].items():
                into[key] = into.get(key, 0) + value
    written = max(1, total["rollouts"])
    means = {name: value / weights[name] if name in weights else value for name, value in stats.items()}
    return {
        "loss": total["loss_sum"] / total["rows"] if total["rows"] else 0.0,
        "rows": total["rows"],
        **means,
        "response_length": total["tokens"] / written,
        "eos_rate": total["ended"] / written,
        "canonical_rate": total["canonical"] / written,
        "excluded": left_out,
        "tokens": total["tokens"],
    }
