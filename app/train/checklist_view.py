"""The checklist next to Launch as HTML: problems with buttons that lead to their fields, then warnings; passed checks
are collapsed.
"""

from collections.abc import Sequence
from html import escape

from app.data.forms import OTHER_COLUMNS, SELECTION
from app.page import markup
from app.page.page_fields import Field, PageFields
from app.train import fields
from simct.preflight.records import OK, PROBLEM, WARNING, Check, Preflight
from simct.report.formats import plural

MARKS = {OK: ("ok", "✓"), WARNING: ("warn", "!"), PROBLEM: ("error", "✕")}
HEAD = "<h3>Before you launch</h3>"


def _known_fields() -> dict[str, Field]:
    """The fields of the page, by setting."""
    found = {
        name: Field(fields.label(name), fields.elem_id(name), "train", group)
        for group, rows in [("", fields.BASIC), ("", fields.PUBLISH), *fields.FOLDED.items()]
        for row in rows
        for name in row
    }
    found |= {
        name: Field(fields.label(name), fields.elem_id(name), "pair", fields.SERVED_GROUP)
        for row in fields.SERVED
        for name in row
    }
    return found | {
        "teacher.model": Field("Teacher", "teacher", "pair"),
        "student.model": Field("Student", "student", "pair"),
        "data.prompts": Field("Prompts from", "prompt-source", "data"),
        "data.split": Field("Split", "prompt-split", "data"),
        "data.config_name": Field("Configuration", "prompt-config", "data"),
        "data.column": Field("Prompt or messages column", "prompt-column", "data"),
        "data.answer_column": Field("Answer column", "answer-column", "data"),
        "data.template": Field("Prompt template", "prompt-template", "data"),
        "data.system": Field("System text", "system-text", "data"),
        "data.limit": Field("Use at most", "limit", "data"),
        "data.system_column": Field("System column", "system-column", "data", OTHER_COLUMNS),
        "data.completion_column": Field("Completion column", "completion-column", "data", OTHER_COLUMNS),
        "data.checker_column": Field("Checker column", "checker-column", "data", OTHER_COLUMNS),
        "data.exclude_rows": Field("Excluded rows", "excluded-rows", "data", SELECTION),
        "data.deduplicate": Field("Duplicates", "duplicates", "data", SELECTION),
        "data.min_tokens": Field("Shortest, tokens", "shortest", "data", SELECTION),
        "data.max_tokens": Field("Longest, tokens", "longest", "data", SELECTION),
        "data.held_out": Field("Held-out prompts", "held-out", "data", SELECTION),
        "data.held_out_seed": Field("Held-out seed", "held-out-seed", "data", SELECTION),
        "flavor": Field("Machine", "flavor"),
        "namespace": Field("Paid by", "namespace"),
    }


FIELDS = PageFields(_known_fields())


def waiting() -> str:
    return HEAD + markup.note("busy", "Checking…")


def checklist(found: Preflight) -> str:
    """The whole checklist."""
    passed = [check for check in found.checks if check.state == OK]
    lines = "".join(_line(check) for check in (*found.problems, *found.warnings))
    listed = f'<ul class="checks">{lines}</ul>' if lines else ""
    return f"{HEAD}{markup.note(*summary(found))}{listed}{_folded(passed)}"


def summary(found: Preflight) -> tuple[str, str]:
    """The kind of note, and one line on whether the run can start."""
    if found.problems:
        count = len(found.problems)
        return "error", "Fix 1 problem first." if count == 1 else f"Fix {count} problems first."
    if found.warnings:
        return "warn", f"Ready to launch, with {plural(len(found.warnings), 'warning')}."
    return "ok", "Ready to launch."


def stale(before: str, doing: str) -> str:
    """The last checklist, dimmed while the checks run again."""
    return markup.stale(HEAD, before, doing)


def _folded(passed: Sequence[Check]) -> str:
    if not passed:
        return ""
    lines = "".join(_line(check) for check in passed)
    summary = f"{plural(len(passed), 'check')} passed"
    return f'<details class="passed"><summary>{summary}</summary><ul class="checks">{lines}</ul></details>'


def _line(check: Check) -> str:
    kind, mark = MARKS[check.state]
    message, remedy = check.message, check.remedy
    if check.setting != "teachers":  # whose servers have no fields of their own
        message, remedy = FIELDS.in_labels(message), FIELDS.in_labels(remedy)
    remedy = f"<small>{escape(remedy)}</small>" if remedy else ""
    field = FIELDS.get(check.setting) if check.state != OK else None
    ways = f'<div class="ways">{_fix(field, check)}{field.button()}</div>' if field else ""
    return (
        f'<li class="check check-{kind}"><span aria-hidden="true">{mark}</span><div>'
        f"{escape(message)}{remedy}{ways}</div></li>"
    )


def _fix(field: Field, check: Check) -> str:
    """A button that sets the field to the value that solves the problem, if one is known."""
    if check.fix is None:
        return ""
    return (
        f'<button type="button" class="fix" data-fix="{check.fix:g}" data-setting="{escape(check.setting or "")}" '
        f'aria-label="Set {escape(field.label)} to {check.fix:,g}">Set to {check.fix:,g}</button>'
    )
