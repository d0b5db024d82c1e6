"""Answers that cannot be supervised: how many there are, why, and what to do about it."""

from collections.abc import Mapping

from simct.tokenization.reasons import BEYOND_VOCABULARY, SPECIAL_INSIDE, TEACHER_CANNOT_SPELL

# counted, but the rest of the answer is used
CUT_BYTES = "trailing bytes that are not UTF-8"
PART = "part of an answer: "
NOTHING = "nothing to supervise"
OFF_POLICY = "off-policy: "
GIVEN = "the data's completion: "
# the share of left-out answers above which a run warns, and the share above which it ends
WARN_SHARE, STOP_SHARE = 0.1, 0.9

_REMEDIES = {
    SPECIAL_INSIDE: "The teacher's chat template has no place for their control tokens: set student.enable_thinking "
    "to false, or choose a teacher whose template has the same parts.",
    TEACHER_CANNOT_SPELL: "Choose a teacher whose vocabulary has every byte.",
    BEYOND_VOCABULARY: "Give the student the tokenizer that belongs to it.",
    NOTHING: "The student writes nothing or is cut off immediately: raise rollout.max_new_tokens, or warm the student "
    "up first.",
    OFF_POLICY: "The teacher writes control tokens or text that the student cannot spell: set teacher.enable_thinking "
    "to false, or rollout.on_policy_fraction to 1.",
    GIVEN: "The student cannot spell the data's completions: choose another student, or lower "
    "rollout.dataset_fraction.",
}
_OTHERWISE = "Look at the answers in rollouts.jsonl, or choose another pair."


def whole_answers(excluded: Mapping[str, int]) -> dict[str, int]:
    """The counts of answers that were left out entirely, by reason, the most frequent first."""
    whole = {reason: n for reason, n in excluded.items() if reason != CUT_BYTES and not reason.startswith(PART)}
    return dict(sorted(whole.items(), key=lambda each: -each[1]))


def excluded_share(excluded: Mapping[str, int], answers: int) -> float:
    """The share of `answers` that was left out."""
    return sum(whole_answers(excluded).values()) / answers if answers else 0.0


def exclusion_line(excluded: Mapping[str, int], answers: int) -> str | None:
    """The share, the reasons and the remedy in one line, if more than a tenth of `answers` was left out."""
    share = excluded_share(excluded, answers)
    if share <= WARN_SHARE:
        return None
    whole = whole_answers(excluded)
    count, reasons = sum(whole.values()), ", ".join(f"{n:,} for {reason}" for reason, n in whole.items())
    return f"{share:.0%} of the answers ({count:,} of {answers:,}) are left out: {reasons}. {_remedy(whole)}"


def _remedy(whole: Mapping[str, int]) -> str:
    first = next(iter(whole), "")
    return next((remedy for reason, remedy in _REMEDIES.items() if first.startswith(reason)), _OTHERWISE)
