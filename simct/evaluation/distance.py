"""Distance to the teacher: how differently two models write, in bits per byte of text, without labels.

One model writes, at temperature 1 and with its whole distribution; both models then say how probable the text is, each
reading its own tokens of the same bytes under its own template. For a student S and a teacher T

    student to teacher   mean over texts x of S of  [log2 p_S(x) - log2 p_T(x)] / bytes(x)
    teacher to student   mean over texts x of T of  [log2 p_T(x) - log2 p_S(x)] / bytes(x)

The writer's ids are those it sampled; the reader's are its own tokenization of the same bytes, so p_reader(x) is the
probability of that tokenization, a lower bound of the text's. The end of the turn belongs to a text that ended: it is
one event on both sides, whichever end-of-turn token stands for it. Both directions estimate a KL divergence of texts up
to `max_new_tokens` tokens of the writer, are zero for a model beside itself, and need no token in common.

Not covered: text after trailing bytes that are not UTF-8 (cut off and counted), and answers that the reader cannot
spell or that hold a control token (left out and counted by reason).

Shapes: N rows of a block, V candidates of a vocabulary, H hidden size, R rows.
"""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from simct.config.sections import DataConfig, ModelConfig
from simct.data.prompts import load_prompts
from simct.data.rendering import render_prompts
from simct.errors import DataError
from simct.hub.repo_ids import split_revision
from simct.losses.head import check_head
from simct.losses.side import ListedSide, chunk_rows_for, row_chunks
from simct.losses.teacher_rows import TeacherRows, side_of
from simct.models.loading import device_for_training, load_model, pad_id_of
from simct.models.rollout import Rollout, generate, uniforms
from simct.models.teachers import LocalTeacher, Teacher
from simct.tokenization.model_tokens import load_tokens
from simct.tokenization.pair import TokenizerPair
from simct.tokenization.token_bytes import TokenBytes

# the place of these draws in the seed sequence, apart from every training step's
DRAWS = 15_487_469
# an answer that ended at once spells nothing; it counts as if it had one byte
LEAST_BYTES = 1


@dataclass(frozen=True)
class Speaker:
    """A model with its tokenizer as bytes, and the ids of the prompts as its own template writes them."""

    model: PreTrainedModel
    tokens: TokenBytes
    prompts: Sequence[list[int]]

    @property
    def teacher(self) -> Teacher:
        """The model as one that reads texts."""
        return LocalTeacher(self.model, self.tokens)

    @property
    def pad_id(self) -> int:
        return pad_id_of(self.tokens.tokenizer, self.tokens.end_ids)


@dataclass(frozen=True)
class Distance:
    """Bits per byte from one model's answers to the other, with the standard error of the mean.

    `bits` holds (log2 p_writer - log2 p_reader) / bytes by prompt index, for paired comparisons. `bytes` is the length
    of all texts together, `excluded` counts answers that were left out, by reason.
    """

    bits: dict[int, float]
    bytes: int
    excluded: dict[str, int] = field(default_factory=dict)

    @property
    def answers(self) -> int:
        return len(self.bits)

    @property
    def mean(self) -> float:
        """Bits per byte. Raises DataError where no answer could be compared."""
        return _mean(list(self.bits.values()))

    @property
    def standard_error(self) -> float | None:
        """Of the mean, over answers; None for a single one."""
        return _standard_error(list(self.bits.values()))

    def to_dict(self) -> dict:
        return {
            "bits_per_byte": self.mean,
            "stderr": self.standard_error,
            "answers": self.answers,
            "bytes": self.bytes,
            "excluded": dict(self.excluded),
            "bits": {str(index): value for index, value in self.bits.items()},
        }

    @classmethod
    def from_dict(cls, record: dict) -> "Distance":
        bits = {int(index): float(value) for index, value in record["bits"].items()}
        return cls(bits, int(record["bytes"]), dict(record.get("excluded", {})))


@dataclass(frozen=True)
class Change:
    """How a distance changed between two measurements on the same prompts: the mean paired difference and its error."""

    mean: float
    standard_error: float | None
    answers: int

    @property
    def exceeds_noise(self) -> bool:
        """Whether the change is more than two standard errors from zero."""
        return self.standard_error is not None and abs(self.mean) > 2 * self.standard_error


def change(before: Distance, after: Distance) -> Change:
    """The paired change over the prompts that both measured. Raises DataError where there is none."""
    common = before.bits.keys() & after.bits.keys()
    differences = [after.bits[index] - before.bits[index] for index in sorted(common)]
    return Change(_mean(differences), _standard_error(differences), len(differences))


@dataclass(frozen=True)
class Distances:
    """Both directions, on the same prompts."""

    student_to_teacher: Distance
    teacher_to_student: Distance

    def to_dict(self) -> dict:
        return {
            "student_to_teacher": self.student_to_teacher.to_dict(),
            "teacher_to_student": self.teacher_to_student.to_dict(),
        }


def distance(
    student: str,
    teacher: str,
    prompts: str,
    samples: int | None = 64,
    max_new_tokens: int = 128,
    dtype: str = "float32",
    seed: int = 0,
    token: str | bool | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    teacher_system: str | None = None,
) -> Distances:
    """Measure both directions on the first `samples` prompts of a file or Hub dataset.

    `student` and `teacher` are Hub ids or folders, `id@revision` for a revision. Each model answers every prompt once,
    in its own chat template, the teacher after `teacher_system` where given. `on_progress(answers written, answers in
    all)`. Raises one-line SimCTErrors.
    """
    read = load_prompts(DataConfig(prompts=prompts, limit=samples), token)
    device = device_for_training()
    sides = {}
    for side, name in (("student", student), ("teacher", teacher)):
        model, revision = split_revision(name)
        tokens = load_tokens(model, revision, token)
        rendered = render_prompts(side, tokens.tokenizer, read, None, teacher_system if side == "teacher" else None)
        described = ModelConfig(model=model, revision=revision, dtype=dtype)
        sides[side] = described, tokens, rendered.ids
    both = [index for index in range(len(read)) if all(ids[index] for _, _, ids in sides.values())]
    if not both:
        raise DataError(f"No prompt of {prompts!r} can be read by both models: their chat templates refuse them.")
    speakers = {}
    for side, (described, tokens, ids) in sides.items():
        loaded = load_model(described, device, token).eval()
        check_head(loaded)
        speakers[side] = Speaker(loaded, tokens, [list(ids[index] or ()) for index in both])
    found = []
    for number, (writer, reader) in enumerate((("student", "teacher"), ("teacher", "student"))):

        def report(done: int, total: int, before: int = number) -> None:
            if on_progress:
                on_progress(before * total + done, 2 * total)

        answers = draw(speakers[writer], max_new_tokens, seed, on_progress=report)
        found.append(distance_of(speakers[writer], speakers[reader], answers))
    return Distances(*found)


def draw(
    writer: Speaker,
    max_new_tokens: int,
    seed: int = 0,
    batch_size: int = 16,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Rollout]:
    """One answer to each prompt from the writer's whole distribution; a draw depends on (seed, prompt index) only.

    `on_progress(answers written, answers in all)` is called after each batch.
    """
    order = sorted(range(len(writer.prompts)), key=lambda index: len(writer.prompts[index]))
    answers: dict[int, Rollout] = {}
    for first in range(0, len(order), batch_size):
        some = order[first : first + batch_size]
        rollouts = generate(
            writer.model,
            [writer.prompts[index] for index in some],
            writer.tokens.end_ids,
            writer.pad_id,
            n_candidates=len(writer.tokens.bytes_of),
            max_new_tokens=max_new_tokens,
            temperature=1.0,
            top_p=1.0,
            uniforms_BM=uniforms(seed, DRAWS, some, max_new_tokens),
        )
        answers |= dict(zip(some, rollouts, strict=True))
        if on_progress:
            on_progress(len(answers), len(order))
    return [answers[index] for index in range(len(order))]


def distance_of(writer: Speaker, reader: Speaker, answers: Sequence[Rollout], batch_size: int = 16) -> Distance:
    """The distance from the writer to the reader on `answers`, one of the writer's to each prompt.

    Raises DataError where no answer can be compared.
    """
    # the pair's "student" is whoever wrote, and its "teacher" reads what was written
    pair = TokenizerPair(teacher=reader.tokens, student=writer.tokens)
    excluded: Counter[str] = Counter()
    written: dict[int, list[int]] = {}
    read: dict[int, list[int]] = {}
    for index, answer in enumerate(answers):
        spelled = pair.teacher_ids_for(answer.completion_ids)
        if spelled.excluded:
            excluded[spelled.excluded] += 1
            continue
        if spelled.cut_bytes:
            excluded["trailing bytes that are not UTF-8"] += 1
        if not spelled.n_student:
            excluded["an empty answer"] += 1
            continue
        written[index] = answer.completion_ids[: spelled.n_student]
        read[index] = list(spelled.ids)
    bits: dict[int, float] = {}
    total = 0
    own = log_probabilities(writer, written, batch_size)
    other = log_probabilities(reader, read, batch_size)
    for index, ids in written.items():
        text = ids[:-1] if ids[-1] in writer.tokens.end_ids else ids
        size = max(LEAST_BYTES, int(writer.tokens.lengths[text].sum()))
        bits[index] = (own[index] - other[index]) / math.log(2) / size
        total += size
    if not bits:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in excluded.items()) or "there are no prompts"
        raise DataError(f"The distance cannot be measured: none of the {len(answers)} answers can be used ({reasons}).")
    return Distance(bits, total, dict(excluded))


@torch.no_grad()
def log_probabilities(speaker: Speaker, completions: dict[int, list[int]], batch_size: int = 16) -> dict[int, float]:
    """log p (nats) of each completion after the prompt of its index, by the speaker's own ids.

    Probabilities are over the ids that the tokenizer knows, as in sampling; an end-of-turn id stands for all of them.
    """
    order = sorted(completions, key=lambda index: len(speaker.prompts[index]) + len(completions[index]))
    found: dict[int, float] = {}
    teacher = speaker.teacher
    was_training = speaker.model.training
    speaker.model.eval()
    try:
        for first in range(0, len(order), batch_size):
            some = order[first : first + batch_size]
            ids = [completions[index] for index in some]
            prompts = [list(speaker.prompts[index]) for index in some]
            log_p_R = _log_probability_rows(teacher.start(prompts, ids)(), ids, speaker.tokens)
            sums = [float(part.double().sum()) for part in log_p_R.split([len(each) for each in ids])]
            found |= dict(zip(some, sums, strict=True))
    finally:
        speaker.model.train(was_training)
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
        # what is not listed counts as known: all that a teacher on a server can write spells something
        logits_NV = logits_NV if isinstance(side, ListedSide) else logits_NV[:, :known]
        ids_N = ids_R[rows_N]
        own_N = logits_NV.gather(1, ids_N[:, None]).squeeze(1)
        ended_N = torch.isin(ids_N, ends_E)
        own_N = torch.where(ended_N, logits_NV.index_select(1, ends_E).logsumexp(1), own_N)
        parts.append(own_N - logits_NV.logsumexp(1))
    return torch.cat(parts)


def _mean(values: Sequence[float]) -> float:
    if not values:
        raise DataError("The distance cannot be measured: no prompt was answered in both measurements.")
    return statistics.fmean(values)


def _standard_error(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    return statistics.stdev(values) / math.sqrt(len(values))
