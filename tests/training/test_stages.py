"""A run says what it is doing before, between and after its steps, and what it uses."""

import pytest

from simct.hub.downloads import fetch_weights
from simct.runs.folder import RunFolder
from simct.runs.progress import Progress, Reporter
from simct.training.downloads import fetch_models
from tests.support.short_runs import new_config, train_here, write_prompts


@pytest.fixture
def written(monkeypatch):
    """Every change of a status, in order."""
    changes = []
    kept = RunFolder.set_status

    def set_status(self, **fields):
        changes.append(fields)
        return kept(self, **fields)

    monkeypatch.setattr(RunFolder, "set_status", set_status)
    return changes


def stages(written) -> list[str]:
    texts = [each["progress"]["text"] for each in written if each.get("progress")]
    return list(dict.fromkeys(texts))


def test_a_run_reports_its_stages_its_steps_and_what_it_uses(folders, tmp_path, written):
    prompts = write_prompts(tmp_path)
    config = new_config(folders, prompts, steps=4)
    config.evaluation.tasks = [str(prompts)]
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text('{"prompt": "a cat"}\n{"prompt": "the 12"}\n')
    config.data.held_out_prompts, config.data.held_out = str(held_out), 2
    run = RunFolder.create(tmp_path / "runs", config)
    assert train_here(run) == 0
    assert stages(written) == [
        "Loading the teacher",
        "Loading the student",
        "Scoring the student before training",
        "Scoring the teacher",
        "The teacher answers the held-out prompts",
        "Evaluating the student before training",
        "Evaluating the student at step 4",
        "Scoring the student after training",
    ]
    scored = [each["progress"] for each in written if (each.get("progress") or {}).get("unit") == "prompts"]
    assert (scored[-1]["done"], scored[-1]["total"]) == (3, 3)
    status = run.status()
    assert status.state == "finished" and status.progress is None
    assert status.usage and 0 < status.usage["memory"] < status.usage["memory_total"]
    assert all(record["memory"] > 0 for record in run.metrics())
    # a step ends the stage before it
    steps = [each for each in written if "total_steps" in each and "step" in each and "usage" in each]
    assert len(steps) == 4 and all(each["progress"] is None for each in steps)


def test_downloads_are_counted_in_bytes_and_not_made_twice(hub, folders, tmp_path, monkeypatch, written):
    hub.add_model("acme/teacher", folders[0])
    hub.add_model("acme/student", folders[1])
    run = RunFolder.create(tmp_path / "runs", new_config(("acme/teacher", "acme/student"), tmp_path / "p.jsonl"))
    run.set_status(state="running")
    fetch_models(run.config(), None, Reporter(run))
    assert stages(written) == ["Downloading the teacher", "Downloading the student"]
    progress = Progress.of(run.status())
    assert progress and progress.unit == "bytes" and progress.total and progress.done == progress.total
    before = len(written)
    fetch_models(run.config(), None, Reporter(run))
    assert len(written) == before


def test_a_model_that_cannot_be_fetched_is_left_to_its_loader(hub, tmp_path, written):
    run = RunFolder.create(tmp_path / "runs", new_config(("acme/absent", "acme/absent"), tmp_path / "p.jsonl"))
    fetch_models(run.config(), None, Reporter(run))
    assert stages(written) == []


def test_a_callback_can_end_a_download(hub, folders):
    hub.add_model("acme/teacher", folders[0])

    def enough(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_weights("acme/teacher", None, None, enough)
