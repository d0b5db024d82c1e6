"""The Accelerate loop: the student writes, the teacher grades every unit, the student learns.

One optimiser step takes `batch_size` rollouts over all processes. The gradient is that of the mean over *all* rows of
the step: micro-batches add up sums, and the sum is divided once by the number of rows on all processes, so that
splitting the step differently does not change it. Rollouts, data order and learning rate are functions of (seed, step),
so a resumed run continues as if it had not stopped.
"""

import json
import math
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object
from safetensors.torch import load_file, save_file

from simct import losses
from simct.collapse import CollapseWatch
from simct.config import RunConfig
from simct.errors import RunError
from simct.jobs.run_folder import read_json, write_atomically
from simct.losses.head import Head
from simct.models import hidden_rows, pad_id_of
from simct.optimization import WeightAverage, build_optimizer, learning_rate_at
from simct.samples import (
    PreparedPrompt,
    Sample,
    placeholder,
    prompt_order,
    rollout_statistics,
    samples_of_teacher,
    shown_rollouts,
    student_writes,
    to_samples,
    write_rollouts,
)
from simct.tokenizer_pair import TokenizerPair

TRAINED_FILE = "trained.safetensors"


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
        self.pair, self.config, self.pad_id = pair, config, pad_id

    def forward(self, samples: list[Sample], teacher_hidden_TH: torch.Tensor, teacher_head: Head):
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


def checkpoint_trained_parameters(accelerator: Accelerator) -> None:
    """Let checkpoints hold the trained parameters only: no frozen base under LoRA, no tied weight twice."""

    def trained(model) -> dict[str, torch.nn.Parameter]:
        named = accelerator.unwrap_model(model).named_parameters()
        return {name: parameter for name, parameter in named if parameter.requires_grad}

    def save(models, weights, folder) -> None:
        if accelerator.is_main_process:
            tensors = {name: parameter.detach().contiguous() for name, parameter in trained(models[0]).items()}
            save_file(tensors, Path(folder) / TRAINED_FILE)
        weights.clear()

    def load(models, folder) -> None:
        saved = load_file(Path(folder) / TRAINED_FILE)
        with torch.no_grad():
            for name, parameter in trained(models[0]).items():
                parameter.copy_(saved[name])
        models.clear()

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)


def save_checkpoint(accelerator: Accelerator, folder: Path, step: int, keep: int, loss: float) -> None:
    """Write checkpoints/step-N whole or not at all, then drop the oldest beyond `keep`.

    `loss` is the mean since the checkpoint before; best.json names the checkpoint with the lowest, which stays.
    """
    target, temporary = folder / f"step-{step}", folder / f".step-{step}"
    if accelerator.is_main_process:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(temporary))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (temporary / "trainer.json").write_text(json.dumps({"step": step}))
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary, target)
        best = read_json(folder / "best.json")
        if math.isfinite(loss) and loss <= best.get("loss", math.inf):
            best = {"step": step, "loss": loss}
            write_atomically(folder / "best.json", json.dumps(best))
        steps = sorted(int(path.name[5:]) for path in folder.glob("step-*") if path.name[5:].isdigit())
        for old in steps[:-keep]:
            if old != best.get("step"):
                shutil.rmtree(folder / f"step-{old}", ignore_errors=True)
    accelerator.wait_for_everyone()


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
) -> tuple[int, bool]:
    """Train `student` in place until config.training.steps, or until `stop_requested`.

    `on_step(record, samples)` is called on the main process after every step with the line for metrics.jsonl and,
    every `samples_every` steps, some rollouts. `history` are the records of the steps before `resume_from`. Returns
    (last step, whether all steps were done). Raises RunError when the loss or the gradient is not finite or the student
    collapses; the last checkpoint then holds the state before the damage.
    """
    training, world = config.training, accelerator.num_processes
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        raise RunError(f"Sharded training ({accelerator.distributed_type.value}) is not supported; launch one per GPU.")
    if training.batch_size % world:
        raise RunError(f"training.batch_size is {training.batch_size}; it must be a multiple of the {world} processes.")
    local_size = training.batch_size // world
    prompts_per_step = training.batch_size // config.rollout.samples_per_prompt
    student_pad = pad_id_of(pair.student.tokenizer, pair.student.end_ids)
    teacher_pad = pad_id_of(pair.teacher.tokenizer, pair.teacher.end_ids)
    teacher.requires_grad_(False).eval()
    teacher_head = _head_on(accelerator.device, teacher)
    if training.gradient_checkpointing:
        student.gradient_checkpointing_enable()
    student.train()
    torch.manual_seed(training.seed)
    module = DistillationStep(student, pair, config, student_pad)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    module, optimizer = accelerator.prepare(module, build_optimizer(parameters, training))
    checkpoint_trained_parameters(accelerator)
    average = WeightAverage(parameters, training.ema_decay) if training.ema_decay else None
    if average:
        accelerator.register_for_checkpointing(average)
    step = 0
    if resume_from is not None:
        accelerator.load_state(str(resume_from))
        step = json.loads((resume_from / "trainer.json").read_text())["step"]
    watch = CollapseWatch([record for record in history if record["step"] <= step])
    recent: list[float] = []

    def checkpoint() -> None:
        loss = sum(recent) / len(recent) if recent else math.nan
        save_checkpoint(accelerator, checkpoints, step, training.keep_checkpoints, loss)
        recent.clear()

    done = True
    while step < training.steps:
        if _any_process(accelerator, stop_requested()):
            done = False
            break
        step += 1
        started = time.perf_counter()
        order = prompt_order(len(prompts), (step - 1) * prompts_per_step, prompts_per_step, training.seed)
        indices = list(range(accelerator.process_index * local_size, (accelerator.process_index + 1) * local_size))
        batch = {index: prompts[order[index // config.rollout.samples_per_prompt]] for index in indices}
        fraction = config.rollout.on_policy_fraction
        own = [index for index in indices if student_writes(training.seed, step, index, fraction)]
        others = [index for index in indices if index not in own]
        own_prompts, other_prompts = [batch[index] for index in own], [batch[index] for index in others]
        rollouts = write_rollouts(
            student, pair.student, config, [prompt.student_ids for prompt in own_prompts], step, own
        )
        off_policy = write_rollouts(
            teacher, pair.teacher, config, [prompt.teacher_ids for prompt in other_prompts], step, others
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
                accelerator.backward(result.loss_sum * bool(part))
        record = _gather(accelerator, pair, totals, rollouts, excluded)
        rows = record["rows"]
        rate = learning_rate_at(step, training)
        grad_norm = 0.0
        if rows:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.mul_(world / rows)
            grad_norm = float(accelerator.clip_grad_norm_(parameters, training.max_grad_norm))
            # under fp16 a gradient overflows now and then, and the scaler then skips the step by itself
            if not (math.isfinite(record["loss"]) and (math.isfinite(grad_norm) or accelerator.scaler)):
                raise RunError(
                    f"Step {step}: loss {record['loss']}, gradient norm {grad_norm}. The run stopped before applying "
                    "it; lower training.learning_rate or use float32, and resume from the last checkpoint."
                )
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            if average:
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
    return step, done


def _head_on(device: torch.device, model) -> Head:
    """The model's lm_head on `device`: a teacher placed elsewhere is compared where the student is."""
    head = Head.of(model)
    return replace(head, weight=head.weight.to(device), bias=None if head.bias is None else head.bias.to(device))


def _any_process(accelerator: Accelerator, flag: bool) -> bool:
    """Whether `flag` is set on any process, so that all stop at the same step."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device)).item())


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
    stats, weights, left_out = {}, {}, {}
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
