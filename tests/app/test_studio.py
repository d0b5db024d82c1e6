"""What the studio says and draws, and what it refuses, without a browser."""

import inspect
import socket
import subprocess
import sys
from pathlib import Path

import gradio as gr
import pytest

from app.data import prompt_source
from app.inspect import lanes
from app.page import markup
from app.page.publishing import publishing_line
from app.runs import actions as run_actions
from app.runs import curves, evaluations
from app.runs import page as runs_page
from app.runs import view as run_view
from app.runs.comparison import compared, drawn
from app.runs.names import label
from app.server import model_facts
from app.server.studio import Studio
from app.server.visitor import Visitor, owned_run
from app.studio import build
from app.train.form import starting_config
from simct import demo
from simct.config.sections import DataConfig
from simct.errors import DataError, HubError, ModelError, RunError
from simct.evaluation.records import evaluations_of
from simct.hub.repo_ids import checked_repo_id
from simct.inspection.coverage import inspect_pair, show_units
from simct.report import charts as report_charts
from simct.report import facts, formats
from simct.runs.folder import RunFolder
from simct.runs.status import PublishingStatus, RunStatus
from tests.support.hostile import HOSTILE
from tests.support.run_folders import evaluation_record


def make_run(local: Studio, **status) -> RunFolder:
    config = starting_config()
    config.teacher.model, config.student.model = local.default_pair.values()
    config.data.prompts = str(demo.PROMPTS)
    run = RunFolder.create(local.runs_dir, config, owner=status.pop("owner", None))
    run.set_status(**status)
    return run


# Markup


def test_invisible_characters_are_drawn():
    assert markup.visible("a b\tc\n\u00a0\u200b\x07") == "a·b⇥c⏎⍽⟨200B⟩⟨7⟩"


def test_bytes_that_are_not_text_are_drawn_one_by_one():
    assert markup.visible_bytes("é".encode() + b"\xf0\x9f") == "é⟨F0⟩⟨9F⟩"


@pytest.mark.parametrize("make", [
    lambda text: markup.note("error", text),
    lambda text: markup.tiles([(text, text, text)]),
    lambda text: markup.table((text,), [(text,)]),
    lambda text: markup.chips([text]),
    lambda text: markup.empty(text),
    lambda text: markup.pill(text),
    lambda text: publishing_line(PublishingStatus("published", url=f'https://x/"{text}', repo_id=text)),
    lambda text: publishing_line(PublishingStatus("failed", error=text)),
])  # fmt: skip
def test_text_from_outside_is_escaped(make):
    html = make(HOSTILE)
    assert "&lt;img" in html
    assert "<img" not in html and "<script" not in html and 'onerror="' not in html


def test_links_to_other_schemes_are_not_made():
    line = publishing_line(PublishingStatus("published", url="javascript:alert(1)", repo_id="a/b"))
    assert "href" not in line and "a/b" in line


def test_lanes_show_every_token_once_and_escape_it(pair):
    text = f"{HOSTILE} adolescent 🙂\n"
    rows = show_units(pair, text)
    html = lanes.lanes(lanes.unit(pair, row) for row in rows)
    assert html.count('class="unit ') == len(rows)
    assert html.count("<i>") == sum(len(row.student_ids) + len(row.teacher_ids) for row in rows) + len(facts.UNIT_KINDS)
    assert "<img" not in html and "<script" not in html and "⏎" in html


def test_heat_map_counts_every_unit():
    html = report_charts.shape_map({"1x1": 10, "2x1": 3, "1x9": 2, "12x7": 1}).figure()
    assert "2 student × 1 teacher tokens: 3 units" in html
    assert "1 student × 6+ teacher tokens: 2 units" in html
    assert "6+ student × 6+ teacher tokens: 1 unit (" in html


# Models


def test_facts_of_the_embedded_pair_are_read_from_its_folder(local, pair):
    facts = model_facts.facts(local, str(demo.TEACHER), None)
    assert facts.where == "embedded" and facts.vocabulary == len(pair.teacher.bytes_of)
    assert facts.size == sum(path.stat().st_size for path in demo.TEACHER.glob("*.safetensors"))


@pytest.mark.parametrize(
    ("model", "got"), [("", "Choose a model"), ("/no/such/folder", "no folder"), ("./nowhere", "no folder")]
)
def test_models_that_cannot_be_read_are_reported_in_one_line(local, model, got):
    with pytest.raises(ModelError, match=got) as caught:
        model_facts.facts(local, model, None)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_reported(local, tmp_path):
    with pytest.raises(ModelError, match=r"no readable config\.json"):
        model_facts.facts(local, str(tmp_path), None)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"no .*safetensors weights"):
        model_facts.facts(local, str(tmp_path), None)


def test_a_public_studio_reads_no_folders_but_the_embedded(public, tmp_path):
    with pytest.raises(ModelError, match="Hub only"):
        model_facts.facts(public, str(tmp_path), None)
    with pytest.raises(ModelError, match="Hub only"):
        model_facts.pair_of(public, str(demo.TEACHER), "../somewhere", None)
    assert model_facts.facts(public, str(demo.TEACHER), False).where == "embedded"


def test_a_public_studio_reads_prompts_from_the_hub_or_an_upload_only(public, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("not for visitors")
    with pytest.raises(DataError, match="Hub or an upload"):
        prompt_source.read(public, DataConfig(prompts=str(secret)), False)


def test_a_public_studio_never_lends_the_machine_s_token(public, local):
    assert public.nobody.token is False
    assert local.nobody.token is None


@pytest.mark.parametrize(("size", "got"), [(999, "999 B"), (1_200_000, "1.2 MB"), (3e11, "300 GB"), (2.5e12, "2.5 TB")])
def test_sizes_read_well(size, got):
    assert formats.human_size(size) == got


# Runs


def test_only_sensible_actions_are_offered(local):
    run = make_run(local, state="running", step=3)
    assert run_actions.allowed_actions(run, RunStatus("running")) == {
        "stop": True, "kill": True, "resume": False, "retry": False, "duplicate": True, "delete": False,
        "fetch": False, "publish": False,
    }  # fmt: skip
    assert run_actions.allowed_actions(run, RunStatus("finished"))["publish"]
    assert not any(run_actions.allowed_actions(None, None).values())


def test_public_runs_are_seen_and_touched_by_their_owner_only(public):
    run = make_run(public, state="finished", owner="ann")
    assert [found.id for found in runs_page.runs_of(public, Visitor("hf_ann", "ann"))] == [run.id]
    for stranger in (Visitor("hf_bob", "bob"), public.nobody):
        assert runs_page.runs_of(public, stranger) == []
        with pytest.raises(RunError, match="no run"):
            owned_run(public, run.id, stranger)
    assert owned_run(public, run.id, Visitor("hf_ann", "ann")).path == run.path


@pytest.mark.parametrize("name", ["../runs", "..", "", None, "/etc", "a/b"])
def test_run_ids_cannot_leave_the_runs_folder(local, name):
    make_run(local, state="finished")
    with pytest.raises(RunError):
        owned_run(local, name, local.nobody)


def test_deleting_removes_the_folder(local):
    run = make_run(local, state="finished")
    run_actions.perform("delete", run, local.nobody)
    assert not run.path.exists()


def test_a_run_is_shown_from_its_folder(local):
    run = make_run(local, state="running", step=2, total_steps=60)
    for step in (1, 2):
        run.append(
            "metrics.jsonl", {"step": step, "loss": 1 / step, "kl_shared": 0.5, "coverage_strict": 0.9, "seconds": 2.0}
        )
    run.append("rollouts.jsonl", {"step": 2, "prompt": HOSTILE, "completion": HOSTILE, "ended": True})
    run.log_path.write_text(f"step 1\n{HOSTILE}\n")
    run.save_evaluation({"before": {"demo": {"score": 0.25, "n": 8}}, "after": {"demo": {"score": 0.75, "n": 8}}})
    head, _, results, left_out, samples, config = run_view.panels(run)
    # plain text, which the page sets as text
    assert run_view.log(run).startswith("step 1\n") and "<img" in run_view.log(run)
    assert "step 2 of 60" in head and "Embedded teacher → Embedded student" in head and "about 1 min 56 s left" in head
    assert "25.0%" in results and "75.0%" in results
    assert "Every answer could be supervised" in left_out
    loss = curves.of_run(run.metrics())[0]
    assert loss.title == "Loss" and loss.lines[0].points == [(1, 1.0), (2, 0.5)]
    assert "&lt;img" in samples and "<img" not in samples and "<script" not in samples
    assert "method: simct" in config


def test_a_run_that_publishes_by_itself_says_what_became_of_it(local):
    config = starting_config()
    config.publish.repo_id = "me/tiny"
    run = RunFolder.create(local.runs_dir, config)
    assert "publishes its student to me/tiny" in run_view.published(run)
    run.set_status(state="finished")
    assert run_view.published(run) == ""
    run.set_publishing(state="published", repo_id="me/tiny", url="https://hub/me/tiny")
    assert 'href="https://hub/me/tiny"' in run_view.published(run) and "me/tiny" in run_view.panels(run)[0]
    config.publish.only_if_improved, config.output = True, None
    other = RunFolder.create(local.runs_dir, config)
    other.set_status(state="finished")
    assert "Not published: nothing that was measured improved" in run_view.published(other)


def test_a_failed_run_says_why(local):
    run = make_run(local, state="failed", error="Loss is not finite at step 3. Lower the learning rate.")
    assert "note-error" in run_view.head(run, []) and "Lower the learning rate" in run_view.head(run, [])


@pytest.mark.parametrize(
    ("seconds", "got"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min 01 s"), (3600, "1 h 00 min"), (5400, "1 h 30 min")]
)
def test_durations_read_well(seconds, got):
    assert formats.duration(seconds) == got


@pytest.mark.parametrize("repo_id", ["", "name", "a/b/c", "../x/y", "a/<b>", "-a/b", None])
def test_repository_names_are_checked(repo_id):
    with pytest.raises(HubError, match="owner/name"):
        checked_repo_id(repo_id)
    assert checked_repo_id(" me/my-model.v1 ") == "me/my-model.v1"


def test_uploads_are_kept_beside_the_runs(local, monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "temporary"))
    upload = tmp_path / "temporary" / "abc" / "my prompts.jsonl"
    upload.parent.mkdir(parents=True)
    upload.write_text('{"prompt": "hello"}\n')
    kept = Path(prompt_source.keep_upload(local, str(upload)))
    upload.unlink()
    assert kept.read_text() == '{"prompt": "hello"}\n' and kept.is_relative_to(local.runs_dir)
    assert runs_page.runs_of(local, local.nobody) == []
    secret = tmp_path / "secret.txt"
    secret.write_text("not an upload")
    with pytest.raises(DataError, match="did not arrive"):
        prompt_source.keep_upload(local, str(secret))


# Starting


def test_a_port_in_use_ends_with_one_line_and_status_2(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "app", "--port", str(port), "--runs", str(tmp_path)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr.strip().count("\n") == 0 and f"Port {port}" in ended.stderr and "--port" in ended.stderr


def test_a_runs_folder_that_cannot_be_made_ends_with_one_line_and_status_2(tmp_path):
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "app", "--port", "1", "--runs", str(tmp_path / "file" / "runs")]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        command[4] = str(probe.getsockname()[1])
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2 and ended.stderr.strip().count("\n") == 0 and "runs folder" in ended.stderr


def test_numbers_shown_are_those_of_the_library(pair):
    from app.inspect.numbers import headline

    report = inspect_pair(pair, ["Say it plainly: the adolescent should purchase documentation."])
    html = headline(report)
    assert f"{report.student_strict_coverage:.1%}" in html and f"{report.student_recovered_coverage:.1%}" in html
    assert report.student_recovered_coverage > 0


def test_what_was_left_out_is_counted_by_reason_and_never_hidden():
    records = [{"step": 1, "excluded": {"special token inside the completion": 2}}, {"step": 2, "excluded": {}}]
    records.append({"step": 3, "excluded": {"special token inside the completion": 1, "<b>odd</b>": 1}})
    got = run_view.left_out(records)
    assert "3 × special token inside the completion" in got
    assert "&lt;b&gt;odd" in got and "<b>odd" not in got
    assert "Every answer could be supervised" in run_view.left_out([{"step": 1, "excluded": {}}])


def test_nothing_done_to_a_field_is_dropped_while_the_last_change_is_answered(local):
    page = build(local).config
    names = {part["id"]: part["props"].get("elem_id") for part in page["components"]}
    typed = {"input", "change", "submit", "blur", "upload", "clear", "select", "key_up", "release"}
    dropping = [
        (names.get(target), kind)
        for event in page["dependencies"]
        for target, kind in event["targets"]
        if event["backend_fn"] and event["trigger_mode"] == "once" and kind in typed
    ]
    # answers that are being written are not asked for again
    assert {kind for _, kind in dropping} == {"submit"}


def test_of_two_events_with_data_the_later_one_is_not_answered_as_the_earlier_one(local):
    """Gradio repeats the data of the earlier event for one that had to wait (always_last), and drops one (once)."""
    page = build(local)
    named = {
        fn.name: fn.trigger_mode
        for fn in page.fns.values()
        if fn.fn and any(each.annotation is gr.EventData for each in inspect.signature(fn.fn).parameters.values())
    }
    assert len(named) >= 6 and set(named.values()) == {"multiple"}, named


def test_the_page_does_not_open_more_slowly_than_it_does_now(local):
    page = build(local).config
    places: dict[int, int] = {}

    def walk(part: dict) -> None:
        places[part["id"]] = len(places)
        for child in part.get("children", []):
            walk(child)

    # before Gradio draws the page, it searches this tree for the component of each event, twice
    walk(page["layout"])
    targets = [target for event in page["dependencies"] for target, _ in event["targets"] if target is not None]
    assert len(page["components"]) <= 761
    assert len(page["dependencies"]) <= 252
    assert sum(places[target] for target in targets) <= 96_600


def with_evaluations(run: RunFolder) -> RunFolder:
    """Three evaluations of a run, and the teacher's answers."""
    for step, mean in ((0, 0.9), (10, 0.5), (20, 0.6)):
        bits = {str(index): mean + 0.01 * (index % 3) for index in range(30)}
        distance = {"bits": bits, "bytes": 900, "excluded": {}}
        run.append(
            "evaluations.jsonl",
            {
                "step": step,
                "distance": {"student_to_teacher": distance, "teacher_to_student": distance},
                "tasks": {"demo": {"score": mean, "n": 10, "outcomes": [1] * 5 + [0] * 5}},
                "answers": [{"text": f"the {HOSTILE} answer {step}", "ended": step > 0, "tokens": 5}],
                "seconds": 1.5, "prompts": 30, "every": 10,
            },
        )  # fmt: skip
    run.append("teacher.jsonl", {"prompt": HOSTILE, "reference": "42", "greedy": {"text": f"the {HOSTILE} answer 10"}})
    run.set_status(distance={"before": 0.91, "now": 0.61, "step": 20, "best": 0.51, "best_step": 10})
    return run


def test_evaluations_are_shown_with_their_noise_and_their_answers(local):
    run = with_evaluations(make_run(local, state="finished", step=20))
    results = evaluations.results(run)
    for words in ("Student before", "Best, step 10", "Student after", "0.910 ± 0.002", "-0.300 ± 0.000, exceeds noise"):
        assert words in results, words
    found = evaluations_of(run)
    distance, tasks = curves.of_evaluations(found)
    assert [len(line.band) for line in distance.lines] == [3, 3] and tasks.lines[0].points[0] == (0, 0.9)
    assert distance.lines[0].band[0][1] < distance.lines[0].points[0][1] < distance.lines[0].band[0][2]
    html = evaluations.timeline(found, run.teacher_answers())
    assert 'data-steps="0 10 20"' in html
    assert "&lt;img" in html and "<img" not in html and "<script" not in html
    # only what differs from the teacher's answer is marked
    assert html.count("<mark>0</mark>") == 1 and html.count("<mark>20</mark>") == 1 and "<mark>10</mark>" not in html
    assert "<h4>Reference</h4>" in html and html.count("hidden>") == 2
    assert label(run).endswith("mean distance 0.91 → 0.61, best 0.51 at step 10")
    assert evaluations.timeline([], []) == "" == evaluations.results(make_run(local))


def test_distances_are_drawn_over_the_prompts_that_all_evaluations_measured(local):
    """Fewer prompts later looked like a change that the table beside the chart denied."""
    run = make_run(local, state="finished", step=20)
    bits = {str(index): 0.1 * index for index in range(10)}
    for step, kept in ((0, 10), (20, 4)):
        distance = {"bits": dict(list(bits.items())[:kept]), "bytes": 90 * kept, "excluded": {}}
        both = {"student_to_teacher": distance, "teacher_to_student": distance}
        run.append("evaluations.jsonl", {**evaluation_record(step), "distance": both, "prompts": kept})
    found = evaluations_of(run)
    drawn = [curves.of_evaluations(found)[0], curves.of_several({"a": [], "b": []}, {"a": found, "b": found})[0]]
    for line in [line for chart in drawn for line in chart.lines]:
        assert line.points[0][1] == pytest.approx(line.points[1][1])
    assert "+0.000" in evaluations.results(run)


def test_runs_are_compared_before_best_and_after(local):
    one, two = (with_evaluations(make_run(local, state="finished", step=20)) for _ in range(2))
    html = compared([one, two])
    for words in ("student to teacher (bits per byte), before", "bits per byte), best", "bits per byte), change"):
        assert words in html, words
    charts = {chart["title"]: chart for chart in drawn([one, two])["charts"]}
    lines = charts["Distance, student to teacher"]["lines"] + charts["demo, tracked"]["lines"]
    assert [(line["name"], line["color"]) for line in lines] == [("A", 0), ("B", 1)] * 2
    assert drawn([one])["charts"] == []
