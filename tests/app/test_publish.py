"""Publish: whose account it is, and that a token typed into the page is used by its own visitor only."""

import os
import shutil

import gradio as gr
import pytest

from app import projects
from app.publish import view
from app.publish.tab import PublishTab
from app.runs.tab import RunsTab
from simct.jobs.local.process import start_time
from simct.publishing import push
from tests.support.hub_server import TOKEN, HubServer
from tests.support.run_folders import made_up_run


def publish_tab(studio) -> PublishTab:
    with gr.Blocks():
        return PublishTab(studio, RunsTab(studio, projects.field()))


@pytest.fixture
def hub(monkeypatch):
    with HubServer() as server:
        server.use(monkeypatch, token=None)
        yield server


def test_the_account_of_a_typed_token_is_named(hub, local):
    tab = publish_tab(local)
    assert "Publishing as tester." in tab._show_account(local.nobody, f" {TOKEN} ")[tab.account]
    assert "does not know this token" in tab._show_account(local.nobody, "hf_wrong")[tab.account]
    assert "hf auth login" in tab._show_account(local.nobody, "")[tab.account]


def test_a_token_is_typed_on_a_machine_of_ones_own_only(local, public):
    here, there = publish_tab(local), publish_tab(public)
    assert here.token.visible and not there.token.visible and here.token.type == "password"
    assert here._token(local.nobody, f" {TOKEN} ") == TOKEN and here._token(local.nobody, " ") is None
    assert there._token(public.nobody, TOKEN) is False
    assert "Sign in" in there._show_account(public.nobody, TOKEN)[there.account]


def test_a_repository_is_private_unless_one_says_otherwise(local):
    assert publish_tab(local).private.value is True


def test_an_account_is_shown_as_text():
    assert "&lt;b&gt;" in view.account_line("<b>", public=True, typed=False)


def test_a_repository_is_never_kept_for_another_run(local):
    """The name that was typed for one run would be that of another one's student."""
    tab = publish_tab(local)
    one, two = made_up_run(local.runs_dir), made_up_run(local.runs_dir)
    kept = tab._refresh(local.nobody, one.id, one.id)
    assert "value" not in kept[tab.run].constructor_args and tab.repo not in kept
    other = tab._refresh(local.nobody, two.id, one.id)
    assert other[tab.run].value == two.id and other[tab.repo] == ""


def test_leaving_the_list_of_runs_unchanged_keeps_the_name_of_the_repository(local):
    """Gradio reports that as a choice, and the name was replaced by the suggested one."""
    tab = publish_tab(local)
    run = made_up_run(local.runs_dir)
    shown = tab._show(local.nobody, run.id, "me/mine", "merged")[tab.shown]
    assert tab._other_run(run.id, shown) == {} and tab._other_run("another", shown) == {tab.repo: ""}


def test_only_the_edit_button_fills_the_source_of_the_card(local):
    """A card that was shown late replaced what was being written."""
    tab = publish_tab(local)
    run = made_up_run(local.runs_dir)
    card = tab.card
    assert card.editor not in tab._show(local.nobody, run.id, "me/it", "merged", run.id)
    assert tab._show(local.nobody, run.id, "me/it", "merged", "another")[card.editor].visible is False
    opened = card._begin_editing(local.nobody, run.id, "me/it", "merged")[card.editor]
    assert opened.visible and "# it" in opened.value
    assert "me/it" in card._reset(local.nobody, run.id, "me/it", "merged")[card.editor]


def test_a_chosen_run_that_is_gone_is_not_replaced_by_another(local):
    tab = publish_tab(local)
    gone, _ = made_up_run(local.runs_dir), made_up_run(local.runs_dir)
    shutil.rmtree(gone.path)
    found = tab._refresh(local.nobody, gone.id, gone.id)
    assert found[tab.run].value is None and found[tab.repo] == ""
    assert "no longer here" in tab._show(local.nobody, None, "", "merged")[tab.note]
    refused = tab._publish(local.nobody, gone.id, "me/it", "merged", "", True, False, False)[tab.note]
    assert f"There is no run &#x27;{gone.id}&#x27;. It may have been deleted." in refused


def test_showing_a_run_never_ends_the_watching_of_its_publishing(local):
    """Its status may have been read before publishing began, and the page would then never show how it ends."""
    tab = publish_tab(local)
    run = made_up_run(local.runs_dir)
    shown = tab._show(local.nobody, run.id, "", "merged")
    assert shown[tab.publish].interactive and tab.timer not in shown
    push.begin(run, "tester/student", private=True, pid=os.getpid(), pid_started=start_time(os.getpid()))
    assert tab._show(local.nobody, run.id, "", "merged")[tab.timer].active
    push.fail(run, "tester/student", "The Hub is away.")
    assert tab.timer not in tab._show(local.nobody, run.id, "", "merged")
    assert not tab._watch(local.nobody, run.id)[tab.timer].active


def test_the_card_and_the_state_are_of_the_run_that_was_chosen_last(local):
    """Answers about a run that was chosen before, or a card before its last edit, never come after."""
    with gr.Blocks() as page:
        PublishTab(local, RunsTab(local, projects.field()))
    handlers = {fn.name: fn for fn in page.fns.values()}
    for name in ("_publish", "_watch", "_show", "_keep", "_reset"):
        assert (handlers[name].concurrency_id, handlers[name].concurrency_limit) == ("card", 1), name
    assert handlers["_publish"].trigger_mode == handlers["_watch"].trigger_mode == "once"
