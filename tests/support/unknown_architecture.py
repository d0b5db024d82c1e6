"""An architecture that is not known here: its logits are those of its lm_head times a number of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING


class LouderConfig(LlamaConfig):
    model_type = "louder_llama"


class LouderForCausalLM(LlamaForCausalLM):
    config_class = LouderConfig

    def forward(self, *arguments, **options):
        output = super().forward(*arguments, **options)
        output.logits = output.logits * 1.7
        return output


@contextmanager
def registered() -> Iterator[None]:
    """transformers loads the architecture, as it would one that a later release brings."""
    AutoConfig.register(LouderConfig.model_type, LouderConfig)
    AutoModelForCausalLM.register(LouderConfig, LouderForCausalLM)
    try:
        yield
    finally:
        CONFIG_MAPPING._extra_content.pop(LouderConfig.model_type, None)
        AutoModelForCausalLM._model_mapping._extra_content.pop(LouderConfig, None)


def save_louder(source: str, folder: Path) -> str:
    """The Llama model in `source`, with its tokenizer, as one of this architecture; returns its folder."""
    plain = LlamaForCausalLM.from_pretrained(source)
    louder = LouderForCausalLM(LouderConfig(**{k: v for k, v in plain.config.to_dict().items() if k != "model_type"}))
    louder.load_state_dict(plain.state_dict())
    louder.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return str(folder)
