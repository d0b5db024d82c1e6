"""What the documentation shows exists: commands parse, links work, settings and methods are real, terms are defined."""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

import simct
from simct import losses
from simct.cli.main import build_parser
from simct.config import RunConfig
from simct.methods import METHODS
from tests.support import method_tables

ROOT = Path(__file__).parents[1]
PROGRAMS = {"accelerate", "cd", "git", "make", "pip", "pre-commit", "python", "simct", "torchrun", "vllm"}
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def code_lines(text: str) -> list[str]:
    """Lines of the bash blocks, with continued lines joined and comments dropped."""
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [re.sub(r"\s+#.*", "", line).strip() for line in lines if line.strip()]


def documented_commands() -> list[str]:
    return [
        part.strip()
        for page in PAGES
        for line in code_lines(page.read_text(encoding="utf-8"))
        for part in line.split("&&")
        if part.strip().startswith("simct ") and "…" not in part
    ]


def test_there_are_commands_to_check():
    assert len(documented_commands()) >= 6


@pytest.mark.parametrize("command", documented_commands())
def test_a_documented_command_parses(command):
    build_parser().parse_args(shlex.split(command)[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_line_of_a_command_block_starts_a_command(page):
    first = [
        re.sub(r"^(?:[A-Z_]+=\S+ )+", "", line).split()[0] for line in code_lines(page.read_text(encoding="utf-8"))
    ]
    assert set(first) <= PROGRAMS, set(first) - PROGRAMS


def test_make_targets_in_the_readme_exist():
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.M)
    for page in PAGES:
        for used in re.findall(r"^make ([a-z]+)", "\n".join(code_lines(page.read_text(encoding="utf-8"))), flags=re.M):
            assert used in targets, f"{page.name}: make {used}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if not link.startswith("http")]
    missing = [link for link in links if not (page.parent / link).exists()]
    quoted = re.findall(r"`((?:simct|app|tests|tools|docs|benchmarks|spaces)/[\w./-]+)`", text)
    missing += [path for path in quoted if not (ROOT / path).exists()]
    assert not missing


def test_documented_settings_exist():
    known = RunConfig().model_dump()
    text = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    table = text[text.index("| setting |") : text.index("Rollouts, data order")]
    named = re.findall(r"^\| `([a-z_]+\.[a-z_]+)`", table, flags=re.M)
    assert len(named) > 10
    for setting in named:
        section, name = setting.split(".")
        assert name in known[section], setting


def test_every_method_is_documented_and_every_documented_method_exists():
    assert set(METHODS) == set(losses.MODULES)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    method_page = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    for method in METHODS:
        assert f"`{method}`" in readme and method in method_page


def test_the_tables_of_methods_say_what_the_library_says():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    method_page = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    # a table that changed is written anew from what this prints
    assert method_tables.readme_table() in readme, method_tables.readme_table()
    for table in (method_tables.methods_table(), method_tables.options_table()):
        assert table in method_page, table


def test_the_python_names_in_the_readme_are_public():
    fields = {field.name for field in dataclasses.fields(losses.LossResult)}
    assert {"loss", "rows"} <= fields
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in re.findall(r"unit\.(\w+)", readme):
        assert name in ["teacher_start", "teacher_end", "student_start", "student_end", "byte_start", "byte_end"]
    imported = re.findall(r"^from simct import (.*)$", readme, flags=re.M)
    assert imported and all(set(names.split(", ")) <= set(simct.__all__) for names in imported)
    assert not re.findall(r"^from simct\..*$", readme, flags=re.M)


def test_the_glossary_defines_each_term_once_and_in_order():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    items = re.findall(r"^- (.*)$", text, flags=re.M)
    terms = [re.fullmatch(r"\*\*`?([^*`]+)`?\*\*: [A-Z][^.]*(?:\.\w[^.]*)*\.", item) for item in items]
    assert all(terms), [item for item, term in zip(items, terms, strict=True) if not term]
    names = [term[1].lower() for term in terms if term]
    assert len(set(names)) == len(names) and names == sorted(names)
    wanted = [
        *("teacher", "student", "pair", "rollout", "completion", "coverage", "candidate mass", "verdict"),
        *("unit", "unit, shared", "unit, recovered", "unit, not covered", "distance to the teacher"),
        *("run", "job", "checkpoint", "preset", "status", "message", "report", "estimate", "warm-up"),
        *("token", "vocabulary", "prefix conflict", "hindsight mass", "z_t", "divergence", "reverse kl"),
        "on-policy distillation",
    ]
    assert {*wanted, *METHODS} <= set(names)
    assert "(docs/glossary.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
