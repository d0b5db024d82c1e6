"""The machines that runs are estimated for: GPUs by their makers' figures, and this CPU by measurement."""

import functools
import time
from dataclasses import dataclass

import torch

from simct.errors import ConfigError, quoted
from simct.losses.products import linear

GIB = 1 << 30
# the share of the peak figures that eager PyTorch reaches
COMPUTE_SHARE, BANDWIDTH_SHARE = 0.35, 0.6


@dataclass(frozen=True)
class Machine:
    """A GPU (or the CPU): memory in GiB, 16-bit peak in TFLOP/s, bandwidth in GB/s, US dollars per hour if known.

    bfloat16: whether it computes in bfloat16; None for this machine's CPU, which is measured when it matters.
    """

    name: str
    memory: float
    teraflops: float
    bandwidth: float
    price: float | None
    bfloat16: bool | None = True

    @property
    def kind(self) -> str:
        """The kind of device, as torch names it."""
        return "cpu" if self.name == "cpu" else "cuda"


# Peak figures from the makers' data sheets (dense, 16 bit); prices are list prices of Hugging Face Jobs for one GPU at
# the time of writing, and only defaults: `prices` of estimate_run takes live ones.
MACHINES = (
    Machine("t4", 15.0, 65, 320, 0.40, bfloat16=False),
    Machine("l4", 22.5, 121, 300, 0.80),
    Machine("a10g", 22.5, 70, 600, 1.00),
    Machine("l40s", 44.7, 362, 864, 1.80),
    Machine("a100", 79.2, 312, 2039, 2.50),
    Machine("h100", 79.2, 989, 3350, None),
    Machine("h200", 140.0, 989, 4800, 5.00),
)


@functools.cache
def this_cpu() -> Machine:
    """This machine's CPU: its memory, and its speed, measured in a quarter of a second."""
    import psutil

    size = 768
    left, right = torch.randn(size, size), torch.randn(size, size)
    linear(left, right)
    count, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < 0.25:
        linear(left, right)
        count += 1
    flops = 2 * size**3 * count / elapsed
    # measured, so no share is applied below
    memory = psutil.virtual_memory().total / GIB
    return Machine("cpu", memory, flops / 1e12 / COMPUTE_SHARE, 15 / BANDWIDTH_SHARE, 0.0, bfloat16=None)


def find_machine(name: str) -> Machine:
    """A machine by name, or "cpu". Raises ConfigError."""
    if name == "cpu":
        return this_cpu()
    for machine in MACHINES:
        if machine.name == name.lower():
            return machine
    raise ConfigError(f"There is no hardware {quoted(name)}. Known: cpu, {', '.join(each.name for each in MACHINES)}.")
