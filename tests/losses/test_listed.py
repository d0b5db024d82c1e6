"""A teacher that lists only its most likely tokens: all of them give the whole teacher's loss."""

import pytest
import torch

from simct.errors import ConfigError
from simct.losses import compute_from_hidden, compute_from_rows
from simct.losses.divergence import LOG_ZERO
from simct.losses.head import Head
from simct.losses.teacher_rows import ListedRows
from simct.methods import LISTED_EXACTLY, METHODS, WRITTEN_ONLY
from tests.support.loss_cases import TEXTS, same_pair, sequence, tiny_pair

ABLE = [name for name, method in METHODS.items() if method.listed]


def listed(logits_TV: torch.Tensor, written_T: torch.Tensor, k: int, vocabulary: int) -> ListedRows:
    """The k most likely tokens of each row and the one that was written, as a server gives them."""
    log_p_TV = logits_TV.log_softmax(-1)
    k = min(k, log_p_TV.shape[1])
    ids_TK = torch.cat([log_p_TV.topk(k, -1).indices, written_T[:, None]], 1)
    ids_TK[:, -1] = torch.where((ids_TK[:, :-1] == written_T[:, None]).any(1), vocabulary, written_T)
    ids_TK = torch.where(ids_TK >= vocabulary, vocabulary, ids_TK)
    padded_TV = torch.cat([log_p_TV[:, :vocabulary], torch.full_like(log_p_TV[:, :1], LOG_ZERO)], 1)
    values_TK = padded_TV.gather(1, ids_TK)
    rest_T = (1.0 - values_TK.double().exp().sum(1)).clamp_min(0.0)
    log_rest_T = torch.where(rest_T > 1e-6, rest_T.log(), LOG_ZERO).float()
    return ListedRows(ids_TK, values_TK.float(), log_rest_T, vocabulary)


def both(method, pair, k, texts=TEXTS["mixed"], spread=2.0, **options):
    """[(result, gradient of the student's hidden states)] with the whole teacher and with k listed tokens, float32."""
    generator = torch.Generator().manual_seed(1)
    sequences = [sequence(pair, *text) for text in texts]
    ids = [student for _, student in sequences], [teacher for teacher, _ in sequences]
    sizes = [len(side.bytes_of) + 3 for side in (pair.student, pair.teacher)]
    heads = [Head(spread * torch.randn(size, 12, generator=generator)) for size in sizes]
    hidden = [torch.randn(sum(map(len, side)), 12, generator=generator) / 3 for side in ids]
    written_T = torch.tensor([token for side in ids[1] for token in side])
    rows = listed(heads[1].logits(hidden[1]), written_T, k, len(pair.teacher.bytes_of))
    results = []
    for teacher in (None, rows):
        student = hidden[0].clone().requires_grad_()
        if teacher is None:
            result = compute_from_hidden(method, pair, student, heads[0], hidden[1], heads[1], *ids, **options)
        else:
            result = compute_from_rows(method, pair, student, heads[0], teacher, *ids, **options)
        result.loss.backward()
        results.append((result, student.grad))
    return results


@pytest.mark.parametrize("pair", [tiny_pair, same_pair], ids=["unlike", "alike"])
@pytest.mark.parametrize("divergence", ["reverse_kl", "forward_kl", "js"])
@pytest.mark.parametrize("method", ABLE)
def test_all_tokens_listed_give_the_whole_teachers_loss_and_gradient(method, divergence, pair):
    (whole, gradient), (found, found_gradient) = both(method, pair(), 1000, divergence=divergence)
    assert found.rows == whole.rows > 0
    torch.testing.assert_close(found.loss, whole.loss, rtol=0, atol=1e-5)
    torch.testing.assert_close(found_gradient, gradient, rtol=0, atol=1e-5)
    assert gradient.abs().max() > 1e-4
    for name, value in whole.stats.items():
        assert found.stats[name] == pytest.approx(value, abs=1e-4), name


@pytest.mark.parametrize("options", [{"mass_mask": 0.3}, {"prefix_free": True}, {"random_span_ratio": 0.5}])
def test_options_of_simct_read_the_list_too(options):
    (whole, gradient), (found, found_gradient) = both("simct", tiny_pair(), 1000, **options)
    assert found.rows == whole.rows > 0
    torch.testing.assert_close(found_gradient, gradient, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", ABLE)
def test_a_short_list_comes_near_the_whole_teacher(method):
    errors = []
    for k in (1, 16, 1000):
        (_, gradient), (found, found_gradient) = both(method, tiny_pair(), k, spread=4.0)
        assert torch.isfinite(found.loss)
        assert METHODS[method].divergence is None or float(found.loss.detach()) >= -1e-6
        errors.append(float((found_gradient - gradient).norm() / gradient.norm()))
    assert errors[2] < 1e-3, errors  # of the gradient's norm, in float32
    if METHODS[method].listed == LISTED_EXACTLY and METHODS[method].divergence == "forward_kl":
        assert errors[1] < 0.5 * errors[0], errors
    if METHODS[method].listed == WRITTEN_ONLY:
        assert max(errors) < 1e-3, errors


def test_only_listed_shared_tokens_are_candidates():
    """One 1:1 unit, two listed tokens: the loss is the divergence between the two, renormalized on them."""
    pair = tiny_pair()
    shared_T, shared_S = pair.shared_teacher_ids, pair.shared_student_ids
    teacher_id, student_id = int(shared_T[0]), int(shared_S[0])
    log_p = torch.tensor([[0.5, 0.2]]).log()
    rows = ListedRows(shared_T[:2][None].clone(), log_p, torch.tensor([0.3]).log(), len(pair.teacher.bytes_of))
    head = Head(torch.eye(len(pair.student.bytes_of), 4))
    hidden = torch.zeros(1, 4, requires_grad=True)
    for method in ("strict", "simct"):
        result = compute_from_rows(method, pair, hidden, head, rows, [[student_id]], [[teacher_id]])
        q = torch.tensor([0.5, 0.2]) / 0.7
        half = torch.tensor([0.5, 0.5])
        assert result.loss.item() == pytest.approx(float((half * (half / q).log()).sum()), abs=1e-6)


def test_what_is_not_listed_is_one_class_of_all_else():
    """bpm by hand: two listed strings that the student has, and everything else together."""
    pair = same_pair()
    vocabulary = len(pair.teacher.bytes_of)
    a, b = pair.teacher.encode(b"a")[0], pair.teacher.encode(b"b")[0]
    rows = ListedRows(torch.tensor([[a, b]]), torch.tensor([[0.6, 0.3]]).log(), torch.tensor([0.1]).log(), vocabulary)
    hidden, head = torch.zeros(1, 4, requires_grad=True), Head(torch.zeros(len(pair.student.bytes_of), 4))
    student = 1.0 / len(pair.student.bytes_of)
    classes = torch.tensor([[0.6, student], [0.3, student], [0.1, 1 - 2 * student]])
    expected = (classes[:, 0] * (classes[:, 0] / classes[:, 1]).log()).sum()
    for method, options in (("bpm", {}), ("escd", {"child": False})):
        result = compute_from_rows(method, pair, hidden, head, rows, [[a]], [[a]], **options)
        assert result.loss.item() == pytest.approx(float(expected), abs=1e-5), method


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ABLE])
def test_methods_that_need_whole_rows_refuse(method):
    with pytest.raises(ConfigError, match=r"needs all of the teacher's probabilities.*marginal"):
        both(method, tiny_pair(), 8)


def test_what_a_list_cannot_give_is_refused():
    with pytest.raises(ConfigError, match="temperature is 2; it must be 1"):
        both("strict", tiny_pair(), 8, temperature=2.0)
    with pytest.raises(ConfigError, match="raw_logits"):
        both("simct", tiny_pair(), 8, scoring="raw_logits")
