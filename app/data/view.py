"""What the Data step shows: rows as they are, prompts as each model reads them, their lengths, what may go wrong."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from app.data.prompt_source import Source
from app.page import markup
from simct.config import RunConfig
from simct.config.sections import ModelConfig
from simct.errors import DataError
from simct.inspection.records import Reliability
from simct.report import charts, facts

if TYPE_CHECKING:
    from simct.data.prompt_report import PromptReport
    from simct.data.prompts import Prompt
    from simct.tokenization.pair import TokenizerPair
    from simct.tokenization.token_bytes import TokenBytes

MOST_TOKENS = 700
BINS = 24
MOST_CELL = 240
SPECIAL = "A special token: it has no bytes"


def line(source: Source, report: "PromptReport") -> str:
    """How many prompts there are and what they are read from, as one note."""
    summary = source.summary
    counted = "1 prompt" if report.prompts == 1 else f"{report.prompts:,} prompts"
    if source.total is None or source.total > summary.rows:
        of = f" of {source.total:,}" if source.total else ""
        counted = f"{counted} in the first {summary.rows:,}{of} rows"
    answers = f", {report.answers:,} with answers" if report.answers else ", no answers"
    columns = "Column" if len(summary.used) == 1 else "Columns"
    return markup.note("ok", f"{counted}{answers}. {summary.format} ({summary.read_as}). {columns}: {summary.mapping}.")


def notices(source: Source, report: "PromptReport", more: Sequence[tuple[str, str]] = ()) -> str:
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


def rows_table(source: Source) -> str:
    """The first rows, the columns in use first; long cells cut."""
    return raw_table(source.rows, source.columns, source.summary.used)


def raw_table(rows: Sequence[dict[str, Any]], columns: Sequence[str], used: Sequence[str] = ()) -> str:
    """Rows as they are, the `used` columns first."""
    if not rows:
        return markup.empty("No row can be read.")
    ordered = list(dict.fromkeys([*used, *columns]))
    cells = [[_cell(row.get(name)) for name in ordered] for row in rows]
    return "<h3>First rows</h3>" + markup.table(ordered, cells)


def _cell(value: Any) -> str:
    text = "–" if value is None else value if isinstance(value, str) else repr(value)
    return text if len(text) <= MOST_CELL else text[: MOST_CELL - 1] + "…"


def both_readings(pair: "TokenizerPair", prompt: "Prompt", run: RunConfig) -> str:
    """One prompt in both models' own templates as a run renders it, cut into their own tokens, side by side."""
    settings = {"student": run.student, "teacher": run.teacher}
    sides = "".join(_reading(side, getattr(pair, side), prompt, each) for side, each in settings.items())
    return f'<div class="sides">{sides}</div>'


def _reading(side: str, tokens: "TokenBytes", prompt: "Prompt", model: ModelConfig) -> str:
    from simct.data.conversations import with_system
    from simct.data.templates import prompt_ids

    head = f"<h3>{side.capitalize()} reads"
    try:
        messages = with_system(prompt.messages, model.system)
        ids = prompt_ids(tokens.tokenizer, messages, model.enable_thinking, prompt.tools)
    except DataError as error:
        return f"<section>{head}</h3>{markup.note('error', str(error))}</section>"
    shown = "".join(_token(tokens, token_id) for token_id in ids[:MOST_TOKENS])
    rest = f'<span class="rest"> … and {len(ids) - MOST_TOKENS:,} more</span>' if len(ids) > MOST_TOKENS else ""
    return f'<section>{head} <small>{len(ids):,} tokens</small></h3><p class="read">{shown}{rest}</p></section>'


def _token(tokens: "TokenBytes", token_id: int) -> str:
    data = tokens.bytes_of[token_id] if token_id < len(tokens.bytes_of) else None
    if data is None:
        name = markup.escape(str(tokens.tokenizer.convert_ids_to_tokens(token_id)))
        return f'<i class="special" title="{SPECIAL} · id {token_id}">{name}</i>'
    text = markup.escape(markup.visible_bytes(data))
    broken = "<br>" if data.endswith(b"\n") else ""
    return f'<i title="id {token_id}">{text}</i>{broken}'


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
