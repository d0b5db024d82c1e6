"""Data, Train, Compare and the runs side by side: what the studio keeps, tells and refuses, without a browser."""

import gradio as gr
import pytest

from app.compare import answers as compare_models
from app.compare import view as compare_view
from app.compare.answers import Answer
from app.data import choice as data_choice
from app.data import source as data_source
from app.data import view as data_view
from app.runs.compare import compared, differing
from app.server.settings import Settings
from app.server.work import Work
from app.train import estimate as estimate_view
from app.train import form as run_form
from app.train import prepare as launch
from app.train.form import method_line
from simct import demo
from simct.config import DataConfig, load_config, validate
from simct.errors import ConfigError, DataError
from simct.estimate.time_and_cost import STARTING_SECONDS
from simct.presets import list_presets, load_preset
from simct.runs.folder import RunFolder
from simct.tokenization.pair import TokenizerPair

HOSTILE = '<img src=x onerror="alert(1)"><script>alert(2)</script>'
PAIR = (str(demo.TEACHER), str(demo.STUDENT))


@pytest.fixture
def settings(tmp_path):
    return Settings(runs_dir=tmp_path / "runs", public=False)


@pytest.fixture(scope="module")
def form():
    with gr.Blocks():
        return run_form.settings_form(lambda: None)


@pytest.fixture(scope="module")
def pair():
    return TokenizerPair.from_pretrained(*PAIR)


def make_run(settings: Settings, **changes) -> RunFolder:
    config = run_form.starting_config()
    for name, value in changes.items():
        setattr(config.training, name, value)
    return RunFolder.create(settings.runs_dir, config)


# The form and run.yaml


@pytest.mark.parametrize("name", list_presets())
def test_every_preset_goes_through_the_form_and_its_file_and_comes_back(form, tmp_path, name):
    config = load_preset(name)
    again = form.config(
        run_form.kept(config), config.teacher.model, config.student.model, config.data, form.shown(config)
    )
    assert again == config
    path = tmp_path / "run.yaml"
    path.write_text(run_form.brief_yaml(config))
    assert load_config(path) == config


def test_settings_that_no_field_shows_are_kept(form):
    config = load_preset("demo-cpu")
    config.training.freeze, config.warmup.epochs = ["embed"], 7.0
    again = form.config(run_form.kept(config), *PAIR, config.data, form.shown(config))
    assert again.training.freeze == ["embed"] and again.warmup.epochs == 7.0


def test_what_the_browser_kept_is_never_trusted(form):
    kept = {"training": {"steps": "many", "learning_rate": 0.5, "unknown": 1}, "evil": {"a": 1}, "method": "simct"}
    config = run_form.base_config(kept)
    assert config.training.learning_rate == 0.5 and config.training.steps == 100
    data = data_source.data_config({"prompts": "a/b", "limit": 5, "source": "x", "__class__": "y", "column": ""})
    assert data == DataConfig(prompts="a/b", limit=5)


def test_an_error_stands_beside_its_field_and_goes_when_it_is_mended(form):
    config = load_preset("demo-cpu")
    values = form.shown(config)
    place = list(form.fields).index("training.steps")
    values[place] = 0
    with pytest.raises(ConfigError) as caught:
        validate(form.config(None, *PAIR, config.data, values))
    wrong, *marks = form.marked(None, str(caught.value))
    assert wrong == "training.steps"
    assert "must be 1 or more" in marks[place]["info"] and marks[place]["elem_classes"] == ["wrong"]
    wrong, *marks = form.marked("training.steps", "")
    assert wrong is None and marks[place]["info"] == form.infos["training.steps"] and marks[place]["elem_classes"] == []


@pytest.mark.parametrize("text", ["- a", "a: [", "just words"])
def test_method_options_must_be_settings(form, text):
    values = form.shown(load_preset("demo-cpu"))
    values[list(form.fields).index("method_options")] = text
    with pytest.raises(ConfigError, match="method_options") as caught:
        form.config(None, *PAIR, DataConfig(), values)
    assert form.marked(None, str(caught.value))[0] == "method_options"


def test_a_method_is_told_to_be_measured_only_when_it_was():
    told, button = method_line(None, *PAIR, "simct")
    assert "not been measured" in told and button.visible
    known = {"teacher": PAIR[0], "student": PAIR[1], "method": "marginal", "words": f"why {HOSTILE}"}
    told, button = method_line(known, *PAIR, "simct")
    assert "marginal suits it better" in told and "<img" not in told and not button.visible
    assert "note-ok" in method_line(known, *PAIR, "marginal")[0]
    assert "not been measured" in method_line({**known, "student": "other"}, *PAIR, "simct")[0]


def test_estimates_follow_the_fields(settings):
    config = load_preset("demo-cpu")
    report = estimate_view.estimate(settings, config, None)
    config.training.steps *= 10
    longer = estimate_view.estimate(settings, config, None)
    start = STARTING_SECONDS / 3600
    assert longer["hardware"][0]["hours"] - start == pytest.approx(10 * (report["hardware"][0]["hours"] - start))
    assert longer["here"]["hours"] > 0 and longer["here"]["cost"] == 0
    config.training.micro_batch_size, config.rollout.max_new_tokens = 4, 400
    assert estimate_view.estimate(settings, config, None)["peak"] != report["peak"]
    html = estimate_view.view(report)
    assert "150 steps" in html and "this machine" in html and "a100" in html


def test_launching_pins_nothing_local_and_refuses_what_cannot_run(settings):
    config = load_preset("demo-cpu")
    assert launch.ready(settings, config, None).data.revision is None
    config.data.prompts = str(settings.runs_dir / "absent.jsonl")
    with pytest.raises(DataError, match="no file"):
        launch.ready(settings, config, None)


# Data


def chosen(settings, before, source, path=None, name="", described=None, column="", answer="", **more):
    fields = {"config": None, "split": "train", "system": more.get("system", ""), "limit": more.get("limit")}
    return data_choice.settled(
        settings, before, described or {}, source, path, name, fields["config"], fields["split"], column, answer,
        fields["system"], fields["limit"],
    )  # fmt: skip


def test_columns_and_facts_of_a_source_that_was_left_are_dropped(settings):
    facts = {"id": "a/b", "revision": "c0ffee", "license": "mit", "configs": {None: {"train": 7}}}
    hub = chosen(settings, data_choice.START, data_choice.HUB, name="a/b", described=facts)
    assert (hub["prompts"], hub["revision"], hub["rows"]) == ("a/b", "c0ffee", 7) and "column" not in hub
    mapped = chosen(settings, hub, data_choice.HUB, name="a/b", described=facts, column="q", answer="r")
    assert data_source.data_config(mapped) == DataConfig("a/b", revision="c0ffee", column="q", answer_column="r")
    other = chosen(settings, mapped, data_choice.HUB, name="a/other", described=facts, column="q")
    assert other["revision"] is None and "column" not in other
    assert chosen(settings, mapped, data_choice.EMBEDDED)["prompts"] == str(demo.PROMPTS)
    assert chosen(settings, {"source": data_choice.HUB}, data_choice.UPLOAD)["prompts"] == ""


def test_the_choice_comes_back_after_a_reload(settings):
    kept = {"source": data_choice.HUB, "prompts": "a/b", "split": "test", "system": "Be kind.", "limit": 3}
    source, dataset, _, split, system, limit, _ = data_choice.restored(kept)
    assert (source, dataset["value"], split["value"], system, limit) == (data_choice.HUB, "a/b", "test", "Be kind.", 3)
    assert data_choice.restored({"source": "<b>"})[0] == data_choice.EMBEDDED
    assert data_choice.kept(DataConfig(str(demo.PROMPTS)))["source"] == data_choice.EMBEDDED
    assert data_choice.kept(DataConfig("a/b"))["source"] == data_choice.HUB


def test_rows_and_readings_are_escaped_and_hold_every_token(settings, pair, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "%s", "note": "%s"}\n' % ((HOSTILE.replace('"', "'"),) * 2))
    source = data_source.read(settings, DataConfig(str(path)), None)
    for html in (data_view.rows_table(source), data_view.both_readings(pair, source.prompts[0])):
        assert "&lt;" in html and "<img" not in html and "<script" not in html
    from simct.data.templates import prompt_ids

    ids = prompt_ids(pair.student.tokenizer, source.prompts[0].messages)
    assert data_view.both_readings(pair, source.prompts[0]).split("</section>")[0].count("<i ") == len(ids)


def test_a_changed_file_is_read_again(settings, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "one"}\n')
    assert len(data_source.read(settings, DataConfig(str(path)), None).prompts) == 1
    path.write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    assert len(data_source.read(settings, DataConfig(str(path)), None).prompts) == 2


# Compare


def test_answers_are_written_colored_and_stopped(settings):
    run = make_run(settings)
    state: dict[str, Answer] = {}
    question = "Say it plainly: The constable may sell the light key on Saturday."
    compare_models.write(settings, run, question, ["before", "teacher"], 0.0, 32, None, state, Work())
    assert state["teacher"].ended and "officer" in state["teacher"].text
    assert b"".join(unit["bytes"] for unit in state["before"].units).decode() == state["before"].text
    assert len(compare_models._kept) <= compare_models.MOST
    html = compare_view.cards(state)
    assert html.count("<section") == 2 and 'class="ag-' in html
    stopped, task = {}, Work()
    task.stop()
    with pytest.raises(Exception, match="Canceled"):
        compare_models.write(settings, run, question, ["before"], 0.0, 32, None, stopped, task)
    assert stopped["before"].ids == []


def test_only_models_that_are_there_are_offered(settings):
    run = make_run(settings)
    assert [side for _, side in compare_models.sides_of(settings, run, run.config(), None)] == ["before", "teacher"]
    run.model_dir.mkdir()
    (run.model_dir / "config.json").write_text("{}")
    for step, told in ((24, "Student after"), (80, "Student after 24 steps")):
        run.set_status(step=step, model_step=24)
        offered = dict(map(reversed, compare_models.sides_of(settings, run, run.config(), None)))
        assert offered["after"] == told


def test_answers_are_escaped():
    units = [{"bytes": HOSTILE.encode(), "student": 1, "teacher": 2, "probability": 0.2}]
    for answer in (Answer([1], HOSTILE), Answer([1], "x", units=units)):
        html = compare_view.cards({"after": answer})
        assert "&lt;img" in html and "<img" not in html and "<script" not in html


def test_likely_units_are_counted_and_each_says_how_likely_it_is():
    shades = {"likely": 0.5, "fair": 0.49, "rare": 0.05, "never": 1e-9}
    units = [{"bytes": b"a", "student": 2, "teacher": 1, "probability": value} for value in shades.values()]
    html = compare_view.cards({"before": Answer([1], "aaaa", units=units)})
    assert "1 of 4 units likely" in html and "49.00% a token, 2×1 tokens" in html
    assert all(html.count(f'<i class="ag-{shade}" title') == 1 for shade in shades)


# Runs


def test_runs_are_told_apart_by_what_differs_only(settings):
    first, second = make_run(settings, learning_rate=1e-4), make_run(settings, learning_rate=3e-4, seed=1)
    for run, loss in ((first, 2.0), (second, 1.0)):
        for step in (1, 2, 3):
            run.append("metrics.jsonl", {"step": step, "loss": loss / step})
    rows = differing([first.config(), second.config()])
    assert rows == [("training.learning_rate", "0.0001", "0.0003"), ("training.seed", "0", "1")]
    html = compared([first, second])
    assert "training.seed" in html and "training.steps" not in html and html.count("<polyline") == 2
    assert "two runs or more" in compared([first])
