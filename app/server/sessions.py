"""What Gradio keeps of each page: the values of its components, and not a description of every component besides.

Gradio describes all components anew for each page that sends anything, on the thread that answers requests: seventy new
pages at once would hold everybody up for ten seconds. It needs the descriptions for its links that restore a page; the
studio has links of its own (app/address.py).
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
