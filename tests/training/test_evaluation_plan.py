"""Evaluations keep to their share of a run's time: fewer prompts first, then fewer evaluations."""

import pytest

from simct.config.evaluation import EvaluationConfig
from simct.training.evaluation_plan import Costs, EvaluationPlan, affordable, first_plan, plan_message


def simulate(steps: int, step_seconds: float, per_prompt: float, tasks: float = 0.0, share: float = 0.1):
    """(seconds of all evaluations, seconds of the run, the plans in use) of a whole run, the first one included."""
    plan = first_plan(EvaluationConfig(), steps, 64)
    cost = tasks + per_prompt * plan.prompts
    spent, plans = cost, [plan]
    for step in range(1, steps + 1):
        if not plan.due(step, steps):
            continue
        plan = affordable(plan, step, steps, Costs(step_seconds, cost, tasks, spent), share)
        plans.append(plan)
        if plan.due(step, steps):
            cost = tasks + per_prompt * plan.prompts
            spent += cost
    return spent, spent + steps * step_seconds, plans


def test_about_ten_evaluations_by_default():
    assert first_plan(EvaluationConfig(), 100, 64) == EvaluationPlan(10, 64)
    assert first_plan(EvaluationConfig(), 7, 64).every == 1
    assert first_plan(EvaluationConfig(every=25), 100, 64).every == 25
    assert [step for step in range(1, 26) if EvaluationPlan(10, 64).due(step, 25)] == [10, 20, 25]


@pytest.mark.parametrize(
    ("per_prompt", "tasks"), [(0.001, 0.0), (0.02, 0.0), (0.08, 0.0), (0.15, 0.0), (0.01, 2.0), (0.05, 5.0)]
)
def test_a_run_spends_no_more_than_its_share(per_prompt, tasks):
    spent, total, plans = simulate(400, 1.0, per_prompt, tasks)
    # the first and the last evaluation are always made
    assert spent <= max(0.1 * total, 2 * (tasks + 64 * per_prompt)) + 1e-9
    everies, prompts = ([getattr(plan, name) for plan in plans] for name in ("every", "prompts"))
    assert everies == sorted(everies) and prompts == sorted(prompts, reverse=True) and min(prompts) >= 16


def test_prompts_are_given_up_before_evaluations():
    assert set(simulate(400, 1.0, 0.001)[2]) == {EvaluationPlan(40, 64)}
    plans = set(simulate(400, 1.0, 0.1)[2])
    assert {plan.every for plan in plans} == {40} and min(plan.prompts for plan in plans) < 64


def test_tasks_cannot_become_cheaper_so_they_become_fewer():
    _, _, plans = simulate(400, 1.0, 0.0, tasks=10.0)
    assert plans[-1].every > 40 and plans[-1].prompts == 64


def test_the_message_says_what_changed():
    text = plan_message(EvaluationPlan(10, 64), EvaluationPlan(20, 16), Costs(0.5, 4.0, 0.0, 4.0), 0.1)
    assert "An evaluation takes 4.0 s and a step 0.5 s" in text and "every 20 steps on 16 prompts" in text
    assert "10%" in text
