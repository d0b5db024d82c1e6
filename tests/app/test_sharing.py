"""Read-only links: made and withdrawn by the owner alone, and a page that shows the one run and nothing else."""

import re

import gradio as gr
import pytest

from app.runs.sharing import SharedRun, ShareLink
from app.server.visitor import Visitor
from simct.errors import RunError
from simct.runs.sharing import SHARE_FILE, link_of, linked_run, make_link, withdraw_link
from tests.support.hostile import HOSTILE
from tests.support.run_folders import made_up_run

playwright = pytest.importorskip("playwright.sync_api")
from tests.support import studio_page  # noqa: E402  (needs playwright)

expect = playwright.expect
ANN, BEN, NOBODY = Visitor("hf_ann", "ann"), Visitor("hf_ben", "ben"), Visitor(False, None)


@pytest.fixture(scope="module")
def hub():
    return studio_page.NoHub()


def test_a_link_opens_its_run_until_it_is_withdrawn(tmp_path):
    run, other = made_up_run(tmp_path), made_up_run(tmp_path)
    assert link_of(run) is None
    link = make_link(run)
    assert link == link_of(run) == make_link(run) and linked_run(tmp_path, link).id == run.id
    assert (run.path / SHARE_FILE).stat().st_mode & 0o077 == 0
    key = link.partition(":")[2]
    wrong = [
        "",
        run.id,
        f"{run.id}:",
        f"{run.id}:{key[:-1]}",
        f"{other.id}:{key}",
        f"../{run.id}:{key}",
        f"{link}\udcff",
    ]
    for each in wrong:
        with pytest.raises(RunError, match="shows no run"):
            linked_run(tmp_path, each)
    withdraw_link(run)
    withdraw_link(run)
    with pytest.raises(RunError, match="shows no run"):
        linked_run(tmp_path, link)
    assert make_link(run) != link
    for damaged in ("", "[]", '{"key": ""}', '{"key": 3}'):
        (run.path / SHARE_FILE).write_text(damaged)
        assert link_of(run) is None
        with pytest.raises(RunError):
            linked_run(tmp_path, f"{run.id}:")


def test_only_the_owner_makes_and_withdraws_a_link_and_whoever_has_it_reads(public):
    run = made_up_run(public.runs_dir, owner="ann", error=HOSTILE, state="failed")
    with gr.Blocks():
        share, page = ShareLink(public, gr.Radio()), SharedRun(public)
        share.connect(gr.State(0))
    for visitor in (BEN, NOBODY):
        assert "no run" in share._make(visitor, run.id)[share.outcome] and link_of(run) is None
    # the fields may show another run by now, so they are updated for the run that is shown then
    assert set(share._make(ANN, run.id)) == {share.outcome, share.changed}
    made = share.shown(run)
    assert made[share.path] == link_of(run) and made[share.withdraw].visible and not made[share.make].visible
    assert "no run" in share._withdraw(BEN, run.id)[share.outcome]

    seen = page.look(made[share.path], {})
    assert "Embedded student" in seen[page.head] and "<img" not in seen[page.head]
    assert seen[page.curves]["charts"] and str(public.runs_dir) not in "".join(seen[each] for each in page.panels)
    assert page.look(made[share.path], seen[page.seen]) == {}
    assert set(share._withdraw(ANN, run.id)) == {share.outcome, share.changed} and link_of(run) is None
    gone = page.look(made[share.path], seen[page.seen])
    assert "shows no run" in gone[page.head] and gone[page.curves]["charts"] == [] and gone[page.settings] == ""
    assert "link in the address is incomplete" in page.look("", None)[page.head]


@pytest.mark.skipif(studio_page.CHROMIUM is None, reason="no Chromium on this machine")
def test_a_run_is_read_by_its_link(studio, browser, address, runs_dir):
    run = made_up_run(runs_dir)
    studio.open("?step=runs")
    studio.page.get_by_role("button", name="Read-only link").click()
    studio.at("#share-make").click()
    link = studio.at("#share-link").locator("input, textarea")
    expect(link).to_have_value(re.compile(f"/run#{run.id}:"))
    reader = studio_page.visitor(browser, address, width=390)
    address_of_run = link.input_value()
    reader.page.goto(address_of_run)
    expect(reader.at("#shared-head .pill")).to_have_text("finished")
    expect(reader.at("#shared-results")).to_contain_text("75.0%")
    expect(reader.at("#shared-measured .plot svg").first).to_be_visible()
    assert reader.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert "Stop" not in reader.page.inner_text("body") and reader.at("#steps").count() == 0
    reader.shot("shared-run")
    studio.at("#share-withdraw").click()
    expect(reader.at("#shared-head .note-error")).to_contain_text("shows no run")
    expect(reader.at("#shared-results")).to_be_hidden()
    reader.close()
    cut_off = studio_page.visitor(browser, address)
    cut_off.page.goto(address_of_run + "%E0%A4")
    expect(cut_off.at("#shared-head .note-error")).to_contain_text("shows no run")
    cut_off.close()
