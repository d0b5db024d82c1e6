"""What must hold of every loss: ordinary distillation as a special case, empty batches, low precision, refusals."""

import pytest
import torch
from torch.nn.functional import kl_div, log_softmax

from simct.errors import AlignmentError, ConfigError
from simct.losses import compute
from simct.losses.divergence import divergence, divergence_with_gradient
from simct.losses.simct import random_choice
from simct.losses.strings import pair_strings, text_rows
from simct.methods import METHODS
from simct.tokenization.pair import TokenizerPair
from simct.tokenization.units import as_sequences, build_units, merge_with_next
from tests.support.loss_cases import TEXTS, case, same_pair, sequence, tiny_pair
from tests.support.trained_tokenizers import byte_level, sentencepiece_bpe

FORWARD_AND_REVERSE = ["forward_kl", "reverse_kl"]


@pytest.mark.parametrize("name", FORWARD_AND_REVERSE)
@pytest.mark.parametrize("method", ["simct", "strict", "marginal", "bpm", "escd"])
def test_same_tokenizer_is_ordinary_distillation(method, name):
    pair = same_pair()
    sequences, student, teacher = case(pair, "mixed", padding=0)
    result = compute(method, pair, student, teacher, [s for _, s in sequences], [t for t, _ in sequences], name)
    result.loss.backward()
    gradient, student.grad = student.grad, None
    s, t = log_softmax(student, -1), log_softmax(teacher, -1)
    p, q = (t, s) if name == "forward_kl" else (s, t)
    ordinary = kl_div(q, p, reduction="batchmean", log_target=True)
    ordinary.backward()
    assert result.rows == len(student) > 10
    torch.testing.assert_close(result.loss, ordinary)
    torch.testing.assert_close(gradient, student.grad)


@pytest.mark.parametrize("method", METHODS)
def test_no_rows_is_zero_and_differentiable(method):
    pair = tiny_pair()
    student = torch.zeros(0, 40, requires_grad=True)
    for ids in ([], [[]], [[], []]):
        result = compute(method, pair, student, torch.zeros(0, 40), ids, ids)
        result.loss.backward()
        assert result.rows == 0 and result.loss.item() == 0.0 == result.loss_sum.item()
        assert student.grad.shape == (0, 40)


@pytest.mark.parametrize(
    ("method", "options", "text"),
    [
        ("strict", {}, "abcdabcd"),
        ("simct", {"mass_mask": 0.999999}, "abcd"),
        ("simct", {"unit_mask_ratio": 1.0}, "el"),
    ],
)
def test_all_excluded_is_zero_and_differentiable(method, options, text):
    pair = tiny_pair()
    teacher_ids, student_ids = sequence(pair, text, ended=False)
    student = torch.randn(len(student_ids), 40, requires_grad=True)
    result = compute(method, pair, student, torch.randn(len(teacher_ids), 50), student_ids, teacher_ids, **options)
    result.loss.backward()
    assert result.rows == 0 and result.loss.item() == 0.0
    assert student.grad.abs().sum() == 0.0 and student.grad.shape == student.shape


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", [None, "reverse_kl", "js"])
@pytest.mark.parametrize("method", METHODS)
def test_low_precision_is_finite_and_near(method, name, dtype):
    pair = tiny_pair()
    results = []
    for kind in (dtype, torch.float32):
        sequences, student, teacher = case(pair, "mixed", dtype=torch.float64)
        student = (4 * student.detach()).to(dtype).to(kind).requires_grad_()  # logits of both runs are equal
        teacher = (4 * teacher).to(dtype).to(kind)
        ids = [s for _, s in sequences], [t for t, _ in sequences]
        result = compute(method, pair, student, teacher, *ids, name)
        result.loss.backward()
        assert torch.isfinite(result.loss) and torch.isfinite(student.grad).all() and student.grad.abs().sum() > 0
        assert student.grad.dtype == kind and result.loss.dtype == torch.float32
        results.append((result.loss, student.grad.float()))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-4, atol=1e-5)
    assert (results[0][1] - results[1][1]).norm() < 0.02 * results[1][1].norm()


@pytest.mark.parametrize("method", METHODS)
def test_extreme_logits_are_finite(method):
    pair = tiny_pair()
    sequences, student, teacher = case(pair, "mixed", dtype=torch.float32)
    student = (60 * student.detach()).requires_grad_()
    ids = [s for _, s in sequences], [t for t, _ in sequences]
    result = compute(method, pair, student, 60 * teacher, *ids)
    result.loss.backward()
    assert torch.isfinite(result.loss) and torch.isfinite(student.grad).all()


@pytest.mark.parametrize("scale", [8, 12])
@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "js"])
@pytest.mark.parametrize("method", METHODS)
def test_nearly_certain_student_in_float32(method, name, scale):
    """What the student leaves to "everything else" is then less than float32 can tell from 1 by subtraction."""
    pair = tiny_pair()
    sequences, student, teacher = case(pair, "mixed")
    ids = [s for _, s in sequences], [t for t, _ in sequences]
    results = []
    for dtype in (torch.float64, torch.float32):
        logits = (scale * student.detach()).to(dtype).requires_grad_()
        result = compute(method, pair, logits, teacher.to(dtype), *ids, name)
        result.loss.backward()
        results.append((result.loss.double(), logits.grad.double()))
    (exact, exact_gradient), (loss, gradient) = results
    torch.testing.assert_close(loss, exact, rtol=1e-5, atol=1e-7)
    assert (gradient - exact_gradient).norm() < 1e-4 * exact_gradient.norm()
    # the gradient of a row has a bound, so that of a mean over a few dozen rows does too
    assert exact_gradient.norm() < (10.0 if method == "dpca" else 1.0)  # its largest advantage; a divergence's own


@pytest.mark.parametrize("method", METHODS)
def test_temperature_divides_logits(method):
    pair = tiny_pair()
    sequences, student, teacher = case(pair, "mixed")
    ids = [s for _, s in sequences], [t for t, _ in sequences]
    hot = compute(method, pair, student, teacher, *ids, temperature=2.0)
    hot.loss.backward()
    cooled = (student.detach() / 2).requires_grad_()
    expected = compute(method, pair, cooled, teacher / 2, *ids)
    expected.loss.backward()
    torch.testing.assert_close(hot.loss, expected.loss)
    torch.testing.assert_close(student.grad, cooled.grad / 2)


@pytest.mark.parametrize("method", METHODS)
def test_rows_of_several_sequences_are_their_own(method):
    """A batch is the row-weighted mean of its sequences: nothing leaks across a border."""
    pair = tiny_pair()
    sequences, student, teacher = case(pair, "mixed")
    whole = compute(method, pair, student, teacher, [s for _, s in sequences], [t for t, _ in sequences])
    s_row = t_row = 0
    total, rows = 0.0, 0
    for teacher_ids, student_ids in sequences:
        part = compute(
            method, pair, student[s_row : s_row + len(student_ids)], teacher[t_row : t_row + len(teacher_ids)],
            student_ids, teacher_ids,
        )  # fmt: skip
        total, rows = total + part.loss_sum, rows + part.rows
        s_row, t_row = s_row + len(student_ids), t_row + len(teacher_ids)
    assert whole.rows == rows
    torch.testing.assert_close(whole.loss_sum, total)


def test_statistics_add_up():
    pair = tiny_pair()
    sequences, student, teacher = case(pair, "mixed")
    ids = [s for _, s in sequences], [t for t, _ in sequences]
    strict, simct = (compute(method, pair, student, teacher, *ids) for method in ("strict", "simct"))
    units = build_units(pair, sequences)
    assert simct.stats["units_shared"] + simct.stats["units_recovered"] == len(units) == simct.rows
    assert simct.stats["units_outside"] == 0 < simct.stats["units_recovered"]
    assert strict.stats["units_outside"] == simct.stats["units_recovered"]
    assert strict.stats["kl_shared"] == pytest.approx(strict.loss.item()) == pytest.approx(simct.stats["kl_shared"])
    assert simct.stats["coverage_strict"] + simct.stats["coverage_recovered"] == pytest.approx(1.0)
    mixed = simct.stats["kl_shared"] * simct.stats["units_shared"]
    mixed += simct.stats["kl_recovered"] * simct.stats["units_recovered"]
    assert mixed == pytest.approx(simct.loss_sum.item())


def test_mass_mask_drops_rows_with_little_teacher_mass():
    pair = tiny_pair()
    sequences, student, teacher = case(pair, "one_to_one")
    p = torch.softmax(teacher, -1)[:, pair.shared_teacher_ids].sum(1)
    threshold = p.sort().values[1].item() + 1e-9  # two of the four rows have less
    result = compute("simct", pair, student, teacher, sequences[0][1], sequences[0][0], mass_mask=threshold)
    assert len(p) == 4 and result.rows == 2 and result.stats["units_outside"] == 2
    result.loss.backward()
    assert ((student.grad.abs().sum(1) > 0) == (p >= threshold)).all()


def test_unit_mask_and_random_spans_are_reproducible_shares():
    pair = tiny_pair()
    sequences, student, teacher = case(pair, "mixed")
    ids = [s for _, s in sequences], [t for t, _ in sequences]
    full = compute("simct", pair, student, teacher, *ids)
    half = [compute("simct", pair, student, teacher, *ids, unit_mask_ratio=0.5) for _ in range(2)]
    assert 0 < half[0].stats["units_recovered"] < full.stats["units_recovered"]
    assert half[0].loss == half[1].loss != full.loss
    other = compute("simct", pair, student, teacher, *ids, unit_mask_ratio=0.5, option_seed=5)
    assert other.loss != half[0].loss
    merged = compute("simct", pair, student, teacher, *ids, random_span_ratio=0.5)
    assert merged.rows < full.rows and merged.stats["units_shared"] < full.stats["units_shared"]


@pytest.mark.parametrize("option", ["unit_mask_ratio", "random_span_ratio"])
def test_random_units_do_not_depend_on_the_split(option):
    pair = tiny_pair()
    sequences, student, teacher = case(pair, "mixed")
    ids = [s for _, s in sequences], [t for t, _ in sequences]
    together = compute("simct", pair, student, teacher, *ids, **{option: 0.5})
    rows, loss_sum, s, t = 0, 0.0, 0, 0
    for teacher_ids, student_ids in sequences:
        own = student[s : (s := s + len(student_ids))], teacher[t : (t := t + len(teacher_ids))]
        alone = compute("simct", pair, *own, student_ids, teacher_ids, **{option: 0.5})
        rows, loss_sum = rows + alone.rows, loss_sum + alone.loss_sum
    assert rows == together.rows
    torch.testing.assert_close(loss_sum, together.loss_sum)


def test_random_units_are_chosen_with_their_probability():
    pair = tiny_pair()
    units = build_units(pair, [sequence(pair, "the or abcd 123 world" * n) for n in range(1, 60)])
    every_U = torch.ones(len(units), dtype=torch.bool)
    masked_U, joined_U = (random_choice(units, every_U, 0.3, (7, kind)) for kind in range(2))
    assert masked_U.float().mean() == pytest.approx(0.3, abs=0.02)
    assert (masked_U & joined_U).float().mean() == pytest.approx(0.09, abs=0.015)


def test_merged_units_still_tile_and_keep_ends_apart():
    pair = tiny_pair()
    sequences = [sequence(pair, "the or abcd 123 world"), sequence(pair, "held", False), sequence(pair, "a")]
    units = build_units(pair, sequences)
    merged = merge_with_next(units, torch.ones(len(units), dtype=torch.bool))
    assert len(merged) == 5  # text and end, text, text and end
    assert merged.student_start_U.tolist() == [0, *merged.student_end_U.tolist()[:-1]]
    assert merged.student_end_U[-1] == len(units.student_ids_S)
    assert (merged.byte_end_U - merged.byte_start_U).tolist() == [21, 0, 4, 1, 0]
    untouched = merge_with_next(units, torch.zeros(len(units), dtype=torch.bool))
    assert untouched.student_start_U.tolist() == units.student_start_U.tolist()


def test_raw_logits_and_log_probs_differ_only_where_units_take_several_tokens():
    pair = tiny_pair()
    for name, same in (("one_to_one", True), ("many_to_many", False)):
        sequences, student, teacher = case(pair, name)
        ids = [s for _, s in sequences], [t for t, _ in sequences]
        ours, raw = (
            compute("simct", pair, student, teacher, *ids, scoring=s).loss.item() for s in ("log_probs", "raw_logits")
        )
        assert (ours == pytest.approx(raw)) == same


@pytest.mark.parametrize("name", ["reverse_kl", "forward_kl", "js"])
def test_closed_form_gradients_are_autograd_gradients(name):
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(5, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(5, 7, generator=generator, dtype=torch.float64)
    value = divergence(log_softmax(student, -1), log_softmax(teacher, -1), name, 0.3)
    value.sum().backward()
    again, gradient = divergence_with_gradient(student.detach(), teacher, name, 0.3)
    torch.testing.assert_close(again, value)
    torch.testing.assert_close(gradient, student.grad)
    assert (value > 0).all()


def test_marginal_cases_really_join_and_bridge():
    from simct.losses import marginal

    """The reference agreement is not vacuous: the mixed case has bridges, rows inside tokens of both sides, joins."""

    pair, joined = tiny_pair(), []
    sequences, student, teacher = case(pair, "mixed")
    rows = text_rows(pair, build_units(pair, sequences))
    assert any(rows.student_prefix) and any(rows.teacher_prefix) and (rows.previous_row >= 0).sum() > 5
    assert any(len(pair_strings(pair).map(data, b"").teacher) > 1 for data in rows.previous if data)
    original = marginal.student_classes

    def spy(*arguments):
        classes = original(*arguments)
        joined.append(len(classes.row_M))
        return classes

    marginal.student_classes = spy
    try:
        compute("marginal", pair, student, teacher, [s for _, s in sequences], [t for t, _ in sequences])
    finally:
        marginal.student_classes = original
    assert sum(joined) > 5


def test_diagnostics_can_be_off_and_mean_what_they_say():
    pair = tiny_pair()
    sequences, student, teacher = case(pair, "single_token")
    ids = sequences[0][1], sequences[0][0]
    off = compute("simct", pair, student, teacher, *ids, diagnostics=False)
    on = compute("simct", pair, student, teacher, *ids)
    assert "mass_teacher" not in off.stats and on.loss == off.loss
    p_s, p_t = torch.softmax(student, -1)[0], torch.softmax(teacher, -1)[0]
    assert on.stats["mass_student"] == pytest.approx(p_s[pair.shared_student_ids].sum().item())
    assert on.stats["mass_teacher"] == pytest.approx(p_t[pair.shared_teacher_ids].sum().item())
    assert on.stats["candidate_mass"] == pytest.approx(on.stats["mass_teacher"])
    a, ab = (pair.teacher.encode(text)[0] for text in (b"a", b"ab"))
    assert ids[1] == [a]
    assert on.stats["hindsight_mass"] == pytest.approx((p_t[ab] / (p_t[ab] + p_t[a])).item())


def test_prefix_conflict_is_student_mass_on_prefixes_of_heavier_teacher_strings():
    pair = tiny_pair()
    student, teacher = torch.zeros(1, 40), torch.full((1, 50), -9.0)
    teacher[0, pair.teacher.encode(b"the")[0]] = 5.0  # t, th are shared prefixes; h is not a prefix
    student[0, pair.student.encode(b"t")[0]] = 3.0
    student[0, pair.student.encode(b"th")[0]] = 2.0
    result = compute("simct", pair, student, teacher, pair.student.encode(b"a"), pair.teacher.encode(b"a"))
    p = torch.softmax(student, -1)[0]
    expected = p[pair.student.encode(b"t")[0]] + p[pair.student.encode(b"th")[0]]
    assert result.stats["prefix_conflict_mass"] == pytest.approx(expected.item(), rel=1e-5)


def test_prefix_conflicts_with_a_teacher_that_has_byte_pieces():
    """Of the ids "t" and <0x74>, which have equal bytes, the shared one counts, whichever comes first."""
    pair = TokenizerPair.from_pretrained(sentencepiece_bpe(), byte_level())
    assert sum(data == b"t" for data in pair.teacher.bytes_of) == 2
    student = torch.zeros(1, len(pair.student.bytes_of))
    teacher = torch.full((1, len(pair.teacher.bytes_of)), -9.0)
    [longer], [t] = pair.teacher.encode(b"te"), pair.student.encode(b"t")
    teacher[0, longer], student[0, t] = 5.0, 3.0
    result = compute("simct", pair, student, teacher, pair.student.encode(b"a"), pair.teacher.encode(b"a"))
    assert result.stats["prefix_conflict_mass"] == pytest.approx(torch.softmax(student, -1)[0, t].item(), rel=1e-5)


def test_ids_of_any_container_mean_the_same():
    expected = [[1, 2, 3]]
    assert as_sequences([1, 2, 3]) == as_sequences(torch.tensor([1, 2, 3])) == as_sequences([[1, 2, 3]]) == expected
    assert as_sequences([torch.tensor([1, 2, 3])]) == as_sequences((1, 2, 3)) == expected
    assert as_sequences([]) == [[]] and as_sequences([[], [1]]) == [[], [1]]


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ConfigError, "Unknown method 'kd'. Choose one of: simct, strict", {"method": "kd"}),
        (ConfigError, "Unknown option 'topk' of method 'strict'. Its options: top_k", {"method": "strict", "topk": 3}),
        (ConfigError, "top_k is 1; it must be empty or 2 or more", {"method": "strict", "top_k": 1}),
        (ConfigError, "Unknown divergence 'kl'", {"divergence": "kl"}),
        (ConfigError, "beta is 1.0; it must be above 0 and below 1", {"divergence": "js", "beta": 1.0}),
        (ConfigError, "temperature is 0.0; it must be above 0", {"temperature": 0.0}),
        (ConfigError, "scoring is 'logits'; it must be one of log_probs, raw_logits", {"scoring": "logits"}),
        (ConfigError, "unit_mask_ratio is 1.5; it must be 0 or more and at most 1", {"unit_mask_ratio": 1.5}),
        (ConfigError, "mass_mask is 2.0; it must be true or false, or 0 or more and below 1", {"mass_mask": 2}),
        (ConfigError, "min_mass is 1.0; it must be", {"method": "marginal", "min_mass": 1.0}),
        (ConfigError, "min_mass is -1.0; it must be", {"method": "bpm", "min_mass": -1}),
        (ConfigError, "chunk_temperature is 0.0; it must be above 0", {"method": "alm", "chunk_temperature": 0}),
        (ConfigError, "both matched_weight and unmatched_weight", {"method": "gold", "matched_weight": 1.0}),
        (AlignmentError, "The student has 2 ids but 1 rows", {"student_ids": [3, 4]}),
        (AlignmentError, "1 student sequences but 2 teacher sequences", {"teacher_ids": [[3], []]}),
        (AlignmentError, "spell different bytes", {"teacher_ids": [5]}),
    ],
)
def test_mistakes_are_reported(error, words, arguments):
    pair = tiny_pair()
    known = {"method": "simct", "student_ids": [3], "teacher_ids": [3], **arguments}
    with pytest.raises(error, match=words.replace(".", r"\.")):
        compute(pair=pair, student_logits=torch.zeros(1, 40), teacher_logits=torch.zeros(1, 50), **known)


def test_one_empty_side_is_an_error():
    with pytest.raises(AlignmentError, match="1 teacher ids but 0 student ids"):
        compute("simct", tiny_pair(), torch.zeros(0, 40), torch.zeros(1, 50), [[]], [[3]])


def test_texts_are_all_used():
    assert {"one_to_many", "many_to_one", "empty", "only_end"} <= set(TEXTS)


def test_marginal_does_not_depend_on_its_pieces(monkeypatch):
    from simct.losses import side

    pair = tiny_pair()
    sequences, student, teacher = case(pair, "mixed")
    ids = [s for _, s in sequences], [t for t, _ in sequences]
    results = []
    for piece_bytes in (2**24, 1):  # one piece, and pieces of the least size
        monkeypatch.setattr(side, "PIECE_BYTES", {"cpu": piece_bytes})
        student.grad = None
        result = compute("marginal", pair, student, teacher, *ids)
        result.loss.backward()
        results.append((result.loss, result.rows, student.grad))
    assert results[0][1] == results[1][1] > 16
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][2], results[1][2])
