"""What the run page says of a run's machine, label and scores, without a browser."""

import time

import gradio as gr
import pytest

from app import projects
from app.runs import listing, machine, table, view
from app.runs.names import label
from app.runs.tab import RunsTab
from simct.report.evaluations import HeadlineScores, headline_scores
from simct.runs.labels import RunLabel, save_label
from simct.runs.status import RunStatus
from tests.support.hostile import HOSTILE
from tests.support.run_folders import made_up_run, runs_in

GIB = 1 << 30


@pytest.fixture
def tab(local) -> RunsTab:
    with gr.Blocks():
        return RunsTab(local, projects.field())


@pytest.fixture
def run(local):
    return made_up_run(local.runs_dir)


def test_labels_are_shown_escaped_listed_and_searched(local, run):
    other = made_up_run(local.runs_dir)
    save_label(run, RunLabel(HOSTILE[:70], HOSTILE, ("seed-1",), True))
    head = view.head(run, [])
    for html in (head, table.table(local, listing.visible(local, local.nobody), run.id)):
        assert "&lt;img" in html and "<img" not in html and "<script" not in html and "seed-1" in html
    assert label(run).startswith("★ ") and "#seed-1" in label(run)
    assert not label(other).startswith("★")
    listed = listing.visible(local, local.nobody)
    for words, state in (("seed-1", "All runs"), (HOSTILE.split()[0], "All runs"), ("", "Starred")):
        assert [each.id for each, _ in listing.filtered(listed, words, state)] == [run.id]


def test_the_table_has_before_best_and_after_of_every_run(local, run):
    run.set_status(distance={"before": 0.9, "now": 0.45, "best": 0.4, "best_step": 30, "step": 60})
    assert headline_scores(run) == HeadlineScores("demo", 0.25, pytest.approx(0.638, abs=1e-3), 0.75)
    html = table.table(local, listing.visible(local, local.nobody), None)
    for value in ("0.900", "0.400", "0.450", "25.0%", "63.8%", "75.0%"):
        assert f">{value}<" in html, value
    (run.path / "evaluation.json").unlink()
    assert ">75.0%<" not in table.table(local, listing.visible(local, local.nobody), None)
    assert headline_scores(run).after == pytest.approx(0.725, abs=1e-3)


def test_a_run_without_measurements_has_dashes_and_sorts_last(local, run):
    for name in ("evaluation.json", "evaluations.jsonl"):
        (run.path / name).unlink()
    run.set_status(distance=None)
    html = table.table(local, listing.visible(local, local.nobody), run.id)
    assert html.count('data-value="">–<') == 6 and "class=now" in html
    assert table.table(local, [], None) == ""


def test_the_machine_panel_shows_what_is_known(run):
    assert "760" in machine.panel(run, RunStatus("running"), run.metrics())
    assert machine.panel(run, RunStatus("queued"), []) == ""
    used = {"cpu": 0.25, "memory": GIB, "memory_peak": 4 * GIB, "memory_total": 16 * GIB}
    (run.path / machine.ESTIMATE_FILE).write_text(f'{{"peak": {3 * GIB}}}')
    html = machine.panel(run, RunStatus("finished", usage=used), [])
    assert "Peak memory, 3 GiB estimated" in html and "more than estimated" in html and "25.0%" in html
    odd = machine.panel(run, RunStatus("running", usage={"memory_peak": "much", "cpu": None, "gpu_name": HOSTILE}), [])
    assert odd == ""


def test_the_cost_of_a_job_grows_up_to_its_limit():
    job = {"backend": "hf", "flavor": "a10g", "price": 2.0, "hours": 3.0}
    hour_ago = time.time() - 3600
    status = RunStatus("running", started_at=hour_ago, **job)
    assert machine.spent_so_far(status) == pytest.approx(2.0, abs=0.01)
    assert machine.spent_so_far(RunStatus("running", started_at=hour_ago - 9 * 3600, **job)) == 6.0
    ended = RunStatus("finished", started_at=hour_ago, finished_at=hour_ago + 900, **job)
    assert machine.spent_so_far(ended) == pytest.approx(0.5)
    assert machine.spent_so_far(RunStatus("running", started_at=hour_ago)) is None


def test_the_estimate_is_made_once_and_leaves_no_folder_of_a_deleted_run(local, run, monkeypatch):
    from simct.estimate.records import Estimate, StudentSize, TeacherSize

    asked = []

    def made(studio, config, token):
        asked.append(config)
        return Estimate(TeacherSize("t", 1), StudentSize("s", 1, 1), 1, 1, 5 * GIB, {}, {}, [])

    monkeypatch.setattr(machine.estimate, "estimate", made)
    estimates = machine.PeakEstimates(local)
    estimates.ask(local.nobody, run, RunStatus("finished"))
    assert not asked
    for _ in range(3):
        estimates.ask(local.nobody, run, RunStatus("running"))
    deadline = time.monotonic() + 5
    while not (run.path / machine.ESTIMATE_FILE).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(asked) == 1
    assert "5 GiB estimated" in machine.panel(run, RunStatus("running", usage={"memory_peak": GIB}), [])
    run.delete()
    estimates._estimate(local.nobody, run, False)
    assert not run.path.exists() and runs_in(local.runs_dir) == []


def test_the_list_is_updated_without_choosing_the_run_again(local, run, tab):
    """The visitor may have chosen another run since the update began."""
    first = tab._refresh(local.nobody, None, {}, project="")
    assert first[tab.chosen].constructor_args["value"] == run.id
    run.set_status(step=59, state="stopped")
    later = tab._refresh(local.nobody, run.id, first[tab.seen], project="")
    assert set(later[tab.chosen].constructor_args) == {"choices"}
    assert tab.refresh.how["concurrency_limit"] == 1


def test_a_question_about_one_run_is_never_answered_for_another(local, run, tab):
    other = made_up_run(local.runs_dir)
    asked = tab._ask_or_do("delete")(local.nobody, run.id)
    refused = tab._confirmed(local.nobody, asked[tab.pending], other.id)
    assert "about run" in refused[tab.note] and not refused[tab.confirm].visible and refused[tab.pending] is None
    assert run.exists and other.exists
    tab._confirmed(local.nobody, asked[tab.pending], run.id)
    assert not run.exists and other.exists
