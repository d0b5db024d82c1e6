"""What `auto` becomes: by the checkpoint, by the device, and the same again when a run is resumed."""

import shutil
import time

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig

from simct.config import config_from_dict, load_run_config, save_config
from simct.config.precision import Precision, precision_text
from simct.config.sections import ModelConfig
from simct.errors import RunError
from simct.estimate.machines import find_machine
from simct.estimate.time_and_cost import estimate_run
from simct.losses.head import decoder_of
from simct.models import precision
from simct.models.loading import load_model
from simct.models.precision import (
    computing_in,
    cpu_prefers_bfloat16,
    precision_of,
    read_dtype,
    resolved,
    stored_dtype,
    weights_in,
)
from simct.report.text import format_estimate
from simct.runs.changes import accepted_changes
from simct.runs.checkpoints import CONFIG_FILE, STEP_FILE, TRAINED_FILE
from simct.runs.folder import RunFolder
from simct.training.precision import recorded, with_precision
from tests.support.known_configs import known_config

FLOAT, BRAIN, HALF = LlamaConfig(dtype="float32"), LlamaConfig(dtype=torch.bfloat16), LlamaConfig(dtype="float16")


def new_run(teacher="auto", student="auto", mixed="auto", folders=("t", "s"), **settings):
    return config_from_dict(
        {
            "teacher": {"model": folders[0], "dtype": teacher},
            "student": {"model": folders[1], "dtype": student},
            "data": {"prompts": "p"},
            "training": {"mixed_precision": mixed},
            **settings,
        }
    )


@pytest.fixture
def fast(monkeypatch):
    """Say whether this machine's CPU is fast in bfloat16."""

    def say(answer):
        monkeypatch.setattr(precision, "cpu_prefers_bfloat16", lambda: answer)

    return say


@pytest.fixture(scope="module")
def brain_folders(folders, tmp_path_factory):
    """The random pair with checkpoints in bfloat16."""
    copies = []
    for folder, name in zip(folders, ("teacher", "student"), strict=True):
        copy = tmp_path_factory.mktemp("brain") / name
        shutil.copytree(folder, copy)
        load_model(ModelConfig(model=folder, dtype="bfloat16")).save_pretrained(copy)
        copies.append(str(copy))
    return copies


def test_the_checkpoints_format_is_read_from_its_config():
    assert [stored_dtype(each) for each in (FLOAT, BRAIN, HALF)] == ["float32", "bfloat16", "float16"]
    assert stored_dtype(LlamaConfig()) == "float32"
    assert stored_dtype(LlamaConfig(dtype="float8_e4m3fn")) == "float32"


@pytest.mark.parametrize(
    ("stored", "kind", "computes", "expected"),
    [
        ("bfloat16", "cuda", True, "bfloat16"),
        ("bfloat16", "cuda", False, "float32"),
        ("bfloat16", "cpu", True, "bfloat16"),
        ("bfloat16", "cpu", False, "float32"),
        ("float32", "cuda", True, "float32"),
        ("float16", "cuda", True, "float16"),
        ("float16", "cpu", True, "float32"),
    ],
)
def test_a_model_that_is_read_keeps_16_bits_where_the_device_computes_in_them(stored, kind, computes, expected):
    assert read_dtype(stored, kind, lambda: computes) == expected


@pytest.mark.parametrize(
    ("run", "configs", "kind", "computes", "expected"),
    [
        (new_run(), (BRAIN, BRAIN), "cuda", True, (("bfloat16",), "float32", "bf16")),
        (new_run(), (BRAIN, FLOAT), "cuda", True, (("bfloat16",), "float32", "bf16")),
        (new_run(), (BRAIN, BRAIN), "cuda", False, (("float32",), "float32", "no")),
        (new_run(), (BRAIN, BRAIN), "cpu", True, (("bfloat16",), "float32", "bf16")),
        (new_run(), (BRAIN, FLOAT), "cpu", True, (("bfloat16",), "float32", "no")),
        (new_run(), (BRAIN, BRAIN), "cpu", False, (("float32",), "float32", "no")),
        (new_run(), (None, BRAIN), "cuda", True, (("float32",), "float32", "bf16")),
        (new_run(), (BRAIN, BRAIN), "mps", None, (("float32",), "float32", "no")),
        # what is given stays, and so does the arithmetic of a student whose dtype is given
        (new_run("float32", "float32"), (BRAIN, BRAIN), "cuda", True, (("float32",), "float32", "no")),
        (new_run("auto", "bfloat16"), (BRAIN, BRAIN), "cuda", True, (("bfloat16",), "bfloat16", "no")),
        (new_run("float16", "auto", "no"), (BRAIN, BRAIN), "cuda", True, (("float16",), "float32", "no")),
        (new_run("auto", "float32", "bf16"), (BRAIN, BRAIN), "cuda", True, (("bfloat16",), "float32", "bf16")),
    ],
)
def test_formats_follow_from_checkpoints_and_device(run, configs, kind, computes, expected):
    found = precision_of(run, configs, kind, computes)
    assert found == Precision(*expected) and not found.open
    assert Precision.of(resolved(run, configs, kind, computes)) == found
    # the run itself stays as it was described
    assert Precision.of(run).open or resolved(run, configs, kind, computes) is run


def test_a_teacher_elsewhere_counts_by_its_own_device(fast):
    fast(False)
    run = new_run()
    run.teacher.device = "cpu"
    assert precision_of(run, (BRAIN, BRAIN), "cpu").teachers == ("float32",)
    run.teacher.device = "auto"
    fast(True)
    assert precision_of(run, (BRAIN, BRAIN), "cpu").teachers == ("bfloat16",)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU of its own")
def test_gpus_elsewhere_compute_in_bfloat16():
    assert precision.computes_bfloat16("cuda") and not precision.computes_bfloat16("meta")


def test_the_probe_takes_half_a_second_once():
    cpu_prefers_bfloat16.cache_clear()
    started = time.process_time()
    first = cpu_prefers_bfloat16()
    assert isinstance(first, bool) and time.process_time() - started < 5
    started = time.perf_counter()
    assert cpu_prefers_bfloat16() == first and time.perf_counter() - started < 0.01


@pytest.mark.parametrize("answer", [True, False])
def test_models_are_loaded_in_what_suits_them(brain_folders, folders, fast, answer):
    fast(answer)
    assert load_model(ModelConfig(model=brain_folders[0])).dtype == (torch.bfloat16 if answer else torch.float32)
    assert load_model(ModelConfig(model=brain_folders[0], dtype="float32")).dtype == torch.float32
    assert load_model(ModelConfig(model=folders[0])).dtype == torch.float32


def test_weights_are_rounded_for_a_while_and_come_back(folders):
    model = load_model(ModelConfig(model=folders[1], dtype="float32"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ids = torch.tensor([[5, 6, 7]])
    expected = load_model(ModelConfig(model=folders[1], dtype="bfloat16"))(ids).logits
    with pytest.raises(ZeroDivisionError), weights_in(model, torch.bfloat16):
        assert {each.dtype for each in model.parameters()} == {torch.bfloat16} and model.dtype == torch.bfloat16
        with torch.no_grad():
            assert torch.equal(model(ids).logits, expected)
        raise ZeroDivisionError
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model(ids).logits.sum().backward()
    assert {each.grad.dtype for each in model.parameters()} == {torch.float32}


def test_a_resumed_run_keeps_what_it_was_trained_in(brain_folders, tmp_path, fast):
    fast(True)
    run = RunFolder.create(tmp_path, new_run(folders=brain_folders))
    first = with_precision(run, run.config(), False, None)
    assert Precision.of(first) == Precision(("bfloat16",), "float32", "bf16")
    run.set_status(precision=Precision.of(first).to_dict())
    fast(False)
    assert with_precision(run, run.config(), True, None) == first
    assert Precision.of(run.trained_config()) == Precision.of(first)
    # a run that starts over chooses again
    assert Precision.of(with_precision(run, run.config(), False, None)).teachers == ("float32",)
    # on another machine there is only the checkpoint
    run.set_status(precision={"teachers": [3], "student": "float32", "mixed_precision": "no"})
    assert recorded(run) is None
    checkpoint = run.checkpoints_dir / "step-2"
    checkpoint.mkdir(parents=True)
    (checkpoint / STEP_FILE).write_text('{"step": 2}')
    save_file({"weight": torch.zeros(1)}, checkpoint / TRAINED_FILE)
    save_config(first, checkpoint / CONFIG_FILE)
    assert recorded(run) == Precision.of(first)
    assert with_precision(run, run.config(), True, None) == first
    # which a run.yaml with auto does not contradict, and one with another dtype does
    assert accepted_changes(checkpoint / CONFIG_FILE, run.config()) == []
    edited = load_run_config(run.path / "run.yaml")
    edited.teacher.dtype = "float32"
    with pytest.raises(RunError, match=r"teacher\.dtype"):
        accepted_changes(checkpoint / CONFIG_FILE, edited)


def test_explicit_formats_are_never_touched(folders, tmp_path):
    run = RunFolder.create(tmp_path, new_run("float32", "float32", "no", folders=folders))
    config = run.config()
    assert with_precision(run, config, False, None) is config


def test_the_estimate_says_what_each_machine_computes_in():
    configs = known_config("Qwen/Qwen2.5-7B-Instruct"), known_config("HuggingFaceTB/SmolLM2-360M-Instruct")
    for each in configs:
        each.dtype = "bfloat16"
    report = estimate_run(new_run(), configs=configs)
    rows = {row.name: row for row in report.hardware}
    assert rows["h100"].precision == "student float32 in bfloat16 arithmetic, teacher bfloat16"
    assert rows["t4"].precision == "student float32, teacher float32"
    assert find_machine("t4").bfloat16 is False and find_machine("cpu").kind == "cpu"
    text = format_estimate(report)
    assert f"precision  {rows['t4'].precision} (t4)" in text
    whole, open_ = (estimate_run(run, "h100", configs=configs) for run in (new_run("float32", "float32"), new_run()))
    # a teacher of 7.6 billion parameters, in half the bytes
    assert whole.parts["teacher weights"] == 2 * open_.parts["teacher weights"]


def test_each_of_several_teachers_has_its_own_format():
    teachers = [{"model": "a"}, {"model": "b", "dtype": "float16"}, {"model": "c"}]
    run = config_from_dict({"teachers": teachers, "student": "s", "data": {"prompts": "p"}})
    found = precision_of(run, (BRAIN, BRAIN, FLOAT, BRAIN), "cuda", True)
    assert found == Precision(("bfloat16", "float16", "float32"), "float32", "bf16")
    filled = found.filled(run)
    assert [teacher.dtype for teacher in filled.teachers] == ["bfloat16", "float16", "float32"]
    assert filled.teacher == run.teacher and Precision.from_dict(found.to_dict()) == found
    assert precision_text(filled).endswith("teachers bfloat16, float16, float32")


def test_what_watches_the_gradients_of_weights_still_does_after_they_were_rounded(folders):
    """DDP averages gradients over the processes in such hooks."""
    model = load_model(ModelConfig(model=folders[1], dtype="float32"))
    heard = []
    # as DDP has it: the nodes that add to the gradients, kept from the start
    nodes = [each.view_as(each).grad_fn.next_functions[0][0] for each in model.parameters()]
    for node in nodes:
        node.register_hook(lambda *gradients: heard.append(1))
    for context in (weights_in(model, torch.bfloat16), computing_in(decoder_of(model), torch.bfloat16)):
        with context, torch.no_grad():
            decoder_of(model)(torch.tensor([[5, 6, 7]]))
        heard.clear()
        model(torch.tensor([[5, 6, 7]])).logits.sum().backward()
        assert len(heard) == len(nodes)


def test_a_decoder_computes_in_rounded_weights_and_its_own_learn(folders):
    model = load_model(ModelConfig(model=folders[1], dtype="float32"))
    decoder, ids = decoder_of(model), torch.tensor([[5, 6, 7, 6]])
    own = dict(decoder.named_parameters())
    before = {name: value.clone() for name, value in own.items()}
    exact_BLH = decoder(ids).last_hidden_state
    weight_BLH = torch.linspace(-1, 1, exact_BLH.numel()).view_as(exact_BLH)
    (exact_BLH * weight_BLH).sum().backward()
    exact = {name: each.grad.clone() for name, each in own.items()}
    model.zero_grad()
    with computing_in(decoder, torch.bfloat16):
        weights = {each.dtype for name, each in decoder.named_parameters() if "embed" not in name}
        assert weights == {torch.bfloat16} and decoder.get_input_embeddings().weight.dtype == torch.float32
        hidden_BLH = decoder(ids).last_hidden_state
        assert hidden_BLH.dtype == torch.bfloat16
        torch.testing.assert_close(hidden_BLH.float(), exact_BLH, rtol=0.05, atol=0.05)
        (hidden_BLH * weight_BLH).sum().backward()
        once = {name: each.grad.clone() for name, each in own.items()}
        # a second pass of the step, by the same rounded weights
        (decoder(ids).last_hidden_state * weight_BLH).sum().backward()
    assert all(each is own[name] and torch.equal(each, before[name]) for name, each in decoder.named_parameters())
    for name, each in own.items():
        assert each.grad.dtype == torch.float32
        assert (once[name] - exact[name]).norm() < 0.05 * exact[name].norm() + 1e-6, name
        torch.testing.assert_close(each.grad, 2 * once[name])
    assert torch.equal(decoder(ids).last_hidden_state, exact_BLH)


def test_what_a_model_keeps_in_float32_is_not_rounded(folders):
    decoder = decoder_of(load_model(ModelConfig(model=folders[1], dtype="float32")))
    decoder._keep_in_fp32_modules_strict = {"norm"}
    with pytest.raises(ZeroDivisionError), computing_in(decoder, torch.bfloat16):
        assert (
            decoder.norm.weight.dtype == torch.float32 and decoder.layers[0].mlp.up_proj.weight.dtype != torch.float32
        )
        raise ZeroDivisionError
    assert {each.dtype for each in decoder.parameters()} == {torch.float32}
    assert not decoder.get_input_embeddings()._forward_hooks
