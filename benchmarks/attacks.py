"""python -m benchmarks.attacks [--only FAMILY]: for every family of attacks, how many were tried and how many failed.

A case is a test with its parameters; this script only runs and counts them. `--long` adds the slow ones.
`python -m tests.fuzz.table` runs the fuzzer with any number of examples.
"""

import argparse
import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GUARD, SERVED = "tests/app/test_guard.py::test_", "tests/models/test_served.py::test_"
# the cases of each family: files, or tests by the beginning of their names
FAMILIES = {
    "task files with code": ("tests/evaluation/test_task_files.py",),
    "paths of others": ("tests/app/test_paths.py",),
    "files of others, from a run": ("tests/jobs/local/test_confinement.py", "tests/jobs/local/test_environment.py"),
    "programs of a model": ("tests/evaluation/test_sandbox.py",),
    "hosts and origins": tuple(
        GUARD + name
        for name in ("preflights", "it_answers", "further_names", "a_space_knows", "a_page_elsewhere", "its_own_page",
                     "what_the_browser", "websockets", "every_answer", "what_the_page")
    ),
    "rights of visitors": ("tests/test_security.py",),
    "floods": (
        "tests/app/test_flood.py",
        *(GUARD + name for name in ("bodies", "a_flood", "uploads", "open_requests", "who_calls")),
    ),
    "hostile models and files": ("tests/app/test_hostile_files.py", "tests/hub/test_model_config.py"),
    "hostile datasets": ("tests/hub/test_data_files.py",),
    "readers that hang or die": ("tests/workers/test_workers.py",),
    "teachers' servers": tuple(
        SERVED + name
        for name in ("an_answer", "the_key", "a_redirect", "the_hubs_login", "an_address", "the_client", "a_space")
    ),
    "damaged run folders": (
        "tests/runs/test_odd_files.py", "tests/runs/test_checkpoints.py", "tests/training/test_resume.py",
    ),
    "full disks": ("tests/training/test_full_disk.py",),
    "kills": ("tests/jobs/local/test_kills.py",),
    "fuzzed commands": ("tests/fuzz/test_fuzz.py",),
}  # fmt: skip


@dataclass(eq=False)
class Counts:
    """A plugin of pytest that keeps the cases of the chosen families and counts how each ended."""

    families: list[str]
    ends: dict[str, Counter[str]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if family_of(item.nodeid) in self.families]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # the setup of a case counts only if it failed or skipped the case
        if report.when != "call" and report.passed:
            return
        ends = self.ends.setdefault(family_of(report.nodeid) or "", Counter())
        if report.failed and report.nodeid in self.failed:
            return
        ends[report.outcome] += 1
        if report.failed:
            self.failed.append(report.nodeid)
            if report.when == "teardown":
                ends["passed"] -= 1  # it has already been counted


def family_of(case: str) -> str | None:
    """The family of a test by its node id; None for a test of no family."""
    for family, places in FAMILIES.items():
        if any(case.startswith(place) for place in places):
            return family
    return None


def table(counts: Counts) -> str:
    """The families that were tried, one per line."""
    lines = [f"{'family':30}{'tried':>8}{'failed':>8}{'skipped':>9}"]
    for family in counts.families:
        ends = counts.ends.get(family, Counter())
        tried = ends["passed"] + ends["failed"]
        lines.append(f"{family:30}{tried:>8}{ends['failed']:>8}{ends['skipped']:>9}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=tuple(FAMILIES), metavar="FAMILY", help="one of: " + ", ".join(FAMILIES))
    parser.add_argument("--long", action="store_true", help="also the cases that take a minute or more")
    options = parser.parse_args()
    counts = Counts([options.only] if options.only else list(FAMILIES))
    files = dict.fromkeys(place.partition("::")[0] for family in counts.families for place in FAMILIES[family])
    os.chdir(ROOT)
    ended = pytest.main(
        ["-q", "--no-header", "-m", "long or not long" if options.long else "not long", *files], plugins=[counts]
    )
    print(f"\n{table(counts)}")
    if ended not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return int(ended)
    return 1 if counts.failed or not counts.ends else 0


if __name__ == "__main__":
    sys.exit(main())
