"""What Gradio keeps of each page: what the page needs, of a limited number of pages."""

import gradio as gr

from app.server import sessions
from app.server.sessions import Sessions


def test_a_page_keeps_its_values_and_no_description_of_its_components(monkeypatch):
    monkeypatch.setattr(sessions, "MOST_PAGES", 2)
    with gr.Blocks() as blocks:
        kept, text = gr.State("first"), gr.Textbox("first")
    holder = Sessions()
    holder.set_blocks(blocks)
    page = holder["a"]
    page[kept._id] = "second"
    page[text._id] = shown = gr.Textbox("second", label="Another", render=False)
    page._update_config(text._id)
    page._update_value_in_config(text._id, "third")
    assert page[kept._id] == "second" and page[text._id] is shown and list(page.components) == []
    assert holder["b"][kept._id] == "first" and holder["b"][text._id] is text
    assert [value for _, value, _ in page.state_components] == ["second"]
    _ = holder["c"], holder["d"]
    assert list(holder.session_data) == list(holder.time_last_used) == ["c", "d"]
    holder.forget("c")
    holder.forget("unknown")
    assert list(holder.session_data) == ["d"]
