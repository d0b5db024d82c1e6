"""The chat demo Space, as the Hub would run it: its own folder, its own process, the model loaded by id."""

import importlib.util
import itertools
import json
import re
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from simct.publishing.push import publish_run
from tests.support.hub_runs import finished_run
from tests.support.servers import free_port, serving
from tests.support.tiny_models import save_tiny_model

ROOT = Path(__file__).parents[2]
SPACE = ROOT / "spaces" / "student"


@contextmanager
def started(folder: Path, environment: dict[str, str]):
    """The Space's app.py in a process of its own, from its own folder; gives its address."""
    port = free_port()
    environment |= {"GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
    with serving([sys.executable, "app.py"], port, environment, folder) as (url, _):
        yield url


def test_the_published_space_chats_with_the_published_student(hub, tmp_path, monkeypatch):
    """Model and Space are published together; the Space then runs from what lies in its repository and nothing else."""
    from gradio_client import Client

    run = finished_run(tmp_path / "run")
    (run.model_dir / "model.safetensors").unlink()
    save_tiny_model(run.model_dir)
    publish_run(run, "tester/tiny", private=True, space=True)
    folder = tmp_path / "space"
    folder.mkdir()
    for name, data in hub.repos["spaces/tester/tiny-demo"].files.items():
        (folder / name).write_bytes(data)
    with started(folder, hub.env()) as url:
        client = Client(url, verbose=False)
        answer = client.submit("Hello", 0, 0.95, 24, api_name="/chat")
        assert answer.result(timeout=120)
        parts = answer.outputs()
        assert len(parts) > 1 and all(later.startswith(earlier) for earlier, later in itertools.pairwise(parts))
        assert client.predict("And again?", 0.7, 0.9, 16, api_name="/chat")
        page = json.dumps(client.config)
        assert "Chat with tester/tiny" in page and "acme/student" in page and "learned from **acme/teacher**" in page


def test_a_space_that_may_not_read_its_model_says_so(hub, tmp_path):
    from gradio_client import Client

    hub.add_model("tester/hidden", files={"config.json": b"{}"}, private=True)
    folder = shutil.copytree(SPACE, tmp_path / "space")
    (folder / "settings.json").write_text(json.dumps({"model": "tester/hidden"}))
    with started(folder, hub.env(token=None)) as url:
        page = json.dumps(Client(url, verbose=False).config)
        assert "tester/hidden could not be loaded" in page and "HF_TOKEN" in page and "Traceback" not in page


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
        app.chosen()
    monkeypatch.setenv("MODEL_ID", "me/by-variable")
    assert app.chosen()["model"] == "me/by-variable"
    Path(app.__file__).with_name("settings.json").write_text('{"model": "me/by-file"}')
    assert app.chosen()["model"] == "me/by-file"


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
