"""The verdict is measured on real weights, and distinguishes the pair on which SimCT works from those on which it does
not."""

import json
import re
from functools import partial

import pytest
import torch

from simct import losses
from simct.config import config_from_dict
from simct.data.samples import PreparedPrompt, Sample
from simct.demo import PAIRS
from simct.errors import DataError, RunError
from simct.inspection import gradients, reliability
from simct.inspection.records import MassHistogram, Reliability
from simct.inspection.reliability import measure_pair, measure_samples
from simct.inspection.verdict import verdict_of
from simct.models.loading import load_model
from simct.report.formats import share
from simct.report.text import format_reliability
from simct.tokenization.pair import TokenizerPair
from tests.support.random_pair import save_pair


@pytest.fixture(scope="module")
def reports():
    return {
        name: measure_pair(
            config_from_dict(
                {
                    "teacher": str(pair.teacher),
                    "student": str(pair.student),
                    "data": {"prompts": str(pair.prompts)},
                    "rollout": {"max_new_tokens": 40, "temperature": 1.0, "top_p": 1.0},
                }
            ),
            samples=24,
        )
        for name, pair in PAIRS.items()
    }


def test_the_embedded_pairs_get_the_method_that_works_on_them(reports):
    assert {name: report.method for name, report in reports.items()} == {
        "default": "simct",
        "student_splits": "marginal",
        "teacher_splits": "marginal",
    }


def test_the_numbers_are_shares_and_tell_the_pairs_apart(reports):
    for report in reports.values():
        for name in ("mass_student", "mass_teacher", "prefix_conflict_mass", "hindsight_mass", "recovered_share"):
            assert 0 <= getattr(report, name) <= 1 + 1e-5, name
        assert report.kl_shared >= 0 and -1 <= report.gradient_cosine <= 1
    assert reports["student_splits"].prefix_conflict_mass > 5 * reports["default"].prefix_conflict_mass
    assert reports["teacher_splits"].mass_student < reports["default"].mass_student


def test_the_starting_distance_is_measured_in_both_directions(reports):
    for report in reports.values():
        for found in (report.student_to_teacher, report.teacher_to_student):
            assert found.answers > 16 and found.bits_per_byte > 2 * found.stderr > 0
    text = format_reliability(reports["default"])
    assert re.search(r"Distance, student to teacher +0\.\d+ ± 0\.\d+ bits per byte", text), text
    assert Reliability.from_dict(json.loads(json.dumps(reports["default"].to_dict()))) == reports["default"]


def test_a_verdict_quotes_the_number_it_rests_on(reports):
    conflict = reports["student_splits"].prefix_conflict_mass
    assert f"{conflict:.1%}" in reports["student_splits"].verdict
    assert f"{reports['default'].recovered_share:.1%}" in reports["default"].verdict


def test_distributions_are_those_of_the_units(reports):
    for report in reports.values():
        z_t = report.z_t
        assert sum(z_t.shared) == report.units_shared > 0
        assert sum(z_t.recovered) == report.units_recovered > 0
        lower = sum(sum(getattr(z_t, name)[:5]) for name in ("shared", "recovered"))
        assert lower == round(z_t.below_half * (report.units_shared + report.units_recovered))
        for name in ("shared", "recovered"):
            low, middle, high = getattr(report.kl_quantiles, name)
            assert -1e-5 <= low <= middle <= high
        splits = sum(sum(row.to_dict().values()) for row in report.recovered_kinds.values())
        assert splits == report.units_recovered
    kinds = reports["student_splits"].recovered_kinds
    assert sum(row.student_splits for row in kinds.values()) > 0
    assert not any(row.teacher_splits for row in kinds.values())
    assert "The teacher writes whole what the student splits" in reports["student_splits"].verdict
    for name, report in reports.items():
        assert report.settings["method"] == report.method, name
        printed = format_reliability(report)
        assert report.verdict in printed and re.search(rf"below 0\.5 +{share(report.z_t.below_half)}", printed)


def test_batches_change_nothing(tmp_path, monkeypatch):
    """The numbers of one batch are those of the loss, and the same as of many batches."""
    teacher_name, student_name = save_pair(tmp_path)
    pair = TokenizerPair.from_pretrained(teacher_name, student_name)
    config = config_from_dict({"teacher": teacher_name, "student": student_name, "data": {"prompts": "p"}})
    teacher, student = load_model(config.teacher), load_model(config.student)
    samples = []
    for text in (
        b"parser.add_argument the whitespace 12",
        b"def wrap(text, width=70):",
        b"12 and 345",
        b"a",
        b"return x",
    ):
        student_ids = [*pair.student.encode(text), pair.student.end_ids[0]]
        samples.append(Sample(PreparedPrompt(None, [5, 6], [7, 8]), student_ids, pair.teacher_ids_for(student_ids).ids))
    monkeypatch.setattr(reliability, "ANSWERS_AT_A_TIME", 5)
    once = measure_samples(pair, student, teacher, samples)
    monkeypatch.setattr(reliability, "ANSWERS_AT_A_TIME", 2)
    often = measure_samples(pair, student, teacher, samples)
    assert once.recovered_kinds == often.recovered_kinds and once.z_t.shared == often.z_t.shared
    for name in ("mass_teacher", "mass_student", "candidate_mass", "prefix_conflict_mass", "hindsight_mass"):
        assert getattr(once, name) == pytest.approx(getattr(often, name), rel=1e-4), name
    for name in ("kl_shared", "kl_recovered", "gradient_cosine"):
        assert getattr(once, name) == pytest.approx(getattr(often, name), rel=1e-3), name
    student_ids, teacher_ids = ([getattr(s, f"{side}_ids") for s in samples] for side in ("student", "teacher"))
    with torch.no_grad():
        rows = [
            torch.cat([model(torch.tensor([lead + ids])).logits[0, 1:-1] for ids in sequences])
            for model, lead, sequences in ((student, [5, 6], student_ids), (teacher, [7, 8], teacher_ids))
        ]
    stats = losses.compute("simct", pair, *rows, student_ids, teacher_ids).stats
    for name in ("kl_shared", "kl_recovered"):
        assert getattr(once, name) == pytest.approx(stats[name], rel=1e-3, abs=1e-5), name
    assert (once.units_shared, once.units_recovered) == (stats["units_shared"], stats["units_recovered"])


def test_only_the_last_parameters_are_compared_where_there_are_many(tmp_path, monkeypatch):
    _, student_name = save_pair(tmp_path)
    student = load_model(config_from_dict({"student": student_name, "teacher": "t", "data": {"prompts": "p"}}).student)
    everything = list(student.parameters())
    assert {id(p) for p in gradients.last_parameters(student)} == {id(p) for p in everything}
    monkeypatch.setattr(gradients, "GRADIENT_PARAMETERS", sum(p.numel() for p in everything[-3:]))
    assert [id(p) for p in gradients.last_parameters(student)] == [id(p) for p in everything[:-4:-1]]


def test_measuring_tells_how_far_it_is_and_can_be_stopped():
    pair = PAIRS["student_splits"]
    config = config_from_dict(
        {"teacher": str(pair.teacher), "student": str(pair.student), "data": {"prompts": str(pair.prompts)}}
    )
    got = []

    def on_progress(done: int, total: int) -> None:
        got.append((done, total))

    report = measure_pair(config, 12, on_progress=on_progress, should_stop=lambda: got[-1][0] >= 4)
    assert got == [(0, 12), (4, 12)]
    assert (report.answers_written, report.stopped) == (4, True) and report.verdict.startswith("Use ")
    with pytest.raises(RunError, match="before the first answer"):
        measure_pair(config, 12, should_stop=lambda: True)


@pytest.mark.parametrize("side", ["teacher", "student"])
def test_no_verdict_follows_from_probabilities_that_are_not_numbers(side):
    pair = PAIRS["default"]
    config = config_from_dict(
        {"teacher": str(pair.teacher), "student": str(pair.student), "data": {"prompts": str(pair.prompts)}}
    )
    teacher, student = load_model(config.teacher), load_model(config.student)
    with torch.no_grad():
        (teacher if side == "teacher" else student).get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(DataError, match=f"{side}'s probabilities are not finite"):
        measure_pair(config, 2, models=(teacher, student))


def test_the_gradient_cosine_is_that_of_the_two_parts_of_the_loss(tmp_path):
    """Against plain autograd on full logits, part by part."""
    teacher_name, student_name = save_pair(tmp_path)
    pair = TokenizerPair.from_pretrained(teacher_name, student_name)
    config = config_from_dict({"teacher": teacher_name, "student": student_name, "data": {"prompts": "p"}})
    teacher, student = load_model(config.teacher), load_model(config.student)
    student_ids = pair.student.encode(b"parser.add_argument the whitespace 12")
    teacher_ids = pair.teacher_ids_for(student_ids).ids
    prompt = PreparedPrompt(None, [5, 6], [7, 8])
    report = measure_samples(pair, student, teacher, [Sample(prompt, student_ids, teacher_ids)])
    assert report.gradient_noise is None  # one answer has no halves
    logits_TV = teacher(torch.tensor([[7, 8, *teacher_ids]])).logits[0, 1:-1].detach()

    def gradient(method):
        student.zero_grad()
        logits_SV = student(torch.tensor([[5, 6, *student_ids]])).logits[0, 1:-1]
        result = losses.compute(
            method=method, pair=pair, student_logits=logits_SV, teacher_logits=logits_TV,
            student_ids=student_ids, teacher_ids=teacher_ids,
        )  # fmt: skip
        result.loss_sum.backward()
        names = [name for name, _ in student.named_parameters() if name != "lm_head.weight"]
        return torch.cat([student.get_parameter(name).grad.flatten() for name in names]).double()

    strict_G, simct_G = gradient("strict"), gradient("simct")
    recovered_G = simct_G - strict_G
    expected = torch.nn.functional.cosine_similarity(strict_G, recovered_G, dim=0)
    assert report.gradient_cosine == pytest.approx(float(expected), abs=1e-3)
    assert report.gradient_ratio == pytest.approx(float(recovered_G.norm() / strict_G.norm()), rel=1e-3)
    assert report.units_recovered > 0 and report.units_shared > 0


def test_gradients_are_compared_as_whole_vectors():
    torch.manual_seed(0)
    shapes = [(3,), (70_000,), (5, 40_000)]  # more than one piece
    first, second, recovered = ([torch.randn(shape) + offset for shape in shapes] for offset in (0.2, 0.3, -0.1))
    compared = gradients.compare(first, second, recovered)
    one_N, two_N, other_N = (
        torch.cat([part.flatten() for part in each]).double() for each in (first, second, recovered)
    )
    similarity = partial(torch.nn.functional.cosine_similarity, dim=0)
    assert compared.cosine == pytest.approx(float(similarity(one_N + two_N, other_N)), abs=1e-9)
    assert compared.noise == pytest.approx(float(similarity(one_N, two_N)), abs=1e-9)
    assert compared.ratio == pytest.approx(float(other_N.norm() / (one_N + two_N).norm()), rel=1e-9)
    nothing = [torch.zeros_like(part) for part in first]
    assert gradients.compare(first, second, nothing) == gradients.Comparison(None, 0.0, compared.noise)
    assert gradients.compare(nothing, nothing, recovered) == gradients.Comparison(None, None, None)


def test_the_noise_is_the_cosine_of_two_halves_and_the_masses_those_of_the_top_16(tmp_path):
    teacher_name, student_name = save_pair(tmp_path)
    pair = TokenizerPair.from_pretrained(teacher_name, student_name)
    config = config_from_dict({"teacher": teacher_name, "student": student_name, "data": {"prompts": "p"}})
    teacher, student = load_model(config.teacher), load_model(config.student)
    ids = [pair.student.encode(text) for text in (b"parser.add_argument the", b"whitespace 12 and", b"the end", b"12")]
    samples = [Sample(PreparedPrompt(None, [5, 6], [7, 8]), each, pair.teacher_ids_for(each).ids) for each in ids]
    report = measure_samples(pair, student, teacher, samples)

    def strict_gradient(chosen):
        student.zero_grad()
        for sample in chosen:
            logits_SV = student(torch.tensor([[5, 6, *sample.student_ids]])).logits[0, 1:-1]
            logits_TV = teacher(torch.tensor([[7, 8, *sample.teacher_ids]])).logits[0, 1:-1].detach()
            ids = sample.student_ids, sample.teacher_ids
            losses.compute("strict", pair, logits_SV, logits_TV, *ids).loss_sum.backward()
        names = [name for name, _ in student.named_parameters() if name != "lm_head.weight"]
        return torch.cat([student.get_parameter(name).grad.flatten() for name in names]).double()

    # of the first two and of the last two answers one each is in the first half
    halves = [([0, 2], [1, 3]), ([0, 3], [1, 2])]
    parts = [[strict_gradient([samples[i] for i in half]) for half in split] for split in halves]
    cosines = [float(torch.nn.functional.cosine_similarity(*each, dim=0)) for each in parts]
    assert min(abs(report.gradient_noise - cosine) for cosine in cosines) < 1e-3
    masses = []
    for sample in samples:
        units = [unit for unit in pair.align(sample.teacher_ids, sample.student_ids)]
        p_SV = student(torch.tensor([[5, 6, *sample.student_ids]])).logits[0, 1:-1].softmax(-1).detach()
        p_TV = teacher(torch.tensor([[7, 8, *sample.teacher_ids]])).logits[0, 1:-1].softmax(-1).detach()
        for unit in units:
            shared_C = p_SV[unit.student_start, pair.shared_student_ids]
            top = shared_C.topk(16).indices
            masses.append((shared_C[top].sum(), p_TV[unit.teacher_start, pair.shared_teacher_ids[top]].sum()))
    expected = torch.tensor(masses).mean(0)
    assert report.top16_student == pytest.approx(float(expected[0]), rel=1e-4)
    assert report.top16_teacher == pytest.approx(float(expected[1]), rel=1e-4)


def test_merged_units_have_no_more_kl_than_the_units(reports):
    for report in reports.values():
        assert 0 <= report.kl_merged <= report.kl_units


@pytest.mark.parametrize(
    ("change", "method", "words"),
    [
        ({}, "simct", "which SimCT recovers"),
        ({"prefix_conflict_mass": 0.07}, "marginal", "7.0% of the student's probability"),
        ({"hindsight_mass": 0.3}, "marginal", "30.0% extends past"),
        ({"mass_teacher": 0.6}, "marginal", "Only 60.0% of the teacher's"),
        ({"recovered_share": 0.001}, "simct", "almost nothing"),
        ({"gradient_cosine": -0.5}, "simct", "cosine -0.50"),
        (
            {"mass_student": 0.995, "gradient_cosine": -0.5, "gradient_noise": 0.4},
            "strict",
            "exact matches: 0.40",
        ),
        (
            {"mass_student": 0.995, "recovered_share": 0.001, "top16_student": 0.98, "top16_teacher": 0.97},
            "strict",
            "98.0% of its own probability",
        ),
        ({"mass_student": 0.995}, "simct", "which SimCT recovers"),
        # a cosine so near 0 says nothing
        ({"mass_student": 0.995, "gradient_cosine": -0.02, "gradient_noise": 0.4}, "simct", "which SimCT recovers"),
        ({"units_shared": 20, "units_recovered": 3}, "simct", "Few units were measured (23)"),
        ({"mass_student": 0.995, "gradient_cosine": -0.5, "prefix_conflict_mass": 0.07}, "marginal", "7.0%"),
        ({"z_t": MassHistogram([0.0], [0], [0], 0.06)}, "simct", "mass_mask: true. "),
        ({"answers_written": 10, "answers_ended": 5, "max_new_tokens": 40}, "simct", "rollout.max_new_tokens to 80"),
        (
            {"answers_written": 10, "answers_ended": 10, "excluded": {"a special token": 3}},
            "simct",
            "3 for a special token",
        ),
    ],
)
def test_each_rule_of_the_verdict(change, method, words):
    healthy = {
        "mass_teacher": 0.99, "mass_student": 0.98, "candidate_mass": 0.99, "prefix_conflict_mass": 0.001,
        "hindsight_mass": 0.01, "recovered_share": 0.1, "gradient_cosine": 0.2, "units_shared": 300,
    }  # fmt: skip
    verdict = verdict_of(Reliability(**healthy | change))
    assert ("Few units" in verdict.text) == ("units_shared" in change)
    assert verdict.settings["method"] == verdict.method
    assert verdict.method == method
    assert words in verdict.text
