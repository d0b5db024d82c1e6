"""The loopback Hub itself: as its own process for browser tests, with many clients at the same time, and its
refusals."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.support.hub_server import TOKEN, USER, HubServer


@pytest.fixture
def hub(monkeypatch):
    with HubServer() as server:
        server.use(monkeypatch)
        yield server


def test_it_serves_folders_as_a_process_of_its_own(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    command = [
        sys.executable,
        "-m",
        "tests.support.hub_server",
        "--add-model",
        f"acme/m={tmp_path}",
        "--gated",
        "acme/m",
    ]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    try:
        url = server.stdout.readline().strip()
        state = json.load(build_opener(ProxyHandler({})).open(f"{url}/_state"))
        assert state["repos"]["acme/m"]["files"] == {"config.json": 2}
        api = HfApi(endpoint=url, token=TOKEN)
        assert api.whoami()["name"] == USER and api.model_info("acme/m").gated == "manual"
    finally:
        server.terminate()
        assert server.wait(10) == 0


def test_many_clients_at_once_lose_no_commit(hub):
    api = HfApi()
    api.create_repo("tester/busy")
    threads = [
        threading.Thread(
            target=api.upload_file,
            kwargs={"path_or_fileobj": b"%d" % n, "path_in_repo": f"{n}.txt", "repo_id": "tester/busy"},
        )
        for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hub.repos["tester/busy"].files == {f"{n}.txt": b"%d" % n for n in range(20)}


def test_it_refuses_as_the_hub_does(hub):
    api = HfApi()
    hub.add_model("acme/m", files={"a.txt": b"a", "sub/b.txt": b"b"})
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("acme/none")
    with pytest.raises(RevisionNotFoundError):
        api.model_info("acme/m", revision="v1")
    with pytest.raises(EntryNotFoundError):
        api.hf_hub_download("acme/m", "none.txt")
    with pytest.raises(HfHubHTTPError) as error:
        api.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="acme/m")
    assert error.value.response.status_code == 403
    api.create_repo("tester/mine")
    with pytest.raises(HfHubHTTPError) as error:
        api.create_repo("tester/mine")
    assert error.value.response.status_code == 409
    assert api.create_repo("tester/mine", exist_ok=True).repo_id == "tester/mine"
    api.delete_repo("tester/mine")
    assert not api.repo_exists("tester/mine")
    assert [entry.path for entry in api.list_repo_tree("acme/m")] == ["a.txt", "sub"]
    assert not api.file_exists("acme/m", "c.txt") and api.file_exists("acme/m", "sub/b.txt")


def test_a_commit_on_a_stale_parent_is_refused(hub):
    api = HfApi()
    api.create_repo("tester/m")
    first = api.upload_file(path_or_fileobj=b"1", path_in_repo="x", repo_id="tester/m").oid
    api.upload_file(path_or_fileobj=b"2", path_in_repo="x", repo_id="tester/m")
    with pytest.raises(HfHubHTTPError) as error:
        api.upload_file(path_or_fileobj=b"3", path_in_repo="x", repo_id="tester/m", parent_commit=first)
    assert error.value.response.status_code == 412
    api.create_branch("tester/m", branch="old", revision=first)
    assert {branch.name for branch in api.list_repo_refs("tester/m").branches} == {"main", "old"}
    assert Path(api.hf_hub_download("tester/m", "x", revision="old")).read_bytes() == b"1"
