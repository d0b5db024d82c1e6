"""Whether a pair will work, and with which method: measured with both models on a few of the student's own answers.

The student writes, both models read, and every unit is measured: how much of their probability the methods can see, how
often a shared token is only the first piece of what the teacher means, and whether recovered units pull the student in
the same direction as exact matches. The verdict in words follows from these, with its numbers and recommended settings.
Small samples on a CPU are enough. Shapes: U units, N units of a chunk, R rows, H hidden size.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from transformers import PreTrainedModel

from simct import losses
from simct.config import RunConfig
from simct.config.evaluation import LONGEST_ANSWER
from simct.data.exclusions import exclusion_line
from simct.data.prompts import Prompt, load_prompts
from simct.data.samples import PreparedPrompt, Sample, prepare_prompts, to_samples, write_rollouts
from simct.errors import DataError, RunError
from simct.evaluation.distance import (
    Speaker,
    distance_from,
    draw_some,
    log_probabilities,
    read_log_probabilities,
    readings,
    sampled_answers,
)
from simct.evaluation.records import Distance
from simct.inspection.coarsening import neighboring_kl
from simct.inspection.gradients import compare, last_parameters
from simct.inspection.records import KlQuantiles, MassHistogram, Reliability, Splits, StartDistance
from simct.inspection.text_kinds import KINDS, kinds_of_bytes, kinds_of_spans
from simct.inspection.unit_scores import score_chunk
from simct.inspection.verdict import verdict_of
from simct.losses.diagnostics import measure_units
from simct.losses.head import Head, check_head
from simct.losses.side import HeadSide, Side, chunk_rows_for
from simct.losses.teacher_rows import TeacherRows, side_of
from simct.models.loading import hidden_rows, load_model, pad_id_of
from simct.models.served import ServedTeacher
from simct.models.teachers import LocalTeacher, Teacher, load_teacher
from simct.tokenization.pair import TokenizerPair
from simct.tokenization.token_bytes import TokenBytes
from simct.tokenization.units import UnitBatch, build_units, chunks_by_rows

ANSWERS_AT_A_TIME = 4
# answers that are written together, because a decoding step reads all weights, no matter how few answers there are
WRITTEN_AT_A_TIME = 16
# the numbers that are kept of every unit, from score_chunk
COLUMNS = ("kl", "z_s", "z_t", "student_score", "teacher_score", "top_s", "top_t")
Z_T_EDGES = [index / 10 for index in range(11)]  # the edges of the histogram; its last bin is everything above 1


def measure_pair(
    config: RunConfig,
    samples: int = 16,
    token: str | bool | None = None,
    device: torch.device | str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    models: tuple[PreTrainedModel | Teacher, PreTrainedModel] | None = None,
    prompts: Sequence[Prompt] | None = None,
) -> Reliability:
    """Measure the run's two models on `samples` answers of the student to the run's prompts, and give the verdict.

    `models` (teacher and student) and `prompts`: those of the run, if they are already loaded. `on_progress(done,
    total)` counts answers. `should_stop()` is called every few answers; if it is true, the verdict is about the answers
    so far. Raises one-line SimCTErrors; RunError if it was stopped before the first answer was measured.
    """
    pair = TokenizerPair.of_run(config, token)
    read = load_prompts(config.data, token) if prompts is None else list(prompts)
    asked, too_long = prepare_prompts(read[:samples], pair, config, [])
    progress = on_progress or (lambda done, total: None)
    progress(0, len(asked))
    teacher, student = _models(config, pair, device, token, models)
    totals = _Totals(pair, student, teacher)
    answered = _answers(config, pair, asked, totals, progress, should_stop)
    written = answered.written
    if not written:
        raise RunError("Stopped before the first answer was measured.")
    if not totals.answers:
        raise DataError(f"Nothing can be compared: {exclusion_line(answered.excluded, written)}")
    measured = replace(
        totals.result(),
        answers_written=written,
        answers_ended=answered.ended,
        prompts_too_long=too_long,
        excluded=dict(answered.excluded),
        max_new_tokens=config.rollout.max_new_tokens,
        stopped=written < len(asked),
    )
    verdict = verdict_of(measured)
    if not (should_stop and should_stop()):
        measured = with_start_distances(measured, config, pair, asked[:written], student, teacher)
    return replace(
        measured,
        verdict=verdict.text,
        method=verdict.method,
        method_options=verdict.options,
        settings=verdict.settings,
    )


@dataclass
class _Answered:
    """How many answers were measured, how many of them ended, and what was left out of them by reason."""

    written: int = 0
    ended: int = 0
    excluded: Counter[str] = field(default_factory=Counter)


def _answers(
    config: RunConfig,
    pair: TokenizerPair,
    asked: list[PreparedPrompt],
    totals: "_Totals",
    progress: Callable[[int, int], None],
    should_stop: Callable[[], bool] | None,
) -> _Answered:
    """Let the student answer the prompts and add its answers to `totals`, until it is done or stopped."""
    answered = _Answered()
    for first in range(0, len(asked), WRITTEN_AT_A_TIME):
        if should_stop and should_stop():
            break
        some = asked[first : first + WRITTEN_AT_A_TIME]
        ids, indices = [prompt.student_ids for prompt in some], list(range(first, first + len(some)))
        rollouts = write_rollouts(totals.student, pair.student, config, ids, 1, indices)
        for start in range(0, len(some), ANSWERS_AT_A_TIME):
            if answered.written and should_stop and should_stop():
                break
            part = slice(start, start + ANSWERS_AT_A_TIME)
            answered.written += len(rollouts[part])
            answered.ended += sum(rollout.ended for rollout in rollouts[part])
            usable = to_samples(pair, some[part], rollouts[part], answered.excluded)
            if usable:
                totals.add(usable)
            progress(answered.written, len(asked))
    return answered


def with_start_distances(
    measured: Reliability,
    config: RunConfig,
    pair: TokenizerPair,
    prompts: Sequence[PreparedPrompt],
    student: PreTrainedModel,
    teacher: Teacher,
) -> Reliability:
    """`measured` with the distance to the teacher on these prompts, in each direction that can be measured."""
    new_tokens, seed = min(config.rollout.max_new_tokens, LONGEST_ANSWER), config.training.seed
    indices, size = range(len(prompts)), config.evaluation.batch_size
    teacher_prompts = [prompt.teacher_ids for prompt in prompts]
    speaker = Speaker(student, pair.student, [prompt.student_ids for prompt in prompts])
    written = readings(pair, draw_some(speaker, indices, new_tokens, seed, size))
    theirs = readings(
        TokenizerPair(teacher=pair.student, student=pair.teacher),
        sampled_answers(teacher, teacher_prompts, indices, new_tokens, seed, size),
    )
    own, other = (read_log_probabilities(teacher, teacher_prompts, ids) for ids in (theirs.written, written.read))
    return replace(
        measured,
        student_to_teacher=_start(distance_from(written, log_probabilities(speaker, written.written), other)),
        teacher_to_student=_start(distance_from(theirs, own, log_probabilities(speaker, theirs.read))),
    )


def _start(found: Distance) -> StartDistance | None:
    return StartDistance(found.mean, found.standard_error, found.answers) if found.bits else None


def _models(
    config: RunConfig,
    pair: TokenizerPair,
    device: torch.device | str | None,
    token: str | bool | None,
    loaded: tuple[PreTrainedModel | Teacher, PreTrainedModel] | None,
) -> tuple[Teacher, PreTrainedModel]:
    teacher: Teacher
    if loaded:
        first, student = loaded
        if isinstance(first, PreTrainedModel):
            check_head(first)
            teacher = LocalTeacher(first, pair.teacher)
        else:
            teacher = first
    else:
        teacher = load_teacher(config.teacher, pair.teacher, device, token)
        student = load_model(config.student, device, token).eval()
    check_head(student)
    return teacher, student


def measure_samples(
    pair: TokenizerPair, student: PreTrainedModel, teacher: PreTrainedModel, samples: list[Sample]
) -> Reliability:
    """The numbers of `measure_pair` for given answers, without a verdict."""
    totals = _Totals(pair, student, LocalTeacher(teacher, pair.teacher))
    for first in range(0, len(samples), ANSWERS_AT_A_TIME):
        totals.add(samples[first : first + ANSWERS_AT_A_TIME])
    return totals.result()


class _Totals:
    """Adds up the measurements over batches of answers."""

    def __init__(self, pair: TokenizerPair, student: PreTrainedModel, teacher: Teacher) -> None:
        self.pair, self.student, self.teacher = pair, student, teacher
        self.answers = self.tokens = self.recovered_tokens = 0
        self.sums: defaultdict[str, float] = defaultdict(float)
        self.weights: Counter[str] = Counter()
        self.columns: dict[str, list[torch.Tensor]] = {name: [] for name in (*COLUMNS, "single", "apart", "merged")}
        self.kinds: Counter[tuple[str, int]] = Counter()  # (kind, sign of student - teacher tokens) -> units
        # gradients of exact matches in either half of the answers, and of recovered units
        self.gradients: list[list[torch.Tensor]] = []
        self.coin = random.Random(0)
        self.heads = False

    def add(self, samples: list[Sample]) -> None:
        pair = self.pair
        student_ids = [piece for sample in samples for piece in sample.student_pieces]
        teacher_ids = [piece for sample in samples for piece in sample.teacher_pieces]
        units = build_units(pair, list(zip(teacher_ids, student_ids, strict=True)))
        rows = self.teacher.start(
            [sample.prompt.teacher_ids for sample in samples],
            [sample.teacher_ids for sample in samples],
            [sample.teacher_spans for sample in samples],
        )()
        student_hidden_RH, _ = hidden_rows(
            self.student,
            [sample.prompt.student_ids for sample in samples],
            [sample.student_ids for sample in samples],
            _pad(pair.student),
            [sample.student_spans for sample in samples],
        )
        student_head = Head.of(self.student)
        halves_R = self._halves(samples).to(student_hidden_RH.device)
        self._add_gradients(student_hidden_RH, student_head, rows, student_ids, teacher_ids, halves_R)
        device = student_hidden_RH.device
        self._add_units(
            units,
            HeadSide(student_hidden_RH.detach(), student_head, pair.shared_student_ids.to(device)),
            side_of(rows, pair.shared_teacher_ids, device),
        )
        self._add_kinds(units, student_ids)
        self.answers += len(samples)
        self.tokens += sum(map(len, student_ids))
        self.recovered_tokens += int((units.student_size_U * ~units.single_U).sum())

    def _add_units(self, units: UnitBatch, student: HeadSide, teacher: Side) -> None:
        chunk_rows = chunk_rows_for(student.hidden_RH.device, max(student.vocabulary, teacher.vocabulary))
        before = len(self.columns["kl"])
        ends_T = torch.isin(units.teacher_ids_T, torch.tensor(self.pair.teacher.end_ids))
        on_device = units.to(student.hidden_RH.device)
        for chunk_N in chunks_by_rows(torch.arange(len(units)), units, chunk_rows):
            with torch.no_grad():
                means = measure_units(self.pair, on_device, chunk_N.to(student.hidden_RH.device), student, teacher)
                scored = score_chunk(units, chunk_N, student, teacher)
            for name, value in means.items():
                # nothing extends past the end of turn, so it does not count in the mean of hindsight
                ended = int(ends_T[units.teacher_start_U[chunk_N]].sum()) if name == "hindsight_mass" else 0
                self.sums[name] += float(value) * (len(chunk_N) - ended)
                self.weights[name] += len(chunk_N) - ended
            for name in COLUMNS:
                self.columns[name].append(getattr(scored, name).float())
            self.columns["single"].append(units.single_U[chunk_N])
        if not len(units):
            return
        kl_U, own_U, other_U, z_s_U, z_t_U = (
            torch.cat(self.columns[name][before:]) for name in ("kl", "student_score", "teacher_score", "z_s", "z_t")
        )
        written = own_U.exp() / z_s_U, other_U.exp() / z_t_U
        apart_P, merged_P = neighboring_kl(kl_U, *written, units.sequence_U)
        self.columns["apart"].append(apart_P)
        self.columns["merged"].append(merged_P)

    def _halves(self, samples: list[Sample]) -> torch.Tensor:
        """bool [R]: whether a student row belongs to the first half: one of every two answers, chosen at random."""
        flags = []
        for place, sample in enumerate(samples, self.answers):
            self.heads = self.coin.random() < 0.5 if place % 2 == 0 else not self.heads
            flags += [self.heads] * sum(map(len, sample.student_pieces))
        return torch.tensor(flags)

    def _add_kinds(self, units: UnitBatch, student_ids: list[list[int]]) -> None:
        for sequence, ids in enumerate(student_ids):
            data = self.pair.student.decode([i for i in ids if i not in self.pair.student.end_ids])
            try:
                kind_B = kinds_of_bytes(data.decode("utf-8"))
            except UnicodeDecodeError:
                continue
            mine_U = (units.sequence_U == sequence) & ~units.single_U
            starts, ends = (column[mine_U].numpy() for column in (units.byte_start_U, units.byte_end_U))
            longer_U = (units.student_size_U - units.teacher_size_U)[mine_U].sign().tolist()
            kinds = kinds_of_spans(kind_B, starts, ends).tolist()
            self.kinds.update((KINDS[kind], sign) for kind, sign in zip(kinds, longer_U, strict=True))

    def _add_gradients(
        self,
        student_hidden_RH: torch.Tensor,
        student_head: Head,
        teacher: TeacherRows,
        student_ids: list[list[int]],
        teacher_ids: list[list[int]],
        halves_R: torch.Tensor,
    ) -> None:
        """Gradients of the two parts of SimCT's loss, as it is the sum of both: strict, by halves, and the rest."""

        def at_hidden(method: str) -> torch.Tensor:
            result = losses.compute_from_rows(
                method, self.pair, student_hidden_RH, student_head, teacher, student_ids, teacher_ids, diagnostics=False
            )
            return torch.autograd.grad(result.loss_sum, student_hidden_RH, retain_graph=True)[0]

        strict_RH = at_hidden("strict")
        parameters = last_parameters(self.student)
        first_RH = strict_RH * halves_R[:, None]
        for part, part_RH in enumerate((first_RH, strict_RH - first_RH, at_hidden("simct") - strict_RH)):
            pulled = torch.autograd.grad(
                student_hidden_RH, parameters, part_RH, retain_graph=part < 2, allow_unused=True
            )
            gradients = [torch.zeros_like(p) if g is None else g for g, p in zip(pulled, parameters, strict=True)]
            if len(self.gradients) <= part:
                self.gradients.append(gradients)
            else:
                torch._foreach_add_(self.gradients[part], gradients)

    def result(self) -> Reliability:
        kl_U, z_t_U = (torch.cat(self.columns[name]) for name in ("kl", "z_t"))
        single_U, apart_P, merged_P = (torch.cat(self.columns[name]) for name in ("single", "apart", "merged"))
        compared = compare(*self.gradients)

        def mean(name: str) -> float:
            return self.sums[name] / max(self.weights[name], 1)

        return Reliability(
            mass_student=mean("mass_student"),
            mass_teacher=mean("mass_teacher"),
            listed=self.teacher.listed if isinstance(self.teacher, ServedTeacher) else None,
            candidate_mass=mean("candidate_mass"),
            prefix_conflict_mass=mean("prefix_conflict_mass"),
            hindsight_mass=mean("hindsight_mass"),
            units_shared=int(single_U.sum()),
            units_recovered=int((~single_U).sum()),
            kl_shared=_mean(kl_U[single_U]),
            kl_recovered=_mean(kl_U[~single_U]),
            kl_quantiles=KlQuantiles(_quantiles(kl_U[single_U]), _quantiles(kl_U[~single_U])),
            z_t=MassHistogram(
                edges=Z_T_EDGES,
                shared=_histogram(z_t_U[single_U]),
                recovered=_histogram(z_t_U[~single_U]),
                below_half=_mean((z_t_U < 0.5).float()),
            ),
            recovered_share=self.recovered_tokens / max(self.tokens, 1),
            recovered_kinds=_kind_table(self.kinds),
            gradient_cosine=compared.cosine,
            gradient_ratio=compared.ratio,
            gradient_noise=compared.noise,
            top16_student=_mean(torch.cat(self.columns["top_s"])),
            top16_teacher=_mean(torch.cat(self.columns["top_t"])),
            kl_units=_mean(apart_P) if len(apart_P) else None,
            kl_merged=_mean(merged_P) if len(merged_P) else None,
            answers=self.answers,
        )


def _pad(tokens: TokenBytes) -> int:
    return pad_id_of(tokens.tokenizer, tokens.end_ids)


def _mean(values_U: torch.Tensor) -> float:
    return float(values_U.mean()) if len(values_U) else 0.0


def _quantiles(values_U: torch.Tensor) -> list[float] | None:
    if not len(values_U):
        return None
    ordered_U = values_U.sort().values  # torch.quantile takes at most 16 million values
    return [float(ordered_U[round(share * (len(ordered_U) - 1))]) for share in (0.1, 0.5, 0.9)]


def _histogram(values_U: torch.Tensor) -> list[int]:
    """Counts between Z_T_EDGES, 1 itself included in the last of them, and above."""
    # masses that exceed one only by rounding are not above it
    bins_U = torch.bucketize(values_U - 1e-5, torch.tensor(Z_T_EDGES[1:]))
    return torch.bincount(bins_U, minlength=len(Z_T_EDGES)).tolist()


def _kind_table(kinds: Counter[tuple[str, int]]) -> dict[str, Splits]:
    """By kind of text, the most frequent first."""
    order = dict.fromkeys(kind for (kind, _), _ in kinds.most_common())
    return {kind: Splits(kinds[kind, 1], kinds[kind, -1], kinds[kind, 0]) for kind in order}
