"""From prompts to samples that can be supervised: the order of the data, rollouts, the teacher's ids, statistics."""

import functools
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from transformers import PreTrainedModel

from simct.config import RunConfig
from simct.data.exclusions import CUT_BYTES, GIVEN, NOTHING, OFF_POLICY, PART
from simct.data.prompts import Prompt
from simct.data.rendering import render_prompts
from simct.data.selection import has_allowed_length
from simct.errors import ConfigError, DataError
from simct.models.loading import pad_id_of
from simct.models.rollout import Rollout, generate
from simct.models.sampling import uniforms
from simct.models.served import ServedTeacher
from simct.models.teachers import LocalTeacher, Teacher
from simct.models.vllm import sample_seed
from simct.tokenization.pair import TokenizerPair
from simct.tokenization.reasons import SPECIAL_INSIDE
from simct.tokenization.segments import Placed, needs_placing, place_answer, read_plain
from simct.tokenization.token_bytes import TokenBytes

REPEATED = 4


@dataclass(frozen=True)
class PreparedPrompt:
    """A prompt as the student and a teacher read it.

    teacher: that teacher's index in the run. further: the prompt as each other teacher reads it.
    """

    prompt: Prompt
    student_ids: list[int]
    teacher_ids: list[int]
    teacher: int = 0
    further: tuple["PreparedPrompt", ...] = ()

    @property
    def by_teacher(self) -> tuple["PreparedPrompt", ...]:
        """The prompt as each teacher that grades it reads it."""
        return (self, *self.further)

    def without(self, teachers: Container[int]) -> "PreparedPrompt | None":
        """The prompt without these teachers; None if none is left."""
        left = [replace(view, further=()) for view in self.by_teacher if view.teacher not in teachers]
        return replace(left[0], further=tuple(left[1:])) if left else None


@dataclass(frozen=True)
class Sample:
    """A completion that can be supervised: completion ids of both models that spell the same bytes.

    `spans` are the supervised parts if control tokens divide the completion: ((start, end) of the student's ids,
    (start, end) of the teacher's), each pair with the same bytes, in order. `given`: the completion comes from the
    data.
    """

    prompt: PreparedPrompt
    student_ids: list[int]
    teacher_ids: list[int]
    spans: tuple[tuple[tuple[int, int], tuple[int, int]], ...] | None = None
    given: bool = False

    @property
    def student_spans(self) -> list[tuple[int, int]]:
        return [(0, len(self.student_ids))] if self.spans is None else [student for student, _ in self.spans]

    @property
    def teacher_spans(self) -> list[tuple[int, int]]:
        return [(0, len(self.teacher_ids))] if self.spans is None else [teacher for _, teacher in self.spans]

    @property
    def student_pieces(self) -> list[list[int]]:
        """The student's ids that are supervised, piece by piece, as the losses read them."""
        return [self.student_ids[start:end] for start, end in self.student_spans]

    @property
    def teacher_pieces(self) -> list[list[int]]:
        return [self.teacher_ids[start:end] for start, end in self.teacher_spans]


def prompt_order(n_prompts: int, first: int, count: int, seed: int) -> list[int]:
    """Prompt indices at positions first … first + count - 1 of an endless sequence of shuffled epochs."""
    places = (divmod(position, n_prompts) for position in range(first, first + count))
    return [int(_order_of_epoch(n_prompts, epoch, seed)[offset]) for epoch, offset in places]


@functools.lru_cache(maxsize=4)
def _order_of_epoch(n_prompts: int, epoch: int, seed: int) -> np.ndarray:
    # kept for the next steps, because shuffling a million prompts takes tens of milliseconds
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 7919, epoch]))).permutation(n_prompts)


@dataclass(frozen=True)
class StepPrompts:
    """One process's prompts of a step by sample index, grouped by who answers: the student, the teacher or the data."""

    own: dict[int, PreparedPrompt]
    others: dict[int, PreparedPrompt]
    given: dict[int, PreparedPrompt]


def prompts_of_step(
    prompts: list[PreparedPrompt], config: RunConfig, step: int, process: int = 0, processes: int = 1
) -> StepPrompts:
    """This process's share of a step (counted from 1), a function of (seed, step) and the number of processes."""
    training, per_prompt = config.training, config.rollout.samples_per_prompt
    count = training.batch_size // per_prompt
    order = prompt_order(len(prompts), (step - 1) * count, count, training.seed)
    size = training.batch_size // processes
    batch = {index: prompts[order[index // per_prompt]] for index in range(process * size, (process + 1) * size)}
    answered = StepPrompts({}, {}, {})
    for index, prompt in batch.items():
        writers = {"student": answered.own, "teacher": answered.others, "dataset": answered.given}
        writer = writer_of(config, step, index)
        if writer == "dataset" and prompt.prompt.completion is None:
            writer = "student"
        writers[writer][index] = prompt
    return answered


def prepare_prompts(
    prompts: list[Prompt],
    pair: TokenizerPair,
    config: RunConfig,
    context_lengths: Iterable[int | None],
    on_notice: Callable[[str], None] | None = None,
) -> tuple[list[PreparedPrompt], int]:
    """Both models' prompt ids, and how many prompts were left out: too long, or with ids that a model cannot read.

    A prompt that a template refuses, or whose length the data's settings exclude, is left out as well; on_notice gets a
    sentence about that and about every other change that a template needs. Raises DataError if no prompt is left.
    """
    limit = config.training.longest(context_lengths)
    room = limit - config.rollout.max_new_tokens
    student = render_prompts("student", pair.student.tokenizer, prompts, config.student.enable_thinking)
    teacher = render_prompts(
        "teacher", pair.teacher.tokenizer, prompts, config.teacher.enable_thinking, config.teacher.system
    )
    notices = [line for side in (student, teacher) for line in (*side.notices(), *side.losses())]
    if on_notice:
        for line in notices:
            on_notice(line)
    prepared, left_out, filtered, unreadable = [], 0, 0, None
    for prompt, student_ids, teacher_ids in zip(prompts, student.ids, teacher.ids, strict=True):
        if not student_ids or not teacher_ids:
            continue
        if not has_allowed_length(config.data, (len(student_ids), len(teacher_ids))):
            filtered += 1
            continue
        problem = _unreadable(pair.student, student_ids) or _unreadable(pair.teacher, teacher_ids)
        unreadable = unreadable or problem
        if not problem and max(len(student_ids), len(teacher_ids)) <= room:
            prepared.append(PreparedPrompt(prompt, student_ids, teacher_ids))
        else:
            left_out += 1
    if filtered and on_notice:
        counted = "1 prompt is" if filtered == 1 else f"{filtered:,} prompts are"
        on_notice(f"{counted} left out by their length (data.min_tokens, data.max_tokens).")
    if prepared:
        return prepared, left_out
    if unreadable:
        raise DataError(unreadable)
    if left_out:
        raise DataError(
            f"No prompt leaves room for {config.rollout.max_new_tokens} new tokens within {limit}. "
            "Lower rollout.max_new_tokens or raise training.max_length."
        )
    if filtered:
        raise DataError(f"data.min_tokens and data.max_tokens leave out all {filtered:,} prompts. Change them.")
    raise DataError(f"No prompt can be read by both models. {' '.join(notices)}".strip())


def _unreadable(tokens: TokenBytes, ids: list[int]) -> str | None:
    """Why a model cannot read these ids: a token was added to its tokenizer but not to its embedding."""
    beyond = tokens.beyond_embedding(ids)
    if beyond is None:
        return None
    name = tokens.tokenizer.convert_ids_to_tokens(beyond)
    return (
        f"The prompts of {tokens.tokenizer.name_or_path!r} contain the token {name!r} (id {beyond}), and the model's "
        f"embedding has {tokens.rows} rows. Resize the embedding (model.resize_token_embeddings) and save the model, "
        "or give the tokenizer that belongs to it."
    )


def write_rollouts(
    model: PreTrainedModel,
    tokens: TokenBytes,
    config: RunConfig,
    prompts: list[list[int]],
    step: int,
    indices: list[int],
) -> list[Rollout]:
    """Sample one completion for each of `prompts` (token ids); `indices` are their sample indices within the step."""
    seed, length = config.training.seed, config.rollout.max_new_tokens
    return generate(
        model,
        prompts,
        tokens.end_ids,
        pad_id_of(tokens.tokenizer, tokens.end_ids),
        n_candidates=len(tokens.bytes_of),
        max_new_tokens=length,
        temperature=config.rollout.temperature,
        top_p=config.rollout.top_p,
        uniforms_NM=uniforms(seed, step, indices, length),
        top_k=config.rollout.top_k,
        min_p=config.rollout.min_p,
        repetition_penalty=config.rollout.repetition_penalty,
        batch_size=config.rollout.batch_size,
    )


def teacher_rollouts(
    teacher: Teacher, config: RunConfig, prompts: list[list[int]], step: int, indices: list[int]
) -> list[Rollout]:
    """`write_rollouts` by the teacher. Raises ConfigError for one that cannot write."""
    if not prompts:
        return []
    if isinstance(teacher, ServedTeacher):
        seeds = [sample_seed(config.training.seed, step, index) for index in indices]
        return teacher.write(prompts, config.rollout, seeds)
    if not isinstance(teacher, LocalTeacher):
        raise ConfigError("This teacher only grades. Set rollout.on_policy_fraction to 1.")
    return write_rollouts(teacher.model, teacher.tokens, config, prompts, step, indices)


def student_writes(seed: int, step: int, index: int, fraction: float) -> bool:
    """Whether sample `index` of `step` is on-policy; true for `fraction` of them, decided by the seed alone."""
    return _writer_draw(seed, step, index) < fraction


def writer_of(config: RunConfig, step: int, index: int) -> str:
    """Who writes the completion of sample `index` of `step`: "student", "dataset" or "teacher"; the seed decides."""
    rollout, draw = config.rollout, _writer_draw(config.training.seed, step, index)
    if draw < rollout.on_policy_fraction:
        return "student"
    if rollout.dataset_fraction and draw < 1 - rollout.teacher_fraction:
        return "dataset"
    return "teacher"


def _writer_draw(seed: int, step: int, index: int) -> float:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 104729, step, index]))).random()


def samples_of_teacher(
    pair: TokenizerPair, prompts: list[PreparedPrompt], rollouts: list[Rollout], excluded: Counter[str]
) -> list[Sample]:
    """Off-policy samples: the teacher's ids as sampled, and the student's canonical tokenization of the same bytes."""
    samples = []
    teacher, student = pair.sides
    for prompt, rollout in zip(prompts, rollouts, strict=True):
        body = rollout.completion_ids[:-1] if rollout.ended else rollout.completion_ids
        if needs_placing(teacher, student, body):
            placed = place_answer(teacher, student, rollout.completion_ids, rollout.ended)
            if _counted(placed, excluded, OFF_POLICY):
                spans = tuple((own, others) for others, own in placed.spans)
                samples.append(Sample(prompt, placed.reader_ids, placed.ids, spans))
            continue
        try:
            own, read = read_plain(teacher, student, rollout.completion_ids, rollout.ended)
        except ValueError as error:
            excluded[f"{OFF_POLICY}{error}"] += 1
            continue
        excluded.update([CUT_BYTES] * (len(own) < len(rollout.completion_ids)))
        if own:
            samples.append(_after_lead(Sample(prompt, read, own), student_lead=student.lead))
        else:
            excluded[f"{OFF_POLICY}{NOTHING}"] += 1
    return samples


def samples_of_dataset(
    pair: TokenizerPair, prompts: list[PreparedPrompt], config: RunConfig, excluded: Counter[str]
) -> list[Sample]:
    """Samples of the data's own completions, in both models' canonical tokenization, each with its end of turn.

    A completion of more than rollout.max_new_tokens student tokens is cut there and has no end of turn.
    """
    samples: list[Sample] = []
    teacher, student = pair.sides
    for prompt in prompts:
        try:
            ids = pair.student.encode((prompt.prompt.completion or "").encode("utf-8"))
        except ValueError as error:
            excluded[f"{GIVEN}{error}"] += 1
            continue
        ids = [*ids, pair.student.end_ids[0]][: config.rollout.max_new_tokens]
        spelled = pair.teacher_ids_for(ids)
        if spelled.excluded or not spelled.n_student:
            excluded[f"{GIVEN}{spelled.excluded or NOTHING}"] += 1
            continue
        if spelled.cut_bytes:
            excluded[CUT_BYTES] += 1
        sample = Sample(prompt, ids[: spelled.n_student], list(spelled.ids))
        samples.append(replace(_after_lead(sample, student.lead, teacher.lead), given=True))
    return samples


def to_samples(
    pair: TokenizerPair, prompts: list[PreparedPrompt], rollouts: list[Rollout], excluded: Counter[str]
) -> list[Sample]:
    """The teacher's ids for each completion's bytes; a completion that cannot be exact is counted in `excluded`.

    In an answer with control tokens, the text that both templates can place is supervised; the rest is counted.
    """
    samples = []
    teacher, student = pair.sides
    for prompt, rollout in zip(prompts, rollouts, strict=True):
        body = rollout.completion_ids[:-1] if rollout.ended else rollout.completion_ids
        if needs_placing(student, teacher, body):
            placed = place_answer(student, teacher, rollout.completion_ids, rollout.ended)
            if _counted(placed, excluded):
                samples.append(Sample(prompt, placed.ids, placed.reader_ids, tuple(placed.spans)))
            continue
        spelled = pair.teacher_ids_for(rollout.completion_ids)
        if spelled.excluded:
            excluded[spelled.excluded] += 1
            continue
        if spelled.cut_bytes:
            excluded[CUT_BYTES] += 1
        if spelled.n_student and spelled.ids:
            kept = rollout.completion_ids[: spelled.n_student]
            samples.append(_after_lead(Sample(prompt, kept, list(spelled.ids)), teacher_lead=teacher.lead))
        else:
            excluded[NOTHING] += 1
    return samples


def _counted(placed: Placed, excluded: Counter[str], prefix: str = "") -> bool:
    """Count what is left out of an answer with control tokens; returns whether something remains to supervise."""
    if not placed.spans:
        reason = next(iter(placed.left_out), NOTHING)
        excluded[f"{prefix}{SPECIAL_INSIDE}: {reason}"] += 1
        return False
    for reason, count in placed.left_out.items():
        excluded[f"{PART}{prefix}{reason}"] += count
    if placed.cut_bytes:
        excluded[CUT_BYTES] += 1
    return True


def _after_lead(sample: Sample, student_lead: Sequence[int] = (), teacher_lead: Sequence[int] = ()) -> Sample:
    """The sample after the markup that the reader's template puts before a plain answer, such as a final channel."""
    if not student_lead and not teacher_lead:
        return sample
    student_ids, teacher_ids = [*student_lead, *sample.student_ids], [*teacher_lead, *sample.teacher_ids]
    spans = (((len(student_lead), len(student_ids)), (len(teacher_lead), len(teacher_ids))),)
    return Sample(sample.prompt, student_ids, teacher_ids, spans)


def rollout_statistics(pair: TokenizerPair, rollouts: list[Rollout]) -> dict:
    """Sums over rollouts: lengths in student tokens, how many ended, are repetitive, are tokenized canonically."""
    canonical = 0
    for rollout in rollouts:
        body = rollout.completion_ids[:-1] if rollout.ended else rollout.completion_ids
        try:
            canonical += pair.student.encode(pair.student.decode(body)) == body
        except ValueError:
            continue
    return {
        "rollouts": len(rollouts),
        "tokens": sum(len(rollout.completion_ids) for rollout in rollouts),
        "ended": sum(rollout.ended for rollout in rollouts),
        "repetitive": sum(is_repetitive(rollout.completion_ids) for rollout in rollouts),
        "canonical": canonical,
    }


def is_repetitive(ids: list[int]) -> bool:
    """Whether more than half of an answer's sequences of REPEATED tokens have occurred in it before."""
    runs = [tuple(ids[start : start + REPEATED]) for start in range(len(ids) - REPEATED + 1)]
    return len(runs) >= 4 * REPEATED and len(set(runs)) < len(runs) / 2


def shown_rollouts(
    pair: TokenizerPair, prompts: list[PreparedPrompt], rollouts: list[Rollout], step: int
) -> list[dict]:
    """The first few rollouts of a step, as text for people."""
    decode = pair.student.tokenizer.decode
    return [
        {
            "step": step,
            "prompt": prompt.prompt.text,
            "answer": prompt.prompt.answer,
            "completion": decode(rollout.completion_ids, skip_special_tokens=True),
            "ended": rollout.ended,
        }
        for prompt, rollout in list(zip(prompts, rollouts, strict=True))[:4]
    ]
