"""The verdict on a pair: the recommended method and settings in plain words, each with the number it rests on."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from simct.data.exclusions import whole_answers
from simct.errors import DataError
from simct.inspection.records import Reliability
from simct.inspection.text_kinds import TITLES

# The thresholds of the verdict, chosen with a wide margin between the embedded pairs on which SimCT works and those on
# which it does not (docs/method.md).
CONFLICT = 0.05
HINDSIGHT = 0.1
LITTLE_MASS = 0.9
LITTLE_RECOVERED = 0.01
NEARLY_ALL_MASS = 0.99
# Above this cosine, recovered units and exact matches count as independent: small samples reach a few hundredths.
PULLS_AGAINST = -0.1
# Fewer units leave the means of the verdict too uncertain.
ENOUGH_TO_DECIDE = 100
# Thresholds for recommending other settings.
FEW_CANDIDATES = 0.02  # share of units whose candidates have less than half of the teacher's mass
MANY_CUT = 0.3  # share of answers that reach the length limit
MANY_EXCLUDED = 0.1
# Thresholds for the sentence on which side splits tokens.
ENOUGH_UNITS = 20
NEARLY_ALWAYS = 0.7


@dataclass(frozen=True)
class Verdict:
    """The recommended method with its options, the reasons in plain words with their numbers, and further settings.

    settings: names as in run.yaml ("rollout.max_new_tokens") with values, the method and its options among them.
    """

    method: str
    options: dict[str, Any]
    reasons: list[str]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        options = "".join(f", {name}: {str(value).lower()}" for name, value in self.options.items())
        return f"Use {self.method}{options}. " + " ".join(self.reasons)


def verdict_of(measured: Reliability) -> Verdict:
    """The method and settings that suit a pair, from the numbers of `measure_pair`; each reason has its number.

    Raises DataError if a model's probabilities are not finite, from which nothing follows.
    """
    _check_finite(measured)
    method, options, reasons = _method_for(measured)
    units = measured.units_shared + measured.units_recovered
    if units < ENOUGH_TO_DECIDE:
        reasons.append(f"Few units were measured ({units}): measure more answers before you rely on this.")
    settings: dict[str, Any] = {}
    for name, value, reason in _further_settings(measured):
        reasons.append(reason)
        if name:
            settings[name] = value
    return Verdict(method, options, reasons, {"method": method, "method_options": options} | settings)


def _check_finite(measured: Reliability) -> None:
    for name, numbers in (
        ("teacher", (measured.mass_teacher, measured.candidate_mass, measured.hindsight_mass)),
        ("student", (measured.mass_student, measured.prefix_conflict_mass)),
    ):
        if not all(map(math.isfinite, numbers)):
            raise DataError(f"The {name}'s probabilities are not finite numbers. Measure the pair in float32.")


def _method_for(measured: Reliability) -> tuple[str, dict[str, Any], list[str]]:
    reasons = _against_shared_tokens(measured)
    if reasons:
        return "marginal", {}, [*_who_splits(measured), *reasons]
    masses = (
        f"{measured.mass_teacher:.1%} of the teacher's and {measured.mass_student:.1%} of the student's probability "
        "is on shared tokens"
    )
    if _exact_matching_is_enough(measured):
        return "strict", {"top_k": 16}, [f"{masses}.", *_why_strict(measured)]
    if measured.recovered_share < LITTLE_RECOVERED:
        reason = (
            f"Exact matching covers {_covered(measured)} of the student's tokens: SimCT adds almost nothing here, and "
            "costs nothing."
        )
        return "simct", {}, [f"{masses}.", reason]
    reasons = [
        f"{masses}, and {measured.prefix_conflict_mass:.1%} in prefix conflicts.",
        f"Exact matching would lose {measured.recovered_share:.1%} of the student's tokens, which SimCT recovers.",
        *_who_splits(measured),
    ]
    few = measured.z_t.below_half
    if few > FEW_CANDIDATES:
        reasons.append(
            f"At {few:.1%} of the units the candidates have less than half of the teacher's probability; mass_mask "
            "leaves these out."
        )
    return "simct", {"mass_mask": True} if few > FEW_CANDIDATES else {}, reasons


def _exact_matching_is_enough(measured: Reliability) -> bool:
    """Nearly all mass is shared on both sides, and what SimCT recovers is very little or pulls the other way."""
    if min(measured.mass_teacher, measured.mass_student) < NEARLY_ALL_MASS:
        return False
    cosine = measured.gradient_cosine
    return measured.recovered_share < LITTLE_RECOVERED or (cosine is not None and cosine < PULLS_AGAINST)


def _why_strict(measured: Reliability) -> list[str]:
    reasons = []
    if measured.top16_student is not None and measured.top16_teacher is not None:
        reasons.append(
            f"The student's 16 most likely shared tokens hold {measured.top16_student:.1%} of its own probability and "
            f"{measured.top16_teacher:.1%} of the teacher's."
        )
    if measured.recovered_share < LITTLE_RECOVERED:
        reasons.append(f"Exact matching covers {_covered(measured)} of the student's tokens.")
    else:
        noise = measured.gradient_noise
        beside = "" if noise is None else f" (two halves of exact matches: {noise:.2f})"
        cosine = measured.gradient_cosine
        reasons.append(f"Recovered units work against exact matches: gradient cosine {cosine:.2f}{beside}.")
    reasons.append(
        "On such pairs, strict beats SimCT in the published comparison (arXiv 2610.08448); we have not tried this."
    )
    return reasons


def _against_shared_tokens(measured: Reliability) -> list[str]:
    """Why methods that compare only shared tokens would fail on this pair."""
    reasons = []
    if measured.prefix_conflict_mass > CONFLICT:
        reasons.append(
            f"{measured.prefix_conflict_mass:.1%} of the student's probability is on shared tokens that are only the "
            "first piece of a longer teacher token; methods on shared tokens would forbid them."
        )
    if measured.hindsight_mass > HINDSIGHT:
        reasons.append(
            f"Of what the teacher could mean once its token is written, {measured.hindsight_mass:.1%} extends past "
            "that token: it splits what the student has whole."
        )
    for name, mass in (("teacher", measured.mass_teacher), ("student", measured.mass_student)):
        if mass < LITTLE_MASS:
            reasons.append(
                f"Only {mass:.1%} of the {name}'s probability is on shared tokens; methods that look only there ignore "
                "the rest."
            )
    return reasons


def _who_splits(measured: Reliability) -> list[str]:
    """One sentence on which side splits what the other has whole, if it is nearly always the same side."""
    table = measured.recovered_kinds
    total = sum(row.student_splits + row.teacher_splits + row.both_split for row in table.values())
    if total < ENOUGH_UNITS:
        return []
    by_side = {
        "student": Counter({kind: row.student_splits for kind, row in table.items() if row.student_splits}),
        "teacher": Counter({kind: row.teacher_splits for kind, row in table.items() if row.teacher_splits}),
    }
    split = max(by_side, key=lambda side: by_side[side].total())
    whole, count = "teacher" if split == "student" else "student", by_side[split].total()
    if count < NEARLY_ALWAYS * total:
        return []
    kinds = ", ".join(f"{TITLES[kind]} {n / count:.0%}" for kind, n in by_side[split].most_common(3))
    return [
        f"The {whole} writes whole what the {split} splits, in {count / total:.0%} of the {total:,} units that are not "
        f"1:1 ({kinds})."
    ]


def _further_settings(measured: Reliability) -> Iterator[tuple[str, object, str]]:
    """(name in run.yaml or empty, value, reason) of further recommendations."""
    cosine = measured.gradient_cosine
    if cosine is not None and cosine < PULLS_AGAINST:
        yield (
            "training.warmup_ratio",
            0.1,
            f"Recovered units work against exact matches (gradient cosine {cosine:.2f}): start slowly, with "
            "training.warmup_ratio at 0.1.",
        )
    written, ended = measured.answers_written, measured.answers_ended
    if written and (written - ended) / written > MANY_CUT:
        limit = measured.max_new_tokens
        yield (
            "rollout.max_new_tokens",
            2 * limit,
            f"{written - ended} of {written} answers were cut off at {limit} tokens: set rollout.max_new_tokens to "
            f"{2 * limit}, or warm the student up if it does not know how to end.",
        )
    excluded = whole_answers(measured.excluded)
    if written and sum(excluded.values()) / written > MANY_EXCLUDED:
        reasons = ", ".join(f"{count} for {reason}" for reason, count in excluded.items())
        yield "", None, f"Of {written} answers some cannot be compared and would be left out: {reasons}."


def _covered(measured: Reliability) -> str:
    """How much of the student's tokens exact matching covers: "all", or "all but 0.4%"."""
    left = f"{measured.recovered_share:.1%}"
    return "all" if left == "0.0%" else f"all but {left}"
