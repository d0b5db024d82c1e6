"""Distillation under Accelerate: the student writes, the teacher grades every unit, the student learns.

One optimizer step takes `batch_size` rollouts over all processes. The gradient is that of the mean over *all* rows of
the step: micro-batches add up sums, and the sum is divided once by the number of rows on all processes, so that
splitting the step differently does not change it. With several teachers it is the weighted mean over the rows of all of
them, each row counting by its teacher's weight. Rollouts, data order and learning rate are functions of (seed, step),
so a resumed run continues as if it had not stopped.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from transformers import PreTrainedModel

from simct.config import RunConfig, dump_config
from simct.data.routing import graded_completions, graded_rollouts, lengths_of_models, written_by_teachers
from simct.data.samples import (
    PreparedPrompt,
    Sample,
    StepPrompts,
    prompts_of_step,
    rollout_statistics,
    shown_rollouts,
    write_rollouts,
)
from simct.errors import ConfigError, RunError
from simct.evaluation.records import DISTANCE, at_least_as_near
from simct.losses.head import decoder_of
from simct.losses.teacher_rows import TeacherRows, certain_rows
from simct.models.loading import pad_id_of
from simct.models.packing import packs
from simct.models.rollout import Rollout
from simct.models.served import ServedTeacher
from simct.models.stored import StoredTeacher
from simct.models.teachers import LocalTeacher, PairedTeacher, Teacher, paired
from simct.models.vllm import VllmWriter
from simct.tokenization.pair import TokenizerPair
from simct.training.collapse import CollapseWatch
from simct.training.distillation_step import DistillationStep, Graded
from simct.training.evaluation import Evaluator, Subjects, best_by_of
from simct.training.exclusions import ExclusionWatch
from simct.training.loop import TrainingLoop
from simct.training.metrics import StepTotals, added, gather_by_teacher, gather_record, gather_sums
from simct.training.micro_batches import MicroBatches
from simct.training.precision import reading, splits_weights, writing
from simct.training.sharding import (
    configure_deepspeed,
    deepspeed_step,
    on_all_processes,
    shard_teacher,
    whole_student,
    with_whole_weights,
)


@dataclass
class StepRollouts:
    """One process's rollouts of a step, and of each completion the samples of the teachers that grade it.

    What could not become a sample is counted by reason.
    """

    prompts: list[PreparedPrompt]
    rollouts: list[Rollout]
    samples: list[list[Sample]]
    excluded: Counter = field(default_factory=Counter)
    seconds: float = 0.0


class Trained(NamedTuple):
    """The last step, whether training is over, and the student: on the main process only if it was sharded.

    model_step: the step of the student, if it is not the last. ended_early: whether it no longer improved.
    """

    step: int
    done: bool
    student: PreTrainedModel | None
    model_step: int | None = None
    ended_early: bool = False


class Trainer:
    """Trains `student` in place on its own rollouts (and the teacher's, off-policy) of `prompts`.

    `teacher` is the run's, or all of them in the order of its list; `pair` is that of the first.

    `on_step(record, samples)` is called on the main process after every step with the line for metrics.jsonl and,
    every `samples_every` steps, some rollouts. `history` are the records of the steps before `resume_from`. The
    `evaluator` measures the student along the way.
    """

    def __init__(
        self,
        config: RunConfig,
        accelerator: Accelerator,
        teacher: Teacher | PreTrainedModel | Sequence[PairedTeacher],
        student: PreTrainedModel,
        pair: TokenizerPair,
        prompts: list[PreparedPrompt],
        checkpoints: Path,
        on_step: Callable[[dict, list[dict]], None] = lambda record, samples: None,
        stop_requested: Callable[[], bool] = lambda: False,
        resume_from: Path | None = None,
        history: Sequence[dict] = (),
        evaluator: Evaluator | None = None,
    ):
        """Raises ConfigError or RunError for settings that do not fit the processes or that vLLM cannot serve."""
        self.config, self.accelerator, self.pair, self.prompts = config, accelerator, pair, prompts
        self.student = student
        self.on_step, self.stop_requested, self.evaluator = on_step, stop_requested, evaluator
        self.processes, self.process = accelerator.num_processes, accelerator.process_index
        self.deepspeed = accelerator.distributed_type == DistributedType.DEEPSPEED
        self._setup_processes()
        self.teachers = self._setup_teachers(teacher)
        self.micro_batches = self._setup_micro_batches()
        # vLLM starts from the student's weights, so this comes before they are sharded
        self.vllm = _start_vllm(config, accelerator, student, pair, checkpoints)
        self.loop = self._setup_student(checkpoints)
        self.loop.resume(resume_from)
        past = [record for record in history if record["step"] <= self.loop.step]
        self.watch = CollapseWatch(past)
        graded = sum(len(prompt.by_teacher) for prompt in prompts) / len(prompts)
        self.exclusions = ExclusionWatch(round(config.training.batch_size * graded), past)
        if evaluator:
            evaluator.resume(self.loop.step, past)
            # killed after its last evaluation, before its student was saved
            self.loop.ended_early = bool(self.loop.step) and evaluator.without_progress(self.loop.best)

    def _setup_processes(self) -> None:
        if self.deepspeed:
            configure_deepspeed(self.accelerator, self.config)
        batch_size = self.config.training.batch_size
        if batch_size % self.processes:
            raise RunError(
                f"training.batch_size is {batch_size}; it must be a multiple of the {self.processes} processes."
            )
        self.local_size = batch_size // self.processes

    def _setup_teachers(self, teacher: Teacher | PreTrainedModel | Sequence[PairedTeacher]) -> Sequence[PairedTeacher]:
        """The teachers, frozen, compared where the student is, and split over the processes if asked for."""
        if isinstance(teacher, PreTrainedModel):
            teacher = LocalTeacher(teacher, self.pair.teacher)
        teachers = teacher if isinstance(teacher, Sequence) else paired(self.config, teacher, self.pair)
        for each in teachers:
            if isinstance(local := each.teacher, LocalTeacher):
                local.freeze(self.accelerator.device)
                if each.config.teacher.sharded and self.processes > 1:
                    shard_teacher(local.model)
                    # a separate lm_head, in case it shares its weight with the embedding, which is split now
                    output: torch.nn.Module = local.model.get_output_embeddings()
                    output.weight = torch.nn.Parameter(local.head.weight, requires_grad=False)
        return teachers

    def _setup_student(self, checkpoints: Path) -> TrainingLoop:
        if self.config.training.gradient_checkpointing:
            self.student.gradient_checkpointing_enable()
        self.student.train()
        pad_id = pad_id_of(self.pair.student.tokenizer, self.pair.student.end_ids)
        module = DistillationStep(self.student, self.teachers, pad_id)
        return TrainingLoop(
            self.accelerator,
            module,
            self.config.training,
            checkpoints,
            described=dump_config(self.config),
            best_by=best_by_of(self.config, self.evaluator),
        )

    def _setup_micro_batches(self) -> MicroBatches[list[Sample]]:
        models = self.config.teacher_models
        moved = any(model.offload or model.sharded for model in models)
        here = [not model.elsewhere for model in models]
        read = [self.student, *(each.teacher.model for each in self.teachers if isinstance(each.teacher, LocalTeacher))]
        training = self.config.training
        plain = not training.gradient_checkpointing and not splits_weights(self.accelerator)
        packed = plain and all(packs(decoder_of(model), training.max_length) for model in read)
        lengths = partial(lengths_of_models, here=here)
        return MicroBatches(training, self.accelerator, lengths, few_passes=moved, packed=packed)

    def train(self) -> Trained:
        """Train until config.training.steps, or until a stop is requested.

        Raises RunError when the loss or the gradient is not finite or the student collapses; the last checkpoint then
        holds the state before the damage.
        """
        self._evaluate()
        for step in self.loop.steps(self.stop_requested):
            written = self.rollout(step)
            totals, loss = self.grade(written.samples)
            record = gather_record(totals, rollout_statistics(self.pair, written.rollouts), written.excluded)
            if len(self.teachers) > 1:
                record |= gather_by_teacher(totals, [each.name for each in self.teachers])
            record |= gather_sums(added(each.teacher.usage() for each in self.teachers))
            grad_norm = self.update(record, loss)
            record = self.loop.finish_step(record, grad_norm) | {"seconds_generating": written.seconds}
            self._report(record, written)
            self._evaluate(record)
        return self._finish()

    def rollout(self, step: int) -> StepRollouts:
        """The completions of this process's prompts of a step, and the teacher's ids for them."""
        batch = self._prompts_of(step)
        own_prompts = list(batch.own.values())
        # dropout is also a function of (seed, step), so that a resumed run gets the same random numbers
        torch.manual_seed(step_seed(self.config.training.seed, step, self.process))
        if self.vllm is not None:
            rollouts = self._rollouts_of_vllm(self.vllm, step, batch)
        else:
            ids, indices = [prompt.student_ids for prompt in own_prompts], list(batch.own)
            write = partial(write_rollouts, self.student, self.pair.student, self.config, ids, step, indices)
            with writing(self.accelerator, self.student):
                rollouts = with_whole_weights(self.loop.module, write)
        excluded: Counter = Counter()
        written = written_by_teachers(self.teachers, batch.others, self.config, step, excluded)
        seconds = self.loop.seconds()
        samples = graded_rollouts(self.teachers, own_prompts, rollouts, excluded) + written
        samples += graded_completions(self.teachers, list(batch.given.values()), self.config, excluded)
        return StepRollouts(own_prompts, rollouts, samples, excluded, seconds)

    def _prompts_of(self, step: int) -> StepPrompts:
        return prompts_of_step(self.prompts, self.config, step, self.process, self.processes)

    def _rollouts_of_vllm(self, vllm: VllmWriter, step: int, batch: StepPrompts) -> list[Rollout]:
        """This step's rollouts, by the current weights or, if they were started ahead, by those of the step before."""

        def sync() -> None:
            # no process may still be waiting for completions by the older weights
            self.accelerator.wait_for_everyone()
            update = partial(vllm.sync, self.student) if self.accelerator.is_main_process else int
            with_whole_weights(self.loop.module, update)
            self.accelerator.wait_for_everyone()

        ahead = vllm.has_started(step)
        if not ahead:
            sync()
        rollouts = vllm.write([prompt.student_ids for prompt in batch.own.values()], step, list(batch.own))
        if self.config.rollout.ahead and step < self.config.training.steps:
            if ahead:
                sync()
            following = self._prompts_of(step + 1).own
            vllm.start([prompt.student_ids for prompt in following.values()], step + 1, list(following))
        return rollouts

    def grade(self, samples: list[list[Sample]]) -> tuple[StepTotals, torch.Tensor | None]:
        """Sum the losses of completions against their teachers and accumulate their gradient, a micro-batch at a time.

        Returns the totals and the differentiable loss of the last micro-batch. Under DeepSpeed, whose backward pass
        steps, that is the only micro-batch, and its backward pass is left to `update`.
        """
        with reading(self.accelerator, self.student):
            return self.micro_batches.run(partial(self._accumulate, samples), self.loop.optimizer.zero_grad)

    def _accumulate(self, samples: list[list[Sample]]) -> tuple[StepTotals, torch.Tensor | None]:
        """One attempt of `grade`, which runs out of memory if a micro-batch is too large."""
        parts = [samples] if self.deepspeed else self.micro_batches.split(samples)
        totals, loss = StepTotals(padding=self.micro_batches.padding(parts)), None
        # every process runs the same number of passes, if necessary over a sample that does not count
        parts += [[]] * (on_all_processes(self.accelerator, len(parts)) - len(parts))
        passes = [part or [[self._placeholder()]] for part in parts]
        # a teacher elsewhere scores the next micro-batches while this one trains
        started = [self._start_scoring(each, counts=bool(part)) for part, each in zip(parts, passes, strict=True)]
        for number, (part, each_pass, graded) in enumerate(zip(parts, passes, started, strict=True)):
            self.micro_batches.begin(each_pass)
            with nullcontext() if number == len(parts) - 1 else self.accelerator.no_sync(self.loop.module):
                scored = graded()
                results = self.loop.module(scored)
                weighted = []
                for each, result in zip(scored, results, strict=True):
                    teacher = self.teachers[each.place]
                    weighted.append(teacher.weight * result.loss_sum)
                    if part:
                        tokens = sum(len(piece) for sample in each.samples for piece in sample.student_pieces)
                        totals.add(result, tokens, teacher.name, teacher.weight)
                loss = torch.stack(weighted).sum() * bool(part)
                if not self.deepspeed:
                    self.accelerator.backward(loss)
        return totals, loss

    def _placeholder(self) -> Sample:
        prompt = self.prompts[0]
        pair = self.teachers[prompt.teacher].pair
        return Sample(prompt, [int(pair.shared_student_ids[0])], [int(pair.shared_teacher_ids[0])])

    def _start_scoring(self, completions: list[list[Sample]], counts: bool = True) -> Callable[[], list[Graded]]:
        """Ask each teacher for its rows; calling what this returns waits for them, one teacher after another.

        A teacher elsewhere is not asked about a placeholder, which does not count.
        """
        samples = [sample for each in completions for sample in each]
        asked: list[tuple[int, list[Sample], Callable[[], TeacherRows]]] = []
        for place in sorted({sample.prompt.teacher for sample in samples}):
            own = [sample for sample in samples if sample.prompt.teacher == place]
            teacher = self.teachers[place].teacher
            if not counts and isinstance(teacher, ServedTeacher | StoredTeacher):
                asked.append((place, own, partial(certain_rows, own[0].teacher_ids, teacher.vocabulary)))
                continue
            rows = teacher.start(
                [sample.prompt.teacher_ids for sample in own],
                [sample.teacher_ids for sample in own],
                [sample.teacher_spans for sample in own],
            )
            asked.append((place, own, rows))
        return lambda: [Graded(place, own, rows()) for place, own, rows in asked]

    def update(self, record: dict[str, Any], loss: torch.Tensor | None) -> float:
        """Take the optimizer's step with the gradient of the mean over all rows; returns the gradient's norm."""
        rows = record.get("weighted_rows", record["rows"])
        if self.deepspeed:
            if loss is None:
                return 0.0
            return deepspeed_step(self.accelerator, self.loop.module, loss * (self.processes / max(1, rows)))
        if not rows:
            return 0.0
        for parameter in self.loop.parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(self.processes / rows)
        return self.loop.update(record["loss"])

    def _report(self, record: dict[str, Any], written: StepRollouts) -> None:
        training, step = self.config.training, record["step"]
        record |= self.exclusions.add(record)
        if self.accelerator.is_main_process:
            show = step == 1 or step == training.steps or step % training.samples_every == 0
            self.on_step(record, shown_rollouts(self.pair, written.prompts, written.rollouts, step) if show else [])
        self.exclusions.check()
        if training.stop_on_collapse:
            self.watch.add(record)

    def _evaluate(self, record: dict[str, Any] | None = None) -> None:
        """Evaluate the student if an evaluation is due. `record` is the step's, or None for an evaluation that a
        resumed run still lacks.
        """
        evaluator, loop = self.evaluator, self.loop
        if evaluator is None:
            return
        if record:
            evaluator.step_seconds.append(record["seconds"])
        if not evaluator.due(loop.step):
            return
        if loop.step:
            # so that no step is lost if the run is killed during the evaluation, and the best student can be kept
            loop.checkpoint()
        found = evaluator.evaluate(loop.step, Subjects(self.student, loop.module, self.teachers, loop.average))
        if found is None:
            return
        value = found.value(loop.best_by)
        if loop.step and value is not None:
            by_distance, best = loop.best_by == DISTANCE, loop.best
            before = [each for each in evaluator.evaluations if best and each.step == best.step]
            better = at_least_as_near(found, before[0]) if by_distance and before else None
            loop.note_best(value, higher_is_better=not by_distance, better=better)
        evaluator.record(found, record, loop.best)
        loop.ended_early = bool(loop.step) and evaluator.without_progress(loop.best)

    def _finish(self) -> Trained:
        step, done = self.loop.step, self.loop.done
        model_step = self.loop.load_best() if done and self.config.training.keep == "best" else step
        if self.loop.average:
            self.loop.average.apply()
        if self.vllm is not None:
            self.vllm.close()
        for each in self.teachers:
            each.teacher.close()
        student: PreTrainedModel | None = self.student
        if self.accelerator.distributed_type == DistributedType.FSDP:
            student = whole_student(self.loop.module, self.student, self.accelerator.is_main_process)
        return Trained(step, done, student, model_step, self.loop.ended_early)


def step_seed(seed: int, step: int, process: int) -> int:
    """The seed of a process's random numbers in a step other than those of its rollouts."""
    return int(np.random.SeedSequence([seed, 15485863, step, process]).generate_state(1, np.uint32)[0])


def _start_vllm(
    config: RunConfig, accelerator: Accelerator, student: PreTrainedModel, pair: TokenizerPair, checkpoints: Path
) -> VllmWriter | None:
    if config.rollout.engine != "vllm":
        return None
    if accelerator.num_processes > 1 and not config.rollout.vllm_url:
        raise ConfigError(
            "vLLM in the trainer's process works with one process only. Set rollout.vllm_url, or launch one process."
        )
    return VllmWriter(config, student, pair.student, checkpoints.parent / ".vllm")
