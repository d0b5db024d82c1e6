"""A model whose logits would be computed wrongly is refused in one line, before anything is trained or measured."""

import importlib.util
import json
import signal

import pytest
import torch
from accelerate.state import AcceleratorState
from transformers import LlamaConfig, LlamaForCausalLM

from app.server import weights
from app.server.studio import Studio
from app.server.work import Work
from simct.cli.main import main as command
from simct.config import config_from_dict
from simct.config.sections import ModelConfig
from simct.errors import ModelError
from simct.inspection.reliability import measure_pair
from simct.losses.head import check_head
from simct.models.loading import load_model
from simct.runs.folder import RunFolder
from simct.train import main as train_main
from tests.support.random_pair import save_pair
from tests.support.unknown_architecture import LouderConfig, LouderForCausalLM, registered, save_louder

REFUSED = r"LouderForCausalLM turns hidden states into logits in a way that is not known here"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The paths of a teacher and a student, known and unknown."""
    folder = tmp_path_factory.mktemp("pair")
    known = save_pair(folder)
    unknown = [save_louder(path, folder / f"louder-{number}") for number, path in enumerate(known)]
    with registered():
        yield dict(zip(("teacher", "student"), zip(known, unknown, strict=True), strict=True))


@pytest.fixture(autouse=True)
def restored():
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    AcceleratorState._reset_state(True)


def new_config(folders, tmp_path, unknown_side, **settings):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("\n".join(json.dumps({"prompt": text, "answer": text}) for text in ("the cat", "a 12")))
    models = {side: paths[side == unknown_side] for side, paths in folders.items()}
    training = {"steps": 1, "batch_size": 2, "micro_batch_size": 2}
    rollout = {"max_new_tokens": 4, "temperature": 1.0}
    data = {"prompts": str(prompts)}
    return config_from_dict(models | {"data": data, "training": training, "rollout": rollout} | settings)


@pytest.mark.parametrize(
    ("unknown_side", "settings"),
    [
        ("teacher", {}),
        ("student", {}),
        ("student", {"lora": {"rank": 2}}),
        ("student", {"kind": "warmup", "warmup": {"checker": "none", "max_new_tokens": 4}}),
    ],
)
def test_a_run_fails_with_one_line_and_trains_nothing(folders, tmp_path, capsys, unknown_side, settings):
    run = RunFolder.create(tmp_path / "runs", new_config(folders, tmp_path, unknown_side, **settings))
    assert train_main([str(run.path / "run.yaml")]) == 2
    status = run.status()
    assert status.state == "failed" and status.step == 0
    assert status.error.startswith(REFUSED) and status.error in capsys.readouterr().err.splitlines()
    written = {path.name for path in run.path.iterdir()}
    assert not written & {"checkpoints", "metrics.jsonl", "rollouts.jsonl", "samples", "data", "model"}


def test_the_same_run_trains_with_models_that_are_known(folders, tmp_path):
    run = RunFolder.create(tmp_path / "runs", new_config(folders, tmp_path, unknown_side=None))
    assert train_main([str(run.path / "run.yaml")]) == 0
    assert run.status().state == "finished" and run.model_dir.is_dir()


@pytest.mark.parametrize("unknown_side", ["teacher", "student"])
def test_nothing_is_measured(folders, tmp_path, unknown_side):
    config = new_config(folders, tmp_path, unknown_side)
    progress = []
    with pytest.raises(ModelError, match=REFUSED):
        measure_pair(config, samples=2, on_progress=lambda done, total: progress.append(done))
    assert progress in ([], [0])


def test_the_command_scores_nothing(folders, tmp_path, capsys):
    teacher, student = folders["teacher"][1], folders["student"][0]
    text = tmp_path / "text.txt"
    text.write_text("the cat and 12")
    options = ["--text", str(text), "--at", "u1", "--weights", "1"]
    assert command(["inspect", "--teacher", teacher, "--student", student, *options]) == 2
    assert REFUSED in capsys.readouterr().err


def test_the_studio_scores_nothing(folders, tmp_path):
    teacher, student = folders["teacher"][1], folders["student"][0]
    # the child that reads models first does not know the architecture at all
    with pytest.raises(ModelError, match=f"{REFUSED}|does not recognize this architecture"):
        weights.load(Studio(tmp_path, public=False), teacher, student, None, Work())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("side", ["teacher", "student"])
def test_every_precision_distinguishes_the_two(folders, tmp_path, side, dtype):
    known = load_model(getattr(new_config(folders, tmp_path, None), side)).to(dtype)
    check_head(known)
    unknown = LouderForCausalLM.from_pretrained(folders[side][1], dtype=dtype)
    with pytest.raises(ModelError, match=REFUSED):
        check_head(unknown)


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_quantization_leaves_the_two_distinguishable(tmp_path, quantization):
    # kernels for CPUs want sizes that are multiples of 64
    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 2}
    known = LlamaForCausalLM(LlamaConfig(vocab_size=640, **sizes))
    known.save_pretrained(tmp_path / "known")
    louder = LouderForCausalLM(LouderConfig(vocab_size=640, **sizes))
    louder.load_state_dict(known.state_dict())
    louder.save_pretrained(tmp_path / "unknown")

    def load(name):
        return load_model(ModelConfig(model=str(tmp_path / name), dtype="bfloat16", quantization=quantization), "cpu")

    check_head(load("known"))
    with registered(), pytest.raises(ModelError, match=REFUSED):
        check_head(load("unknown"))
