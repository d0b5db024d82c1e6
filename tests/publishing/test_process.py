"""Publishing in the background: it outlives whoever started it, says how far it is, and can be stopped; slow and cut
connections on the way."""

import json
import os
import struct
import subprocess
import sys

import pytest

from simct.errors import HubError, RunError
from simct.publishing.process import start_publishing, stop_publishing
from simct.publishing.push import publish_run, publishing_state
from tests.support.hub_runs import finished_run
from tests.support.hub_server import TOKEN
from tests.support.waiting import until

PARAMETERS = 2_000_000


@pytest.fixture
def hub(hub):
    hub.add_model("acme/student", files={"README.md": b"---\nlicense: apache-2.0\n---\n"})
    return hub


@pytest.fixture
def run(tmp_path):
    """A finished run whose weights take a while to send."""
    run = finished_run(tmp_path / "run")
    tensor = {"dtype": "F32", "shape": [PARAMETERS], "data_offsets": [0, 4 * PARAMETERS]}
    header = json.dumps({"w": tensor}).encode()
    weights = struct.pack("<Q", len(header)) + header + os.urandom(4 * PARAMETERS)
    (run.model_dir / "model.safetensors").write_bytes(weights)
    return run


def wait(run, condition) -> dict:
    """The first record of publishing that meets the condition."""
    return until(lambda: condition(record := publishing_state(run)) and record, 90, 0.05, lambda: publishing_state(run))


def over(record: dict) -> bool:
    return record.state != "publishing"


def test_it_goes_on_when_its_starter_is_gone_and_says_how_far_it_is(hub, run):
    hub.rate = 1_000_000
    code = "import sys; from pathlib import Path; from simct.publishing.process import start_publishing as s;"
    code += "from simct.runs.folder import RunFolder as R; s(R(Path(sys.argv[1])), 'tester/tiny', True)"
    subprocess.run([sys.executable, "-c", code, str(run.path)], env=hub.env(), check=True, timeout=60)
    record = publishing_state(run)
    assert (record.state, record.repo_id, record.private) == ("publishing", "tester/tiny", True)
    with pytest.raises(HubError, match="already being published"):
        start_publishing(run, "tester/tiny")
    size = (run.model_dir / "model.safetensors").stat().st_size
    half = wait(run, lambda each: over(each) or 0 < (each.sent or 0) < size)
    assert half.state == "publishing" and half.stage == "Sending model.safetensors" and half.total > size
    hub.rate = None
    record = wait(run, over)
    assert record.state == "published" and record.url == f"{hub.url}/tester/tiny"
    assert record.stage is None and record.pid is None
    assert hub.repos["tester/tiny"].private
    assert hub.repos["tester/tiny"].files["model.safetensors"] == (run.model_dir / "model.safetensors").read_bytes()


def test_it_can_be_stopped_and_taken_up_again(hub, run):
    hub.rate = 1_000_000
    start_publishing(run, "tester/tiny")
    wait(run, lambda record: over(record) or record.stage == "Sending model.safetensors")
    stop_publishing(run)
    record = publishing_state(run)
    assert record.state == "failed" and "was stopped" in record.error
    assert set(hub.repos["tester/tiny"].files) == set()
    with pytest.raises(HubError, match="nothing to stop"):
        stop_publishing(run)
    hub.rate = None
    start_publishing(run, "tester/tiny")
    assert wait(run, over).state == "published" and run.status().state == "finished"


def test_what_goes_wrong_is_kept_and_the_link_of_before_stays(hub, run):
    publish_run(run, "tester/tiny")
    (run.model_dir / "generation_config.json").write_text('{"eos_token_id": 3}')
    hub.fail("/commit/", 403, message="Storage limit reached")
    start_publishing(run, "tester/tiny")
    record = wait(run, over)
    assert record.state == "failed" and "no room" in record.error
    assert record.url == f"{hub.url}/tester/tiny"
    start_publishing(run, "tester/tiny", rollouts=True, space=True)
    record = wait(run, over)
    assert record.state == "published" and record.rollouts_url and record.space_url
    assert TOKEN not in str(record)


def test_it_does_not_begin_with_half_a_model(hub, run):
    (run.model_dir / "config.json").unlink()
    with pytest.raises(RunError, match="no trained model"):
        start_publishing(run, "tester/tiny")
    assert run.publishing().state == "none"


def test_an_upload_that_is_cut_is_sent_again_or_reported(hub, run):
    hub.fail("/_lfs/[0-9a-f]", cut_upload=100_000)
    publish_run(run, "tester/tiny")  # once: the client itself sends it again
    assert len(hub.repos["tester/tiny"].files["model.safetensors"]) > 4 * PARAMETERS
    (run.model_dir / "model.safetensors").write_bytes(os.urandom(3_000_000))
    hub.fail("/_lfs/[0-9a-f]", 403, message="Upload refused")
    with pytest.raises(HubError) as error:
        publish_run(run, "tester/tiny")
    assert "\n" not in str(error.value) and "Upload refused" in str(error.value)
    assert len(hub.repos["tester/tiny"].files["model.safetensors"]) > 4 * PARAMETERS  # the old one is whole


def test_a_slow_hub_is_waited_for(hub, run):
    (run.model_dir / "model.safetensors").write_bytes(os.urandom(1_500_000))
    hub.rate = 3_000_000
    publish_run(run, "tester/tiny")
    assert len(hub.repos["tester/tiny"].files["model.safetensors"]) == 1_500_000


@pytest.mark.parametrize(("owner", "secret"), [("ann", None), (None, "x")])
def test_a_visitor_s_run_is_published_without_the_secrets_of_the_space(run, monkeypatch, owner, secret):
    given = {}

    def watched(command, **options):
        given.update(options["env"])
        raise OSError(0, "not now")

    monkeypatch.setenv("OAUTH_CLIENT_SECRET", "x")
    monkeypatch.setattr(subprocess, "Popen", watched)
    run.set_status(owner=owner)
    with pytest.raises(HubError, match="Could not start"):
        start_publishing(run, "ann/student", token="hf_ann")
    assert given.get("OAUTH_CLIENT_SECRET") == secret and given["HF_TOKEN"] == "hf_ann"
