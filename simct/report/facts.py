"""The numbers of a report: each has one label and one explanation, wherever it is shown.

The terminal (text.py), the HTML file (html.py) and the studio show these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from simct.inspection.text_kinds import TITLES
from simct.report.formats import count, number, plural, share, signed

if TYPE_CHECKING:
    from simct.inspection.records import (
        Candidates,
        KindTokens,
        MeasuredCandidate,
        MeasuredCandidates,
        OtherCandidates,
        PairReport,
        PairRow,
        Reliability,
        Splits,
    )


@dataclass(frozen=True)
class Fact:
    """One number with its label, its text and its explanation. `missing` is the text for None."""

    label: str
    value: Any
    format: Callable[[Any], str]
    explanation: str
    missing: str = "unknown"

    @property
    def text(self) -> str:
        return self.missing if self.value is None else self.format(self.value)


# Units by kind: the kind in the files -> its name and its meaning
UNIT_KINDS = {
    "shared": ("shared", "one token on each side, the same bytes: exact matching covers it"),
    "recovered": ("recovered", "several tokens on either side: lost to exact matching, one unit to SimCT"),
    "outside": ("not covered", "neither matched exactly nor recovered"),
}
LANES = "upper lane: student · lower lane: teacher"


# Coverage


def _shared_tokens(value: int | None) -> Fact:
    return Fact("Shared tokens", value, count, "Tokens of both vocabularies with exactly the same bytes")


def _overlap(value: float | None) -> Fact:
    return Fact("Vocabulary overlap", value, share, "Shared tokens over all tokens of both vocabularies (Jaccard)")


def _matched(value: float | None) -> Fact:
    explanation = "Share of the student's tokens in shared units: one token on each side, the same bytes"
    return Fact("Matched exactly", value, share, explanation)


def _recovered(value: float | None) -> Fact:
    return Fact("Recovered", value, share, "Share of the student's tokens that exact matching loses and SimCT recovers")


def _not_covered(value: float) -> Fact:
    return Fact("Not covered", value, share, "Share of the student's tokens that are neither matched nor recovered")


def coverage_facts(report: PairReport) -> list[Fact]:
    """What the two tokenizers share, and the student's tokens by kind of unit."""
    rows = [
        _shared_tokens(report.shared_tokens),
        _overlap(report.jaccard),
        _matched(report.student_strict_coverage),
        _recovered(report.student_recovered_coverage),
    ]
    if report.uncovered_tokens:
        rows.append(_not_covered(report.uncovered_tokens / report.student_tokens))
    return rows


def vocabulary_facts(report: PairReport) -> list[Fact]:
    teacher = "Share of the teacher's tokens in shared units"
    return [
        Fact("Student vocabulary", report.student_vocabulary, count, "Tokens that the student's tokenizer has"),
        Fact("Teacher vocabulary", report.teacher_vocabulary, count, "Tokens that the teacher's tokenizer has"),
        Fact("Teacher tokens matched", report.teacher_strict_coverage, share, teacher),
    ]


def kind_facts(tokens: KindTokens) -> list[Fact]:
    """One kind of text."""
    total = max(tokens.student_tokens, 1)
    return [
        Fact("Student tokens", tokens.student_tokens, count, "Tokens in units of this kind of text"),
        _matched(tokens.strict / total),
        _recovered(tokens.recovered / total),
        _not_covered(tokens.outside / total),
    ]


def pair_facts(row: PairRow) -> list[Fact]:
    """One pair in a table of several."""
    return [
        _shared_tokens(row.shared_tokens),
        _overlap(row.jaccard),
        Fact("Of smaller vocabulary", row.of_smaller, share, "Shared tokens over the tokens of the smaller vocabulary"),
        _matched(row.strict),
        _recovered(row.recovered),
    ]


def extent(report: PairReport) -> str:
    """The amount of text that was measured."""
    tokens = f"{plural(report.student_tokens, 'student token')}, {plural(report.teacher_tokens, 'teacher token')}"
    return f"{plural(report.texts, 'text')}, {plural(report.bytes, 'byte')}, {tokens}"


def left_out(excluded: dict[str, int]) -> str:
    """The texts that could not be used, by reason; empty if there are none."""
    return "; ".join(f"{n:,} × {reason}" for reason, n in excluded.items())


def scope(report: PairReport) -> str:
    """The extent in whole sentences, with the texts that were left out."""
    return (
        f"{extent(report)}.{' Stopped before the end.' if report.stopped else ''}"
        f"{f' Left out: {left_out(report.excluded)}.' if report.excluded else ''}"
    )


# Reliability


def _start_distances(measured: Reliability) -> list[Fact]:
    both = (("student", "teacher", measured.student_to_teacher), ("teacher", "student", measured.teacher_to_student))
    about = "How much less likely the {} finds what the {} writes, before training; 0 means no less"
    return [
        Fact(f"Distance, {one} to {other}", found, lambda each: each.text, about.format(other, one), "not measured")
        for one, other, found in both
    ]


def reliability_facts(measured: Reliability) -> list[Fact]:
    """The numbers behind a verdict; masses are means over the units of the student's answers."""
    return [
        Fact(
            "Teacher mass on shared tokens",
            measured.mass_teacher,
            share,
            "The teacher's probability on tokens that both vocabularies have, mean over units",
        ),
        Fact(
            "Student mass on shared tokens",
            measured.mass_student,
            share,
            "The student's probability on tokens that both vocabularies have, mean over units",
        ),
        Fact(
            "Candidate mass (Z_T)",
            measured.candidate_mass,
            share,
            "The teacher's probability on SimCT's candidates (the shared tokens, and the unit), mean over units",
        ),
        Fact(
            "Units with Z_T below 0.5",
            measured.z_t.below_half,
            share,
            "Share of the units whose candidates have less than half of the teacher's probability",
        ),
        Fact(
            "Prefix conflicts",
            measured.prefix_conflict_mass,
            share,
            "The student's probability on shared tokens that are only the first piece of a more likely teacher token",
        ),
        Fact(
            "Hindsight",
            measured.hindsight_mass,
            share,
            "Share of the teacher's possible continuations, once its token is written, that belong to a longer token",
        ),
        Fact(
            "KL of shared units, nats",
            measured.kl_shared,
            number,
            f"Reverse KL between the candidates, mean over {plural(measured.units_shared, 'unit')}",
        ),
        Fact(
            "KL of recovered units, nats",
            measured.kl_recovered,
            number,
            f"Reverse KL between the candidates, mean over {plural(measured.units_recovered, 'unit')}",
        ),
        Fact(
            "Gradient cosine",
            measured.gradient_cosine,
            signed,
            "Between the gradients of exact matches and of recovered units; below 0 they work against each other",
            missing="none",
        ),
        *_further_facts(measured),
    ]


def _further_facts(measured: Reliability) -> list[Fact]:
    """What the gradients, the top 16 and Proposition 1 add; unknown in reports of earlier versions."""
    units, merged = measured.kl_units, measured.kl_merged
    lost = None if units is None or merged is None or units <= 0 else 1 - merged / units
    noise = "Cosine between exact matches of two random halves of the answers: the level at which the other is noise"
    top = "probability on the student's 16 most likely shared tokens, which strict with top_k 16 compares"
    merging = "Share of the KL of two neighboring units that is lost if they are compared as one (Proposition 1)"
    return [
        *_start_distances(measured),
        Fact("Gradient noise", measured.gradient_noise, signed, noise),
        Fact("Gradient ratio", measured.gradient_ratio, number, "Norm of the recovered gradient over the exact one"),
        Fact("Student mass on its top 16", measured.top16_student, share, f"The student's {top}"),
        Fact("Teacher mass on those 16", measured.top16_teacher, share, f"The teacher's {top}"),
        Fact("KL lost by merging", lost, share, merging),
    ]


def mass_facts(measured: Reliability) -> list[Fact]:
    """The facts that are shares of a model's probability, for a chart."""
    known = [fact for fact in reliability_facts(measured) if fact.format is share and fact.value is not None]
    return [fact for fact in known if not fact.label.startswith(("Units", "KL"))]


def sample(measured: Reliability) -> str:
    """What was measured, in one or two sentences."""
    answers = f"Measured on {plural(measured.answers, 'answer')} of the student, {plural(measured.units, 'unit')}"
    stopped = " (stopped early)" if measured.stopped else ""
    excluded = f" Left out: {left_out(measured.excluded)}." if measured.excluded else ""
    listed = ""
    if measured.listed:
        listed = f" The teacher's server listed the {measured.listed:,} most likely tokens at each position."
    return f"{answers}{stopped}.{listed}{excluded}"


class VerdictText(NamedTuple):
    """What to use, why, and the settings that follow (names as in run.yaml)."""

    use: str
    reasons: str
    settings: list[tuple[str, str]]


def verdict_text(measured: Reliability) -> VerdictText:
    use, reasons = split_verdict(measured.verdict)
    settings = [(name, _setting(value)) for name, value in measured.settings.items() if value not in ({}, [], None)]
    return VerdictText(use, reasons, settings)


def split_verdict(verdict: str) -> tuple[str, str]:
    """A verdict divided into the recommendation and its reasons."""
    use, _, reasons = verdict.partition(". ")
    return use, reasons


def _setting(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_setting(each)}" for name, each in value.items())
    return str(value).lower() if isinstance(value, bool) else str(value)


def split_facts(splits: Splits) -> list[Fact]:
    """Recovered units of one kind of text."""
    return [
        Fact("Student splits", splits.student_splits, count, "Units that the teacher writes in fewer tokens"),
        Fact("Teacher splits", splits.teacher_splits, count, "Units that the student writes in fewer tokens"),
        Fact(
            "Both split",
            splits.both_split,
            count,
            "Units with the same number of tokens on both sides, split differently",
        ),
    ]


# One position


def unit_title(found: Candidates) -> str:
    return f"Unit {found.index:,}: {UNIT_KINDS[found.unit.kind][0]}, {found.unit.shape}"


def position_facts(found: MeasuredCandidates) -> list[Fact]:
    """Both models at one position."""
    lost = found.thrown_away_by_strict
    mass = "{} probability on the candidates: all shared tokens, and the unit itself if it is one"
    return [
        Fact("Candidate mass, teacher (Z_T)", found.Z_T, share, mass.format("The teacher's")),
        Fact("Candidate mass, student (Z_S)", found.Z_S, share, mass.format("The student's")),
        Fact(
            "KL at this position, nats",
            found.kl,
            number,
            "Reverse KL between both models on the candidates",
        ),
        Fact(
            "KL lost to exact matching",
            lost.kl if lost.row else None,
            number,
            "What a loss on exact matches alone leaves out at this position",
            missing="nothing",
        ),
    ]


def candidate_facts(row: MeasuredCandidate | OtherCandidates) -> list[Fact]:
    """Both models on one candidate."""
    p = "{} probability of the candidate; of the unit, the geometric mean over its tokens"
    q = "The candidate's share of {} mass on all candidates"
    return [
        Fact("Student p", row.student_mass, share, p.format("The student's")),
        Fact("Teacher p", row.teacher_mass, share, p.format("The teacher's")),
        Fact("Student q", row.student_q, share, q.format("the student's")),
        Fact("Teacher q", row.teacher_q, share, q.format("the teacher's")),
    ]


def marks(row: MeasuredCandidate) -> str:
    """The special properties of a candidate."""
    return ", ".join(name for name, here in (("unit", row.kind == "unit"), ("written", row.written)) if here)


def what_is_compared(found: Candidates) -> str:
    """The candidates at a position, in a sentence."""
    head = f"{found.candidates:,} candidates: {found.shared_candidates:,} shared tokens (the end of turn included)"
    if found.candidates > found.shared_candidates:
        return f"{head} and the unit itself, which is not one token on each side."
    return f"{head}, {'the unit among them' if found.unit.kind == 'shared' else 'the unit not among them'}."


def what_is_lost(found: MeasuredCandidates) -> str:
    """What exact matching does at a position, in a sentence."""
    lost = found.thrown_away_by_strict
    if not lost.row:
        return "Exact matching keeps this position: one token on each side."
    return (
        f"Exact matching throws this position away: {plural(lost.student_tokens, 'student token')} and "
        f"{plural(lost.teacher_tokens, 'teacher token')}, on which the models put {share(lost.student_mass)} and "
        f"{share(lost.teacher_mass)} (geometric means)."
    )


class Unshared(NamedTuple):
    """Tokens of one side that the other does not have: (text, id, mass, how the other side spells it) each."""

    title: str
    side: str
    other: str
    rows: list[tuple[str, int, float, list[str]]]


def unshared(found: MeasuredCandidates) -> list[Unshared]:
    teacher = [(row.text, row.teacher_id, row.mass, row.student_tokens) for row in found.teacher_outside]
    student = [(row.text, row.student_id, row.mass, row.teacher_tokens) for row in found.student_outside]
    return [
        Unshared(f"The {side}'s most likely tokens that the {other} does not have", side, other, rows)
        for side, other, rows in (("teacher", "student", teacher), ("student", "teacher", student))
    ]


def kind_title(kind: str) -> str:
    return TITLES.get(kind, kind)
