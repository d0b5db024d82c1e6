"""Health marks: what is noticed, since when, and what is left alone."""

import pytest

from simct.evaluation.health import HealthWatch, health_marks


def records(steps: int, since: int | None = None, **change):
    well = {"response_length": 20.0, "eos_rate": 0.9, "repetition_rate": 0.02}
    return [{"step": step, **well, **(change if since and step >= since else {})} for step in range(1, steps + 1)]


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"response_length": 60.0}, "growing length", "from 20 to 60 tokens"),
        ({"response_length": 5.0}, "shrinking length", "from 20 to 5 tokens"),
        ({"eos_rate": 0.5}, "lost end of turn", "50% instead of 90%"),
        ({"repetition_rate": 0.3}, "repetition", "30% instead of 2%"),
    ],
)
def test_a_mark_says_what_and_since_when(change, kind, words):
    [mark] = health_marks(records(60, 31, **change))
    assert mark.kind == kind and words in mark.text and len(mark.advice) > 20
    # means over ten steps are past their bound when some of the ten are
    assert 22 <= mark.since <= 31 and mark.text.startswith(f"Since step {mark.since} ")


def test_a_healthy_run_and_one_that_recovered_have_no_marks():
    assert health_marks(records(60)) == []
    assert health_marks(records(40, 21, eos_rate=0.3)[:40] + records(80)[40:]) == []


def test_short_runs_and_old_records_are_not_judged():
    assert health_marks(records(19, 2, eos_rate=0.1)) == []
    old = [{name: value for name, value in each.items() if name != "repetition_rate"} for each in records(50)]
    assert health_marks(old) == [] and health_marks([{"step": 1, "loss": 2.0}] * 50) == []


def test_a_watch_reports_the_first_sign_once_and_as_the_marks_have_it():
    steps = records(60, 31, eos_rate=0.5)
    watch = HealthWatch()
    said = [watch.add(record) for record in steps]
    [line] = filter(None, said)
    [mark] = health_marks(steps)
    first = said.index(line)
    assert line.endswith(mark.advice) and mark.text.split("%")[1] in line
    assert health_marks(steps[:first]) == [] and health_marks(steps[: first + 1]) and watch.reported


def test_a_watch_reports_a_warning_and_nothing_again_after_a_resume():
    watch = HealthWatch()
    assert watch.add({"step": 1, "warning": "Half is left out."}) == "Half is left out."
    assert watch.add({"step": 2, "warning": "Half is left out."}) is None
    steps = records(60, 31, eos_rate=0.5)
    resumed = HealthWatch(steps[:45])
    assert not any(resumed.add(record) for record in steps[45:])
    assert HealthWatch(steps[:30]).reported is False
