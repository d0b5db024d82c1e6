"""Files: replaced whole or not at all, JSON lines that survive crashes and odd characters, locks between processes."""

import os
import subprocess
import sys
import threading

import pytest

from simct import files
from simct.files import append_jsonl, read_json, read_jsonl, write_atomically, write_cache


def test_an_interrupted_write_leaves_the_old_content(tmp_path):
    target = tmp_path / "status.json"
    write_atomically(target, "old")
    with pytest.raises(TypeError):
        write_atomically(target, 5)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
    write_atomically(target, b"\x00\xff")
    assert target.read_bytes() == b"\x00\xff"


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    write_cache(tmp_path / "a" / "b.bin", b"kept")
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"kept"
    (tmp_path / "file").write_text("")
    write_cache(tmp_path / "file" / "b.bin", b"lost")

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    write_cache(tmp_path / "a" / "c.bin", b"lost")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.bin"]


def test_a_line_that_was_cut_short_never_joins_the_next_one(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_jsonl(path, [{"step": 1}, {"step": 2}])
    path.write_bytes(path.read_bytes()[:-4])
    append_jsonl(path, [{"step": 3}])
    assert read_jsonl(path) == [{"step": 1}, {"step": 3}]
    # what lacks nothing but its newline is whole
    path.write_text('{"step": 1}')
    append_jsonl(path, [{"step": 2}])
    append_jsonl(path, [])
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_every_character_that_a_model_may_write_stays_in_its_record(tmp_path):
    text = "a\u2028b\u2029c\x85d\x0ce\x1cf\r\ng\x00h"
    append_jsonl(tmp_path / "a.jsonl", [{"completion": text}, {"completion": "lone \ud800 surrogate"}])
    assert read_jsonl(tmp_path / "a.jsonl") == [{"completion": text}, {"completion": "lone ? surrogate"}]


@pytest.mark.parametrize("content", [b"", b"[1]", b"5", b"null", b'{"a": ', b"\xff\xfe", b"[" * 200_000, b"9" * 9000])
def test_what_is_not_a_json_object_reads_as_empty(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    assert read_json(tmp_path / "a") == {} and read_jsonl(tmp_path / "a") == []
    assert read_json(tmp_path / "absent") == {} and read_json(tmp_path) == {} and read_jsonl(tmp_path / "absent") == []


HOLDER = """
import os, sys
from pathlib import Path
from simct.files import acquire_lock
assert acquire_lock(Path(sys.argv[1])) is not None
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_is_held_until_its_process_ends_however_it_ends(tmp_path):
    path = tmp_path / "lock"
    assert not files.is_locked(path) and not path.exists()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    assert files.is_locked(path) and files.acquire_lock(path) is None
    entered = []

    def enter() -> None:
        with files.locked(path):
            entered.append(files.acquire_lock(path))

    waiting = threading.Thread(target=enter)
    waiting.start()
    assert not entered
    holder.kill()
    holder.wait()
    waiting.join(10)
    assert entered == [None] and not files.is_locked(path)


def test_looking_at_a_lock_does_not_keep_anybody_from_it(tmp_path):
    (tmp_path / "lock").touch()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            files.is_locked(tmp_path / "lock")

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(50):
            handle = files.acquire_lock(tmp_path / "lock", wait=True)
            os.close(handle)
    finally:
        stop.set()
        for looker in lookers:
            looker.join()


def test_caches_lie_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMCT_CACHE", str(tmp_path / "own"))
    assert files.cache_folder("a") == tmp_path / "own" / "a"
    monkeypatch.delenv("SIMCT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert files.cache_folder("a") == tmp_path / "xdg" / "simct" / "a"


def test_the_tail_of_a_log(tmp_path):
    (tmp_path / "log").write_text("\n".join(f"line {number}" for number in range(1000)))
    assert files.tail(tmp_path / "log", 2) == "line 998\nline 999"
    assert files.tail(tmp_path / "absent", 2) == ""
