"""A teacher's server on the Pair step without a browser: what is asked for whom, and that a key is never sent back."""

from collections import OrderedDict
from dataclasses import replace

import gradio as gr
import pytest

from app.compare import models
from app.data import choice
from app.inspect import reliability, text_source
from app.inspect.reliability import Measurement, measure_reliability, with_server
from app.page.kept import Kept
from app.pair.tab import PairTab
from app.server import teacher_keys, weights
from app.server.visitor import Visitor
from app.server.work import Work
from app.train import checklist_view, estimate
from app.train.checklist_view import FIELDS
from app.train.teacher_server import TeacherServer as Panel
from app.train.where import HERE as HERE_TRAINS
from app.train.where import Place
from simct import demo
from simct.config.teachers import TeacherConfig
from simct.errors import ModelError, RunError
from simct.hub.redact import KEY_VARIABLE
from simct.models import server_check, server_keys
from simct.preflight.records import PROBLEM, Check, Preflight
from simct.presets import load_preset
from simct.runs.folder import RunFolder
from tests.support.servers import free_port
from tests.support.teacher_server import KEY, TeacherServer

TEACHER, STUDENT = str(demo.TEACHER), str(demo.STUDENT)
HERE, NOBODY, ANN = Visitor(None, None), Visitor(False, None), Visitor("hf_ann", "ann")


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    monkeypatch.setattr(server_keys, "_keys", OrderedDict())
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


@pytest.fixture(scope="module")
def server():
    with TeacherServer(TEACHER) as running:
        yield running


@pytest.fixture
def panel(local):
    with gr.Blocks():
        return Panel(local, PairTab(local))


def said(panel, visitor, address, listed=64, teacher=TEACHER) -> str:
    return [updates[panel.note] for updates in panel._ask(visitor, address, listed, teacher) if updates][-1]


def test_a_key_is_kept_for_whoever_gave_it_and_leaves_the_page(panel, server, monkeypatch):
    monkeypatch.setattr(server, "key", KEY)
    wanted = said(panel, HERE, server.url)
    assert "wants a key" in wanted and "under “Key of the server”" in wanted and KEY_VARIABLE not in wanted
    kept = panel._keep_key(HERE, server.url, KEY)
    assert kept[panel.key].value == "" and KEY not in kept[panel.key].placeholder
    assert "note-ok" in said(panel, HERE, server.url) and "note-ok" in said(panel, HERE, f"{server.url}/v1")
    assert "wants a key" in said(panel, ANN, server.url)
    refused = panel._keep_key(HERE, server.url, "not one word")
    assert refused[panel.key] == "" and "not one word" not in refused[panel.note]
    # on a machine of one's own, that of the environment does
    server_keys._keys.clear()
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    assert "note-ok" in said(panel, HERE, server.url)


def test_the_model_of_the_server_is_chosen_where_it_can_be_read(panel, server, monkeypatch):
    assert panel._choose(HERE, server.url, 64, TEACHER) == {}
    assert panel._choose(HERE, server.url, 64, STUDENT)[panel.pair.teacher].value == TEACHER
    monkeypatch.setattr(server, "names", ["teacher"])
    assert panel._choose(HERE, server.url, 64, STUDENT) == {}
    assert "tokens are not those of Embedded student" in said(panel, HERE, server.url, teacher=STUDENT)
    monkeypatch.setattr(server, "names", ["acme/teacher"])
    assert panel._choose(HERE, server.url, 64, STUDENT)[panel.pair.teacher].value == "acme/teacher"


def test_a_public_studio_asks_for_people_it_knows_and_no_private_address(panel, public, server, monkeypatch):
    monkeypatch.setattr(panel, "studio", public)
    monkeypatch.setenv(KEY_VARIABLE, "of-the-space")
    asked = len(server.keys)
    assert "Sign in first" in said(panel, NOBODY, server.url)
    assert "private address" in said(panel, ANN, server.url)
    assert panel._choose(NOBODY, server.url, 64, STUDENT) == panel._choose(ANN, server.url, 64, STUDENT) == {}
    assert "https only" in said(panel, ANN, "http://9.9.9.9")
    assert "without a name, password or query" in said(panel, ANN, "https://me:secret@example.com")
    assert len(server.keys) == asked
    assert "Sign in first" in panel._keep_key(NOBODY, server.url, KEY)[panel.note]
    assert teacher_keys.of(public, ANN, "https://teacher.example.com") is None
    panel._keep_key(ANN, "https://teacher.example.com", KEY)
    assert teacher_keys.of(public, ANN, "https://teacher.example.com/v1") == KEY
    with pytest.raises(ModelError, match="teacher is on a server"):
        weights.allow(public, TEACHER, STUDENT, "hf_ann", served=True)


def test_the_verdict_is_measured_with_the_teacher_on_its_server(local, server):
    run = {"teacher": {"model": "as chosen on the page", "server": server.url, "top_logprobs": 32}}
    source = text_source.TextSource(text_source.CHOSEN, number=3)
    found = measure_reliability(local, Measurement(TEACHER, STUDENT, choice.START, source, 8, run), None, Work())
    assert found.listed == 32 and found.answers == 3 and found.verdict
    assert any(body.get("prompt_logprobs") == 32 for body in server.asked)


def test_a_server_that_does_not_answer_ends_a_measurement_soon(local, monkeypatch):
    """A run asks again for fifteen minutes, in which the page showed only that it was asking."""
    assert reliability.SERVER_PATIENCE <= 20
    monkeypatch.setattr(reliability, "SERVER_PATIENCE", 0.1)
    run = {"teacher": {"model": TEACHER, "server": f"http://127.0.0.1:{free_port()}"}}
    wanted = Measurement(TEACHER, STUDENT, choice.START, text_source.TextSource(text_source.CHOSEN), 8, run)
    with pytest.raises(RunError, match="does not answer"):
        measure_reliability(local, wanted, None, Work())


def test_an_error_of_the_server_names_the_field_and_its_step(local, panel, monkeypatch):
    """It named `teacher.server`, and said that a run could be resumed where there was none."""
    monkeypatch.setattr(reliability, "SERVER_PATIENCE", 0.1)
    monkeypatch.setattr(server_check, "NAMES_PATIENCE", 0.1)
    silent = f"http://127.0.0.1:{free_port()}"
    with gr.Blocks():
        kept, asked = Kept(gr.JSON(), gr.JSON(), gr.JSON()), {"server": gr.Textbox(), "listed": gr.Number()}
        tab = reliability.ReliabilityTab(local, PairTab(local), kept, asked, FIELDS)
    number = {"kind": text_source.CHOSEN, "number": 2}
    *_, last = tab._measure(HERE, TEACHER, STUDENT, choice.START, None, 8, silent, 64, **number)
    assert "Start it, or correct “Teacher server” on the Pair step.</p>" in last[tab.note]
    assert "Start it, or correct “Teacher server”.</p>" in said(panel, HERE, silent)


def test_a_missing_key_leads_to_its_field_where_there_is_one():
    refused = Check(
        PROBLEM, "The server wants a key.", f"Set the environment variable {KEY_VARIABLE}.", "teacher.server"
    )
    listed = checklist_view.checklist(Preflight([refused]))
    assert "Pair step, under “Key of the server”" in listed and KEY_VARIABLE not in listed
    assert KEY_VARIABLE in checklist_view.checklist(Preflight([replace(refused, setting="teachers")]))


def test_the_estimate_names_the_field_of_the_price(local):
    config = load_preset("demo-cpu")
    config.teacher.server = "http://127.0.0.1:9"
    *_, last = estimate.views(local, lambda: config, None, 100, "", Place(HERE_TRAINS))
    assert "unknown; give “Teacher server price”" in last.html and "price_per_million" not in last.html


def test_no_weights_of_a_served_teacher_are_offered(local, public, server):
    settings = with_server({"method": "marginal", "teacher": {"model": "a/b"}}, server.url, 32)
    assert settings == {"method": "marginal", "teacher": {"model": "a/b", "server": server.url, "top_logprobs": 32}}
    assert with_server({"teacher": 3}, "", None) == {"teacher": {"server": None}}
    for studio, way in ((local, "Reliability measures"), (public, "simct inspect --weights")):
        assert way in weights.served_line(studio)

    config = load_preset("demo-cpu")
    config.teacher.server = server.url
    run = RunFolder.create(local.runs_dir, config)
    assert [side for _, side in models.offered_sides(local, run, config, None)] == ["before"]
    assert "on a server" in models.served_line(config) and models.served_line(load_preset("demo-cpu")) == ""
    with pytest.raises(ModelError, match="does not answer"):
        models.RunModels.of(local, run, None, ["teacher"])
    assert models.RunModels.of(local, run, None, ["before"]).reader == "teacher"

    far = TeacherConfig(name="far", model=TEACHER, server="https://a")
    config.teachers = [TeacherConfig(name="near", model=TEACHER), far]
    assert models.served_line(config).startswith("Teacher far is on a server")
    assert "teacher:near" in [side for _, side in models.offered_sides(local, run, config, None)]
