"""escd: the worked example of its definition, its groups by brute force, and its parts."""

import math
import random

import pytest
import torch

from simct.errors import ConfigError
from simct.losses import compute
from simct.losses.escd import groups_of
from simct.losses.strings import pair_strings
from tests.support import reference_losses as reference
from tests.support.loss_cases import BytesPair, case, same_pair, tiny_pair

TEACHER = [b"Bread", b"Breads", b"Break", b"Cat"]
STUDENT = [b"Br", b"Cat", b"ead", b"eads", b"eak"]


def logits_of(size: int, rows: list[dict[int, float]]) -> torch.Tensor:
    """Log-probabilities of rows given as {id: probability}; what is left goes to the last id, a row of padding."""
    table = torch.full((len(rows), size), 1e-30, dtype=torch.float64)
    for row, probabilities in enumerate(rows):
        for token, probability in probabilities.items():
            table[row, token] = probability
        table[row, -1] = max(1.0 - sum(probabilities.values()), 1e-30)
    return table.log()


def worked(**options):
    """Teacher Bread .4, Breads .2, Break .3, Cat .1; student Br .5, Cat .2, then after Br: ead .2, eads .3, eak .1."""
    pair = BytesPair(TEACHER, STUDENT)
    teacher = logits_of(6, [{1: 0.4, 2: 0.2, 3: 0.3, 4: 0.1}])
    student = logits_of(7, [{1: 0.5, 2: 0.2}, {3: 0.2, 4: 0.3, 5: 0.1}])
    # the student wrote Br|ead, the teacher reads Bread: one unit, one row
    return compute("escd", pair, student, teacher, [1, 3], [1], **options)


def test_the_worked_example():
    whole, root, child = worked(), worked(child=False), worked(root=False)
    assert whole.rows == root.rows == child.rows == 1
    assert root.loss.item() == pytest.approx(0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.2))
    assert round(root.loss.item(), 4) == 0.4597
    assert round(child.loss.item(), 4) == 1.1067
    assert round(whole.loss.item(), 4) == 1.5664
    assert (whole.stats["root"], whole.stats["child"]) == pytest.approx((root.loss.item(), child.loss.item()))


def test_bpm_on_the_same_numbers_supervises_the_inner_row():
    pair = BytesPair(TEACHER, STUDENT)
    teacher = logits_of(6, [{1: 0.4, 2: 0.2, 3: 0.3, 4: 0.1}])
    student = logits_of(7, [{1: 0.5, 2: 0.2}, {3: 0.2, 4: 0.3, 5: 0.1}])
    rows = reference.bpm(pair, [([1], [1, 3])], student, teacher, "forward_kl")
    assert rows[0].item() == pytest.approx(0.4597, abs=5e-5)
    assert rows[1].item() == pytest.approx(0.6895, abs=5e-5)


def test_the_last_token_of_a_cut_answer_has_no_child():
    pair = BytesPair([*TEACHER, b"Br"], STUDENT)
    teacher, student = logits_of(7, [{1: 0.6, 5: 0.4}]), logits_of(7, [{1: 0.5, 2: 0.2}])
    assert compute("escd", pair, student, teacher, [1], [5], root=False).loss.item() == 0.0


@pytest.mark.parametrize("seed", range(20))
def test_groups_are_the_connected_components(seed):
    generator = random.Random(seed)
    words = sorted({"".join(generator.choices("ab", k=generator.randint(1, 5))) for _ in range(30)})
    teacher, student = (generator.sample(words, min(len(words), 14)) for _ in range(2))
    pair = BytesPair([w.encode() for w in teacher], [w.encode() for w in student])
    strings = pair_strings(pair)
    groups = groups_of(strings)
    found = [
        [strings.teacher.strings[rank] for rank in groups.members[first:last]]
        for first, last in zip(groups.begin[:-1], groups.begin[1:], strict=True)
    ]
    assert sorted(found) == sorted(reference.prefix_groups(pair))
    for group in found:
        assert group[0] == min(group, key=len) and all(text.startswith(group[0]) for text in group)


@pytest.mark.parametrize("seed", range(10))
def test_continuations_are_found_by_looking_at_every_token(seed):
    generator = random.Random(100 + seed)
    words = sorted({"".join(generator.choices("abc", k=generator.randint(1, 4))) for _ in range(40)})
    teacher, student = (generator.sample(words, min(len(words), 20)) for _ in range(2))
    pair = BytesPair([w.encode() for w in teacher], [w.encode() for w in student])
    strings = pair_strings(pair)
    groups = groups_of(strings)
    for written in map(str.encode, student):
        wanted = []
        for group in reference.prefix_groups(pair):
            shortest = min(group, key=len)
            rest = shortest[len(written) :]
            starting = [w.encode() for w in sorted(student) if w.encode().startswith(rest)]
            if shortest.startswith(written) and shortest != written and starting:
                wanted.append((sorted(group), starting))
        found = groups.continuations(written)
        listed = []
        for group in range(found.groups if found else 0):
            listed.append(
                (
                    [strings.teacher.strings[rank] for rank in found.teacher[found.teacher_group == group]],
                    [strings.student.strings[rank] for rank in found.student[found.student_group == group]],
                )
            )
        assert sorted(listed) == sorted(wanted)
        if found:  # no student string continues two groups
            assert len(set(found.student.tolist())) == len(found.student)


def test_equal_vocabularies_leave_only_the_root():
    sequences, student, teacher = case(same_pair(), "mixed")
    ids = [s for _, s in sequences], [t for t, _ in sequences]
    whole, root = (compute("escd", same_pair(), student, teacher, *ids, child=child) for child in (True, False))
    assert whole.stats["child"] == 0.0 and whole.loss.item() == root.loss.item()


def test_without_any_term_it_is_refused():
    sequences, student, teacher = case(tiny_pair(), "mixed")
    ids = [s for _, s in sequences], [t for t, _ in sequences]
    with pytest.raises(ConfigError, match="root and child are both false"):
        compute("escd", tiny_pair(), student, teacher, *ids, root=False, child=False)
