"""Where messages appear: next to the control that they are about, and never in a part of the page that is collapsed."""

from collections.abc import Iterator
from typing import Any

import gradio as gr
import pytest

from app.address import missing
from app.server.visitor import Visitor
from app.studio import build
from app.train.where import PlaceForm
from simct.runs.folder import RunFolder
from tests.support.hostile import HOSTILE
from tests.support.run_folders import made_up_run

ANN = Visitor("hf_ann", "ann")


@pytest.fixture
def page(local) -> dict[str, Any]:
    return build(local).config


def folds(page: dict[str, Any]) -> dict[int, set[int]]:
    """The collapsed groups and the tabs around each component."""
    types = {each["id"]: each["type"] for each in page["components"]}
    found: dict[int, set[int]] = {}

    def walk(part: dict[str, Any], around: set[int]) -> None:
        found[part["id"]] = around
        inside = around | {part["id"]} if types.get(part["id"]) in ("accordion", "tabitem") else around
        for child in part.get("children") or []:
            walk(child, inside)

    walk(page["layout"], set())
    return found


def messages_elsewhere(page: dict[str, Any]) -> Iterator[str]:
    """Each button with a message that appears in a group or a tab in which the button is not."""
    around = folds(page)
    names = {each["id"]: each["props"].get("elem_id") or "" for each in page["components"]}
    for event in page["dependencies"]:
        for button, kind in event["targets"]:
            for place in event["outputs"]:
                if kind == "click" and names[place].endswith("-note") and not around[place] <= around[button]:
                    yield f"{names[button]}: {names[place]}"


def test_the_message_of_a_button_is_not_in_a_part_that_may_be_collapsed(page):
    """The error about a star was in the group with the run's name and tags, which is collapsed at first."""
    assert list(messages_elsewhere(page)) == []


def test_a_message_in_a_collapsed_group_would_be_found(page):
    names = {each["props"].get("elem_id"): each["id"] for each in page["components"]}
    page["dependencies"].append({"targets": [(names["star"], "click")], "outputs": [names["run-label-note"]]})
    assert list(messages_elsewhere(page)) == ["star: run-label-note"]


def test_every_file_reaches_the_studio_which_says_what_is_wrong_with_it(page):
    """Gradio refuses a file whose name has another ending, or none, without a message."""
    fields = [each for each in page["components"] if each["type"] in ("file", "uploadbutton")]
    assert len(fields) >= 5 and not any(each["props"].get("file_types") for each in fields)


def owned(runs_dir, owner: str) -> RunFolder:
    run = made_up_run(runs_dir)
    run.set_status(owner=owner)
    return run


def test_an_address_says_what_it_names_that_is_gone(local):
    assert "There are no other runs." in missing(local, local.nobody, {"run": "gone"})
    run = made_up_run(local.runs_dir)
    whole = {"run": run.id, "project": "Maths", "projects": ["Maths"], "step": "train", "part": "several", "at": "12"}
    for there in ({}, whole, {"project": "Tour", "tour": "1"}):
        assert missing(local, local.nobody, there) == ""
    for name, line in {
        "run": "It may have been deleted. The newest run was opened instead.",
        "project": "so a new one was opened.",
        "step": "Pair was opened instead.",
        "part": "Text was opened instead.",
        "at": "The first one was opened instead.",
    }.items():
        for value in ("gone", HOSTILE, -3):
            found = missing(local, local.nobody, {**whole, name: value})
            assert line in found and "\n" not in found and len(found) < 250, name
    assert missing(local, local.nobody, dict.fromkeys(whole, "gone")).count(" was opened") == 5
    assert "text in the link is damaged" in missing(local, local.nobody, {"damaged": True})


def test_the_run_of_another_account_is_not_here_either(public):
    run = owned(public.runs_dir, "ann")
    assert missing(public, ANN, {"run": run.id}) == ""
    assert "Sign in to see your runs." in missing(public, public.nobody, {"run": run.id})
    assert "There are no other runs." in missing(public, Visitor("hf_ben", "ben"), {"run": run.id})


@pytest.mark.parametrize(("flavor", "hours", "dollars", "line"), [
    ("t4", 4, 5, "It may cost up to $1.60: t4 for at most 4.0 h"),
    ("t4", 4, 0.001, "It may cost up to $0.01: t4 for at most 9 s. That is too short: the run takes about 30 min"),
    ("free", 1, 5, "It may cost up to $0.00: free for at most 60 min"),
    (None, 4, 5, "Choose a machine first"),
    ("gone", 4, 5, "Choose a machine first"),
    ("t4", None, 5, "Enter “End after, hours” first"),
    ("t4", 4, None, "Enter “Spend at most, $” first"),
    ("t4", -1, 5, "“End after, hours” is -1; it must be above 0"),
    ("t4", 4, 0, "“Spend at most, $” is 0; it must be above 0"),
    ("t4", 1e6, 5, "“End after, hours” is 1e+06; it must be at most 336"),
])  # fmt: skip
def test_what_a_job_may_cost_can_be_confirmed_only_if_it_is_known(local, flavor, hours, dollars, line):
    with gr.Blocks():
        form = PlaceForm(local)
    prices = {"t4": (0.4, 0.5), "free": (0.0, None)}
    tick = form._ask_to_confirm(flavor, hours, dollars, prices)[form.confirmed]
    assert (tick.label, tick.value, tick.interactive) == (line, False, line.startswith("It may cost"))
