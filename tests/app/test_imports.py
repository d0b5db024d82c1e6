"""Late imports of the studio: all in one thread before any handler runs, and the page is served in the meantime."""

import ast
import asyncio
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
