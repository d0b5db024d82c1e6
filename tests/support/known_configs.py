"""Shapes of public models, as their config.json states them, for estimates that need no Hub."""

from transformers import Gemma2Config, LlamaConfig, Phi3Config, Qwen2Config


def _qwen(vocabulary, hidden, inner, layers, heads, shared, tied):
    return Qwen2Config(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=shared, tie_word_embeddings=tied,
    )  # fmt: skip


def _smollm2(hidden, inner, layers, heads, shared):
    return LlamaConfig(
        vocab_size=49152, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=shared, tie_word_embeddings=True,
    )  # fmt: skip


def known_config(name: str):
    """The config of a model of the presets."""
    return {
        "Qwen/Qwen2.5-1.5B-Instruct": lambda: _qwen(151936, 1536, 8960, 28, 12, 2, True),
        "Qwen/Qwen2.5-3B-Instruct": lambda: _qwen(151936, 2048, 11008, 36, 16, 2, True),
        "Qwen/Qwen2.5-7B-Instruct": lambda: _qwen(152064, 3584, 18944, 28, 28, 4, False),
        "google/gemma-2-2b-it": lambda: Gemma2Config(
            vocab_size=256000, hidden_size=2304, intermediate_size=9216, num_hidden_layers=26, num_attention_heads=8,
            num_key_value_heads=4, head_dim=256, tie_word_embeddings=True,
        ),
        "microsoft/Phi-4-mini-instruct": lambda: Phi3Config(
            vocab_size=200064, hidden_size=3072, intermediate_size=8192, num_hidden_layers=32, num_attention_heads=24,
            num_key_value_heads=8, tie_word_embeddings=True, pad_token_id=199999, bos_token_id=199999,
            eos_token_id=199999,
        ),
        "HuggingFaceTB/SmolLM2-360M-Instruct": lambda: _smollm2(960, 2560, 32, 15, 5),
        "HuggingFaceTB/SmolLM2-1.7B-Instruct": lambda: _smollm2(2048, 8192, 24, 32, 32),
    }[name]()  # fmt: skip


# billions, as the models' own pages state them
PARAMETERS = {
    "Qwen/Qwen2.5-1.5B-Instruct": 1.54,
    "Qwen/Qwen2.5-3B-Instruct": 3.09,
    "Qwen/Qwen2.5-7B-Instruct": 7.62,
    "google/gemma-2-2b-it": 2.61,
    "microsoft/Phi-4-mini-instruct": 3.84,
    "HuggingFaceTB/SmolLM2-360M-Instruct": 0.362,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": 1.71,
}
