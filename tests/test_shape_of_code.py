"""Functions and files stay short enough to read in one go, and the tests mirror the folders of the code."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINES_OF_A_FUNCTION, LINES_OF_A_FILE = 60, 400
FILES = [path for folder in ("simct", "app", "spaces", "tools") for path in sorted((ROOT / folder).rglob("*.py"))]


def long_functions(path: Path) -> list[str]:
    """Names of the functions that are too long, decorators not counted."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [node.name for node in functions if (node.end_lineno or 0) - node.lineno >= LINES_OF_A_FUNCTION]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_function_and_no_file_is_too_long(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES_OF_A_FILE
    assert not long_functions(path)


def test_folders_of_tests_are_those_of_the_code():
    for path in (ROOT / "tests").rglob("test_*.py"):
        folder = path.parent.relative_to(ROOT / "tests")
        own = folder.parts[:1] in (("support",), ("fuzz",))
        assert own or (ROOT / folder).is_dir() or (ROOT / "simct" / folder).is_dir(), path
        assert (path.parent / "__init__.py").exists(), path


def test_no_test_file_imports_from_another():
    for path in (ROOT / "tests").rglob("*.py"):
        imports = re.findall(r"^\s*(?:from|import) (tests[\w.]*)", path.read_text(encoding="utf-8"), flags=re.M)
        assert all(module.startswith("tests.support") for module in imports), path


def test_the_repository_has_no_links():
    """A checkout of a link replaces what is in its place, such as a whole environment."""
    if not (ROOT / ".git").exists():
        pytest.skip("This is not a git checkout.")
    listed = subprocess.run(["git", "ls-files", "--stage"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not [line for line in listed.stdout.splitlines() if line.startswith("120000")]
