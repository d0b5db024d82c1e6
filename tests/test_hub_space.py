"""The chat demo Space, as the Hub would run it: its own folder, its own process, the model loaded by id."""

import importlib.util
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.hub_server import HubServer
from tests.tiny_models import save_tiny_model

ROOT = Path(__file__).parents[1]
SPACE = ROOT / "spaces" / "student"


@pytest.fixture
def hub():
    with HubServer() as server:
        yield server


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_space_chats_with_the_published_model(hub, tmp_path):
    from gradio_client import Client

    save_tiny_model(tmp_path / "model")
    hub.add_model("tester/tiny", tmp_path / "model", private=True)
    folder = shutil.copytree(SPACE, tmp_path / "space")
    (folder / "settings.json").write_text(json.dumps({"model": "tester/tiny"}))
    port = free_port()
    env = hub.env(GRADIO_SERVER_PORT=str(port), GRADIO_ANALYTICS_ENABLED="False")
    with open(tmp_path / "log.txt", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=folder, env=env, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 300
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log.txt").read_text()[-2000:]
            time.sleep(0.2)
        client = Client(f"http://127.0.0.1:{port}", verbose=False)
        first = client.predict("Hello", 0, 0.95, 16, api_name="/chat")
        assert isinstance(first, str) and first
        assert client.predict("And again?", 0.7, 0.9, 16, api_name="/chat")
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def app(tmp_path, monkeypatch):
    """app.py of a copy of the Space, imported."""
    folder = shutil.copytree(SPACE, tmp_path / "space")
    spec = importlib.util.spec_from_file_location("space_app", folder / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.delenv("MODEL_ID", raising=False)
    return module


def test_which_model_the_space_loads(app, monkeypatch):
    with pytest.raises(SystemExit, match=r"settings\.json"):
        app.chosen_model()
    monkeypatch.setenv("MODEL_ID", "me/by-variable")
    assert app.chosen_model() == "me/by-variable"
    Path(app.__file__).with_name("settings.json").write_text('{"model": "me/by-file"}')
    assert app.chosen_model() == "me/by-file"


def test_a_long_conversation_is_cut_at_its_oldest_turns(app, tmp_path, monkeypatch):
    from transformers import AutoTokenizer

    save_tiny_model(tmp_path / "with")
    save_tiny_model(tmp_path / "without", chat_template=False)
    monkeypatch.setattr(app, "MAX_PROMPT_TOKENS", 40)
    turns = [{"role": role, "content": f"{role[0]}{n:02}-------"} for n in range(9) for role in ("user", "assistant")]
    turns.append({"role": "user", "content": "the question"})
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "with")
    assert tokenizer.decode(app.prompt_ids(tokenizer, turns)[0]) == "u08-------a08-------the question"
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "without")
    assert tokenizer.decode(app.prompt_ids(tokenizer, turns)[0]) == "the question"


def test_the_space_pins_the_versions_the_project_works_with():
    pins = dict(re.findall(r"^([\w-]+)(?:\[\w+\])?==(\S+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    wanted = dict(re.findall(r"^([\w-]+)==(\S+)$", (SPACE / "requirements.txt").read_text(), re.MULTILINE))
    assert wanted and wanted.items() <= pins.items()
    assert f"sdk_version: {pins['gradio']}" in (SPACE / "README.md").read_text()
