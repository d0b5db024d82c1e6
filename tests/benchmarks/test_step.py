"""The account of a step: its parts add up, and each bound is that of real products."""

import time

import pytest
import torch
from accelerate import Accelerator

from benchmarks import step as benchmark
from simct.config import config_from_dict
from simct.data.prompts import Prompt
from simct.data.samples import prepare_prompts
from simct.models.loading import load_model
from simct.tokenization.pair import TokenizerPair


@pytest.fixture(scope="module")
def setting(folders):
    config = config_from_dict(
        {
            "teacher": {"model": folders[0], "dtype": "float32"},
            "student": {"model": folders[1], "dtype": "float32"},
            "data": {"prompts": "p"},
            "rollout": {"max_new_tokens": 32},
            "training": {"batch_size": 4, "micro_batch_tokens": 128},
        }
    )
    pair = TokenizerPair.from_pretrained(*folders)
    texts = ["the cat", "a 12", "and 23 the", "naïve"]
    prompts, _ = prepare_prompts([Prompt(({"role": "user", "content": text},)) for text in texts], pair, config, [])
    samples = benchmark.samples_of(pair, prompts, 32)
    assert [16 <= len(sample.student_ids) <= 32 for sample in samples] == [True] * 4
    models = [load_model(side) for side in (config.teacher, config.student)]
    return benchmark.Setting(config, pair, *models, prompts, samples, mixed=False)


def test_a_part_does_not_count_what_another_takes_inside_it():
    account = benchmark.Account()

    def work(seconds):
        ends = time.process_time() + seconds
        while time.process_time() < ends:
            pass

    with account.part("outer"):
        work(0.02)
        with account.part("inner"):
            work(0.06)
    assert account.seconds["inner"] == pytest.approx(0.06, abs=0.03)
    assert account.seconds["outer"] == pytest.approx(0.02, abs=0.03)


def test_the_parts_of_a_step_add_up_to_it(setting, tmp_path):
    account, seconds, padding, passes = benchmark.train(setting, Accelerator(cpu=True), 2, tmp_path)
    bound = benchmark.bounds(setting)
    rows = benchmark.rows_of(account, seconds, bound)
    *parts, whole = rows
    assert [row["part"] for row in parts] == [*benchmark.PARTS, "rest"]
    assert sum(row["seconds"] for row in parts) == pytest.approx(whole["seconds"])
    assert all(row["seconds"] > 0 for row in parts[:-1]) and 0 <= padding < 1 and passes >= 1
    assert whole["bound"] == pytest.approx(sum(bound.values())) and min(bound.values()) > 0
    text = benchmark.table({"parts": rows})
    assert text.count("\n") == len(rows) + 1 and "| step without writing |" in text
    # what was timed is the trainer's own again
    assert benchmark.distillation_step.hidden_rows.__name__ == "hidden_rows"


def test_decoding_and_its_bound_are_measured(setting):
    prefill, token = benchmark.decoding(setting, 4)
    prefill_bound, token_bound = benchmark.decoding_bound(setting)
    assert prefill > 0 and prefill_bound > 0 and token_bound > 0 and token == token


def test_products_are_measured_once_for_each_shape():
    products = benchmark.Products(torch.float32, torch.device("cpu"), 128)
    assert products.seconds(8, 16, 32) == products.seconds(8, 16, 32) > 0
