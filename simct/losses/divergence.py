"""Divergences between a student's and a teacher's distribution over the same candidates.

Shapes: N rows, C candidates. Both sides come as log-probabilities (rows sum to one) or as scores to be normalized.
Names: `reverse_kl` KL(student‖teacher), `forward_kl` KL(teacher‖student), and `js`, the generalized Jensen-Shannon
divergence β·KL(T‖M) + (1−β)·KL(S‖M) with M = β·T + (1−β)·S (Agarwal et al. 2024, arXiv 2306.13649, Eq. 3).
Every result is in nats and is not multiplied by a squared temperature.
"""

import math

import torch

from simct.errors import ConfigError
from simct.methods import DIVERGENCES

# Stands for log 0 if a candidate is left out on both sides: its exp() is exactly zero, and unlike with -inf the
# difference of two of them is zero and not NaN.
LOG_ZERO = -1e9


def check_divergence(name: str) -> None:
    """Raises ConfigError unless `name` is a divergence."""
    if name not in DIVERGENCES:
        raise ConfigError(f"Unknown divergence {name!r}. Choose one of: {', '.join(DIVERGENCES)}.")


def divergence(
    student_logq_NC: torch.Tensor, teacher_logq_NC: torch.Tensor, name: str, beta: float = 0.5
) -> torch.Tensor:
    """Row-wise divergence [N] of two log-distributions [N, C], differentiable in both."""
    if name == "reverse_kl":
        return (student_logq_NC.exp() * (student_logq_NC - teacher_logq_NC)).sum(-1)
    if name == "forward_kl":
        return (teacher_logq_NC.exp() * (teacher_logq_NC - student_logq_NC)).sum(-1)
    mixture_NC = torch.logaddexp(teacher_logq_NC + math.log(beta), student_logq_NC + math.log1p(-beta))
    teacher_N = (teacher_logq_NC.exp() * (teacher_logq_NC - mixture_NC)).sum(-1)
    student_N = (student_logq_NC.exp() * (student_logq_NC - mixture_NC)).sum(-1)
    return beta * teacher_N + (1.0 - beta) * student_N


def divergence_with_gradient(
    student_NC: torch.Tensor, teacher_NC: torch.Tensor, name: str, beta: float = 0.5
) -> tuple[torch.Tensor, torch.Tensor]:
    """Row-wise divergence [N] of softmax(scores), and its gradient [N, C] with respect to the student's scores.

    The closed forms replace a tape over [N, C]; the gradient of each row sums to zero. Overwrites neither input.
    """
    student_NC = torch.log_softmax(student_NC, -1)
    teacher_NC = torch.log_softmax(teacher_NC, -1)
    if name == "forward_kl":
        probability_NC = teacher_NC.exp()
        value_N = teacher_NC.sub_(student_NC).mul_(probability_NC).sum(-1)
        return value_N, student_NC.exp_().sub_(probability_NC)
    if name == "reverse_kl":
        ratio_NC = torch.sub(student_NC, teacher_NC, out=teacher_NC)
        weight_NC = student_NC.exp_()
        gradient_NC = ratio_NC.mul_(weight_NC)
        value_N = gradient_NC.sum(-1)
        return value_N, gradient_NC.addcmul_(weight_NC, value_N[:, None], value=-1.0)
    mixture_NC = torch.logaddexp(teacher_NC + math.log(beta), student_NC + math.log1p(-beta))
    teacher_N = (teacher_NC.exp() * (teacher_NC - mixture_NC)).sum(-1)
    weight_NC = student_NC.exp()
    gradient_NC = student_NC.sub_(mixture_NC).mul_(weight_NC)
    student_N = gradient_NC.sum(-1)
    gradient_NC.addcmul_(weight_NC, student_N[:, None], value=-1.0).mul_(1.0 - beta)
    return beta * teacher_N + (1.0 - beta) * student_N, gradient_NC
