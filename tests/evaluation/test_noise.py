"""Whether a difference exceeds noise: McNemar's test by enumeration, the bootstrap by its coverage, the words."""

import itertools
import math

import numpy as np
import pytest

from simct.evaluation.noise import (
    EXCEEDS,
    WITHIN,
    Change,
    bootstrap_interval,
    distance_change_text,
    mcnemar,
    paired_change,
    score_change,
    score_change_text,
    standard_errors_needed,
)


def result(outcomes, **fields):
    return {"score": sum(outcomes) / len(outcomes), "n": len(outcomes), "outcomes": outcomes, **fields}


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (5, 0), (6, 0), (7, 2), (3, 3), (1, 9)])
def test_mcnemar_is_the_share_of_coin_tosses_as_uneven(gained, lost):
    discordant = gained + lost
    heads = [sum(tosses) for tosses in itertools.product((0, 1), repeat=discordant)]
    as_uneven = [each for each in heads if abs(2 * each - discordant) >= abs(gained - lost)]
    assert mcnemar(gained, lost) == pytest.approx(len(as_uneven) / len(heads))


def test_right_and_wrong_answers_are_compared_prompt_by_prompt():
    before, after = [0] * 10 + [1] * 90, [1] * 8 + [0] * 2 + [1] * 90
    change = score_change(result(before), result(after))
    assert change is not None and change.mean == pytest.approx(0.08) and change.answers == 100
    assert change.p_value == pytest.approx(2 / 2**8) and change.verdict == EXCEEDS
    # the same scores, reached on other prompts: the gain is within noise
    shuffled = [1] * 10 + [0] * 2 + [1] * 88
    other = score_change(result(before), result([1] * 10 + [0] * 8 + [1] * 82))
    assert other is not None and other.verdict == WITHIN and len(shuffled) == 100


def test_other_scores_are_compared_by_a_bootstrap():
    noise = np.random.default_rng(1).normal(0, 0.1, 200)
    low, high = bootstrap_interval((noise + 0.05).tolist())
    error = (noise + 0.05).std(ddof=1) / 200**0.5
    assert (high - low) == pytest.approx(2 * 1.96 * error, rel=0.1)
    before = [0.5] * 200
    gained = score_change(result(before), result((0.55 + noise).tolist()))
    same = score_change(result(before), result((0.5 + noise - noise.mean()).tolist()))
    assert gained is not None and same is not None
    assert gained.interval is not None and gained.verdict == EXCEEDS and same.verdict == WITHIN


def test_results_without_outcomes_are_compared_by_their_standard_errors():
    change = score_change({"score": 0.4, "stderr": 0.03, "n": 200}, {"score": 0.5, "stderr": 0.04, "n": 200})
    assert change is not None and change.standard_error == pytest.approx(0.05) and change.verdict == WITHIN
    unknown = score_change({"score": 0.4}, {"score": 0.9, "n": 1})
    assert unknown is not None and unknown.verdict == WITHIN
    assert score_change(None, {"score": 0.9}) is None and score_change({"score": 0.4}, {}) is None


def test_the_words():
    assert distance_change_text(Change(-0.12, 0.031, 64)) == "-0.120 ± 0.031, exceeds noise"
    assert distance_change_text(Change(0.05, 0.03, 64)) == "+0.050 ± 0.030, within noise"
    assert score_change_text(Change(0.045, 0.021, 200, p_value=0.06)) == "+4.5 points ± 2.1, within noise"
    assert score_change_text(Change(0.045, None, 1)) == "+4.5 points, within noise"


@pytest.mark.parametrize("answers", [2, 3, 5, 8, 16, 40, 64, 500])
def test_the_standard_errors_needed_leave_five_percent_outside(answers):
    """Student's t by numerical integration of its density."""
    freedom, needed = answers - 1, standard_errors_needed(answers)
    log_scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(freedom * math.pi) / 2
    x = np.linspace(-needed, needed, 200_001)
    density = np.exp(log_scale - (freedom + 1) / 2 * np.log1p(x**2 / freedom))
    outside = 1 - np.trapezoid(density, x)
    assert 0.045 < outside < 0.0502
    assert outside == pytest.approx(0.05, abs=2e-4) or needed == 2.0


@pytest.mark.parametrize("answers", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("measured", ["distance", "score"])
def test_a_few_answers_without_an_effect_seldom_exceed_noise(measured, answers):
    generator = np.random.default_rng(answers)
    found = []
    for _ in range(400):
        before, after = generator.normal(0.5, 0.1, (2, answers)).tolist()
        if measured == "distance":
            change = paired_change(dict(enumerate(before)), dict(enumerate(after)))
        else:
            change = score_change(result(before), result(after))
        found.append(change.exceeds_noise)
    # the bootstrap of ten differences is a little too narrow
    assert sum(found) / len(found) < (0.08 if measured == "distance" else 0.13)


def test_a_bootstrap_needs_six_prompts_that_changed():
    before, gained = [0.5] * 20, [0.75] * 6 + [0.5] * 14
    enough, few = score_change(result(before), result(gained)), score_change(result(before), result([*gained[1:], 0.5]))
    assert enough is not None and few is not None
    assert enough.verdict == EXCEEDS and few.verdict == WITHIN
