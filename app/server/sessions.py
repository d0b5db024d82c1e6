"""Gradio's state of each page: only the values of its components, without a description of every component.

Gradio would describe all components again for each page that sends anything, on the thread that answers requests:
seventy new pages at once would block everyone for ten seconds. The descriptions serve its links that restore a page;
the studio has its own links (app/address.py).
"""

from types import SimpleNamespace
from typing import Any

from gradio.state_holder import SessionState, StateHolder


class Sessions(StateHolder):
    """The pages that are open, each described as far as it has changed."""

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            bare: Any = SimpleNamespace(default_config=self.blocks.default_config, blocks={})
            self.session_data[session_id] = SessionState(bare)
        return super().__getitem__(session_id)
