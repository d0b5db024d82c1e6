"""simct.losses against slow float64 references: values and gradients, on every shape of unit."""

import random

import pytest
import torch

from simct.losses import compute
from tests.support import reference_losses as reference
from tests.support.loss_cases import TEXTS, BytesPair, case, sequence, tiny_pair

DIVERGENCES = [("reverse_kl", 0.5), ("forward_kl", 0.5), ("js", 0.3)]


def run(method, pair, name, divergence="reverse_kl", beta=0.5, seed=0, **options):
    """Loss and student gradient by the library and by the reference."""
    sequences, student, teacher = case(pair, name, seed)
    result = compute(
        method, pair, student, teacher, [s for _, s in sequences], [t for t, _ in sequences], divergence, beta=beta,
        chunk_rows=options.pop("chunk_rows", 2), **options,
    )  # fmt: skip
    result.loss.backward()
    gradient, student.grad = student.grad, None
    rows = getattr(reference, method)(pair, sequences, student, teacher, divergence, beta, **options)
    expected = sum(rows) / len(rows) if rows else student.sum() * 0.0
    expected.backward()
    return result, gradient, expected.detach(), student.grad, len(rows)


def assert_agrees(result, gradient, expected, expected_gradient, rows):
    assert result.rows == rows
    torch.testing.assert_close(result.loss.detach(), expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-8, atol=1e-12)


def test_cases_have_every_shape_of_unit():
    pair, shapes = tiny_pair(), set()
    for texts in TEXTS.values():
        for teacher_ids, student_ids in (sequence(pair, *text) for text in texts):
            units = reference.spelled_units(pair, teacher_ids, student_ids)
            shapes |= {(min(len(t), 2), min(len(s), 2)) for t, s in units}
    assert shapes == {(1, 1), (1, 2), (2, 1), (2, 2)}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize(("divergence", "beta"), DIVERGENCES)
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("simct", {}),
        ("simct", {"scoring": "raw_logits"}),
        ("simct", {"prefix_free": True}),
        ("strict", {}),
        ("strict", {"top_k": 4}),
        ("marginal", {}),
        ("marginal", {"bridge": False}),
        ("marginal", {"significant": 0.05, "min_mass": 0.05}),
        ("bpm", {}),
        ("bpm", {"bridge": True}),
        ("escd", {}),
        ("escd", {"child": False}),
        ("escd", {"root": False}),
        ("escd", {"bridge": True}),
        ("uld", {}),
        ("uld", {"aligned": True}),
        ("gold", {}),
        ("gold", {"matched_weight": 2.0, "unmatched_weight": 0.5}),
        ("alm", {}),
        ("alm", {"chunk_temperature": 1.0}),
        ("dpca", {}),
        ("dpca", {"max_advantage": 0.2}),
    ],
)
def test_equals_reference(method, options, name, divergence, beta):
    assert_agrees(*run(method, tiny_pair(), name, divergence, beta, **options))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("method", ["simct", "strict", "marginal", "bpm", "escd", "gold", "alm", "dpca"])
def test_random_vocabularies(method, seed):
    """Vocabularies with doubled strings and without some single bytes, texts in any of the student's spellings."""
    generator = random.Random(seed)
    longer = [a + b + c for a in "abc" for b in "abc" for c in ["", *"abc"]]
    teacher = [*"abc", *generator.sample(longer, 12)]
    student = [*"ab", *generator.sample(longer, 12), "ca", "cb", "cc"]
    teacher, student = [*dict.fromkeys(teacher), "a", "ab"], [*dict.fromkeys(student), "b", "ca"]
    pair = BytesPair([s.encode() for s in teacher], [s.encode() for s in student])
    sequences = []
    for ended in (True, False):
        student_ids = generator.choices(range(1, len(student) + 1), k=6)
        text, teacher_ids = "".join(student[i - 1] for i in student_ids), []
        while text:
            piece = generator.choice([t for t in teacher if text.startswith(t)])
            teacher_ids.append(teacher.index(piece) + 1)
            text = text[len(piece) :]
        sequences.append(([*teacher_ids, 0], [*student_ids, 0]) if ended else (teacher_ids, student_ids))
    rows = [sum(len(ids[side]) for ids in sequences) for side in (0, 1)]
    torch.manual_seed(seed)
    teacher_logits = 2 * torch.randn(rows[0], len(teacher) + 2, dtype=torch.float64)
    student_logits = (2 * torch.randn(rows[1], len(student) + 2, dtype=torch.float64)).requires_grad_()
    ids = [s for _, s in sequences], [t for t, _ in sequences]
    for divergence in ("forward_kl", "reverse_kl"):
        student_logits.grad = None
        result = compute(
            method,
            pair,
            student_logits,
            teacher_logits,
            *ids,
            divergence,
            chunk_rows=12 if method in ("marginal", "bpm", "escd") else 3,
        )
        result.loss.backward()
        gradient, student_logits.grad = student_logits.grad, None
        rows = getattr(reference, method)(pair, sequences, student_logits, teacher_logits, divergence)
        expected = sum(rows) / max(len(rows), 1) + student_logits.sum() * 0.0
        expected.backward()
        assert_agrees(result, gradient, expected.detach(), student_logits.grad, len(rows))
