"""Whether the prompts can be read, rendered by both chat templates and answered within both models' lengths."""

from collections import Counter

from simct.data.exclusions import WARN_SHARE, excluded_share, exclusion_line
from simct.data.prompts import read_prompts
from simct.data.routing import grading_teachers, left_out_by_route, scored_prompts, unused_routes
from simct.data.samples import PreparedPrompt, to_samples
from simct.errors import SimCTError
from simct.models.rollout import Rollout
from simct.preflight.planned import STUDENT, NotRead, PlannedRun
from simct.preflight.records import PROBLEM, WARNING, Check, from_error, from_text, ok, problem, warning
from simct.training.warmup import check_warmup

OTHER_TEMPLATE = "Choose another model, or correct its chat template."
# Above this share of too long prompts, there is a warning.
MOST_TOO_LONG = 0.1


def check_prompts(planned: PlannedRun) -> list[Check]:
    """Check the data: its prompts and their format, skipped rows by reason, unused columns of text."""
    try:
        found = planned.prompt_set
    except SimCTError as error:
        return [from_error(error, "data.prompts")]
    first = ok(f"{found.summary.lines()[0]}.")
    notices = [
        from_text(WARNING, line, "data.template" if "data.template" in line else "data.prompts")
        for line in found.summary.notices()
    ]
    return [first, *notices]


def check_routes(planned: PlannedRun) -> list[Check]:
    """Check which of several teachers grades how many prompts, and find routes without rows and rows without a
    teacher.
    """
    config, found = planned.config, []
    if not config.teachers:
        return []
    prompts = planned.split.trained
    if line := unused_routes(prompts, config):
        # if only the first rows were read, the others may have it
        whole = planned.readers.prompts is read_prompts
        found.append(from_text(PROBLEM if whole else WARNING, line, "teachers"))
    if line := left_out_by_route(prompts, config):
        nobody = not any(grading_teachers(prompt, config) for prompt in prompts)
        found.append(from_text(PROBLEM if nobody else WARNING, line, "data.teacher_column"))
    places = Counter(place for prompt in prompts for place in grading_teachers(prompt, config))
    shares = [f"{each.name} {places[place]:,} (weight {each.weight:g})" for place, each in enumerate(config.teachers)]
    return [*found, ok(f"Prompts that each teacher grades: {', '.join(shares)}.")]


def check_references(planned: PlannedRun) -> list[Check]:
    """Check the reference answers and the permission that a warm-up's checker needs."""
    if planned.config.kind == "warmup":
        check_warmup(planned.config, planned.split.trained)
    return []


def check_completions(planned: PlannedRun) -> list[Check]:
    """Check the data's own completions, if the run learns from them."""
    config, prompts = planned.config, planned.split.trained
    missing = sum(prompt.completion is None for prompt in prompts)
    if config.kind == "warmup" or not config.rollout.dataset_fraction or not missing:
        return []
    scored, unscored = scored_prompts(prompts, config)
    if scored and unscored:
        return [warning(unscored, setting="data.completion_column")]
    if missing < len(prompts) and scored:
        line = f"{missing:,} of {len(prompts):,} prompts have no completion: the student answers these itself."
        return [warning(line, setting="data.completion_column")]
    share = f"rollout.dataset_fraction is {config.rollout.dataset_fraction:g}"
    line = f"{share}, and {config.data.prompts!r} has no completions."
    return [problem(line, "Name their column with data.completion_column, or set it to 0.", "rollout.dataset_fraction")]


def check_templates(planned: PlannedRun) -> list[Check]:
    """Check each side's chat template on real rows: no text may be lost."""
    found = []
    for side in planned.sides:
        try:
            rendered = planned.rendered(side)
        except NotRead:
            continue
        except SimCTError as error:
            name = "chat_template" if "Name one" in str(error) else "model"
            found.append(from_error(error, planned.setting(side, name)))
            continue
        read = sum(bool(ids) for ids in rendered.ids)
        found += [warning(line) for line in rendered.notices()]
        # a template that refuses every prompt is the model's fault, not that of the prompts
        where = ("", "data.prompts") if read else (OTHER_TEMPLATE, planned.setting(side, "model"))
        found += [Check(WARNING if read else PROBLEM, line, *where) for line in rendered.losses()]
        if read:
            how = "its chat template" if rendered.has_template else "plain text"
            found.append(ok(f"{planned.title(side)}: {read:,} prompts rendered by {how}, no text is lost."))
    return found


def check_lengths(planned: PlannedRun) -> list[Check]:
    """Check that prompts leave room for an answer within training.max_length and their models' context."""
    config, answer, readable = planned.config, planned.new_tokens, planned.lengths()
    lengths = [each for each in readable if each.allowed]
    if not readable:
        return []
    if not lengths:
        name = "data.min_tokens" if config.data.max_tokens is None else "data.max_tokens"
        return [problem("data.min_tokens and data.max_tokens leave out all prompts.", "Change them.", name)]
    new = "warmup.max_new_tokens" if config.kind == "warmup" else "rollout.max_new_tokens"
    room, longest = min(each.room for each in lengths), max(each.tokens for each in lengths)
    whole = room + answer
    remedy = f"Lower {new}, or raise training.max_length." if whole == config.training.max_length else f"Lower {new}."
    if not any(each.fits for each in lengths):
        line = f"No prompt leaves room for {answer:,} new tokens within {whole:,}."
        fix = whole - longest if whole > longest else None
        return [problem(line, remedy, new, fix if room > 0 else whole // 2 or None)]
    spaced = [each for each in planned.lengths(len(planned.spaced)) if each.allowed]
    too_long = sum(not each.fits for each in spaced) / max(1, len(spaced))
    if too_long > MOST_TOO_LONG:
        line = f"About {too_long:.0%} of the prompts are longer than {room:,} tokens and are left out."
        return [warning(line, remedy, new)]
    line = f"Prompts have up to {longest:,} tokens; {room:,} leave room for {answer:,} new ones."
    return [ok(line), *_beyond_student(planned)]


def _beyond_student(planned: PlannedRun) -> list[Check]:
    """In a warm-up, warn of prompts that already fill what the student reads: it cannot learn their answers."""
    if planned.config.kind == "distill":
        return []
    longest = planned.longest(STUDENT)
    read = [len(ids) for ids in planned.rendered(STUDENT).ids[: len(planned.spaced)] if ids]
    share = sum(length >= longest for length in read) / max(1, len(read))
    if share <= MOST_TOO_LONG:
        return []
    line = f"The student reads {longest:,} tokens, which about {share:.0%} of the prompts fill alone."
    return [(problem if share == 1 else warning)(line, "Choose another student, or shorter prompts.", "student.model")]


def check_unreadable_ids(planned: PlannedRun) -> list[Check]:
    """Check for tokens that were added to a tokenizer but not to its model's embedding."""
    found = []
    for side in planned.sides:
        tokens = planned.tokens(side)
        beyond = [each for ids in planned.rendered(side).ids if (each := tokens.beyond_embedding(ids)) is not None]
        if beyond:
            line = f"{planned.title(side)}: {len(beyond):,} prompts hold token id {beyond[0]}, and the model's "
            line += f"embedding has {tokens.rows:,} rows."
            remedy = "Give the tokenizer that belongs to the model."
            all_of_them = len(beyond) == sum(map(bool, planned.rendered(side).ids))
            found.append((problem if all_of_them else warning)(line, remedy, planned.setting(side, "model")))
    return found


def check_answers(planned: PlannedRun) -> list[Check]:
    """Check the share of answers that cannot be supervised, using the data's answers in the student's tokens."""
    if planned.config.kind == "warmup":
        return []
    return [check for side in planned.teachers for check in _answers(planned, side)]


def _answers(planned: PlannedRun, teacher: str) -> list[Check]:
    pair, excluded, count = planned.pair(teacher), Counter[str](), 0
    both = zip(planned.rendered(STUDENT).ids, planned.rendered(teacher).ids, strict=True)
    for prompt, (student_ids, teacher_ids) in zip(planned.spaced, both, strict=False):
        answer = prompt.completion or prompt.answer
        if answer and student_ids and teacher_ids:
            ids = pair.student.tokenizer(answer, add_special_tokens=False)["input_ids"]
            rollout = Rollout(student_ids, [*ids, pair.student.end_ids[0]], True)
            to_samples(pair, [PreparedPrompt(prompt, student_ids, teacher_ids)], [rollout], excluded)
            count += 1
    if not count:
        return []
    share = excluded_share(excluded, count)
    whom = f" with {planned.title(teacher).lower()}" if planned.config.teachers else ""
    if share <= WARN_SHARE:
        return [ok(f"{1 - share:.0%} of {count:,} answers in the data can be supervised by this pair{whom}.")]
    return [from_text(WARNING, exclusion_line(excluded, count) or "", planned.setting(teacher, "model"))]
