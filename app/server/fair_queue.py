"""A fair version of Gradio's queue: visitors take turns, no matter how many requests one of them has sent.

Gradio has one queue for all visitors and refuses everyone once it is full. Here each visitor has a limited number of
places, and the visitor with the fewest running requests is served next. Limits on how often a function runs at once
count per page; calls of the public API, which anyone may make from anywhere, are counted together.
"""

import time
from collections import Counter, OrderedDict
from typing import Any, Literal

from gradio.data_classes import PredictBodyInternal
from gradio.queueing import Event, Queue

from app.server.visitor import caller

# limits per visitor on waiting and running requests, with separate limits for the API
MOST_WAITING, MOST_WORKING = 32, 8
MOST_CALLS_WAITING, MOST_CALLS_WORKING = 16, 1
# running calls of the API, of all visitors together
CALLS_AT_ONCE = 2
# pages per visitor whose state is kept, and characters in the name of a page
MOST_PAGES, MOST_NAME = 60, 100
IDLE_SECONDS = 0.01
MOST_KNOWN = 10_000

Pushed = tuple[bool, str | list[dict[str, Any]], Literal["success", "error", "queue_full", "validator_error"]]


class FairQueue(Queue):
    """Gradio's queue with a limited number of places per visitor. `served` is when each visitor's last request was
    started, `pages` the pages of each visitor, the one that sent something last at the end.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.served: OrderedDict[str, float] = OrderedDict()
        self.pages: OrderedDict[str, OrderedDict[str, None]] = OrderedDict()
        self.sleep_when_free = IDLE_SECONDS

    async def push(self, body: PredictBodyInternal, request: Any, username: str | None) -> Pushed:
        """Add a request to the queue, unless its visitor has used all places."""
        who = caller(request.scope)
        if len(body.session_hash or "") > MOST_NAME:
            return False, f"The name of a page has at most {MOST_NAME} characters.", "error"
        named = self.blocks.fns.get(body.fn_index) if body.fn_index is not None else None
        call = named is not None and is_call(named)
        own = sum(
            who == caller(event.request.scope) and is_call(event.fn) == call
            for line in self.event_queue_per_concurrency_id.values()
            for event in line.queue
        )
        if own >= (MOST_CALLS_WAITING if call else MOST_WAITING):
            return False, f"You already have {own} requests waiting. Wait until some have finished.", "queue_full"
        pushed = await super().push(body, request, username)
        if body.session_hash:
            self._note_page(who, body.session_hash)
        return pushed

    def _note_page(self, who: str, page: str) -> None:
        """Remember that the visitor has this page, and forget the state of their oldest one if they have too many.

        Gradio forgets a page only after it has opened and closed the connection that says it is still there.
        """
        own = self.pages.setdefault(who, OrderedDict())
        own[page] = None
        own.move_to_end(page)
        self.pages.move_to_end(who)
        while len(self.pages) > MOST_KNOWN:
            self.pages.popitem(last=False)
        if len(own) > MOST_PAGES:
            busy = {event.session_hash for event in self.event_ids_to_events.values()}
            oldest = next((each for each in own if each not in busy), page)
            if oldest != page:
                del own[oldest]
                self._forget(oldest)

    def _forget(self, page: str) -> None:
        for kept in (self.pending_messages_per_session, self.pending_event_ids_session):
            kept.pop(page, None)
        sessions: Any = self.blocks.state_holder
        sessions.forget(page)

    def get_events(self) -> tuple[list[Event], bool, str] | None:
        """Take the next request out of the queue; None if none may start."""
        working = [event for job in self.active_jobs if job is not None for event in job]
        busy = Counter((caller(event.request.scope), is_call(event.fn)) for event in working)
        at_work = Counter(map(turn_of, working))
        first: dict[tuple[str, str], Event] = {}
        for line in self.event_queue_per_concurrency_id.values():
            for event in line.queue:
                first.setdefault(turn_of(event), event)
        ready = [event for turn, event in first.items() if self._has_room(event, at_work[turn], busy)]
        if not ready:
            return None
        chosen = min(ready, key=lambda event: self._rank(event, busy))
        self.event_queue_per_concurrency_id[chosen.concurrency_id].queue.remove(chosen)
        self._note_served(caller(chosen.request.scope))
        return [chosen], False, chosen.concurrency_id

    def _has_room(self, event: Event, at_work: int, busy: Counter[tuple[str, bool]]) -> bool:
        who = caller(event.request.scope)
        if is_call(event.fn):
            calls = sum(count for (_, call), count in busy.items() if call)
            return calls < CALLS_AT_ONCE and busy[who, True] < MOST_CALLS_WORKING
        limit = self.event_queue_per_concurrency_id[event.concurrency_id].concurrency_limit
        return busy[who, False] < MOST_WORKING and (limit is None or at_work < limit)

    def _rank(self, event: Event, busy: Counter[tuple[str, bool]]) -> tuple[int, float, float]:
        """Order by the fewest running requests, then by the longest time since the last turn, then by arrival."""
        who = caller(event.request.scope)
        return busy[who, False] + busy[who, True], self.served.get(who, 0.0), event.enqueue_time

    def _note_served(self, who: str) -> None:
        self.served[who] = time.monotonic()
        self.served.move_to_end(who)
        while len(self.served) > MOST_KNOWN:
            self.served.popitem(last=False)


def is_call(fn: Any) -> bool:
    """Whether a function belongs to the public API rather than the page."""
    return bool(fn.api_visibility == "public")


def turn_of(event: Event) -> tuple[str, str]:
    """The key of requests that must end in the order in which they began: those for one place of a page, or those of
    one visitor to the API.
    """
    return event.concurrency_id, caller(event.request.scope) if is_call(event.fn) else event.session_hash
