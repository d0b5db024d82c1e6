"""The step of plain decoders has the logits of the model, and is left to it where anything was added."""

import pytest
import torch
import transformers
from transformers.cache_utils import Cache, DynamicCache

from simct.models import decoding
from simct.models.decoding import GrowingLayer
from simct.models.plain_step import PlainStep, is_plain
from simct.models.precision import weights_in
from simct.models.rollout import generate

SMALL = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
PLAIN = {
    "Llama": {},
    "Llama with biases": {"attention_bias": True, "mlp_bias": True, "hidden_act": "gelu"},
    "Llama with scaled positions": {
        "head_dim": 16,
        "rope_parameters": {"rope_theta": 1e4, "rope_type": "yarn", "factor": 4.0},
    },
    "Llama with one head of keys": {"num_key_value_heads": 1, "tie_word_embeddings": True},
    "Mistral": {"sliding_window": 64, "head_dim": 8},
    "Qwen2": {},
    "Qwen3": {"head_dim": 8},
}


def model_of(kind: str, settings: dict, **options):
    torch.manual_seed(0)
    architecture = getattr(transformers, f"{kind.split()[0]}ForCausalLM")
    model = architecture._from_config(architecture.config_class(**{**SMALL, **settings}), **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)  # norms and biases too
    return model


@torch.no_grad()
@pytest.mark.parametrize("kind", PLAIN)
def test_the_logits_are_those_of_the_model(kind):
    model = model_of(kind, PLAIN[kind])
    assert is_plain(model)
    ids_BL = torch.randint(5, 97, (3, 12), generator=torch.Generator().manual_seed(1))
    theirs = DynamicCache(config=model.config)
    ours = Cache(layers=[GrowingLayer() for _ in range(SMALL["num_hidden_layers"])])
    # the second sequence starts later
    reads = torch.arange(12) >= torch.tensor([0, 4, 0])[:, None]
    position_BL = (reads.cumsum(1) - 1).clamp(min=0)
    for cache in (theirs, ours):
        model(ids_BL[:, :9], attention_mask=reads[:, :9].long(), position_ids=position_BL[:, :9], past_key_values=cache)
    step = PlainStep(model, "sdpa")
    for place in range(9, 12):
        ids_B1, position_B1 = ids_BL[:, place : place + 1], position_BL[:, place : place + 1]
        mask = reads[:, : place + 1]
        found_BV = step.logits(ours, ids_B1, mask[:, None, None], position_B1)
        expected = model(ids_B1, attention_mask=mask.long(), position_ids=position_B1, past_key_values=theirs)
        torch.testing.assert_close(found_BV, expected.logits[:, -1], rtol=1e-4, atol=1e-4)
    assert ours.layers[0].length == 12


def with_hook(model):
    model.model.layers[1].mlp.register_forward_hook(lambda module, inputs, output: output * 2)
    return model


def with_other_layer(model):
    class Doubled(torch.nn.Linear):
        def forward(self, input):
            return 2 * super().forward(input)

    model.model.layers[0].mlp.up_proj.__class__ = Doubled
    return model


def with_replaced_forward(model):
    model.model.norm.forward = lambda states: states
    return model


@pytest.mark.parametrize("change", [with_hook, with_other_layer, with_replaced_forward])
def test_a_model_with_something_added_is_read_by_itself(change):
    model = change(model_of("Llama", {}))
    assert not is_plain(model)
    prompts = [[5, 6, 7], [8, 9]]
    written = generate(model, prompts, (2,), 0, 97, 8)
    for prompt, rollout in zip(prompts, written, strict=True):
        ids_1L = torch.tensor([[*prompt, *rollout.completion_ids[:-1]]])
        with torch.no_grad():
            picked = model(ids_1L).logits[0, len(prompt) - 1 :].argmax(-1).tolist()
        assert rollout.completion_ids == picked


def test_other_models_are_read_by_themselves():
    import peft

    assert not is_plain(model_of("Llama", {}, attn_implementation="eager"))
    assert not is_plain(model_of("Gemma", {"head_dim": 8}))
    assert not is_plain(model_of("Phi3", {}))
    settings = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    assert not is_plain(decoding.plain_model(peft.get_peft_model(model_of("Llama", {}), settings)))


def test_the_step_reads_the_weights_that_are_in_place():
    """A student in float32 writes with its weights rounded to bfloat16."""
    model, seen = model_of("Llama", {}), []
    original = PlainStep.logits

    def logits(step, *arguments):
        logits_BV = original(step, *arguments)
        seen.append(logits_BV.dtype)
        return logits_BV

    with pytest.MonkeyPatch.context() as patch, weights_in(model, torch.bfloat16):
        patch.setattr(PlainStep, "logits", logits)
        generate(model, [[5, 6, 7]], (), 0, 97, 3)
    assert set(seen) == {torch.bfloat16}
