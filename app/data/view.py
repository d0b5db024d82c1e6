"""The HTML of the Data step: raw rows, prompts as each model reads them, their lengths, and warnings."""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from app.page import hub_notes, markup
from app.page.page_fields import PageFields
from app.reading.records import PromptReading, PromptsReading, ReadPrompt, ShownToken
from simct.config.sections import DataConfig
from simct.data.selection import row_ranges
from simct.errors import DataError
from simct.inspection.records import Reliability
from simct.report import charts, facts

if TYPE_CHECKING:
    from simct.data.prompt_report import Finding, PromptReport

BINS = 24
EXCLUDE = "Exclude these"
# columns that can be added to the prompt, one button each
MOST_ADDED = 4
SPECIAL = "A special token: it has no bytes"


def line(source: PromptsReading, report: "PromptReport", data: DataConfig) -> str:
    """Notes on how many prompts there are, where they are read from, and how many of them a run trains on."""
    summary = source.summary
    counted = "1 prompt" if report.prompts == 1 else f"{report.prompts:,} prompts"
    if source.total is None or source.total > summary.rows:
        of = f" of {source.total:,}" if source.total else ""
        counted = f"{counted} in the first {summary.rows:,}{of} rows"
    answers = f", {report.answers:,} with answers" if report.answers else ", no answers"
    columns = "Column" if len(summary.used) == 1 else "Columns"
    first = f"{counted}{answers}. {summary.format} ({summary.read_as}). {columns}: {summary.mapping}."
    return markup.note("ok", first) + markup.note("quiet", used(source, report, data))


def used(source: PromptsReading, report: "PromptReport", data: DataConfig) -> str:
    """How many of the prompts a run trains on, holds out and leaves out."""
    own = data.held_out_prompts or data.held_out_split
    held_out = f"those of {own} are held out" if own else f"it holds out {report.held_out:,}"
    out = dict(source.summary.left_out)
    out |= {"by their length": report.filtered} if report.filtered else {}
    left = f" Left out: {', '.join(f'{count:,} {name}' for name, count in out.items())}." if out else ""
    return f"The run trains on {len(report.trained_rows):,} of them; {held_out}.{left}"


def parts_table(source: PromptsReading) -> str:
    """The columns that each part of a prompt is read from, and the columns that could be used instead."""
    summary = source.summary
    rows = [
        (part.capitalize(), columns or "–", ", ".join(summary.alternatives.get(part, [])) or "–")
        for part, columns in summary.columns.items()
    ]
    return markup.table(("Part", "Read from", "Alternatives"), rows) if rows else ""


def preview(prompts: Sequence[ReadPrompt]) -> str:
    """The first prompts as they are read from their rows."""
    rows = [(f"{each.row:,}", each.text, each.answer or "–") for each in prompts]
    return "<h3>Prompts as they are read</h3>" + markup.table(("Row", "Prompt as read", "Answer as read"), rows)


def notices(
    source: PromptsReading, report: "PromptReport", page: PageFields, more: Sequence[tuple[str, str]] = ()
) -> str:
    """Problems first, then warnings, those about rows before those about templates; `more` come from elsewhere.

    Next to each is a button that leaves out the prompts in question. If that would not help, the button changes the
    setting that solves the problem or leads to the field to change; the remaining notices say what to do.
    """
    lines = [_finding("error", each, page) for each in report.findings if each.problem]
    lines += _about_source(source, page)
    lines += [_finding("warn", each, page) for each in report.findings if not each.problem]
    lines += _sampled(source, report)
    lines += [_elsewhere(kind, text, page) for kind, text in more]
    return "".join(lines) or markup.note("ok", "No warnings: both models can read every prompt.")


def _sampled(source: PromptsReading, report: "PromptReport") -> list[str]:
    """If rows can be excluded and not all were read: which rows the buttons are about."""
    summary = source.summary
    rows = any("exclude_rows" in each.change for each in report.findings)
    rows = rows or any(skipped.rows for skipped in summary.skipped.values())
    if not rows or (source.total is not None and source.total <= summary.rows):
        return []
    of = f" of {source.total:,}" if source.total else ""
    text = (
        f"Only the first {summary.rows:,}{of} rows are read here, and “Exclude these” leaves out rows among them. "
        "`simct check` reads every row."
    )
    return [markup.note("quiet", text)]


def _about_source(source: PromptsReading, page: PageFields) -> list[str]:
    """Notices about the rows, columns and files that the prompts are read from."""
    summary = source.summary
    rows = [row for skipped in summary.skipped.values() for row in skipped.rows]
    skipped = _with_buttons("warn", summary.skipped_line, [_button({"exclude_rows": row_ranges(rows)})])
    added = [
        _button({"template": template}, f"Add {name} to the prompt")
        for name, template in islice(summary.templates.items(), MOST_ADDED)
    ]
    unread = _with_buttons("warn", page.in_labels(summary.unread_line), added)
    return [skipped, unread, *(markup.note("warn", text) for text in summary.file_notices())]


def _finding(kind: str, finding: "Finding", page: PageFields) -> str:
    field = page.get(finding.setting)
    label = "Remove the system text" if "system" in finding.change else EXCLUDE
    buttons = [_button(finding.change, label)] if finding.change else [field.button()] if field else []
    return _with_buttons(kind, page.in_labels(finding.text), buttons)


def _elsewhere(kind: str, text: str, page: PageFields) -> str:
    """A note whose web addresses are links, with buttons that lead to the fields of the settings that it names."""
    ways = [field.button() for field in page.named_in(text)]
    return hub_notes.linked_note(kind, page.in_labels(text)) + _ways(ways)


def _with_buttons(kind: str, text: str, buttons: Sequence[str]) -> str:
    return markup.note(kind, text) + _ways(buttons) if text else ""


def _ways(buttons: Sequence[str]) -> str:
    return f'<div class="ways">{"".join(buttons)}</div>' if buttons else ""


def _button(change: Mapping[str, Any], label: str = EXCLUDE) -> str:
    """A button that makes the change that solves the warning before it (static/findings.js)."""
    held = markup.escape(json.dumps(change))
    tested = "exclude" if label == EXCLUDE else "change"
    text = markup.escape(label)
    return f'<button type="button" class="fix" data-testid="{tested}" data-change="{held}">{text}</button>'


def left_out(verdict: dict[str, Any] | None, teacher: str, student: str) -> list[tuple[str, str]]:
    """The student's answers that Inspect left out when it measured the pair, by reason; empty if it did not measure
    it.
    """
    from simct.data.exclusions import exclusion_line

    verdict = verdict or {}
    if (verdict.get("teacher"), verdict.get("student")) != (teacher, student):
        return []
    try:
        measured = Reliability.from_dict(verdict.get("report"))
    except DataError:
        return []
    line = exclusion_line(measured.excluded, measured.answers_written)
    if line:
        return [("warn", f"As measured in Inspect: {line}")]
    if not measured.excluded:
        return []
    counted = f"{measured.answers_written:,} answers"
    return [("quiet", f"As measured in Inspect, left out of {counted}: {facts.left_out(measured.excluded)}.")]


def rows_table(source: PromptsReading) -> str:
    """The first rows, with the columns in use first and long cells cut."""
    return raw_table(source.rows, source.columns, source.summary.used)


def raw_table(rows: Sequence[Mapping[str, str | None]], columns: Sequence[str], used: Sequence[str] = ()) -> str:
    """Raw rows, with the `used` columns first."""
    if not rows:
        return markup.empty("No rows can be read.")
    ordered = list(dict.fromkeys([*used, *columns]))
    cells = [["–" if (cell := row.get(name)) is None else cell for name in ordered] for row in rows]
    return "<h3>First rows</h3>" + markup.table(ordered, cells)


def both_readings(readings: Iterable[PromptReading]) -> str:
    """One prompt in both models' own templates and tokens, side by side."""
    return f'<div class="sides">{"".join(map(_reading, readings))}</div>'


def _reading(reading: PromptReading) -> str:
    head = f"<h3>{reading.side.capitalize()} reads"
    if reading.error:
        return f"<section>{head}</h3>{markup.note('error', reading.error)}</section>"
    more = reading.count - len(reading.tokens)
    rest = f'<span class="rest"> … and {more:,} more</span>' if more else ""
    shown = "".join(map(_token, reading.tokens))
    return f'<section>{head} <small>{reading.count:,} tokens</small></h3><p class="read">{shown}{rest}</p></section>'


def _token(token: ShownToken) -> str:
    if token.data is None:
        name = markup.escape(token.name)
        return f'<i class="special" title="{SPECIAL} · id {token.id}">{name}</i>'
    text = markup.escape(markup.visible_bytes(token.data))
    broken = "<br>" if token.data.endswith(b"\n") else ""
    return f'<i title="id {token.id}">{text}</i>{broken}'


def length_charts(report: "PromptReport") -> str:
    """Prompt lengths in each model's tokens, over the same bins."""
    known = {side: [n for n in lengths if n is not None] for side, lengths in report.lengths.items()}
    most = max((max(lengths) for lengths in known.values() if lengths), default=0)
    if not most:
        return ""
    wide = max(1, -(-most // BINS))
    edges = [float(wide * index) for index in range(most // wide + 2)]
    drawn = []
    for side, lengths in known.items():
        counts = [0] * (len(edges) - 1)
        for length in lengths:
            counts[length // wide] += 1
        middle = sorted(lengths)[len(lengths) // 2] if lengths else 0
        note = f"median {middle:,}, longest {max(lengths, default=0):,}, room for {report.room:,}"
        title = f"Prompt length, {side}'s tokens"
        chart = charts.histogram(f"prompts-{side}", title, edges, {"value": counts}, "prompts", note=note)
        drawn.append(chart.figure())
    return f'<div class="charts">{"".join(drawn)}</div>'
