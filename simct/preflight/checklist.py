"""All checks in order. A failed check does not hide the others, and an unexpected error in one becomes one line."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from simct.errors import SimCTError, brief
from simct.preflight import account, machine, models, packages, prompts, settings, tasks, tokenizers
from simct.preflight.planned import NotRead, PlannedRun
from simct.preflight.records import Check, Preflight, from_error, warning

CheckFunction = Callable[[PlannedRun], list[Check]]
# Quick checks without models come first; the training process also runs these before it loads anything.
FIRST: tuple[tuple[str, CheckFunction], ...] = (
    ("Settings", settings.check_settings),
    ("Packages", packages.check_packages),
    ("Packages", packages.check_tracker),
    ("Evaluation", tasks.check_evaluation),
)
CHECKS: tuple[tuple[str, CheckFunction], ...] = (
    *FIRST,
    ("Settings", settings.check_output),
    ("Models", models.check_models),
    ("Models", models.check_licenses),
    ("Tokenizers", tokenizers.check_tokenizers),
    ("Prompts", prompts.check_prompts),
    ("Prompts", prompts.check_routes),
    ("Prompts", prompts.check_references),
    ("Prompts", prompts.check_completions),
    ("Tokenizers", tokenizers.check_overlap),
    ("Chat templates", prompts.check_templates),
    ("Chat templates", prompts.check_unreadable_ids),
    ("Answers", prompts.check_lengths),
    ("Answers", prompts.check_answers),
    ("Machine", machine.check_device),
    ("Machine", machine.check_memory),
    ("Machine", machine.check_disk),
    ("Machine", machine.check_server),
    ("Hub account", account.check_account),
    ("Hub account", account.check_publishing),
    ("Hub account", account.check_job_machine),
)


def run_checks(
    planned: PlannedRun,
    on_progress: Callable[[str, int, int], None] | None = None,
    checks: Sequence[tuple[str, CheckFunction]] = CHECKS,
) -> Preflight:
    """Run the checks; no weights are loaded. on_progress gets the subject, the finished checks, and all checks."""
    found: list[Check] = []
    for done, (subject, check) in enumerate(checks):
        if on_progress:
            on_progress(subject, done, len(checks))
        known = {each.text for each in found}
        # the same reason may be found twice, for example for a gated config and tokenizer
        new = (each for each in _carried_out(check, planned) if each.text not in known)
        found += [replace(each, subject=subject) for each in new]
    order = list(dict.fromkeys(subject for subject, _ in checks))
    return Preflight(sorted(found, key=lambda each: order.index(each.subject)))


def _carried_out(check: CheckFunction, planned: PlannedRun) -> list[Check]:
    try:
        return check(planned)
    except NotRead:
        return []  # the check that tried to read it has reported the reason
    except SimCTError as error:
        return [from_error(error)]
    except Exception as error:
        reason = brief(error, 160).rstrip(".")
        line = f"This could not be checked ({check.__name__}): {type(error).__name__}: {reason}."
        return [warning(line, "The run may still work.")]
