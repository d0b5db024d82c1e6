"""run.yaml is read back exactly, and every mistake in it is one line that names the setting."""

import pytest

from simct.config import RunConfig, config_from_dict, divergence_of, load_config, save_config, set_option, validate
from simct.errors import ConfigError
from simct.methods import METHODS

MINIMAL = {"teacher": "a/teacher", "student": {"model": "b/student"}, "data": {"prompts": "p.jsonl"}}


def test_a_saved_run_is_read_back_equal(tmp_path):
    config = config_from_dict({**MINIMAL, "method_options": {"mass_mask": True}, "evaluation": {"tasks": ["demo"]}})
    config.training.learning_rate = 3e-5
    save_config(config, tmp_path / "run.yaml")
    assert load_config(tmp_path / "run.yaml") == config


def test_a_model_may_be_given_by_name_alone():
    config = config_from_dict(MINIMAL)
    assert (config.teacher.model, config.student.model) == ("a/teacher", "b/student")


def test_scientific_notation_that_yaml_reads_as_text_is_a_number(tmp_path):
    (tmp_path / "run.yaml").write_text("teacher: t\nstudent: s\ndata: {prompts: p}\ntraining: {learning_rate: 1e-6}\n")
    assert load_config(tmp_path / "run.yaml").training.learning_rate == 1e-6


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"teacher": ""}, ["teacher.model", "Hub id"]),
        ({"data": {"prompts": ""}}, ["data.prompts"]),
        ({"methd": "simct"}, ["'methd'", "method"]),
        ({"method": "magic"}, ["'magic'", "simct", "strict"]),
        ({"divergence": "l2"}, ["'l2'", "reverse_kl"]),
        ({"training": {"steps": 0}}, ["training.steps", "0"]),
        ({"training": {"steps": 1.5}}, ["training.steps", "whole number"]),
        ({"training": {"steps": float("inf")}}, ["training.steps", "whole number"]),
        ({"training": {"steps": "nan"}}, ["training.steps", "whole number"]),
        ({"training": {"learning_rate": "fast"}}, ["training.learning_rate", "'fast'"]),
        ({"training": {"learning_rate": 2}}, ["training.learning_rate", "2"]),
        ({"training": {"warmup_ratio": 1.5}}, ["training.warmup_ratio"]),
        ({"training": {"speed": 1}}, ["'training.speed'"]),
        ({"training": 5}, ["training", "5"]),
        ({"rollout": {"temperature": 0}}, ["rollout.temperature"]),
        ({"rollout": {"top_p": 1.2}}, ["rollout.top_p", "1.2"]),
        ({"rollout": {"max_new_tokens": 9000}}, ["training.max_length", "9000"]),
        ({"rollout": {"samples_per_prompt": 3}}, ["training.batch_size", "multiple"]),
        ({"student": {"model": "s", "dtype": "int3"}}, ["student.dtype", "int3"]),
        ({"training": {"gradient_checkpointing": "maybe"}}, ["gradient_checkpointing", "true or false"]),
    ],
)
def test_a_bad_setting_is_named_with_its_value(changes, words):
    with pytest.raises(ConfigError) as caught:
        config_from_dict({**MINIMAL, **changes})
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text


@pytest.mark.parametrize("text", ["teacher: [", "- a\n- b\n", "\x00"])
def test_a_file_that_is_not_a_configuration_is_refused(tmp_path, text):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ConfigError):
        load_config(tmp_path / "run.yaml")


def test_a_missing_file_is_told():
    with pytest.raises(ConfigError, match="Cannot read"):
        load_config("no/such/run.yaml")


def test_set_reaches_any_field():
    config = config_from_dict(MINIMAL)
    for setting in ("training.steps=7", "rollout.top_p=1", "method_options.mass_mask=true", "data.limit=none"):
        name, _, value = setting.partition("=")
        set_option(config, name, value)
    set_option(config, "evaluation.tasks", "demo, other.jsonl")
    assert config.training.steps == 7
    assert config.rollout.top_p == 1.0
    assert config.method_options == {"mass_mask": True}
    assert config.data.limit is None
    assert config.evaluation.tasks == ["demo", "other.jsonl"]


@pytest.mark.parametrize("name", ["training.step", "nowhere.steps", "steps", "training.steps.more"])
def test_set_refuses_what_does_not_exist(name):
    with pytest.raises(ConfigError, match="Unknown setting"):
        set_option(config_from_dict(MINIMAL), name, "1")


def test_defaults_lack_only_the_models_and_the_prompts():
    config = RunConfig()
    config.teacher.model = config.student.model = config.data.prompts = "x"
    assert validate(config) is config
    assert config_from_dict(config.model_dump()) == config


def test_a_method_keeps_its_own_divergence_unless_one_is_named():
    config = config_from_dict(MINIMAL)
    for name, method in METHODS.items():
        config.method, config.divergence = name, None
        assert divergence_of(config) == method.divergence
        config.divergence = "js"
        assert divergence_of(config) == ("js" if method.divergence else None)
    assert {name for name, method in METHODS.items() if method.divergence is None} == {"uld"}
