"""The decode loop writes what transformers' `generate` writes, whoever shares the batch, for every kind of cache."""

import random

import pytest
import torch
import transformers
from transformers import RepetitionPenaltyLogitsProcessor

from simct import demo
from simct.config.sections import ModelConfig
from simct.losses.head import decoder_of
from simct.models import decoding, step_attention
from simct.models.decoding import can_decode
from simct.models.loading import load_model
from simct.models.packing import packs
from simct.models.rollout import generate
from simct.models.sampling import pick_tokens, uniforms

VOCABULARY, KNOWN = 97, 90
ENDS = (2, 5)
LENGTH = 20
SMALL = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
EXPERTS = {"num_local_experts": 4}
LATENT = {
    "num_key_value_heads": 4, "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 2,
    "q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
    "moe_intermediate_size": 16, "first_k_dense_replace": 1,
}  # fmt: skip
DECODED = {
    "LlamaForCausalLM": {},
    "Qwen2ForCausalLM": {},
    "Qwen3ForCausalLM": {"head_dim": 8},
    "MistralForCausalLM": {"sliding_window": 64},
    "Gemma2ForCausalLM": {"head_dim": 8, "sliding_window": 64},
    "Gemma3ForCausalLM": {"head_dim": 8, "sliding_window": 64},
    "GptOssForCausalLM": {"head_dim": 8, "sliding_window": 64, **EXPERTS},
    "GPT2LMHeadModel": GPT2,
    "GPTNeoXForCausalLM": {},
    "Phi3ForCausalLM": {},
    "OPTForCausalLM": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "Olmo2ForCausalLM": {},
    "FalconForCausalLM": {},
    "MixtralForCausalLM": EXPERTS,
    "CohereForCausalLM": {},
    "DeepseekV3ForCausalLM": LATENT,
}
NOT_DECODED = {
    "MistralForCausalLM": {"sliding_window": 16},
    "Gemma3ForCausalLM": {"head_dim": 8, "sliding_window": 16},
    "Qwen3_5ForCausalLM": {"head_dim": 8, "num_hidden_layers": 4},
    "MambaForCausalLM": {},
    "BloomForCausalLM": {"n_layer": 2, "n_head": 4},
}
ATTENDING_OTHERWISE = {"Gemma2ForCausalLM", "GptOssForCausalLM", "FalconForCausalLM"}
PROMPTS = [
    torch.randint(6, KNOWN, (length,), generator=torch.Generator().manual_seed(length)).tolist()
    for length in (5, 9, 3, 40, 7, 31, 4)
]


def model_of(architecture: str, settings: dict, seed: int = 0):
    torch.manual_seed(seed)
    kind = getattr(transformers, architecture)
    model = kind._from_config(kind.config_class(**{**SMALL, **settings})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)  # as sure of itself as a trained model, so that what was read matters
    return model


def write(model, prompts, indices=None, **settings):
    indices = list(range(len(prompts))) if indices is None else indices
    drawn_NM = uniforms(0, 1, indices, LENGTH)
    settings = {"temperature": 0.9, "top_p": 0.95, "uniforms_NM": drawn_NM} | settings
    return generate(model, prompts, ENDS, 0, KNOWN, LENGTH, **settings)


@torch.no_grad()
def one_by_one(model, prompt, index, penalty=1.0, greedy=False, top_k=None, min_p=0.0):
    """One completion, without a cache: the whole text is read again for every token."""
    drawn_1M, ids = uniforms(0, 1, [index], LENGTH), list(prompt)
    penalize = RepetitionPenaltyLogitsProcessor(penalty)
    for place in range(LENGTH):
        logits_1V = model(input_ids=torch.tensor([ids])).logits[:, -1].float()
        logits_1V[:, KNOWN:] = float("-inf")
        logits_1V = penalize(torch.tensor([ids]), logits_1V)
        picked = logits_1V.argmax(-1) if greedy else pick_tokens(logits_1V, drawn_1M[:, place], 0.9, 0.95, top_k, min_p)
        ids.append(int(picked))
        if ids[-1] in ENDS:
            break
    return ids[len(prompt) :]


@pytest.fixture(params=[False, True], ids=["padded", "packed"])
def packed(request, monkeypatch) -> bool:
    """Whether prompts are read without padding, as by larger models."""
    monkeypatch.setattr(decoding, "LEAST_PACKED", 0 if request.param else 2**60)
    return request.param


@pytest.mark.parametrize("architecture", DECODED)
def test_what_is_sampled_is_what_the_model_says_without_a_cache(architecture, packed, monkeypatch):
    model = model_of(architecture, DECODED[architecture])
    read: list[list[int]] = []
    inputs = decoding.packed_inputs
    monkeypatch.setattr(decoding, "packed_inputs", lambda model, some: read.append(some) or inputs(model, some))
    assert can_decode(model, max(map(len, PROMPTS)) + LENGTH)
    expected = [one_by_one(model, prompt, index) for index, prompt in enumerate(PROMPTS)]
    assert len(set(map(len, expected))) > 1, "sequences that end at different places"
    for batch_size in (None, 3):
        rollouts = write(model, PROMPTS, batch_size=batch_size)
        assert [rollout.completion_ids for rollout in rollouts] == expected
        assert [rollout.ended for rollout in rollouts] == [ids[-1] in ENDS for ids in expected]
        assert [rollout.prompt_ids for rollout in rollouts] == PROMPTS
    assert bool(read) == (packed and packs(decoder_of(model), 40))


@pytest.mark.parametrize("architecture", DECODED)
def test_the_attention_of_steps_in_bfloat16_reads_what_the_models_own_does(architecture, monkeypatch):
    model = model_of(architecture, DECODED[architecture])
    expected = write(model, PROMPTS, batch_size=3)
    own, read = model.config.get_text_config()._attn_implementation, []
    monkeypatch.setattr(step_attention, "FASTER_IN", torch.float32)
    register = step_attention.AttentionInterface.register
    attend = step_attention.step_attention
    register(step_attention.STEP, lambda *states, **options: read.append(1) or attend(*states, **options))
    try:
        assert write(model, PROMPTS, batch_size=3) == expected
    finally:
        register(step_attention.STEP, attend)
    assert bool(read) == step_attention.suits_steps(model) == (architecture not in ATTENDING_OTHERWISE)
    assert model.config.get_text_config()._attn_implementation == own


@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (3, 1)])
@pytest.mark.parametrize("masked", [False, True])
def test_the_attention_of_steps_is_that_of_torch(heads, masked):
    torch.manual_seed(0)
    query, room = torch.randn(3, heads[0], 1, 8).double(), torch.randn(2, 3, heads[1], 20, 8).double()
    key, value = room[0][:, :, :11], room[1][:, :, :11, :5]
    reads = torch.arange(11) >= torch.tensor([0, 4, 10])[:, None, None, None] if masked else None
    mask = None if reads is None else step_attention.added_mask(reads)
    output, _ = step_attention.step_attention(torch.nn.Module(), query, key, value, mask, scaling=0.3, dropout=0.0)
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=reads, scale=0.3, enable_gqa=True
    )
    assert torch.allclose(output, expected.transpose(1, 2), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "architecture", ["LlamaForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM", "GPT2LMHeadModel"]
)
def test_greedy_is_what_generate_writes(architecture):
    model = model_of(architecture, DECODED[architecture])
    ids_BL, mask_BL = decoding.left_pad(PROMPTS, 0, "cpu")
    output_BL = model.generate(
        input_ids=ids_BL, attention_mask=mask_BL, do_sample=False, max_new_tokens=LENGTH, eos_token_id=list(ENDS),
        pad_token_id=0, suppress_tokens=list(range(KNOWN, VOCABULARY)),
    )  # fmt: skip
    rollouts = write(model, PROMPTS, uniforms_NM=None, batch_size=4)
    for rollout, row in zip(rollouts, output_BL[:, ids_BL.shape[1] :].tolist(), strict=True):
        assert rollout.completion_ids == row[: len(rollout.completion_ids)]
        assert rollout.ended or len(rollout.completion_ids) == LENGTH


@pytest.mark.parametrize("architecture", NOT_DECODED)
def test_other_caches_are_left_to_generate(architecture, monkeypatch):
    model = model_of(architecture, NOT_DECODED[architecture])
    assert not can_decode(model, max(map(len, PROMPTS)) + LENGTH)
    monkeypatch.setattr(decoding.DecodeLoop, "write", None)
    rollouts = write(model, PROMPTS, batch_size=1, repetition_penalty=1.2)
    for index in (0, 3):
        assert rollouts[index].completion_ids == one_by_one(model, PROMPTS[index], index, penalty=1.2)
    counted: list[int] = []
    write(model, PROMPTS, batch_size=4, on_progress=counted.append)
    assert counted == list(range(1, len(PROMPTS) + 1))


@pytest.mark.parametrize(
    ("architecture", "settings", "limit"),
    [
        ("LlamaForCausalLM", {"rope_parameters": {"rope_theta": 1e4, "rope_type": "dynamic", "factor": 2.0}}, 128),
        (
            "Phi3ForCausalLM",
            {
                "original_max_position_embeddings": 32,
                "rope_parameters": {
                    "rope_theta": 1e4, "rope_type": "longrope", "original_max_position_embeddings": 32,
                    "short_factor": [1.0] * 4, "long_factor": [2.0] * 4,
                },
            },
            32,
        ),
    ],
)  # fmt: skip
def test_positions_that_depend_on_the_longest_sequence_are_left_to_generate(architecture, settings, limit):
    model = model_of(architecture, settings)
    assert can_decode(model, limit)
    assert not can_decode(model, limit + 1)


def test_a_sliding_window_is_decoded_as_long_as_nothing_leaves_it():
    model = model_of("MistralForCausalLM", {"sliding_window": 40})
    assert can_decode(model, 40)
    assert not can_decode(model, 41)


@pytest.mark.parametrize("seed", range(6))
def test_an_answer_does_not_depend_on_who_shares_the_batch(seed):
    model = model_of("LlamaForCausalLM", {}, seed)
    coin = random.Random(seed)
    prompts = [[coin.randrange(6, KNOWN) for _ in range(coin.randrange(1, 60))] for _ in range(12)]
    alone = [write(model, [prompt], [index])[0] for index, prompt in enumerate(prompts)]
    for _ in range(4):
        some = coin.sample(range(12), coin.randrange(2, 12))
        together = write(model, [prompts[index] for index in some], some, batch_size=coin.randrange(1, 12))
        assert together == [alone[index] for index in some]


@pytest.mark.parametrize("options", [{"penalty": 1.4}, {"top_k": 3}, {"min_p": 0.2}, {"penalty": 0.7, "greedy": True}])
def test_penalty_top_k_and_min_p_are_applied_to_every_sequence(options):
    model = model_of("Qwen2ForCausalLM", {})
    settings = {("repetition_penalty" if name == "penalty" else name): value for name, value in options.items()}
    if settings.pop("greedy", False):
        settings["uniforms_NM"] = None
    rollouts = write(model, PROMPTS, batch_size=3, **settings)
    expected = [one_by_one(model, prompt, index, **options) for index, prompt in enumerate(PROMPTS)]
    assert [rollout.completion_ids for rollout in rollouts] == expected


@pytest.mark.parametrize("side", [demo.STUDENT, demo.TEACHER], ids=lambda path: path.name)
@pytest.mark.parametrize("greedy", [False, True])
def test_the_embedded_models_write_what_generate_makes_them_write(side, greedy, monkeypatch):
    model = load_model(ModelConfig(model=str(side))).eval()
    known = model.config.vocab_size
    coin = random.Random(0)
    prompts = [[coin.randrange(5, known) for _ in range(coin.randrange(3, 40))] for _ in range(12)]
    drawn_NM = None if greedy else uniforms(3, 2, list(range(12)), 40)
    arguments = (model, prompts, (3, 4), 0, known, 40, 1.0, 0.95, drawn_NM)
    ours = generate(*arguments, batch_size=5)
    monkeypatch.setattr("simct.models.rollout.can_decode", lambda *_: False)
    assert ours == generate(*arguments)


def test_adapters_take_part(monkeypatch):
    import peft

    model = peft.get_peft_model(
        model_of("LlamaForCausalLM", {}), peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    )
    before = write(model, PROMPTS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_()
    adapted = write(model, PROMPTS, batch_size=3)
    assert adapted != before
    monkeypatch.setattr("simct.models.rollout.can_decode", lambda *_: False)
    assert adapted == write(model, PROMPTS)


def test_a_student_is_trained_as_before_after_it_has_written():
    settings = {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "dynamic", "factor": 2.0}}
    student = model_of("LlamaForCausalLM", settings).train()
    ids_BL = torch.tensor([PROMPTS[3]])
    student(input_ids=ids_BL, labels=ids_BL).loss.backward()
    expected = [parameter.grad.clone() for parameter in student.parameters()]
    student.zero_grad()
    write(student, PROMPTS)
    assert student.training
    student(input_ids=ids_BL, labels=ids_BL).loss.backward()
    for parameter, gradient in zip(student.parameters(), expected, strict=True):
        assert torch.equal(parameter.grad, gradient)


def test_finished_sequences_leave_and_waiting_prompts_take_their_place(packed):
    model = model_of("LlamaForCausalLM", {})
    computed, read = [], []

    def count(_module, arguments, options, output):
        rows, width = output.logits.shape[:2]
        assert 1 in (rows, width)
        (computed if options["input_ids"].shape[1] == 1 else read).append(rows * width)

    model.register_forward_hook(count, with_kwargs=True)
    prompts = [PROMPTS[index % len(PROMPTS)] for index in range(40)]
    rollouts = write(model, prompts, batch_size=8)
    steps = sum(len(rollout.completion_ids) - 1 for rollout in rollouts)
    assert sum(read) == 40 and max(computed) <= 8
    assert sum(computed) == steps, "at eight at a time no finished sequence is computed"
    # in batches of eight that wait for their last, there would be about twice as many steps
    assert len(computed) <= 1.5 * steps / 8


def test_many_prompts_are_read_in_parts(packed, monkeypatch):
    monkeypatch.setattr(decoding, "PREFILL_TOKENS", 64)
    model, seen = model_of("LlamaForCausalLM", {}), []
    model.register_forward_pre_hook(
        lambda _module, _arguments, options: seen.append(options["input_ids"].numel()), with_kwargs=True
    )
    rollouts = write(model, PROMPTS)
    assert max(seen) <= 64
    monkeypatch.setattr(decoding, "PREFILL_TOKENS", 2**15)
    assert rollouts == write(model, PROMPTS)


@pytest.mark.parametrize(
    ("lengths", "long", "without_padding"),
    [((9, 9, 9, 8), 10, False), ((9, 9, 4, 8), 10, True), ((9, 9, 9, 9), 9, True)],
)
def test_short_prompts_of_nearly_one_length_are_padded(lengths, long, without_padding, monkeypatch):
    monkeypatch.setattr(decoding, "LEAST_PACKED", 0)
    monkeypatch.setattr(decoding, "LONG", long)
    model, shapes = model_of("LlamaForCausalLM", {}), []
    model.register_forward_pre_hook(
        lambda _module, _arguments, options: shapes.append(tuple(options["input_ids"].shape)), with_kwargs=True
    )
    write(model, [PROMPTS[3][:length] for length in lengths])
    assert shapes[0][0] == 1 if without_padding else shapes[0] == (4, 9)


def test_the_head_reads_contiguous_states(packed):
    """Of others, torch multiplies each with its own copy of the lm_head."""
    model, seen = model_of("LlamaForCausalLM", {}), []
    hook = model.lm_head.register_forward_pre_hook(lambda head, inputs: seen.append(inputs[0]))
    write(model, PROMPTS)
    hook.remove()
    assert len(seen) > 1 and all(states.is_contiguous() and 1 in states.shape[:2] for states in seen)
