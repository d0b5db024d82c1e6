"""The table of attacks names tests that are there, and counts them as pytest reports them."""

import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from benchmarks import attacks


def test_every_family_names_tests_that_are_there():
    for places in attacks.FAMILIES.values():
        for place in places:
            file, _, name = place.partition("::")
            assert re.search(rf"^def {name or 'test_'}", (attacks.ROOT / file).read_text(), flags=re.M), place


@pytest.mark.parametrize(
    ("reports", "counted"),
    [
        (["setup passed", "call passed", "teardown passed"], "1       0        0"),
        (["setup passed", "call failed", "teardown passed"], "1       1        0"),
        (["setup failed", "teardown passed"], "1       1        0"),
        (["setup skipped", "teardown passed"], "0       0        1"),
        (["setup passed", "call passed", "teardown failed"], "1       1        0"),
        (["setup passed", "call failed", "teardown failed"], "1       1        0"),
    ],
)
def test_each_case_counts_once(reports, counted):
    counts = attacks.Counts(["kills"])
    for report in reports:
        when, outcome = report.split()
        ended = {each: each == outcome for each in ("passed", "failed", "skipped")}
        counts.pytest_runtest_logreport(
            SimpleNamespace(nodeid="tests/jobs/local/test_kills.py::test_x", when=when, outcome=outcome, **ended)
        )
    assert attacks.table(counts).splitlines()[1].split("kills")[1].strip() == counted


@pytest.mark.long
def test_the_table_has_what_was_tried():
    command = [sys.executable, "-m", "benchmarks.attacks", "--only", "task files with code"]
    got = subprocess.run(command, cwd=attacks.ROOT, capture_output=True, text=True, timeout=200)
    assert got.returncode == 0, got.stdout + got.stderr
    tried, failed, skipped = map(int, got.stdout.splitlines()[-1].split("code")[1].split())
    assert tried > 10 and failed == 0 and skipped == 0
