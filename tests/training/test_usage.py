"""What a training process says it uses."""

import subprocess
import sys

import torch

from simct.training import usage as used
from simct.training.usage import gpu_share, usage


def test_memory_and_processor_are_those_of_this_process():
    found = usage(torch.device("cpu"))
    block = bytearray(64 << 20)
    block[::4096] = b"x" * len(block[::4096])
    after = usage(torch.device("cpu"))
    assert 0 < found["memory"] <= found["memory_peak"] * 1.01 and found["memory_peak"] < found["memory_total"]
    assert after["memory"] - found["memory"] > 50 << 20
    assert 0 <= after["cpu"] <= 1.5 and "gpu" not in found


def test_a_gpu_without_a_driver_s_program_has_no_share(monkeypatch):
    def absent(*arguments, **options):
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(used.subprocess, "run", absent)
    gpu_share.cache_clear()
    assert gpu_share("abc", 1) is None


def test_the_driver_is_asked_about_this_gpu_and_not_at_every_step(monkeypatch):
    asked = []

    def answer(command, **options):
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, stdout="87\n")

    monkeypatch.setattr(used.subprocess, "run", answer)
    gpu_share.cache_clear()
    assert [gpu_share("abc", moment) for moment in (1, 1, 1, 2)] == [0.87] * 4
    assert len(asked) == 2 and "GPU-abc" in asked[0]
    gpu_share.cache_clear()


def test_freed_memory_is_kept_for_the_tensors_that_follow():
    """In a process of its own, which it changes: after a few times, a large tensor takes no new pages."""
    code = """
import resource
import torch
from simct.training.usage import keep_freed_memory
keep_freed_memory()
def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(new_pages(), max([new_pages() for _ in range(40)][-5:]))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, later = map(int, run.stdout.split())
    assert later < first / 10
