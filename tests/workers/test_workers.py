"""Work in child processes: what comes back, and that no child can stop, fill or take over its parent."""

import contextlib
import os
import resource
import threading
import time

import numpy as np
import psutil
import pytest

from simct.errors import DataError, LimitError
from simct.workers.child import Worker
from simct.workers.nursery import Nursery, nursery_with
from simct.workers.pool import KEPT_BYTES, MOST_EACH, Limits, Workers
from tests.support import misbehaving

# other work on the machine makes half a second of computing take several
QUICK = Limits(seconds=0.5, waiting=4.0, memory=200_000_000)
PRELOADED = ("numpy", "tests.support.misbehaving")


def ready(worker: Worker) -> None:
    """Nothing to prepare."""


@pytest.fixture
def workers():
    made = Workers(nursery_with(PRELOADED), lambda: (ready,))
    yield made
    made.close()


def pid_of(workers: Workers, near: str | None = None) -> int:
    return workers.run(misbehaving.pid, what="The process", near=near)


def test_results_come_back_from_another_process(workers):
    assert workers.run(misbehaving.add, 1, 2, what="The sum") == 3
    assert np.array_equal(workers.run(misbehaving.array, what="The array"), np.arange(5))
    assert pid_of(workers) != os.getpid()


@pytest.mark.parametrize(
    ("function", "got"),
    [
        (misbehaving.compute_forever, "The file did not finish within 0.5 s."),
        (misbehaving.wait_forever, "The file did not finish within 4 s."),
        (misbehaving.crash, "The file could not be read: the process that read it crashed."),
        (misbehaving.fill_memory, "The file needs more than 0.2 GB of memory."),
        (misbehaving.ask_for_everything, "The file cannot be read: MemoryError"),
        (misbehaving.talk_without_end, "The file gives more than 67,108,864 bytes."),
        (misbehaving.fail, "The file cannot be read: ZeroDivisionError: division by zero."),
        (misbehaving.panic, "The file cannot be read: Panic: called"),
        (misbehaving.forged, "The file returned something that is not a result."),
        (misbehaving.stranger, "The file returned something that is not a result."),
        (misbehaving.stuck_in_a_step, "The chat template of 'acme/loops' did not finish within 0.5 s."),
    ],
)
def test_what_goes_wrong_is_one_line_and_the_next_request_is_served(workers, function, got, tmp_path, monkeypatch):
    monkeypatch.setenv("FORGED", str(tmp_path / "forged"))
    began = time.monotonic()
    with pytest.raises(LimitError) as caught:
        workers.run(function, what="The file", limits=QUICK)
    assert str(caught.value).startswith(got) and "\n" not in str(caught.value)
    assert time.monotonic() - began < 20
    assert workers.run(misbehaving.add, 1, 2, what="The sum") == 3
    assert not (tmp_path / "forged").exists()


def test_an_error_for_people_keeps_its_kind(workers):
    before = pid_of(workers)
    with pytest.raises(DataError, match=r"^There is nothing to read\.$"):
        workers.run(misbehaving.refuse, what="The file")
    assert pid_of(workers) == before


def test_a_child_that_exceeds_a_limit_is_gone(workers):
    before = pid_of(workers, "here")
    with pytest.raises(LimitError):
        workers.run(misbehaving.compute_forever, what="The file", near="here", limits=QUICK)
    until = time.monotonic() + 10
    while psutil.pid_exists(before) and time.monotonic() < until:
        time.sleep(0.05)
    assert not psutil.pid_exists(before)


def test_limits_count_for_each_step(workers):
    assert workers.run(misbehaving.slow_steps, what="The file", limits=QUICK) == "done"


def test_progress_arrives_and_a_cancel_keeps_what_was_done(workers):
    seen: list[int] = []
    got = workers.run(
        misbehaving.count,
        10_000,
        what="The numbers",
        on_progress=lambda done, total: seen.append(done),
        should_stop=lambda: len(seen) > 2,
    )
    assert 0 < got < 10_000 and len(seen) > 2
    # what was said to the last work is not said to the next
    assert workers.run(misbehaving.count, 3, what="The numbers") == 3


def test_the_same_files_go_to_the_child_that_has_them(workers):
    pids: dict[str, int] = {}

    def busy(near: str) -> None:
        workers.run(misbehaving.count, 30, what="The numbers", near=near)
        pids[near] = pid_of(workers, near)

    threads = [threading.Thread(target=busy, args=(near,)) for near in "ab"]
    [thread.start() for thread in threads]
    [thread.join(60) for thread in threads]
    assert pids["a"] != pids["b"]
    assert [pid_of(workers, near) for near in "abbaab"] == [pids[near] for near in "abbaab"]
    # what is near nothing goes to a child that has worked before, and a fresh one waits for when all are busy
    assert pid_of(workers, "c") in pids.values()
    assert any(not child.near for child in workers._idle)


def test_a_child_that_keeps_much_is_replaced(workers):
    limits = Limits(memory=4 * KEPT_BYTES)
    assert workers.run(misbehaving.leave_much_behind, what="The file", near="a", limits=limits) == ord("x")
    before = {child._process.pid for child in workers._idle if child._process}
    assert pid_of(workers, "a") not in before


def test_a_busy_pool_makes_the_others_wait_and_serves_them(workers):
    workers.most = 2
    done = []

    def work():
        done.append(workers.run(misbehaving.count, 10, what="The numbers"))

    threads = [threading.Thread(target=work) for _ in range(6)]
    [thread.start() for thread in threads]
    [thread.join(60) for thread in threads]
    assert done == [10] * 6 and len(workers._idle) <= 2


def test_one_visitor_has_a_share_of_the_children_and_the_others_the_rest(workers):
    workers.most, workers.visitor = 3, lambda: threading.current_thread().name
    ended = []

    def read(visitor: str) -> None:
        function = misbehaving.wait_forever if visitor == "flood" else misbehaving.pid
        with contextlib.suppress(LimitError):
            workers.run(function, what="The file", limits=Limits(waiting=1.0))
            ended.append(visitor)

    threads = [threading.Thread(target=read, args=("flood",), name="flood") for _ in range(5)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 20
    while len(workers._waiting) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    assert [child.works_for for child in workers._busy] == ["flood"] * MOST_EACH
    began = time.monotonic()
    other = threading.Thread(target=read, args=("other",), name="other")
    other.start()
    other.join(20)
    assert ended == ["other"] and time.monotonic() - began < 1.0
    for thread in threads:
        thread.join(20)
    assert not workers._waiting and not workers._busy


def test_children_know_no_secret_of_their_parent(monkeypatch):
    for name in ("HF_TOKEN", "OAUTH_CLIENT_SECRET", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "secret-value")
    apart = Workers(Nursery(PRELOADED), lambda: (ready,))
    found = apart.run(misbehaving.environment, what="The environment")
    apart.close()
    assert "secret-value" not in str(found) and found["PATH"]


def test_a_changed_setup_reaches_the_next_request(workers):
    before = pid_of(workers)
    workers.setup = lambda: (misbehaving.add, 1, 2)
    assert pid_of(workers) != before


def test_children_end_with_their_parent():
    nursery = Nursery(PRELOADED)
    apart = Workers(nursery, lambda: (ready,))
    child = pid_of(apart)
    with pytest.raises(LimitError):
        threading.Timer(0.3, nursery._control.close).start()
        apart.run(misbehaving.compute_forever, what="The file")
    until = time.monotonic() + 10
    while psutil.pid_exists(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not psutil.pid_exists(child)


def test_a_nursery_that_died_is_started_again(workers):
    nursery = Nursery(PRELOADED)
    apart = Workers(nursery, lambda: (ready,))
    pid_of(apart)
    nursery._process.kill()
    nursery._process.wait()
    assert pid_of(apart, "another") and pid_of(apart, "a third")
    apart.close()


def test_without_a_parent_a_worker_does_the_same():
    limits = resource.getrlimit(resource.RLIMIT_CPU)
    worker = Worker()
    worker.step("One")
    assert misbehaving.add(worker, 1, 2) == 3 and misbehaving.count(worker, 3) == 3
    # the process is not its own
    assert resource.getrlimit(resource.RLIMIT_CPU) == limits


def test_a_spare_child_that_cannot_be_started_takes_no_place_of_the_pool(workers, monkeypatch):
    before = pid_of(workers)
    workers._idle = [child for child in workers._idle if child.near]

    def refuse(nursery):
        raise OSError("too many open files")

    monkeypatch.setattr(Nursery, "fork", refuse)
    for _ in range(workers.most + 1):
        assert pid_of(workers) == before
    [child] = workers._idle
    child.kill()
    workers._idle.clear()
    with pytest.raises(LimitError, match="did not start"):
        pid_of(workers)
    assert not workers._busy
    monkeypatch.undo()
    assert pid_of(workers) != before
