"""Loading: incomplete checkpoints are refused by name, adapters are merged, ids beyond the embedding never index it."""

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BertConfig, LlamaForCausalLM, RobertaConfig

from simct.config import DataConfig, ModelConfig, RunConfig
from simct.data.prompts import Prompt
from simct.data.samples import prepare_prompts
from simct.errors import DataError, ModelError, TokenizerError
from simct.models.loading import encodes, hidden_rows, load_model, pad_id_of
from simct.models.rollout import generate
from simct.tokenization.model_tokens import adapter_rows, embedding_rows, load_tokens
from simct.tokenization.pair import TokenizerPair
from tests.support.tiny_models import save_tiny_model


@pytest.fixture
def folder(tmp_path):
    save_tiny_model(tmp_path / "model")
    return tmp_path / "model"


def change_weights(folder: Path, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def change_json(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def load(folder: Path) -> torch.nn.Module:
    return load_model(ModelConfig(model=str(folder)))


def save_adapter(base: Path, folder: Path, **options) -> torch.nn.Module:
    """A LoRA adapter on `base` that changes its answers; returns the model with the adapter next to its weights."""
    import peft

    torch.manual_seed(0)
    model = LlamaForCausalLM.from_pretrained(base)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules="all-linear", **options))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    adapted.save_pretrained(folder)
    return adapted.eval()


# Incomplete checkpoints


@pytest.mark.parametrize("name", ["lm_head.weight", "model.layers.0.mlp.up_proj.weight", "model.norm.weight"])
def test_a_missing_parameter_is_refused_by_name(folder, name):
    change_weights(folder, lambda weights: weights.pop(name))
    with pytest.raises(ModelError, match="stay random") as error:
        load(folder)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_layer_is_refused_with_its_names(folder):
    change_json(folder / "config.json", num_hidden_layers=2)
    with pytest.raises(ModelError, match=r"model\.layers\.1\..* and 4 more"):
        load(folder)


def test_a_tied_lm_head_is_not_missing(folder):
    change_json(folder / "config.json", tie_word_embeddings=True)
    change_weights(folder, lambda weights: weights.pop("lm_head.weight"))
    loaded = load(folder)
    assert loaded.lm_head.weight.data_ptr() == loaded.model.embed_tokens.weight.data_ptr()


def test_other_shapes_are_refused_by_name(folder):
    change_weights(folder, lambda weights: weights.update({"model.norm.weight": torch.ones(3)}))
    with pytest.raises(ModelError, match=r"model\.norm\.weight \(\[3\] for \[16\]\)"):
        load(folder)


def test_an_embedding_of_another_size_than_the_config_says_is_refused(folder):
    change_json(folder / "config.json", vocab_size=300)
    with pytest.raises(ModelError, match=r"model\.embed_tokens\.weight \(\[257, 16\] for \[300, 16\]\)"):
        load(folder)


def test_what_the_model_has_no_place_for_is_logged(folder, caplog):
    change_weights(folder, lambda weights: weights.update({"model.layers.7.mlp.up_proj.weight": torch.ones(2)}))
    with caplog.at_level(logging.WARNING, "simct.models.loading"):
        load(folder)
    assert "model.layers.7.mlp.up_proj.weight" in caplog.text
    caplog.clear()
    change_weights(folder, lambda weights: weights.pop("model.layers.7.mlp.up_proj.weight"))
    load(folder)
    assert not caplog.records


@pytest.mark.parametrize("kind", [BertConfig, RobertaConfig])
def test_an_encoder_is_refused_although_it_loads_as_a_language_model(tmp_path, kind):
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    for decoder in (False, True):
        model = AutoModelForCausalLM.from_config(kind(vocab_size=64, is_decoder=decoder, **sizes))
        model.save_pretrained(tmp_path / str(decoder))
        assert encodes(model) is not decoder
    assert not encodes(load(tmp_path / "True"))
    with pytest.raises(ModelError, match="is an encoder"):
        load(tmp_path / "False")


# Adapters


def test_an_adapter_is_loaded_merged_into_its_base(folder, tmp_path):
    adapted = save_adapter(folder, tmp_path / "adapter")
    ids = torch.tensor([[5, 6, 7]])
    loaded = load(tmp_path / "adapter")
    with torch.no_grad():
        wanted, found, base = adapted(ids).logits, loaded(ids).logits, load(folder)(ids).logits
    assert torch.allclose(found, wanted, atol=1e-5)
    assert not torch.allclose(found, base, atol=1e-2)
    assert not any("lora" in name for name, _ in loaded.named_parameters())
    assert all(parameter.requires_grad for parameter in loaded.parameters())  # such a student is trained whole
    tokens = load_tokens(str(tmp_path / "adapter"))  # the base's, as the adapter came without
    assert tokens.end_ids == load_tokens(str(folder)).end_ids and tokens.rows == 257
    pair = TokenizerPair.from_pretrained(str(tmp_path / "adapter"), str(folder))
    assert pair.shared_tokens == 255  # 256 bytes, but for the id that generation_config.json calls an end of turn


def test_an_adapter_with_an_embedding_of_its_own_resizes_the_base(folder, tmp_path):
    import peft

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<new>", "<newer>"])
    model = LlamaForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer))
    adapted = peft.get_peft_model(
        model, peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"])
    )
    adapted.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    assert embedding_rows(str(folder)) == 257 and adapter_rows(str(tmp_path / "adapter")) == 259
    loaded = load(tmp_path / "adapter")
    assert loaded.get_output_embeddings().weight.shape[0] == 259
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    tokens = load_tokens(str(tmp_path / "adapter"))
    assert tokens.rows == 259 and b"<new>" in tokens.id_of


def test_adapters_that_do_not_fit_are_refused_in_one_line(folder, tmp_path):
    save_adapter(folder, tmp_path / "adapter")
    change_json(tmp_path / "adapter" / "adapter_config.json", target_modules=["no_such_layer"])
    with pytest.raises(ModelError, match="Cannot load the adapter") as error:
        load(tmp_path / "adapter")
    assert "\n" not in str(error.value)


def test_an_adapter_of_an_adapter_is_refused_before_any_weights_are_read(folder, tmp_path):
    save_adapter(folder, tmp_path / "adapter")
    save_adapter(folder, tmp_path / "second")
    change_json(tmp_path / "second" / "adapter_config.json", base_model_name_or_path=str(tmp_path / "adapter"))
    (tmp_path / "second" / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="an adapter itself, and adapters do not stack"):
        load(tmp_path / "second")


def test_an_adapter_that_lacks_weights_is_refused(folder, tmp_path):
    save_adapter(folder, tmp_path / "adapter")
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    weights.pop(next(name for name in weights if "lora_B" in name))
    save_file(weights, tmp_path / "adapter" / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lacks weights"):
        load(tmp_path / "adapter")


# Spans


def test_rows_of_spans_are_those_of_the_whole_completion(folder):
    model, prompts, completions = load(folder), [[1, 2, 3], [9]], [[4, 5, 6, 7, 8], [10, 11, 12]]
    whole_NH, _ = hidden_rows(model, prompts, completions, 0)
    some_NH, lengths = hidden_rows(model, prompts, completions, 0, [[(0, 2), (3, 5)], [(1, 3)]])
    assert lengths == [2, 2, 2]
    assert torch.equal(some_NH, whole_NH[[0, 1, 3, 4, 6, 7]])


# Ids beyond the embedding


def with_added_tokens(folder: Path, **special: str) -> Path:
    """The model's tokenizer with [PAD] and <tool> added, which its embedding of 257 rows does not have."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]", **special})
    tokenizer.add_tokens(["<tool>"])
    tokenizer.save_pretrained(folder)
    return folder


def test_a_pad_token_beyond_the_embedding_never_indexes_it(folder):
    tokens = load_tokens(str(with_added_tokens(folder)))
    model, pad = load(folder), pad_id_of(tokens.tokenizer, tokens.end_ids)
    assert pad == tokens.tokenizer.pad_token_id == 257 and tokens.rows == 257
    alone, _ = hidden_rows(model, [[1, 2, 3]], [[4, 5]], pad)
    padded, lengths = hidden_rows(model, [[1, 2, 3], [7] * 9], [[4, 5], [6, 7, 8]], pad)
    assert lengths == [2, 3] and torch.allclose(alone, padded[:2], atol=1e-5)
    rollouts = generate(model, [[1, 2, 3], [7] * 9], tokens.end_ids, pad, len(tokens.bytes_of), 8)
    assert all(token < 257 for rollout in rollouts for token in rollout.completion_ids)


def test_tokens_beyond_the_embedding_are_no_columns_and_spell_nothing(folder, tmp_path):
    save_tiny_model(tmp_path / "other")
    tokens = load_tokens(str(with_added_tokens(folder)))
    tool = tokens.tokenizer.convert_tokens_to_ids("<tool>")
    assert tool == 258 and not tokens.is_text(tool) and b"<tool>" not in tokens.id_of
    ids = tokens.encode(b"a <tool> b")
    assert max(ids) < 257 and tokens.decode(ids) == b"a <tool> b"
    both = with_added_tokens(tmp_path / "other")
    pair = TokenizerPair.from_pretrained(str(folder), str(both))
    for columns in (pair.shared_teacher_ids, pair.shared_student_ids):
        assert int(columns.max()) < 257
    assert pair.shared_tokens == 255  # 256 bytes, but for the id that generation_config.json calls an end of turn


def test_an_end_of_turn_beyond_the_embedding_gives_way_to_one_within(folder):
    with_added_tokens(folder, eos_token="<|im_end|>")
    change_json(folder / "generation_config.json", eos_token_id=256)
    assert load_tokens(str(folder)).end_ids == (256,)
    (folder / "generation_config.json").unlink()
    assert load_tokens(str(folder)).end_ids == ()
    with pytest.raises(TokenizerError, match="no end-of-turn token"):
        TokenizerPair.from_pretrained(str(folder), str(folder))


def test_prompts_with_ids_beyond_the_embedding_are_refused_by_name(folder, tmp_path):
    save_tiny_model(tmp_path / "teacher")
    tokenizer = AutoTokenizer.from_pretrained(with_added_tokens(folder))
    tokenizer.chat_template = "{% for m in messages %}<tool>{{ m['content'] }}{% endfor %}"
    tokenizer.save_pretrained(folder)
    config = RunConfig(
        teacher=ModelConfig(model=str(tmp_path / "teacher")),
        student=ModelConfig(model=str(folder)),
        data=DataConfig(prompts="x"),
    )
    pair = TokenizerPair.of_run(config)
    with pytest.raises(DataError, match=r"'<tool>' \(id 258\).*257 rows"):
        prepare_prompts([Prompt(({"role": "user", "content": "hi"},))], pair, config, [])
    with pytest.raises(ModelError, match=r"token id 258.*257 rows"):
        hidden_rows(load(folder), [[258]], [[1]], 0)
    with pytest.raises(ModelError, match="token id 258"):
        generate(load(folder), [[258]], (256,), 0, 257, 4)
