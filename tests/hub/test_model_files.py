"""What a folder or repository holds: GGUF, pickles and adapters are recognized before anything is downloaded."""

import json

import pytest

from simct.config import ModelConfig
from simct.errors import ModelError
from simct.hub.model_files import adapter_of, check_model_files, model_files_problem
from simct.models.loading import load_model
from simct.tokenization.token_bytes import load_tokenizer
from tests.support.hub_server import HubServer

CONFIG = {"config.json": b'{"model_type": "llama"}'}
ADAPTER = {"adapter_config.json": b'{"base_model_name_or_path": "acme/base", "peft_type": "LORA"}'}
CASES = {
    "gguf": ({"model-q4.gguf": b"x"}, "holds only GGUF files"),
    "gguf with a config": ({**CONFIG, "model.gguf": b"x"}, "holds only GGUF files"),
    "bin": ({**CONFIG, "pytorch_model.bin": b"x", "tokenizer.json": b"{}"}, r"pytorch_model\.bin.*can run code"),
    "bin shards": ({**CONFIG, "pytorch_model-00001-of-00002.bin": b"x"}, "pickled files"),
    "pth": ({"consolidated.00.pth": b"x", "params.json": b"{}"}, "pickled files"),
    "no weights": ({**CONFIG, "tokenizer.json": b"{}"}, r"holds no \*\.safetensors weights"),
    "no config": ({"consolidated.safetensors": b"x", "params.json": b"{}"}, r"has no config\.json"),
    "onnx": ({**CONFIG, "model.onnx": b"x"}, "only as ONNX"),
    "nothing": ({"README.md": b"x"}, r"holds no tokenizer, no config\.json and no \*\.safetensors"),
    "bin adapter": ({**ADAPTER, "adapter_model.bin": b"x"}, r"adapter_model\.bin.*can run code"),
    "empty adapter": (ADAPTER, "adapter without weights"),
}
FINE = {
    "one file": {**CONFIG, "model.safetensors": b"x"},
    "shards": {**CONFIG, "model-00001-of-00002.safetensors": b"x"},
    "with GGUF beside": {**CONFIG, "model.safetensors": b"x", "model.gguf": b"x", "pytorch_model.bin": b"x"},
    "adapter": {**ADAPTER, "adapter_model.safetensors": b"x"},
}


@pytest.fixture
def hub(monkeypatch):
    with HubServer() as server:
        server.use(monkeypatch)
        yield server


def write(folder, files):
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return str(folder)


@pytest.mark.parametrize("name", CASES)
def test_folders_that_cannot_be_loaded_say_why_and_what_to_do(name, tmp_path):
    files, reason = CASES[name]
    with pytest.raises(ModelError, match=reason) as error:
        load_model(ModelConfig(model=write(tmp_path, files)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", CASES)
def test_repositories_that_cannot_be_loaded_are_recognized_without_a_download(name, hub):
    files, reason = CASES[name]
    hub.add_model("acme/model", files=files)
    with pytest.raises(ModelError, match=reason):
        check_model_files("acme/model")


@pytest.mark.parametrize("name", FINE)
def test_nothing_speaks_against_these(name, tmp_path, hub):
    hub.add_model("acme/model", files=FINE[name])
    assert model_files_problem("acme/model") is None
    assert model_files_problem(write(tmp_path, FINE[name])) is None


def test_a_gguf_repository_names_where_it_comes_from(hub):
    card = b"---\nbase_model: acme/original\n---\n# Quantized\n"
    hub.add_model("acme/model-gguf", files={"model.gguf": b"x", "README.md": card})
    for attempt in (check_model_files, load_tokenizer):
        with pytest.raises(ModelError, match="give the original repository, acme/original"):
            attempt("acme/model-gguf")


def test_a_gguf_file_is_no_model(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"x")
    with pytest.raises(ModelError, match="is a GGUF file"):
        load_model(ModelConfig(model=str(tmp_path / "model.gguf")))


def test_an_adapters_base_is_looked_at_too(hub):
    hub.add_model("acme/adapter", files=FINE["adapter"])
    hub.add_model("acme/base", files={"model.gguf": b"x"})
    assert adapter_of("acme/adapter").base == "acme/base"
    with pytest.raises(ModelError, match=r"base model of the adapter 'acme/adapter'.*GGUF"):
        check_model_files("acme/adapter")


def test_a_repository_never_chooses_a_folder_of_this_machine(hub, tmp_path):
    settings = json.dumps({"base_model_name_or_path": str(tmp_path), "revision": "v1"}).encode()
    hub.add_model("acme/adapter", files={"adapter_config.json": settings, "adapter_model.safetensors": b"x"})
    for attempt in (adapter_of, check_model_files):
        with pytest.raises(ModelError, match="names the folder"):
            attempt("acme/adapter")
    (tmp_path / "here").mkdir()
    write(tmp_path / "here", {"adapter_config.json": settings, "adapter_model.safetensors": b"x"})
    found = adapter_of(str(tmp_path / "here"))
    assert (found.base, found.base_revision) == (str(tmp_path), "v1")


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"base_model_name_or_path": 3}', b"{}", b"x" * 2_000_000])
def test_damaged_adapter_configs_are_one_line(content, tmp_path):
    folder = write(tmp_path, {"adapter_config.json": content, "adapter_model.safetensors": b"x"})
    with pytest.raises(ModelError, match=r"adapter_config\.json|does not name its base model") as error:
        adapter_of(folder)
    assert "\n" not in str(error.value)


def test_a_folder_with_a_whole_model_and_an_adapter_is_ambiguous(tmp_path):
    write(tmp_path, {**FINE["one file"], **FINE["adapter"]})
    with pytest.raises(ModelError, match="both a whole model and an adapter"):
        check_model_files(str(tmp_path))


def test_a_hub_that_does_not_answer_is_no_reason_to_refuse(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert check_model_files("acme/model") is None


def test_an_absent_repository_is_said_to_be_absent(hub):
    with pytest.raises(ModelError, match="acme/nothing"):
        check_model_files("acme/nothing")
