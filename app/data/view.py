"""What the Data step shows: rows as they are, prompts as each model reads them, their lengths, what may go wrong."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.page import markup
from app.reading.records import PromptReading, PromptsReading, ShownToken
from simct.errors import DataError
from simct.inspection.records import Reliability
from simct.report import charts, facts

if TYPE_CHECKING:
    from simct.data.prompt_report import PromptReport

BINS = 24
SPECIAL = "A special token: it has no bytes"


def line(source: PromptsReading, report: "PromptReport") -> str:
    """How many prompts there are and what they are read from, as one note."""
    summary = source.summary
    counted = "1 prompt" if report.prompts == 1 else f"{report.prompts:,} prompts"
    if source.total is None or source.total > summary.rows:
        of = f" of {source.total:,}" if source.total else ""
        counted = f"{counted} in the first {summary.rows:,}{of} rows"
    answers = f", {report.answers:,} with answers" if report.answers else ", no answers"
    columns = "Column" if len(summary.used) == 1 else "Columns"
    return markup.note("ok", f"{counted}{answers}. {summary.format} ({summary.read_as}). {columns}: {summary.mapping}.")


def notices(source: PromptsReading, report: "PromptReport", more: Sequence[tuple[str, str]] = ()) -> str:
    """Problems first, then warnings, those about rows before those about templates; `more` come from elsewhere."""
    lines = [("error", text) for text in report.problems] + [("warn", text) for text in source.summary.notices()]
    lines += [("warn", text) for text in report.warnings] + list(more)
    return "".join(markup.note(kind, text) for kind, text in lines) or markup.note(
        "ok", "Nothing to warn about: every prompt reaches both models."
    )


def left_out(verdict: dict[str, Any] | None, teacher: str, student: str) -> list[tuple[str, str]]:
    """What was left out of the student's answers where Inspect measured the pair, by reason; nothing otherwise."""
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
    """The first rows, the columns in use first; long cells cut."""
    return raw_table(source.rows, source.columns, source.summary.used)


def raw_table(rows: Sequence[Mapping[str, str | None]], columns: Sequence[str], used: Sequence[str] = ()) -> str:
    """Rows as they are, the `used` columns first."""
    if not rows:
        return markup.empty("No row can be read.")
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
