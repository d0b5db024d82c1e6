"""escd: the teacher's mass on the student's tokens (root), and what the student should write after its token (child).

From arXiv 2609.34738. Rows are the places where both models are at a boundary, the starts of units. There

    root   forward KL(q‖p); q(u) is the teacher's mass of all tokens whose longest student-token prefix is u, p(u) the
           student's own; what is left on each side is one complement class, and nothing is renormalized
    child  let a be the student token written at that row. Teacher tokens that are no token of the student form groups:
           a shortest token y and all that begin with it, of mass M. Where the bytes of a are a non-empty strict prefix
           of y, the rest r = y without them is how the student would have to continue: the row after a adds
           -M log of the student's mass on tokens that begin with r; nothing if it has no such token

and both sums are divided by the same number of rows. Groups never overlap: two tokens of which neither begins with the
other cannot both begin with r. Shapes: R student rows read, N rows of a chunk, D distinct teacher rows of a chunk,
K_S and K_T distinct strings of a side, G groups of a chunk, E and F listed strings of the student and the teacher.
"""

import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from simct.losses.marginal import (
    TINY,
    Rules,
    Strings,
    Target,
    class_divergence,
    mass_by_string,
    student_classes,
    teacher_rows,
    teacher_target,
)
from simct.losses.settings import LossSettings
from simct.losses.side import Block, ListedSide, Side, Totals, piece_rows_for
from simct.losses.strings import PairStrings, TextRows, pair_strings, text_rows
from simct.tokenization.units import UnitBatch

if TYPE_CHECKING:
    from simct.tokenization.pair import TokenizerPair


def accumulate(
    pair: "TokenizerPair",
    units: UnitBatch,
    student: Side,
    teacher: Side,
    settings: LossSettings,
    *,
    root: bool = True,
    child: bool = True,
    bridge: bool = False,
) -> Totals:
    """Sum of both terms over the starts of units.

    root, child: which terms count. bridge: undo the teacher's knowledge of where its last token ended (see `marginal`).
    The divergence of the run applies to the root; the child is a cross-entropy.
    """
    strings = pair_strings(pair)
    bridge = bridge and not strings.same_vocabulary
    rules = Rules(bridge, False, False, 1.0, 0.0, isinstance(teacher, ListedSide))
    plan = _plan(pair, units, strings, with_child=child)
    root_sum, child_sum, shared_sum = settings.zero(), settings.zero(), settings.zero()
    single_N = _starts_single_unit(units, plan)
    piece_rows = piece_rows_for(settings.device, max(student.vocabulary, teacher.vocabulary))
    for start in range(0, len(plan.student_row), settings.chunk_rows):
        chunk = np.arange(start, min(start + settings.chunk_rows, len(plan.student_row)))
        wanted = teacher_rows(plan.rows, plan.starts_in(chunk), rules)
        theirs = teacher.block(torch.from_numpy(wanted).to(settings.device))
        block = student.block(torch.from_numpy(plan.student_row[chunk]).to(settings.device))

        def read(rows: np.ndarray, wanted: np.ndarray = wanted, theirs: Block = theirs) -> torch.Tensor:
            place = torch.from_numpy(np.searchsorted(wanted, rows))
            return theirs.read(place.to(settings.device))

        for first in range(0, len(chunk), piece_rows):
            places = slice(first, first + piece_rows)
            piece, logits_NV = chunk[places], block.read(places)
            starts = plan.starts_in(piece)
            target = teacher_target(strings, plan.rows, starts, read, rules)
            found = _to_gradient(strings, plan, piece, starts, target, logits_NV, settings, rules, root)
            block.write(logits_NV, places)
            root_sum += found[0].sum()
            shared_sum += (found[0] * single_N[piece].to(found[0])).sum()
            child_sum += found[1]
        block.backward()
    count = len(plan.rows)
    shared = int(single_N.sum())
    stats: dict[str, float | torch.Tensor] = {
        "root": root_sum / max(count, 1),
        "child": child_sum / max(count, 1),
        "kl_shared": shared_sum / max(shared, 1),
        "kl_recovered": (root_sum - shared_sum) / max(count - shared, 1),
        "units_recovered": count - shared,
    }
    return Totals(root_sum + child_sum, count, stats)


@dataclass(eq=False)
class Continuations:
    """The possible continuations of one student token, by group. int64 arrays.

    teacher, teacher_group [F]: ranks of the teacher strings of each group, and the group (0, 1, …) of each. student,
    student_group [E]: ranks of the student strings that begin with the rest of a group, and their group.
    """

    teacher: np.ndarray
    teacher_group: np.ndarray
    student: np.ndarray
    student_group: np.ndarray
    groups: int


@dataclass(eq=False)
class Groups:
    """The teacher's strings that are not tokens of the student, grouped by the shortest string that begins them.

    members: their ranks in byte order. begin [groups + 1]: where in `members` each group begins; its first is the
    shortest.
    """

    strings: PairStrings
    members: np.ndarray
    begin: np.ndarray
    after: dict[bytes, Continuations | None] = field(default_factory=dict)

    @classmethod
    def of(cls, strings: PairStrings) -> "Groups":
        teacher, known = strings.teacher.strings, strings.student.rank_of
        members = [rank for rank, text in enumerate(teacher) if text not in known]
        begin: list[int] = []
        shortest: bytes | None = None
        for place, rank in enumerate(members):
            if shortest is None or not teacher[rank].startswith(shortest):
                shortest = teacher[rank]
                begin.append(place)
        return cls(strings, np.array(members, np.int64), np.array([*begin, len(members)], np.int64))

    def continuations(self, written: bytes) -> Continuations | None:
        """The groups whose shortest string strictly extends `written` by what the student can write; None if none."""
        if written not in self.after:
            self.after[written] = self._continuations(written)
        return self.after[written]

    def _continuations(self, written: bytes) -> Continuations | None:
        vocabulary = self.strings.teacher
        low, high = vocabulary.longer(written)
        shortest = self.members[self.begin[:-1]]
        teacher, student, count = [], [], 0
        for group in range(*np.searchsorted(shortest, (low, high)).tolist()):
            rest = vocabulary.strings[shortest[group]][len(written) :]
            ranks = np.arange(*self.strings.student.starting(rest))
            if not len(ranks):
                continue
            own = self.members[self.begin[group] : self.begin[group + 1]]
            teacher.append((own, np.full(len(own), count)))
            student.append((ranks, np.full(len(ranks), count)))
            count += 1
        if not count:
            return None
        of_teacher, of_student = (
            [np.concatenate(column).astype(np.int64) for column in zip(*side, strict=True)]
            for side in (teacher, student)
        )
        return Continuations(of_teacher[0], of_teacher[1], of_student[0], of_student[1], count)


_GROUPS: "weakref.WeakKeyDictionary[PairStrings, Groups]" = weakref.WeakKeyDictionary()


def groups_of(strings: PairStrings) -> Groups:
    """The groups of a pair, computed once and kept as long as its strings."""
    if strings not in _GROUPS:
        _GROUPS[strings] = Groups.of(strings)
    return _GROUPS[strings]


@dataclass(eq=False)
class Plan:
    """Which student rows are read, and for which terms.

    rows: the starts of units as text rows. student_row [R], ascending: every row read. start_of, child_of [R]: the
    index into `rows` of the unit that starts there, and of the unit whose first token was written just before; -1 for
    none. after: the continuations of that token, by index into `rows`.
    """

    rows: TextRows
    student_row: np.ndarray
    start_of: np.ndarray
    child_of: np.ndarray
    after: dict[int, Continuations]

    def starts_in(self, piece: np.ndarray) -> np.ndarray:
        """Indices into `rows` where the student rows of `piece` need the teacher, ascending."""
        both = np.concatenate([self.start_of[piece], self.child_of[piece]])
        return np.unique(both[both >= 0])


def _plan(pair: "TokenizerPair", units: UnitBatch, strings: PairStrings, with_child: bool) -> Plan:
    rows = _unit_starts(text_rows(pair, units, teacher_boundaries=False))
    after: dict[int, Continuations] = {}
    next_row: dict[int, int] = {}
    if with_child:
        groups = groups_of(strings)
        ids, sequence = units.student_ids_S.tolist(), units.student_sequence_S.tolist()
        for index, row in enumerate(rows.student_row.tolist()):
            written = None if ids[row] in pair.student.end_ids else pair.student.bytes_of[ids[row]]
            if not written or row + 1 == len(ids) or sequence[row + 1] != sequence[row]:
                continue
            found = groups.continuations(written)
            if found is not None:
                after[index], next_row[index] = found, row + 1
    student_row = np.union1d(rows.student_row, np.array(list(next_row.values()), np.int64)).astype(np.int64)
    start_of, child_of = np.full((2, len(student_row)), -1, np.int64)
    start_of[np.searchsorted(student_row, rows.student_row)] = np.arange(len(rows))
    child_of[np.searchsorted(student_row, list(next_row.values()))] = list(next_row)
    return Plan(rows, student_row, start_of, child_of, after)


def _unit_starts(rows: TextRows) -> TextRows:
    """The text rows at which both sides are at a boundary."""
    keep = [index for index, prefix in enumerate(rows.teacher_prefix) if not prefix]
    return TextRows(
        rows.student_row[keep],
        rows.teacher_row[keep],
        rows.previous_row[keep],
        [rows.student_prefix[index] for index in keep],
        [rows.teacher_prefix[index] for index in keep],
        [rows.previous[index] for index in keep],
    )


def _starts_single_unit(units: UnitBatch, plan: Plan) -> torch.Tensor:
    """Whether a 1:1 unit starts at each student row that is read, bool [R]."""
    single_S = torch.zeros(len(units.student_ids_S), dtype=torch.bool)
    single_S[units.student_start_U[units.single_U].cpu()] = True
    return single_S[torch.from_numpy(plan.student_row)] & torch.from_numpy(plan.start_of >= 0)


def _to_gradient(
    strings: PairStrings, plan: Plan, piece: np.ndarray, starts: np.ndarray, target: Target, logits_NV: torch.Tensor,
    settings: LossSettings, rules: Rules, with_root: bool,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Root loss of each row [N] (zero where no unit starts) and the sum of the child terms; the gradient takes the
    logits' place. `target` is the teacher's at the rows `starts`.
    """
    vocabulary, device = strings.student, logits_NV.device
    p_NV = torch.softmax(logits_NV, -1)
    mass_NK = mass_by_string(p_NV, vocabulary)
    gradient_NK = torch.zeros_like(mass_NK)
    root_N = mass_NK.new_zeros(len(piece))
    at = np.flatnonzero(plan.start_of[piece] >= 0)
    if with_root and len(at):
        rows = torch.from_numpy(at).to(device)
        some = torch.from_numpy(np.searchsorted(starts, plan.start_of[piece[at]])).to(device)
        chosen = _rows_of(target, some)
        classes = student_classes(strings, chosen, mass_NK[rows], rules)
        root_N[rows], gradient_NK[rows] = class_divergence(classes, mass_NK[rows], settings)
    child_sum = _add_child(plan, piece, starts, target, mass_NK, gradient_NK)
    gradient_NV = gradient_NK.index_select(1, vocabulary.rank_of_column(logits_NV))
    mean_N1 = (p_NV * gradient_NV).sum(1, keepdim=True)
    torch.mul(gradient_NV.sub_(mean_N1), p_NV, out=logits_NV)
    return root_N, child_sum


def _rows_of(target: Target, rows_N: torch.Tensor) -> Target:
    """The target of some of its rows, in their order."""
    place_D = torch.full((len(target.kept_N),), -1, dtype=torch.int64, device=rows_N.device)
    place_D[rows_N] = torch.arange(len(rows_N), device=rows_N.device)
    listed = target.listed.where(place_D[target.listed.owner] >= 0) if len(target.listed.owner) else target.listed
    listed = Strings(place_D[listed.owner], listed.mass, listed.phi, listed.low, listed.high)
    return Target(target.whole_NK[rows_N], listed, target.is_whole_N[rows_N], target.kept_N[rows_N])


def _add_child(
    plan: Plan, piece: np.ndarray, starts: np.ndarray, target: Target, mass_NK: torch.Tensor, gradient_NK: torch.Tensor
) -> torch.Tensor:
    """Sum of the child terms of a piece; their gradient in the student's string masses is added to `gradient_NK`."""
    at = np.flatnonzero(plan.child_of[piece] >= 0)
    if not len(at):
        return mass_NK.new_zeros(())
    owners = plan.child_of[piece[at]]
    lists = [plan.after[index] for index in owners.tolist()]
    first = np.cumsum([0, *(each.groups for each in lists)])
    place = np.searchsorted(starts, owners)

    def flat(name: str, row: np.ndarray) -> tuple[torch.Tensor, ...]:
        ranks = [getattr(each, name) for each in lists]
        groups = [getattr(each, f"{name}_group") + offset for each, offset in zip(lists, first[:-1], strict=True)]
        columns = (np.repeat(row, [len(each) for each in ranks]), np.concatenate(ranks), np.concatenate(groups))
        return tuple(torch.from_numpy(column).to(mass_NK.device) for column in columns)

    teacher_row_F, teacher_rank_F, teacher_group_F = flat("teacher", place)
    student_row_E, student_rank_E, student_group_E = flat("student", at)
    wanted_G = mass_NK.new_zeros(int(first[-1]))
    wanted_G.index_add_(0, teacher_group_F, target.whole_NK[teacher_row_F, teacher_rank_F].to(mass_NK.dtype))
    given_G = torch.zeros_like(wanted_G).index_add_(0, student_group_E, mass_NK[student_row_E, student_rank_E])
    given_G.clamp_min_(TINY)
    gradient_NK.index_put_((student_row_E, student_rank_E), -(wanted_G / given_G)[student_group_E], accumulate=True)
    return -(wanted_G * given_G.log()).sum()
