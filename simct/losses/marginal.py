"""marginal: compare the two models on text instead of on tokens (ours; see docs/method.md).

Rows are all student boundaries and the teacher boundaries inside student tokens. At a row, both models' distributions
over what comes next are read as masses of byte strings. The teacher's strings are grouped into classes of student
strings, so that the student is not penalized for a token that may be the first piece of a longer one. The loss is the
divergence between the class masses. Shapes: N rows of a chunk, K_S and K_T distinct strings of each side, V vocabulary,
E listed teacher strings, Q pairs. Columns of student masses: K_S strings, then end of turn, then everything else.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from simct.losses.settings import LossSettings
from simct.losses.side import Block, ListedSide, Side, Totals, piece_rows_for
from simct.losses.strings import PairStrings, SortedVocabulary, StringMap, TextRows, pair_strings, text_rows
from simct.tokenization.units import UnitBatch

if TYPE_CHECKING:
    from simct.tokenization.pair import TokenizerPair

TINY = 1e-30
TEACHER_FLOOR = 1e-8  # keeps reverse KL finite where the teacher has no string


def accumulate(
    pair: "TokenizerPair",
    units: UnitBatch,
    student: Side,
    teacher: Side,
    settings: LossSettings,
    *,
    bridge: bool = True,
    significant: float = 1e-3,
    min_mass: float = 1e-4,
) -> Totals:
    """Sum of divergences over text rows.

    bridge: undo the teacher's knowledge of where its last token ended. significant: mass above which a string joins
    classes. min_mass: rows inside a teacher token are left out if the teacher gives its bytes so far less than this.
    """
    return accumulate_text(pair, units, student, teacher, settings, Rules(bridge, True, True, significant, min_mass))


@dataclass(frozen=True)
class Rules:
    """How strings become classes: `bpm` is the same machinery without joins and without rows inside student tokens.

    listed: the teacher lists only some tokens, so that a string without teacher mass belongs to everything else.
    """

    bridge: bool
    join: bool
    teacher_boundaries: bool
    significant: float
    min_mass: float
    listed: bool = False


def accumulate_text(
    pair: "TokenizerPair", units: UnitBatch, student: Side, teacher: Side, settings: LossSettings, rules: Rules
) -> Totals:
    """`accumulate` by any `rules`."""
    strings = pair_strings(pair)
    if strings.same_vocabulary:  # then every string is its own class, and both models have the same boundaries
        rules = replace(rules, bridge=False, join=False)
    rules = replace(rules, listed=isinstance(teacher, ListedSide))
    rows = text_rows(pair, units, rules.teacher_boundaries)
    single_row_S = torch.zeros(len(units.student_ids_S), dtype=torch.bool)
    single_row_S[units.student_start_U[units.single_U].cpu()] = True
    loss_sum, shared_sum, kept, shared = settings.zero(), settings.zero(), 0, 0
    piece_rows = piece_rows_for(settings.device, max(student.vocabulary, teacher.vocabulary))
    for start in range(0, len(rows), settings.chunk_rows):
        chunk = np.arange(start, min(start + settings.chunk_rows, len(rows)))
        wanted = teacher_rows(rows, chunk, rules)
        theirs = teacher.block(torch.from_numpy(wanted).to(settings.device))
        block = student.block(torch.from_numpy(rows.student_row[chunk]).to(settings.device))

        def read(teacher_rows: np.ndarray, wanted: np.ndarray = wanted, theirs: Block = theirs) -> torch.Tensor:
            place = torch.from_numpy(np.searchsorted(wanted, teacher_rows))
            return theirs.read(place.to(settings.device))

        # Matrix products are fastest on large blocks; the work between them, on pieces that stay in the cache.
        for first in range(0, len(chunk), piece_rows):
            places = slice(first, first + piece_rows)
            piece, logits_NV = chunk[places], block.read(places)
            target = teacher_target(strings, rows, piece, read, rules)
            value_N, single_N = _to_gradient(strings, rows, piece, logits_NV, target, settings, rules, single_row_S)
            block.write(logits_NV, places)
            loss_sum += value_N.sum()
            shared_sum += value_N[single_N].sum()
            kept += int(target.kept_N.sum())
            shared += int((single_N & target.kept_N).sum())
        block.backward()
    recovered = kept - shared
    stats: dict[str, float | torch.Tensor] = {
        "kl_shared": shared_sum / max(shared, 1),
        "kl_recovered": (loss_sum - shared_sum) / max(recovered, 1),
        "units_recovered": (~units.single_U).sum(),
        "share_left_out": (len(rows) - kept) / max(len(rows), 1),
    }
    return Totals(loss_sum, kept, stats, {"kl_shared": shared, "kl_recovered": recovered, "share_left_out": len(rows)})


@dataclass(eq=False)
class Strings:
    """Teacher strings listed by row: their masses, and their places among the student's strings. All [E]."""

    owner: torch.Tensor
    mass: torch.Tensor
    phi: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor

    @classmethod
    def join(cls, parts: list["Strings"]) -> "Strings":
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))

    def where(self, keep: torch.Tensor) -> "Strings":
        return Strings(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))


@dataclass(eq=False)
class Target:
    """The teacher's strings of a chunk: `whole_NK` for rows at boundaries of both sides, the others listed.

    whole_NK [N, K_T + 2]: masses of teacher tokens as strings, end of turn, everything else; rows that are listed only
    are zero. kept_N: rows whose teacher mass suffices.
    """

    whole_NK: torch.Tensor
    listed: Strings
    is_whole_N: torch.Tensor
    kept_N: torch.Tensor


def _gathered(maps: list[StringMap], owners: np.ndarray, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Concatenate maps: owner row and the five columns, as tensors [E]."""
    sizes = [len(m.teacher) for m in maps]
    columns = [np.repeat(owners, sizes)]
    for name in ("teacher", "whole", "phi", "extend_low", "extend_high"):
        columns.append(np.concatenate([getattr(m, name) for m in maps]) if maps else np.zeros(0, np.int64))
    return tuple(torch.from_numpy(column).to(device) for column in columns)


def teacher_rows(rows: TextRows, chunk: np.ndarray, rules: Rules) -> np.ndarray:
    """Teacher rows read for `chunk`, in ascending order: its own, and with a bridge those before them."""
    previous = rows.previous_row[chunk] if rules.bridge else np.zeros(0, np.int64)
    return np.unique(np.concatenate([rows.teacher_row[chunk], previous[previous >= 0]]))


def teacher_target(
    strings: PairStrings, rows: TextRows, chunk: np.ndarray, read: Callable[[np.ndarray], torch.Tensor], rules: Rules
) -> Target:
    """The teacher's distribution over strings at rows `chunk` (indices into `rows`), normalized per row.

    `read(teacher_rows)` returns the teacher's logits [R, V] there.
    """
    vocabulary = strings.teacher
    at_row = rows.teacher_row[chunk]
    previous = rows.previous_row[chunk] if rules.bridge else np.full(len(chunk), -1)
    wanted = teacher_rows(rows, chunk, rules)
    mass_RK = mass_by_string(torch.softmax(read(wanted), -1), vocabulary)
    device = mass_RK.device
    at_N = torch.from_numpy(np.searchsorted(wanted, at_row)).to(device)
    inside = np.array([len(rows.teacher_prefix[r]) > 0 for r in chunk], dtype=bool)
    whole = ~inside & np.array([len(rows.student_prefix[r]) == 0 for r in chunk], dtype=bool)
    part = ~inside & ~whole
    kept_N = torch.ones(len(chunk), dtype=torch.bool, device=device)

    # rows at a teacher boundary read the whole next-token row
    now_NK = mass_RK[at_N]
    now_NK[torch.from_numpy(inside).to(device)] = 0.0
    lists = []
    bridged = np.flatnonzero((previous >= 0) & ~inside)
    if len(bridged):
        before_B = torch.from_numpy(np.searchsorted(wanted, previous[bridged])).to(device)
        lists.append(_bridge(strings, rows, chunk, bridged, mass_RK[before_B], now_NK))
    if inside.any():
        index = np.flatnonzero(inside)
        maps = [strings.map(rows.teacher_prefix[r], rows.student_prefix[r]) for r in chunk[index]]
        owner, rank, _, phi, low, high = _gathered(maps, index, device)
        mass_E = mass_RK[at_N[owner], rank]
        total_N = torch.zeros_like(mass_RK[:1, 0]).repeat(len(chunk)).index_add_(0, owner, mass_E)
        inside_N = torch.from_numpy(inside).to(device)
        kept_N &= ~inside_N | (total_N > max(rules.min_mass, TINY))
        lists.append(Strings(owner, mass_E / total_N.clamp_min(TINY)[owner], phi, low, high))
    if part.any():
        index = np.flatnonzero(part)
        maps = [strings.map(b"", rows.student_prefix[r]) for r in chunk[index]]
        owner, rank, _, phi, low, high = _gathered(maps, index, device)
        lists.append(Strings(owner, now_NK[owner, rank], phi, low, high))
    whole_N = torch.from_numpy(whole).to(device)
    now_NK[~whole_N] = 0.0
    orphan_O = np.flatnonzero(
        (strings.whole_map.phi < 0) & (strings.whole_map.extend_low < strings.whole_map.extend_high)
    )
    if len(orphan_O) and whole.any():  # only if the student lacks some single bytes
        listing = [strings.whole_map.take(orphan_O)] * int(whole.sum())
        owner, rank, _, phi, low, high = _gathered(listing, np.flatnonzero(whole), device)
        lists.append(Strings(owner, now_NK[owner, rank], phi, low, high))
        now_NK[:, torch.from_numpy(strings.whole_map.teacher[orphan_O]).to(device)] = 0.0
    listed = Strings.join(lists) if lists else Strings(*(at_N.new_zeros(0) for _ in range(5)))
    listed.mass = listed.mass.to(now_NK.dtype)
    return Target(now_NK, listed, whole_N, kept_N)


def _bridge(
    strings: PairStrings,
    rows: TextRows,
    chunk: np.ndarray,
    bridged: np.ndarray,
    before_BK: torch.Tensor,
    now_NK: torch.Tensor,
) -> Strings:
    """Share the masses `now_NK` with what the teacher's last token could still have become, and return those strings.

    `bridged` are places in `chunk`, and `before_BK` the teacher's masses at the rows before their last token.
    """
    device = now_NK.device
    row_B = torch.arange(len(bridged), device=device)
    spelled_B = torch.tensor([strings.teacher.rank_of[rows.previous[chunk[b]]] for b in bridged], device=device)
    ended_B = before_BK[row_B, spelled_B]
    maps = [strings.map(rows.previous[chunk[b]], rows.student_prefix[chunk[b]]) for b in bridged]
    place, rank, whole_rank, phi, low, high = _gathered(maps, np.arange(len(bridged)), device)
    beyond_E = before_BK[place, rank] * (rank != spelled_B[place])
    total_B = ended_B.index_add(0, place, beyond_E)
    usable_B = total_B > TINY
    beyond_E = torch.where(usable_B[place], beyond_E / total_B.clamp_min(TINY)[place], 0.0)
    rows_B = torch.from_numpy(bridged).to(device)
    now_NK[rows_B] *= torch.where(usable_B, ended_B / total_B.clamp_min(TINY), 1.0)[:, None]
    owner = rows_B[place]
    token_E = whole_rank >= 0  # the same string can also be written as a token: one string, one mass
    now_NK.index_put_((owner[token_E], whole_rank[token_E]), beyond_E[token_E], accumulate=True)
    return Strings(owner, beyond_E, phi, low, high).where(~token_E & (rank != spelled_B[place]))


def mass_by_string(p_NV: torch.Tensor, vocabulary: SortedVocabulary) -> torch.Tensor:
    device = p_NV.device
    mass_NK = p_NV.new_zeros(len(p_NV), vocabulary.size + 2)
    mass_NK[:, : vocabulary.size] = p_NV.index_select(1, vocabulary.id_of_rank.to(device))
    if len(vocabulary.doubled_ids):
        doubled = vocabulary.doubled_ids.to(device)
        mass_NK.index_add_(1, vocabulary.rank_of_id.to(device)[doubled], p_NV.index_select(1, doubled))
    mass_NK[:, vocabulary.size] = p_NV.index_select(1, vocabulary.end_ids.to(device)).sum(1)
    # added up, because rounding would make 1 - (sum of the others) zero if a model is nearly certain
    mass_NK[:, vocabulary.size + 1] = p_NV.index_select(1, vocabulary.silent_columns(p_NV)).sum(1)
    return mass_NK


def _to_gradient(
    strings: PairStrings,
    rows: TextRows,
    chunk: np.ndarray,
    logits_NV: torch.Tensor,
    target: Target,
    settings: LossSettings,
    rules: Rules,
    single_row_S: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Row losses [N] (zero where left out), and which rows start a 1:1 unit; the gradient takes the logits' place."""
    vocabulary = strings.student
    device = target.kept_N.device
    string_V = vocabulary.rank_of_column(logits_NV)
    held = [(n, vocabulary.starting(rows.student_prefix[r])) for n, r in enumerate(chunk) if rows.student_prefix[r]]
    for n, (low, high) in held:  # inside a token: only tokens that start with the written bytes are still possible
        logits_NV[n].masked_fill_((string_V < low) | (string_V >= high), float("-inf"))
    p_NV = torch.softmax(logits_NV, -1)
    mass_NK = mass_by_string(p_NV, vocabulary)
    classes = student_classes(strings, target, mass_NK, rules)
    value_N, gradient_NK = class_divergence(classes, mass_NK, settings)
    value_N = torch.where(target.kept_N, value_N, 0.0)
    gradient_NK[~target.kept_N] = 0.0
    gradient_NV = gradient_NK.index_select(1, string_V)
    mean_N = (p_NV * gradient_NV).sum(1, keepdim=True)
    torch.mul(gradient_NV.sub_(mean_N), p_NV, out=logits_NV)
    boundary = torch.tensor([not rows.student_prefix[r] and not rows.teacher_prefix[r] for r in chunk], device=device)
    return value_N, single_row_S.to(device)[torch.from_numpy(rows.student_row[chunk]).to(device)] & boundary


@dataclass(eq=False)
class Classes:
    """Teacher mass per column [N, K_S + 2], the columns that are in a class, and which columns join another [M]."""

    teacher_NK: torch.Tensor
    member_NK: torch.Tensor
    row_M: torch.Tensor
    column_M: torch.Tensor
    root_M: torch.Tensor


def student_classes(strings: PairStrings, target: Target, mass_NK: torch.Tensor, rules: Rules) -> Classes:
    """Assign every teacher string to a student string, and join classes that one significant string straddles."""
    size, device = strings.student.size, mass_NK.device
    end, other = size, size + 1
    phi_K = torch.full((strings.teacher.size + 2,), other, dtype=torch.int64)
    phi_K[: strings.teacher.size] = torch.from_numpy(np.where(strings.whole_map.phi < 0, other, strings.whole_map.phi))
    phi_K[strings.teacher.size] = end
    phi_K = phi_K.to(device)
    teacher_NK = torch.zeros_like(mass_NK)
    teacher_NK.scatter_add_(1, phi_K.expand(len(mass_NK), -1), target.whole_NK)
    member_NK = teacher_NK > 0.0
    if not rules.listed:
        member_NK[:, phi_K] = target.is_whole_N[:, None]

    width = size + 2
    significant_N, significant_K = (mass_NK[:, :size] > rules.significant).nonzero(as_tuple=True)
    key_G = significant_N * width + significant_K  # sorted: rows in order, ranks in order within a row
    listed = target.listed.where(target.listed.mass > 0.0) if rules.listed else target.listed
    phi_E = listed.phi
    first_E = torch.searchsorted(key_G, listed.owner * width + listed.low)
    found_E = key_G[first_E.clamp_max(max(len(key_G) - 1, 0))] if len(key_G) else torch.full_like(phi_E, -1)
    extends_E = (first_E < len(key_G)) & (found_E < listed.owner * width + listed.high)
    if rules.join:
        phi_E = torch.where((phi_E < 0) & extends_E, found_E - listed.owner * width, phi_E)
    target_E = torch.where(phi_E < 0, other, phi_E)
    teacher_NK.index_put_((listed.owner, target_E), listed.mass, accumulate=True)
    member_NK[listed.owner, target_E] = True
    # Strings that are not listed meet no student string.
    teacher_NK[:, other] += (~target.is_whole_N) * (1.0 - teacher_NK.sum(1)).clamp_min(0.0)
    member_NK[:, other] = True
    if not rules.join:
        empty = significant_N.new_zeros(0)
        return Classes(teacher_NK, member_NK, empty, empty, empty)

    row_W, rank_W = (target.whole_NK[:, : strings.teacher.size] > rules.significant).nonzero(as_tuple=True)
    heavy_E = (listed.mass > rules.significant) & (phi_E >= 0)
    table = torch.from_numpy(np.stack([strings.whole_map.extend_low, strings.whole_map.extend_high])).to(device)
    row_T = torch.cat([row_W, listed.owner[heavy_E]])
    phi_T = torch.cat([phi_K[rank_W], phi_E[heavy_E]])
    low_T = torch.searchsorted(key_G, row_T * width + torch.cat([table[0, rank_W], listed.low[heavy_E]]))
    high_T = torch.searchsorted(key_G, row_T * width + torch.cat([table[1, rank_W], listed.high[heavy_E]]))
    joins = [
        (row, phi, int(key_G[place]) - row * width)
        for row, phi, low, high in torch.stack([row_T, phi_T, low_T, high_T], 1)[low_T < high_T].tolist()
        for place in range(low, high)
    ]
    return Classes(teacher_NK, member_NK, *_roots(joins, device, member_NK))


def _roots(
    joins: list[tuple[int, int, int]], device: torch.device, member_NK: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Union-find over (row, string, string): rows, columns and roots [M] of the columns that are not their own root."""
    parent: dict[tuple[int, int], int] = {}

    def find(row: int, column: int) -> int:
        while parent.setdefault((row, column), column) != column:
            column = parent[row, column]
        return column

    for row, left, right in joins:
        parent[row, find(row, left)] = find(row, right)
    moved = [(row, column, find(row, column)) for row, column in parent]
    if moved:
        everyone = torch.tensor(moved, device=device)
        member_NK[everyone[:, 0], everyone[:, 1]] = True
    moved = [entry for entry in moved if entry[1] != entry[2]]
    return tuple(torch.tensor(moved, dtype=torch.int64, device=device).reshape(-1, 3).unbind(1))


def class_divergence(
    classes: Classes, mass_NK: torch.Tensor, settings: LossSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """Divergence [N] between class masses, and its gradient [N, K_S + 2] in the student's string masses."""
    teacher_NK, member_NK = classes.teacher_NK, classes.member_NK
    other = mass_NK.shape[1] - 1
    student_NK = mass_NK.clone()
    moved = (classes.row_M, classes.column_M)
    for values_NK in (student_NK, teacher_NK):
        values_NK.index_put_((classes.row_M, classes.root_M), values_NK[moved], accumulate=True)
        values_NK[moved] = 0.0
    outside_N = student_NK.masked_fill(member_NK, 0.0).sum(1)
    student_NK *= member_NK
    student_NK[:, other] += outside_N

    if settings.divergence == "forward_kl":
        ratio_NK = teacher_NK / student_NK.clamp_min_(TINY)
        value_N = (ratio_NK.clamp_min(TINY).log_() * teacher_NK).sum(1)
        gradient_NK = ratio_NK.neg_()
    else:
        live_NK = (student_NK > 0.0) | (teacher_NK > 0.0)
        log_student_NK, log_teacher_NK = student_NK.clamp_min(TINY).log_(), teacher_NK.clamp_min(TEACHER_FLOOR).log_()
        if settings.divergence == "reverse_kl":
            gradient_NK = log_student_NK - log_teacher_NK
            value_N = (student_NK * gradient_NK).sum(1)
            gradient_NK = torch.where(live_NK, gradient_NK + 1.0, 0.0)
        else:
            beta = settings.beta
            log_mix_NK = (beta * teacher_NK + (1.0 - beta) * student_NK).clamp_min(TINY).log_()
            value_N = beta * (teacher_NK * (log_teacher_NK - log_mix_NK)).sum(1)
            value_N += (1.0 - beta) * (student_NK * (log_student_NK - log_mix_NK)).sum(1)
            gradient_NK = torch.where(live_NK, (1.0 - beta) * (log_student_NK - log_mix_NK), 0.0)
    # Strings take the gradient of the class that they are in.
    gradient_NK = torch.where(member_NK, gradient_NK, gradient_NK[:, other:])
    gradient_NK[moved] = gradient_NK[classes.row_M, classes.root_M]
    return value_N, gradient_NK
