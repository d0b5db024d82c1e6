"""Layers that get adapters are found by their names, never by a pattern."""

import subprocess
import sys

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from simct.config import RunConfig
from simct.errors import ConfigError
from simct.models.adapters import adapted_layers, merged_student, trainable_student
from tests.support.tiny_models import save_tiny_model

# what a backtracking matcher needs years for
COSTLY = "(([a-z._]*[0-9]*)*)*$!"


@pytest.fixture
def student(tmp_path):
    return save_tiny_model(tmp_path / "student")


def adapted(student, targets: list[str]) -> set[str]:
    config = RunConfig()
    config.lora.rank, config.lora.targets = 2, targets
    model = trainable_student(student, config)
    return {name.split(".lora_A")[0].removeprefix("base_model.model.") for name, _ in model.named_parameters()
            if ".lora_A." in name}  # fmt: skip


def test_names_whole_or_their_last_parts(student):
    linear = {name for name, module in student.named_modules() if isinstance(module, torch.nn.Linear)}
    wanted = {name for name in linear if name.endswith(".q_proj")}
    assert wanted and adapted(student, ["q_proj"]) == wanted


def test_a_whole_name_is_one_layer(student):
    one = next(name for name, _ in student.named_modules() if name.endswith("q_proj"))
    assert adapted(student, [one]) == {one}


@pytest.mark.parametrize("target", [".*", "q_proj|k_proj", ".*_proj", "proj", "", "ALL", COSTLY])
def test_a_pattern_is_no_name(student, target):
    with pytest.raises(ConfigError, match="no layer of the student is named"):
        adapted(student, [target])


def test_what_peft_is_given_is_a_list_of_names(student):
    assert adapted_layers(student, ["all-linear"]) == "all-linear"
    assert isinstance(adapted_layers(student, ["q_proj"]), list)


def test_a_costly_pattern_costs_nothing():
    """In a process of its own: a matcher holds the interpreter, and no alarm would end it."""
    script = (
        "import torch\nfrom simct.models.adapters import adapted_layers\nfrom simct.errors import ConfigError\n"
        "layers = torch.nn.ModuleDict({'layers_self_attention_query_projection' * 2: torch.nn.Linear(2, 2)})\n"
        f"try:\n    adapted_layers(layers, [{COSTLY!r}])\nexcept ConfigError:\n    print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout == "refused\n", done.stderr


@pytest.mark.parametrize("targets", [["lm_head"], ["q_proj", "embed_tokens"]])
def test_layers_that_share_their_weight_get_no_adapter(targets):
    """Merged into the shared weight, an adapter of one of them would change the other."""
    tied = LlamaForCausalLM(LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        tie_word_embeddings=True,
    ))  # fmt: skip
    with pytest.raises(ConfigError, match=f"{targets[-1]} shares its weight with"):
        adapted(tied, targets)


def test_a_layer_with_its_own_weight_may_be_adapted_and_merged(student):
    config = RunConfig()
    config.lora.rank, config.lora.targets = 2, ["lm_head", "q_proj"]
    model = trainable_student(student, config).eval()
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter)
    ids_BL = torch.tensor([[3, 4, 5]])
    expected_BLV = model(input_ids=ids_BL).logits.detach()
    merged_BLV = merged_student(model, config)(input_ids=ids_BL).logits
    torch.testing.assert_close(merged_BLV, expected_BLV, rtol=1e-4, atol=1e-4)
