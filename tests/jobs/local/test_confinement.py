"""A visitor's run reaches its own folder and uploads, and nothing of other visitors or of the studio."""

import json
import os
import sys
import tempfile
from pathlib import Path

import pytest

from simct.config import save_config
from simct.evaluation.sandbox.child import landlock_version
from simct.jobs.local import confinement, queue
from simct.jobs.local.environment import HIDDEN
from simct.runs.folder import RunFolder
from tests.support.stand_in_runs import all_over, new, turns

VERSION = landlock_version()
needs_landlock = pytest.mark.skipif(VERSION < confinement.LEAST_VERSION, reason="no Landlock here (Linux 5.19)")

# the code that runs in the process of the run OWN, next to the run OTHER; STUDIO is the process that started it
CHILD = """
import ctypes, json, os, shutil, subprocess, sys, tempfile
from pathlib import Path
ROOT, OWN, OTHER, UPLOADS, STRANGERS, OUTSIDE, STUDIO = (*map(Path, sys.argv[1:7]), int(sys.argv[7]))
CACHE = Path(os.environ["HF_HOME"]) / "hub"
def refused(): raise PermissionError
try:
    {code}
    found = "reached"
except OSError as error:
    found = type(error).__name__
(OWN / "found.json").write_text(json.dumps(found))
"""
REFUSED = {
    "a file of another run": "(OTHER / 'status.json').read_bytes()",
    "the folder of another run": "os.listdir(OTHER)",
    "the list of runs": "os.listdir(ROOT)",
    "the queue": "open(ROOT / '.queue.lock', 'r+')",
    "a new file next to the runs": "(ROOT / 'new').write_text('x')",
    "a new run": "(ROOT / 'new').mkdir()",
    "writing into another run": "(OTHER / 'new').write_text('x')",
    "appending to another run": "open(OTHER / 'metrics.jsonl', 'a').write('x')",
    "removing another run's file": "os.unlink(OTHER / 'status.json')",
    "moving another run's file": "os.rename(OTHER / 'status.json', OWN / 'moved')",
    "moving another run": "os.rename(OTHER, OWN / 'moved')",
    "replacing another run's file": "os.replace(OWN / 'status.json', OTHER / 'status.json')",
    "a symbolic link": "os.symlink(OTHER / 'status.json', OWN / 'link'); (OWN / 'link').read_bytes()",
    "a link to the folder": "os.symlink(ROOT, OWN / 'link'); os.listdir(OWN / 'link' / OTHER.name)",
    "a link that was there before": "(OUTSIDE / 'runs' / OTHER.name / 'status.json').read_bytes()",
    "a link that the studio might follow": "os.symlink(OTHER / 'status.json', OWN / 'link')",
    "a link among its temporary files": "os.symlink(OTHER, Path(tempfile.gettempdir()) / 'link')",
    "a link from the cache": "os.symlink(OTHER, CACHE / 'link'); os.rename(CACHE / 'link', OWN / 'link')",
    "a folder with a link": "m = CACHE / 'm'; m.mkdir(); os.symlink(OTHER, m / 'x'); os.rename(m, OWN / 'm')",
    "a hard link": "os.link(OTHER / 'status.json', OWN / 'hard'); (OWN / 'hard').read_bytes()",
    "dots": "(OWN / '..' / OTHER.name / 'status.json').read_bytes()",
    "the root of this process": "Path(f'/proc/self/root{OTHER}/status.json').read_bytes()",
    "the root of the studio": "Path(f'/proc/{STUDIO}/root{OTHER}/status.json').read_bytes()",
    "a child of the process": "subprocess.call(['cat', OTHER / 'status.json']) == 0 or refused()",
    "the studio's environment": "Path(f'/proc/{STUDIO}/environ').read_bytes()",
    "the studio's memory": "open(f'/proc/{STUDIO}/mem', 'rb')",
    "the studio's open files": "os.readlink(f'/proc/{STUDIO}/fd/0')",
    "tracing the studio": "ctypes.CDLL(None).ptrace(16, STUDIO, None, None) == 0 or refused()",
    "uploads of others": "(STRANGERS / 'prompts.jsonl').read_bytes()",
    "the list of uploads": "os.listdir(UPLOADS.parent)",
    "writing among its own uploads": "(UPLOADS / 'new').write_text('x')",
    "what visitors upload just now": "(OUTSIDE / 'gradio' / 'file').read_bytes()",
    "writing elsewhere": "(OUTSIDE / 'new').write_text('x')",
    "writing to the machine's temporary folder": "tempfile.mkstemp(dir='/tmp')",
    "changing the code": "open(json.__file__, 'a')",
}  # fmt: skip
if VERSION >= 6:
    REFUSED["a signal to the studio"] = "os.kill(STUDIO, 0)"
if VERSION >= 3:
    REFUSED["cutting another run's file"] = "os.truncate(OTHER / 'status.json', 0)"
REACHED = {
    "its own status": "(OWN / 'status.json').read_bytes()",
    "a file of its own": "(OWN / 'a').mkdir(); (OWN / 'b').write_text('x'); os.rename(OWN / 'b', OWN / 'a' / 'c')",
    "its uploads": "(UPLOADS / 'prompts.jsonl').read_bytes(), os.listdir(UPLOADS)",
    "what lies next to the runs": "(OUTSIDE / 'shared.txt').read_bytes()",
    "a temporary file": "tempfile.NamedTemporaryFile().write(b'x'), tempfile.TemporaryDirectory()",
    "the cache": "(Path(os.environ['HF_HOME']) / 'hub' / 'model').write_text('x')",
    "links and moves in the cache": "m = CACHE / 'm'; m.mkdir(); os.symlink('x', m / 'y'); os.rename(m, CACHE / 'n')",
    "a file from the cache": "(CACHE / 'file').write_text('x'), os.rename(CACHE / 'file', OWN / 'file')",
    "devices": "open('/dev/null', 'w').write('x'), os.listdir('/dev/shm')",
    "programs": "subprocess.run(['ls', '/usr/lib'], check=True, capture_output=True)",
    "its own environment": "Path('/proc/self/environ').read_bytes()",
    "modules": "import fractions, sqlite3",
}  # fmt: skip


@pytest.fixture
def reach(tmp_path, monkeypatch):
    """What comes of a line of code in the process of ann's run: `reached`, or the name of the error."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("SIMCT_CACHE", str(tmp_path / "cache" / "simct"))
    monkeypatch.setenv(HIDDEN, str(tmp_path / "gradio"))
    root = tmp_path / "runs"
    own, other = (new(root, owner).path for owner in ("ann", "bob"))
    (root / ".queue.lock").touch()
    uploads, strangers = (root / ".uploads" / confinement.account_folder(owner) for owner in ("ann", "bob"))
    for folder in (uploads, strangers, tmp_path / "gradio"):
        folder.mkdir(parents=True)
        (folder / ("file" if folder.name == "gradio" else "prompts.jsonl")).write_text("x")
    (tmp_path / "shared.txt").write_text("x")
    (tmp_path / "runs-again").symlink_to(root)
    paths = [root, own, other, uploads, strangers, tmp_path]

    def attempt(code: str) -> str:
        arguments = [*map(str, paths), str(os.getpid())]
        child = confinement.start(RunFolder(own), "ann", [sys.executable, "-c", CHILD.format(code=code), *arguments])
        assert child.wait(60) == 0
        return json.loads((own / "found.json").read_text())

    return attempt


@needs_landlock
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_of_others_is_out_of_reach(reach, name):
    code = REFUSED[name].replace("OUTSIDE / 'runs'", "OUTSIDE / 'runs-again'")
    # a move or a link to another folder ends as if that were another disk
    assert reach(code) in ("PermissionError", "OSError")


@needs_landlock
@pytest.mark.parametrize("name", REACHED)
def test_what_a_run_needs_is_in_reach(reach, name):
    assert reach(REACHED[name]) == "reached"


@pytest.mark.parametrize("name", ["a file of another run", "the queue", "uploads of others", "a hard link"])
def test_the_same_is_reached_without_limits(reach, name, monkeypatch, capfd):
    monkeypatch.setattr(confinement, "landlock_version", lambda: 0)
    assert reach(REFUSED[name]) == "reached"
    assert capfd.readouterr().out == confinement.UNCONFINED.format(reason="no Landlock") + "\n"


@needs_landlock
def test_a_container_that_refuses_the_last_step_is_reported(reach, monkeypatch, capfd):
    def refuse(ruleset: int) -> None:
        raise PermissionError

    monkeypatch.setattr(confinement, "_enter", refuse)
    assert reach(REACHED["its own status"]) == "reached"
    assert "Landlock is refused" in capfd.readouterr().out


def test_another_run_s_inputs_are_allowed_to_their_owner_only(tmp_path):
    mine, earlier, theirs = (new(tmp_path / "runs", owner) for owner in ("ann", "ann", "bob"))
    root = mine.path.parent
    for run in (earlier, theirs):
        (run.path / "inputs").mkdir()
        (run.path / "inputs" / "prompts.jsonl").write_text("x")
    for run, allowed in ((earlier, True), (theirs, False)):
        config = mine.config()
        config.data.prompts = str(run.path / "inputs" / "prompts.jsonl")
        save_config(config, mine.path / "run.yaml")
        found = list(confinement.own_files(mine, root, "ann"))
        assert (Path(config.data.prompts) in found) == allowed
    config.data.prompts = str(theirs.path / "status.json")
    save_config(config, mine.path / "run.yaml")
    assert list(confinement.own_files(mine, root, "ann")) == [root / ".uploads" / confinement.account_folder("ann")]


def test_runs_of_visitors_train_within_the_limits_and_clean_up(runs_dir):
    theirs, own = new(runs_dir, "ann"), new(runs_dir)
    for run in (theirs, own):
        queue.submit(run)
    all_over(runs_dir)
    assert [run.status().state for run in (theirs, own)] == ["finished", "finished"] and len(turns(runs_dir)) == 2
    assert not (theirs.path / confinement.TEMPORARY).exists()
    assert ("does not limit" in theirs.log_path.read_text()) == (VERSION < confinement.LEAST_VERSION)
    assert "does not limit" not in own.log_path.read_text()


def test_the_uploads_of_gradio_are_hidden_by_default():
    from simct.jobs.local.environment import visitors_environment

    assert visitors_environment({})[HIDDEN] == os.path.join(tempfile.gettempdir(), "gradio")
