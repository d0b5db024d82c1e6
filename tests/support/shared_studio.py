"""A studio as a Space with hardware, and many visitors who speak to it as their browsers would.

Real: the studio's process, its pages, handlers and queue, Gradio's own sessions and event protocol, run folders,
supervisors, processes and signals. Stood in for: the sign-in at huggingface.co, by the very cookie it would have led to
(signed with the Space's secret), and training itself, by tests/support/stand_in.
"""

import base64
import hashlib
import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import httpx
import itsdangerous

from tests.support import stand_in_runs
from tests.support.servers import answers, free_port
from tests.support.waiting import until

SECRET = "the space's own secret"
# the stand-in is for the studio's children, not for its own imports of accelerate
SERVE = """
import os, sys
from pathlib import Path
from app.server.studio import Studio
from app.studio import serve
os.environ["PYTHONPATH"] = sys.argv[3]
serve(Studio(Path(sys.argv[1])), port=int(sys.argv[2]))
"""


class SharedStudio:
    """The studio over `runs_dir` in a process of its own, which may be killed and started again at the same address."""

    def __init__(self, runs_dir: Path, devices: str = "cpu"):
        self.runs_dir, self.devices, self.port = runs_dir, devices, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        runs_dir.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        environment |= {
            "SYSTEM": "spaces",
            "SPACE_ID": "acme/studio",
            "SPACE_HOST": "acme-studio.hf.space",
            "OAUTH_CLIENT_ID": "id",
            "OAUTH_CLIENT_SECRET": SECRET,
            "OAUTH_SCOPES": "openid profile",
            "OPENID_PROVIDER_URL": "http://127.0.0.1:9",
            "HF_ENDPOINT": "http://127.0.0.1:9",
            "GRADIO_ANALYTICS_ENABLED": "False",
            "SIMCT_TRAIN_HERE": "1",
            "SIMCT_DEVICES": self.devices,
        }
        command = [sys.executable, "-c", SERVE, str(self.runs_dir), str(self.port), str(stand_in_runs.STAND_IN)]
        log = self.runs_dir / ".studio.txt"
        with open(log, "a") as printed:
            # elsewhere than here, where Gradio would take the folder spaces/ for the package of that name
            self.process = subprocess.Popen(command, cwd=self.runs_dir, env=environment, stdout=printed, stderr=printed)
        until(lambda: answers(self.url + "/config") or self.process.poll() is not None, 300, 0.1, log.read_text)
        if self.process.poll() is not None:
            assert "localhost is not accessible" in log.read_text(), log.read_text()
            log.unlink()  # Gradio's own check of its address gives up early on a busy machine
            self.start()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=30)

    def __enter__(self) -> "SharedStudio":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)


class Refused(Exception):
    """Gradio's own refusal, such as of a run that is not in the visitor's list."""


class Visitor:
    """One visitor, signed in as `name`, with a session and cookies of their own."""

    def __init__(self, url: str, name: str, token: str):
        info = {
            "userinfo": {"name": name, "preferred_username": name, "profile": url, "picture": url},
            "access_token": token,
            "scope": "openid profile",
            "expires_at": int(time.time()) + 3600,
        }
        payload = base64.b64encode(json.dumps({"oauth_info": info}).encode())
        signer = itsdangerous.TimestampSigner(hashlib.sha256((SECRET + "-v4").encode()).hexdigest())
        cookie = signer.sign(payload).decode()
        self.name, self.token, self.session = name, token, uuid.uuid4().hex[:12]
        self.http = httpx.Client(base_url=url, headers={"Cookie": f"session={cookie}"}, timeout=120)
        self.page = self.http.get("/config").json()

    def component(self, elem_id: str) -> int:
        return next(each["id"] for each in self.page["components"] if each["props"].get("elem_id") == elem_id)

    def labeled(self, label: str) -> int:
        return next(each["id"] for each in self.page["components"] if each["props"].get("label") == label)

    def event(self, component: int, name: str) -> dict:
        """The first event of a component that the server answers."""
        return next(
            each
            for each in self.page["dependencies"]
            if [component, name] in [list(target) for target in each["targets"]] and each["backend_fn"]
        )

    def values(self, event: dict, **given) -> list:
        """What a fresh page holds in the event's inputs, with what was changed by component id."""
        props = {each["id"]: each["props"] for each in self.page["components"]}
        return [given.get(str(each), props[each].get("value")) for each in event["inputs"]]

    def form(self, edit: str, **given) -> str:
        """The form as a fresh page sends it, as its version `edit`, with what was changed by component id."""
        form = self.component("form-values")
        gathered = next(each for each in self.page["dependencies"] if each["outputs"] == [form])
        return json.dumps([edit, *self.values(gathered, **given)[1:]])

    def send(self, event: dict, data: list) -> list:
        """Trigger the event and wait for its outputs, as the page's own client does. Raises Refused."""
        body = {
            "data": data,
            "fn_index": event["id"],
            "session_hash": self.session,
            "trigger_id": event["targets"][0][0],
        }
        joined = self.http.post("/gradio_api/queue/join", json=body)
        joined.raise_for_status()
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                if not line.startswith("data:"):
                    continue
                message = json.loads(line[5:])
                if message.get("msg") == "process_completed" and message.get("event_id") == joined.json()["event_id"]:
                    if not message["success"]:
                        raise Refused(message["output"])
                    return message["output"]["data"]
        raise AssertionError("The stream ended before the answer.")

    # What people do

    def launch(self, **settings) -> str:
        """Press Launch with `settings` by label; returns the run's id."""
        given = {str(self.labeled(label)): value for label, value in settings.items()}
        edit, form = self.component("form-edit"), self.component("form-values")
        read = self.event(form, "change")
        outputs = self.send(read, self.values(read, **given, **{str(form): self.form("1", **given)}))
        described = next(each for each in outputs if isinstance(each, str) and each.startswith("{"))
        event = self.event(self.component("launch"), "click")
        known = {str(edit): "1", str(self.component("form-described")): described}
        note, run_id, _ = self.send(event, self.values(event, **known))
        assert "note-error" not in note, note
        return run_id

    def look(self) -> tuple[list[str], str]:
        """The ids in the visitor's list of runs, and the HTML of the newest, as on a page just opened.

        Patient while the studio is away.
        """
        for _ in range(120):
            try:
                return self._look()
            except (httpx.TransportError, AssertionError):
                time.sleep(1)
        raise AssertionError("The studio did not come back.")

    def _look(self) -> tuple[list[str], str]:
        event = self.event(self.component("run-list"), "input")
        # each look is a new page, so that it gets everything
        self.session = uuid.uuid4().hex[:12]
        outputs = self.send(event, self.values(event))
        choices = [value for _, value in outputs[0]["choices"]]
        return choices, "".join(each for each in outputs if isinstance(each, str))

    def press(self, button: str, run_id: str) -> str:
        """A button of the Runs page on a run; returns the note."""
        event = self.event(self.component(button), "click")
        return self.send(event, self.values(event, **{str(self.component("run-list")): run_id}))[0]
