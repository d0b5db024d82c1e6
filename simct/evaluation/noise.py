"""Whether a difference between two measurements exceeds noise: one rule, and the same words everywhere.

Distances are compared answer by answer: a change exceeds noise if its mean is more than two standard errors of the
paired differences from zero, or more than Student's t asks for where there are fewer than sixty answers. Tasks are
compared prompt by prompt: right and wrong answers by McNemar's exact test (p < 0.05), other scores by a paired
bootstrap (whose 95 % interval leaves out zero), which needs six prompts that changed: fewer all change in the same
direction too often by chance. Results without the outcome of each prompt are compared by their standard errors, as if
they were independent.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simct.errors import DataError

STANDARD_ERRORS = 2.0
# the 97.5 % points of Student's t for 1, 2, … degrees of freedom, as far as they exceed STANDARD_ERRORS
T_97_5 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042, 2.040, 2.037,
    2.035, 2.032, 2.030, 2.028, 2.026, 2.024, 2.023, 2.021, 2.020, 2.018, 2.017, 2.015, 2.014, 2.013, 2.012, 2.011,
    2.010, 2.009, 2.008, 2.007, 2.006, 2.005, 2.004, 2.003, 2.002, 2.002, 2.001,
)  # fmt: skip
SIGNIFICANCE = 0.05
# the smallest n with 2 · 2^-n < SIGNIFICANCE, the probability that n differences have the same sign by chance
FEWEST_CHANGED = 6
RESAMPLES = 2000
EXCEEDS, WITHIN = "exceeds noise", "within noise"


@dataclass(frozen=True)
class Change:
    """The mean difference (after - before) over `answers` prompts, and its standard error.

    p_value: of McNemar's test; interval: of the bootstrap; each only if it decides.
    """

    mean: float
    standard_error: float | None
    answers: int
    p_value: float | None = None
    interval: tuple[float, float] | None = None

    @property
    def exceeds_noise(self) -> bool:
        if self.p_value is not None:
            return self.p_value < SIGNIFICANCE
        if self.interval is not None:
            return not self.interval[0] <= 0 <= self.interval[1]
        if self.standard_error is None:
            return False
        return abs(self.mean) > standard_errors_needed(self.answers) * self.standard_error

    @property
    def verdict(self) -> str:
        """The change's verdict in words."""
        return EXCEEDS if self.exceeds_noise else WITHIN


def paired_change(before: Mapping[int, float], after: Mapping[int, float]) -> Change:
    """The change of a distance over the prompts that both measured. Raises DataError if there is none."""
    common = sorted(before.keys() & after.keys())
    if not common:
        raise DataError("The distance cannot be measured: no prompt was answered in both measurements.")
    differences = [after[index] - before[index] for index in common]
    return Change(statistics.fmean(differences), standard_error(differences), len(differences))


def standard_errors_needed(answers: int) -> float:
    """How many standard errors from zero the mean of this many paired differences must be to exceed noise."""
    return T_97_5[answers - 2] if 2 <= answers < len(T_97_5) + 2 else STANDARD_ERRORS


def standard_error(values: Sequence[float]) -> float | None:
    """Of the mean of `values`; None for a single one."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def score_change(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Change | None:
    """The change of a task's score between two results of `evaluate_loaded`; None if one of them has no score."""
    if not _has_score(before) or not _has_score(after):
        return None
    assert before is not None and after is not None
    first, last = (_outcomes(result) for result in (before, after))
    if first and last and len(first) == len(last):
        differences = [late - early for early, late in zip(first, last, strict=True)]
        mean, error = statistics.fmean(differences), standard_error(differences)
        if {*first, *last} <= {0.0, 1.0}:
            return Change(
                mean, error, len(differences), p_value=mcnemar(differences.count(1.0), differences.count(-1.0))
            )
        return Change(mean, error, len(differences), interval=changed_interval(differences))
    errors = [result.get("stderr") for result in (before, after)]
    both = None if None in errors else math.hypot(*(float(error) for error in errors if error is not None))
    answers = min(int(result.get("n") or 0) for result in (before, after))
    return Change(float(after["score"]) - float(before["score"]), both, answers)


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided p-value: `gained` prompts only answered right afterward, `lost` only before."""
    discordant = gained + lost
    tail = sum(math.comb(discordant, count) for count in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**discordant)


def changed_interval(differences: Sequence[float]) -> tuple[float, float]:
    """`bootstrap_interval`, or one without bounds where too few prompts changed for a bootstrap."""
    if sum(each != 0 for each in differences) < FEWEST_CHANGED:
        return -math.inf, math.inf
    return bootstrap_interval(differences)


def bootstrap_interval(differences: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of the mean of paired differences, from RESAMPLES samples with replacement."""
    generator = np.random.default_rng(seed)
    values_N = np.asarray(differences)
    means = [float(generator.choice(values_N, len(values_N)).mean()) for _ in range(RESAMPLES)]
    low, high = np.quantile(means, (SIGNIFICANCE / 2, 1 - SIGNIFICANCE / 2))
    return float(low), float(high)


def distance_change_text(change: Change) -> str:
    """For example "-0.120 ± 0.031, exceeds noise"."""
    error = "" if change.standard_error is None else f" ± {change.standard_error:.3f}"
    return f"{change.mean:+.3f}{error}, {change.verdict}"


def score_change_text(change: Change) -> str:
    """For example "+4.5 points ± 2.1, within noise"."""
    error = "" if change.standard_error is None else f" ± {100 * change.standard_error:.1f}"
    return f"{100 * change.mean:+.1f} points{error}, {change.verdict}"


def _has_score(result: Mapping[str, Any] | None) -> bool:
    return isinstance(result, Mapping) and isinstance(result.get("score"), int | float)


def _outcomes(result: Mapping[str, Any]) -> list[float] | None:
    outcomes = result.get("outcomes")
    if not isinstance(outcomes, list) or not all(isinstance(each, int | float) for each in outcomes):
        return None
    return [float(each) for each in outcomes]
