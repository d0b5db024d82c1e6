"""The Pair page's judgment: what the vocabularies share, the traffic light, and what measuring takes."""

from dataclasses import replace

import pytest

from app.inspect import light, pair_verdict
from app.pair.tab import _same
from app.pair.view import judged
from simct.inspection.records import Reliability

GOOD = Reliability(
    mass_student=0.97,
    mass_teacher=0.98,
    recovered_share=0.098,
    answers=16,
    answers_written=16,
    verdict="Use simct. Exact matching would lose 9.8% of the student's tokens.",
    method="simct",
)


@pytest.mark.parametrize(
    ("changes", "color", "words"),
    [
        ({}, "green", "SimCT recovers the 9.8% of tokens"),
        ({"recovered_share": 0.004}, "green", "already covers 99.6%"),
        ({"method": "strict"}, "green", "nearly all probability"),
        ({"method": "marginal"}, "yellow", "compare text"),
        ({"mass_teacher": 0.61}, "red", "only 61.0%"),
        ({"answers": 3}, "red", "only 3 of 16 answers"),
    ],
)
def test_the_light_follows_the_measurement(changes, color, words):
    measured = replace(GOOD, **changes)
    found = light.light(measured)
    assert found.color == color and words in found.sentence
    html = light.draw(replace(measured, verdict="Use <b>. Why & how."))
    assert f'data-color="{color}"' in html and "&lt;b&gt;" in html and "Why &amp; how." in html


@pytest.mark.parametrize(
    ("of_student", "jaccard", "same", "kind", "words"),
    [
        (0.785, 0.676, False, "ok", "Good: 78.5%"),
        (0.45, 0.3, False, "quiet", "Usual: 45.0%"),
        (0.1, 0.05, False, "warn", "Low: 10.0%"),
        (1.0, 1.0, False, "ok", "same vocabulary"),
        (1.0, 1.0, True, "warn", "same model"),
    ],
)
def test_what_the_vocabularies_share_is_judged(of_student, jaccard, same, kind, words):
    found, sentence = judged(of_student, jaccard, same)
    assert found == kind and words in sentence


def test_one_model_at_two_revisions_is_two_models():
    assert _same("acme/one", "acme/one") and not _same("acme/one", "acme/one@v2") and not _same("acme/one", "acme/two")


def test_the_time_to_measure_is_estimated_here_only(local, public):
    teacher, student = local.default_pair.values()
    assert 0 < pair_verdict.measuring_seconds(local, teacher, student, None) < 600
    assert pair_verdict.measuring_seconds(local, "", student, None) is None
    assert pair_verdict.measuring_seconds(public, teacher, student, False) is None
