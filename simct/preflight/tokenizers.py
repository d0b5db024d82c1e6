"""Whether both tokenizers spell text exactly, and what the two have in common on the run's own prompts."""

from simct.errors import SimCTError
from simct.inspection.coverage import STUDENT_CANNOT_SPELL, inspect_pair
from simct.preflight.planned import STUDENT, NotRead, PlannedRun
from simct.preflight.records import Check, from_error, ok, problem, warning

# Above this share of student tokens that methods on shared tokens cannot use, there is a warning.
MOST_NOT_COVERED = 0.05


def check_tokenizers(planned: PlannedRun) -> list[Check]:
    """Check that each tokenizer can be read as exact bytes."""
    found = []
    for side in planned.sides:
        try:
            tokens = planned.tokens(side)
        except NotRead:
            continue
        except SimCTError as error:
            found.append(from_error(error, planned.setting(side, "model")))
            continue
        found.append(ok(f"{planned.title(side)}'s tokenizer: {tokens.vocabulary:,} tokens, exact bytes."))
    return found


def check_overlap(planned: PlannedRun) -> list[Check]:
    """Check real text in both directions: whether either side can spell the prompts, and how many tokens they share."""
    if planned.config.kind == "warmup":
        return []
    return [check for side in planned.teachers for check in _overlap(planned, side)]


def _overlap(planned: PlannedRun, teacher: str) -> list[Check]:
    pair = planned.pair(teacher)
    texts = [f"{prompt.text} {prompt.answer or ''}".strip() for prompt in planned.spaced]
    report = inspect_pair(pair, texts)
    left_out = {reason: each for reason, each in report.excluded.items() if each}
    count = sum(left_out.values())
    named = f"{planned.title(teacher)}: " if planned.config.teachers else ""
    found = []
    if count:
        side = STUDENT if STUDENT_CANNOT_SPELL in left_out else teacher
        what = problem if count == len(texts) else warning
        line = f"{named}{count:,} of {len(texts):,} prompts hold {', '.join(left_out)}."
        found.append(what(line, "Choose a model whose tokenizer has every byte.", planned.setting(side, "model")))
    if count < len(texts):
        strict, recovered = report.student_strict_coverage, report.student_recovered_coverage
        line = f"{named}{pair.shared_tokens:,} shared tokens; on the prompts {strict:.1%} of the student's tokens match"
        line += f" one token of the teacher, SimCT recovers {recovered:.1%}."
        left = 1 - strict - recovered
        if left > MOST_NOT_COVERED:
            remedy = "The method marginal compares text instead of tokens."
            found.append(warning(f"{line} {left:.1%} stay without supervision.", remedy, "method"))
        else:
            found.append(ok(line))
    return found
