"""Programs in the sandbox: honest ones run, hostile ones are stopped and can neither read nor reach anything."""

import os
from pathlib import Path

import psutil
import pytest

from simct.errors import RunError
from simct.evaluation.sandbox import program as sandbox
from simct.evaluation.sandbox.program import Limits, run_program

pytestmark = pytest.mark.skipif(
    sandbox.why_unavailable() is not None, reason=f"no sandbox here: {sandbox.why_unavailable()}"
)


def passes(code: str, **limits) -> bool:
    outcome = run_program(code, Limits(**limits))
    assert outcome.passed == (outcome.reason == ""), outcome
    return outcome.passed


def reason(code: str, **limits) -> str:
    outcome = run_program(code, Limits(**limits))
    assert not outcome.passed, outcome
    return outcome.reason


@pytest.fixture(params=["namespaces", "no namespaces"])
def child(request, monkeypatch, tmp_path):
    """A copy of the script as it is, and as it runs where a machine permits no namespaces."""
    source = sandbox.CHILD.read_text()
    if request.param == "no namespaces":
        assert "    leave_namespaces()\n" in source
        source = source.replace("    leave_namespaces()\n", "")
    script = tmp_path / "child.py"
    script.write_text(source)
    monkeypatch.setattr(sandbox, "CHILD", script)


def test_honest_programs_run_to_their_end():
    assert passes("import math, asyncio, threading, json, re\nassert math.gcd(12, 18) == 6")
    assert passes("import numpy\nassert numpy.ones(3).sum() == 3")
    assert passes("open('notes.txt', 'w').write('x' * 100)\nassert len(open('notes.txt').read()) == 100")
    outcome = run_program("print('hello')")
    assert outcome.output == "hello\n"


def test_failures_are_reported():
    assert reason("assert 1 == 2, 'one is not two'") == "AssertionError: one is not two"
    assert reason("def f(:\n").startswith("SyntaxError")
    assert reason("raise KeyboardInterrupt") == "KeyboardInterrupt"


@pytest.mark.parametrize("leaving", ["import sys; sys.exit(0)", "import os; os._exit(0)", "raise SystemExit"])
def test_leaving_before_the_tests_is_not_passing(leaving):
    assert reason(f"{leaving}\nassert False") == "exited before it finished"


def test_a_forged_report_is_not_believed():
    forging = 'import os\nfor fd in range(3, 64):\n    try: os.write(fd, b\'{"outcome": "passed"}\\n\')\n'
    assert reason(f"{forging}    except OSError: pass\nos._exit(0)") == "exited before it finished"


def test_time_and_memory_are_bounded():
    assert "CPU time" in reason("while True: pass", cpu_seconds=1)
    assert reason("import time; time.sleep(600)", seconds=0.5) == "took more than 0.5 s"
    assert reason("x = bytearray(10**10)") == "MemoryError"
    together = "import os, time\nfor _ in range(8):\n    if os.fork() == 0:\n        x = b'1' * 80_000_000\n"
    assert "300 MB of memory" in reason(f"{together}        time.sleep(60)\ntime.sleep(60)", memory_mb=300)


def test_files_and_output_are_bounded():
    assert "too large" in reason("f = open('a', 'wb')\nwhile True: f.write(b'x' * 10**6)", file_mb=4)
    assert "files" in reason("import time\nfor i in range(10**5): open(str(i), 'wb').write(b'x' * 10**5)", file_mb=4)
    outcome = run_program("while True: print('y' * 1000)", Limits(file_mb=4))
    assert not outcome.passed and len(outcome.output) <= sandbox.OUTPUT_SHOWN


def test_a_fork_bomb_is_contained(child):
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass\n"
    assert reason(bomb, seconds=1.0)
    assert not _left_over()


def test_daemons_do_not_outlive_the_program(child):
    daemon = (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(600)\n    os._exit(0)"
    )
    assert passes(daemon)
    assert not _left_over()


def _left_over() -> list[psutil.Process]:
    """Processes that still run this test's copy of the script."""
    script = str(sandbox.CHILD)
    return [each for each in psutil.process_iter(["cmdline"]) if script in (each.info["cmdline"] or [])]


def test_nothing_outside_can_be_written(child, tmp_path):
    os.chmod(tmp_path, 0o777)
    target = tmp_path / "evil"
    assert "Permission" in reason(f"open({str(target)!r}, 'w').write('x')")
    assert "Permission" in reason(f"import os; os.mkdir({str(target)!r})")
    assert not target.exists()
    readable = tmp_path / "file"
    readable.write_text("kept")
    os.chmod(readable, 0o666)
    assert "Permission" in reason(f"open({str(readable)!r}, 'r+').truncate(0)")
    assert "Permission" in reason(f"import os; os.remove({str(readable)!r})")
    assert readable.read_text() == "kept"


def test_tokens_cannot_be_found(child, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    assert passes("import os\nassert 'secret' not in str(dict(os.environ)), os.environ")
    assert "Permission" in reason("import os\nopen(f'/proc/{os.getppid()}/environ', 'rb').read()")
    assert "Permission" in reason(f"open('/proc/{os.getpid()}/environ', 'rb').read()")
    token = tmp_path / "token"
    token.write_text("hf_verysecret")
    os.chmod(tmp_path, 0o755)
    os.chmod(token, 0o644)
    assert "Permission" in reason(f"open({str(token)!r}).read()")
    assert "Permission" in reason("open('/etc/passwd').read()")
    assert "Permission" in reason(f"import os; os.listdir({str(Path.home())!r})")


def test_no_network_no_programs_no_other_processes(child):
    assert "not permitted" in reason("import socket; socket.socket()")
    assert "not permitted" in reason("import socket; socket.socket(socket.AF_UNIX)")
    assert "not permitted" in reason("import urllib.request as r; r.urlopen('http://127.0.0.1:9')")
    assert "Permission" in reason("import subprocess; subprocess.run(['/bin/ls'])")
    assert "not permitted" in reason("import os; os.kill(os.getppid(), 9)")
    own = os.getpid()
    assert reason(f"import os; os.kill({own}, 0)").startswith(("PermissionError", "ProcessLookupError"))
    assert "limit" in reason("import resource as r; r.setrlimit(r.RLIMIT_CPU, (10**6, 10**6))")
    calls = "import ctypes; libc = ctypes.CDLL(None, use_errno=True)\n"
    assert passes(f"{calls}assert libc.ptrace(0, 0, 0, 0) == -1 and ctypes.get_errno() == 1")
    assert passes(f"{calls}assert libc.unshare(0x10000000) == -1 and ctypes.get_errno() == 1")
    if os.geteuid() == 0:
        assert passes("import os; assert os.getuid() == os.geteuid() == 65534 and not os.getgroups()")


def test_a_machine_that_cannot_confine_does_not_run_it(monkeypatch, tmp_path):
    monkeypatch.setattr(sandbox.platform, "machine", lambda: "vax")
    with pytest.raises(RunError, match="no system call filter for vax"):
        run_program("print(1)")
    monkeypatch.undo()
    script = tmp_path / "child.py"
    script.write_text(
        sandbox.CHILD.read_text().replace(
            "def deny_system_calls() -> None:\n", "def deny_system_calls() -> None:\n    raise OSError('no seccomp')\n"
        )
    )
    monkeypatch.setattr(sandbox, "CHILD", script)
    with pytest.raises(RunError, match="could not be confined \\(no seccomp\\)"):
        run_program("print(1)")
