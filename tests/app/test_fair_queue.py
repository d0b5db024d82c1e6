"""Whose request is next: a flood of one visitor leaves the others their turn."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from app.server.fair_queue import CALLS_AT_ONCE, MOST_CALLS_WAITING, MOST_PAGES, MOST_WAITING, MOST_WORKING, FairQueue


class Function(SimpleNamespace):
    """What Gradio's queue asks of a function of the page."""

    fn, validator, batch, __hash__ = None, None, False, object.__hash__


class Line:
    """A queue with events of visitors, without a page behind it."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []
        self.queue = FairQueue(
            live_updates=False, concurrency_count=40, update_intervals=1.0, max_size=256, default_concurrency_limit=4,
            blocks=SimpleNamespace(fns={}, state_holder=SimpleNamespace(forget=self.forget)),
        )  # fmt: skip
        self.queue.active_jobs = [None] * 40
        self.functions: dict[str, Any] = {}

    def forget(self, page: str) -> None:
        self.forgotten.append(page)

    def function(self, name: str, limit: int | None = 4, visibility: str = "private") -> Any:
        return self.functions.setdefault(
            name, Function(concurrency_id=name, concurrency_limit=limit, api_visibility=visibility, api_name=name)
        )

    def push(self, who: str, function: Any, session: str | None = None) -> str:
        """Join the line as the visitor at address `who`; returns what Gradio says of it."""
        self.queue.blocks.fns[0] = function
        request: Any = SimpleNamespace(scope={"client": (who, 1), "headers": []})
        body: Any = SimpleNamespace(fn_index=0, session_hash=session or who, request=request, function=function)
        return asyncio.run(self.queue.push(body, request, None))[2]

    def work(self) -> list[str]:
        """Begin all that may begin; returns who was served, in order."""
        served = []
        while (found := self.queue.get_events()) is not None:
            [event], _, _ = found
            self.queue.active_jobs[self.queue.active_jobs.index(None)] = [event]
            served.append(event.request.scope["client"][0])
        return served

    def end(self, who: str, page: str | None = None) -> None:
        """The first of this visitor's requests (from this page) that is worked on has ended."""
        jobs = self.queue.active_jobs
        own = (job for job in jobs if job and job[0].request.scope["client"][0] == who)
        ended = next(job for job in own if page in (None, job[0].session_hash))
        jobs[jobs.index(ended)] = None
        del self.queue.event_ids_to_events[ended[0]._id]


@pytest.fixture
def line(monkeypatch) -> Line:
    monkeypatch.setattr("gradio.route_utils.get_fn", lambda blocks, name, body: body.function)
    return Line()


def test_a_flood_of_calls_leaves_pages_and_other_callers_their_turn(line):
    inspect = line.function("inspect", 1, "public")
    got = [line.push("1.1.1.1", inspect) for _ in range(73)]
    assert got.count("success") == MOST_CALLS_WAITING and got[-1] == "queue_full"
    assert line.work() == ["1.1.1.1"]  # and the others wait for it
    assert line.push("2.2.2.2", inspect) == "success"
    assert line.push("1.1.1.1", line.function("refresh")) == "success"
    assert sorted(line.work()) == ["1.1.1.1", "2.2.2.2"]
    line.push("3.3.3.3", inspect)
    assert line.work() == [] and CALLS_AT_ONCE == 2
    line.end("1.1.1.1")
    assert line.work() == ["3.3.3.3"]  # before the fifteen that came first


def test_pages_have_places_too_and_one_visitor_never_takes_all_workers(line):
    functions = [line.function(f"fn{number}", None) for number in range(4)]
    got = [line.push("1.1.1.1", functions[number % 4], f"s{number}") for number in range(73)]
    assert got.count("success") == MOST_WAITING
    assert line.work() == ["1.1.1.1"] * MOST_WORKING
    line.push("2.2.2.2", functions[0])
    assert line.work() == ["2.2.2.2"]


def test_what_ends_in_order_does_so_for_each_page_by_itself(line):
    turn = line.function("pair", 1)
    for who, session in (("1.1.1.1", "a"), ("1.1.1.1", "a"), ("1.1.1.1", "b"), ("2.2.2.2", "c")):
        line.push(who, turn, session)
    assert sorted(line.work()) == ["1.1.1.1", "1.1.1.1", "2.2.2.2"]
    assert line.work() == []
    line.end("1.1.1.1")
    assert line.work() == ["1.1.1.1"]


def test_pages_that_never_say_that_they_are_still_there_are_forgotten_in_turn(line):
    refresh = line.function("refresh")
    line.push("2.2.2.2", refresh, "another's")
    line.push("1.1.1.1", line.function("long"), "busy")
    line.work()
    for number in range(MOST_PAGES + 2):
        assert line.push("1.1.1.1", refresh, f"p{number}") == "success"
        line.work()
        line.end("1.1.1.1", f"p{number}")
    # neither the one that is being worked for nor anyone else's
    assert line.forgotten == ["p0", "p1", "p2"]
    assert "p0" not in line.queue.pending_messages_per_session and "busy" in line.queue.pending_messages_per_session
    assert len(line.queue.pages["address 1.1.1.1"]) == MOST_PAGES
    assert line.push("1.1.1.1", refresh, "x" * 1000) == "error"
