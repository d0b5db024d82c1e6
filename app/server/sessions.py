"""Gradio's state of each page: only its components' values, without a description of every component.

For each page that sends anything, Gradio would describe all components again, on the thread that answers requests.
Seventy new pages at once would block everyone for ten seconds. Gradio needs the descriptions for links that restore a
page; the studio has its own links (app/address.py).
"""

from types import SimpleNamespace
from typing import Any

from gradio.state_holder import SessionState, StateHolder


class Sessions(StateHolder):
    """The open pages, each with only what has changed on it."""

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            bare: Any = SimpleNamespace(default_config=self.blocks.default_config, blocks={})
            self.session_data[session_id] = SessionState(bare)
        return super().__getitem__(session_id)
