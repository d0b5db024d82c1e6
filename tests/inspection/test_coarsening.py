"""Proposition 1: the KL over units is at least that over any coarsening, by hand and on a pair of models."""

import itertools
import math

import pytest
import torch

from simct.inspection.coarsening import neighboring_kl, written_kl


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def random_rows(count, seed):
    torch.manual_seed(seed)
    return [torch.softmax(2 * torch.randn(count, dtype=torch.float64), 0).tolist() for _ in range(4)]


def joint(first, second, written):
    """The outcomes of two units: a candidate of the first, and a candidate of the second after the one written."""
    rest = [mass for place, mass in enumerate(first) if place != written]
    return rest + [first[written] * mass for mass in second]


@pytest.mark.parametrize("seed", range(5))
def test_the_chain_rule_gives_the_kl_of_the_joint_distribution_and_of_the_merged_one(seed):
    student_1, student_2, teacher_1, teacher_2 = random_rows(5, seed)
    a, b = seed % 5, (2 * seed + 1) % 5
    kl_U = torch.tensor([kl(student_1, teacher_1), kl(student_2, teacher_2)])
    student_U = torch.tensor([student_1[a], student_2[b]])
    teacher_U = torch.tensor([teacher_1[a], teacher_2[b]])
    (apart,), (merged,) = neighboring_kl(kl_U, student_U, teacher_U, torch.tensor([0, 0]))
    fine = [joint(first, second, a) for first, second in ((student_1, student_2), (teacher_1, teacher_2))]
    assert float(apart) == pytest.approx(kl(*fine), rel=1e-5)
    coarse = [joint(first, [second[b], 1 - second[b]], a) for first, second in
              ((student_1, student_2), (teacher_1, teacher_2))]  # fmt: skip
    assert float(merged) == pytest.approx(kl(*coarse), rel=1e-5)
    assert float(written_kl(student_U, teacher_U)[1]) == pytest.approx(
        kl([student_2[b], 1 - student_2[b]], [teacher_2[b], 1 - teacher_2[b]]), rel=1e-4
    )


def partitions(count):
    """Every way to lump `count` outcomes, as a label for each."""
    for labels in itertools.product(range(count), repeat=count):
        if all(label <= max(labels[:place], default=-1) + 1 for place, label in enumerate(labels)):
            yield labels


def test_no_coarsening_has_more_kl_than_the_units():
    student_1, student_2, teacher_1, teacher_2 = random_rows(3, 7)
    fine = [joint(first, second, 1) for first, second in ((student_1, student_2), (teacher_1, teacher_2))]
    kl_U = torch.tensor([kl(student_1, teacher_1), kl(student_2, teacher_2)], dtype=torch.float64)
    written = [torch.tensor([first[1], second[0]], dtype=torch.float64)
               for first, second in ((student_1, student_2), (teacher_1, teacher_2))]  # fmt: skip
    (apart,), _ = neighboring_kl(kl_U, *written, torch.tensor([0, 0]))
    seen = 0
    for labels in partitions(len(fine[0])):
        lumped = [
            [sum(mass for mass, label in zip(masses, labels, strict=True) if label == each) for each in set(labels)]
            for masses in fine
        ]
        assert kl(*lumped) <= float(apart) + 1e-12
        seen += 1
    assert seen == 52  # all partitions of five outcomes


def test_units_of_different_answers_are_no_neighbors():
    values = torch.tensor([0.5, 0.25, 0.125])
    apart, merged = neighboring_kl(values, values, values, torch.tensor([0, 0, 1]))
    assert len(apart) == len(merged) == 1
    assert len(neighboring_kl(values[:1], values[:1], values[:1], torch.tensor([0]))[0]) == 0
