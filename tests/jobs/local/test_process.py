"""Whether a process is alive, as distinct from zombies and from later processes with the same number."""

import os
import subprocess
import sys
import time

from simct.jobs.local import process
from tests.support.waiting import until

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_a_process_is_known_by_its_number_and_start():
    started = process.start_time(os.getpid())
    assert abs(started - time.time()) < 3600 * 24
    assert process.is_alive(os.getpid(), started) and process.is_alive(os.getpid())
    assert process.is_alive(os.getpid(), started + 0.01)  # clocks are adjusted
    assert not process.is_alive(os.getpid(), started - 3600)  # a later process with the same number
    assert not process.is_alive(None) and not process.is_alive(2**22 + 1) and process.start_time(2**22 + 1) is None


def test_a_process_that_ended_is_dead_even_as_a_zombie():
    child = subprocess.Popen(SLEEP)
    started = process.start_time(child.pid)
    assert process.is_alive(child.pid, started)
    child.kill()
    until(lambda: not process.is_alive(child.pid, started), 5)
    assert child.returncode is None  # nobody has waited for it
    child.wait()


def test_a_child_that_is_reaped_leaves_no_zombie():
    child = subprocess.Popen([sys.executable, "-c", ""])
    process.reap(child)
    until(lambda: child.returncode is not None, 10)
    assert child.returncode == 0


def test_members_of_a_process_group():
    code = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    leader = subprocess.Popen([sys.executable, "-c", f"{code}; time.sleep(60)"], start_new_session=True)
    try:
        members = until(lambda: len(found := process.group_members(leader.pid)) == 2 and found, 10)
        assert leader.pid in members and os.getpid() not in members
        leader.kill()
        leader.wait()
        assert process.group_members(leader.pid) == [pid for pid in members if pid != leader.pid]
    finally:
        os.killpg(leader.pid, 9)
    until(lambda: not process.group_members(leader.pid), 10)
    assert process.group_members(None) == []
