"""Gradio's state of each page, without a description of its components, and only for a limited number of pages.

For each page that sends anything, Gradio would describe all components again, on the thread that answers requests.
Seventy new pages at once would block everyone for ten seconds. It would also keep what each page sends and shows, long
after the page is closed. Gradio needs this for links that restore a page; the studio has its own links
(app/address.py).
"""

from datetime import datetime
from types import SimpleNamespace
from typing import Any

import gradio as gr
from gradio.state_holder import SessionState, StateHolder

# pages of all visitors whose state is kept, in the order in which they last sent something; each has half a megabyte
MOST_PAGES = 2_000


class PageState(SessionState):
    """The state of one page: its values that only the server has, and the components that have changed on it."""

    def __setitem__(self, key: int, value: Any) -> None:
        block = self.blocks_config.blocks.get(key)
        if isinstance(block, gr.State):
            self._state_ttl[key] = (block.time_to_live, datetime.now())
            self.state_data[key] = value
        else:
            self.blocks_config.blocks[key] = value

    def _update_config(self, key: int) -> None:
        """Describe nothing."""

    def _update_value_in_config(self, key: int, value: Any) -> None:
        """Keep nothing."""


class Sessions(StateHolder):
    """The open pages, each with only what has changed on it."""

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            bare: Any = SimpleNamespace(default_config=self.blocks.default_config, blocks={})
            self.session_data[session_id] = PageState(bare)
        return super().__getitem__(session_id)

    def set_blocks(self, blocks: gr.Blocks) -> None:
        super().set_blocks(blocks)
        self.capacity = MOST_PAGES

    def forget(self, session_id: str) -> None:
        """Drop the state of a page, if it has any."""
        with self.lock:
            self.session_data.pop(session_id, None)
            self.time_last_used.pop(session_id, None)
