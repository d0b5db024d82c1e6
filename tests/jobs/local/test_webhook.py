"""The message to a webhook: what it says, that trouble never ends a run, and that its address stays secret."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from simct import demo
from simct.cli.main import main as command
from simct.config import config_from_dict, save_config
from simct.errors import ConfigError
from simct.jobs.local import webhook
from simct.jobs.local.webhook import notify
from simct.publishing.card import public_yaml
from simct.runs.folder import RunFolder
from tests.support.hub_runs import finished_run
from tests.support.waiting import until


class Receiver:
    """What was posted, and the answers still to be given before 200."""

    def __init__(self) -> None:
        self.messages: list[dict] = []
        self.paths: list[str] = []
        self.answers: list[int] = []


@pytest.fixture
def receiver(monkeypatch):
    monkeypatch.setattr(webhook, "WAITS", (0.0, 0.0))
    received = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.paths.append(self.path)
            received.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(received.answers.pop(0) if received.answers else 200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    received.url = f"http://127.0.0.1:{server.server_address[1]}/hook?key=secret"
    yield received
    server.shutdown()


def run_with(tmp_path, address):
    return finished_run(tmp_path / "run", notify={"webhook": address})


def test_the_message_says_what_happened(receiver, tmp_path):
    run = run_with(tmp_path, receiver.url)
    run.set_status(state="failed", error="The disk is full.", step=2)
    assert notify(run, "failed") is None
    (message,) = receiver.messages
    assert (message["event"], message["run"], message["message"]) == ("failed", run.id, "The disk is full.")
    assert (message["step"], message["student"], message["published"]) == (2, "acme/student", None)
    assert message["text"] == message["content"] and "failed. The disk is full." in message["text"]
    assert receiver.paths == ["/hook?key=secret"]


def test_a_run_that_became_unhealthy_is_reported_with_its_warning(receiver, tmp_path):
    run = run_with(tmp_path, receiver.url)
    run.set_status(state="running", message="Training", step=2)
    assert notify(run, "unhealthy", "The answers repeat themselves.") is None
    (message,) = receiver.messages
    assert (message["event"], message["message"]) == ("unhealthy", "The answers repeat themselves.")


def test_passing_trouble_is_tried_again_and_refusals_are_not(receiver, tmp_path):
    run = run_with(tmp_path, receiver.url)
    receiver.answers = [503, 429]
    assert notify(run, "finished") is None and len(receiver.messages) == 3
    receiver.answers = [404]
    trouble = notify(run, "finished")
    assert trouble and "secret" not in trouble and len(receiver.messages) == 4


def test_nobody_listening_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(webhook, "WAITS", ())
    trouble = notify(run_with(tmp_path, "http://127.0.0.1:9/secret"), "finished")
    assert trouble == "The webhook could not be reached: ConnectError."


def test_a_space_sends_nothing_to_private_addresses(receiver, tmp_path, monkeypatch):
    monkeypatch.setenv("SPACE_ID", "someone/space")
    assert "private address" in str(notify(run_with(tmp_path, receiver.url), "finished"))
    assert receiver.messages == []


def test_the_address_is_left_out_of_what_is_published(tmp_path):
    assert "secret" not in public_yaml(run_with(tmp_path, "https://hooks.example.com/secret").config())


@pytest.mark.parametrize("address", ["hooks.example.com", "ftp://x/y", "https://", "javascript:alert(1)"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ConfigError, match=r"notify\.webhook is"):
        config_from_dict(
            {"teacher": "a/t", "student": "a/s", "data": {"prompts": "a/p"}, "notify": {"webhook": address}}
        )


def events(receiver) -> list[str]:
    return [message["event"] for message in receiver.messages]


def test_a_run_sends_it_when_it_has_ended(receiver, folders, tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(f'{{"prompt": "{number} + 1"}}\n' for number in range(8)))
    teacher, student = folders
    named = ["--teacher", str(teacher), "--student", str(student), "--prompts", str(prompts)]
    small = ["--steps", "1", "--set", "training.batch_size=2", "--set", "rollout.max_new_tokens=4"]
    small += ["--set", "data.held_out=0", "--set", f"notify.webhook={receiver.url}"]
    assert command(["distill", *named, *small, "--output", str(tmp_path / "run"), "--runs", str(tmp_path)]) == 0
    until(lambda: receiver.messages, seconds=20)
    assert events(receiver) == ["finished"]


@pytest.mark.long
def test_a_run_reports_once_that_it_became_unhealthy_and_then_that_it_failed(receiver, tmp_path):
    """The embedded pair: twelve good steps, then a rate at which no answer ends, and at last the watch for that."""
    run = RunFolder(tmp_path / "run")
    settings = {
        "training.steps": 12, "training.batch_size": 2, "training.learning_rate": 1e-5, "rollout.max_new_tokens": 24,
        "training.checkpoint_every": 6, "training.stop_on_collapse": "false", "data.held_out": 0,
        "notify.webhook": receiver.url,
    }  # fmt: skip
    options = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    named = ["--teacher", str(demo.TEACHER), "--student", str(demo.STUDENT), "--prompts", str(demo.PROMPTS)]
    assert command(["distill", *named, *options, "--output", str(run.path), "--runs", str(tmp_path)]) == 0
    until(lambda: receiver.messages, seconds=20)
    assert events(receiver) == ["finished"]

    def resumed(**training) -> int:
        config = run.config()
        for name, value in training.items():
            setattr(config.training, name, value)
        save_config(config, run.path / "run.yaml")
        run.set_status(state="stopped")  # a finished run has nothing to resume
        return command(["distill", "--resume", str(run.path), "--runs", str(tmp_path)])

    assert resumed(steps=30, learning_rate=0.05) == 0
    until(lambda: len(receiver.messages) >= 3, seconds=20)
    assert events(receiver) == ["finished", "unhealthy", "finished"]
    message = receiver.messages[1]
    assert (
        message["message"].startswith("Since step ") and message["run"] == run.id and message["step"] in range(20, 30)
    )
    assert run.log_path.read_text().count(f"warning: {message['message']}") == 1

    assert resumed(steps=40, stop_on_collapse=True) != 0
    until(lambda: len(receiver.messages) >= 4, seconds=20)
    assert events(receiver) == ["finished", "unhealthy", "finished", "failed"]
    assert "collapsed" in receiver.messages[-1]["message"]
