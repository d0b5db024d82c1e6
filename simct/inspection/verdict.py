"""The verdict on a pair: the recommended method and settings in plain words, each with the number it rests on."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from simct.inspection.text_kinds import TITLES

# Where a verdict turns. Set between the embedded pairs on which SimCT works and those on which it does not
# (docs/method.md), with room to spare on both sides.
CONFLICT = 0.05
HINDSIGHT = 0.1
LITTLE_MASS = 0.9
LITTLE_RECOVERED = 0.01
# Where a setting is recommended against.
FEW_CANDIDATES = 0.02  # share of units whose candidates have less than half of the teacher's mass
MANY_CUT = 0.3  # share of answers that reach the length limit
MANY_EXCLUDED = 0.1
# What is said about who splits what.
SPLITTERS = ("student_splits", "teacher_splits")
ENOUGH_UNITS = 20
NEARLY_ALWAYS = 0.7


@dataclass(frozen=True)
class Verdict:
    """The recommended method with its options, the reasons in plain words with their numbers, and further settings.

    settings: names as in run.yaml ("rollout.max_new_tokens") with values, the method and its options among them.
    """

    method: str
    options: dict
    reasons: list[str]
    settings: dict = field(default_factory=dict)

    @property
    def text(self) -> str:
        options = "".join(f", {name}: {str(value).lower()}" for name, value in self.options.items())
        return f"Use {self.method}{options}. " + " ".join(self.reasons)


def judge(report: dict) -> Verdict:
    """Which method and settings suit a pair, from the numbers of `measure_pair`; each reason carries its number."""
    method, options, reasons = _method_for(report)
    settings: dict = {}
    for name, value, reason in _further_settings(report):
        reasons.append(reason)
        if name:
            settings[name] = value
    return Verdict(method, options, reasons, {"method": method, "method_options": options} | settings)


def _method_for(report: dict) -> tuple[str, dict, list[str]]:
    conflict, hindsight = report.get("prefix_conflict_mass", 0.0), report.get("hindsight_mass", 0.0)
    reasons = []
    if conflict > CONFLICT:
        reasons.append(
            f"{conflict:.1%} of the student's probability is on shared tokens that are only the first piece of what "
            "the teacher writes whole; methods on shared tokens would forbid them."
        )
    if hindsight > HINDSIGHT:
        reasons.append(
            f"Of what the teacher could mean once its token is written, {hindsight:.1%} goes on past that token: it "
            "splits what the student has whole."
        )
    for name in ("teacher", "student"):
        if report[f"mass_{name}"] < LITTLE_MASS:
            reasons.append(
                f"Only {report[f'mass_{name}']:.1%} of the {name}'s probability is on shared tokens; methods that look "
                "only there leave the rest unguided."
            )
    if reasons:
        return "marginal", {}, [*_who_splits(report), *reasons]
    masses = (
        f"{report['mass_teacher']:.1%} of the teacher's and {report['mass_student']:.1%} of the student's probability "
        "is on shared tokens"
    )
    if report["recovered_share"] < LITTLE_RECOVERED:
        reason = (
            f"{report['recovered_share']:.1%} of the student's tokens are outside exact matches: SimCT adds next to "
            "nothing here, and costs nothing."
        )
        return "simct", {}, [f"{masses}.", reason]
    reasons = [
        f"{masses}, and {conflict:.1%} in prefix conflicts.",
        f"Exact matching would lose {report['recovered_share']:.1%} of the student's tokens, which SimCT recovers.",
        *_who_splits(report),
    ]
    few = report.get("z_t", {}).get("below_half", 0.0)
    if few > FEW_CANDIDATES:
        reasons.append(
            f"At {few:.1%} of the units the candidates have less than half of the teacher's probability; mass_mask "
            "leaves these out."
        )
    return "simct", {"mass_mask": True} if few > FEW_CANDIDATES else {}, reasons


def _who_splits(report: dict) -> list[str]:
    """One sentence on which side splits what the other has whole, where that is nearly always the same one."""
    table = report.get("recovered_kinds", {})
    total = sum(sum(row.values()) for row in table.values())
    if total < ENOUGH_UNITS:
        return []
    by_side = {side: {kind: row[side] for kind, row in table.items() if row[side]} for side in SPLITTERS}
    side = max(by_side, key=lambda name: sum(by_side[name].values()))
    count = sum(by_side[side].values())
    if count < NEARLY_ALWAYS * total:
        return []
    whole, split = ("teacher", "student") if side == "student_splits" else ("student", "teacher")
    kinds = ", ".join(f"{TITLES[kind]} {n / count:.0%}" for kind, n in Counter(by_side[side]).most_common(3))
    return [
        f"The {whole} writes whole what the {split} splits, in {count / total:.0%} of the {total:,} units that are not "
        f"1:1 ({kinds})."
    ]


def _further_settings(report: dict) -> Iterator[tuple[str, object, str]]:
    """(name in run.yaml or nothing, value, reason) of what else should be done."""
    cosine = report.get("gradient_cosine")
    if cosine is not None and cosine < -0.1:
        yield (
            "training.warmup_ratio",
            0.1,
            f"Recovered units pull against exact matches (gradient cosine {cosine:.2f}): start slowly, with "
            "training.warmup_ratio at 0.1.",
        )
    written, ended = report.get("answers_written", 0), report.get("answers_ended", 0)
    if written and (written - ended) / written > MANY_CUT:
        limit = report["max_new_tokens"]
        yield (
            "rollout.max_new_tokens",
            2 * limit,
            f"{written - ended} of {written} answers were cut at {limit} tokens: set rollout.max_new_tokens to "
            f"{2 * limit}, or warm the student up if it does not know how to end.",
        )
    excluded = {reason: count for reason, count in report.get("excluded", {}).items() if "trailing" not in reason}
    if written and sum(excluded.values()) / written > MANY_EXCLUDED:
        told = ", ".join(f"{count} for {reason}" for reason, count in excluded.items())
        yield "", None, f"Of {written} answers some cannot be compared and would be left out: {told}."
