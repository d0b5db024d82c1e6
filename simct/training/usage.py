"""The training process's use of its machine: processor, memory, GPU."""

import contextlib
import ctypes
import functools
import resource
import subprocess
import sys
import time
from typing import Any

import psutil
import torch

# glibc's options of mallopt: the size above which a block is taken from the system separately, and the free memory to
# keep
M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -3, -1
LARGEST_KEPT, MOST_KEPT = 2**30, 2**31 - 1
# querying the driver starts a process
GPU_SECONDS, GPU_PATIENCE = 5.0, 2.0


def keep_freed_memory() -> None:
    """Let this process keep memory that tensors have freed, for later tensors to use, where the C library is glibc.

    Otherwise glibc returns large blocks to the system, which clears them page by page before it hands them out again.
    On a CPU that takes an eighth of a training step.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is not None:
        set_option(M_MMAP_THRESHOLD, LARGEST_KEPT)
        set_option(M_TRIM_THRESHOLD, MOST_KEPT)


def usage(device: torch.device) -> dict[str, Any]:
    """Shares (0 to 1) and bytes: of all cores, of memory now and at its peak, and of the GPU if there is one."""
    process = _process()
    found: dict[str, Any] = {
        "cpu": round(process.cpu_percent() / 100 / (psutil.cpu_count() or 1), 3),
        "memory": process.memory_info().rss,
        "memory_peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "memory_total": psutil.virtual_memory().total,
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        free, total = torch.cuda.mem_get_info(device)
        found |= {
            "gpu_name": properties.name,
            "gpu_memory": total - free,
            "gpu_memory_peak": torch.cuda.max_memory_reserved(device),
            "gpu_memory_total": total,
            "gpu": gpu_share(str(properties.uuid), int(time.monotonic() / GPU_SECONDS)),
        }
    return found


@functools.cache
def _process() -> psutil.Process:
    # a single object, because it reports the share of the processor since its last call
    return psutil.Process()


@functools.lru_cache(maxsize=1)
def gpu_share(uuid: str, moment: int) -> float | None:
    """The share of the last second in which the GPU was busy, according to its driver; None if the driver cannot be
    asked.

    `moment` changes when it is to be asked again.
    """
    name = uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-i", name]
    with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
        asked = subprocess.run(command, capture_output=True, text=True, timeout=GPU_PATIENCE, check=True)
        return float(asked.stdout) / 100
    return None
