"""The verdict is measured on real weights, and tells the pair on which SimCT works from those on which it does not."""

import pytest
import torch

from simct import losses
from simct.config import config_from_dict
from simct.demo import PAIRS
from simct.models import load_model
from simct.reliability import judge, measure_pair, measure_samples
from simct.samples import PreparedPrompt, Sample
from simct.tokenizer_pair import TokenizerPair
from tests.random_pair import save_pair


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
    assert {name: report["method"] for name, report in reports.items()} == {
        "default": "simct",
        "student_splits": "marginal",
        "teacher_splits": "marginal",
    }


def test_the_numbers_are_shares_and_tell_the_pairs_apart(reports):
    for report in reports.values():
        for name in ("mass_student", "mass_teacher", "prefix_conflict_mass", "hindsight_mass", "recovered_share"):
            assert 0 <= report[name] <= 1 + 1e-5, name
        assert report["kl_shared"] >= 0 and -1 <= report["gradient_cosine"] <= 1
    assert reports["student_splits"]["prefix_conflict_mass"] > 5 * reports["default"]["prefix_conflict_mass"]
    assert reports["teacher_splits"]["mass_student"] < reports["default"]["mass_student"]


def test_a_verdict_quotes_the_number_it_rests_on(reports):
    conflict = reports["student_splits"]["prefix_conflict_mass"]
    assert f"{conflict:.1%}" in reports["student_splits"]["verdict"]
    assert f"{reports['default']['recovered_share']:.1%}" in reports["default"]["verdict"]


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
    assert report["gradient_cosine"] == pytest.approx(float(expected), abs=1e-3)
    assert report["units_recovered"] > 0 and report["units_shared"] > 0


@pytest.mark.parametrize(
    ("change", "method", "words"),
    [
        ({}, "simct", "which SimCT recovers"),
        ({"prefix_conflict_mass": 0.07}, "marginal", "7.0% of the student's probability"),
        ({"hindsight_mass": 0.3}, "marginal", "30.0% goes on past"),
        ({"mass_teacher": 0.6}, "marginal", "Only 60.0% of the teacher's"),
        ({"recovered_share": 0.001}, "simct", "next to nothing"),
        ({"gradient_cosine": -0.5}, "simct", "cosine -0.50"),
        ({"z_t": {"below_half": 0.06}}, "simct", "mass_mask: true. "),
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
        "hindsight_mass": 0.01, "recovered_share": 0.1, "gradient_cosine": 0.2,
    }  # fmt: skip
    verdict = judge(healthy | change)
    assert verdict.settings["method"] == verdict.method
    assert verdict.method == method
    assert words in verdict.text
