"""Presets: complete, as the paper has it, and fitting the GPU they name; the data script on local stand-ins."""

import json

import pytest

from simct import losses
from simct.cli.common import config_from_options
from simct.cli.main import build_parser
from simct.cli.main import main as cli
from simct.config import config_from_dict, config_to_dict
from simct.demo import PROMPTS, STUDENT, TEACHER
from simct.errors import ConfigError, DataError
from simct.estimate.machines import GIB
from simct.estimate.time_and_cost import estimate_run
from simct.presets import list_presets, load_preset
from tests.support.known_configs import known_config
from tools.build_data import SOURCES, Source, build, main

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
        assert config_from_dict(config_to_dict(config)) == config
        losses._method(config.method, config.method_options)
        assert config.output is None
    with pytest.raises(ConfigError, match="no preset 'nothing'"):
        load_preset("nothing")


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_pairs_have_the_settings_of_its_table(name):
    config = load_preset(name)
    assert (config.teacher.model, config.student.model) == PAPER[name]
    training, rollout = config.training, config.rollout
    assert (training.learning_rate, training.epochs, training.batch_size) == (1e-6, 2, 64)
    assert (training.warmup_ratio, training.schedule, training.max_length) == (0.05, "cosine", 4096)
    assert (rollout.temperature, rollout.top_p) == (0.6, 0.95)
    assert (config.method, config.divergence, config.method_options) == ("simct", "reverse_kl", {})
    assert (config.warmup.learning_rate, config.warmup.epochs) == (2e-6, 2)
    # steps of 1e-6 are lost where weights themselves are bfloat16
    assert config.student.dtype == "float32" and training.mixed_precision == "bf16"


def test_the_released_scripts_differ_in_how_units_are_scored():
    released, published = (
        load_preset(name) for name in ("qwen2.5-7b-to-gemma-2-2b-released", "qwen2.5-7b-to-gemma-2-2b")
    )
    assert released.method_options == {"scoring": "raw_logits", "mass_mask": 0.5}
    released.method_options = {}
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
    assert report.steps == -(-7473 // config.training.batch_size)


def test_presets_start_runs_from_the_command(capsys):
    assert cli(["presets"]) == 0
    assert "demo-cpu" in capsys.readouterr().out
    options = build_parser().parse_args(["distill", "--preset", "demo-cpu", "--steps", "3"])
    config = config_from_options(options)
    assert config.training.steps == 3 and config.student.model == str(STUDENT)
    options = build_parser().parse_args(["distill", "--preset", "gpu-16gb", "--steps", "3"])
    assert config_from_options(options).training.epochs is None
    assert cli(["distill", "--preset", "demo-cpu", "--config", "run.yaml"]) == 2


@pytest.fixture
def stand_ins(tmp_path):
    """Sources as the real ones are, with few rows: maths 30 and 10 (5 of them in both), code 8 and 40."""
    counts = {"gsm8k": 30, "orca": 10, "mbpp": 8, "alpaca": 40}
    sources = []
    for (name, count), real in zip(counts.items(), SOURCES, strict=True):
        rows = [{real.column: f"{name} {number}", real.answer_column: f"a{number}"} for number in range(count)]
        if name == "orca":
            for number in range(5):
                rows[number][real.column] = f"GSM8K  {number}"
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        sources.append(Source(str(path), real.kind, real.share, real.column, real.answer_column))
    return tuple(sources)


def test_the_mix_has_both_kinds_and_each_prompt_once(stand_ins):
    rows = build(40, seed=1, sources=stand_ins)
    assert len(rows) == 40 and sum(row["kind"] == "maths" for row in rows) == 20
    assert len({" ".join(row["prompt"].split()).lower() for row in rows}) == 40
    by_source = {source.dataset: sum(row["source"] == source.dataset for row in rows) for source in stand_ins}
    # Orca cannot give its ten once what GSM8K has too is gone, and GSM8K makes up for it
    assert list(by_source.values()) == [15, 5, 2, 18]
    assert all(row["answer"].startswith("a") for row in rows)


def test_the_mix_is_decided_by_the_seed(stand_ins):
    assert build(40, 1, stand_ins) == build(40, 1, stand_ins) != build(40, 2, stand_ins)
    with pytest.raises(DataError, match="35 different prompts, 36 were asked for"):
        build(72, 1, stand_ins)


def test_the_script_writes_what_a_run_reads(stand_ins, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("tools.build_data.SOURCES", stand_ins)
    monkeypatch.setattr(build, "__defaults__", (0, stand_ins, None))
    output = tmp_path / "data" / "mix.jsonl"
    assert main(["--output", str(output), "--size", "30"]) == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(rows) == 30 and set(rows[0]) == {"prompt", "answer", "kind", "source"}
    assert main(["--output", str(output), "--size", "1000"]) == 2
    assert "Ask for fewer" in capsys.readouterr().err
