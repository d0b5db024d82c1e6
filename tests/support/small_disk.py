"""A disk of its own that can be filled or made read-only, where this process may mount one."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

MEGABYTE = 2**20


@dataclass(frozen=True)
class SmallDisk:
    path: Path

    def leave(self, free: int) -> None:
        """Fill the disk until `free` bytes are left; with -1 nothing fills it."""
        (self.path / "filler").unlink(missing_ok=True)
        facts = os.statvfs(self.path)
        size = facts.f_bavail * facts.f_frsize - free
        if free >= 0 and size > 0:
            with open(self.path / "filler", "wb") as file:
                file.write(b"x" * size)

    def remount(self, mode: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{mode}", str(self.path)], check=True)


@contextlib.contextmanager
def small_disk(path: Path, size: int = 64 * MEGABYTE) -> Iterator[SmallDisk]:
    """Mount an empty disk at `path`; skips the test where that is not allowed."""
    path.mkdir()
    try:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
        mounted = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)
