"""The ten rules of docs/security.md, each by what would happen if it were broken."""

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import gradio
import pytest
import torch

from app import studio
from app.inspect import lanes
from app.page import hub_notes, markup
from app.page.publishing import publishing_line
from app.publish.card_view import card_preview
from app.runs import view as run_view
from app.server.guard import Guard, Preflights
from app.server.studio import Studio
from app.train import prepare
from simct import demo
from simct.config.sections import ModelConfig
from simct.errors import HubError, ModelError, RunError
from simct.hub.repo_ids import checked_repo_id
from simct.inspection.coverage import show_units
from simct.jobs.local import job as local_job
from simct.models.loading import load_model
from simct.publishing import process as publish_job
from simct.publishing.card_edit import check_card, save_card
from simct.publishing.push import publish_run, publishing_state
from simct.runs.folder import RUN_ID, RunFolder
from simct.runs.listing import open_run
from simct.runs.status import PublishingStatus
from simct.tokenization.token_bytes import load_tokenizer
from tests.support.hostile import HOSTILE
from tests.support.hub_runs import finished_run
from tests.support.hub_server import TOKEN, HubServer
from tests.support.servers import free_port, serving
from tests.support.tiny_models import save_tiny_model
from tests.support.waiting import until

ROOT = Path(__file__).parents[1]
SOURCES = [path for folder in ("simct", "app", "spaces") for path in sorted((ROOT / folder).rglob("*.py"))]
# What a program may ask of a studio without an account: all of it only reads.
PUBLIC_API = {"/inspect", "/estimate", "/runs"}


def writes(marker: Path) -> str:
    return f"import pathlib; pathlib.Path({str(marker)!r}).write_text('ran')"


# 1 code from a repository is never run


def test_code_of_a_repository_is_never_run(hub, tmp_path):
    marker, folder = tmp_path / "marker", tmp_path / "model"
    save_tiny_model(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "EvilTokenizer", "auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}})
    )
    (folder / "tokenizer.json").unlink()
    (folder / "evil.py").write_text(writes(marker))
    hub.add_model("acme/evil", folder)
    for name in ("acme/evil", str(folder)):
        with pytest.raises(ModelError):
            load_tokenizer(name)
        with pytest.raises(ModelError):
            load_model(ModelConfig(model=name))
    assert not marker.exists()


def test_there_is_no_switch_for_it(tmp_path):
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
                assert isinstance(node.value, ast.Constant) and node.value.value is False, path
    page = studio.build(Studio(tmp_path, public=True))
    assert "trust_remote_code" not in json.dumps(page.get_config_file(), default=str).replace("custom code", "")


# 2 safetensors only, revisions pinned to commits


def test_pickled_weights_are_never_read(hub, tmp_path):
    marker, folder = tmp_path / "marker", tmp_path / "model"
    model = save_tiny_model(folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(ModelError):  # not even weights that do no harm
        load_model(ModelConfig(model=str(folder)))
    # what torch.load would unpickle: a call
    command = f"(lambda f: f.write('ran'))(open({str(marker)!r}, 'w'))"
    (folder / "pytorch_model.bin").write_bytes(b"cbuiltins\neval\n(V" + command.encode() + b"\ntR.")
    hub.add_model("acme/pickle", folder)
    for name in ("acme/pickle", str(folder)):
        with pytest.raises(ModelError):
            load_model(ModelConfig(model=name))
    assert not marker.exists()


def test_a_run_is_pinned_to_the_commits_it_was_started_on(hub, tmp_path):
    hub.add_model("acme/teacher", demo.TEACHER)
    student = hub.add_model("acme/student", demo.STUDENT)
    data = hub.add_dataset("acme/prompts", files={"train.jsonl": b'{"prompt": "Say hello."}\n'})
    started_on = {"acme/student": student.head.sha, "acme/prompts": data.head.sha}
    run = finished_run(tmp_path / "run", teacher={"model": "acme/teacher"})
    config = prepare.pin_and_check(Studio(tmp_path, public=False), run.config(), None)
    student.commit("main", student.head.files, "Something else", "acme")
    assert config.student.revision == started_on["acme/student"] != student.head.sha
    assert config.data.revision == started_on["acme/prompts"]
    assert re.fullmatch(r"[0-9a-f]{40}", config.teacher.revision)


# 3 processes by argument list, never a shell


def test_no_process_is_started_through_a_shell():
    calls = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "pty.spawn"}
    seen = 0
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            assert name not in calls and not name.startswith("os.exec"), f"{path}: {name}"
            shells = [each for each in node.keywords if each.arg == "shell"]
            assert not shells, f"{path}: {ast.unparse(node)}"
            if name.startswith("subprocess."):
                seen += 1
                assert not isinstance(node.args[0], ast.Constant | ast.JoinedStr), f"{path}: a command as one text"
    assert seen >= 3


def test_names_in_a_command_stay_names(tmp_path, monkeypatch):
    started = []

    class Process:
        pid = os.getpid()

        def __init__(self, command, **options):
            started.append((command, options))

        def wait(self):
            return 0

    run = finished_run(tmp_path / "$(touch marker); x")
    monkeypatch.setattr(publish_job.subprocess, "Popen", Process)
    publish_job.start_publishing(run, "me/x", token=TOKEN)
    [(command, options)] = started
    assert isinstance(command, list) and str(run.path) in command and "shell" not in options
    for name in ("me/x; touch marker", "--private", "me/$(id)", "me/x\n--space"):
        with pytest.raises(HubError, match="not a repository"):
            checked_repo_id(name)


# 4 run ids are made here, paths stay under the runs folder


def test_run_ids_are_ours_and_lead_nowhere_else(tmp_path):
    runs, outside = tmp_path / "runs", finished_run(tmp_path / "outside")
    inside = finished_run(runs / "inside")
    made = RunFolder.create(runs, inside.config().__class__(), owner="../../x")
    assert RUN_ID.fullmatch(made.id) and made.path.parent == runs.resolve()
    (runs / "link").symlink_to(outside.path)
    for name in ("../outside", str(outside.path), "link", "inside/../../outside", "..", ".", "", "a\0b", "-x" * 80):
        with pytest.raises(RunError):
            open_run(runs, name)
    assert open_run(runs, "inside").path == inside.path


# 6 tokens travel as secrets or environment, and are written nowhere


def test_tokens_reach_processes_by_environment_only(tmp_path, monkeypatch):
    secret = "hf_" + "s3cr3t" * 5
    seen = []

    def popen(command, **options):
        seen.append((command, options))
        raise OSError(0, "not started")

    run = finished_run(tmp_path / "run")
    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(HubError, match="not started"):
        publish_job.start_publishing(run, "me/x", token=secret)
    run.set_status(state="queued", pid=None)
    with pytest.raises(RunError, match="not started"):
        local_job.launch(run, token=secret)
    assert len(seen) == 2
    for command, options in seen:
        assert secret not in " ".join(map(str, command)) and options["env"]["HF_TOKEN"] == secret
    for path in run.path.rglob("*"):
        assert path.is_dir() or secret.encode() not in path.read_bytes(), path


def test_a_visitor_without_a_token_is_not_lent_the_machine_s(tmp_path):
    run = finished_run(tmp_path / "run")
    with pytest.raises(HubError, match="You are not signed in"):
        publish_job.start_publishing(run, "me/x", token=False)
    assert run.publishing().state == "none"


def test_what_is_published_or_shown_names_no_token(hub, tmp_path):
    secret = "hf_" + "s3cr3t" * 5
    run = finished_run(tmp_path / "run")
    run.append("rollouts.jsonl", {"step": 2, "prompt": secret, "completion": secret, "ended": True})
    run.log_path.write_text(f"401 for token {secret}\n")
    with pytest.raises(HubError, match="access token"):
        check_card(f"---\nlicense: mit\n---\nMy token is {secret}\n")
    publish_run(run, "tester/x", rollouts=True, space=True)
    for repo in hub.repos.values():
        for name, data in repo.files.items():
            assert secret.encode() not in data and TOKEN.encode() not in data, name
    assert secret not in run_view.log(run) and "hf_…" in run_view.log(run)


# 7 and 9 are arguments with which the server is started


@pytest.fixture
def served(tmp_path, monkeypatch, capsys) -> dict:
    """What `python -m app` gives to Gradio; it says where the studio is."""
    got = {}

    def launch_(page, **options):
        got.update(options, page=page)
        return None, "http://127.0.0.1:7999/", None

    monkeypatch.setattr(gradio.Blocks, "launch", launch_)
    monkeypatch.setattr(gradio.Blocks, "block_thread", lambda page: None)
    monkeypatch.setattr(studio.client, "fail_fast", lambda: None)
    monkeypatch.setattr(studio, "import_behind", lambda studio, then: None)
    monkeypatch.setattr(sys, "argv", ["app"])
    from app.__main__ import main

    assert main(["--runs", str(tmp_path / "runs"), "--port", "7999"]) == 0
    assert "http://127.0.0.1:7999/" in capsys.readouterr().out
    return got


def test_it_listens_on_this_machine_only_and_is_not_shared(served):
    assert served["server_name"] == "127.0.0.1" and served["share"] is False


def test_it_leaves_preflights_to_its_guard(served):
    assert gradio.routes.CustomCORSMiddleware is Preflights
    assert served["app_kwargs"]["middleware"][0][0] is Guard


def test_it_serves_no_files_and_bounds_uploads(served):
    assert served["allowed_paths"] == []
    bound = re.fullmatch(r"(\d+)mb", served["max_file_size"])
    assert bound and int(bound[1]) <= 500


# 8 launch, cancel and publish are private and bounded (owners are tested below, over HTTP)


def test_only_reading_is_public_api_and_the_queue_is_bounded(served):
    page = served["page"]
    assert set(page.get_api_info()["named_endpoints"]) <= PUBLIC_API
    assert 0 < page._queue.max_size <= 256
    public = [fn for fn in page.fns.values() if fn.api_visibility == "public" and fn.fn is not None]
    assert {f"/{fn.api_name}" for fn in public} <= PUBLIC_API


# 10 everything from outside is text


@pytest.mark.parametrize(
    "shown",
    [
        lambda run: hub_notes.linked_note("error", f"{HOSTILE} at https://x.y/{HOSTILE}"),
        lambda run: hub_notes.link(f"javascript:{HOSTILE}", HOSTILE) + hub_notes.link(f'https://x/"{HOSTILE}', HOSTILE),
        lambda run: publishing_line(PublishingStatus("publishing", repo_id=HOSTILE, stage=HOSTILE)),
        lambda run: "".join(run_view.panels(run)),
        lambda run: markup.table((HOSTILE,), [(HOSTILE,)]),
    ],
)
def test_hostile_text_is_shown_as_text(tmp_path, shown):
    run = finished_run(tmp_path / "run")
    run.append("rollouts.jsonl", {"step": 2, "prompt": HOSTILE, "completion": HOSTILE, "ended": True})
    run.log_path.write_text(HOSTILE)
    run.set_status(message=HOSTILE)
    html = shown(run)
    assert "<img" not in html and "<script" not in html and 'onerror="' not in html and "&lt;img" in html
    assert 'href="javascript' not in html


def test_hostile_tokens_are_shown_as_text(embedded_pair):
    html = lanes.lanes(lanes.unit(embedded_pair, row) for row in show_units(embedded_pair, HOSTILE))
    assert "<img" not in html and "<script" not in html


def test_an_edited_card_can_neither_run_code_nor_call_home(tmp_path):
    run = finished_run(tmp_path / "run")
    evil = f"{HOSTILE}\n\n![x](https://e.vil/x.png) ![y][ref] <IMG SRC=https://e.vil/z>\n\n[ref]: https://e.vil/y.png\n"
    save_card(run, f"---\nlicense: mit\n---\n{evil}", "me/x")
    shown = card_preview(run, (run.path / "card.md").read_text())
    assert not re.search(r"<(?:img|script)", shown, re.IGNORECASE) and "![" not in shown
    for field, value in (("base_model", "../../x"), ("datasets", "[a b]"), ("license", "<b>"), ("tags", "[1]")):
        with pytest.raises(HubError, match=field):
            check_card(f"---\n{field}: {value}\n---\ntext\n")


# 5 and 8 as visitors of a Space meet them


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """A public studio on a machine that has a token of its own, with runs of ann and of bob."""
    hub_oauth = pytest.importorskip("tests.support.hub_oauth")
    runs = tmp_path_factory.mktemp("space") / "runs"
    runs.mkdir()
    with HubServer() as hub:
        hub.add_user("machine", "hf_machinemachinemachine")
        for name in ("ann", "bob"):
            hub.add_user(name, f"hf_oauth_{name}{name}{name}")
            finished_run(runs / f"run-of-{name}").set_status(owner=name)
        hub.add_model("acme/teacher", demo.TEACHER)
        hub.add_model("ann/secret-model", demo.STUDENT, private=True)
        hub.add_model("acme/student", files={"README.md": b"---\nlicense: mit\n---\n"})
        front = (ROOT / "spaces" / "studio" / "README.md").read_text()
        scopes = "openid profile " + " ".join(re.findall(r"^  - ([a-z]+-?[a-z]*)$", front.split("tags:")[0], re.M))
        settings = hub_oauth.space_settings(hub, scopes)
        folder = tmp_path_factory.mktemp("deployed") / "studio"
        subprocess.run([sys.executable, ROOT / "spaces/studio/deploy.py", "--folder", folder], check=True)
        port = free_port()
        settings |= {"GRADIO_SERVER_PORT": str(port), "RUNS_DIR": str(runs)}
        environment = hub.env(token="hf_machinemachinemachine", **settings)
        with serving([sys.executable, "main.py"], port, environment, folder) as (url, _):
            yield hub, hub_oauth, runs, url.rstrip("/"), scopes


def visitor(space, name: str | None):
    _, hub_oauth, _, url, scopes = space
    someone = hub_oauth.Visitor(url)
    if name:
        asked = someone.sign_in(f"hf_oauth_{name}{name}{name}")
        assert set(asked.split()) == set(scopes.split())
    return someone


def tokens_used(hub) -> set[str]:
    return {
        request.headers.get("authorization", "") for request in hub.requests if not request.path.startswith("/oauth/")
    }


def test_the_scopes_are_those_that_the_studio_needs(space):
    assert set(space[4].split()) == {
        "openid", "profile", "read-repos", "gated-repos", "write-repos", "manage-repos", "jobs"
    }  # fmt: skip


def test_only_the_visitor_s_own_token_is_ever_used(space):
    hub, hub_oauth = space[:2]
    hub.requests.clear()
    nobody = visitor(space, None)
    got = hub_oauth.words(nobody.do("teacher", "input", teacher="acme/teacher", student="ann/secret-model"))
    assert "no public model ann/secret-model" in got
    assert "secret-model" not in hub_oauth.words(nobody.do("student", "key_up", student="secret"))
    assert tokens_used(hub) == {""}, [request.path for request in hub.requests if "authorization" in request.headers]
    bob = visitor(space, "bob")
    got = hub_oauth.words(bob.do("teacher", "input", teacher="acme/teacher", student="ann/secret-model"))
    assert "no model ann/secret-model that this account can see" in got
    ann = visitor(space, "ann")
    got = hub_oauth.words(ann.do("teacher", "input", teacher="acme/teacher", student="ann/secret-model"))
    assert "shared tokens" in got and "no model" not in got
    assert "ann/secret-model" in hub_oauth.words(ann.do("student", "key_up", student="secret"))
    # what ann may read was not kept for the next visitor
    got = hub_oauth.words(nobody.do("teacher", "input", teacher="acme/teacher", student="ann/secret-model"))
    assert "no public model" in got
    assert tokens_used(hub) == {"", "Bearer hf_oauth_bobbobbob", "Bearer hf_oauth_annannann"}


ACTIONS = (
    "publish", "publish-stop", "card-done", "card-reset", "stop", "resume", "retry", "share-make", "share-withdraw",
)  # fmt: skip


@pytest.mark.parametrize("button", ACTIONS)
def test_what_changes_a_run_is_for_its_owner(tmp_path, button):
    """Every function behind the button, called as a visitor who knows the run's id."""
    public = Studio(tmp_path / "runs", public=True)
    run = finished_run(public.runs_dir / "run-of-ann")
    run.set_status(owner="ann")
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    acting = _functions(studio.build(public), button)
    assert acting
    for name in ("bob", None):
        refused = [_as_visitor(function, run.id, name) for function in acting]
        assert "There is no run &#x27;run-of-ann&#x27; of yours." in str(refused), refused
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def _functions(page, elem_id: str) -> list:
    """What is called by a click on `elem_id`, and after it."""
    ids = {number for number, block in page.blocks.items() if getattr(block, "elem_id", None) == elem_id}
    clicked = {number for number, fn in page.fns.items() if any(where in ids for where, what in fn.targets if what)}
    clicked |= {number for number, fn in page.fns.items() if fn.trigger_after in clicked}
    return [page.fns[number].fn for number in sorted(clicked) if page.fns[number].fn is not None]


def _as_visitor(function, run_id: str, name: str | None):
    """Call with the run's id by its name, the visitor where Gradio would put them, and nothing else."""
    given = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        kind = str(parameter.annotation)
        if "OAuth" in kind and name:
            profile = dict.fromkeys(("name", "preferred_username", "profile", "picture"), name)
            given.append(gradio.OAuthProfile(profile) if "Profile" in kind else gradio.OAuthToken("hf_bob", "", 0))
        else:
            empty = {} if "dict" in kind else None
            given.append(run_id if parameter.name == "run_id" else empty)
    return function(*given)


def test_a_stranger_s_requests_change_and_show_nothing(space):
    hub, hub_oauth, runs = space[:3]
    before = {path: path.read_bytes() for path in (runs / "run-of-ann").rglob("*") if path.is_file()}
    for someone in (visitor(space, "bob"), visitor(space, None)):
        _pick(someone)
        for button in (*ACTIONS, "kill", "delete"):
            for number in _acting(someone.config, button):
                count = len(next(each["inputs"] for each in someone.config["dependencies"] if each["id"] == number))
                answer = hub_oauth.words(someone.call(number, ["run-of-ann", *[None] * (count - 1)][:count]))
                assert "acme/teacher" not in answer
    now = {path: path.read_bytes() for path in (runs / "run-of-ann").rglob("*") if path.is_file()}
    assert now == before
    assert not any(name.startswith("bob/") for name in hub.repos)


def test_publishing_from_a_space_is_done_as_the_visitor(space):
    hub, hub_oauth, runs = space[:3]
    hub.requests.clear()
    ann = visitor(space, "ann")
    listed = hub_oauth.words(_pick(ann))
    assert "run-of-ann" in listed and "run-of-bob" not in listed
    [number] = _acting(ann.config, "publish")
    # a token typed into a Space is not taken: only the visitor's own is
    ann.call(number, ["run-of-ann", "ann/student", "merged", "hf_machinemachinemachine", True, False, False])
    run = RunFolder(runs / "run-of-ann")
    until(lambda: publishing_state(run).state != "publishing", every=0.1)
    assert publishing_state(run).state == "published", publishing_state(run)
    assert hub.repos["ann/student"].private
    assert "Bearer hf_machinemachinemachine" not in tokens_used(hub)
    for path in run.path.rglob("*"):
        assert path.is_dir() or b"annannann" not in path.read_bytes()


def test_files_of_the_machine_are_not_served(space):
    someone = visitor(space, "ann")
    for path in ("/etc/hostname", str(space[2] / "run-of-ann" / "status.json"), str(ROOT / "pyproject.toml")):
        assert someone.get(f"/gradio_api/file={path}").status_code in (403, 404), path


def _pick(someone) -> list:
    """What opening the step Publish does: the visitor's finished runs are listed."""
    ids = {each["id"] for each in someone.config["components"] if each["props"].get("elem_id") == "publish-run"}
    listing = next(
        each for each in someone.config["dependencies"] if each["backend_fn"] and ids <= set(each["outputs"])
    )
    return someone.call(listing["id"], [None] * len(listing["inputs"]))


def _acting(config: dict, elem_id: str) -> list[int]:
    """The functions that a click on `elem_id` calls."""
    ids = {each["id"] for each in config["components"] if each["props"].get("elem_id") == elem_id}
    return [
        each["id"]
        for each in config["dependencies"]
        if each["backend_fn"] and any(where in ids and what == "click" for where, what in each["targets"])
    ]
