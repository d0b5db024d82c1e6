"""What the inspector shows of a place is what the losses see there, in float64; long texts are read in windows."""

import pytest
import torch

from simct import losses
from simct.data.templates import prompt_ids
from simct.errors import AlignmentError, DataError
from simct.inspection import candidates
from simct.inspection.candidates import END_OF_TURN, candidates_at, score_units
from simct.inspection.coverage import show_units
from simct.losses.diagnostics import measure_units
from simct.losses.side import LogitsSide
from simct.report.formats import share
from simct.report.text import format_candidates
from simct.tokenization.pair import TokenizerPair
from simct.tokenization.units import build_units
from tests.support import real_tokenizers as real
from tests.support import trained_tokenizers as trained
from tests.support.random_pair import random_model, student_tokenizer, teacher_tokenizer

TEXT = "parser.add_argument('--width', type=int)  # 12 and 3456\n日本"


@pytest.fixture(scope="module")
def models():
    """(pair, teacher, student) with models in float64."""
    teacher, student = teacher_tokenizer(), student_tokenizer()
    pair = TokenizerPair.from_pretrained(teacher, student)
    return pair, random_model(teacher, 1).double(), random_model(student, 2).double()


def ids_of(pair, text=TEXT):
    return pair.teacher.encode(text.encode()), pair.student.encode(text.encode())


def logits(model, lead: list[int], ids: list[int]) -> torch.Tensor:
    """Rows that predict `ids` after `lead`, by the model itself."""
    with torch.no_grad():
        return model(torch.tensor([lead + ids])).logits[0, len(lead) - 1 : -1]


@pytest.fixture(scope="module")
def seen(models):
    """Both models' logits over TEXT, as a loss would get them, with their sides and units."""
    pair, teacher, student = models
    teacher_ids, student_ids = ids_of(pair)
    theirs = logits(teacher, [pair.teacher.end_ids[0]], teacher_ids)
    ours = logits(student, [pair.student.end_ids[0]], student_ids)
    units = build_units(pair, [(teacher_ids, student_ids)])
    sides = LogitsSide(ours, pair.shared_student_ids), LogitsSide(theirs, pair.shared_teacher_ids)
    return units, ours, theirs, sides


def test_masses_at_every_unit_are_those_the_diagnostics_compute(models, seen):
    pair, teacher, student = models
    units, _, _, sides = seen
    assert {bool(single) for single in units.single_U} == {True, False}
    for index in range(len(units)):
        found = candidates_at(pair, teacher, student, TEXT, index)
        measured = measure_units(pair, units, torch.tensor([index]), *sides)
        assert pytest.approx(float(measured["candidate_mass"]), abs=1e-12) == found.Z_T
        assert found.teacher_shared == pytest.approx(float(measured["mass_teacher"]), abs=1e-12)
        assert found.student_shared == pytest.approx(float(measured["mass_student"]), abs=1e-12)
        assert found.candidates == len(pair.shared_student_ids) + (not units.single_U[index])


def test_kl_of_the_units_is_the_loss_and_its_mass_mask_keeps_what_z_t_says(models, seen):
    pair, teacher, student = models
    units, ours, theirs, _ = seen
    rows = score_units(pair, teacher, student, TEXT)
    teacher_ids, student_ids = ids_of(pair)

    def loss(**options):
        return losses.compute("simct", pair, ours, theirs, student_ids, teacher_ids, diagnostics=False, **options)

    assert sum(row.kl for row in rows) == pytest.approx(float(loss().loss_sum), abs=1e-10)
    shared = sum(row.kl for row, single in zip(rows, units.single_U.tolist(), strict=True) if single)
    strict = losses.compute("strict", pair, ours, theirs, student_ids, teacher_ids, diagnostics=False)
    assert shared == pytest.approx(float(strict.loss_sum), abs=1e-10)
    masses = sorted(row.z_t for row in rows)
    between = (masses[len(masses) // 2] + masses[len(masses) // 2 + 1]) / 2
    kept = [row for row in rows if row.z_t >= between]
    masked = loss(mass_mask=between)
    assert masked.rows == len(kept) < len(rows)
    assert float(masked.loss_sum) == pytest.approx(sum(row.kl for row in kept), abs=1e-10)
    for index, row in enumerate(rows):
        found = candidates_at(pair, teacher, student, TEXT, index)
        assert (found.kl, found.Z_T, found.Z_S) == pytest.approx((row.kl, row.z_t, row.z_s), abs=1e-10)


def test_joint_log_probabilities_are_the_models_own(models, seen):
    pair, teacher, student = models
    units, ours, theirs, _ = seen
    rows = score_units(pair, teacher, student, TEXT)
    for name, logits_RV, ids, starts, ends in (
        ("student", ours, units.student_ids_S, units.student_start_U, units.student_end_U),
        ("teacher", theirs, units.teacher_ids_T, units.teacher_start_U, units.teacher_end_U),
    ):
        own_R = logits_RV.log_softmax(-1).gather(1, ids[:, None]).squeeze(1)
        for row, start, end in zip(rows, starts.tolist(), ends.tolist(), strict=True):
            assert getattr(row, f"{name}_logprob") == pytest.approx(float(own_R[start:end].sum()), abs=1e-10)
            assert getattr(row, f"{name}_score") == pytest.approx(float(own_R[start:end].mean()), abs=1e-10)


def test_rows_and_the_rest_are_all_candidates(models):
    pair, teacher, student = models
    for index, segment in enumerate(show_units(pair, TEXT)):
        found = candidates_at(pair, teacher, student, TEXT, index, top=5)
        rows, rest = found.rows, found.rest
        assert len(rows) + rest.candidates == found.candidates and len(rows) == 5
        for side, whole in (("student", found.Z_S), ("teacher", found.Z_T)):
            masses = [getattr(row, f"{side}_mass") for row in (*rows, rest)]
            shares = [getattr(row, f"{side}_q") for row in (*rows, rest)]
            assert sum(masses) == pytest.approx(whole, abs=1e-10) and sum(shares) == pytest.approx(1, abs=1e-10)
        for row in rows:
            assert row.teacher_q == pytest.approx(row.teacher_mass / found.Z_T, abs=1e-12)
            if row.kind == "shared" and row.text != END_OF_TURN:
                got = bytes.fromhex(row.bytes)
                assert pair.student.bytes_of[row.student_id] == pair.teacher.bytes_of[row.teacher_id] == got
        written = [row for row in rows if row.written]
        assert [row.bytes for row in written] == [segment.bytes]
        multi = segment.kind == "recovered"
        assert (written[0].kind == "unit") is multi is found.thrown_away_by_strict.row
        lost = found.thrown_away_by_strict
        assert lost.kl == (found.kl if multi else 0.0)
        assert lost.teacher_mass == pytest.approx(found.Z_T - found.teacher_shared, abs=1e-12)


def test_what_is_outside_is_not_shared_and_is_spelled_by_the_other_side(models):
    pair, teacher, student = models
    found = candidates_at(pair, teacher, student, TEXT, 3)
    shared = set(pair.shared_teacher_ids.tolist())
    masses = [row.mass for row in found.teacher_outside]
    assert len(masses) > 3 and masses == sorted(masses, reverse=True)
    spelled = 0
    for row in found.teacher_outside:
        assert row.teacher_id not in shared
        data = bytes.fromhex(row.bytes)
        spelled += bool(data)
        assert pair.student.decode(row.student_ids) == data
    assert spelled
    assert max(masses) + found.teacher_shared <= 1 + 1e-12


def test_without_models_there_is_the_structure_and_no_mass(models):
    pair, *_ = models
    kinds = [segment.kind for segment in show_units(pair, TEXT)]
    recovered, shared = kinds.index("recovered"), kinds.index("shared")
    found = candidates_at(pair, None, None, TEXT, recovered)
    assert found.candidates == found.shared_candidates + 1 and found.rows[0].kind == "unit"
    assert not {"Z_T", "rest"} & found.to_dict().keys() and "teacher_mass" not in found.to_dict()["rows"][0]
    assert "--weights" in format_candidates(found)
    found = candidates_at(pair, None, None, TEXT, shared)
    assert found.candidates == found.shared_candidates and found.rows == []


def test_a_prompt_is_read_first_by_each_models_own_template(models):
    pair, teacher, student = models
    found = candidates_at(pair, teacher, student, TEXT, 2, prompt="Hi")
    lead = prompt_ids(pair.teacher.tokenizer, [{"role": "user", "content": "Hi"}])
    rows = score_units(pair, teacher, student, TEXT, prompt="Hi")
    teacher_ids, _ = ids_of(pair)
    own_R = logits(teacher, lead, teacher_ids).log_softmax(-1).gather(1, torch.tensor(teacher_ids)[:, None])
    assert sum(row.teacher_logprob for row in rows) == pytest.approx(float(own_R.sum()), abs=1e-9)
    assert found.kl == pytest.approx(rows[2].kl, abs=1e-10)
    assert found.kl != pytest.approx(candidates_at(pair, teacher, student, TEXT, 2).kl, abs=1e-6)


def test_a_system_text_is_read_by_the_teacher_alone(models):
    pair, teacher, student = models
    system = {"role": "system", "content": "Answer in words."}
    lead = prompt_ids(pair.teacher.tokenizer, [system, {"role": "user", "content": "Hi"}])
    rows = score_units(pair, teacher, student, TEXT, prompt="Hi", teacher_system="Answer in words.")
    teacher_ids, _ = ids_of(pair)
    own_R = logits(teacher, lead, teacher_ids).log_softmax(-1).gather(1, torch.tensor(teacher_ids)[:, None])
    assert sum(row.teacher_logprob for row in rows) == pytest.approx(float(own_R.sum()), abs=1e-9)
    plain = score_units(pair, teacher, student, TEXT, prompt="Hi")
    assert [row.student_logprob for row in rows] == [row.student_logprob for row in plain]
    found = candidates_at(pair, teacher, student, TEXT, 2, prompt="Hi", teacher_system="Answer in words.")
    assert found.kl == pytest.approx(rows[2].kl, abs=1e-10) and found.kl != pytest.approx(plain[2].kl, abs=1e-6)


def test_long_text_is_read_in_windows_that_leave_no_unit_out(models, monkeypatch):
    pair, teacher, student = models
    text = TEXT * 12  # several times what the models can read at once
    teacher_ids, student_ids = ids_of(pair, text)
    assert min(len(teacher_ids), len(student_ids)) > 3 * teacher.config.max_position_embeddings
    got = []
    rows = score_units(pair, teacher, student, text, on_progress=lambda done, total: got.append((done, total)))
    assert len(rows) == len(show_units(pair, text)) == got[-1][0] == got[-1][1]
    assert len(got) > 3
    assert candidates_at(pair, teacher, student, text, len(rows) - 1).Z_T > 0
    # where a window starts, a unit is read after exactly the units of that window before it
    monkeypatch.setattr(candidates, "WINDOW", 24)
    rows = score_units(pair, teacher, student, TEXT)
    spelled = candidates.spell(pair, TEXT)
    units, end = spelled.units, 0
    for context, start, stop in candidates._windows(spelled, 23):
        assert start == end and context <= start < stop
        end = stop
        for starts, ends in ((units.teacher_start, units.teacher_end), (units.student_start, units.student_end)):
            assert ends[stop - 1] - starts[context] <= 23
        if start:
            before = [int(units.student_start[start] - units.student_start[context])]
            before.append(int(units.teacher_start[start] - units.teacher_start[context]))
            assert max(before) >= 8  # about half a window, as units go
        begins = units.teacher_start
        ids = spelled.teacher_ids[int(begins[start]) : int(units.teacher_end[start])]
        lead = [pair.teacher.end_ids[0], *spelled.teacher_ids[int(begins[context]) : int(begins[start])]]
        own = logits(teacher, lead, ids).log_softmax(-1).gather(1, torch.tensor(ids)[:, None]).sum()
        assert rows[start].teacher_logprob == pytest.approx(float(own), abs=1e-10)
    assert end == len(rows) == len(units)


def test_scoring_can_be_stopped_between_windows(models):
    pair, teacher, student = models
    asked = iter([False, True])
    rows = score_units(pair, teacher, student, TEXT * 12, should_stop=lambda: next(asked))
    assert 0 < len(rows) < len(show_units(pair, TEXT * 12))
    assert score_units(pair, teacher, student, TEXT, should_stop=lambda: True) == []


def test_a_place_that_is_not_there_and_text_that_cannot_be_spelled(models):
    pair, teacher, student = models
    last = len(show_units(pair, TEXT)) - 1
    for index in (-1, last + 1):
        with pytest.raises(DataError, match=f"units 0 to {last}"):
            candidates_at(pair, teacher, student, TEXT, index)
    other = TokenizerPair.from_pretrained(trained.unigram(fallback=False), trained.byte_level())
    with pytest.raises(AlignmentError):
        candidates_at(other, None, None, "rune ᚠ", 0)
    with pytest.raises(DataError, match="shorten"):
        score_units(pair, teacher, student, TEXT, prompt="word " * 400)


def test_for_a_terminal(models):
    pair, teacher, student = models
    kinds = [segment.kind for segment in show_units(pair, TEXT)]
    found = candidates_at(pair, teacher, student, TEXT, kinds.index("recovered"), top=4)
    printed = format_candidates(found)
    assert share(found.Z_T) in printed and "throws this position away" in printed and "others" in printed
    kept = format_candidates(candidates_at(pair, teacher, student, TEXT, kinds.index("shared")))
    assert "keeps this position" in kept


def test_candidates_of_real_tokenizers():
    pair = TokenizerPair.from_pretrained(real.llama3(), real.qwen25())
    text = "It was 2026."
    (index,) = (i for i, row in enumerate(show_units(pair, text)) if row.text.strip() == "202")
    found = candidates_at(pair, None, None, text, index)
    assert found.unit.teacher_pieces == ["202"] and found.unit.student_pieces == ["2", "0", "2"]
    assert found.candidates == pair.shared_tokens + 2  # the end of turn, and the unit
