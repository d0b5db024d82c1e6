"""Packed sequences have the hidden states and gradients of each read alone, or are not packed."""

import pytest
import torch
import transformers

from simct.losses.head import decoder_of
from simct.models import packing
from simct.models.loading import hidden_rows
from simct.models.packing import PACKED, packed_attention, packs

SMALL = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
PACKED_KINDS = {
    "Llama": {},
    "Qwen2": {},
    "Qwen3": {"head_dim": 8},
    "Mistral": {"sliding_window": 64},
    "Gemma3": {"head_dim": 8, "sliding_window": 64},
    "Phi3": {},
    "Olmo2": {},
    "GPTNeoX": {},
    "Mixtral": {"num_local_experts": 4},
}
OTHERS = {
    "Mistral": {"sliding_window": 16},
    "Gemma2": {"head_dim": 8, "sliding_window": 64},
    "Mamba": {},
    "Bloom": {"n_layer": 2, "n_head": 4},
    "Falcon": {},
    "Qwen3_5": {"head_dim": 8, "num_hidden_layers": 4},
}
PROMPTS = [[5, 6, 7], [8], list(range(20, 50)), [9, 9]]
COMPLETIONS = [[10, 11], [12, 13, 14, 15], [16] * 3, [17]]


def model_of(kind: str, settings: dict):
    torch.manual_seed(0)
    architecture = getattr(transformers, f"{kind}ForCausalLM")
    model = architecture._from_config(architecture.config_class(**{**SMALL, **settings}))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)  # so that what was read matters
    return model


def rows_and_gradients(model, together: bool):
    model.zero_grad()
    apart = [([prompt], [completion]) for prompt, completion in zip(PROMPTS, COMPLETIONS, strict=True)]
    batches = [(PROMPTS, COMPLETIONS)] if together else apart
    rows_NH = torch.cat([hidden_rows(model, *batch, 0)[0] for batch in batches])
    (rows_NH * torch.linspace(-1, 1, rows_NH.numel(), dtype=rows_NH.dtype).view_as(rows_NH)).sum().backward()
    return rows_NH.detach(), {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


def assert_close(one, other):
    assert (one - other).norm() <= 1e-4 * other.norm()


@pytest.mark.parametrize(
    ("kind", "settings", "packed"),
    [*((*each, True) for each in PACKED_KINDS.items()), *((*each, False) for each in OTHERS.items())],
)
def test_sequences_read_together_are_those_read_apart(kind, settings, packed):
    model = model_of(kind, settings)
    decoder = decoder_of(model)
    own = decoder.config._attn_implementation
    assert packs(decoder, 40) == packed
    rows_NH, gradients = rows_and_gradients(model, together=True)
    apart_NH, expected = rows_and_gradients(model, together=False)
    assert_close(rows_NH, apart_NH)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert_close(gradient, expected[name])
    assert decoder.config._attn_implementation == own != PACKED


def test_a_model_in_which_positions_meet_elsewhere_is_not_packed():
    model = model_of("Llama", {})
    # each position also hears what the layer made of the one before
    heard = decoder_of(model).layers[0].register_forward_hook(lambda layer, inputs, output: output + output.roll(1, 1))
    assert not packs(decoder_of(model), 40)
    rows_and_gradients(model, together=True)
    heard.remove()
    assert not packs(decoder_of(model), 40) and packs(decoder_of(model_of("Llama", {})), 40)


def test_layers_that_run_again_are_not_packed():
    model = model_of("Llama", {})
    assert packs(decoder_of(model), 40)
    plain = rows_and_gradients(model.train(), together=True)
    model.gradient_checkpointing_enable()
    assert not packs(decoder_of(model), 40)
    again = rows_and_gradients(model, together=True)
    torch.testing.assert_close(again[0], plain[0])
    torch.testing.assert_close(again[1], plain[1])


def test_the_attention_comes_back_after_an_error():
    model = model_of("Llama", {})
    decoder, own = decoder_of(model), model.config._attn_implementation
    assert packs(decoder, 40)
    broken = decoder.layers[1].register_forward_hook(lambda layer, inputs, output: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        hidden_rows(model, PROMPTS, COMPLETIONS, 0)
    broken.remove()
    assert model.config._attn_implementation == own


@pytest.mark.parametrize("block", [1, 2, 5, 128])
@pytest.mark.parametrize("kept_length", [0, 5, 512])
@pytest.mark.parametrize("scores_at_once", [1, 100])
@pytest.mark.parametrize("key_heads", [1, 2, 4])
def test_attention_by_products_is_exact(key_heads, scores_at_once, kept_length, block, monkeypatch):
    """In float64 it is torch's own to the last digits, backward too; lengths are mixed, and one is a single token."""
    monkeypatch.setattr(packing, "CACHED_SCORES", scores_at_once)
    monkeypatch.setattr(packing, "BLOCK", block)
    monkeypatch.setattr(packing, "KEPT_LENGTH", kept_length)
    torch.manual_seed(0)
    lengths = [5, 1, 7]
    shapes = [(1, sum(lengths), heads, 8) for heads in (4, key_heads, key_heads)]
    own = [torch.randn(shape, dtype=torch.float64).transpose(1, 2).requires_grad_() for shape in shapes]
    weight = torch.randn(1, sum(lengths), 4, 8, dtype=torch.float64)
    expected = torch.cat(
        [
            torch.nn.functional.scaled_dot_product_attention(*part, is_causal=True, enable_gqa=True).transpose(1, 2)
            for part in zip(*(each.split(lengths, dim=2) for each in own), strict=True)
        ],
        dim=1,
    )
    found = torch.cat(
        [
            packing._ProductAttention.apply(*part, 8**-0.5).transpose(1, 2)
            for part in zip(*(each.split(lengths, dim=2) for each in own), strict=True)
        ],
        dim=1,
    )
    torch.testing.assert_close(found, expected)
    for one, other in zip(
        *(torch.autograd.grad((each * weight).sum(), own) for each in (found, expected)), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("length", [1, 300, packing.KEPT_LENGTH, packing.KEPT_LENGTH + 1])
def test_attention_keeps_what_the_estimate_counts(length):
    """The probabilities of a short sequence, and none of a long one."""
    kept: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.nbytes)
        return tensor

    query, key, value = (
        torch.randn(1, heads, length, 8, dtype=torch.bfloat16, requires_grad=True) for heads in (4, 2, 2)
    )
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        packing._ProductAttention.apply(query, key, value, 1.0)
    inputs = query.nbytes + key.nbytes + value.nbytes
    assert sum(kept) - inputs == packing.kept_bytes(4, length)
    assert (packing.kept_bytes(4, length) == 0) == (length > packing.KEPT_LENGTH)


@pytest.mark.parametrize("dropout", [0.0, 1e-12])
def test_attention_in_bfloat16_is_near_that_in_float32(dropout):
    """By products without dropout, and by torch's kernel otherwise."""
    module, lengths = torch.nn.Module(), [5, 2, packing.BLOCK + 9]
    module.num_key_value_groups = 2
    torch.manual_seed(0)
    exact = [torch.randn(1, sum(lengths), heads, 8).transpose(1, 2) for heads in (4, 2, 2)]
    both = [
        packed_attention(module, *(each.to(dtype) for each in exact), None, packed_lengths=lengths, dropout=dropout)[0]
        for dtype in (torch.float32, torch.bfloat16)
    ]
    assert both[0].shape == both[1].shape == (1, sum(lengths), 4, 8) and both[1].dtype == torch.bfloat16
    torch.testing.assert_close(both[1].float(), both[0], rtol=0.05, atol=0.05)
