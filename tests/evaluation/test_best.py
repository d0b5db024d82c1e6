"""Which evaluation is the best, where evaluations measured different prompts."""

from types import SimpleNamespace

import pytest

from simct.evaluation.records import Distance, Evaluation, at_least_as_near, on_common_prompts
from simct.report.evaluations import distance_rows
from simct.training.checkpoints import BestCheckpoint
from simct.training.evaluation_text import status_distance
from simct.training.trainer import Trainer

# the first prompts are the harder ones
HARD, EASY = 0.9, 0.1


def evaluation(step, prompts, nearer=0.0, other=True):
    bits = {index: (HARD if index < 4 else EASY) - nearer for index in range(prompts)}
    names = ["student_to_teacher", *(["teacher_to_student"] if other else [])]
    return Evaluation(step, {name: Distance(bits, 100) for name in names}, prompts=prompts)


def test_means_are_taken_over_the_prompts_that_all_measured():
    before, after = on_common_prompts([evaluation(0, 16), evaluation(8, 4, nearer=0.05)])
    assert before.distance == pytest.approx(HARD) and after.distance == pytest.approx(HARD - 0.05)
    apart = on_common_prompts([evaluation(0, 16, other=False), evaluation(8, 4)])
    assert [list(each.directions) for each in apart] == [
        ["student_to_teacher"],
        ["student_to_teacher", "teacher_to_student"],
    ]
    assert on_common_prompts([]) == []


def test_fewer_and_harder_prompts_do_not_make_a_student_worse():
    many, few = evaluation(2, 16), evaluation(4, 4, nearer=0.05)
    assert few.distance > many.distance
    assert at_least_as_near(few, many) is True and at_least_as_near(many, few) is False
    # one direction could not be measured
    assert at_least_as_near(evaluation(4, 16, nearer=0.05, other=False), many) is True
    assert at_least_as_near(Evaluation(4), many) is None


@pytest.mark.parametrize(("nearer", "better"), [(0.05, True), (-0.05, False)])
def test_the_trainer_compares_on_common_prompts(nearer, better):
    found, noted = evaluation(4, 4, nearer), {}
    evaluator = SimpleNamespace(
        due=lambda step: True, evaluate=lambda step, subjects: found, evaluations=[evaluation(2, 16)],
        record=lambda *arguments: None, without_progress=lambda best: False, step_seconds=[],
    )  # fmt: skip
    loop = SimpleNamespace(
        step=4, best_by="distance", best=BestCheckpoint(2, "distance", 0.3), module=None, average=None,
        checkpoint=lambda: None, note_best=lambda value, **options: noted.update(options, value=value),
    )  # fmt: skip
    Trainer._evaluate(SimpleNamespace(evaluator=evaluator, loop=loop, student=None, teachers=[]), None)
    assert noted == {"value": found.distance, "higher_is_better": False, "better": better}


def test_what_is_shown_side_by_side_is_on_the_same_prompts():
    evaluations = [evaluation(0, 16), evaluation(2, 16, nearer=0.1), evaluation(4, 4, nearer=0.05)]
    status = status_distance(evaluations, BestCheckpoint(2, "distance", 0.2))
    assert (status["before"], status["best"], status["now"]) == pytest.approx((0.9, 0.8, 0.85))
    row = distance_rows(evaluations, best_step=2)[0]
    assert (row.before, row.best, row.after) == ("0.900 ± 0.000", "0.800 ± 0.000", "0.850 ± 0.000")
    assert row.change.startswith("-0.050")
