"""An answer written id by id is the one that generation gives, and the teacher's view of it is its own probability."""

import math

import pytest
import torch
from transformers import GraniteConfig, GraniteForCausalLM

from simct import demo
from simct.config.sections import ModelConfig, RolloutConfig
from simct.data.templates import prompt_ids
from simct.errors import AlignmentError
from simct.inspection.side_by_side import agreement, write_answer
from simct.models.loading import load_model
from simct.models.rollout import generate
from simct.models.sampling import uniforms

MESSAGES = [{"role": "user", "content": "Say it plainly: the adolescent should purchase documentation."}]


@pytest.fixture(scope="module")
def pair(embedded_pair):
    return embedded_pair


@pytest.fixture(scope="module")
def student():
    return load_model(ModelConfig(model=str(demo.STUDENT))).eval()


@pytest.fixture(scope="module")
def teacher():
    return load_model(ModelConfig(model=str(demo.TEACHER))).eval()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("settings", [{}, {"top_k": 20, "min_p": 0.02, "repetition_penalty": 1.3}])
def test_the_same_ids_as_rollouts(pair, student, temperature, settings):
    sampling = RolloutConfig(top_p=0.9, **settings)
    ids, known = prompt_ids(pair.student.tokenizer, MESSAGES), len(pair.student.bytes_of)
    written = list(write_answer(student, ids, pair.student.end_ids, known, 24, temperature, sampling, seed=5))
    drawn = uniforms(5, 0, [0], 24) if temperature else None
    (rollout,) = generate(student, [ids], pair.student.end_ids, 0, known, 24, temperature, 0.9, drawn, **settings)
    assert written == rollout.completion_ids


def test_agreement_is_the_teachers_probability_of_its_own_spelling(pair, student, teacher):
    ids = prompt_ids(pair.student.tokenizer, MESSAGES)
    answer = list(write_answer(student, ids, pair.student.end_ids, len(pair.student.bytes_of), 24))
    context = prompt_ids(pair.teacher.tokenizer, MESSAGES)
    units = agreement(pair, teacher, context, answer)
    assert b"".join(unit["bytes"] for unit in units) == pair.student.decode(answer[:-1])
    assert units[-1]["bytes"] == b"" and sum(unit["student"] for unit in units) == len(answer)
    spelled = pair.teacher_ids_for(answer).ids
    with torch.inference_mode():
        logits = teacher(torch.tensor([context + spelled])).logits[0, len(context) - 1 : -1].log_softmax(-1)
    total = sum(float(logits[row, token]) for row, token in enumerate(spelled))
    assert sum(unit["teacher"] * math.log(unit["probability"]) for unit in units) == pytest.approx(total, rel=1e-4)


def test_what_the_teacher_cannot_read_is_reported(pair, teacher):
    special = pair.student.tokenizer.convert_tokens_to_ids(pair.student.tokenizer.all_special_tokens[0])
    word = pair.student.encode(b"word")
    with pytest.raises(AlignmentError, match="cannot read this answer"):
        agreement(pair, teacher, [1], [special, *word])
    assert agreement(pair, teacher, [1], []) == []


def test_agreement_is_read_from_logits_that_a_model_scales(pair):
    torch.manual_seed(0)
    teacher = GraniteForCausalLM(
        GraniteConfig(
            vocab_size=len(pair.teacher.bytes_of), hidden_size=16, intermediate_size=24, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=2, logits_scaling=0.02,
        )
    ).eval()  # fmt: skip
    context, answer = [1, 2], pair.student.encode(b"a word")
    spelled = pair.teacher_ids_for(answer).ids
    with torch.inference_mode():
        logits = teacher(torch.tensor([context + spelled])).logits[0, len(context) - 1 : -1].log_softmax(-1)
    total = sum(float(logits[row, token]) for row, token in enumerate(spelled))
    units = agreement(pair, teacher, context, answer)
    assert sum(unit["teacher"] * math.log(unit["probability"]) for unit in units) == pytest.approx(total, rel=1e-4)
