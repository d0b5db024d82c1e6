"""dpca against its worked values and against what a policy gradient must be."""

import pytest
import torch

from simct.losses import compute
from simct.losses.dpca import advantages
from tests.support.loss_cases import BytesPair, same_pair


def test_a_units_advantage_is_divided_by_surprise():
    """The student spells ab as a, b with .5 and .25; the teacher has ab with .25: twice as likely."""
    pair = BytesPair([b"ab", b"c"], [b"a", b"b", b"c"])
    teacher = torch.tensor([[0.5, 0.25, 0.25]]).double().log()
    student = torch.tensor([[0.25, 0.5, 0.125, 0.125], [0.25, 0.25, 0.25, 0.25]]).double().log().requires_grad_()
    result = compute("dpca", pair, student, teacher, [[1, 2]], [[1]], diagnostics=False)
    result.loss.backward()
    assert result.rows == 2 and result.loss.item() == pytest.approx(-torch.tensor(2.0).log().item() / 2)
    # surprises of 1 and 2 bits: a third and two thirds of ln 2
    whole = torch.tensor(2.0).log().item()
    for row, (token, share) in enumerate(((1, 1 / 3), (2, 2 / 3))):
        expected = student.detach()[row].exp() * share * whole / 2
        expected[token] -= share * whole / 2
        torch.testing.assert_close(student.grad[row], expected, rtol=1e-6, atol=1e-9)


def test_a_unit_of_which_the_student_is_certain_is_divided_evenly():
    found = advantages(torch.tensor([[0.0, 0.0, torch.nan]]), torch.tensor([[-1.0, -0.5, -0.5]]))
    assert found.tolist() == [[-1.0, -1.0, 0.0]]


def test_over_all_that_a_student_may_write_it_is_the_gradient_of_reverse_kl():
    """The policy gradient theorem, exactly: every next token once, weighted by the student's probability."""
    pair = same_pair()
    vocabulary = len(pair.student.bytes_of)
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(1, vocabulary, dtype=torch.float64, generator=generator)
    student = torch.randn(1, vocabulary, dtype=torch.float64, generator=generator).requires_grad_()
    p = torch.softmax(student.detach()[0], 0)
    total = sum(
        p[token] * compute("dpca", pair, student, teacher, [[token]], [[token]]).loss for token in range(vocabulary)
    )
    total.backward()
    gradient, student.grad = student.grad, None
    kl = (torch.softmax(student, 1) * (torch.log_softmax(student, 1) - torch.log_softmax(teacher, 1))).sum()
    kl.backward()
    torch.testing.assert_close(total.detach(), kl.detach(), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(gradient, student.grad, rtol=1e-6, atol=1e-9)


def test_an_equal_teacher_teaches_nothing():
    pair = same_pair()
    student = torch.randn(3, len(pair.student.bytes_of), requires_grad=True)
    ids = [[1, 2, 3]]
    compute("dpca", pair, student, student.detach(), ids, ids).loss.backward()
    assert student.grad.abs().max() == 0.0
