"""The LoRA adapter of a run, published alone or along with the merged model, and loaded by peft from the loopback
Hub."""

import json
import subprocess
import sys

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from simct.config import config_from_dict
from simct.errors import ConfigError, HubError, RunError
from simct.models.adapters import merged_student, save_adapter, trainable_student
from simct.models.loading import load_model
from simct.publishing.push import publish_run
from simct.publishing.usage import published_student, transformers_code
from simct.publishing.when_finished import check_publishing, publish_when_finished
from simct.training.saved_student import keep_adapter
from tests.support.hub_runs import finished_run
from tests.support.tiny_models import save_tiny_model

LORA = {"rank": 2, "alpha": 8}


@pytest.fixture
def base(tmp_path):
    save_tiny_model(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def run(hub, tmp_path, base):
    """A run whose student, on the Hub, was trained by LoRA: the adapter in adapter/, the merged weights in model/."""
    files = {path.name: path.read_bytes() for path in base.iterdir()}
    hub.add_model("acme/student", files={**files, "README.md": b"---\nlicense: apache-2.0\n---\n"})
    run = finished_run(tmp_path / "run", student={"model": "acme/student", "dtype": "float32"}, lora=LORA)
    config = run.config()
    student = trainable_student(load_model(config.student), config)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) / 4)
    for path in run.model_dir.iterdir():
        path.unlink()
    save_tiny_model(run.model_dir)
    keep_adapter(run, student, config.student)
    merged_student(student, config).save_pretrained(run.model_dir)
    return run


def loaded_elsewhere(hub, code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env=hub.env(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_adapter_alone_loads_on_its_base_and_gives_the_logits_of_the_merged_weights(hub, run, tmp_path):
    publish_run(run, "tester/tiny", what="adapter")
    files = hub.repos["tester/tiny"].files
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "README.md"} <= set(files)
    assert not {"model.safetensors", "config.json"} & set(files)
    settings = json.loads(files["adapter_config.json"])
    assert (settings["base_model_name_or_path"], settings["r"], settings["lora_alpha"]) == ("acme/student", 2, 8)
    for name, data in files.items():
        assert str(tmp_path).encode() not in data, name
    code = f"""
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
ids = AutoTokenizer.from_pretrained("tester/tiny")("the cat sat", return_tensors="pt")
base = AutoModelForCausalLM.from_pretrained("acme/student")
merged = AutoModelForCausalLM.from_pretrained({str(run.model_dir)!r})
with torch.inference_mode():
    want, start = merged(**ids).logits, base(**ids).logits.clone()
    got = PeftModel.from_pretrained(base, "tester/tiny").eval()(**ids).logits
    by_name = AutoPeftModelForCausalLM.from_pretrained("tester/tiny").eval()(**ids).logits
print(float((got - want).abs().max()), float((by_name - want).abs().max()), float((start - want).abs().max()))
"""
    close, by_name, far = map(float, loaded_elsewhere(hub, code).split())
    assert close < 1e-5 and by_name < 1e-5 and far > 1e-2
    assert not hub.unknown, hub.unknown


def test_its_card_says_what_it_is_and_its_code_runs(hub, run):
    publish_run(run, "tester/tiny", what="adapter", private=True)
    card = ModelCard(hub.repos["tester/tiny"].files["README.md"].decode())
    data = card.data.to_dict()
    assert (data["base_model"], data["base_model_relation"]) == ("acme/student", "adapter")
    assert data["library_name"] == "peft" and "lora" in data["tags"]
    assert "PeftModel.from_pretrained(base, model_id)" in card.content and "merged into the weights" not in card.content
    code = transformers_code(published_student(run, "tester/tiny", adapter=True), "hi").replace("=256", "=3")
    loaded_elsewhere(hub, code)


def test_both_are_published_side_by_side_and_switching_leaves_no_old_weights(hub, run):
    publish_run(run, "tester/tiny", what="both")
    record = run.publishing()
    assert record.url == f"{hub.url}/tester/tiny" and record.adapter_url == f"{hub.url}/tester/tiny-adapter"
    assert "model.safetensors" in hub.repos["tester/tiny"].files
    assert "adapter_model.safetensors" in hub.repos["tester/tiny-adapter"].files
    relations = {
        name: ModelCard(hub.repos[name].files["README.md"].decode()).data.to_dict()["base_model_relation"]
        for name in ("tester/tiny", "tester/tiny-adapter")
    }
    assert relations == {"tester/tiny": "finetune", "tester/tiny-adapter": "adapter"}
    publish_run(run, "tester/tiny", what="adapter")
    assert not {"model.safetensors", "config.json"} & set(hub.repos["tester/tiny"].files)
    publish_run(run, "tester/tiny")
    assert not {"adapter_model.safetensors", "adapter_config.json"} & set(hub.repos["tester/tiny"].files)


def test_an_edited_card_of_the_merged_model_is_not_put_on_an_adapter(hub, run):
    card = "---\nbase_model: acme/student\nbase_model_relation: finetune\n---\n\nMine.\n"
    with pytest.raises(HubError, match="describes the merged model"):
        publish_run(run, "tester/tiny", what="adapter", card=card)
    publish_run(run, "tester/tiny", what="adapter", card=card.replace("finetune", "adapter"))
    assert b"Mine." in hub.repos["tester/tiny"].files["README.md"]


def test_what_cannot_be_published_is_one_line(hub, run, tmp_path, base):
    with pytest.raises(HubError, match="chat demo needs the merged model"):
        publish_run(run, "tester/tiny", what="adapter", space=True)
    with pytest.raises(RunError, match="has no adapter"):
        publish_run(finished_run(tmp_path / "whole"), "tester/tiny", what="both")
    local = finished_run(tmp_path / "local", student={"model": str(base)}, lora=LORA)
    run.adapter_dir.rename(local.adapter_dir)
    with pytest.raises(RunError, match="'base', which is a folder of this machine"):
        publish_run(local, "tester/tiny", what="adapter")
    with pytest.raises(RunError, match="must be one of merged, adapter, both"):
        publish_run(local, "tester/tiny", what="weights")


def described(student="acme/student", lora=None, training=None, **publish):
    models = {"teacher": "acme/teacher", "student": student, "data": {"prompts": "acme/prompts"}}
    publish = {"repo_id": "tester/tiny", **publish}
    return config_from_dict({**models, "lora": lora or {}, "training": training or {}, "publish": publish})


def test_a_run_that_makes_no_adapter_cannot_ask_for_one(hub, base):
    with pytest.raises(ConfigError, match=r"trains no adapter\. Set lora\.rank"):
        described(what="adapter")
    with pytest.raises(ConfigError, match="fsdp2 saves only the merged model"):
        described(what="both", lora=LORA, training={"parallel": "fsdp2"})
    with pytest.raises(ConfigError, match=r"publish\.what to both"):
        described(what="adapter", lora=LORA, space=True)
    with pytest.raises(HubError, match="Name the student by its Hub id"):
        check_publishing(described(student=str(base), what="adapter", lora=LORA))
    assert check_publishing(described(what="adapter", lora=LORA)) == "tester/tiny"


def test_a_run_publishes_the_weights_that_its_settings_name(hub, run, monkeypatch):
    config = run.config()
    config.publish = described(what="adapter", lora=LORA).publish
    monkeypatch.setattr(type(run), "config", lambda self: config)
    assert publish_when_finished(run).startswith("Published: ")
    assert "adapter_model.safetensors" in hub.repos["tester/tiny"].files


def test_the_saved_adapter_holds_the_trained_weights_only(run):
    names = load_file(run.adapter_dir / "adapter_model.safetensors").keys()
    assert names and all(".lora_A." in name or ".lora_B." in name for name in names)
    assert {path.name for path in run.adapter_dir.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}


def test_no_request_is_made_to_save_an_adapter(hub, run, tmp_path):
    config = run.config()
    student = trainable_student(load_model(config.student), config)
    before = len(hub.requests)
    save_adapter(student, tmp_path / "saved", "acme/student", "main")
    assert len(hub.requests) == before
    assert json.loads((tmp_path / "saved" / "adapter_config.json").read_text())["revision"] == "main"
