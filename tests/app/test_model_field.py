"""The field of a model, without a browser."""

import gradio as gr
import pytest

from app.page import hub_notes
from app.pair.model_field import choices
from app.pair.tab import PairTab
from app.server.visitor import Visitor
from simct import demo
from simct.hub.search import search_models


@pytest.fixture
def field(local):
    with gr.Blocks():
        return PairTab(local).sides[0]


def test_what_a_list_shows_of_a_chosen_model_is_not_searched(field, hub):
    hub.add_model("acme/tiny-teacher", demo.TEACHER)
    filters = {"task": "", "size": "", "license": "", "access": "", "order": "downloads"}
    visitor = Visitor(False, None)
    assert "1 found" in str(field.search(visitor, "tiny", **filters)[field.note])
    [hit] = search_models("tiny", False)
    # a field of one line shows the label without its line break
    shown = hub_notes.label(hit, "tiny").replace("\n", "")
    hub.requests.clear()
    assert field.search(visitor, shown, **filters) == {}
    assert not hub.requests


def test_a_list_never_gets_shorter_while_its_field_is_typed_into(field, hub):
    for number in range(12):
        hub.add_model(f"acme/teacher-{number}", demo.TEACHER)
    filters = {"task": "", "size": "", "license": "", "access": "", "order": "downloads"}
    visitor, before = Visitor(False, None), []
    for typed in ("teacher", "teacher-1", "teacher-11", "teacher-11x"):
        updates = field.search(visitor, typed, before, **filters)
        offered = updates.get(field.offered, before)
        assert len(offered) >= len(before) and len({value for _, value in offered}) == len(offered)
        before = offered
    assert before[0][1] == "acme/teacher-11"
    # other filters begin a new list
    assert len(field.search(visitor, "teacher-11", **filters)[field.offered]) == 1 + len(choices([]))
