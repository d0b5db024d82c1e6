"""A run survives its disk: damaged checkpoints, cut files, an edited run.yaml, leftovers, a second process."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from simct.config import save_config
from simct.errors import RunError
from simct.jobs import actions
from simct.jobs.local import job as local_job
from simct.runs.folder import RunFolder
from simct.training.trainer import Trainer
from tests.support.short_runs import assert_same_end, new_config, short_run, train_here, write_prompts


@pytest.fixture(scope="module")
def prompts_file(tmp_path_factory):
    return write_prompts(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def straight(folders, prompts_file, tmp_path_factory):
    run = short_run(folders, prompts_file, tmp_path_factory.mktemp("straight"))
    assert len([path for path in run.checkpoints_dir.glob("step-*") if path.is_dir()]) == 3
    return run


@pytest.fixture
def run(straight, tmp_path):
    """A copy of it that has to be resumed: as if its process had been killed while it saved the model."""
    copy = RunFolder(shutil.copytree(straight.path, tmp_path / "runs" / "copy"))
    shutil.rmtree(copy.model_dir)
    copy.set_status(state="failed", pid=None)
    return copy


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, flip, lambda path: path.write_bytes(b""), os.unlink])
def test_a_damaged_newest_checkpoint_is_passed_over_in_one_line(run, straight, capfd, damage):
    damage(run.checkpoints_dir / "step-6" / "trained.safetensors")
    (run.checkpoints_dir / "step-999").mkdir()
    (run.checkpoints_dir / "best.json").write_text("[]")
    assert train_here(run, "--resume") == 0
    (line,) = [line for line in capfd.readouterr().out.splitlines() if "is damaged" in line]
    assert "step-999" in line and "step-6" in line and line.endswith("The run resumes from step-4.")
    assert_same_end(run, straight)


def test_without_a_whole_checkpoint_the_run_starts_over(run, straight, capfd):
    for step in (2, 4, 6):
        cut(run.checkpoints_dir / f"step-{step}" / "optimizer.bin")
    assert train_here(run, "--resume") == 0
    assert "the run starts over" in capfd.readouterr().out
    assert_same_end(run, straight)


def test_a_checkpoint_from_before_there_were_manifests_resumes(run, straight):
    for step in (4, 6):
        for name in ("manifest.json", "run.yaml"):
            (run.checkpoints_dir / f"step-{step}" / name).unlink()
    shutil.rmtree(run.checkpoints_dir / "step-6")
    assert train_here(run, "--resume") == 0
    assert_same_end(run, straight)


@pytest.mark.parametrize(
    "best", ["[]", "null", "none at all", '{"step": "two", "loss": []}', '{"step": 1, "loss": "x"}']
)
def test_any_best_json_is_survived(run, straight, best):
    shutil.rmtree(run.checkpoints_dir / "step-6")
    (run.checkpoints_dir / "best.json").write_text(best)
    assert train_here(run, "--resume") == 0
    assert_same_end(run, straight)


@pytest.mark.parametrize(
    "ending", [b'{"step": 5, "lo', b'{"step": 5}', b"[]\n", b"null\n", b'{"step": "5"}\n', b"\xff\xfe\n", b""]
)
def test_metrics_and_rollouts_never_hold_a_step_twice_or_lose_one(run, straight, ending):
    shutil.rmtree(run.checkpoints_dir / "step-6")
    for name in ("metrics.jsonl", "rollouts.jsonl"):
        path = run.path / name
        path.write_bytes(path.read_bytes().rstrip(b"\n") if not ending else path.read_bytes() + ending)
    assert train_here(run, "--resume") == 0
    assert_same_end(run, straight)


def test_what_a_killed_process_left_half_written_is_removed(run, straight):
    shutil.rmtree(run.checkpoints_dir / "step-6")
    half = [
        run.checkpoints_dir / ".step-6",
        run.path / ".model",
        run.checkpoints_dir / ".best.json.12.ab",
        run.path / ".status.json.12.ab",
        run.path / ".publish.json.12.ab",
        run.path / ".evaluation.json.12.ab",
    ]
    for path in half[:2]:
        path.mkdir()
        (path / "part").write_text("x")
    for path in half[2:]:
        path.write_text("{")
    assert train_here(run, "--resume") == 0
    assert not [path for path in half if path.exists()]
    assert_same_end(run, straight)


def edit(run, **settings):
    config = run.config()
    for name, value in settings.items():
        section, setting = name.split("__")
        setattr(getattr(config, section), setting, value)
    save_config(config, run.path / "run.yaml")


def test_settings_of_length_and_of_what_is_kept_may_change_before_a_resume(run, capfd):
    edit(run, training__steps=7, training__checkpoint_every=1, training__samples_every=3, evaluation__samples=2)
    assert local_job.check_resumable(run) == [
        "training.steps 6 -> 7", "training.checkpoint_every 2 -> 1", "training.samples_every 1 -> 3",
        "evaluation.samples None -> 2",
    ]  # fmt: skip
    assert train_here(run, "--resume") == 0
    assert run.status().step == 7 and [record["step"] for record in run.metrics()] == list(range(1, 8))
    assert "run.yaml has changed since: training.steps 6 -> 7, " in capfd.readouterr().out
    # the next resume compares with what was trained last
    assert local_job.check_resumable(run) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("student__revision", "other"), ("teacher__model", "other"), ("lora__rank", 4), ("training__optimizer", "SGD"),
        ("training__ema_decay", 0.9), ("training__seed", 7), ("data__limit", 2), ("training__batch_size", 8),
        ("rollout__temperature", 0.7),
    ],
)  # fmt: skip
def test_settings_that_would_make_it_another_run_are_refused_by_name(run, name, value):
    before = {path.name: path.read_bytes() for path in run.path.iterdir() if path.suffix == ".jsonl"}
    edit(run, **{name: value})
    with pytest.raises(RunError, match=name.replace("__", ".")) as refused:
        actions.resume(run)
    assert "simct jobs duplicate" in str(refused.value) and run.status().state == "failed"
    assert train_here(run, "--resume") == 2
    assert name.replace("__", ".") in run.status().error
    assert {path.name: path.read_bytes() for path in run.path.iterdir() if path.suffix == ".jsonl"} == before


def test_fewer_steps_than_were_taken_are_refused(run):
    edit(run, training__steps=3)
    assert train_here(run, "--resume") == 2
    assert "training.steps is 3, and the run has already taken 6" in run.status().error


def test_a_second_process_ends_with_one_line_and_changes_nothing(run, capfd):
    before = (run.path / "status.json").read_bytes()
    held = run.acquire_for_training()
    try:
        assert local_job.is_locked(run)
        with pytest.raises(RunError, match="already being trained"):
            local_job.launch(run, resume=True)
        command = [sys.executable, "-m", "simct.train", str(run.path / "run.yaml"), "--resume"]
        second = subprocess.run(command, capture_output=True, text=True, timeout=120)
    finally:
        os.close(held)
    assert second.returncode == 2 and second.stderr.count("\n") == 1 and "already being trained" in second.stderr
    assert (run.path / "status.json").read_bytes() == before


def test_a_run_of_relative_paths_resumes_from_any_working_directory(
    folders, prompts_file, straight, tmp_path, monkeypatch
):
    home = tmp_path / "home"
    home.mkdir()
    for name, path in (("t", folders[0]), ("s", folders[1]), ("p.jsonl", prompts_file)):
        (home / name).symlink_to(path)
    monkeypatch.chdir(home)
    config = new_config(("t", "s"), "p.jsonl", steps=2)
    config.evaluation.tasks = ["p.jsonl", "demo"]
    (home / "demo").mkdir()
    run = RunFolder.create("runs", config)
    monkeypatch.chdir("/")
    assert run.config().evaluation.tasks == [str(home / "p.jsonl"), "demo"]
    edit(run, evaluation__tasks=[])
    assert train_here(run) == 0


def failed_at_once(folders, tmp_path, monkeypatch) -> RunFolder:
    """A run whose first step failed, after the teacher had answered the held-out prompts."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("\n".join(json.dumps({"prompt": f"the cat {number}"}) for number in range(20)))
    config = new_config(folders, prompts, steps=2)
    config.data.held_out = 2
    run = RunFolder.create(tmp_path / "runs", config)
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "rollout", lambda trainer, step: [][step])
        assert train_here(run) == 1
    assert run.latest_checkpoint() is None and [each["step"] for each in run.evaluations()] == [0]
    return run


def test_without_a_checkpoint_nothing_measured_for_another_run_yaml_is_kept(folders, tmp_path, monkeypatch, capfd):
    run = failed_at_once(folders, tmp_path, monkeypatch)
    assert all("the cat" in each["prompt"] for each in run.teacher_answers())
    other = tmp_path / "other.jsonl"
    other.write_text("\n".join(json.dumps({"prompt": f"a hand {number}"}) for number in range(20)))
    edit(run, data__prompts=str(other))
    assert train_here(run, "--resume") == 0
    assert "the run starts over" in capfd.readouterr().out
    assert len(run.teacher_answers()) == 2
    assert all("a hand" in each["prompt"] for each in run.teacher_answers())
    assert all("a hand" in each["messages"][0]["content"] for each in run.held_out())
    assert [each["step"] for each in run.evaluations()] == [0, 2]


def test_without_a_checkpoint_what_was_measured_is_kept_if_only_memory_is_saved(folders, tmp_path, monkeypatch, capfd):
    run = failed_at_once(folders, tmp_path, monkeypatch)
    before = (run.path / "teacher.jsonl").stat().st_mtime_ns, run.evaluations()[0]
    edit(run, training__micro_batch_tokens=64)
    assert train_here(run, "--resume") == 0
    assert "starts over" not in capfd.readouterr().out
    assert ((run.path / "teacher.jsonl").stat().st_mtime_ns, run.evaluations()[0]) == before
