"""The run folder holds its truth through crashes, concurrent writers and hostile ids."""

import json
import threading
import time

import pytest

from simct.config import config_from_dict
from simct.errors import RunError
from simct.runs.folder import RunFolder
from simct.runs.listing import open_run
from simct.runs.status import PublishingStatus
from tests.support.run_folders import runs_in


def new_config(**more):
    return config_from_dict({"teacher": "t", "student": "s", "data": {"prompts": "p"}, **more})


def test_a_new_run_is_queued_and_holds_its_configuration(tmp_path):
    run = RunFolder.create(tmp_path, new_config(method="strict"), owner="ada")
    assert run.status().state == "queued"
    assert run.status().owner == "ada"
    assert run.config().method == "strict"
    assert run.config().output == str(run.path)
    assert open_run(tmp_path, run.id) == run


def test_an_output_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        RunFolder.create(tmp_path, new_config(output=str(tmp_path / "out")))
    assert (tmp_path / "out" / "precious.txt").read_text() == "mine"


@pytest.mark.parametrize("run_id", ["../etc", "a/b", "", ".", "..", "x" * 200, "-rf", "a\x00b", "missing", None])
def test_ids_cannot_leave_the_runs_folder(tmp_path, run_id):
    (tmp_path / "runs").mkdir()
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "status.json").write_text("{}")
    with pytest.raises(RunError):
        open_run(tmp_path / "runs", run_id)


def test_a_link_out_of_the_runs_folder_is_not_a_run(tmp_path):
    outside = RunFolder.create(tmp_path / "elsewhere", new_config())
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "linked").symlink_to(outside.path)
    with pytest.raises(RunError):
        open_run(tmp_path / "runs", "linked")


def test_half_written_lines_are_skipped_and_a_repeated_step_replaces_the_first(tmp_path):
    run = RunFolder.create(tmp_path, new_config())
    for step, loss in [(1, 3.0), (2, 2.0), (3, 9.0), (3, 1.0)]:
        run.append("metrics.jsonl", {"step": step, "loss": loss})
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "lo')
    assert [(record["step"], record["loss"]) for record in run.metrics()] == [(1, 3.0), (2, 2.0), (3, 1.0)]


def test_writers_of_the_status_do_not_lose_each_others_fields(tmp_path):
    run = RunFolder.create(tmp_path, new_config())

    names = ("step", "starts", "gpus", "processes")

    def write(name):
        for number in range(40):
            run.set_status(**{name: number})

    threads = [threading.Thread(target=write, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert run.status().state == "queued"  # never half a file
    assert [getattr(run.status(), name) for name in names] == [39] * 4


def test_a_state_that_does_not_exist_is_refused(tmp_path):
    run = RunFolder.create(tmp_path, new_config())
    with pytest.raises(RunError, match="done"):
        run.set_status(state="done")


def test_only_a_run_that_is_over_can_be_deleted(tmp_path):
    run = RunFolder.create(tmp_path, new_config())
    with pytest.raises(RunError, match="queued"):
        run.delete()
    run.set_status(state="stopped")
    run.delete()
    assert runs_in(tmp_path) == []


def test_a_thousand_runs_are_listed_newest_first_in_linear_time(tmp_path):
    def seconds(count: int) -> float:
        for number in range(count):
            folder = tmp_path / f"run-{number:04}"
            folder.mkdir(exist_ok=True)
            (folder / "status.json").write_text(json.dumps({"state": "finished", "created_at": number}))
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            runs_in(tmp_path)
            best = min(best, time.perf_counter() - start)
        return best

    few = seconds(100)
    assert seconds(1000) < 40 * few  # ten times the runs; the rest is room for a busy machine
    runs = runs_in(tmp_path)
    assert [run.id for run in runs[:2]] == ["run-0999", "run-0998"]
    assert len(runs) == 1000


def test_publishing_has_a_state_of_its_own(tmp_path):
    run = RunFolder.create(tmp_path, new_config())
    assert run.publishing() == PublishingStatus()
    run.set_publishing(state="failed", error="no")
    assert run.publishing().error == "no"
    assert run.status().state == "queued"
