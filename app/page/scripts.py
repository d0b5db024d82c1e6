"""The page's own JavaScript: the files of static/, loaded with the page, and how events call them."""

import json
from pathlib import Path

from simct.report import charts

STATIC = Path(__file__).parent / "static"


def head() -> str:
    """All scripts, and the one that saves the report's charts, as elements of the page's head."""
    files = [*sorted(STATIC.glob("*.js")), charts.SCRIPT]
    return "\n".join(f"<script>{path.read_text(encoding='utf-8')}</script>" for path in files)


def styles() -> list[Path]:
    """The page's own style sheets."""
    return sorted(STATIC.glob("*.css"))


def call(name: str, *arguments: str) -> str:
    """A function of static/*.js for the `js` of an event. It gets `arguments` and then the event's inputs."""
    first = "".join(f"{json.dumps(argument)}, " for argument in arguments)
    return f"(...values) => studio.{name}({first}...values)"


def when_loaded(name: str) -> str:
    """A function of static/*.js for `js_on_load` of a gr.HTML."""
    return f"studio.{name}(element, trigger, watch, props);"
