"""The field of a model, without a browser."""

import gradio as gr
import pytest

from app.page import hub_notes
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
