"""HTML the studio writes itself. Text from outside is escaped where it is put in."""

import math
import unicodedata
from collections.abc import Iterable, Sequence
from html import escape

import gradio as gr

NOTE_MARKS = {"ok": "✓", "warn": "!", "error": "✕", "busy": "…", "quiet": "·"}
# Characters that would be invisible, drawn by a sign that stands for them.
DRAWN = {" ": "·", "\n": "⏎", "\r": "␍", "\t": "⇥", "\u00a0": "⍽"}


def panel(value: str = "", **options) -> gr.HTML:
    """A place for HTML of this module, with none of Gradio's own styling."""
    return gr.HTML(value, apply_default_css=False, **options)


def visible(text: str) -> str:
    """`text` with white space and control characters drawn; unescaped."""
    drawn = []
    for char in text:
        if char in DRAWN:
            drawn.append(DRAWN[char])
        elif unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"):
            drawn.append(f"⟨{ord(char):X}⟩")
        else:
            drawn.append(char)
    return "".join(drawn)


def visible_bytes(data: bytes) -> str:
    """Bytes as text where they are UTF-8, and each remaining byte as ⟨F0⟩; unescaped."""
    return "".join(
        f"⟨{ord(char) - 0xDC00:02X}⟩" if 0xDC80 <= ord(char) <= 0xDCFF else visible(char)
        for char in data.decode("utf-8", errors="surrogateescape")
    )


def note(kind: str, text: str) -> str:
    """One line of status: kind is ok, warn, error, busy or quiet. Empty text gives nothing."""
    if not text:
        return ""
    mark = NOTE_MARKS[kind]
    return f'<p class="note note-{kind}" role="status"><span aria-hidden="true">{mark}</span>{escape(text)}</p>'


def tiles(items: Iterable[tuple[str, str, str]]) -> str:
    """Headline numbers: (value, label, explanation)."""
    cells = "".join(
        f'<div class="tile" title="{escape(why)}"><b>{escape(value)}</b><span>{escape(label)}</span></div>'
        for value, label, why in items
    )
    return f'<div class="tiles">{cells}</div>'


def table(
    headers: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[int] = (), raw: Sequence[int] = ()
) -> str:
    """A table; columns in `numeric` are set flush right, columns in `raw` are HTML made by this module."""

    def cell(tag: str, column: int, text: str) -> str:
        kind = ' class="num"' if column in numeric else ""
        body = text if tag == "td" and column in raw else escape(str(text))
        return f"<{tag}{kind}>{body}</{tag}>"

    head = "".join(cell("th", column, text) for column, text in enumerate(headers))
    body = "".join("<tr>" + "".join(cell("td", c, text) for c, text in enumerate(row)) + "</tr>" for row in rows)
    return f'<div class="scroll"><table class="grid"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def facts(rows: Iterable[tuple[str, str, str]], headers: Sequence[str]) -> str:
    """A small comparison: one row a fact, one column a model."""
    return table(("", *headers), rows).replace('class="grid"', 'class="grid facts"')


def chips(pieces: Iterable[str]) -> str:
    """Token pieces as chips in a row."""
    return '<span class="chips">' + "".join(f"<i>{escape(piece)}</i>" for piece in pieces) + "</span>"


def progress(done: int, total: int) -> str:
    share = min(1.0, done / total) if total else 0.0
    return (
        f'<div class="bar" role="progressbar" aria-valuemin="0" aria-valuemax="{total}" aria-valuenow="{done}" '
        f'aria-label="Steps done"><i style="width:{100 * share:.1f}%"></i></div>'
    )


def pill(state: str) -> str:
    return f'<span class="pill pill-{escape(state)}">{escape(state)}</span>'


def empty(text: str) -> str:
    """What a panel says while it has nothing to show."""
    return f'<p class="empty">{escape(text)}</p>'


def heat_map(shapes: dict[str, int], limit: int = 6) -> str:
    """Unit shapes "k_S x k_T" -> count as a grid; sizes past `limit` share its last row and column."""
    counts = [[0] * limit for _ in range(limit)]
    for shape, count in shapes.items():
        student, teacher = (int(part) for part in shape.split("x"))
        counts[min(student, limit) - 1][min(teacher, limit) - 1] += count
    rows = max((s for s in range(limit) if any(counts[s])), default=0) + 1
    columns = max((t for t in range(limit) if any(row[t] for row in counts)), default=0) + 1
    total = sum(map(sum, counts)) or 1
    top = math.log1p(max(max(row) for row in counts)) or 1.0

    def name(size: int) -> str:
        return f"{size}+" if size == limit else str(size)

    def cell(student: int, teacher: int) -> str:
        count = counts[student][teacher]
        heat = math.log1p(count) / top
        title = (
            f"{name(student + 1)} student × {name(teacher + 1)} teacher tokens: {count:,} units ({count / total:.1%})"
        )
        shade = ' class="deep"' if heat > 0.55 else ""
        return f'<td{shade} style="--heat:{heat:.2f}" title="{title}">{f"{count:,}" if count else ""}</td>'

    head = "".join(f"<th scope=col>{name(teacher + 1)}</th>" for teacher in range(columns))
    body = "".join(
        f"<tr><th scope=row>{name(student + 1)}</th>" + "".join(cell(student, t) for t in range(columns)) + "</tr>"
        for student in range(rows)
    )
    return (
        '<table class="heat"><caption>student tokens (down) × teacher tokens (across) in a unit</caption>'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table>"
    )
