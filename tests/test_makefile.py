"""What make does before it starts anything: it says what it installs, and shows how far that is."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")


def planned(target: str, tmp_path: Path, **environment: str) -> str:
    """What `make target` would do where nothing has been set up yet."""
    clean = {name: value for name, value in os.environ.items() if name not in ("CI", "MAKEFLAGS")}
    command = ["make", "--dry-run", "-C", str(ROOT), target, f"VENV={tmp_path / 'venv'}"]
    return subprocess.run(command, env=clean | environment, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(("target", "requirements"), [("app", "requirements.txt"), ("test", "requirements-test.txt")])
def test_setting_up_says_what_it_installs_and_shows_progress(tmp_path, target, requirements):
    shown = planned(target, tmp_path)
    assert f"--progress-bar on -r {requirements}" in shown and "--quiet" not in shown
    # a line before each part that takes time
    lines = shown.splitlines()
    for number, line in enumerate(lines):
        if f"-r {requirements}" in line or "-m venv" in line:
            assert lines[number - 1].startswith("echo"), line


def test_continuous_integration_stays_quiet(tmp_path):
    shown = planned("test", tmp_path, CI="true")
    assert "--quiet -r requirements-test.txt" in shown and "--progress-bar" not in shown
