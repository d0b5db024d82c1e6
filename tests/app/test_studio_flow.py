"""Data, Train and the runs side by side: what the studio keeps, reports and refuses, without a browser."""

import json
import re

import gradio as gr
import pytest

from app.data import choice, prompt_source
from app.data import view as data_view
from app.runs.comparison import compared, differing
from app.server.studio import Studio
from app.train import estimate, fields, prepare
from app.train import form as run_form
from app.train.checklist_view import checklist
from app.train.version import Version, version_of
from app.train.view import is_measured, method_line
from app.train.where import HERE, JOBS, Place
from simct import demo
from simct.config import RunConfig, brief, brief_yaml, load_config, validate
from simct.config.sections import DataConfig
from simct.data.exclusions import PART
from simct.errors import ConfigError, DataError
from simct.estimate.time_and_cost import STARTING_SECONDS
from simct.inspection.records import Reliability
from simct.preflight.records import Preflight, from_error
from simct.presets import list_presets, load_preset
from simct.runs.folder import RunFolder
from simct.tokenization.reasons import SPECIAL_INSIDE
from tests.support.hostile import HOSTILE
from tests.support.random_pair import random_model, student_tokenizer, teacher_tokenizer

PAIR = (str(demo.TEACHER), str(demo.STUDENT))


@pytest.fixture(scope="module")
def form():
    with gr.Blocks():
        return run_form.settings_form(lambda: None)


def make_run(local: Studio, **changes) -> RunFolder:
    config = run_form.starting_config()
    for name, value in changes.items():
        setattr(config.training, name, value)
    return RunFolder.create(local.runs_dir, config)


# The form and run.yaml


@pytest.mark.parametrize("name", list_presets())
def test_every_preset_goes_through_the_form_and_its_file_and_comes_back(form, tmp_path, name):
    config = load_preset(name)
    again = form.config(brief(config), config.teacher.model, config.student.model, config.data, form.shown(config))
    assert again == config
    path = tmp_path / "run.yaml"
    path.write_text(brief_yaml(config))
    assert load_config(path) == config


def test_settings_that_no_field_shows_are_kept(form):
    config = load_preset("demo-cpu")
    config.training.freeze, config.warmup.epochs = ["embed"], 7.0
    again = form.config(brief(config), *PAIR, config.data, form.shown(config))
    assert again.training.freeze == ["embed"] and again.warmup.epochs == 7.0


def test_what_the_browser_kept_is_never_trusted(form):
    kept = {"training": {"steps": "many", "learning_rate": 0.5, "unknown": 1}, "evil": {"a": 1}, "method": "simct"}
    config = run_form.base_config(kept)
    assert config.training.learning_rate == 0.5 and config.training.steps == 100
    data = prompt_source.data_config({"prompts": "a/b", "limit": 5, "source": "x", "__class__": "y", "column": ""})
    assert data == DataConfig(prompts="a/b", limit=5)


def test_an_error_stands_beside_its_field_and_goes_when_it_is_mended(form):
    config = load_preset("demo-cpu")
    values = form.shown(config) | {"training.steps": 0}
    field = form.fields["training.steps"]
    _, problems = form.read(None, *PAIR, config.data, values)
    wrong, marks = form.marked([], problems)
    assert wrong == ["training.steps"] and list(marks) == [field]
    assert "must be 1 or more" in marks[field]["info"] and marks[field]["elem_classes"] == ["wrong"]
    assert "training.steps" not in marks[field]["info"] and problems[0].fix == 1
    wrong, marks = form.marked(wrong, [])
    assert wrong == [] and marks[field]["info"] == form.infos["training.steps"] and marks[field]["elem_classes"] == []


def test_only_the_switch_publishes_and_then_a_repository_is_named(form):
    config = load_preset("demo-cpu")
    values = form.shown(config)
    assert values["publish"] is False and not values["publish.repo_id"]
    off = form.config(None, *PAIR, config.data, values | {"publish.repo_id": "me/name"})
    assert off.publish.repo_id is None and "publish" not in brief(off)
    on = form.config(None, *PAIR, config.data, values | {"publish": True, "publish.repo_id": "me/name"})
    assert on.publish.repo_id == "me/name" and form.shown(on)["publish"] is True
    _, [problem] = form.read(None, *PAIR, config.data, values | {"publish": True, "publish.repo_id": " "})
    assert problem.setting == "publish.repo_id" and "Publish when finished" in problem.message


def test_every_wrong_value_is_found_and_its_group_opened(form):
    values = form.shown(load_preset("demo-cpu")) | {"training.seed": -1, "rollout.top_p": 2, "training.steps": 5}
    config, problems = form.read(None, *PAIR, DataConfig(), values)
    assert {check.setting for check in problems} == {"training.seed", "rollout.top_p"}
    assert config.training.steps == 5
    wrong, marks = form.marked([], problems)
    opened = [each for each in marks if isinstance(each, gr.Accordion)]
    assert set(opened) == {form.groups["rollout.top_p"], form.groups["training.seed"]}
    # what is open or closed by hand stays so while the value stays wrong
    assert not any(isinstance(each, gr.Accordion) for each in form.marked(wrong, problems)[1])


def test_rules_between_settings_name_what_solves_them():
    config = load_preset("demo-cpu")
    config.rollout.max_new_tokens, config.training.max_length = 4096, 512
    with pytest.raises(ConfigError) as caught:
        validate(config)
    check = from_error(caught.value)
    assert (check.setting, check.fix) == ("training.max_length", 8192)
    html = checklist(Preflight([check]))
    assert 'data-fix="8192" data-setting="training.max_length"' in html and "training.max_length is" not in html
    config.training.max_length = check.fix
    assert validate(config)


def test_steps_that_epochs_override_are_out_of_use(form):
    field = form.fields["training.steps"]
    assert run_form.overridden(None, 4) == "" and run_form.overridden(1, 4) == "Overridden: 1 epoch = 4 steps."
    names, marks = form.marked([], [], run_form.overridden(2.5, None))
    assert marks[field]["interactive"] is False and "2.5 epochs" in marks[field]["info"]
    _, marks = form.marked(names, [])
    assert marks[field]["interactive"] is True and marks[field]["info"] == form.infos["training.steps"]


def test_number_fields_step_by_about_a_tenth():
    wanted = {
        "training.steps": (100, 10),
        "training.learning_rate": (1e-4, 1e-5),
        "rollout.max_new_tokens": (512, 64),
        "rollout.top_p": (1.0, 0.05),
        "training.batch_size": (4, 1),
        "training.seed": (4096, 1),
        "lora.rank": (None, 8),
    }
    for name, (value, step) in wanted.items():
        assert fields.step(name, value) == pytest.approx(step), name


def test_a_version_of_the_form_gives_the_run_that_it_was_read_from():
    config = load_preset("demo-cpu")
    version = Version("7", brief(config), None)
    assert version_of(version.text()).config() == validate(config)
    for kept in ("", "{", "[]", '{"edit": 3, "run": "x"}', Version("8", brief(config), readable=False).text()):
        with pytest.raises(ConfigError):
            version_of(kept).config()


@pytest.mark.parametrize("text", ["- a", "a: [", "just words"])
def test_method_options_must_be_settings(form, text):
    values = form.shown(load_preset("demo-cpu")) | {"method_options": text}
    with pytest.raises(ConfigError, match="method_options"):
        form.config(None, *PAIR, DataConfig(), values)
    assert form.marked([], form.read(None, *PAIR, DataConfig(), values)[1])[0] == ["method_options"]


def test_a_method_is_called_measured_only_when_it_was():
    assert "not been measured" in method_line(None, *PAIR, "simct") and not is_measured(None, *PAIR)
    known = {"teacher": PAIR[0], "student": PAIR[1], "method": "marginal", "words": f"why {HOSTILE}"}
    line = method_line(known, *PAIR, "simct")
    assert "marginal suits it better" in line and "<img" not in line and is_measured(known, *PAIR)
    assert "note-ok" in method_line(known, *PAIR, "marginal")
    assert "not been measured" in method_line({**known, "student": "other"}, *PAIR, "simct")


def test_estimates_follow_the_fields(local):
    config = load_preset("demo-cpu")
    assert estimate.estimate(local, config, None).hardware[0].evaluating > 0
    # the teacher answers the held-out prompts once, whatever the number of steps
    config.evaluation.every = 0
    report = estimate.estimate(local, config, None)
    config.training.steps *= 10
    longer = estimate.estimate(local, config, None)
    start = STARTING_SECONDS / 3600
    assert longer.hardware[0].hours - start == pytest.approx(10 * (report.hardware[0].hours - start))
    assert longer.here.hours > 0 and longer.here.cost == 0
    config.training.micro_batch_size, config.rollout.max_new_tokens = 4, 400
    assert estimate.estimate(local, config, None).peak != report.peak
    html = estimate.view(report, Place(HERE))
    assert "150 steps" in html and "this machine" in html and "a100" in html
    # next to the choice of a rented machine is not what this one would take
    rented = estimate.view(report, Place(JOBS, "l40sx1")).split("<details>")[0]
    assert "on one l40s" in rented and "this machine" not in rented and "nothing" not in rented
    assert "on one " in estimate.view(report, Place(JOBS)).split("<details>")[0]


def test_launching_pins_nothing_local_and_refuses_what_cannot_run(local):
    config = load_preset("demo-cpu")
    assert prepare.pin_and_check(local, config, None).data.revision is None
    config.data.prompts = str(local.runs_dir / "absent.jsonl")
    with pytest.raises(DataError, match="no file"):
        prepare.pin_and_check(local, config, None)


# Data


def chosen(local, before, source, name="", described=None, **fields):
    return choice.chosen(local, before, described or {}, choice.Fields(source, dataset=name, **fields))


def test_columns_and_facts_of_a_source_that_was_left_are_dropped(local):
    facts = {"id": "a/b", "revision": "c0ffee", "license": "mit", "configs": {None: {"train": 7}}}
    hub = chosen(local, choice.START, choice.HUB, name="a/b", described=facts)
    assert (hub["prompts"], hub["revision"], hub["rows"]) == ("a/b", "c0ffee", 7) and "column" not in hub
    mapped = chosen(local, hub, choice.HUB, name="a/b", described=facts, column="q", answer="r")
    assert prompt_source.data_config(mapped) == DataConfig(
        prompts="a/b", revision="c0ffee", column="q", answer_column="r"
    )
    other = chosen(local, mapped, choice.HUB, name="a/other", described=facts, column="q")
    assert other["revision"] is None and "column" not in other
    assert chosen(local, mapped, choice.EMBEDDED)["prompts"] == str(demo.PROMPTS)
    assert chosen(local, {"source": choice.HUB}, choice.UPLOAD)["prompts"] == ""


def test_the_choice_comes_back_after_a_reload(local):
    kept = {"source": choice.HUB, "prompts": "a/b", "split": "test", "system": "Be kind.", "limit": 3}
    shown = choice.restored(kept)
    assert shown["source"] == choice.HUB and (shown["system"], shown["limit"]) == ("Be kind.", 3)
    assert (shown["dataset"]["value"], shown["split"]["value"]) == ("a/b", "test")
    assert choice.restored({"source": "<b>"})["source"] == choice.EMBEDDED
    assert choice.kept(DataConfig(prompts=str(demo.PROMPTS)))["source"] == choice.EMBEDDED
    assert choice.kept(DataConfig(prompts="a/b"))["source"] == choice.HUB


def test_rows_and_readings_are_escaped_and_hold_every_token(local, pair, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": HOSTILE, "note": HOSTILE}) + "\n")
    data = DataConfig(prompts=str(path))
    source = prompt_source.read(local, data, None)
    readings = prompt_source.readings(local, str(demo.TEACHER), str(demo.STUDENT), data, RunConfig(), 1, None)
    for html in (data_view.rows_table(source), data_view.both_readings(readings)):
        assert "&lt;" in html and "<img" not in html and "<script" not in html
    from simct.data.templates import prompt_ids

    ids = prompt_ids(pair.student.tokenizer, source.prompts[0].messages)
    assert data_view.both_readings(readings).split("</section>")[0].count("<i ") == len(ids)


def test_prompts_are_shown_in_the_templates_that_the_run_names(local, tmp_path):
    """One of several chat templates by its name, thinking as Train has it, and the teacher's own system text."""
    for side, tokenizer in (("teacher", teacher_tokenizer()), ("student", student_tokenizer())):
        tokenizer.chat_template = {
            "loud": "{% for m in messages %}LOUD {{ m['content'] }}{% endfor %}{% if enable_thinking %} hmm{% endif %}",
            "calm": "{% for m in messages %}calm {{ m['content'] }}{% endfor %}",
        }
        tokenizer.save_pretrained(tmp_path / side)
        random_model(tokenizer, 1).save_pretrained(tmp_path / side)
    teacher, student = str(tmp_path / "teacher"), str(tmp_path / "student")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "abc"}\n')
    data = DataConfig(prompts=str(rows))
    settings = choice.run_settings(
        {
            "teacher": {"chat_template": "loud", "enable_thinking": True, "system": "xyz"},
            "student": {"chat_template": "calm"},
        }
    )
    _, report = prompt_source.report(local, teacher, student, data, settings, None)
    readings = prompt_source.readings(local, teacher, student, data, settings, 1, None)
    student_reads, teacher_reads, _ = data_view.both_readings(readings).split("</section>")
    shown = [re.sub(r"<[^>]+>|·", "", html.split('class="read">')[1]) for html in (student_reads, teacher_reads)]
    assert shown == ["calmabc", "LOUDxyzLOUDabchmm"]
    assert report.lengths["teacher"] > report.lengths["student"]
    with pytest.raises(DataError, match=r"has several chat templates.*chat_template"):
        prompt_source.report(local, teacher, student, data, RunConfig(), None)


def test_the_data_step_repeats_what_inspect_found_left_out():
    def shown(excluded: dict[str, int], student: str = "s") -> list[tuple[str, str]]:
        report = Reliability(excluded=excluded, answers_written=16).to_dict()
        return data_view.left_out({"teacher": "t", "student": "s", "report": report}, "t", student)

    [(kind, text)] = shown({SPECIAL_INSIDE: 12})
    assert kind == "warn" and "75% of the answers (12 of 16)" in text and "student.enable_thinking" in text
    [(kind, text)] = shown({f"{PART}<|call|>": 2})
    assert kind == "quiet" and "2 × part of an answer: <|call|>" in text
    assert shown({}) == shown({SPECIAL_INSIDE: 12}, "another") == data_view.left_out(None, "t", "s") == []
    assert data_view.left_out({"teacher": "t", "student": "s", "report": {"excluded": 3}}, "t", "s") == []


def test_a_changed_file_is_read_again(local, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "one"}\n')
    assert len(prompt_source.read(local, DataConfig(prompts=str(path)), None).prompts) == 1
    path.write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    assert len(prompt_source.read(local, DataConfig(prompts=str(path)), None).prompts) == 2


# Runs


def test_runs_are_reported_apart_by_what_differs_only(local):
    first, second = make_run(local, learning_rate=1e-4), make_run(local, learning_rate=3e-4, seed=1)
    for run, loss in ((first, 2.0), (second, 1.0)):
        for step in (1, 2, 3):
            run.append("metrics.jsonl", {"step": step, "loss": loss / step})
    rows = differing([first.config(), second.config()])
    assert rows == [("training.learning_rate", "0.0001", "0.0003"), ("training.seed", "0", "1")]
    html = compared([first, second])
    assert "training.seed" in html and "training.steps" not in html
    assert "at least two runs" in compared([first])
