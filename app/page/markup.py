"""HTML that the studio writes itself. Text from outside is escaped where it is inserted."""

import time
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import gradio as gr

from simct.errors import SimCTError
from simct.inspection.text_kinds import drawn as visible

NOTE_MARKS = {"ok": "✓", "warn": "!", "error": "✕", "busy": "…", "quiet": "·"}
EXPIRES_SECONDS = 8


def panel(value: Any = "", **options: Any) -> gr.HTML:
    """A place for HTML from this module, without Gradio's styling."""
    return gr.HTML(value, apply_default_css=False, **options)


def held(value: str = "") -> gr.Textbox:
    """A text that the page holds and never shows.

    Gradio shows a hidden component that is updated before its step is opened, so a CSS class hides it as well.
    """
    return gr.Textbox(value, visible="hidden", elem_classes="held")


def heading(title: str, lead: str = "", docs: str = "") -> str:
    """The head of a step, with a link to its page (and #section) of the documentation."""
    link = f'<button type="button" class="docs" data-testid="docs" data-docs="{escape(docs)}">Documentation</button>'
    line = f'<p class="lead">{escape(lead)}</p>' if lead else ""
    return f'<div class="title"><h2>{escape(title)}</h2>{link if docs else ""}</div>{line}'


def visible_bytes(data: bytes) -> str:
    """Bytes as text where they are UTF-8, and every other byte as ⟨F0⟩; not escaped."""
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


def passing(text: str) -> str:
    """One line that says that something was done; it disappears after a while (static/expiring.js)."""
    # the same text again counts as a new message
    place = f'<p data-expires="{EXPIRES_SECONDS}" data-at="{time.monotonic_ns()}"'
    return note("ok", text).replace("<p", place, 1)


def until_next(text: str) -> str:
    """One line about what an address asked for; it disappears when the visitor does something else (expiring.js)."""
    return note("warn", text).replace("<p", "<p data-until-next", 1)


def stale(head: str, before: str, doing: str) -> str:
    """The previous content under `head`, dimmed and inactive, below a line that says that it is being updated."""
    body = before.removeprefix(head)
    rest = f'<div class="stale" aria-hidden="true" inert>{body}</div>' if body else ""
    return f"{head}{note('busy', doing)}{rest}"


def stamped(html: str, edit: str) -> str:
    """`html`, marked with the version `edit` of the form. static/form.js dims older versions."""
    return f'{html}<i hidden data-edit="{escape(edit)}"></i>'


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
    """A table; columns in `numeric` are right-aligned, columns in `raw` are HTML from this module."""

    def cell(tag: str, column: int, text: str) -> str:
        kind = ' class="num"' if column in numeric else ""
        tag = tag if text else "td"  # headings must not be empty
        body = text if tag == "td" and column in raw else escape(str(text))
        return f"<{tag}{kind}>{body}</{tag}>"

    head = "".join(cell("th", column, text) for column, text in enumerate(headers))
    body = "".join("<tr>" + "".join(cell("td", c, text) for c, text in enumerate(row)) + "</tr>" for row in rows)
    return f'<div class="scroll"><table class="grid"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def facts(rows: Iterable[tuple[str, ...]], headers: Sequence[str]) -> str:
    """A small comparison: one row per fact, one column per model."""
    return table(("", *headers), rows).replace('class="grid"', 'class="grid facts"')


def chips(pieces: Iterable[str]) -> str:
    """Token pieces as chips in a row."""
    return '<span class="chips">' + "".join(f"<i>{escape(piece)}</i>" for piece in pieces) + "</span>"


def progress(done: int, total: int, label: str = "Steps done") -> str:
    share = min(1.0, done / total) if total else 0.0
    return (
        f'<div class="bar" role="progressbar" aria-valuemin="0" aria-valuemax="{total}" aria-valuenow="{done}" '
        f'aria-label="{escape(label)}"><i style="width:{100 * share:.1f}%"></i></div>'
    )


def pill(state: str) -> str:
    return f'<span class="pill pill-{escape(state)}">{escape(state)}</span>'


def empty(text: str) -> str:
    """The text of a panel that is still empty."""
    return f'<p class="empty">{escape(text)}</p>'


def one_line(error: Exception) -> str:
    """An error for people: our own messages unchanged, any other error with its class."""
    text = " ".join(str(error).split())
    return text if isinstance(error, SimCTError) else f"{type(error).__name__}: {text}"[:300]
