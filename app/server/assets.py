"""Faster loading of Gradio's own files: a page names the modules that it needs in advance, and no file is loaded twice.

Scripts and style sheets are kept compressed in memory, a few megabytes in all. A page requests about a hundred of them
at once, and Gradio would read and compress each of them again.
"""

import asyncio
import gzip
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import gradio

FRONTEND = Path(gradio.__file__).parent / "templates" / "frontend"
FOLDER = "/assets/"
PAGES = ("/", "/run")
ENTRY = re.compile(r'src="\./assets/(index-[\w-]+\.js)"')
IMPORT = re.compile(r'\b(?:from|import)"\./([\w-]+\.js)"')
# what a file imports when it runs: the frame of the page, and its contents
LATER = re.compile(r"import\(`\./((?:Index|Blocks)-[\w-]+\.js)`\)")
# the files of a component type, as indices into the list of all files
DEPENDENCIES = re.compile(r"m\.f=\[(.*?)\]")
COMPONENT = r"\b{}:\{{(?=(?:base|example|component):\(\)).*?\bcomponent:\(\).*?__vite__mapDeps\(\[([\d,]+)\]\)"
# the component types that a new page draws
FIRST = (
    "accordion", "button", "column", "dropdown", "form", "html", "json", "row", "state", "tabitem", "tabs", "textbox",
    "timer",
)  # fmt: skip
NAME = re.compile(r"/assets/([\w-]+\.(?:js|css))")
TYPES = {".js": b"text/javascript; charset=utf-8", ".css": b"text/css; charset=utf-8"}
# their names change with their content
KEPT = (b"cache-control", b"public, max-age=31536000, immutable")

Header = tuple[bytes, bytes]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Assets:
    """The application `app`, with scripts and style sheets served from memory once they have been read."""

    def __init__(self, app: App) -> None:
        self.app = app
        # compressed content by name
        self.packed: dict[str, bytes] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await self._body(scope) if scope["type"] == "http" and scope["method"] == "GET" else None
        if body is None:
            return await self.app(scope, receive, send)
        headers = [
            (b"content-type", TYPES[Path(own_path(scope)).suffix]),
            (b"content-length", str(len(body)).encode()),
            (b"content-encoding", b"gzip"),
            (b"vary", b"Accept-Encoding"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _body(self, scope: Scope) -> bytes | None:
        """The requested file, compressed; None if it is not one of these, or is requested in another form."""
        named = NAME.fullmatch(own_path(scope))
        if not named or not any(name == b"accept-encoding" and b"gzip" in value for name, value in scope["headers"]):
            return None
        name = named[1]
        if name not in self.packed:
            file = FRONTEND / "assets" / name
            if not file.is_file():
                return None
            self.packed[name] = await asyncio.to_thread(lambda: gzip.compress(file.read_bytes(), 6, mtime=0))
        return self.packed[name]


def own_path(scope: Scope) -> str:
    """The path of a request, relative to the studio's address."""
    path, root = str(scope["path"]), str(scope.get("root_path") or "")
    return (path.removeprefix(root) or "/") if root else path


def headers(path: str) -> list[Header]:
    """The response headers for a path of the studio."""
    if path.startswith(FOLDER):
        return [KEPT]
    return [(b"link", LINK.encode())] if path in PAGES and LINK else []


def _link() -> str:
    """The files of every page. Without this header the browser would find them one after another, each in the previous
    one.

    The files of the first step's components come after the page's own, and together, so that no part is drawn long
    before another. Empty if Gradio's files are not laid out as expected.
    """
    try:
        frame = modules()
        drawn = [each for each in first_components(frame) if each not in frame]
    except (OSError, LookupError, ValueError):
        return ""
    soon = [f"<./assets/{name}>; rel=modulepreload" for name in frame]
    return ", ".join([*soon, *(f"<./assets/{name}>; {_kind(name)}; fetchpriority=low" for name in drawn)])


def _kind(name: str) -> str:
    return "rel=modulepreload" if name.endswith(".js") else "rel=preload; as=style; crossorigin"


def modules() -> list[str]:
    """The files that every page runs before its first component is drawn."""
    entry = _found(ENTRY, (FRONTEND / "index.html").read_text(encoding="utf-8"))
    frame = _found(LATER, text(entry))
    found = [entry, frame, _found(LATER, text(frame))]
    for name in found:
        found += [each for each in IMPORT.findall(text(name)) if each not in found]
    return found


def tree(names: list[str]) -> str:
    """The module with the class of the component tree, and the types of the components.

    Raises LookupError if there is none.
    """
    found = [name for name in names if "as AppTree" in text(name)]
    return found[0]


def first_components(names: list[str]) -> list[str]:
    """The scripts and style sheets of the components on the first step."""
    core = text(tree(names))
    files = [each.removeprefix("./") for each in json.loads(f"[{_found(DEPENDENCIES, core)}]")]
    places = [_found(re.compile(COMPONENT.format(kind)), core).split(",") for kind in FIRST]
    return list(dict.fromkeys(files[int(place)] for each in places for place in each))


def text(name: str) -> str:
    """The content of a script or a style sheet."""
    return (FRONTEND / "assets" / name).read_text(encoding="utf-8")


def _found(pattern: re.Pattern[str], within: str) -> str:
    """The first match. Raises LookupError if there is none."""
    found = pattern.search(within)
    if not found:
        raise LookupError(f"Gradio's files do not have {pattern.pattern}.")
    return found[1]


LINK = _link()
