"""run.yaml is read back exactly, and every mistake in it is one line that names the setting."""

import subprocess
import sys
import time

import pytest

from simct.cli.main import main as cli
from simct.config import (
    RunConfig,
    brief,
    brief_yaml,
    config_from_brief,
    config_from_dict,
    config_from_text,
    divergence_of,
    leaves,
    load_config,
    save_config,
    set_option,
    validate,
)
from simct.errors import ConfigError
from simct.methods import METHODS
from simct.setting import every_setting

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
        (
            {"method": "dpca", "rollout": {"on_policy_fraction": 0.5}},
            ["rollout.on_policy_fraction is 0.5", "method dpca"],
        ),
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


def test_a_missing_file_is_reported():
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
    assert {name for name, method in METHODS.items() if method.divergence is None} == {"uld", "dpca"}


# What anyone may have written into a file


HOSTILE = {
    "a date that is none": "data: {revision: 2024-99-99}\nx: 1",
    "5,000 digits": f"training: {{steps: {'1' * 5000}}}",
    "a large number in hexadecimal": f"training: {{steps: 0x{'f' * 20_000}}}",
    "deep nesting": "[" * 5000,
    "deep mappings": "{a: " * 30 + "1" + "}" * 30,
    "a bomb of aliases": "a: &a [x, x]\n" + "".join(f"b{n}: &b{n} [*a, *a, *a, *a]\n" for n in range(9)),
    "a value that is itself": "teacher: &a [*a]",
    "a Python object": "teacher: !!python/object/apply:os.system [ls]",
    "a timestamp that is none": "teacher: !!timestamp soon",
    "a number that is none": "teacher: !!int ''",
    "a list as a key": "? [1]\n: 2",
    "half a surrogate": 'teacher: "\\ud800"',
    "a null character": 'teacher: "a\\0b"',
    "a file without end": "# " + "x" * 10_000_000,
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_refused_in_one_short_line(tmp_path, case):
    (tmp_path / "run.yaml").write_text(HOSTILE[case])
    started = time.perf_counter()
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "run.yaml")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700
    assert time.perf_counter() - started < 5


def test_a_revision_that_looks_like_a_date_is_a_text(tmp_path):
    (tmp_path / "run.yaml").write_text("teacher: t\nstudent: s\ndata: {prompts: p, revision: 2024-01-31}\n")
    assert load_config(tmp_path / "run.yaml").data.revision == "2024-01-31"


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("training.epochs", "inf", "training.epochs is inf; it must be empty or above 0 and at most 10,000."),
        ("training.epochs", "nan", "training.epochs is nan; it must be empty or above 0 and at most 10,000."),
        (
            "training.batch_size",
            "1e23",
            "training.batch_size is 99999999999999991611392; it must be 1 or more and at most 65,536.",
        ),
        ("training.seed", "-1", "training.seed is -1; it must be 0 or more and at most 4,294,967,295."),
        ("training.seed", True, "training.seed: expected a whole number, got True."),
        ("training.learning_rate", 10**400, f"training.learning_rate: expected a number, got 1{'0' * 78}…."),
        ("lora.targets", ["a", {"b": 1}], "lora.targets: expected a list, got ['a', {'b': 1}]."),
        ("evaluation.tasks", {"a": 1}, "evaluation.tasks: expected a list, got {'a': 1}."),
        ("method", "x" * 100, f"method is '{'x' * 78}…; it must be one of {', '.join(METHODS)}."),
        ("data", "p.jsonl", "data: expected a mapping of settings, got 'p.jsonl'."),
    ],
)
def test_set_refuses_a_wrong_value_in_one_line(name, value, line):
    with pytest.raises(ConfigError) as caught:
        set_option(config_from_dict(MINIMAL), name, value)
    assert str(caught.value) == line


def test_set_reads_yaml_for_the_options_of_a_method():
    config = config_from_dict(MINIMAL)
    set_option(config, "method_options", "scoring: raw_logits\nmass_mask: 0.25")
    assert config.method_options == {"scoring": "raw_logits", "mass_mask": 0.25}
    with pytest.raises(ConfigError, match=r"method_options\.scoring is not valid YAML"):
        set_option(config, "method_options.scoring", "[")
    # in any order: whether options and method fit is seen at the end
    set_option(config, "method_options", "top_k: '16'")
    set_option(config, "method", "strict")
    assert config_from_dict(validate(config).model_dump()).method_options == {"top_k": 16}


def test_a_wrong_option_is_refused_with_the_run():
    with pytest.raises(ConfigError, match=r"^method_options: Unknown option 'mass' of method 'uld'"):
        config_from_dict({**MINIMAL, "method": "uld", "method_options": {"mass": 1}})
    with pytest.raises(ConfigError, match=r"^method_options\.mass_mask is 1\.5; it must be"):
        config_from_dict({**MINIMAL, "method_options": {"mass_mask": 1.5}})


def test_a_run_changed_in_place_is_checked_by_validate():
    config = config_from_dict(MINIMAL)
    config.training.steps = 0
    with pytest.raises(ConfigError, match=r"training\.steps is 0"):
        validate(config)


def test_brief_is_what_differs_and_describes_the_same_run(tmp_path):
    config = config_from_dict({**MINIMAL, "method_options": {"mass_mask": True}, "lora": {"rank": 8}})
    short = brief(config)
    assert set(short) == {"teacher", "student", "data", "method", "method_options", "lora", "training"}
    assert short["training"] == {"steps": 100, "learning_rate": 1e-5} and short["lora"] == {"rank": 8}
    assert config_from_dict(short) == config_from_brief(short) == config
    (tmp_path / "run.yaml").write_text(brief_yaml(config))
    assert load_config(tmp_path / "run.yaml") == config
    config.output = "runs/one"
    assert brief(config) == short


def test_a_description_that_nobody_vouches_for_never_fails_and_never_says_where():
    described = {
        "training": {"steps": -1, "seed": 3},
        "output": "/etc",
        "evil": {"a": {"b": 1}},
        "lora": 5,
        "data": None,
    }
    config = config_from_brief(described)
    assert (config.training.steps, config.training.seed, config.output) == (100, 3, None)
    assert config.lora == RunConfig().lora


def test_every_setting_has_a_label_a_help_text_and_limits():
    described = dict(every_setting(RunConfig))
    assert len(described) > 70
    for name, setting in described.items():
        assert 1 <= len(setting.title.split()) <= 3, name
        assert setting.help[0].isupper() or setting.help.startswith(("demo", "distill", "vLLM")), name
        assert setting.help.endswith("."), name
        assert setting.allowed or dict in setting.kinds, name
        if {int, float} & set(setting.kinds):
            # a number without an upper bound is how a slip of the keyboard fills a disk
            assert "at most" in setting.allowed or "below" in setting.allowed, name
        if setting.optional:
            assert setting.empty, name


def test_the_command_lists_every_setting(capsys):
    assert cli(["settings"]) == 0
    printed = capsys.readouterr().out
    for name in leaves(RunConfig().model_dump()):
        assert f"{name}: " in printed, name
    assert "method_options.top_k, for strict: empty or 2 or more" in printed
    assert cli(["settings", "lora.rank"]) == 0
    assert capsys.readouterr().out.startswith("lora.rank: empty or 1 or more")
    assert cli(["settings", "loras"]) == 2
    assert "There is no setting 'loras'" in capsys.readouterr().err


@pytest.mark.parametrize("code", ["import simct.config", "from simct.cli.main import build_parser; build_parser()"])
def test_a_run_is_described_without_torch(code):
    heavy = "torch", "transformers", "gradio", "datasets"
    code += f"; import sys; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "text",
    [
        "teacher: t\nstudent: s\ndata: {prompts: p}\ntraining: {steps: 3}\ntraining: {seed: 2}\n",
        "teacher: t\nstudent: s\ndata: {prompts: p}\ntraining: {steps: 3, steps: 4}\n",
    ],
)
def test_a_setting_that_is_given_twice_is_refused(text):
    with pytest.raises(ConfigError, match=r"'(training|steps)' is given twice, again in line \d") as caught:
        config_from_text(text, "'run.yaml'")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "place"), [("a: 'x", "line 1"), ("a: 1\nb: [\n", "line 3"), ("a: *x", "line 1")])
def test_where_yaml_cannot_be_read_is_said_in_plain_words(text, place):
    with pytest.raises(ConfigError, match=rf"^'run.yaml' is not valid YAML: .* \({place}, column \d+\)") as caught:
        config_from_text(text, "'run.yaml'")
    assert "unicode string" not in str(caught.value) and "while parsing" not in str(caught.value)
