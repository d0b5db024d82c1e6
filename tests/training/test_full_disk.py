"""A disk that is full, at any moment, or read-only: the reason in one line, the right state, nothing lost."""

import errno
import os
import shutil

import pytest

from simct import files, train
from simct.cli.main import main
from simct.files import append_jsonl, read_jsonl
from simct.jobs.local import job as local_job
from simct.jobs.local import queue
from simct.runs.folder import RunFolder
from simct.training.failures import explain_failure
from tests.support.short_runs import assert_same_end, new_config, short_run, write_prompts
from tests.support.small_disk import MEGABYTE, small_disk
from tests.support.waiting import until


@pytest.fixture(scope="module")
def prompts_file(tmp_path_factory):
    return write_prompts(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def straight(folders, prompts_file, tmp_path_factory):
    return short_run(folders, prompts_file, tmp_path_factory.mktemp("straight"))


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        yield disk


def bytes_of(folder) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_a_disk_that_is_full_at_any_size(disk, folders, prompts_file, straight, capfd):
    whole, failed = bytes_of(straight.path), 0
    sizes = [0, 4096, 3 * 4096, *(whole * part // 16 for part in range(1, 20))]
    for free in sizes:
        run = RunFolder.create(disk.path / "runs", new_config(folders, prompts_file))
        disk.leave(free)
        code, status = train.main([str(run.path / "run.yaml")]), run.status()
        printed = capfd.readouterr().err.splitlines()
        if code:
            failed += 1
            assert (code, status.state, status.pid) == (2, "failed", None), (free, printed)
            assert status.error.startswith("The disk is full.") and printed[-1] == status.error, (free, printed)
            assert not any("Traceback" in line for line in printed), (free, printed)
            assert [record["step"] for record in run.metrics()] == list(range(1, len(run.metrics()) + 1))
            assert main(["jobs", "--runs", str(disk.path / "runs")]) == 0
            assert "failed" in capfd.readouterr().out
            disk.leave(-1)
            assert train.main([str(run.path / "run.yaml"), "--resume"]) == 0
        assert_same_end(run, straight)
        disk.leave(-1)
        shutil.rmtree(run.path)
    assert len(sizes) / 2 < failed < len(sizes)  # some had room enough


def test_a_run_whose_log_is_on_the_full_disk_too_ends_and_says_so(disk, folders, prompts_file):
    run = RunFolder.create(disk.path / "runs", new_config(folders, prompts_file))
    disk.leave(MEGABYTE // 8)
    local_job.launch(run)
    status = local_job.wait(run, timeout=120)
    assert status.state == "failed" and "disk is full" in status.error, (status, run.log_tail())
    until(lambda: not local_job.is_locked(run))


def test_jobs_are_listed_on_a_read_only_disk_and_one_that_died_is_shown_as_failed(disk, capsys, monkeypatch):
    monkeypatch.setenv("SIMCT_DEVICES", "cpu")
    runs = disk.path / "runs"
    dead, waiting = (RunFolder.create(runs, new_config(("t", "s"), "p")) for _ in range(2))
    dead.set_status(state="running", pid=2**22 + 1, pid_started=1.0, started_at=1.0)
    waiting.set_status(queued_at=1.0)
    disk.remount("ro")
    for mode in ("ro", "rw"):
        disk.remount(mode)
        if mode == "rw":
            disk.leave(0)
            monkeypatch.setattr(queue, "_start", lambda *arguments: False)
        for arguments in ([], ["--json"], ["--state", "failed"]):
            assert main(["jobs", "--runs", str(runs), *arguments]) == 0
            printed = capsys.readouterr()
            assert dead.id in printed.out and "failed" in printed.out and "Traceback" not in printed.err
        assert local_job.refresh(dead).state == "failed"
    assert dead.status().state == "failed"  # a full disk has room for that


def test_a_new_run_that_does_not_fit_leaves_nothing(disk, folders, prompts_file):
    (disk.path / "runs").mkdir()
    disk.leave(0)
    with pytest.raises(Exception, match=r"Cannot write the run folder.*No space left"):
        RunFolder.create(disk.path / "runs", new_config(folders, prompts_file))
    assert list((disk.path / "runs").iterdir()) == []


# Without a disk of its own


@pytest.mark.parametrize("number", files.FULL)
def test_the_state_is_written_into_the_old_file_where_there_is_no_room_for_a_new_one(tmp_path, monkeypatch, number):
    run = RunFolder.create(tmp_path, new_config(("t", "s"), "p"))
    before = (run.path / "status.json").stat()

    def full(*arguments, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files, "_replace", full)
    run.set_status(state="failed", error="The disk is full.")
    run.set_status(message="short")
    assert (run.status().state, run.status().error, run.status().message) == ("failed", "The disk is full.", "short")
    assert (run.path / "status.json").stat().st_ino == before.st_ino
    content = (run.path / "status.json").read_bytes()
    with pytest.raises(OSError, match="space"):
        run.set_status(message="x" * 10_000)
    assert (run.path / "status.json").read_bytes() == content


@pytest.mark.parametrize("room", range(0, 40, 3))
def test_a_line_that_does_not_fit_is_not_there_at_all(tmp_path, room):
    resource = pytest.importorskip("resource")
    path = tmp_path / "metrics.jsonl"
    append_jsonl(path, [{"step": 1}])
    kept = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(kept) + room, limits[1]))
    try:
        with pytest.raises(OSError) as raised:
            append_jsonl(path, [{"step": 2, "text": "x" * 60}])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert raised.value.errno == errno.EFBIG and path.read_bytes() == kept
    append_jsonl(path, [{"step": 2}])
    assert [record["step"] for record in read_jsonl(path)] == [1, 2]


@pytest.mark.parametrize(
    "message",
    [
        "[enforce fail at inline_container.cc:672] . PytorchStreamWriter failed writing file data/2: file write failed",
        "basic_ios::clear: iostream error",
        "Error while serializing: I/O error: No space left on device (os error 28)",
        "[Errno 122] Disk quota exceeded",
    ],
)
def test_what_libraries_say_on_a_full_disk_is_recognized(message):
    assert explain_failure(RuntimeError(message)).startswith("The disk is full.")
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        finally:
            raise ValueError("a file was closed")
    except ValueError as error:
        assert explain_failure(error).startswith("The disk is full.")
