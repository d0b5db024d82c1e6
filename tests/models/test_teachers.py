"""Teachers on this machine: an offloaded one gives the same rows, and its weights are away while it does not run."""

import pytest
import torch
from accelerate import Accelerator

from simct import demo
from simct.config import config_from_dict
from simct.config.sections import ModelConfig
from simct.data.prompts import Prompt
from simct.data.samples import prepare_prompts
from simct.errors import ConfigError
from simct.estimate.memory import estimate_memory
from simct.evaluation.distance import read_log_probabilities, sampled_answers
from simct.losses.head import decoder_of
from simct.models.loading import load_model
from simct.models.teachers import LocalTeacher, load_teacher, writes
from simct.tokenization.pair import TokenizerPair
from simct.tokenization.token_bytes import load_tokenizer, token_bytes
from simct.training.teacher_answers import teacher_greedy_answers
from simct.training.trainer import Trainer

TEXTS = ["the cat", "a 12 and 23", "hand and band"]
CPU = torch.device("cpu")


def new_config(folders, **teacher):
    return config_from_dict(
        {
            "teacher": {"model": str(folders[0]), **teacher},
            "student": str(folders[1]),
            "data": {"prompts": "prompts"},
            "method": "marginal",
            "rollout": {"max_new_tokens": 6},
            "training": {"steps": 2, "batch_size": 3, "micro_batch_size": 1, "learning_rate": 1e-3, "max_length": 64},
        }
    )


@pytest.mark.parametrize("embedded", [False, True], ids=["random", "embedded"])
def test_an_offloaded_teacher_gives_the_same_rows_with_its_weights_away_in_between(folders, embedded):
    folders = (demo.TEACHER, demo.STUDENT) if embedded else folders
    config = new_config(folders)
    tokens = TokenizerPair.from_pretrained(*map(str, folders)).teacher
    ids = [tokens.encode(text.encode()) for text in TEXTS]
    prompts = [tokens.encode(b"and")] * 3
    resident = LocalTeacher(load_model(config.teacher), tokens)
    offloaded = LocalTeacher(load_model(config.teacher), tokens)
    offloaded.offload(CPU)
    assert {each.device.type for each in decoder_of(offloaded.model).parameters()} == {"meta"}
    rows, expected = offloaded.start(prompts, ids)(), resident.start(prompts, ids)()
    assert torch.equal(rows.hidden_RH, expected.hidden_RH) and torch.equal(rows.head.weight, expected.head.weight)
    assert {each.device.type for each in decoder_of(offloaded.model).parameters()} == {"meta"}
    assert rows.head.weight.device.type == "cpu"
    assert writes(resident) and writes(offloaded)


def test_an_offloaded_teacher_writes_and_reads_held_out_answers_as_a_resident_one(folders):
    config = new_config(folders)
    pair = TokenizerPair.from_pretrained(*map(str, folders))
    asked = [pair.teacher.encode(text.encode()) for text in TEXTS]
    found = []
    for offload in (False, True):
        teacher = LocalTeacher(load_model(config.teacher), pair.teacher)
        if offload:
            teacher.offload(CPU)
        drawn = sampled_answers(teacher, asked, range(3), 8, 0, 2)
        written = {index: rollout.completion_ids for index, rollout in drawn.items()}
        read = read_log_probabilities(teacher, asked, written)
        found.append((drawn, read, teacher_greedy_answers(teacher, asked, 8)))
    assert found[0] == found[1]
    assert {each.device.type for each in decoder_of(teacher.model).parameters()} == {"meta"}


@pytest.mark.parametrize("model", [None, demo.TEACHER], ids=["random", "embedded"])
def test_an_offloaded_teacher_writes_with_an_lm_head_on_the_device(folders, model):
    """meta stands in for a GPU, on which hidden states could not be multiplied with an lm_head on the CPU."""
    folder = str(model or folders[0])
    teacher = LocalTeacher(load_model(ModelConfig(model=folder)), token_bytes(load_tokenizer(folder)))
    teacher.offload(torch.device("meta"))
    output = teacher.model.get_output_embeddings()
    assert {each.device.type for each in output.parameters()} == {"meta"} == {teacher.head.weight.device.type}


def test_rows_of_a_teacher_on_another_device_are_read_where_its_lm_head_is(folders):
    """meta stands in for the student's GPU, on which the lm_head is."""
    teacher = LocalTeacher(load_model(ModelConfig(model=str(folders[0]))), token_bytes(load_tokenizer(str(folders[0]))))
    teacher.freeze(torch.device("meta"))
    rows = teacher.start([[1, 2]], [[3, 4]])()
    assert rows.hidden_RH.device.type == "cpu" and rows.device.type == "meta"


def test_a_run_with_an_offloaded_teacher_trains_the_same_weights(folders, tmp_path):
    config = new_config(folders)
    pair = TokenizerPair.from_pretrained(*map(str, folders))
    prompts, _ = prepare_prompts([Prompt(({"role": "user", "content": text},)) for text in TEXTS], pair, config, [])
    found = []
    for offload in (False, True):
        teacher, student = LocalTeacher(load_model(config.teacher), pair.teacher), load_model(config.student)
        if offload:
            teacher.offload(CPU)
        Trainer(config, Accelerator(cpu=True), teacher, student, pair, prompts, tmp_path / str(offload)).train()
        found.append(student.state_dict())
    assert all(torch.equal(found[0][name], value) for name, value in found[1].items())


def test_spread_by_auto_a_teacher_on_one_device_is_the_same(folders):
    tokens = TokenizerPair.from_pretrained(*map(str, folders)).teacher
    ids = [tokens.encode(text.encode()) for text in TEXTS]
    rows = [
        load_teacher(new_config(folders, **settings).teacher, tokens, CPU).start([[1, 2]] * 3, ids)()
        for settings in ({}, {"device": "auto"})
    ]
    assert torch.equal(rows[0].hidden_RH.cpu(), rows[1].hidden_RH.cpu())


def test_the_estimate_counts_what_stays_on_the_gpu(folders):
    whole = estimate_memory(new_config(folders))
    offloaded = estimate_memory(new_config(folders, offload=True))
    assert 0 < offloaded.parts["teacher weights"] < whole.parts["teacher weights"]
    assert estimate_memory(new_config(folders, offload=True), device="cpu").parts["teacher weights"] > 0
    assert estimate_memory(new_config(folders, server="http://127.0.0.1:8000")).parts["teacher weights"] == 0


@pytest.mark.parametrize("also", [{"device": "cuda:1"}, {"sharded": True}, {"quantization": "4bit"}])
def test_offloading_goes_with_nothing_else_that_places_the_teacher(folders, also):
    with pytest.raises(ConfigError, match=r"teacher\.offload is True; it must be false"):
        new_config(folders, offload=True, **also)


def test_the_estimate_of_several_teachers_counts_each(folders):
    alone = estimate_memory(new_config(folders))
    about = {"student": str(folders[1]), "data": {"prompts": "prompts"}, "method": "marginal"}
    about |= {"rollout": {"max_new_tokens": 6}, "training": new_config(folders).training.model_dump()}
    entries = [{"model": str(folders[0]), "name": name, **more} for name, more in (("a", {}), ("b", {"offload": True}))]
    both = estimate_memory(config_from_dict(about | {"teachers": entries}))
    assert both.parts["teacher a"] == alone.parts["teacher weights"]
    assert 0 < both.parts["teacher b"] < both.parts["teacher a"]
    assert both.peak > alone.peak
    one = estimate_memory(config_from_dict(about | {"teachers": entries[:1]}))
    assert one.peak == alone.peak
