"""Distance to the teacher: how differently two models write, in bits per byte of text, without labels.

One model writes, at temperature 1 and with its whole distribution; both models then say how probable the text is, each
reading its own tokens of the same bytes under its own template. For a student S and a teacher T

    student to teacher   mean over texts x of S of  [log2 p_S(x) - log2 p_T(x)] / bytes(x)
    teacher to student   mean over texts x of T of  [log2 p_T(x) - log2 p_S(x)] / bytes(x)

The writer's ids are those it sampled; the reader's are its own tokenization of the same bytes, so p_reader(x) is the
probability of that tokenization, a lower bound of the text's. A text that ended includes its end of turn, which is one
event on both sides, whichever end-of-turn token was used. Both directions estimate a KL divergence of texts of up to
`max_new_tokens` tokens of the writer. They are zero for a model compared with itself, and need no tokens in common.

Not covered: trailing bytes that are not UTF-8 (cut off and counted), and answers that the reader cannot spell or that
contain a control token (left out and counted by reason).

Shapes: N rows of a block, V candidates of a vocabulary, H hidden size, R rows.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from transformers import PreTrainedModel

from simct.config.precision import AUTO
from simct.config.sections import DataConfig, ModelConfig, RolloutConfig
from simct.data.exclusions import CUT_BYTES
from simct.data.prompts import load_prompts
from simct.data.rendering import render_prompts
from simct.errors import DataError
from simct.evaluation.records import Distance, Distances
from simct.hub.repo_ids import split_revision
from simct.losses.head import check_head
from simct.losses.side import ListedSide, chunk_rows_for, row_chunks
from simct.losses.teacher_rows import TeacherRows, side_of
from simct.models.loading import device_for_training, load_model, pad_id_of
from simct.models.rollout import Rollout, generate
from simct.models.sampling import uniforms
from simct.models.served import ServedTeacher
from simct.models.teachers import LocalTeacher, Teacher
from simct.models.vllm import sample_seed
from simct.tokenization.model_tokens import load_tokens
from simct.tokenization.pair import TokenizerPair
from simct.tokenization.token_bytes import TokenBytes

# the place of these random numbers in the seed sequence, different from those of all training steps
DRAWS = 15_487_469
# an answer that ended at once has no bytes; it counts as one byte
LEAST_BYTES = 1


@dataclass(frozen=True)
class Speaker:
    """A model with its tokenizer as bytes, and the ids of the prompts as its own template writes them."""

    model: PreTrainedModel
    tokens: TokenBytes
    prompts: Sequence[list[int]]

    @property
    def teacher(self) -> Teacher:
        """The model as a teacher that reads texts."""
        return LocalTeacher(self.model, self.tokens)

    @property
    def pad_id(self) -> int:
        return pad_id_of(self.tokens.tokenizer, self.tokens.end_ids)


@dataclass(frozen=True)
class ServedSpeaker:
    """A teacher on a server, and the ids of the prompts as its own template writes them."""

    teacher: ServedTeacher
    prompts: Sequence[list[int]]

    @property
    def tokens(self) -> TokenBytes:
        return self.teacher.tokens


def distance(
    student: str,
    teacher: str,
    prompts: str,
    samples: int | None = 64,
    max_new_tokens: int = 128,
    dtype: str = AUTO,
    seed: int = 0,
    token: str | bool | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    teacher_system: str | None = None,
    teacher_server: str | None = None,
    top_logprobs: int | None = None,
) -> Distances:
    """Measure both directions on the first `samples` prompts of a file or Hub dataset.

    `student` and `teacher` are Hub ids or folders, `id@revision` for a revision. Each model answers every prompt once,
    in its own chat template, the teacher after `teacher_system` if given. With `teacher_server` the teacher is on
    that server, which lists `top_logprobs` tokens at each position, and `teacher` gives its tokenizer and template.
    `on_progress(answers written, answers in all)`. Raises one-line SimCTErrors.
    """
    read = load_prompts(DataConfig(prompts=prompts, limit=samples), token)
    device = device_for_training()
    sides = {}
    for side, name in (("student", student), ("teacher", teacher)):
        model, revision = split_revision(name)
        tokens = load_tokens(model, revision, token)
        rendered = render_prompts(side, tokens.tokenizer, read, None, teacher_system if side == "teacher" else None)
        described = ModelConfig(model=model, revision=revision, dtype=dtype)
        if side == "teacher" and teacher_server:
            described.server = teacher_server
            described.top_logprobs = top_logprobs or described.top_logprobs
        sides[side] = described, tokens, rendered.ids
    both = [index for index in range(len(read)) if all(ids[index] for _, _, ids in sides.values())]
    if not both:
        raise DataError(f"No prompt of {prompts!r} can be read by both models: their chat templates refuse them.")
    speakers: dict[str, Speaker | ServedSpeaker] = {}
    for side, (described, tokens, ids) in sides.items():
        read_by_both = [list(ids[index] or ()) for index in both]
        if described.server:
            speakers[side] = ServedSpeaker(ServedTeacher(described, tokens, token), read_by_both)
            continue
        loaded = load_model(described, device, token).eval()
        check_head(loaded)
        speakers[side] = Speaker(loaded, tokens, read_by_both)
    found = []
    try:
        for number, (writer, reader) in enumerate((("student", "teacher"), ("teacher", "student"))):

            def report(done: int, total: int, before: int = number) -> None:
                if on_progress:
                    on_progress(before * total + done, 2 * total)

            answers = draw(speakers[writer], max_new_tokens, seed, on_progress=report)
            found.append(distance_of(speakers[writer], speakers[reader], answers))
    finally:
        speakers["teacher"].teacher.close()
    return Distances(*found)


def draw(
    writer: Speaker | ServedSpeaker,
    max_new_tokens: int,
    seed: int = 0,
    batch_size: int = 16,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Rollout]:
    """One answer to each prompt from the writer's whole distribution; a draw depends on (seed, prompt index) only.

    `on_progress(answers written, answers in all)` is called after each answer.
    """
    indices = range(len(writer.prompts))
    if isinstance(writer, Speaker):
        answers = draw_some(writer, indices, max_new_tokens, seed, batch_size, on_progress)
        return [answers[index] for index in indices]
    answers = {}
    for some in even_batches(list(indices), batch_size):
        answers |= sampled_answers(writer.teacher, writer.prompts, some, max_new_tokens, seed, batch_size)
        if on_progress:
            on_progress(len(answers), len(indices))
    return [answers[index] for index in indices]


def draw_some(
    writer: Speaker,
    indices: Iterable[int],
    max_new_tokens: int,
    seed: int = 0,
    batch_size: int = 16,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[int, Rollout]:
    """`draw` for the prompts of these indices only, by index."""
    some = list(indices)
    rollouts = generate(
        writer.model,
        [writer.prompts[index] for index in some],
        writer.tokens.end_ids,
        writer.pad_id,
        n_candidates=len(writer.tokens.bytes_of),
        max_new_tokens=max_new_tokens,
        uniforms_NM=uniforms(seed, DRAWS, some, max_new_tokens),
        batch_size=batch_size,
        on_progress=on_progress and (lambda done: on_progress(done, len(some))),
    )
    return dict(zip(some, rollouts, strict=True))


def sampled_answers(
    teacher: Teacher,
    prompts: Sequence[list[int]],
    indices: Sequence[int],
    max_new_tokens: int,
    seed: int,
    batch_size: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[int, Rollout]:
    """One answer to each of the prompts of `indices`, at temperature 1 from the whole distribution."""
    if isinstance(teacher, ServedTeacher):
        settings = RolloutConfig(max_new_tokens=max_new_tokens, temperature=1.0, top_p=1.0)
        seeds = [sample_seed(seed, DRAWS, index) for index in indices]
        written = teacher.write([prompts[index] for index in indices], settings, seeds)
        return dict(zip(indices, written, strict=True))
    speaker = Speaker(cast(LocalTeacher, teacher).model, teacher.tokens, prompts)
    return draw_some(speaker, indices, max_new_tokens, seed, batch_size, on_progress)


def even_batches(items: list[int], most: int) -> list[list[int]]:
    """`items` in order, in as few batches of at most `most` items as possible, all about equally large."""
    count = math.ceil(len(items) / most)
    edges = [round(len(items) * number / count) for number in range(count + 1)] if count else []
    return [items[first:last] for first, last in itertools.pairwise(edges)]


@dataclass(frozen=True)
class Readings:
    """Answers that two models can read, by prompt index: the writer's ids, the reader's, and the bytes of the text.

    `excluded` counts answers that were left out or cut, by reason.
    """

    written: dict[int, list[int]]
    read: dict[int, list[int]]
    sizes: dict[int, int]
    excluded: dict[str, int]


def readings(pair: TokenizerPair, answers: Mapping[int, Rollout]) -> Readings:
    """The student's answers as the teacher reads them; for the other direction, reverse the pair."""
    excluded: Counter[str] = Counter()
    found = Readings({}, {}, {}, excluded)
    for index, answer in answers.items():
        spelled = pair.teacher_ids_for(answer.completion_ids)
        if spelled.excluded:
            excluded[spelled.excluded] += 1
            continue
        if spelled.cut_bytes:
            excluded[CUT_BYTES] += 1
        if not spelled.n_student:
            excluded["an empty answer"] += 1
            continue
        ids = answer.completion_ids[: spelled.n_student]
        text = ids[:-1] if ids[-1] in pair.student.end_ids else ids
        found.written[index], found.read[index] = ids, list(spelled.ids)
        found.sizes[index] = max(LEAST_BYTES, int(pair.student.lengths[text].sum()))
    return found


def distance_from(found: Readings, own: Mapping[int, float], other: Mapping[int, float]) -> Distance:
    """The distance, given log p (nats) of each answer by its writer (`own`) and by its reader."""
    bits = {index: (own[index] - other[index]) / math.log(2) / size for index, size in found.sizes.items()}
    return Distance(bits, sum(found.sizes.values()), dict(found.excluded))


def distance_of(
    writer: Speaker | ServedSpeaker,
    reader: Speaker | ServedSpeaker,
    answers: Sequence[Rollout],
    batch_size: int = 16,
) -> Distance:
    """The distance from the writer to the reader on `answers`, the writer's answer to each prompt.

    Raises DataError if no answer can be compared.
    """
    # here the pair's "student" is the writer and its "teacher" the reader
    pair = TokenizerPair(teacher=reader.tokens, student=writer.tokens)
    found = readings(pair, dict(enumerate(answers)))
    if not found.sizes:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in found.excluded.items()) or "there are no prompts"
        raise DataError(f"The distance cannot be measured: none of the {len(answers)} answers can be used ({reasons}).")
    own = log_probabilities(writer, found.written, batch_size)
    return distance_from(found, own, log_probabilities(reader, found.read, batch_size))


def log_probabilities(
    speaker: Speaker | ServedSpeaker, completions: dict[int, list[int]], batch_size: int = 16
) -> dict[int, float]:
    """`read_log_probabilities` by the speaker's model, in evaluation mode."""
    if isinstance(speaker, ServedSpeaker):
        return read_log_probabilities(speaker.teacher, speaker.prompts, completions, batch_size)
    was_training = speaker.model.training
    speaker.model.eval()
    try:
        return read_log_probabilities(speaker.teacher, speaker.prompts, completions, batch_size)
    finally:
        speaker.model.train(was_training)


@torch.no_grad()
def read_log_probabilities(
    reader: Teacher, prompts: Sequence[list[int]], completions: dict[int, list[int]], batch_size: int = 16
) -> dict[int, float]:
    """log p (nats) of each completion after the prompt of its index, by the reader's own ids.

    Probabilities are over the ids that the tokenizer knows, as in sampling; an end-of-turn id stands for all of them.
    """
    order = sorted(completions, key=lambda index: len(prompts[index]) + len(completions[index]))
    found: dict[int, float] = {}
    for some in even_batches(order, batch_size):
        ids = [completions[index] for index in some]
        rows = reader.start([list(prompts[index]) for index in some], ids)()
        log_p_R = _log_probability_rows(rows, ids, reader.tokens)
        # on the CPU, because not all devices have float64
        sums = [float(part.double().sum()) for part in log_p_R.cpu().split([len(each) for each in ids])]
        found |= dict(zip(some, sums, strict=True))
    return found


def _log_probability_rows(rows: TeacherRows, completions: list[list[int]], tokens: TokenBytes) -> torch.Tensor:
    """log p (nats, float32 or float64) of the id that each row predicts [R]."""
    device = rows.device
    ids_R = torch.tensor([token for ids in completions for token in ids], device=device)
    ends_E = torch.tensor(tokens.end_ids, device=device)
    side = side_of(rows, torch.zeros(0, dtype=torch.long), device)
    known = max(len(tokens.bytes_of), max(tokens.end_ids) + 1)
    parts = []
    for rows_N in row_chunks(torch.arange(len(ids_R), device=device), chunk_rows_for(device, side.vocabulary)):
        logits_NV = side.block(rows_N).logits_NC
        # tokens that are not listed count as known: everything that a teacher on a server writes spells something
        logits_NV = logits_NV if isinstance(side, ListedSide) else logits_NV[:, :known]
        ids_N = ids_R[rows_N]
        own_N = logits_NV.gather(1, ids_N[:, None]).squeeze(1)
        ended_N = torch.isin(ids_N, ends_E)
        own_N = torch.where(ended_N, logits_NV.index_select(1, ends_E).logsumexp(1), own_N)
        parts.append(own_N - logits_NV.logsumexp(1))
    return torch.cat(parts)
