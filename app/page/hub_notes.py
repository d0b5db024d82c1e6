"""Results from the Hub as HTML: a search result in two lines, and notes with links."""

import re
from collections.abc import Sequence
from html import escape

from app.page import markup
from simct.hub.search import ModelHit

# the label that a list shows, and its value
Choice = tuple[str, str]
# between the facts about a search result
SEPARATOR = " · "
ADDRESS = re.compile(r"https?://[^\s<>\"'&]*[^\s<>\"'&.,;:)]")


def linked_note(kind: str, text: str) -> str:
    """A note in which every web address is a link that opens in a new tab."""
    return note_with(kind, ADDRESS.sub(lambda found: link(found[0], found[0]), escape(text)))


def note_with(kind: str, html: str) -> str:
    """A note that contains our own HTML as one flow of text."""
    return markup.note(kind, "@").replace("@", f"<bdi>{html}</bdi>") if html else ""


def link(url: object, name: str) -> str:
    """A link that opens in a new tab, or only its name if a browser would not open the address as a page."""
    url = str(url or "")
    if not url.startswith(("https://", "http://")):
        return escape(name)
    return f'<a href="{escape(url)}" target="_blank" rel="noopener noreferrer">{escape(name)}</a>'


def count(number: float) -> str:
    """A count in the most readable unit: 950, 12k, 1.2M, 7B."""
    for unit in ("", "k", "M", "B"):
        if number < 999.5 or unit == "B":
            return f"{number:.0f}{unit}" if unit == "" or number >= 99.5 else f"{number:.2g}{unit}"
        number /= 1000
    return ""


def offered(found: Sequence[Choice], before: Sequence[Choice]) -> list[Choice]:
    """The options of a list while the visitor types: what was found, then what the list offered before.

    Gradio's list and its field fail if the list becomes shorter while it is open. Gradio shows only options that
    contain the typed text.
    """
    values = {value for _, value in found}
    return [*found, *(each for each in before if each[1] not in values)]


def label(hit: ModelHit, query: str = "") -> str:
    """A search result: its id, and below it facts that help to choose. Unknown facts are left out.

    A list shows only labels that contain the typed text, so the query is added at the end if the Hub matched its words
    separately.
    """
    parts = [
        f"{count(hit.parameters)} parameters" if hit.parameters else "",
        hit.license or "no license stated",
        f"{count(hit.downloads)} downloads",
        hit.family or "",
        f"quantized ({hit.quantized})" if hit.quantized else "",
        "private" if hit.private else "",
        "gated: ask for access" if hit.gated else "",
        f"found by “{query}”" if query.lower() not in hit.id.lower() else "",
    ]
    return f"{hit.id}\n{SEPARATOR.join(part for part in parts if part)}"


def is_label(text: str) -> bool:
    """Whether `text` is the label of a model in a list; the field contains it for a moment after a choice."""
    return SEPARATOR in text
