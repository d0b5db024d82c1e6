"""73 simultaneous anonymous calls of /inspect: everybody else is served within two seconds."""

import contextlib
import threading
import time
import uuid

import httpx
import pytest

from simct import demo
from tests.support.shared_studio import SharedStudio, Visitor

CALLS = 73
PATIENCE = 2.0


def call_inspect(http: httpx.Client, page: dict, ended: list[str]) -> None:
    """What a program does: join the line and wait for its answer."""
    number = next(each["id"] for each in page["dependencies"] if each["api_name"] == "inspect")
    text = f"{uuid.uuid4()} " * 5_000
    body = {"data": [str(demo.TEACHER), str(demo.STUDENT), text], "fn_index": number, "session_hash": uuid.uuid4().hex}
    joined = http.post("/gradio_api/queue/join", json=body)
    if joined.status_code != 200:
        ended.append(joined.text)
        return
    session = {"session_hash": body["session_hash"]}
    # the studio may end first
    with contextlib.suppress(httpx.TransportError), http.stream("GET", "/gradio_api/queue/data", params=session) as got:
        if any("process_completed" in line for line in got.iter_lines()):
            ended.append("answered")


@pytest.mark.long
def test_a_flood_of_calls_holds_nobody_else_up(tmp_path):
    with SharedStudio(tmp_path / "runs") as studio:
        ann, page = Visitor(studio.url, "ann", "hf_tokenofann"), httpx.get(f"{studio.url}/config").json()
        # as a studio that has been up for a while: all is imported, and the pair has been read
        ann.look()
        ann.http.get("/")
        call_inspect(ann.http, page, [])
        ended: list[str] = []
        # one client, as making one takes a while and all of this is one process
        http = httpx.Client(base_url=studio.url, timeout=300, limits=httpx.Limits(max_connections=None))
        calls = [threading.Thread(target=call_inspect, args=(http, page, ended), daemon=True) for _ in range(CALLS)]
        for call in calls:
            call.start()
        waits = []
        while any(call.is_alive() for call in calls) and len(waits) < 12:
            began = time.monotonic()
            assert ann.http.get("/").status_code == 200
            first = time.monotonic() - began
            ann.look()
            waits.append((round(first, 2), round(time.monotonic() - began, 2)))
            time.sleep(0.1)
        assert waits and max(each for _, each in waits) < PATIENCE, waits
        # calls for which there was no place were refused immediately
        until_told = [each for each in ended if each != "answered"]
        assert until_told and all("requests waiting" in each for each in until_told)
