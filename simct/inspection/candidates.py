"""The candidates SimCT sees at one place of a text, and the scores of every unit: both models, side by side.

This reads the same numbers as the losses, in their notation (docs/method.md), but shows them instead of summing them
up.
Shapes: U units of a text, N units of a chunk, R rows of those units, V vocabulary, C shared columns, K rows of one
unit.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from simct.data.conversations import with_system
from simct.data.templates import prompt_ids
from simct.errors import AlignmentError, DataError
from simct.hub.model_config import context_of
from simct.inspection.coverage import Spelled, pieces, printable, show_unit, spell
from simct.inspection.records import (
    Candidate,
    Candidates,
    LostRow,
    MeasuredCandidate,
    MeasuredCandidates,
    OtherCandidates,
    ShownUnit,
    StudentToken,
    TeacherToken,
    UnitScore,
)
from simct.inspection.unit_scores import score_chunk
from simct.losses.divergence import divergence_with_gradient
from simct.losses.head import Head
from simct.losses.side import HeadSide, chunk_rows_for
from simct.models.loading import hidden_rows, pad_id_of
from simct.tokenization.pair import TokenizerPair
from simct.tokenization.token_bytes import TokenBytes
from simct.tokenization.units import build_units, chunks_by_rows

END_OF_TURN = "end of turn"
WINDOW = 1024  # the most tokens of either side that are read at once; at least half of them precede the scored units
MOST_UNSHARED = 8  # how many tokens to list of those that the other side does not have


def candidates_at(
    pair: TokenizerPair,
    teacher_model: PreTrainedModel | None,
    student_model: PreTrainedModel | None,
    text: str,
    unit_index: int,
    top: int = 20,
    *,
    prompt: str | None = None,
    teacher_system: str | None = None,
) -> Candidates:
    """What SimCT compares at the start of unit `unit_index` of `text`: MeasuredCandidates with both models.

    At most `top` candidates are listed. The models read `prompt` by their chat templates first, or else just a start
    token (BOS, else the end of turn); the teacher reads `teacher_system` before a prompt. Raises DataError if there is
    no such unit, AlignmentError if one side cannot spell the text.
    """
    spelled = spell(pair, text)
    if not 0 <= unit_index < len(spelled.units):
        last = len(spelled.units) - 1
        raise DataError(f"There is no unit {unit_index}: this text has the units 0 to {last}.")
    unit = spelled.units[unit_index]
    shown = show_unit(pair, spelled, unit_index)
    multi = len(shown.student_ids) > 1 or len(shown.teacher_ids) > 1
    shared = len(pair.shared_student_ids)
    if teacher_model is None or student_model is None:
        rows = [_candidate(pair, shared, shown)] if multi else []
        return Candidates(unit_index, shown, shared, shared + multi, rows)

    leads = _leads(pair, prompt, teacher_system)
    first = _context_start(spelled, unit_index, _room(teacher_model, student_model, leads))
    sides = []
    with torch.inference_mode():
        for tokens, model, ids, start, end, starts, ahead in (
            (pair.student, student_model, spelled.student_ids, unit.student_start, unit.student_end,
             spelled.units.student_start, leads[1]),
            (pair.teacher, teacher_model, spelled.teacher_ids, unit.teacher_start, unit.teacher_end,
             spelled.units.teacher_start, leads[0]),
        ):  # fmt: skip
            before = ahead + ids[int(starts[first]) : start]
            sides.append(_one_unit(pair, tokens, model, before, ids[start:end]))
    student, teacher = sides
    return _measured(pair, unit_index, shown, student, teacher, top)


def score_units(
    pair: TokenizerPair,
    teacher_model: PreTrainedModel,
    student_model: PreTrainedModel,
    text: str,
    *,
    prompt: str | None = None,
    teacher_system: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[UnitScore]:
    """Both models' scores of every unit of `text`, in order (fewer if stopped).

    Texts longer than WINDOW tokens are read in overlapping windows: each unit after at least half a window of the text
    before it. on_progress(units done, units in all). Raises AlignmentError if one side cannot spell the text.
    """
    spelled = spell(pair, text)
    rows: list[UnitScore] = []
    leads = _leads(pair, prompt, teacher_system)
    for context, start, end in _windows(spelled, _room(teacher_model, student_model, leads)):
        if should_stop and should_stop():
            break
        with torch.inference_mode():
            rows += _score_window(pair, teacher_model, student_model, spelled, leads, context, start, end)
        if on_progress:
            on_progress(len(rows), len(spelled.units))
    return rows


def lead(tokens: TokenBytes, prompt: str | None, system: str | None = None) -> list[int]:
    """Ids read before a text: the prompt by the chat template, or the start token (BOS, else the end of turn)."""
    if prompt:
        return prompt_ids(tokens.tokenizer, with_system([{"role": "user", "content": prompt}], system))
    bos = tokens.tokenizer.bos_token_id
    return [tokens.end_ids[0] if bos is None else bos]


def _leads(pair: TokenizerPair, prompt: str | None, system: str | None) -> tuple[list[int], list[int]]:
    return lead(pair.teacher, prompt, system), lead(pair.student, prompt)


def _room(teacher_model: PreTrainedModel, student_model: PreTrainedModel, leads: tuple[list[int], list[int]]) -> int:
    """The number of tokens of either side that fit in a window after the text that both models read first."""
    limits = [context_of(model.config) for model in (teacher_model, student_model)]
    room = min([WINDOW, *filter(None, limits)]) - max(map(len, leads))
    if room < 2:
        raise DataError("The prompt leaves no room for the text in the models' context: shorten it.")
    return room


def _context_start(spelled: Spelled, index: int, room: int) -> int:
    """The first unit that can be read before unit `index` is over, with `room` tokens on either side."""
    units = spelled.units
    for ends, starts in ((units.teacher_end, units.teacher_start), (units.student_end, units.student_start)):
        if ends[index] - starts[index] > room:
            raise DataError(
                f"Unit {index} alone is {ends[index] - starts[index]:,} tokens long, more than fit: {room:,}."
            )
    return max(
        int((starts < ends[index] - room).sum())
        for ends, starts in ((units.teacher_end, units.teacher_start), (units.student_end, units.student_start))
    )


def _windows(spelled: Spelled, room: int) -> Iterator[tuple[int, int, int]]:
    """(first unit read, first unit scored, one past the last), so that windows overlap by half."""
    units, start = spelled.units, 0
    while start < len(units):
        context = 0
        if start:
            half = room // 2
            context = max(
                int((begins < begins[start] - half).sum()) for begins in (units.teacher_start, units.student_start)
            )
            context = max(context, _context_start(spelled, start, room))
        else:
            _context_start(spelled, 0, room)
        end = min(
            int((ends <= begins[context] + room).sum())
            for ends, begins in ((units.teacher_end, units.teacher_start), (units.student_end, units.student_start))
        )
        yield context, start, end
        start = end


def _score_window(
    pair: TokenizerPair,
    teacher_model: PreTrainedModel,
    student_model: PreTrainedModel,
    spelled: Spelled,
    leads: tuple[list[int], list[int]],
    context: int,
    start: int,
    end: int,
) -> list[UnitScore]:
    """Units `start` to before `end`, read after the units from `context` on."""
    units = spelled.units
    sides, ids = [], []
    for tokens, model, side_ids, begins, ends, first_ids, shared_ids in (
        (pair.teacher, teacher_model, spelled.teacher_ids, units.teacher_start, units.teacher_end, leads[0],
         pair.shared_teacher_ids),
        (pair.student, student_model, spelled.student_ids, units.student_start, units.student_end, leads[1],
         pair.shared_student_ids),
    ):  # fmt: skip
        before = first_ids + side_ids[int(begins[context]) : int(begins[start])]
        ids.append(side_ids[int(begins[start]) : int(ends[end - 1])])
        hidden_RH, _ = hidden_rows(model, [before], [ids[-1]], pad_id_of(tokens.tokenizer, tokens.end_ids))
        sides.append(HeadSide(hidden_RH, Head.of(model), shared_ids.to(hidden_RH.device)))
    teacher, student = sides
    batch = build_units(pair, [(ids[0], ids[1])])
    chunk_rows = chunk_rows_for(student.tensors[0].device, max(student.vocabulary, teacher.vocabulary))
    rows: list[UnitScore] = []
    for chunk_N in chunks_by_rows(torch.arange(len(batch)), batch, chunk_rows):
        rows += score_chunk(batch, chunk_N, student, teacher).rows()
    return rows


# One position


@dataclass
class _Side:
    """One model at one unit: log p of its first row [V], of the unit's own tokens [K], and of the shared tokens [C]."""

    log_p_V: torch.Tensor
    own_K: torch.Tensor
    shared_C: torch.Tensor

    @property
    def score(self) -> torch.Tensor:
        """Of the unit: the mean over its tokens."""
        return self.own_K.mean()


def _one_unit(
    pair: TokenizerPair, tokens: TokenBytes, model: PreTrainedModel, before: list[int], ids: list[int]
) -> _Side:
    hidden_KH, _ = hidden_rows(model, [before], [ids], pad_id_of(tokens.tokenizer, tokens.end_ids))
    shared_ids_C = pair.shared_student_ids if tokens is pair.student else pair.shared_teacher_ids
    side = HeadSide(hidden_KH, Head.of(model), shared_ids_C.to(hidden_KH.device))
    log_p_KV = torch.log_softmax(side.block(torch.arange(len(ids), device=hidden_KH.device)).logits_NC, -1).cpu()
    own_K = log_p_KV[torch.arange(len(ids)), torch.tensor(ids)]
    return _Side(log_p_KV[0], own_K, log_p_KV[0, shared_ids_C])


def _measured(
    pair: TokenizerPair, index: int, shown: ShownUnit, student: _Side, teacher: _Side, top: int
) -> MeasuredCandidates:
    multi = len(shown.student_ids) > 1 or len(shown.teacher_ids) > 1
    scores_S, scores_T = (
        torch.cat([side.shared_C, side.score[None]]) if multi else side.shared_C for side in (student, teacher)
    )
    kl = float(divergence_with_gradient(scores_S[None], scores_T[None], "reverse_kl")[0][0])
    q_S, q_T = torch.softmax(scores_S, -1), torch.softmax(scores_T, -1)
    written = len(scores_S) - 1
    if not multi:
        written = int(pair.student_to_shared[shown.student_ids[0]]) if shown.kind == "shared" else -1
    numbers = (scores_S.exp(), scores_T.exp(), q_S, q_T)
    columns = _most_likely(q_S, q_T, top, written)
    rows = [
        _with_numbers(_candidate(pair, column, shown), [float(each[column]) for each in numbers], column == written)
        for column in columns
    ]
    rest = (float(each.sum()) - sum(each[columns].tolist()) for each in numbers)
    lost = LostRow(
        row=multi,
        student_tokens=len(shown.student_ids) if multi else 0,
        teacher_tokens=len(shown.teacher_ids) if multi else 0,
        student_mass=float(student.score.exp()) if multi else 0.0,
        teacher_mass=float(teacher.score.exp()) if multi else 0.0,
        kl=kl if multi else 0.0,
    )
    return MeasuredCandidates(
        index=index,
        unit=shown,
        shared_candidates=len(pair.shared_student_ids),
        candidates=len(q_S),
        rows=rows,
        rest=OtherCandidates(len(q_S) - len(rows), *rest),
        Z_S=float(numbers[0].sum()),
        Z_T=float(numbers[1].sum()),
        student_shared=float(student.shared_C.exp().sum()),
        teacher_shared=float(teacher.shared_C.exp().sum()),
        kl=kl,
        thrown_away_by_strict=lost,
        teacher_outside=[
            TeacherToken(*shown, *_spelling(pair.student, data))
            for data, shown in _unshared(pair.teacher, pair.shared_teacher_ids, teacher)
        ],
        student_outside=[
            StudentToken(*shown, *_spelling(pair.teacher, data))
            for data, shown in _unshared(pair.student, pair.shared_student_ids, student)
        ],
    )


def _most_likely(q_S: torch.Tensor, q_T: torch.Tensor, top: int, written: int) -> list[int]:
    """The columns that are most likely on either side, what is written among them."""
    columns = torch.maximum(q_S, q_T).topk(min(top, len(q_S))).indices.tolist()
    if written >= 0 and written not in columns:
        columns = [*columns[: max(top - 1, 0)], written]
    return columns


def _candidate(pair: TokenizerPair, column: int, shown: ShownUnit) -> Candidate:
    """The shared token of that column; behind the last of them, the unit itself."""
    if column == len(pair.shared_student_ids):
        return Candidate(shown.text, shown.bytes, None, None, "unit")
    student_id, teacher_id = int(pair.shared_student_ids[column]), int(pair.shared_teacher_ids[column])
    data = pair.student.bytes_of[student_id] if column < len(pair.shared_student_ids) - 1 else None
    text = END_OF_TURN if data is None else printable(data)
    return Candidate(text, "" if data is None else data.hex(), student_id, teacher_id, "shared")


def _with_numbers(each: Candidate, numbers: Sequence[float], written: bool) -> MeasuredCandidate:
    names = (each.text, each.bytes, each.student_id, each.teacher_id, each.kind)
    student_mass, teacher_mass, student_q, teacher_q = numbers
    return MeasuredCandidate(*names, student_mass, teacher_mass, student_q, teacher_q, written)


def _unshared(
    tokens: TokenBytes, shared_ids_C: torch.Tensor, side: _Side
) -> Iterator[tuple[bytes | None, tuple[str, str, int, float]]]:
    """The most likely tokens of one side that are not candidates: their bytes, and (text, hex, id, mass)."""
    log_p_V = side.log_p_V.clone()
    log_p_V[shared_ids_C] = -torch.inf
    values, ids = log_p_V.topk(min(MOST_UNSHARED, len(log_p_V)))
    for mass, token_id in zip(values.exp().tolist(), ids.tolist(), strict=True):
        if mass == 0.0:
            continue
        data = tokens.bytes_of[token_id] if token_id < len(tokens.bytes_of) else None
        text = _special(tokens, token_id) if data is None else printable(data)
        yield data, (text, "" if data is None else data.hex(), token_id, mass)


def _spelling(tokens: TokenBytes, data: bytes | None) -> tuple[list[str], list[int]]:
    """How the other side writes `data`, as pieces and ids; empty if it cannot."""
    try:
        ids: Sequence[int] = [] if data is None else tokens.encode(data)
    except AlignmentError:
        ids = []
    return pieces(tokens, ids), list(ids)


def _special(tokens: TokenBytes, token_id: int) -> str:
    known = token_id < len(tokens.bytes_of)
    return str(tokens.tokenizer.convert_ids_to_tokens(token_id)) if known else "a row beyond the tokenizer"
