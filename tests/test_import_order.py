"""A folder imports only from folders above it in its list, so that the code can be read from the top."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# what each part of simct/ is about stands in CONTRIBUTING.md
SIMCT = (
    "errors",
    "files",
    "workers",
    "time_limit",
    "setting",
    "records",
    "methods",
    "config",
    "demo",
    "presets",
    "hub",
    "runs",
    "tokenization",
    "losses",
    "models",
    "data",
    "evaluation",
    "inspection",
    "estimate",
    "report",
    "training",
    "jobs",
    "publishing",
    "preflight",
    "train",
    "cli",
)
APP = (
    "reading", "page", "server", "projects", "pair", "data", "inspect", "train", "runs", "compare", "publish", "help",
    "start", "address", "api", "studio",
)  # fmt: skip
ORDERS = {"simct": SIMCT, "app": APP}
# what only starts or names the rest
ENTRIES = ("__init__", "__main__")


def part_of(path: Path, package: str) -> str:
    """The folder directly in the package that a file is in, or the file's own name there."""
    return path.relative_to(ROOT / package).with_suffix("").parts[0]


def imported(path: Path, package: str) -> list[tuple[int, str]]:
    """(line, part) of every import from the package, anywhere in the file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute here"
            head, _, rest = (node.module or "").partition(".")
            if head == package:
                names = [rest.split(".")[0]] if rest else [name.name for name in node.names]
                found += [(node.lineno, name) for name in names]
        elif isinstance(node, ast.Import):
            dotted = [name.name.split(".") for name in node.names]
            found += [(node.lineno, parts[1]) for parts in dotted if parts[0] == package and len(parts) > 1]
    return found


def test_folders_import_only_what_stands_above_them():
    wrong = []
    for package, order in ORDERS.items():
        for path in sorted((ROOT / package).rglob("*.py")):
            part = part_of(path, package)
            if part in ENTRIES:
                continue
            assert part in order, f"give {package}/{part} a place in the list"
            wrong += [
                f"{path.relative_to(ROOT)}:{line} imports {other}"
                for line, other in imported(path, package)
                if other in order and order.index(other) > order.index(part)
            ]
    assert not wrong, "\n".join(wrong)


def test_every_part_of_the_lists_exists():
    for package, order in ORDERS.items():
        parts = {part_of(path, package) for path in (ROOT / package).rglob("*.py")}
        assert parts - set(ENTRIES) == set(order), package


def test_no_file_hands_on_names_of_another():
    for package in ORDERS:
        for path in (ROOT / package).rglob("*.py"):
            assert "noqa: F401" not in path.read_text(encoding="utf-8"), path


def test_the_library_never_imports_the_studio():
    for path in (ROOT / "simct").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(import|from) (app|gradio)\b", text, flags=re.M), path


def test_no_shell_and_no_code_from_repositories():
    for folder in ("simct", "app", "spaces"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert "shell=True" not in text and "os.system" not in text, path
            assert "trust_remote_code=True" not in text, path


def names_taken_from_us(path: Path) -> list[tuple[str, str]]:
    """(module, name) of every `from simct.x import name`, inside functions too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        module = node.module if isinstance(node, ast.ImportFrom) else None
        if module and module.split(".")[0] in {"simct", "app", "benchmarks"}:
            found += [(module, alias.name) for alias in node.names]
    return found


@pytest.mark.parametrize("folder", ["benchmarks", "tools", "spaces/studio"])
def test_scripts_import_what_exists(folder):
    """They run by hand, so nothing else notices a name that has moved."""
    missing = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        for module, name in names_taken_from_us(path):
            found = importlib.import_module(module)
            of_package = hasattr(found, "__path__") and importlib.util.find_spec(f"{module}.{name}")
            if not (hasattr(found, name) or of_package):
                missing.append(f"{path.relative_to(ROOT)}: {module} has no {name}")
    assert not missing, missing
