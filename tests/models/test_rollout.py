"""Sampling draws from the right distribution, and a draw depends on its sample only."""

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from simct.models.rollout import generate
from simct.models.sampling import pick_tokens, uniforms
from tests.support.random_pair import random_model, student_tokenizer


@pytest.fixture(scope="module")
def student():
    tokenizer = student_tokenizer()
    return random_model(tokenizer, seed=3), tokenizer


def sample(model, tokenizer, prompts, indices, length=12, temperature=1.0, step=1, **settings):
    return generate(
        model, prompts, (tokenizer.eos_token_id,), tokenizer.pad_token_id, len(tokenizer), length, temperature, 0.95,
        uniforms(0, step, indices, length), **settings,
    )  # fmt: skip


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 0.95), (1.5, 0.5), (0.6, 0.01)])
def test_draws_follow_the_truncated_distribution(temperature, top_p):
    torch.manual_seed(0)
    logits_1V = 2 * torch.randn(1, 12)
    warp = LogitsProcessorList([TemperatureLogitsWarper(temperature), TopPLogitsWarper(top_p)])
    expected_V = torch.softmax(warp(None, logits_1V.clone()), dim=-1)[0]
    # equally spaced draws make the frequencies exact up to the spacing
    n = 20000
    draws = pick_tokens(logits_1V.expand(n, -1), (torch.arange(n) + 0.5) / n, temperature, top_p)
    frequency_V = torch.bincount(draws, minlength=12) / n
    assert torch.allclose(frequency_V, expected_V, atol=2e-4)


@pytest.mark.parametrize("temperature", [0.6, 1.5])
@pytest.mark.parametrize(
    ("top_k", "top_p", "min_p"),
    [(3, 1.0, 0.0), (1, 0.9, 0.0), (5, 0.7, 0.0), (None, 1.0, 0.2), (None, 0.8, 0.1), (4, 0.95, 0.3), (999, 0.5, 1.0)],
)
@pytest.mark.parametrize("size", [12, 300])
def test_top_k_top_p_and_min_p_leave_the_tokens_that_transformers_leaves(temperature, top_k, top_p, min_p, size):
    torch.manual_seed(2)
    logits_1V = 2 * torch.randn(1, size)
    logits_1V[0, 3] = logits_1V[0].sort(descending=True).values[2]  # a tie at the edge of the top 3
    warpers = [TemperatureLogitsWarper(temperature)]
    warpers += [TopKLogitsWarper(top_k)] if top_k else []
    warpers += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    warpers += [MinPLogitsWarper(min_p)] if min_p else []
    expected_V = torch.softmax(LogitsProcessorList(warpers)(None, logits_1V.clone()), dim=-1)[0]
    n = 40000
    uniform_N = (torch.arange(n) + 0.5) / n
    draws = pick_tokens(logits_1V.expand(n, -1), uniform_N, temperature, top_p, top_k, min_p)
    assert torch.allclose(torch.bincount(draws, minlength=size) / n, expected_V, atol=2e-4)


@pytest.mark.parametrize("penalty", [1.3, 0.8])
def test_the_repetition_penalty_is_that_of_transformers_and_knows_no_padding(student, penalty):
    model, tokenizer = student
    prompts = [tokenizer(text)["input_ids"] for text in ("the cat", "a", "12 and 23 and the rest")]
    batch = sample(model, tokenizer, prompts, [4, 5, 6], repetition_penalty=penalty, top_k=50, min_p=0.01)
    plain = sample(model, tokenizer, prompts, [4, 5, 6])
    assert batch != plain
    processor = RepetitionPenaltyLogitsProcessor(penalty)
    for position, (prompt, rollout) in enumerate(zip(prompts, batch, strict=True)):
        (alone,) = sample(model, tokenizer, [prompt], [4 + position], repetition_penalty=penalty, top_k=50, min_p=0.01)
        assert alone == rollout
        # token by token: what transformers' processor makes of the whole row, then the draw of that place
        ids, drawn_1M = list(prompt), uniforms(0, 1, [4 + position], 12)
        for place in range(len(rollout.completion_ids)):
            with torch.no_grad():
                logits_1V = model(torch.tensor([ids])).logits[:, -1]
            logits_1V[:, len(tokenizer) :] = float("-inf")
            scores_1V = processor(torch.tensor([ids]), logits_1V)
            ids.append(int(pick_tokens(scores_1V, drawn_1M[:, place], 1.0, 0.95, 50, 0.01)))
        assert ids[len(prompt) :] == rollout.completion_ids


def sorted_whole(logits_V, uniform: float, temperature: float, top_p: float) -> int:
    """One draw by sorting the whole row, token by token."""
    ranked = sorted(torch.softmax(logits_V / temperature, dim=-1).tolist(), reverse=True)
    order = logits_V.argsort(descending=True).tolist()
    nucleus, mass = [], 0.0
    for probability in ranked:
        if mass >= top_p:
            break
        nucleus.append(probability)
        mass += probability
    below = 0.0
    for token, probability in zip(order, nucleus, strict=False):
        below += probability
        if uniform * mass < below:
            return token
    return order[len(nucleus) - 1]


@pytest.mark.parametrize("top_p", [1.0, 0.95])
@pytest.mark.parametrize("spread", [8.0, 1.5, 0.1])
def test_draws_among_the_most_likely_tokens_are_those_of_the_whole_row(top_p, spread):
    # draws of peaked rows are among the most likely tokens, those of flat rows are not; a batch has both
    torch.manual_seed(1)
    logits_BV = torch.randn(64, 700, dtype=torch.float64) * spread
    logits_BV[::2] *= 4
    uniform_B = torch.rand(64)
    expected = [sorted_whole(row, float(u), 0.8, top_p) for row, u in zip(logits_BV, uniform_B, strict=True)]
    assert pick_tokens(logits_BV, uniform_B, 0.8, top_p).tolist() == expected


def test_the_ends_of_the_uniform_range_stay_inside_the_nucleus():
    logits_2V = torch.tensor([[5.0, 0.0, -5.0]]).expand(2, -1)
    drawn = pick_tokens(logits_2V, torch.tensor([0.0, 1 - 2**-24]), 1.0, 0.9)
    assert drawn.tolist() == [0, 0]


def test_the_largest_draw_never_picks_a_token_without_probability():
    """Rounding may leave a row's whole mass below the largest draw."""
    logits_BV = 3 * torch.randn(512, 1000, generator=torch.Generator().manual_seed(0))
    logits_BV[:, 900:] = float("-inf")
    assert pick_tokens(logits_BV, torch.full((512,), 1 - 2**-24), 1.0, 1.0).max() < 900


@pytest.mark.parametrize(("top_p", "top_k"), [(1.0, None), (0.9, None), (1.0, 3)])
def test_logits_that_are_not_numbers_still_pick_an_id(top_p, top_k):
    """The loss of such a student is not finite, and the run says so."""
    drawn = pick_tokens(torch.full((2, 40), float("nan")), torch.tensor([0.1, 0.9]), 1.0, top_p, top_k)
    assert ((drawn >= 0) & (drawn < 40)).all()


def test_uniforms_depend_on_seed_step_and_sample_only():
    together = uniforms(7, 3, [0, 1, 2], 5)
    assert torch.equal(together[1:2], uniforms(7, 3, [1], 5))
    assert not torch.equal(together, uniforms(7, 4, [0, 1, 2], 5))
    assert not torch.equal(together, uniforms(8, 3, [0, 1, 2], 5))
    assert ((together >= 0) & (together < 1)).all()


def test_a_rollout_is_the_same_alone_and_in_a_batch(student):
    model, tokenizer = student
    prompts = [tokenizer(text)["input_ids"] for text in ("the cat", "a", "12 and 23 and the rest")]
    batch = sample(model, tokenizer, prompts, [4, 5, 6])
    for position, prompt in enumerate(prompts):
        (alone,) = sample(model, tokenizer, [prompt], [4 + position])
        assert alone == batch[position]


def test_a_completion_ends_after_its_first_end_token_and_only_then(student):
    model, tokenizer = student
    prompts = [tokenizer("the")["input_ids"]] * 64
    rollouts = sample(model, tokenizer, prompts, list(range(64)), length=40, temperature=3.0)
    assert any(rollout.ended for rollout in rollouts)
    assert any(not rollout.ended for rollout in rollouts)
    for rollout in rollouts:
        ends = [i for i, token in enumerate(rollout.completion_ids) if token == tokenizer.eos_token_id]
        assert ends == ([len(rollout.completion_ids) - 1] if rollout.ended else [])
        assert rollout.ended or len(rollout.completion_ids) == 40
        assert max(rollout.completion_ids) < len(tokenizer)  # never a padding row of the lm_head


def test_greedy_is_what_transformers_does(student):
    model, tokenizer = student
    prompt = tokenizer("the cat and")["input_ids"]
    (ours,) = generate(model, [prompt], (tokenizer.eos_token_id,), tokenizer.pad_token_id, len(tokenizer), 10)
    theirs = model.generate(torch.tensor([prompt]), max_new_tokens=10, do_sample=False)[0, len(prompt) :].tolist()
    assert ours.completion_ids == theirs


def test_the_models_own_generation_settings_are_neither_used_nor_lost(student):
    model, tokenizer = student
    prompt = tokenizer("the cat and")["input_ids"]
    plain = sample(model, tokenizer, [prompt], [0])
    model.generation_config.repetition_penalty, model.generation_config.top_k = 5.0, 1
    try:
        assert sample(model, tokenizer, [prompt], [0]) == plain
        assert (model.generation_config.repetition_penalty, model.generation_config.top_k) == (5.0, 1)
    finally:
        model.generation_config.repetition_penalty, model.generation_config.top_k = 1.0, 50
