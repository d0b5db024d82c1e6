"""simct.losses against slow float64 references: values and gradients, on every shape of unit."""

import pytest
import torch

from simct.losses import compute
from tests import reference_losses as reference
from tests.loss_cases import TEXTS, case, sequence, tiny_pair

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
        ("uld", {}),
        ("uld", {"aligned": True}),
        ("gold", {}),
        ("gold", {"matched_weight": 2.0, "unmatched_weight": 0.5}),
        ("alm", {}),
        ("alm", {"chunk_temperature": 1.0}),
    ],
)
def test_equals_reference(method, options, name, divergence, beta):
    assert_agrees(*run(method, tiny_pair(), name, divergence, beta, **options))
