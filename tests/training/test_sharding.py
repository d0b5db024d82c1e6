"""FSDP2 over two CPU processes: the weights of one process, exact resume, a teacher in parts."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from safetensors.torch import load_file

from simct.config import config_from_dict
from simct.config.sections import ModelConfig
from simct.data.held_out import split_prompts
from simct.data.prompts import Prompt, load_prompts
from simct.data.samples import prepare_prompts
from simct.evaluation.distance import Speaker, distance_of, draw
from simct.evaluation.records import DIRECTIONS, evaluations_of
from simct.models.adapters import merged_student, plain_state, trainable_student
from simct.models.loading import load_model
from simct.runs.checkpoints import STEP_FILE
from simct.runs.folder import RunFolder
from simct.tokenization.pair import TokenizerPair
from simct.training.checkpoints import load_state, save_state
from simct.training.trainer import Trainer
from tests.support.random_pair import save_pair

TEXTS = ["the cat", "a 12", "and 23 the", "1223", "hand and band", "the theatre 12", "naïve", "and"]
FSDP2 = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}


def new_config(folder, lora_rank=None, micro_batch_size=2):
    teacher, student = save_pair(folder)
    prompts = folder / "prompts.jsonl"
    prompts.write_text("\n".join(json.dumps({"prompt": text}) for text in TEXTS))
    return config_from_dict(
        {
            "teacher": {"model": str(teacher), "sharded": True},
            "student": str(student),
            "data": {"prompts": str(prompts)},
            "rollout": {"max_new_tokens": 8, "temperature": 1.0},
            "lora": {"rank": lora_rank, "dropout": 0.2},
            "training": {
                "steps": 4, "batch_size": 8, "micro_batch_size": micro_batch_size, "learning_rate": 1e-3,
                "checkpoint_every": 2, "ema_decay": 0.5, "weight_decay": 0.1,
            },
        }
    )  # fmt: skip


def train_sharded(
    run: RunFolder, *options: str, entry="tests.support.cpu_sharded", settings=FSDP2
) -> dict[str, torch.Tensor]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    process = subprocess.run(
        [*command, "-m", entry, str(run.path / "run.yaml"), *options],
        env={**os.environ, **settings, "ACCELERATE_USE_CPU": "1"}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    assert run.status().processes == 2
    return load_file(run.model_dir / "model.safetensors")


def train_alone(config, checkpoints) -> tuple[dict[str, torch.Tensor], list[float]]:
    """The weights and losses of one process."""
    pair = TokenizerPair.from_pretrained(config.teacher.model, config.student.model)
    student, teacher = load_model(config.student), load_model(config.teacher)
    prompts, _ = prepare_prompts([Prompt(({"role": "user", "content": text},)) for text in TEXTS], pair, config, [])
    losses = []
    Trainer(
        config, Accelerator(cpu=True), teacher, student, pair, prompts, checkpoints,
        on_step=lambda record, samples: losses.append(record["loss"]),
    ).train()  # fmt: skip
    return student.state_dict(), losses


def same_run(config, tmp_path, **how) -> None:
    """Two processes reach the weights of one, and stopped at step 2 resume to the same."""
    run = RunFolder.create(tmp_path / "runs", config)
    sharded = train_sharded(run, **how)
    expected, losses = train_alone(config, tmp_path / "checkpoints")
    start = load_model(config.student).state_dict()
    assert [record["loss"] for record in run.metrics()] == pytest.approx(losses, rel=1e-5)
    moved = [name for name in expected if not torch.equal(start[name], expected[name])]
    assert moved and all(torch.allclose(expected[name], sharded[name], rtol=0, atol=1e-5) for name in sharded)

    shutil.rmtree(run.checkpoints_dir / "step-4")
    shutil.rmtree(run.model_dir)
    resumed = train_sharded(run, "--resume", **how)
    steps = [json.loads(line)["step"] for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4]
    assert all(torch.equal(sharded[name], resumed[name]) for name in sharded)


@pytest.mark.long
def test_two_sharded_processes_reach_the_weights_of_one_and_resume_to_them(tmp_path):
    same_run(new_config(tmp_path), tmp_path)


def test_two_sharded_processes_measure_the_student_that_they_save(tmp_path):
    config = new_config(tmp_path)
    held = tmp_path / "held.jsonl"
    texts = ("a hand", "12 and 3", "the theatre", "cat", "23")
    held.write_text("\n".join(json.dumps({"prompt": text}) for text in texts))
    config.data.held_out_prompts = str(held)
    config.training.steps, config.evaluation.every, config.evaluation.time_share = 2, 1, 0.99
    run = RunFolder.create(tmp_path / "runs", config)
    train_sharded(run)
    found = evaluations_of(run)
    assert [each.step for each in found] == [0, 1, 2]
    pair = TokenizerPair.from_pretrained(config.teacher.model, config.student.model)
    prompts = split_prompts(load_prompts(config.data), config.data).held_out
    prepared, _ = prepare_prompts(prompts, pair, config, [])
    teacher = Speaker(load_model(config.teacher), pair.teacher, [prompt.teacher_ids for prompt in prepared])
    for each, model in ((found[0], config.student.model), (found[-1], str(run.model_dir))):
        student_ids = [prompt.student_ids for prompt in prepared]
        student = Speaker(load_model(ModelConfig(model=model)), pair.student, student_ids)
        for name, (writer, reader) in zip(DIRECTIONS, ((student, teacher), (teacher, student)), strict=True):
            expected = distance_of(writer, reader, draw(writer, 8, config.training.seed))
            assert each.directions[name].bits == pytest.approx(expected.bits, abs=1e-3)


@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
def test_deepspeed_reaches_the_weights_of_one_process_and_resumes_to_them(tmp_path):
    config = new_config(tmp_path, micro_batch_size=8)
    config.teacher.sharded = False
    zero2 = {
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2",
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1",
        "DS_ACCELERATOR": "cpu",
    }
    same_run(config, tmp_path, entry="simct.train", settings=zero2)


@pytest.mark.long
def test_a_sharded_student_with_lora_is_saved_merged(tmp_path):
    config = new_config(tmp_path, lora_rank=4)
    sharded = train_sharded(RunFolder.create(tmp_path / "runs", config))
    start = load_model(config.student).state_dict()
    assert set(sharded) <= set(start)
    changed = {name for name in sharded if not torch.equal(sharded[name], start[name])}
    assert changed and all("proj" in name for name in changed)


def test_plain_state_is_what_merging_gives_and_leaves_the_student_alone(tmp_path):
    config = new_config(tmp_path, lora_rank=4)
    student = trainable_student(load_model(config.student), config)
    for name, parameter in student.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    plain = plain_state(student)
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
    merged = merged_student(student, config).state_dict()
    assert set(plain) == set(merged)
    assert all(torch.allclose(plain[name], merged[name], atol=1e-6) for name in merged)


@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_processes_wait_for_what_one_of_them_does_alone(tmp_path, dtype):
    """Scores on tasks before training take hours, and the usual limit is ten minutes."""
    config = new_config(tmp_path)
    config.teacher.dtype = config.student.dtype = dtype
    config.training.mixed_precision = "auto" if dtype == "auto" else "no"
    run = RunFolder.create(tmp_path / "runs", config)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    process = subprocess.run(
        [*command, "-m", "tests.support.wait_limit", str(run.path / "run.yaml")],
        env={**os.environ, "ACCELERATE_USE_CPU": "1"}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert process.stdout.count("2 processes wait 43200 s") == 2, process.stdout + process.stderr


def test_a_sharded_checkpoint_keeps_the_scale_of_the_loss(tmp_path):
    """Under fp16 it changes during a run, and another scale would round other gradients to zero."""
    module = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(module.parameters())

    def accelerator(scale: float) -> Any:
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        scaler.scale(torch.ones(()))  # until then it has no state
        return SimpleNamespace(distributed_type=DistributedType.FSDP, is_main_process=True, scaler=scaler)

    save_state(accelerator(8.0), module, optimizer, None, tmp_path)
    (tmp_path / STEP_FILE).write_text('{"step": 3}')
    resumed = accelerator(1.0)
    assert load_state(resumed, module, optimizer, None, tmp_path) == 3
    assert resumed.scaler.get_scale() == 8.0
