"""Which teachers grade which prompt, and prompts and completions as all of their teachers read them.

Without data.teacher_column all teachers grade every prompt. With it, a prompt goes to the teachers whose routes name
the value of its row, and a row whose value no teacher names is left out and counted.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from simct.config import RunConfig
from simct.config.teachers import teachers_of
from simct.data.prompts import Prompt
from simct.data.samples import (
    PreparedPrompt,
    Sample,
    prepare_prompts,
    samples_of_dataset,
    samples_of_teacher,
    teacher_rollouts,
    to_samples,
)
from simct.errors import DataError, quoted
from simct.models.rollout import Rollout
from simct.models.teachers import PairedTeacher

SHOWN_VALUES = 6


def grading_teachers(prompt: Prompt, config: RunConfig) -> tuple[int, ...]:
    """The indices, in the run's list, of the teachers that grade a prompt; none for a value that no route names."""
    teachers = teachers_of(config)
    if not config.data.teacher_column:
        return tuple(range(len(teachers)))
    return tuple(place for place, teacher in enumerate(teachers) if prompt.route in teacher.routed)


def unused_routes(prompts: Sequence[Prompt], config: RunConfig) -> str | None:
    """A sentence about a route that no prompt has, which is a typo or a teacher without work; None if all are used."""
    if not config.data.teacher_column:
        return None
    found = Counter(prompt.route for prompt in prompts)
    for place, teacher in enumerate(config.teachers):
        unused = [route for route in teacher.routed if route not in found]
        if unused:
            return (
                f"teachers[{place}].routes is {quoted(teacher.routed)}, and no row has {quoted(unused[0])} in the "
                f"column {quoted(config.data.teacher_column)}, which has {_values(found)}. Correct one of them, or "
                "raise data.limit."
            )
    return None


def left_out_by_route(prompts: Sequence[Prompt], config: RunConfig) -> str | None:
    """A sentence about the rows whose value names no teacher; None if there are none."""
    values = Counter(prompt.route for prompt in prompts if not grading_teachers(prompt, config))
    if not values:
        return None
    return (
        f"{values.total():,} of {len(prompts):,} prompts are left out, because no teacher has a route for their value "
        f"in {quoted(config.data.teacher_column)}: {_values(values)}."
    )


def scored_prompts(prompts: Sequence[Prompt], config: RunConfig) -> tuple[list[Prompt], str | None]:
    """The prompts that a run can learn from, and a sentence about those left out: a teacher with stored scores needs
    the data's completion, because no other answer has scores.
    """
    stored = {place for place, model in enumerate(config.teacher_models) if model.scores}
    if not stored:
        return list(prompts), None
    kept = [
        each for each in prompts if each.completion is not None or stored.isdisjoint(grading_teachers(each, config))
    ]
    if len(kept) == len(prompts):
        return kept, None
    return kept, (
        f"{len(prompts) - len(kept):,} of {len(prompts):,} prompts have no completion and are left out, because stored "
        "scores are of the data's completions only."
    )


def _values(counted: Mapping[str | None, int]) -> str:
    ordered = sorted(counted.items(), key=lambda each: -each[1])
    shown = [f"{'nothing' if value is None else quoted(value)} ({count:,})" for value, count in ordered[:SHOWN_VALUES]]
    return ", ".join(shown) + (f" and {len(ordered) - SHOWN_VALUES:,} others" if len(ordered) > SHOWN_VALUES else "")


def prepare_for_teachers(
    prompts: list[Prompt],
    teachers: Sequence[PairedTeacher],
    config: RunConfig,
    student_context: int | None,
    on_notice: Callable[[str], None] | None = None,
) -> tuple[list[PreparedPrompt], int]:
    """`prepare_prompts` for each prompt's own teachers; one that any of them cannot read is left out and counted.

    Raises DataError as prepare_prompts, and for data without a prompt for any teacher.
    """
    if not config.teachers:
        [alone] = teachers
        contexts = [alone.teacher.context_length, student_context]
        return prepare_prompts(prompts, alone.pair, config, contexts, on_notice)
    notices: dict[str, None] = {}
    places = [grading_teachers(prompt, config) for prompt in prompts]
    views: list[dict[int, PreparedPrompt]] = []
    for place, each in enumerate(teachers):
        own = [prompt for prompt, graded in zip(prompts, places, strict=True) if place in graded]
        contexts = [each.teacher.context_length, student_context]
        prepared = prepare_prompts(own, each.pair, each.config, contexts, notices.setdefault)[0] if own else []
        views.append({id(view.prompt): replace(view, teacher=place) for view in prepared})
    for line in (*notices, left_out_by_route(prompts, config)):
        if on_notice and line:
            on_notice(line)
    found = []
    for prompt, graded in zip(prompts, places, strict=True):
        read = [view for place in graded if (view := views[place].get(id(prompt)))]
        if read and len(read) == len(graded):
            found.append(replace(read[0], further=tuple(read[1:])))
    if not found:
        raise DataError(left_out_by_route(prompts, config) or "No prompt can be read by all of its teachers.")
    return found, sum(map(bool, places)) - len(found)


# The completions of a step, each with the samples of the teachers that grade it


def graded_rollouts(
    teachers: Sequence[PairedTeacher],
    prompts: Sequence[PreparedPrompt],
    rollouts: Sequence[Rollout],
    excluded: Counter[str],
) -> list[list[Sample]]:
    """`to_samples` for each rollout and each of its teachers; a rollout without any is left out."""
    found = []
    for prompt, rollout in zip(prompts, rollouts, strict=True):
        views = prompt.by_teacher
        found.append([each for view in views for each in _read(teachers[view.teacher], view, rollout, excluded)])
    return [samples for samples in found if samples]


def graded_completions(
    teachers: Sequence[PairedTeacher], prompts: Sequence[PreparedPrompt], config: RunConfig, excluded: Counter[str]
) -> list[list[Sample]]:
    """`samples_of_dataset` for each of the data's completions and each of its teachers."""
    found = [
        [
            sample
            for view in prompt.by_teacher
            for sample in samples_of_dataset(teachers[view.teacher].pair, [view], config, excluded)
        ]
        for prompt in prompts
    ]
    return [samples for samples in found if samples]


def written_by_teachers(
    teachers: Sequence[PairedTeacher],
    prompts: Mapping[int, PreparedPrompt],
    config: RunConfig,
    step: int,
    excluded: Counter[str],
) -> list[list[Sample]]:
    """Off-policy samples: of each prompt's teachers one writes, drawn by weight, and all of them grade what it wrote.

    `prompts` are by sample index within the step.
    """
    writers = {index: drawn_writer(prompt, teachers, config, step, index) for index, prompt in prompts.items()}
    rollouts: dict[int, Rollout] = {}
    for place in sorted({view.teacher for view in writers.values()}):
        own = {index: view for index, view in writers.items() if view.teacher == place}
        ids = [view.teacher_ids for view in own.values()]
        written = teacher_rollouts(teachers[place].teacher, config, ids, step, list(own))
        rollouts |= dict(zip(own, written, strict=True))
    found = []
    for index, prompt in prompts.items():
        writer, rollout = writers[index], rollouts[index]
        samples = samples_of_teacher(teachers[writer.teacher].pair, [writer], [rollout], excluded)
        for sample in samples[:1]:
            as_student = Rollout(prompt.student_ids, sample.student_ids, rollout.ended)
            others = (view for view in prompt.by_teacher if view.teacher != writer.teacher)
            samples += [each for view in others for each in _read(teachers[view.teacher], view, as_student, excluded)]
        found.append(samples)
    return [samples for samples in found if samples]


def _read(teacher: PairedTeacher, view: PreparedPrompt, rollout: Rollout, excluded: Counter[str]) -> list[Sample]:
    return to_samples(teacher.pair, [view], [rollout], excluded)


def drawn_writer(
    prompt: PreparedPrompt, teachers: Sequence[PairedTeacher], config: RunConfig, step: int, index: int
) -> PreparedPrompt:
    """The prompt as the teacher reads it that answers sample `index` of `step`, decided by weight and seed alone."""
    views = prompt.by_teacher
    if len(views) == 1:
        return prompt
    weights = np.array([teachers[view.teacher].weight for view in views])
    sequence = np.random.SeedSequence([config.training.seed, 32452843, step, index])
    drawn = np.random.Generator(np.random.Philox(sequence)).random() * weights.sum()
    return views[int(np.searchsorted(weights.cumsum()[:-1], drawn, side="right"))]


def lengths_of_models(samples: Sequence[Sample], here: Sequence[bool]) -> tuple[int, ...]:
    """The number of a completion's tokens that each model reads, the student's first: all but the completion's last
    token.

    `samples` are its samples by teacher. `here` says which teachers read on this machine; the others have no place, and
    0 stands for one that does not grade it.
    """
    by_teacher = {each.prompt.teacher: len(each.prompt.teacher_ids) + len(each.teacher_ids) - 1 for each in samples}
    student = max(len(each.prompt.student_ids) + len(each.student_ids) - 1 for each in samples)
    return student, *(by_teacher.get(place, 0) for place, reads in enumerate(here) if reads)
