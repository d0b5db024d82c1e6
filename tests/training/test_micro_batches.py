"""Micro-batches by tokens: little padding, the same step however it is split, and smaller ones when memory runs out."""

import itertools
import json
import random
from collections import Counter
from functools import partial

import pytest
import torch
from accelerate import Accelerator

from simct.config import config_from_dict
from simct.config.optimization import TrainingConfig
from simct.data.prompts import Prompt
from simct.data.samples import prepare_prompts
from simct.losses import compute
from simct.methods import METHODS
from simct.models.loading import load_model
from simct.tokenization.pair import TokenizerPair
from simct.training.fine_tuning import Example, FineTuningStep, _backward, _lengths_of
from simct.training.loop import TrainingLoop
from simct.training.metrics import StepTotals, gather_record
from simct.training.micro_batches import MicroBatches, is_out_of_memory, packed_lengths, similar_lengths
from simct.training.trainer import Trainer
from tests.support.loss_cases import sequence, tiny_pair

TEXTS = ["the cat", "a 12", "and 23 the", "1223 and the hand and the band and the theatre", "hand and band", "naïve"]


def cost_of(groups, lengths, pass_tokens):
    wide = [[max(side) for side in zip(*lengths[start:end], strict=True)] for start, end in groups]
    return sum((end - start) * sum(width) + pass_tokens for (start, end), width in zip(groups, wide, strict=True))


def allowed(groups, lengths, tokens):
    return all(
        end - start == 1 or (end - start) * max(max(each) for each in lengths[start:end]) <= tokens
        for start, end in groups
    )


def every_split(count):
    for cuts in itertools.product((False, True), repeat=count - 1):
        places = [0, *(place + 1 for place, cut in enumerate(cuts) if cut), count]
        yield list(itertools.pairwise(places))


@pytest.mark.parametrize("seed", range(12))
def test_the_split_is_the_cheapest_of_all(seed):
    draw = random.Random(seed)
    lengths = sorted(((draw.randint(1, 40), draw.randint(1, 40)) for _ in range(8)), key=sum)
    tokens, pass_tokens = draw.choice([20, 60, 120]), draw.choice([0, 7, 40])
    groups = similar_lengths(lengths, tokens, pass_tokens)
    assert groups in list(every_split(8)) and allowed(groups, lengths, tokens)
    cheapest = min(cost_of(each, lengths, pass_tokens) for each in every_split(8) if allowed(each, lengths, tokens))
    assert cost_of(groups, lengths, pass_tokens) == cheapest


def test_a_realistic_spread_of_lengths_has_little_padding():
    draw = random.Random(0)
    lengths = [100 + int(16 * 64 ** draw.random()) for _ in range(64)]  # answers of 16 to 1,024 tokens
    batches = MicroBatches(TrainingConfig(), Accelerator(cpu=True), lambda length: (length, length + 20))
    parts = batches.split(lengths)
    assert sorted(itertools.chain(*parts)) == sorted(lengths)
    assert batches.padding(parts).share < 0.05
    plain = MicroBatches(TrainingConfig(micro_batch_size=16), Accelerator(cpu=True), lambda length: (length,))
    parts = plain.split(lengths)
    assert list(itertools.chain(*parts)) == lengths and [len(part) for part in parts] == [16] * 4
    assert plain.padding(parts).share > 0.3
    assert batches.padding([]).share == 0 and batches.split([]) == []


def test_packed_passes_are_filled_without_padding():
    draw = random.Random(0)
    lengths = [(draw.randint(1, 300), draw.randint(1, 300)) for _ in range(64)]
    batches = MicroBatches(
        TrainingConfig(micro_batch_tokens=1000), Accelerator(cpu=True), lambda each: each, packed=True
    )
    parts = batches.split([*lengths, (1200, 5)])
    assert sorted(itertools.chain(*parts)) == sorted([*lengths, (1200, 5)]) and [(1200, 5)] in parts
    read = [max(map(sum, zip(*part, strict=True))) for part in parts]
    assert max(read[1:]) <= 1000 and len(parts) <= 1 + 1.2 * sum(read[1:]) / 1000 and read[0] == 1200
    assert batches.padding(parts).share == 0 and batches.padding(parts).tokens == sum(map(sum, lengths)) + 1205
    assert packed_lengths([(5, 1)] * 3, 10) == [(0, 2), (2, 3)] and packed_lengths([], 10) == []
    # with the last micro-batch too large, all are smaller
    batches.begin(parts[-1])
    assert batches._halve() and batches.tokens == read[-1] // 2


def trainer_of(folders, folder, **training):
    """A trainer in float64 and the samples of its first step."""
    prompts_file = folder / "prompts.jsonl"
    folder.mkdir(exist_ok=True)
    prompts_file.write_text("\n".join(json.dumps({"prompt": text}) for text in TEXTS))
    config = config_from_dict(
        {
            "teacher": folders[0],
            "student": folders[1],
            "data": {"prompts": str(prompts_file)},
            "rollout": {"max_new_tokens": 12, "temperature": 1.0},
            "training": {"steps": 1, "batch_size": 12, **training},
        }
    )
    pair = TokenizerPair.from_pretrained(*folders)
    prompts, _ = prepare_prompts([Prompt(({"role": "user", "content": text},)) for text in TEXTS], pair, config, [])
    teacher, student = (load_model(side).double() for side in (config.teacher, config.student))
    return Trainer(config, Accelerator(cpu=True), teacher, student, pair, prompts, folder / "checkpoints")


def graded(trainer):
    totals, _ = trainer.grade(trainer.rollout(1).samples)
    return totals, {name: each.grad.clone() for name, each in trainer.student.named_parameters()}


def assert_same_step(one, other, tolerance=1e-10):
    (left, left_gradients), (right, right_gradients) = one, other
    assert left.rows == right.rows and left.loss_sum == pytest.approx(right.loss_sum, rel=tolerance)
    for name, value in left_gradients.items():
        assert torch.allclose(value, right_gradients[name], rtol=tolerance, atol=tolerance), name


@pytest.fixture(scope="module")
def whole_step(folders, tmp_path_factory):
    return graded(trainer_of(folders, tmp_path_factory.mktemp("whole"), micro_batch_size=12))


@pytest.mark.parametrize("tokens", [1, 40, 100, 8192])
def test_values_and_gradients_are_those_of_plain_micro_batches(folders, tmp_path, whole_step, tokens):
    trainer = trainer_of(folders, tmp_path, micro_batch_tokens=tokens)
    assert_same_step(graded(trainer), whole_step)


def test_metrics_have_the_share_of_padding(folders, tmp_path):
    records = []
    trainer = trainer_of(folders, tmp_path, micro_batch_size=12)
    assert trainer.micro_batches.packed
    trainer.micro_batches.packed = False  # as on a GPU
    trainer.on_step = lambda record, samples: records.append(record)
    trainer.train()
    apart = trainer_of(folders, tmp_path / "apart", micro_batch_tokens=1)
    apart.on_step = trainer.on_step
    apart.train()
    assert 0 < records[0]["padding_share"] < 1 and records[1]["padding_share"] == 0


def runs_out(trainer, where, times, kind=RuntimeError):
    """Let the first passes of several samples run out of memory: in the forward pass, or half-way back."""
    left = [times]
    compare, backward = trainer.loop.module.compare, trainer.accelerator.backward

    def fail():
        left[0] -= 1
        raise kind("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def forward(graded):
        runs_out.size = len(graded[0].samples)
        if where == "forward" and runs_out.size > 1 and left[0]:
            fail()
        return compare(graded)

    def back(loss):
        backward(loss)
        if where == "backward" and runs_out.size > 1 and left[0]:
            fail()

    trainer.loop.module.compare, trainer.accelerator.backward = forward, back


@pytest.mark.parametrize("split", [{"micro_batch_size": 5}, {"micro_batch_tokens": 150}])
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_out_of_memory_halves_the_micro_batch_and_keeps_the_step(
    folders, tmp_path, whole_step, where, split, caplog, monkeypatch
):
    trainer = trainer_of(folders, tmp_path, **split)
    monkeypatch.setattr(trainer.accelerator, "backward", trainer.accelerator.backward)
    runs_out(trainer, where, times=2, kind=torch.OutOfMemoryError if where == "forward" else RuntimeError)
    assert_same_step(graded(trainer), whole_step)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("simct")]
    assert len(lines) == 2 and all(line.startswith("Memory ran out in a micro-batch of ") for line in lines)
    if "micro_batch_size" in split:
        assert trainer.micro_batches.size == 1
    else:
        assert trainer.micro_batches.tokens < 75


def test_a_sample_that_does_not_fit_alone_ends_the_run(folders, tmp_path):
    trainer = trainer_of(folders, tmp_path)

    def compare(graded):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    trainer.loop.module.compare = compare
    with pytest.raises(torch.OutOfMemoryError):
        trainer.grade(trainer.rollout(1).samples)


def test_other_errors_are_no_lack_of_memory():
    assert is_out_of_memory(MemoryError()) and is_out_of_memory(
        RuntimeError("DefaultCPUAllocator: can't allocate memory")
    )
    assert not is_out_of_memory(RuntimeError("shapes differ")) and not is_out_of_memory(ValueError("out of memory"))


def test_warm_ups_split_their_examples_the_same_way(folders, tmp_path):
    examples = [Example([5, 6], [7] * count) for count in (1, 9, 2, 8, 3, 30)]
    found = []
    for split in ({"micro_batch_size": 6}, {"micro_batch_tokens": 40}):
        training, accelerator = TrainingConfig(batch_size=6, **split), Accelerator(cpu=True)
        student = load_model(
            config_from_dict({"teacher": "t", "student": folders[1], "data": {"prompts": "p"}}).student
        )
        student.double().train()
        loop = TrainingLoop(accelerator, FineTuningStep(student, 0), training, tmp_path)
        batches = MicroBatches(training, accelerator, _lengths_of)
        record = batches.run(partial(_backward, loop, batches, examples), loop.optimizer.zero_grad)
        found.append((record, {name: each.grad for name, each in student.named_parameters()}))
    (whole, gradients), (split_record, split_gradients) = found
    assert (
        whole["loss"] == pytest.approx(split_record["loss"], rel=1e-6) and whole["rows"] == split_record["rows"] == 53
    )
    assert split_record["padding_share"] < whole["padding_share"]
    for name, value in gradients.items():
        assert torch.allclose(value, split_gradients[name], rtol=1e-10, atol=1e-10), name


@pytest.mark.parametrize(
    ("method", "options"),
    [*((method, {}) for method in METHODS), ("marginal", {"min_mass": 0.2}), ("bpm", {"min_mass": 0.2})],
)
def test_the_statistics_of_a_step_are_those_of_its_parts(method, options):
    """Parts of very different size, some of which have no row of some kind."""
    pair = tiny_pair()
    texts = ["the or abcd 123 world", "abcd", "12312", "thethe", "el", "a"]
    sequences = [sequence(pair, text, ended=index % 2 == 0) for index, text in enumerate(texts)]
    generator = torch.Generator().manual_seed(0)

    def logits(ids):
        return 3 * torch.randn(len(ids), 40, generator=generator, dtype=torch.float64)

    read = [(teacher, student, logits(teacher), logits(student)) for teacher, student in sequences]
    records = []
    for parts in ([read], [[each] for each in read]):
        totals = StepTotals()
        for part in parts:
            teacher_ids, student_ids, teacher, student = zip(*part, strict=True)
            ids = list(student_ids), list(teacher_ids)
            result = compute(method, pair, torch.cat(student), torch.cat(teacher), *ids, diagnostics=False, **options)
            totals.add(result, sum(map(len, student_ids)))
        none = dict.fromkeys(("rollouts", "tokens", "ended", "repetitive", "canonical"), 0)
        records.append(gather_record(totals, none, Counter()))
    whole, split = records
    assert whole.keys() == split.keys() and whole["rows"] == split["rows"] > 5
    for name in whole.keys() - {"excluded"}:
        assert split[name] == pytest.approx(whole[name], rel=1e-6), name
    if "min_mass" in options:
        assert 0.05 < whole["share_left_out"] < 0.95
