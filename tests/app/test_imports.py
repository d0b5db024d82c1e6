"""Late imports of the studio: all in one thread before any handler runs, and the page is served in the meantime."""

import ast
import asyncio
import copy
import subprocess
import sys
from pathlib import Path

import gradio as gr
import pytest

from app.server import imports
from app.server.studio import Studio

APP = Path(imports.__file__).parents[1]


def imported_late(path: Path) -> set[str]:
    """Modules of simct that functions of a file import."""
    functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
    nodes = [node for function in functions for node in ast.walk(function)]
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    folder = APP.parent
    files = {name for name in found if (folder / (name.replace(".", "/") + ".py")).is_file()}
    packages = {name for name in found if (folder / name.replace(".", "/") / "__init__.py").is_file()}
    return {name.removeprefix("simct.") for name in files | packages if name.startswith("simct.")}


def test_what_a_page_imports_late_is_imported_before_it_is_asked():
    at_once = {"config", "hub", "jobs", "jobs.hf"}  # with the page itself
    late = set().union(*(imported_late(path) for path in APP.rglob("*.py")))
    assert {"inspection.reliability", "tokenization.pair", "estimate.machines"} <= late
    assert late - set(imports.LATE) - at_once - {"hub.errors"} == set()


def test_the_page_is_there_before_anything_slow_is_imported():
    slow = {"torch", "transformers", "tokenizers", "datasets", "accelerate", "plotly"}
    script = f"import app.studio, sys; print(*{slow} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=APP.parent)
    assert done.stdout.split() == []


def test_handlers_wait_for_the_imports(tmp_path):
    studio = Studio(tmp_path, public=False)
    studio.imported.clear()
    with imports.Page(studio) as page:
        button, text = gr.Button(), gr.Textbox()
        button.click(lambda: "done", outputs=text)

    async def visit():
        asked = asyncio.create_task(page.process_api(0, []))
        await asyncio.sleep(0.2)
        assert not asked.done()
        studio.imported.set()
        assert (await asyncio.wait_for(asked, 5))["data"] == ["done"]

    asyncio.run(visit())


def test_an_import_that_fails_is_left_to_the_page_that_needs_it(monkeypatch, tmp_path):
    studio = Studio(tmp_path, public=False)
    studio.imported.clear()
    monkeypatch.setattr(imports, "LATE", ["no_such_module"])
    with pytest.raises(ModuleNotFoundError):
        imports.import_all(studio)
    assert studio.imported.is_set()


def test_an_update_is_not_changed_by_the_next_one_before_the_page_has_it(tmp_path):
    """The browser keeps what was yielded first, and applies differences to it in place."""
    with imports.Page(Studio(tmp_path, public=False)) as page:
        text, line, number = gr.Textbox(), gr.Textbox(), gr.Number()
        gr.on([], lambda: None, outputs=[text, line, number])
    yielded = [
        [{"__type__": "update", "value": "chosen"}, "one", 1],
        [{"__type__": "update"}, "one, two", 1],
        [{"__type__": "update", "label": "Text"}, "three", {"__type__": "update"}],
    ]
    sent = [page.handle_streaming_diffs(page.fns[0], copy.deepcopy(each), "session", "run", False) for each in yielded]
    received = sent[0]
    for each, expected in zip(sent[1:], yielded[1:], strict=True):
        before = copy.deepcopy(received)
        edits = [edit for changes in each for edit in changes]
        assert edits and {action for action, _, _ in edits} <= {"replace", "append"}
        assert {tuple(path) for _, path, _ in edits} == {()}
        after = [_edited(old, changes) for old, changes in zip(received, each, strict=True)]
        assert received == before and after == expected
        received = after
    assert page.handle_streaming_diffs(page.fns[0], [None] * 3, "session", "run", True) == yielded[-1]


def _edited(value, changes):
    for action, _, new in changes:
        value = value + new if action == "append" else new
    return value
