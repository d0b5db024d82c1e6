"""A stranger's program is stopped when its time is up, in any thread, and nothing else is disturbed."""

import resource
import signal
import textwrap
import threading
import time

import pytest

from simct.errors import LimitError
from simct.time_limit import run_within
from simct.tokenization.chat_templates import apply_template
from tests.support.random_pair import trained_tokenizer


def forever() -> None:
    while True:
        try:
            while True:
                pass
        except Exception:  # a program that continues whatever happens
            continue


def in_thread(function) -> list[object]:
    """What `function` gives or raises in another thread."""
    found: list[object] = []

    def run():
        try:
            found.append(function())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    return found


def test_it_is_stopped_in_the_main_thread_and_the_alarm_is_as_before():
    before = signal.getsignal(signal.SIGALRM)
    began = time.monotonic()
    with pytest.raises(LimitError, match=r"^The template did not finish within 0\.2 s\.$"):
        run_within(0.2, "The template", forever)
    assert time.monotonic() - began < 10
    assert signal.getsignal(signal.SIGALRM) is before and signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_it_is_stopped_in_any_other_thread():
    [error] = in_thread(lambda: run_within(0.2, "The template", forever))
    assert isinstance(error, LimitError)


def test_what_ends_in_time_gives_its_result_and_its_error():
    for run in (lambda function: [function()], in_thread):
        assert run(lambda: run_within(5, "It", lambda: 3)) == [3]
    with pytest.raises(ZeroDivisionError):
        run_within(5, "It", lambda: 1 / 0)


def test_an_alarm_that_is_set_already_is_left_alone():
    rang: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rang.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(LimitError):
            run_within(0.6, "It", forever)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert rang == [signal.SIGALRM]


@pytest.mark.parametrize(
    "bomb", ["{{ 'x' * 10**9 }}", "{{ 'x' | center(10**9) }}", "{{ ('x' * 10**9) ~ ('y' * 10**9) }}"]
)
def test_a_template_that_takes_much_memory_is_one_line(bomb):
    tokenizer = trained_tokenizer(textwrap, 300, template=bomb)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(LimitError, match="needs more than 512 MiB of memory"):
        apply_template(tokenizer, [{"role": "user", "content": "hi"}])
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert len("x" * (600 << 20)) == 600 << 20  # what comes after is not limited
