"""Presets: complete, as the paper has it, and fitting the GPU they name."""

import pytest

from simct.cli.common import config_from_options
from simct.cli.main import build_parser
from simct.cli.main import main as cli
from simct.config import config_from_dict, validate
from simct.demo import PROMPTS, STUDENT, TEACHER
from simct.errors import ConfigError
from simct.estimate.machines import GIB
from simct.estimate.time_and_cost import estimate_run
from simct.presets import list_presets, load_preset
from tests.support.known_configs import known_config

QWEN, GEMMA, PHI = "Qwen/Qwen2.5-7B-Instruct", "google/gemma-2-2b-it", "microsoft/Phi-4-mini-instruct"
PAPER = {
    "qwen2.5-7b-to-gemma-2-2b": (QWEN, GEMMA),
    "qwen2.5-7b-to-phi-4-mini": (QWEN, PHI),
    "phi-4-mini-to-gemma-2-2b": (PHI, GEMMA),
}


def test_every_preset_is_a_run_with_a_description():
    described = list_presets()
    assert {*PAPER, "qwen2.5-7b-to-gemma-2-2b-released", "gpu-16gb", "gpu-24gb", "gpu-80gb", "demo-cpu"} == set(
        described
    )
    for name, description in described.items():
        assert len(description) > 20, name
        config = load_preset(name)
        assert config_from_dict(config.model_dump()) == config
        assert validate(config) is config
        assert config.output is None
    with pytest.raises(ConfigError, match="no preset 'nothing'"):
        load_preset("nothing")


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_pairs_have_the_settings_of_its_table(name):
    config = load_preset(name)
    assert (config.teacher.model, config.student.model) == PAPER[name]
    training, rollout = config.training, config.rollout
    assert (training.learning_rate, training.epochs, training.batch_size) == (1e-6, 2, 64)
    assert (training.warmup_ratio, training.schedule, training.max_length) == (0.05, "cosine", 5120)
    # its rollout length, and room for a prompt
    assert (rollout.temperature, rollout.top_p, rollout.max_new_tokens) == (0.6, 0.95, 4096)
    assert (config.method, config.divergence, config.method_options) == ("simct", "reverse_kl", {})
    assert (config.warmup.learning_rate, config.warmup.epochs) == (2e-6, 2)
    assert (config.warmup.samples_per_prompt, config.warmup.keep) == (8, "shortest")
    # steps of 1e-6 are lost where weights themselves are bfloat16
    assert config.student.dtype == "float32" and training.mixed_precision == "bf16"


def test_the_released_scripts_differ_in_how_units_are_scored():
    released, published = (
        load_preset(name) for name in ("qwen2.5-7b-to-gemma-2-2b-released", "qwen2.5-7b-to-gemma-2-2b")
    )
    assert released.method_options == {"scoring": "raw_logits"}
    training, rollout = released.training, released.rollout
    assert (training.learning_rate, training.epochs, training.max_length) == (5e-7, 1, 8192)
    assert (rollout.temperature, rollout.top_p, rollout.max_new_tokens) == (0.6, 1.0, 4096)
    released.method_options = {}
    for name in ("learning_rate", "epochs", "max_length"):
        setattr(training, name, getattr(published.training, name))
    rollout.top_p = published.rollout.top_p
    assert released == published


def test_the_demo_is_where_the_package_is():
    config = load_preset("demo-cpu")
    assert (config.teacher.model, config.student.model, config.data.prompts) == (
        str(TEACHER),
        str(STUDENT),
        str(PROMPTS),
    )


@pytest.mark.parametrize(("name", "machine"), [("gpu-16gb", "t4"), ("gpu-24gb", "l4"), ("gpu-80gb", "a100")])
def test_small_presets_fit_the_gpu_they_name(name, machine):
    config = load_preset(name)
    configs = known_config(config.teacher.model), known_config(config.student.model)
    report = estimate_run(config, machine, configs=configs, n_prompts=7473)
    assert report.hardware[0].fits, f"{report.peak / GIB:.1f} GiB"
    trained = 7473 - config.data.held_out
    assert report.steps == -(-trained // config.training.batch_size)


def test_presets_start_runs_from_the_command(capsys):
    assert cli(["presets"]) == 0
    assert "demo-cpu" in capsys.readouterr().out
    options = build_parser().parse_args(["distill", "--preset", "demo-cpu", "--steps", "3"])
    config = config_from_options(options)
    assert config.training.steps == 3 and config.student.model == str(STUDENT)
    options = build_parser().parse_args(["distill", "--preset", "gpu-16gb", "--steps", "3"])
    assert config_from_options(options).training.epochs is None
    assert cli(["distill", "--preset", "demo-cpu", "--config", "run.yaml"]) == 2
