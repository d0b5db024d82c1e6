"""Measuring a pair on a Space with ZeroGPU: the real package `spaces`, which asks a stand-in for its device service."""

import json
import os
import subprocess
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from app.data import choice
from app.inspect import text_source
from app.inspect.reliability import Measurement, measure_reliability
from app.inspect.text_source import TextSource
from app.server.studio import Studio
from app.server.work import Work
from simct import demo

pytest.importorskip("spaces.zero", reason="the package `spaces` is not installed")
ROOT = Path(__file__).parents[2]
ANSWERS = 5


class DeviceService:
    """What a ZeroGPU Space asks for GPUs: notes what it was asked, and lends, or refuses by quota."""

    def __init__(self, quota_left: int | None = None):
        self.asked: list[tuple[str, dict]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                url = urllib.parse.urlparse(self.path)
                service.asked.append((url.path, dict(urllib.parse.parse_qsl(url.query))))
                lent = {"idle": False, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": "allowed"}
                refused = url.path == "/schedule" and quota_left is not None
                body = json.dumps({"left": quota_left, "wait": "01:00:00"} if refused else lent).encode()
                self.send_response(429 if refused else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def measure(self, answers: int = ANSWERS, *arguments: str) -> dict:
        """The output of tests/support/zero_gpu_measure.py, run against this service."""
        environment = os.environ | {
            "SPACES_ZERO_GPU": "true",
            "SPACES_ZERO_DEVICE_API_URL": f"http://127.0.0.1:{self.server.server_port}",
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-m", "tests.support.zero_gpu_measure", str(answers), *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
        self.server.shutdown()
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])


def test_a_pair_is_measured_in_the_process_that_has_the_gpu_and_as_it_is_elsewhere(tmp_path):
    service = DeviceService()
    got = service.measure()
    assert got["error"] == "" and got["doing"][-1] == "Measuring on a GPU, answers:"
    assert got["believes_in_a_gpu"] and got["loaded_on"] == "cpu" and not got["models_kept"]
    (_, scheduled), (_, allowed), (_, released) = service.asked
    assert [path for path, _ in service.asked] == ["/schedule", "/allow", "/release"]
    assert 40 < int(scheduled["durationSeconds"]) < 60
    assert int(allowed["pid"]) != got["pid"] and released["fail"] == "false"
    source = TextSource(text_source.CHOSEN, number=ANSWERS)
    wanted = Measurement(str(demo.TEACHER), str(demo.STUDENT), choice.START, source, 24)
    here = measure_reliability(Studio(tmp_path, public=False), wanted, None, Work()).to_dict()
    there = got["report"]
    assert there["answers"] == here["answers"] and there["method"] == here["method"]
    for number in ("mass_student", "mass_teacher", "kl_shared", "kl_recovered", "gradient_cosine"):
        assert there[number] == pytest.approx(here[number], rel=1e-3)


@pytest.mark.long
def test_a_visitor_without_quota_is_reported_in_one_line():
    got = DeviceService(quota_left=3).measure()
    assert got["report"] is None and got["error"].startswith("No GPU was lent: ") and "quota" in got["error"]
    assert "\n" not in got["error"]


@pytest.mark.long
def test_a_cancel_gives_the_gpu_back():
    service = DeviceService()
    got = service.measure(80, "cancel")
    assert got["error"] == "Canceled." and got["report"] is None
    assert service.asked[-1][0] == "/release"
