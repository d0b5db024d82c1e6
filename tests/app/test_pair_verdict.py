"""The Pair page's judgment: what the vocabularies share, the traffic light, and what measuring takes."""

from dataclasses import replace

import pytest

from app.inspect import light, pair_verdict
from app.pair.tab import _same
from app.pair.view import judged
from app.server import model_facts
from simct.inspection.records import Reliability

GOOD = Reliability(
    mass_student=0.97,
    mass_teacher=0.98,
    kl_shared=0.4,
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
        ({"kl_shared": 0.0}, "yellow", "Nothing to learn"),
    ],
)
def test_the_light_follows_the_measurement(changes, color, words):
    measured = replace(GOOD, **changes)
    found = light.light(measured)
    assert found.color == color and words in found.sentence
    html = light.draw(replace(measured, verdict="Use <b>. Why & how."))
    assert f'data-color="{color}"' in html and "&lt;b&gt;" in html and "Why &amp; how." in html


@pytest.mark.parametrize(
    ("of_student", "same_vocabulary", "same_model", "kind", "words"),
    [
        (0.785, False, False, "ok", "Good: 78.5%"),
        (0.45, False, False, "quiet", "Usual: 45.0%"),
        (0.1, False, False, "warn", "Low: 10.0%"),
        (0.995, True, False, "ok", "same vocabulary"),
        (0.995, True, True, "warn", "same model"),
    ],
)
def test_what_the_vocabularies_share_is_judged(of_student, same_vocabulary, same_model, kind, words):
    found, sentence = judged(of_student, same_vocabulary, same_model)
    assert found == kind and words in sentence


def test_one_vocabulary_on_both_sides_is_noticed(local):
    """Its special tokens have no bytes and are not shared, so the overlap is below 100%."""
    teacher, student = local.default_pair.values()
    pair = model_facts.read_pair(local, student, student, None)
    assert pair.same and pair.jaccard < 1
    assert not model_facts.read_pair(local, teacher, student, None).same


def test_one_model_at_two_revisions_is_two_models():
    assert _same("acme/one", "acme/one") and not _same("acme/one", "acme/one@v2") and not _same("acme/one", "acme/two")


def test_the_time_to_measure_is_estimated_here_only(local, public):
    teacher, student = local.default_pair.values()
    assert 0 < pair_verdict.measuring_seconds(local, teacher, student, None) < 600
    assert pair_verdict.measuring_seconds(local, "", student, None) is None
    assert pair_verdict.measuring_seconds(public, teacher, student, False) is None
