"""A model's small files are looked at before a library builds what they ask for."""

import pytest

from simct.data.templates import prompt_ids
from simct.errors import DataError, LimitError, ModelError
from simct.hub import model_config
from simct.hub.model_config import load_config
from simct.tokenization.model_tokens import load_tokens
from tests.support import hostile


@pytest.mark.parametrize(
    ("settings", "got"),
    [
        ({"num_hidden_layers": 1_000_000_000}, "num_hidden_layers: 1000000000"),
        ({"num_hidden_layers": 0}, "num_hidden_layers: 0"),
        ({"num_hidden_layers": -1}, "num_hidden_layers: -1"),
        ({"num_hidden_layers": 2.5}, "num_hidden_layers: 2.5"),
        ({"num_hidden_layers": "x" * 1000}, "num_hidden_layers: 'xxx"),
        ({"num_hidden_layers": True}, "num_hidden_layers: True"),
        ({"vocab_size": 10**12}, "vocab_size: 1000000000000"),
        ({"text_config": {"num_hidden_layers": 10**9}}, "num_hidden_layers: 1000000000"),
        ({"vision_config": {"layers": [{"hidden_size": 0}], "hidden_size": 0}}, "hidden_size: 0"),
        ({"num_key_value_heads": [4, 4, -4]}, "num_key_value_heads: -4"),
        ({"num_experts": 10**6}, "num_experts: 1000000"),
    ],
)
def test_numbers_that_no_model_has_are_refused_before_a_config_is_built(tmp_path, monkeypatch, settings, got):
    folder = hostile.model_folder(tmp_path / "m", **settings)
    monkeypatch.setattr(model_config.AutoConfig, "from_pretrained", lambda *_, **__: pytest.fail("it was built"))
    for read in (load_config, load_tokens):
        with pytest.raises(ModelError, match=r"from [01] to") as caught:
            read(folder)
        assert got in str(caught.value) and len(str(caught.value)) < 500 and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "{", "[" * 50_000 + "]" * 50_000, '{"a": "' + "x" * 11_000_000 + '"}'])
def test_a_config_that_is_none_is_one_line(tmp_path, text):
    folder = hostile.model_folder(tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"^The config.json of .*\.$"):
        load_config(folder)


def test_usual_configs_are_read(tmp_path):
    several = {"intermediate_size": 208, "num_experts": 0, "num_key_value_heads": None, "n_layer": None}
    folder = hostile.model_folder(tmp_path / "m", **several)
    assert load_config(folder).get_text_config().num_hidden_layers == 3


def test_a_tokenizer_of_gigabytes_is_refused_by_its_size(tmp_path):
    folder = hostile.model_folder(tmp_path / "m")
    with open(tmp_path / "m" / "tokenizer.json", "r+b") as file:
        file.truncate(3 * 10**9)
    with pytest.raises(ModelError, match=r"tokenizer.json of .* has 3,000,000,000 bytes"):
        load_tokens(folder)


def test_a_tokenizer_that_panics_and_one_with_a_huge_id_are_one_line(tmp_path):
    for name, change in (("damaged", hostile.damaged), ("largest", hostile.with_largest_id)):
        folder = hostile.model_folder(tmp_path / name, tokenizer=change)
        with pytest.raises((ModelError, ValueError)) as caught:
            load_tokens(folder)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["three nested loops", "200 MB of text"])
def test_a_template_is_bounded_when_its_tokenizer_is_read(tmp_path, monkeypatch, name):
    monkeypatch.setattr("simct.tokenization.chat_templates.TEMPLATE_SECONDS", 0.5)
    folder = hostile.model_folder(tmp_path / "m", hostile.TEMPLATES[name])
    with pytest.raises(LimitError, match="The chat template of"):
        load_tokens(folder)


def test_a_template_of_megabytes_is_refused(tmp_path):
    folder = hostile.model_folder(tmp_path / "m", "{# " + "x" * 600_000 + " #}hello")
    with pytest.raises(DataError, match="at most 500,000 characters"):
        prompt_ids(load_tokens(folder).tokenizer, [{"role": "user", "content": "Hello"}])


@pytest.mark.parametrize(
    ("name", "known"),
    [("num_hidden_layers", 126), ("hidden_size", 16_384), ("vocab_size", 262_208), ("num_experts", 512)],
)
def test_the_bounds_are_far_above_what_models_have(name, known):
    least, most = model_config.NUMBERS[name]
    assert least <= known and most > 3 * known
