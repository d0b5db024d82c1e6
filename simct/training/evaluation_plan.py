"""When a run is evaluated and on how many prompts, so that evaluations keep to their share of the run's time."""

import math
from dataclasses import dataclass

from simct.config.evaluation import USUAL_EVALUATIONS, EvaluationConfig

FEWEST_PROMPTS = 16


@dataclass(frozen=True)
class EvaluationPlan:
    """Evaluate every `every` steps (and at the last one), on the first `prompts` held-out prompts."""

    every: int
    prompts: int

    def due(self, step: int, steps: int) -> bool:
        return step == steps or step % self.every == 0


@dataclass(frozen=True)
class Costs:
    """Seconds as measured: a step, the last evaluation (and of that its tasks), and all evaluations so far."""

    step: float
    evaluation: float
    tasks: float
    spent: float


def first_plan(evaluation: EvaluationConfig, steps: int, prompts: int) -> EvaluationPlan:
    """The plan before anything is measured."""
    return EvaluationPlan(evaluation.every or max(1, math.ceil(steps / USUAL_EVALUATIONS)), prompts)


def affordable(plan: EvaluationPlan, step: int, steps: int, costs: Costs, share: float) -> EvaluationPlan:
    """`plan`, with fewer prompts and then fewer evaluations where the rest of the run could not afford it.

    `step` is one that is due. The last evaluation is always made.
    """
    allowed = costs.step * steps * share / (1 - share) - costs.spent
    remaining = math.ceil((steps - step) / plan.every) + 1
    if remaining * costs.evaluation <= allowed:
        return plan
    each = max(0.0, allowed) / remaining
    distance = costs.evaluation - costs.tasks
    prompts = plan.prompts
    if distance > 0:
        fitting = math.floor(prompts * max(0.0, each - costs.tasks) / distance)
        prompts = min(prompts, max(FEWEST_PROMPTS, fitting))
    cost = costs.tasks + distance * prompts / max(1, plan.prompts)
    count = max(1, math.floor(max(0.0, allowed) / cost)) if cost > 0 else remaining
    every = plan.every if count >= remaining else max(plan.every, math.ceil((steps - step + plan.every) / count))
    return EvaluationPlan(every, prompts)


def plan_message(before: EvaluationPlan, plan: EvaluationPlan, costs: Costs, share: float) -> str:
    """The line in the log about a plan that became smaller."""
    changes = [f"every {plan.every:,} steps"] if plan.every != before.every else []
    changes += [f"on {plan.prompts:,} prompts"] if plan.prompts != before.prompts else []
    return (
        f"An evaluation takes {costs.evaluation:.1f} s and a step {costs.step:.1f} s: the student is now evaluated "
        f"{' '.join(changes)}, so that this takes about {share:.0%} of the run's time."
    )
