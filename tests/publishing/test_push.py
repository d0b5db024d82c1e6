"""Publishing by the real client to the loopback Hub: what arrives, updating, refusals, and that nothing is lost."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.utils import get_session

from simct.errors import HubError, RunError
from simct.hub import client, search
from simct.publishing.push import publish_run, publishing_state
from tests.support.hub_runs import finished_run, small_weights
from tests.support.hub_server import TOKEN
from tests.support.tiny_models import save_tiny_model
from tests.support.waiting import until

PUBLISHED = {
    "README.md",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "simct_run.yaml",
    "tokenizer_config.json",
    "training_curve.png",
}


@pytest.fixture
def hub(hub):
    hub.add_model("acme/student", files={"README.md": b"---\nlicense: apache-2.0\n---\n"})
    return hub


@pytest.fixture
def run(tmp_path):
    return finished_run(tmp_path / "run")


def refused(run, repo_id, **options) -> str:
    """The one line that publishing fails with; it is kept, and the run's own status is as before."""
    status = (run.path / "status.json").read_bytes()
    with pytest.raises((HubError, RunError)) as error:
        publish_run(run, repo_id, **options)
    text = str(error.value)
    assert "\n" not in text and len(text) < 400 and TOKEN not in text
    record = run.publishing()
    assert (record.state, record.error) == ("failed", text)
    assert (run.path / "status.json").read_bytes() == status
    return text


def test_publishing_puts_the_model_its_card_and_nothing_else_there(hub, run):
    url = publish_run(run, "tester/tiny")
    assert url == f"{hub.url}/tester/tiny"
    repo = hub.repos["tester/tiny"]
    assert set(repo.files) == PUBLISHED  # no pickle, no code
    assert repo.files["model.safetensors"] == (run.model_dir / "model.safetensors").read_bytes()
    assert not repo.private and len(repo.commits) == 2  # the Hub's own and one of ours
    card = ModelCard(repo.files["README.md"].decode())
    assert card.data.license == "apache-2.0"  # the student's own
    assert json.loads(repo.files["config.json"]) == {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    for name, data in repo.files.items():
        assert str(run.path).encode() not in data and TOKEN.encode() not in data, name
    record = run.publishing()
    assert (record.state, record.error, record.url) == ("published", None, url)
    assert record.commit == repo.head.sha
    assert run.status().state == "finished"


def test_the_token_travels_in_the_header_and_nowhere_else(hub, run):
    hub.add_user("alice", "hf_alicestokenalicestoken")
    publish_run(run, "alice/tiny", token="hf_alicestokenalicestoken")
    assert "alice/tiny" in hub.repos
    for request in hub.requests:
        assert b"alicestoken" not in request.body and "alicestoken" not in request.path + str(request.query)
        if request.headers.get("authorization"):
            assert request.headers["authorization"] == "Bearer hf_alicestokenalicestoken"
    for path in run.path.rglob("*"):
        assert path.is_dir() or b"alicestoken" not in path.read_bytes()


def test_publishing_again_updates_and_never_duplicates(hub, run):
    (run.model_dir / "model.safetensors").rename(run.model_dir / "model-00001-of-00002.safetensors")
    (run.model_dir / "model-00002-of-00002.safetensors").write_bytes(small_weights(1))
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (run.model_dir / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    publish_run(run, "tester/tiny")
    repo = hub.repos["tester/tiny"]
    first, uploads = repo.head.sha, len([r for r in hub.requests if r.method == "PUT"])
    publish_run(run, "tester/tiny")
    assert repo.head.sha == first  # nothing changed, no commit
    assert len([r for r in hub.requests if r.method == "PUT"]) == uploads  # and no weights were sent twice
    for shard in (*shards.values(), "model.safetensors.index.json"):
        (run.model_dir / shard).unlink()
    (run.model_dir / "model.safetensors").write_bytes(small_weights(7))
    publish_run(run, "tester/tiny")
    assert set(repo.files) == PUBLISHED  # stale shards are gone in the same commit
    assert repo.files["model.safetensors"] == small_weights(7)
    assert [key for key in hub.repos if "tiny" in key] == ["tester/tiny"]
    assert len(repo.commits) == 3


def test_a_bare_name_goes_to_the_account_of_the_token(hub, run):
    assert publish_run(run, "tiny") == f"{hub.url}/tester/tiny"
    assert run.publishing().repo_id == "tester/tiny"


def test_private_is_kept(hub, run):
    publish_run(run, "tester/tiny", private=True)
    assert hub.repos["tester/tiny"].private
    publish_run(run, "tester/tiny")  # never silently public
    assert hub.repos["tester/tiny"].private
    publish_run(run, "tester/other")
    publish_run(run, "tester/other", private=True)
    assert hub.repos["tester/other"].private


def test_a_name_taken_by_something_else_is_left_alone(hub, run):
    other = hub.add_model("tester/mine", files={"model.safetensors": small_weights(3), "README.md": b"mine"})
    text = refused(run, "tester/mine")
    assert "tester/mine exists" in text and "Choose another name" in text
    assert set(other.files) == {"model.safetensors", "README.md"} and len(other.commits) == 2


def test_refusals_are_one_line_each_and_a_retry_succeeds(hub, run):
    hub.add_user("reader", "hf_readertokenreadertoken", role="read")
    assert "refused the access token" in refused(run, "tester/tiny", token="hf_expiredexpiredexpired")
    got = refused(run, "tester/tiny", token="hf_readertokenreadertoken")
    assert "may not write to tester/tiny" in got and "namespace" in got
    assert "may not write to somebody/tiny" in refused(run, "somebody/tiny")
    assert "not a repository id" in refused(run, "tester/a b")
    hub.storage_limit = 10
    got = refused(run, "tester/tiny", private=True)
    assert "no room" in got and "storage limit" in got
    assert set(hub.repos["tester/tiny"].files) == set()  # made, but nothing half-published
    hub.storage_limit = None
    for status, expected in (
        (503, "having problems"),
        (413, "too large"),
        (412, "changed by someone else"),
        (401, "token"),
    ):
        hub.fail("/commit/", status)
        assert expected in refused(run, "tester/tiny")
    publish_run(run, "tester/tiny")
    assert set(hub.repos["tester/tiny"].files) == PUBLISHED
    assert run.publishing().state == "published" and run.publishing().error is None


def test_without_a_token_the_line_says_to_sign_in(hub, run, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert "You are not signed in" in refused(run, "tester/tiny")
    assert "You are not signed in" in refused(run, "tiny")


def test_card_metadata_the_hub_refuses_is_reported(hub, run, monkeypatch):
    monkeypatch.setattr("simct.publishing.push.card_of", lambda *_: "---\nlicense: 3\n---\n")
    text = refused(run, "tester/tiny")
    assert "card's metadata" in text and '"license" must be a string' in text


def test_cut_and_dead_connections_lose_nothing(hub, run, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(client, "CALL_SECONDS", 1.0)
        hub.fail("/commit/", delay=3.0)
        assert "did not answer in time" in refused(run, "tester/tiny")
    hub.faults.clear()
    hub.fail("/commit/", cut_after=3)
    assert "Cannot reach the Hub" in refused(run, "tester/tiny")
    hub.fail("_lfs/[0-9a-f]+", 500)  # the client itself tries again
    publish_run(run, "tester/tiny")
    assert run.publishing().state == "published"


@pytest.mark.parametrize("damage", ["running", "no weights", "no config", "missing shard"])
def test_only_a_whole_model_is_published(hub, run, damage):
    if damage == "running":
        run.set_status(state="running")
    elif damage == "no weights":
        (run.model_dir / "model.safetensors").unlink()
    elif damage == "no config":
        (run.model_dir / "config.json").unlink()
    else:
        index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
        (run.model_dir / "model.safetensors.index.json").write_text(json.dumps(index))
    text = refused(run, "tester/tiny")
    expected = {"running": "is running", "missing shard": "lacks model-2.safetensors"}.get(damage, "no trained model")
    assert expected in text
    assert "tester/tiny" not in hub.repos


def test_two_pushes_of_one_run_do_not_overlap(hub, run):
    hub.fail("/commit/", delay=1.0)
    pushing = threading.Thread(target=publish_run, args=(run, "tester/tiny"))
    pushing.start()
    until(lambda: run.publishing().state == "publishing", every=0.01)
    with pytest.raises(HubError, match="already being published"):
        publish_run(run, "tester/tiny")
    assert publishing_state(run).state == "publishing"
    pushing.join()
    assert publishing_state(run).state == "published" and len(hub.repos["tester/tiny"].commits) == 2


def test_a_push_killed_half_way_is_reported_and_taken_up_again(hub, run):
    hub.fail("/commit/", delay=30)
    code = "import sys; from pathlib import Path; from simct.publishing.push import publish_run as p;"
    code += "from simct.runs.folder import RunFolder as R; p(R(Path(sys.argv[1])), 'tester/tiny')"
    process = subprocess.Popen([sys.executable, "-c", code, str(run.path)], env=hub.env())
    until(lambda: hub.faults[-1].times == 0 or any("/commit/" in request.path for request in hub.requests), every=0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert run.publishing().state == "publishing"
    record = publishing_state(run)
    assert record.state == "failed" and "Publish again" in record.error
    assert run.status().state == "finished"
    publish_run(run, "tester/tiny")
    assert set(hub.repos["tester/tiny"].files) == PUBLISHED


def test_rollouts_and_a_demo_space_go_along_when_asked(hub, run):
    publish_run(run, "tester/tiny", private=True, rollouts=True, space=True)
    data, demo = hub.repos["datasets/tester/tiny-rollouts"], hub.repos["spaces/tester/tiny-demo"]
    assert data.private and demo.private and demo.sdk == "gradio"
    assert json.loads(data.files["rollouts.jsonl"].splitlines()[0])["completion"] == "5"
    assert b"Rollouts of tester/tiny" in data.files["README.md"]
    shown = {"model": "tester/tiny", "student": "acme/student", "teacher": "acme/teacher", "method": "SimCT"}
    assert json.loads(demo.files["settings.json"]) == shown
    assert {"README.md", "app.py", "requirements.txt"} < set(demo.files)
    card = demo.card_data(demo.head)
    assert card["sdk"] == "gradio" and card["models"] == ["tester/tiny"]
    record = run.publishing()
    assert record.rollouts_url == f"{hub.url}/datasets/tester/tiny-rollouts"
    assert record.space_url == f"{hub.url}/spaces/tester/tiny-demo"


def test_if_the_space_fails_the_model_stays_published(hub, run):
    publish_run(run, "tester/tiny")
    hub.fail("/api/repos/create", 402, message="Gradio Spaces need a paid plan")
    text = refused(run, "tester/tiny", space=True)
    assert "payment" in text and "paid plan" in text
    assert run.publishing().url == f"{hub.url}/tester/tiny"


def test_what_was_published_loads_by_its_id(hub, tmp_path):
    """A real model and tokenizer, pushed by this process, loaded by transformers and datasets in another."""
    run = finished_run(tmp_path / "run")
    (run.model_dir / "model.safetensors").unlink()
    model = save_tiny_model(run.model_dir)
    publish_run(run, "tester/real", rollouts=True)
    for name, data in hub.repos["tester/real"].files.items():
        assert str(tmp_path).encode() not in data, name
    hit = search.model_facts("tester/real")
    assert hit.parameters == model.num_parameters() and hit.model_type == "llama"
    code = """
import sys
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained("tester/real", revision=sys.argv[1])
model = AutoModelForCausalLM.from_pretrained("tester/real", revision=sys.argv[1])
ids = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], return_tensors="pt", return_dict=True)
out = model.generate(**ids, max_new_tokens=2, do_sample=False)
print(tokenizer.decode(ids["input_ids"][0]), float(sum(p.double().sum() for p in model.parameters())))
print(load_dataset("tester/real-rollouts", split="train")[0]["completion"])
"""
    commit = run.publishing().commit
    done = subprocess.run(
        [sys.executable, "-c", code, commit], env=hub.env(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    text, total = done.stdout.splitlines()[0].split()
    assert text == "hi" and float(total) == pytest.approx(
        sum(p.detach().double().sum().item() for p in model.parameters())
    )
    assert done.stdout.splitlines()[1] == "5"
    assert not hub.unknown, hub.unknown  # nothing was asked that this Hub does not answer


def test_gated_models_load_only_for_those_with_access(hub, tmp_path):
    hub.add_model("acme/gated", files={"config.json": b'{"model_type": "llama"}'}, gated="manual")
    api = HfApi()
    with pytest.raises(Exception, match="gated") as error:
        api.hf_hub_download("acme/gated", "config.json", cache_dir=tmp_path)
    assert type(error.value).__name__ == "GatedRepoError"
    hub.repos["acme/gated"].allowed.add("tester")
    path = api.hf_hub_download("acme/gated", "config.json", cache_dir=tmp_path)
    assert json.loads(Path(path).read_text()) == {"model_type": "llama"}


def test_a_cut_download_is_made_good(hub, tmp_path):
    data = os.urandom(200_000)
    hub.add_model("acme/big", files={"model.safetensors": data})
    hub.fail(r"acme/big/resolve", method="GET", cut_after=50_000)
    path = HfApi().hf_hub_download("acme/big", "model.safetensors", cache_dir=tmp_path)
    assert Path(path).read_bytes() == data
    assert len([request for request in hub.requests if request.method == "GET" and "resolve" in request.path]) == 2
    part = get_session().get(f"{hub.url}/acme/big/resolve/main/model.safetensors", headers={"Range": "bytes=5-9"})
    assert part.status_code == 206 and part.content == data[5:10]
