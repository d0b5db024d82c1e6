"""Gradio's own files in the browser. A page names the modules that draw it, and no file is fetched twice."""

import re
from pathlib import Path

import gradio

FRONTEND = Path(gradio.__file__).parent / "templates" / "frontend"
FOLDER = "/assets/"
PAGES = ("/", "/run")
ENTRY = re.compile(r'src="\./assets/(index-[\w-]+\.js)"')
IMPORT = re.compile(r'\b(?:from|import)"\./([\w-]+\.js)"')
# what a file imports once it runs: the frame of the page, and what fills it
LATER = re.compile(r"import\(`\./((?:Index|Blocks)-[\w-]+\.js)`\)")
# their names change with their content
KEPT = (b"cache-control", b"public, max-age=31536000, immutable")

Header = tuple[bytes, bytes]


def headers(path: str) -> list[Header]:
    """Headers of the answer for a path of the studio."""
    if path.startswith(FOLDER):
        return [KEPT]
    return [(b"link", LINK.encode())] if path in PAGES and LINK else []


def _link() -> str:
    """The modules of every page, which the browser would otherwise find one after the other, each in the one before.

    Empty where Gradio's files are not laid out like this.
    """
    try:
        return ", ".join(f"<./assets/{name}>; rel=modulepreload" for name in modules())
    except (OSError, AttributeError):
        return ""


def modules() -> list[str]:
    """The files that every page runs before its first component is drawn."""
    entry = _found(ENTRY, (FRONTEND / "index.html").read_text(encoding="utf-8"))
    frame = _found(LATER, _text(entry))
    found = [entry, frame, _found(LATER, _text(frame))]
    for name in found:
        found += [each for each in IMPORT.findall(_text(name)) if each not in found]
    return found


def _text(name: str) -> str:
    return (FRONTEND / "assets" / name).read_text(encoding="utf-8")


def _found(pattern: re.Pattern[str], text: str) -> str:
    """The first match. Raises AttributeError where there is none."""
    return pattern.search(text)[1]  # type: ignore[index]


LINK = _link()
