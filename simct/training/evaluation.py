"""Evaluations while a run trains: distance to the teacher, tracked tasks, and greedy answers to a few fixed prompts.

The teacher's answers are drawn once and kept in the run folder; each evaluation writes a line to evaluations.jsonl and
its numbers to metrics.jsonl. Nothing here changes the training: random states and the student's mode are restored, and
weights that were exchanged for their running mean are restored exactly.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from transformers import PreTrainedModel

from simct.config import RunConfig
from simct.config.evaluation import LONGEST_ANSWER
from simct.data.samples import PreparedPrompt
from simct.errors import SimCTError
from simct.evaluation.distance import (
    Speaker,
    draw_some,
    log_probabilities,
    read_log_probabilities,
    readings,
    sampled_answers,
)
from simct.evaluation.records import DISTANCE, LOSS, Distance, Evaluation, FixedAnswer, evaluations_of
from simct.evaluation.tasks import evaluate_loaded
from simct.models.rollout import Rollout
from simct.models.teachers import PairedTeacher
from simct.runs.folder import RunFolder
from simct.runs.progress import Reporter
from simct.tokenization.pair import TokenizerPair
from simct.training.checkpoints import BestCheckpoint
from simct.training.evaluation_plan import Costs, EvaluationPlan, affordable, first_plan, plan_message
from simct.training.evaluation_text import evaluation_line, status_distance
from simct.training.metrics import write_evaluation
from simct.training.optimizer import WeightAverage
from simct.training.sharding import on_any_process, with_whole_weights
from simct.training.teacher_answers import (
    TeacherAnswer,
    greedy_answers,
    teacher_greedy_answers,
    text_of,
)
from simct.training.teacher_distance import (
    Directions,
    MeasuredTeacher,
    StudentReadings,
    mean_directions,
    measured_teachers,
)

# prompts whose greedy answers are kept
FIXED_PROMPTS = 4
READ_AT_ONCE = 32


@dataclass(frozen=True)
class Subjects:
    """What an evaluation measures: `module` is the student as Accelerate wrapped it.

    `average` is the running mean of its weights, if one is kept.
    """

    student: PreTrainedModel
    module: torch.nn.Module
    teachers: Sequence[PairedTeacher]
    average: WeightAverage | None


@dataclass
class StudentPart:
    """The results of the student's passes on one process, for each of the measured teachers in their order."""

    readings: list[StudentReadings]
    answers: list[FixedAnswer] = field(default_factory=list)
    tasks: dict[str, dict] = field(default_factory=dict)
    task_seconds: float = 0.0


class Evaluator:
    """Evaluates one run's student on its held-out prompts. Every method is to be called by all processes."""

    def __init__(
        self,
        run: RunFolder,
        config: RunConfig,
        accelerator: Accelerator,
        pair: TokenizerPair,
        prompts: Sequence[PreparedPrompt],
        log: Callable[[str], None] = lambda line: None,
        stop_requested: Callable[[], bool] = lambda: False,
    ) -> None:
        self.run, self.config, self.accelerator, self.prompts = run, config, accelerator, list(prompts)
        self.log, self.stop_requested = log, stop_requested
        self.student = pair.student
        self.max_new_tokens = min(config.rollout.max_new_tokens, LONGEST_ANSWER)
        self.split_teacher = config.teacher.sharded and accelerator.num_processes > 1
        self.evaluations: list[Evaluation] = []
        self.plan = first_plan(config.evaluation, config.training.steps, len(self.prompts))
        self.progress = Reporter(run, accelerator.is_main_process)
        self.step_seconds: list[float] = []
        self.teacher_seconds = 0.0
        self._measured: list[MeasuredTeacher] | None = None

    def resume(self, step: int, history: Sequence[Mapping[str, Any]]) -> None:
        """Continue after `step`, with the earlier evaluations and the earlier pace."""
        self.evaluations = [each for each in evaluations_of(self.run) if each.step <= step]
        self.step_seconds = [float(record["seconds"]) for record in history if "seconds" in record]
        last = self.evaluations[-1] if self.evaluations else None
        if last and last.every:
            self.plan = EvaluationPlan(last.every, min(last.prompts, len(self.prompts)))

    @property
    def measures_distance(self) -> bool:
        return bool(self.prompts)

    def due(self, step: int) -> bool:
        """Whether to evaluate now; first adapts the plan so that evaluations keep to their share of the time."""
        steps = self.config.training.steps
        if any(each.step == step for each in self.evaluations):
            return False
        if step == 0 or not self.plan.due(step, steps):
            return step == 0
        if self.step_seconds and self.evaluations:
            self._keep_to_time(step, steps)
        return self.plan.due(step, steps)

    def _keep_to_time(self, step: int, steps: int) -> None:
        last, share = self.evaluations[-1], self.config.evaluation.time_share
        spent = self.teacher_seconds + sum(each.seconds for each in self.evaluations)
        pace = sum(self.step_seconds) / len(self.step_seconds)
        costs = Costs(pace, last.seconds, last.task_seconds, spent)
        # clocks differ between processes, but all processes must do the same
        decided = [affordable(self.plan, step, steps, costs, share)]
        plan: EvaluationPlan = broadcast_object_list(decided)[0]
        if plan != self.plan:
            self.log(plan_message(self.plan, plan, costs, share))
        self.plan = plan

    def evaluate(self, step: int, subjects: Subjects) -> Evaluation | None:
        """Evaluate the current student; None if a stop was requested in the meantime."""
        with kept_random_state():
            measured = self._teachers(subjects.teachers)
            when = f"at step {step:,}" if step else "before training"
            self.progress.stage(f"Evaluating the student {when}", len(self._share()), "answers")
            started = time.perf_counter()
            with averaged(subjects.average):
                look = self._student_part
                part = with_whole_weights(subjects.module, lambda: look(subjects.student, measured))
            if on_any_process(self.accelerator, self.stop_requested()):
                return None
            directions = [self._directions(*each) for each in zip(measured, part.readings, strict=True)]
        seconds = time.perf_counter() - started
        for each in subjects.teachers:
            # the evaluation's use of a served teacher does not count toward a step
            each.teacher.usage()
        return self._gathered(step, measured, directions, part, seconds)

    def record(self, found: Evaluation, record: dict[str, Any] | None, best: BestCheckpoint | None) -> None:
        """Record an evaluation. `record` is the step's line of metrics.jsonl, None before training."""
        self.evaluations.append(found)
        if self.accelerator.is_main_process:
            write_evaluation(self.run, self.accelerator, found, record)
            self.run.set_status(distance=status_distance(self.evaluations, best), progress=None)
            self.log(evaluation_line(self.evaluations))

    def without_progress(self, best: BestCheckpoint | None) -> bool:
        """Whether `evaluation.patience` evaluations have passed without a better one."""
        patience, by = self.config.evaluation.patience, best_by_of(self.config, self)
        since = best.step if best else 0
        # one that measured nothing says nothing about progress; the loss is known without it
        later = [each for each in self.evaluations if each.step > since and (by == LOSS or each.value(by) is not None)]
        return patience is not None and len(later) >= patience

    # The passes

    def _share(self) -> range:
        """The indices of the prompts that this process takes."""
        return range(self.accelerator.process_index, self.plan.prompts, self.accelerator.num_processes)

    def _student_part(self, student: PreTrainedModel, measured: Sequence[MeasuredTeacher]) -> StudentPart:
        was_training = student.training
        student.eval()
        try:
            speaker = Speaker(student, self.student, [prompt.student_ids for prompt in self.prompts])
            share = self._share()
            seed, report = self.config.training.seed, self.progress.update
            drawn = draw_some(speaker, share, self.max_new_tokens, seed, self._batch_size, report)
            part = StudentPart([self._student_readings(speaker, drawn, each) for each in measured])
            if self.accelerator.is_main_process:
                part.answers = greedy_answers(speaker, FIXED_PROMPTS, self.max_new_tokens)
                started = time.perf_counter()
                part.tasks = self._tasks(student)
                part.task_seconds = time.perf_counter() - started
            return part
        finally:
            student.train(was_training)

    def _student_readings(
        self, speaker: Speaker, drawn: Mapping[int, Rollout], measured: MeasuredTeacher
    ) -> StudentReadings:
        graded = [index for index in self._share() if index in measured.answers]
        written = readings(measured.pair, {index: drawn[index] for index in graded})
        theirs = readings(measured.reverse, {index: measured.answers[index].rollout for index in graded})
        return StudentReadings(
            written,
            log_probabilities(speaker, written.written, READ_AT_ONCE),
            theirs,
            log_probabilities(speaker, theirs.read, READ_AT_ONCE),
        )

    @property
    def _batch_size(self) -> int:
        return self.config.evaluation.batch_size

    def _tasks(self, student: PreTrainedModel) -> dict[str, dict]:
        """The results of the tracked tasks; a task that cannot be scored now is left out, and this is logged."""
        evaluation, found = self.config.evaluation, {}
        samples = min(evaluation.tracked_samples, evaluation.samples or evaluation.tracked_samples)
        for task in evaluation.tracked_tasks:
            settings = evaluation.model_copy(update={"tasks": [task], "samples": samples})
            try:
                scores = evaluate_loaded(student, self.student, settings, self.config.student.enable_thinking)
            except SimCTError as error:
                self.log(f"warning: {error}")
                continue
            found[task] = {name: value for name, value in scores[task].items() if name not in ("samples", "metrics")}
        return found

    def _directions(self, measured: MeasuredTeacher, part: StudentReadings) -> Directions:
        """Both directions over this process's prompts; the teacher reads what the student wrote."""
        texts = part.written.read
        if self.split_teacher:
            # all processes make the same passes, because each holds a part of every layer
            texts = {index: ids for each in gather_object([texts]) for index, ids in each.items()}
        read = read_log_probabilities(measured.paired.teacher, measured.prompts, texts, READ_AT_ONCE)
        return part.directions(measured, read)

    def _gathered(
        self,
        step: int,
        measured: Sequence[MeasuredTeacher],
        directions: Sequence[Directions],
        part: StudentPart,
        seconds: float,
    ) -> Evaluation:
        """The evaluation of all processes' prompts, the same on each of them."""
        together = zip(measured, part.readings, directions, strict=True)
        whole = mean_directions(list(together)) if measured else {}
        several = {each.paired.name: found for each, found in zip(measured, directions, strict=True)}
        own = (whole, several if self.config.teachers else {}, part.answers, part.tasks, part.task_seconds, seconds)
        parts = gather_object([own])
        _, _, answers, tasks, task_seconds, _ = parts[0]
        return Evaluation(
            step=step,
            directions=merged_directions([each[0] for each in parts]),
            teachers={name: merged_directions([each[1][name] for each in parts]) for name in parts[0][1]},
            tasks=tasks,
            answers=answers,
            seconds=max(each[5] for each in parts),
            task_seconds=task_seconds,
            prompts=self.plan.prompts,
            every=self.plan.every,
        )

    # The teachers' answers

    def _teachers(self, teachers: Sequence[PairedTeacher]) -> list[MeasuredTeacher]:
        """The teachers with one answer to each of their prompts: those in the run folder, or else drawn now and
        kept.
        """
        if self._measured is None:
            found = measured_teachers(teachers, self.prompts)
            order = _order(found, len(self.prompts))
            kept = [TeacherAnswer.from_dict(record) for record in self.run.teacher_answers()]
            self.accelerator.wait_for_everyone()
            if len(kept) == len(order) and None not in kept:
                for (each, index), answer in zip(order, kept, strict=True):
                    each.answers |= {index: answer} if answer else {}
            else:
                started = time.perf_counter()
                self._draw_answers(found, order)
                self.teacher_seconds = time.perf_counter() - started
            self._measured = found
        return self._measured

    def _draw_answers(self, measured: Sequence[MeasuredTeacher], order: Sequence[tuple[MeasuredTeacher, int]]) -> None:
        main = self.accelerator.is_main_process
        greedy: dict[tuple[str, int], FixedAnswer] = {}
        for each in measured:
            greedy |= self._draw_answers_of(each)
        if main:
            records = []
            for each, index in order:
                prompt, name = self.prompts[index].prompt, each.paired.name
                record = {"prompt": prompt.text, "reference": prompt.answer, **each.answers[index].to_dict()}
                if (name, index) in greedy:
                    record["greedy"] = vars(greedy[name, index])
                records.append(record | ({"teacher": name} if self.config.teachers else {}))
            self.run.save_teacher_answers(records)

    def _draw_answers_of(self, measured: MeasuredTeacher) -> dict[tuple[str, int], FixedAnswer]:
        """Draw the answers of one teacher; returns its greedy ones to the fixed prompts, on the main process."""
        teacher, prompts = measured.paired.teacher, measured.prompts
        main, length = self.accelerator.is_main_process, self.max_new_tokens
        indices: Sequence[int] = measured.indices
        if not self.split_teacher:
            indices = indices[self.accelerator.process_index :: self.accelerator.num_processes]
        self.progress.stage("The teacher answers the held-out prompts", len(indices), "answers")
        seed, report = self.config.training.seed, self.progress.update
        drawn = sampled_answers(teacher, prompts, indices, length, seed, self._batch_size, report)
        found = readings(measured.reverse, drawn)
        log_p = read_log_probabilities(teacher, prompts, found.written, READ_AT_ONCE)
        fixed = [index for index in measured.indices if index < FIXED_PROMPTS]
        asked = [prompts[index] for index in fixed] if main or self.split_teacher else []
        greedy = teacher_greedy_answers(teacher, asked, length) if asked else []
        answers = {
            index: TeacherAnswer(rollout, log_p.get(index), text_of(measured.pair.teacher, rollout))
            for index, rollout in drawn.items()
        }
        measured.answers = {index: answer for each in gather_object([answers]) for index, answer in each.items()}
        return {(measured.paired.name, index): answer for index, answer in zip(fixed, greedy, strict=False)}


def _order(measured: Sequence[MeasuredTeacher], prompts: int) -> list[tuple[MeasuredTeacher, int]]:
    """The lines of teacher.jsonl: each prompt by its first teacher, and then by its further ones."""
    by_prompt = [[each for each in measured if index in each.indices] for index in range(prompts)]
    most = max(map(len, by_prompt), default=0)
    return [(each[turn], index) for turn in range(most) for index, each in enumerate(by_prompt) if turn < len(each)]


def best_by_of(config: RunConfig, evaluator: Evaluator | None) -> str:
    """The value by which the best checkpoint is chosen: the one in run.yaml, or the loss if that is not measured."""
    wanted = config.evaluation.best_by
    if evaluator is None or (wanted == DISTANCE and not evaluator.measures_distance):
        return LOSS
    return wanted


def merged_directions(parts: Sequence[Directions]) -> Directions:
    """Each direction over the prompts of several processes, without one that could not be measured."""
    whole = {name: merged([part[name] for part in parts]) for name in parts[0]}
    return {name: each for name, each in whole.items() if each.bits}


def merged(parts: Sequence[Distance]) -> Distance:
    """One distance over the prompts of several."""
    excluded: Counter[str] = Counter()
    bits: dict[int, float] = {}
    for part in parts:
        bits |= part.bits
        excluded.update(part.excluded)
    return Distance(dict(sorted(bits.items())), sum(part.bytes for part in parts), dict(excluded))


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Restore the state of every random generator of the process at the end."""
    python, of_numpy, of_torch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    of_cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(of_numpy)
        torch.set_rng_state(of_torch)
        if of_cuda:
            torch.cuda.set_rng_state_all(of_cuda)


@contextmanager
def averaged(average: WeightAverage | None) -> Iterator[None]:
    """Within this context, the running mean replaces the trained weights, because it is what will be saved."""
    if average is None:
        yield
        return
    average.exchange()
    try:
        yield
    finally:
        average.exchange()
