"""The loop: equal gradients however a step is split, exact resume, and honest stops."""

import importlib.util
import json
import math
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from simct.config import config_from_dict
from simct.data.prompts import Prompt
from simct.data.samples import Sample, prepare_prompts, prompt_order, student_writes, to_samples
from simct.errors import ConfigError, DataError, RunError
from simct.evaluation.health import HealthWatch
from simct.jobs.local import job as local_job
from simct.models.adapters import merged_student, trainable_student
from simct.models.loading import hidden_rows, load_model
from simct.models.rollout import Rollout
from simct.runs.folder import RunFolder
from simct.tokenization.pair import TokenizerPair
from simct.training.collapse import CollapseWatch
from simct.training.metrics import StepTotals, gather_record
from simct.training.optimizer import build_optimizer
from simct.training.schedule import learning_rate_at
from simct.training.trainer import Trainer
from tests.support.random_pair import save_pair
from tests.support.waiting import until

TEXTS = ["the cat", "a 12", "and 23 the", "1223", "hand and band", "the theatre 12", "naïve", "🙂 and"]


@pytest.fixture(scope="module")
def prompts_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "prompts.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": text}) for text in TEXTS))
    return path


def new_config(folders, prompts_file, **training):
    training = {"steps": 4, "batch_size": 8, "learning_rate": 1e-3, "micro_batch_size": 8, **training}
    return config_from_dict(
        {
            "teacher": {"model": folders[0], "dtype": "float32"},
            "student": {"model": folders[1], "dtype": "float32"},
            "data": {"prompts": str(prompts_file)},
            "rollout": {"max_new_tokens": 10, "temperature": 1.0},
            "training": training,
        }
    )


def train_here(config, folder, **options):
    pair = TokenizerPair.from_pretrained(config.teacher.model, config.student.model)
    student = trainable_student(load_model(config.student), config)
    prompts, _ = prepare_prompts([Prompt(({"role": "user", "content": text},)) for text in TEXTS], pair, config, [])
    records = []
    result = Trainer(
        config, Accelerator(cpu=True), load_model(config.teacher), student, pair, prompts, folder,
        on_step=lambda record, samples: records.append((record, samples)), **options,
    ).train()  # fmt: skip
    return student, records, result[:2]


def same_weights(left, right, tolerance=0.0):
    return all(
        torch.allclose(a, b, rtol=0, atol=tolerance)
        for a, b in zip(left.state_dict().values(), right.state_dict().values(), strict=True)
    )


def test_hidden_rows_give_the_logits_that_predict_each_completion_id(folders):
    model = load_model(config_from_dict({"teacher": "t", "student": folders[1], "data": {"prompts": "p"}}).student)
    prompts, completions = [[5, 6, 7], [8]], [[9, 10], [11, 12, 13]]
    hidden_NH, lengths = hidden_rows(model, prompts, completions, pad_id=0)
    logits_NV = model.lm_head(hidden_NH)
    assert lengths == [2, 3]
    row = 0
    for prompt, completion in zip(prompts, completions, strict=True):
        for position in range(len(completion)):
            alone = model(torch.tensor([prompt + completion[:position]])).logits[0, -1]
            assert torch.allclose(logits_NV[row], alone, atol=1e-5)
            row += 1


@pytest.mark.parametrize("method", ["simct", "strict"])
def test_the_student_moves_and_the_record_tells_what_happened(folders, prompts_file, tmp_path, method):
    config = new_config(folders, prompts_file)
    config.method = method
    student, records, (step, done) = train_here(config, tmp_path)
    assert (step, done) == (4, True)
    assert not same_weights(student, load_model(config.student))
    for number, (record, _) in enumerate(records, start=1):
        assert record["step"] == number
        assert record["rows"] > 0 and math.isfinite(record["loss"]) and record["grad_norm"] > 0
        assert 0 < record["coverage_strict"] < 1 and 0 < record["coverage_recovered"] < 1
        assert record["coverage_strict"] + record["coverage_recovered"] == pytest.approx(1)
        assert 0 <= record["eos_rate"] <= 1 and 0 <= record["canonical_rate"] <= 1
        assert 0 < record["response_length"] <= 10
    assert [bool(samples) for _, samples in records] == [True, False, False, True]


def test_the_teacher_is_not_touched(folders, prompts_file, tmp_path):
    config = new_config(folders, prompts_file, steps=1)
    before = {path.name: path.read_bytes() for path in Path(folders[0]).glob("*.safetensors")}
    train_here(config, tmp_path)
    assert {path.name: path.read_bytes() for path in Path(folders[0]).glob("*.safetensors")} == before


def test_micro_batches_do_not_change_the_step(folders, prompts_file, tmp_path):
    whole, records, _ = train_here(new_config(folders, prompts_file), tmp_path / "a")
    split, split_records, _ = train_here(new_config(folders, prompts_file, micro_batch_size=3), tmp_path / "b")
    assert same_weights(whole, split, tolerance=1e-6)
    for (one, _), (other, _) in zip(records, split_records, strict=True):
        assert one["rows"] == other["rows"]
        for name in ("loss", "kl_shared", "kl_recovered", "coverage_strict"):
            assert one[name] == pytest.approx(other[name], rel=1e-4), name


def test_a_run_stopped_between_steps_resumes_to_the_same_weights(folders, prompts_file, tmp_path):
    config = new_config(folders, prompts_file, steps=6, checkpoint_every=2, weight_decay=0.1)
    straight, records, _ = train_here(config, tmp_path / "straight")
    answers = iter([False] * 3 + [True] * 9)
    _, first, result = train_here(config, tmp_path / "cut", stop_requested=lambda: next(answers))
    assert result == (3, False)
    resumed, second, result = train_here(config, tmp_path / "cut", resume_from=tmp_path / "cut" / "step-3")
    assert result == (6, True)
    assert same_weights(straight, resumed)
    losses = [record["loss"] for record, _ in first + second]
    assert losses == [record["loss"] for record, _ in records]


def test_only_the_newest_and_the_best_checkpoints_are_kept(folders, prompts_file, tmp_path):
    train_here(new_config(folders, prompts_file, steps=5, checkpoint_every=1, keep_checkpoints=2), tmp_path)
    best = json.loads((tmp_path / "best.json").read_text())["step"]
    assert {path.name for path in tmp_path.glob("step-*")} == {"step-4", "step-5", f"step-{best}"}


def test_a_loss_that_is_not_finite_stops_before_it_is_applied(folders, prompts_file, tmp_path):
    config = new_config(folders, prompts_file, checkpoint_every=1)
    config.training.learning_rate = 0.5
    pair = TokenizerPair.from_pretrained(*folders)
    student, teacher = load_model(config.student), load_model(config.teacher)
    with torch.no_grad():
        teacher.lm_head.weight[pair.shared_teacher_ids[3]] = float("nan")
    prompts, _ = prepare_prompts([Prompt(({"role": "user", "content": "the"},))], pair, config, [])
    before = {name: value.clone() for name, value in student.state_dict().items()}
    with pytest.raises(RunError, match=r"Step 1: loss nan"):
        Trainer(config, Accelerator(cpu=True), teacher, student, pair, prompts, tmp_path).train()
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_prompts_that_leave_no_room_are_left_out_and_counted(folders, prompts_file):
    config = new_config(folders, prompts_file)
    pair = TokenizerPair.from_pretrained(*folders)
    long_and_short = [Prompt(({"role": "user", "content": text},)) for text in ("the " * 200, "the")]
    prepared, too_long = prepare_prompts(long_and_short, pair, config, [128, None])
    assert (len(prepared), too_long) == (1, 1)
    with pytest.raises(DataError, match=r"rollout\.max_new_tokens"):
        prepare_prompts(long_and_short[:1], pair, config, [128])


def test_a_rollout_is_used_up_to_a_special_token_inside_which_is_counted(folders, prompts_file):
    pair = TokenizerPair.from_pretrained(*folders)
    config = new_config(folders, prompts_file)
    prompts, _ = prepare_prompts([Prompt(({"role": "user", "content": "the"},))], pair, config, [])
    ids = pair.student.encode(b"the theatre")
    special = pair.student.tokenizer.convert_tokens_to_ids("<|user|>")
    good = Rollout(prompts[0].student_ids, ids, False)
    bad = Rollout(prompts[0].student_ids, [ids[0], special, *ids[1:]], False)
    excluded = Counter()
    samples = to_samples(pair, prompts * 2, [good, bad], excluded)
    assert all(isinstance(sample, Sample) for sample in samples)
    assert [sample.student_pieces for sample in samples] == [[ids], [ids[:1]]]
    assert excluded == {"part of an answer: <|user|>": 1}


def test_every_epoch_sees_every_prompt_once_in_an_order_of_its_own():
    order = prompt_order(7, 0, 21, seed=3)
    epochs = [order[start : start + 7] for start in (0, 7, 14)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert order[5:12] == prompt_order(7, 5, 7, seed=3)


def test_the_learning_rate_warms_up_and_decays(folders, prompts_file):
    training = new_config(folders, prompts_file, steps=100, learning_rate=1.0e-2, warmup_ratio=0.1).training
    rates = [learning_rate_at(step, training) for step in range(1, 101)]
    assert rates[0] == pytest.approx(1e-3) and rates[9] == pytest.approx(1e-2) == max(rates)
    assert rates[55] == pytest.approx(5e-3, rel=0.05)
    assert 0 < rates[-1] < 1e-4
    assert rates[9:] == sorted(rates[9:], reverse=True)


def test_lora_trains_adapters_only_resumes_and_merges_into_a_plain_model(folders, prompts_file, tmp_path):
    config = new_config(folders, prompts_file, steps=4, checkpoint_every=2, learning_rate=1e-2, weight_decay=0.1)
    config.lora.rank = 4
    straight, _, _ = train_here(config, tmp_path / "a")
    answers = iter([False] * 2 + [True])
    train_here(config, tmp_path / "b", stop_requested=lambda: next(answers))
    resumed, _, _ = train_here(config, tmp_path / "b", resume_from=tmp_path / "b" / "step-2")
    saved = load_file(tmp_path / "b" / "step-2" / "trained.safetensors")
    assert saved and all("lora_" in name for name in saved)
    assert same_weights(straight, resumed)
    plain, start = merged_student(straight, config), load_model(config.student)
    assert type(plain) is type(start)
    assert not torch.equal(plain.model.layers[0].self_attn.q_proj.weight, start.model.layers[0].self_attn.q_proj.weight)
    assert torch.equal(plain.model.embed_tokens.weight, start.model.embed_tokens.weight)


def test_frozen_parts_stay_and_unknown_ones_are_refused(folders, prompts_file, tmp_path):
    config = new_config(folders, prompts_file, steps=2, freeze=["embed_tokens", "layers.0"])
    student, _, _ = train_here(config, tmp_path)
    start = load_model(config.student).state_dict()
    for name, value in student.state_dict().items():
        frozen = "embed_tokens" in name or "layers.0" in name
        assert torch.equal(value, start[name]) == frozen, name
    for freeze, words in ((["nothing"], "'nothing'"), (["weight"], "nothing to train")):
        config.training.freeze = freeze
        with pytest.raises(ConfigError, match=words):
            trainable_student(load_model(config.student), config)


def test_the_saved_student_is_the_running_mean_when_one_is_kept(folders, prompts_file, tmp_path):
    decay = 0.7
    config = new_config(folders, prompts_file, steps=3)
    weights_after = [load_model(config.student)]
    for steps in (1, 2, 3):
        answers = iter([False] * steps + [True] * 3)
        student, _, _ = train_here(config, tmp_path / str(steps), stop_requested=lambda answers=answers: next(answers))
        weights_after.append(student)
    config.training.ema_decay = decay
    averaged, _, _ = train_here(config, tmp_path / "ema")
    answers = iter([False, True])
    train_here(config, tmp_path / "cut", stop_requested=lambda: next(answers))
    resumed, _, _ = train_here(config, tmp_path / "cut", resume_from=tmp_path / "cut" / "step-1")
    for name, value in averaged.state_dict().items():
        mean = weights_after[0].state_dict()[name]
        for later in weights_after[1:]:
            mean = decay * mean + (1 - decay) * later.state_dict()[name]
        assert torch.allclose(value, mean, atol=1e-6), name
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_the_teacher_writes_its_share(folders, prompts_file, tmp_path):
    config = new_config(folders, prompts_file, steps=1)
    config.rollout.on_policy_fraction = 0.0
    student, records, _ = train_here(config, tmp_path)
    assert records[0][0]["rows"] > 0 and records[0][0]["tokens"] == 0
    assert not same_weights(student, load_model(config.student))
    draws = [student_writes(0, step, index, 0.3) for step in range(40) for index in range(25)]
    assert 0.25 < sum(draws) / len(draws) < 0.35


@pytest.mark.parametrize("name", ["SGD", "torch.optim.AdamW", "Adafactor"])
def test_optimizers_of_torch_by_name(folders, prompts_file, name):
    training = new_config(folders, prompts_file, optimizer=name).training
    parameter = torch.nn.Parameter(torch.ones(3, 3))
    optimizer = build_optimizer([parameter], training)
    assert type(optimizer).__name__ == name.rpartition(".")[2]
    parameter.grad = torch.ones(3, 3)
    optimizer.step()
    assert (parameter < 1).all()


def test_weight_decay_leaves_norms_and_biases_alone(folders, prompts_file):
    training = new_config(folders, prompts_file, optimizer="SGD", learning_rate=0.1, weight_decay=0.5).training
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.RMSNorm(3), torch.nn.Conv1d(3, 3, 2))
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    build_optimizer(module.parameters(), training).step()
    decayed = {name for name, parameter in module.named_parameters() if not torch.equal(before[name], parameter)}
    assert decayed == {"0.weight", "2.weight"}
    one_group = build_optimizer(module.parameters(), new_config(folders, prompts_file).training)
    assert len(one_group.param_groups) == 1


@pytest.mark.parametrize("name", ["AdamZ", "os.system", "Optimizer", "LBFGS", "Muon"])
def test_other_optimizers_are_refused_by_name(folders, prompts_file, name):
    training = new_config(folders, prompts_file, optimizer=name).training
    with pytest.raises(ConfigError, match=re.escape(name)):
        build_optimizer([torch.nn.Parameter(torch.ones(2))], training)


def test_bfloat16_autocast_trains(folders, prompts_file, tmp_path):
    config = new_config(folders, prompts_file, steps=2)
    pair = TokenizerPair.from_pretrained(*folders)
    student = load_model(config.student)
    prompts, _ = prepare_prompts([Prompt(({"role": "user", "content": text},)) for text in TEXTS], pair, config, [])
    AcceleratorState._reset_state(True)
    try:
        accelerator = Accelerator(cpu=True, mixed_precision="bf16")
        records = []
        Trainer(
            config, accelerator, load_model(config.teacher), student, pair, prompts, tmp_path,
            on_step=lambda record, _: records.append(record),
        ).train()  # fmt: skip
    finally:
        AcceleratorState._reset_state(True)
    assert all(math.isfinite(record["loss"]) for record in records)
    assert student.dtype == torch.float32 and not same_weights(student, load_model(config.student))


def healthy(step):
    return {"step": step, "eos_rate": 0.9, "response_length": 20.0, "canonical_rate": 0.95}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"eos_rate": 0.05}, "of answers end, compared with 90% at first"),
        ({"response_length": 150.0}, "grew from 20 to"),
        ({"response_length": 1.0}, "shrank from 20 to"),
        ({"canonical_rate": 0.2}, "canonically tokenized, compared with 95% at first"),
    ],
)
def test_a_collapse_is_reported_with_its_numbers_and_health_is_not(change, words):
    watch = CollapseWatch([healthy(step) for step in range(1, 30)])
    watch.add(healthy(30))
    with pytest.raises(RunError, match=words):
        for step in range(31, 60):
            watch.add(healthy(step) | change)


def test_steps_without_answers_of_the_student_are_no_collapse():
    """With a small share of its own answers, some steps have none."""
    without = {"step": 0, "loss": 1.0}
    watch, health = CollapseWatch(), HealthWatch()
    for step in range(1, 121):
        record = healthy(step) if step < 40 or step % 4 == 0 else without | {"step": step}
        watch.add(record)
        assert health.add(record) is None
    with pytest.raises(RunError, match="answers shrank from 20 to"):
        for step in range(121, 180):
            watch.add(healthy(step) | {"response_length": 1.0} if step % 4 == 0 else without | {"step": step})


def test_a_record_has_no_means_over_answers_that_nobody_wrote():
    sums = {"rollouts": 0, "tokens": 0, "ended": 0, "repetitive": 0, "canonical": 0}
    none = gather_record(StepTotals(), sums, Counter())
    some = gather_record(StepTotals(), sums | {"rollouts": 4, "tokens": 40, "ended": 3}, Counter())
    assert some["response_length"] == 10 and some["eos_rate"] == 0.75 and some["canonical_rate"] == 0
    assert some.keys() - none.keys() == {"response_length", "eos_rate", "canonical_rate", "repetition_rate"}


def launch_and_wait(config, runs_dir):
    run = RunFolder.create(runs_dir, config)
    local_job.launch(run)
    status = local_job.wait(run, timeout=180)
    assert status.state == "finished", run.log_tail()
    return run


def weights(run):
    return load_file(run.model_dir / "model.safetensors")


def test_a_killed_run_resumes_to_the_weights_of_one_that_was_not(folders, prompts_file, tmp_path):
    settings = {"steps": 60, "checkpoint_every": 4}
    straight = launch_and_wait(new_config(folders, prompts_file, **settings), tmp_path)
    killed = RunFolder.create(tmp_path, new_config(folders, prompts_file, **settings))
    local_job.launch(killed)
    wait_for_step(killed, 9)
    local_job.signal_group(killed.status(), signal.SIGKILL)  # as the kernel would, without telling the run
    status = local_job.wait(killed, timeout=30)
    assert status.state == "failed" and "resumed" in status.error
    assert killed.latest_checkpoint() is not None
    local_job.launch(killed, resume=True)
    assert local_job.wait(killed, timeout=180).state == "finished", killed.log_tail()
    expected, found = weights(straight), weights(killed)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert [r["loss"] for r in killed.metrics()] == [r["loss"] for r in straight.metrics()]


def wait_for_step(run, step):
    def reached() -> bool:
        status = run.status()
        assert status.step >= step or status.state in ("queued", "running"), run.log_tail()
        return status.step >= step

    until(reached, 120, 0.02, run.log_tail)


def test_stop_checkpoints_first_and_leaves_a_loadable_student(folders, prompts_file, tmp_path):
    run = RunFolder.create(tmp_path, new_config(folders, prompts_file, steps=5000, checkpoint_every=4000))
    local_job.launch(run)
    wait_for_step(run, 3)
    with pytest.raises(RunError, match="already"):
        local_job.launch(run)
    local_job.stop(run)
    status = local_job.wait(run, timeout=60)
    assert status.state == "stopped"
    assert run.latest_checkpoint().name == f"step-{status.step}" and status.model_step == status.step
    load_model(type(run.config().student)(model=str(run.model_dir)))
    with pytest.raises(RunError, match="nothing to stop"):
        local_job.stop(run)


@pytest.mark.parametrize(
    "split",
    [
        pytest.param({"micro_batch_size": 2}, marks=pytest.mark.long),
        {"micro_batch_size": None, "micro_batch_tokens": 50},
    ],
)
def test_two_processes_reach_the_weights_of_one(folders, prompts_file, tmp_path, split):
    one = launch_and_wait(new_config(folders, prompts_file, steps=5), tmp_path)
    two = RunFolder.create(tmp_path, new_config(folders, prompts_file, steps=5, **split))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        [*command, "-m", "simct.train", str(two.path / "run.yaml")],
        env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    assert two.status().processes == 2
    expected, found = weights(one), weights(two)
    assert all(torch.allclose(expected[name], found[name], rtol=0, atol=1e-5) for name in expected)
    assert [r["rows"] for r in one.metrics()] == [r["rows"] for r in two.metrics()]


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
def test_adapters_of_a_quantized_student_are_merged_into_its_whole_weights(tmp_path, prompts_file):
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folders = save_pair(tmp_path)
    # 4-bit kernels for CPUs want sizes that are multiples of 64
    shape = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 2}
    size = len(AutoTokenizer.from_pretrained(folders[1]))
    LlamaForCausalLM(LlamaConfig(vocab_size=size, **shape)).save_pretrained(folders[1])
    config = new_config(folders, prompts_file, steps=2, optimizer="bitsandbytes.AdamW8bit")
    config.student.quantization, config.teacher.quantization, config.lora.rank = "4bit", "8bit", 4
    trained, _, (step, done) = train_here(config, tmp_path / "checkpoints")
    assert (step, done) == (2, True)
    plain = merged_student(trained, config)
    config.student.quantization = None
    start = load_model(config.student).state_dict()
    assert {parameter.dtype for parameter in plain.parameters()} == {torch.float32}
    changed = {name for name, value in plain.state_dict().items() if not torch.equal(value, start[name])}
    assert changed and all("proj" in name for name in changed)
