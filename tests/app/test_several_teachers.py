"""A run with several teachers in the studio: described, listed, shown, compared, estimated, checked and published."""

import json

import gradio as gr
import pytest

from app.compare import answers, models
from app.compare.answers import Answer, Question, Sampling
from app.runs import curves, names, view
from app.runs.comparison import compared
from app.server import paths
from app.server.work import Work
from app.train import estimate
from app.train import form as run_form
from app.train.preflight import place_of, run_preflight
from simct import demo
from simct.config import brief, config_from_dict, config_from_text, dump_config, load_run_config
from simct.errors import ModelError, RunError
from simct.evaluation.records import DIRECTIONS, Distance, Evaluation, evaluations_of
from simct.jobs.actions import duplicate
from simct.jobs.hf.inputs import as_data, portable_config
from simct.publishing.card import model_card, rollouts_card
from simct.report.evaluations import run_results
from simct.runs.changes import accepted_changes
from simct.runs.folder import RunFolder

STRESS = next(iter(demo.STRESS.values()))
TEACHERS = [
    {"model": str(demo.TEACHER), "name": "words", "weight": 2},
    {"model": str(STRESS.teacher), "name": "stress", "method": "strict", "offload": True},
]


@pytest.fixture(scope="module")
def form():
    with gr.Blocks():
        return run_form.settings_form(lambda: None)


@pytest.fixture
def config(tmp_path):
    rows = [{"prompt": f"Say it plainly: {number}", "kind": "words" if number % 3 else "stress"} for number in range(9)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return config_from_dict(
        {
            "teachers": TEACHERS,
            "student": str(demo.STUDENT),
            "data": {"prompts": str(tmp_path / "rows.jsonl"), "teacher_column": "kind", "held_out": 0},
            "training": {"steps": 2, "batch_size": 4, "max_length": 256},
            "rollout": {"max_new_tokens": 16},
        }
    )


@pytest.fixture
def run(local, config):
    """As it is after two steps."""
    run = RunFolder.create(local.runs_dir, config.model_copy(deep=True))
    for step in (1, 2):
        shares = {"share_words": 0.75, "share_stress": 0.25, "loss_words": 1 / step, "loss_stress": 2 / step}
        run.append("metrics.jsonl", {"step": step, "loss": 1 / step, "rows": 9, **shares})
    for step in (0, 2):
        both = {
            name: dict.fromkeys(DIRECTIONS, Distance({0: 2.0 - step / 2, 1: 1.5}, 40)) for name in ("words", "stress")
        }
        run.append("evaluations.jsonl", Evaluation(step, both["words"], teachers=both, prompts=2, every=2).to_dict())
    scores = {side: {"demo": {"score": 0.5, "n": 8}} for side in ("before", "after")}
    theirs = {"words": {"demo": {"score": 0.9, "n": 8}}, "stress": {"demo": {"score": 0.3, "n": 8}}}
    run.save_evaluation(scores | {"teachers": theirs})
    run.set_status(state="finished", step=2, total_steps=2, model_step=2)
    return run


def test_the_form_keeps_the_list_and_gives_the_pair_back_without_it(form, config):
    kept, shown = brief(config), form.shown(config)
    again, problems = form.read(kept, str(demo.TEACHER), str(demo.STUDENT), config.data, shown)
    assert not problems and again == config
    assert config_from_text(dump_config(config)) == config
    alone = shown | {"teachers": "", "data.teacher_column": ""}
    plain, problems = form.read(kept, str(demo.TEACHER), str(demo.STUDENT), config.data, alone)
    assert not problems and not plain.teachers and plain.teacher.model == str(demo.TEACHER)
    _, problems = form.read(kept, "a", "b", config.data, shown | {"teachers": "- model: a\n  weight: -1"})
    assert [each.setting for each in problems] == ["teachers"] and "above 0" in problems[0].text


def test_it_is_listed_shown_and_compared_by_the_names_of_its_teachers(local, run):
    html = "".join(view.panels(run))
    assert "stress" in html
    charts = {chart.title: chart for chart in curves.of_run(run.metrics())}
    for title in ("Loss by teacher", "Rows by teacher"):
        assert [line.name for line in charts[title].lines] == ["words", "stress"]
    measured = {chart.title: chart for chart in curves.of_evaluations(evaluations_of(run))}
    assert measured["Distance to stress"].lines[0].points == [(0, 1.75), (2, 1.25)]
    _, teacher, _ = names.names(run, run.status())
    assert " + " in teacher and "/" not in teacher.replace(" + ", "")
    other = RunFolder.create(local.runs_dir, run_form.starting_config())
    assert " + " in compared([run, other])
    rows = {row.name: row for row in run_results(run).rows}
    assert rows["Distance, student to teacher, stress"].before == "1.750 ± 0.250"
    assert rows["demo"].teacher == "words 90.0% (n = 8); stress 30.0% (n = 8)"


def test_its_card_names_each_teacher(run):
    card = model_card(run, "me/student")
    for fact in ("| Teacher words | 90.0 % (n = 8) |", "| Teacher stress |", "rows whose kind is stress", "strict"):
        assert fact in card, fact
    assert str(demo.TEACHER) not in card and str(STRESS.teacher) not in card
    assert "SimCT Studio demo teacher" in card and "SimCT Studio demo teacher" in rollouts_card(run, "me/student")


def test_it_is_estimated_and_checked_as_a_whole(local, config):
    found = estimate.estimate(local, config, None)
    assert {"teacher words", "teacher stress"} <= found.parts.keys() and len(found.teachers) == 2
    assert found.teacher.parameters == sum(each.parameters for each in found.teachers)
    checked = run_preflight(local, config, None, place_of(local))
    assert not checked.problems, checked.problems
    text = " ".join(each.text for each in checked.checks)
    assert "Prompts that each teacher grades: words 6 (weight 2), stress 3 (weight 1)." in text
    assert "Teacher words's tokenizer" in text and "Teacher stress's tokenizer" in text
    config.teachers[1].routes = ["strss"]
    checked = run_preflight(local, config, None, place_of(local))
    assert any(each.setting == "teachers" and "'strss'" in each.text for each in checked.warnings)


def test_each_teacher_answers_in_compare(local, run):
    config = run.config()
    sides = [side for _, side in models.offered_sides(local, run, config, None)]
    assert sides == ["before", "teacher:words", "teacher:stress"]
    state: dict[str, Answer] = {}
    chosen = ["before", "teacher:words"]
    question = Question("Say it plainly: The constable may sell the light key.", chosen, Sampling(0.0, 16))
    answers.write(models.RunModels.of(local, run, None, chosen), question, state, Work())
    assert state["teacher:words"].ids and state["before"].units


def test_it_starts_again_with_its_teachers_and_travels_to_a_job(run, config, tmp_path):
    assert [each.name for each in duplicate(run, {"training.steps": "3"}).teachers] == ["words", "stress"]
    portable, inputs = portable_config(run.config())
    assert [each.model for each in portable.teachers] == ["inputs/teacher-0", "inputs/teacher-1"]
    assert {"inputs/teacher-0/config.json", "inputs/teacher-1/config.json"} <= inputs.keys()
    assert [each.model for each in as_data(portable).teachers] == ["inputs/teacher-0", "inputs/teacher-1"]
    portable.teachers[0].model = "/etc"
    assert as_data(portable).teachers[0].model == "inputs/teacher-0"
    kept = tmp_path / "kept.yaml"
    kept.write_text(dump_config(run.config()))
    changed = load_run_config(kept)
    changed.teachers[0].device = "cpu"
    assert accepted_changes(kept, changed) == ["teachers[0].device None -> 'cpu'"]
    changed.teachers[0].weight = 5
    with pytest.raises(RunError) as error:
        accepted_changes(kept, changed)
    assert "teachers[0].weight = 5" in str(error.value)


def test_in_public_each_teacher_must_be_of_the_hub(public, config):
    config.teachers[1].model = "/etc"
    with pytest.raises(ModelError, match="reads models from the Hub only"):
        paths.check_run(public, public.nobody, config)
