"""Anything in place of any file of a run: the list, the queue and the other runs never notice."""

import os
import traceback
from pathlib import Path

import pytest

from simct.cli.main import main
from simct.config import config_from_dict
from simct.jobs.local import job as local_job
from simct.jobs.local import queue
from simct.runs.folder import RunFolder
from simct.runs.listing import list_statuses

FILES = (
    "run.yaml", "metrics.jsonl", "rollouts.jsonl", "evaluation.json", "inspect.json", "publish.json", "log.txt",
    "checkpoints", "checkpoints/best.json", "checkpoints/step-3", "checkpoints/step-4/manifest.json", "model",
    "held_out.jsonl", ".process.lock", ".trainer.lock", ".status.lock", "../.queue.lock",
)  # fmt: skip
SHAPES = {
    "a folder": lambda path: path.mkdir(),
    "empty": lambda path: path.write_bytes(b""),
    "null": lambda path: path.write_bytes(b"null\n"),
    "a list": lambda path: path.write_bytes(b'[1, {"step": []}]\n'),
    "odd records": lambda path: path.write_text('{"step": 1}\n{"step": {}, "loss": "x"}\n{"loss": null}\n'),
    "deep": lambda path: path.write_bytes(b"[" * 100_000),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 9),
    "a pipe": os.mkfifo,
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to nowhere": lambda path: path.symlink_to("/nowhere/at/all"),
    "a device": lambda path: path.symlink_to("/dev/null"),
}  # fmt: skip


def one_run(runs_dir: Path, **status) -> RunFolder:
    config = config_from_dict({"teacher": "t", "student": "s", "data": {"prompts": "p"}})
    run = RunFolder.create(runs_dir, config)
    run.set_status(**{"state": "finished", **status})
    return run


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FILES)
def test_whatever_is_in_place_of_a_file_breaks_nothing(tmp_path, capsys, name, shape):
    from app.runs import names
    from app.runs import view as run_view

    run, sound = one_run(tmp_path), one_run(tmp_path)
    path = run.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    SHAPES[shape](path)
    assert {each.id: status.state for each, status in list_statuses(tmp_path)} == {
        run.id: "finished", sound.id: "finished"
    }  # fmt: skip
    assert queue.advance(tmp_path) == []
    for arguments in ([], ["--json"]):
        assert main(["jobs", "--runs", str(tmp_path), *arguments]) == 0
        assert sound.id in capsys.readouterr().out
    for action in ("log", "watch", "resume", "stop", "delete"):
        assert main(["jobs", action, run.id, "--runs", str(tmp_path)]) in (0, 2)
        printed = capsys.readouterr().err
        assert printed.count("\n") <= 1 and "Traceback" not in printed, printed
    if run.exists:
        local_job.refresh(run)
        assert names.label(run) and run_view.head(run, [])
        run.metrics(), run.rollouts(), run.evaluation(), run.inspection(), run.publishing(), run.held_out()
        assert run.latest_checkpoint() is None


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31mb", os.fsdecode(b"a\xff"), "-rf", "ü 日本", "a'b\"c", "x" * 250])
def test_odd_names_of_folders_stay_out_of_the_way(tmp_path, capsys, name):
    sound = one_run(tmp_path)
    (tmp_path / name).mkdir()
    (tmp_path / name / "status.json").write_text('{"state": "finished"}')
    for arguments in ([], ["--json"]):
        assert main(["jobs", "--runs", str(tmp_path), *arguments]) == 0
        printed = capsys.readouterr().out
        assert sound.id in printed and "\x1b" not in printed
        printed.encode()


def test_what_this_user_may_not_read_breaks_nothing(tmp_path, capsys):
    """In a child process of another user, since root may read everything."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    for folder in [tmp_path, *tmp_path.parents]:
        # pytest closes its own folders, those of its parallel workers too
        if folder.stat().st_mode & 0o005 != 0o005 and folder.name.startswith(("pytest-", "popen-", "test_")):
            folder.chmod(0o755)
    run, sound = one_run(tmp_path / "runs"), one_run(tmp_path / "runs")
    closed = [run.path / "status.json", sound.path / "run.yaml", sound.path / ".process.lock"]
    closed[2].touch()
    # what is imported when it is used may be out of the other user's reach
    other = one_run(tmp_path / "other")
    for words in (["jobs"], ["jobs", "retry", other.id], ["jobs", "delete", other.id]):
        main([*words, "--runs", str(tmp_path / "other")])
    for path in closed:
        path.chmod(0)
    child = os.fork()
    if not child:
        try:
            os.setuid(65534)
            states = {each.id: status.state for each, status in list_statuses(tmp_path / "runs")}
            fine = states == {run.id: "unreadable", sound.id: "finished"}
            fine = fine and main(["jobs", "--runs", str(tmp_path / "runs")]) == 0
            fine = fine and main(["jobs", "retry", sound.id, "--runs", str(tmp_path / "runs")]) == 2
            fine = fine and main(["jobs", "delete", run.id, "--runs", str(tmp_path / "runs")]) == 2
            os._exit(0 if fine else 1)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, capsys.readouterr().err
