"""What the Data step shows: raw rows, prompts as each model reads them, their lengths, and what may go wrong."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.page import markup
from app.reading.records import PromptReading, PromptsReading, ReadPrompt, ShownToken
from simct.config.sections import DataConfig
from simct.data.selection import row_ranges
from simct.errors import DataError
from simct.inspection.records import Reliability
from simct.report import charts, facts

if TYPE_CHECKING:
    from simct.data.prompt_report import Finding, PromptReport

BINS = 24
SPECIAL = "A special token: it has no bytes"


def line(source: PromptsReading, report: "PromptReport", data: DataConfig) -> str:
    """How many prompts there are, where they are read from, and how many of them a run trains on, as notes."""
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
    """How many of the prompts a run trains on and holds out, and what the settings leave out."""
    own = data.held_out_prompts or data.held_out_split
    held_out = f"those of {own} are held out" if own else f"it holds out {report.held_out:,}"
    out = dict(source.summary.left_out)
    out |= {"by their length": report.filtered} if report.filtered else {}
    left = f" Left out: {', '.join(f'{count:,} {name}' for name, count in out.items())}." if out else ""
    return f"The run trains on {len(report.trained_rows):,} of them; {held_out}.{left}"


def parts_table(source: PromptsReading) -> str:
    """The columns from which each part of a prompt is read, and the columns that could be used instead."""
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


def notices(source: PromptsReading, report: "PromptReport", more: Sequence[tuple[str, str]] = ()) -> str:
    """Problems first, then warnings, those about rows before those about templates; `more` come from elsewhere."""
    lines = [_finding("error", each) for each in report.findings if each.problem]
    lines += _skipped(source)
    lines += [_finding("warn", each) for each in report.findings if not each.problem]
    lines += _sampled(source, report)
    lines += [markup.note(kind, text) for kind, text in more]
    return "".join(lines) or markup.note("ok", "No warnings: every prompt reaches both models.")


def _sampled(source: PromptsReading, report: "PromptReport") -> list[str]:
    """Where rows can be excluded and not all were read: which rows the buttons are about."""
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


def _skipped(source: PromptsReading) -> list[str]:
    """The notices about rows, with a button to exclude the unusable ones."""
    rows = [row for skipped in source.summary.skipped.values() for row in skipped.rows]
    change = {"exclude_rows": row_ranges(rows)} if rows else {}
    return [
        markup.note("warn", text) + (_button(change) if change and number == 0 else "")
        for number, text in enumerate(source.summary.notices())
    ]


def _finding(kind: str, finding: "Finding") -> str:
    return markup.note(kind, finding.text) + (_button(finding.change) if finding.change else "")


def _button(change: Mapping[str, Any]) -> str:
    """A button that excludes the prompts of the warning before it (static/findings.js)."""
    held = markup.escape(json.dumps(change))
    return f'<button type="button" class="fix" data-testid="exclude" data-change="{held}">Exclude these</button>'


def left_out(verdict: dict[str, Any] | None, teacher: str, student: str) -> list[tuple[str, str]]:
    """What Inspect left out of the student's answers when it measured the pair, by reason; empty if it did not."""
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
    """One prompt in both models' own templates, cut into their own tokens, side by side."""
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
