"""The machines of Hugging Face Jobs: memory and prices from the API, and which of them a run would fit."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from simct.config import RunConfig, config_from_text, dump_config
from simct.errors import SimCTError
from simct.estimate.machines import GIB, MACHINES, Machine
from simct.estimate.memory import Shape, estimate_memory, run_shapes, shape_configs
from simct.estimate.time_and_cost import STARTING_SECONDS, step_seconds, steps_of
from simct.hub.client import hub_api
from simct.hub.errors import hub_error
from simct.hub.retry import patiently
from simct.jobs.backend import Token
from simct.models.precision import resolved
from simct.report.formats import hours

PROMPT_TOKENS = 256
# The share of the nominal GB that a process can use, after unit conversion, driver and reserve.
USABLE = 0.9
# Models with more parameters than this train too slowly on a CPU.
CPU_PARAMETERS = 300e6
# The time to install packages at the start of a Job, which is billed as well.
INSTALLING_SECONDS = 150


@dataclass(frozen=True)
class Hardware:
    """A kind of machine Jobs run on. Memory in GB (of all its GPUs together), price in US dollars per hour."""

    name: str
    title: str
    gpu: str | None
    gpus: int
    gpu_memory: float
    memory: float
    price: float

    def cost(self, hours: float) -> float:
        return self.price * hours

    @property
    def known(self) -> Machine | None:
        """The GPU's speed and usable memory, if it is one we know."""
        words = re.findall(r"[a-z]+\d+[a-z]*", (self.gpu or "").lower())
        return next((machine for machine in MACHINES if machine.name in words), None)


@dataclass(frozen=True)
class Offer:
    """A machine with the estimate of a run on it. `fits` is None if no estimate could be made, `hours` if the speed is
    not
    known; `why` is the reason why it does not fit, or why that is unknown.
    """

    machine: Hardware
    fits: bool | None
    hours: float | None = None
    why: str = ""

    @property
    def cost(self) -> float | None:
        return None if self.hours is None else self.machine.cost(self.hours)

    def line(self) -> str:
        """One line for a list: what it is, its price, and what the run would take there."""
        machine = self.machine
        size = f"{machine.gpus} × {machine.gpu}, {machine.gpu_memory:.0f} GB" if machine.gpus else "CPU"
        line = f"{machine.name} · {size} · ${machine.price:.2f} an hour"
        if self.hours is not None:
            line += f" · about {hours(self.hours)}, ${machine.cost(self.hours):.2f}"
        return line


def list_hardware(token: Token = None, gpu_memory: float = 0.0) -> list[Hardware]:
    """Machines with at least `gpu_memory` GB on their GPUs, cheapest first. Raises a one-line HubError."""
    try:
        offered = patiently(lambda: hub_api(token).list_jobs_hardware())
    except Exception as error:
        raise hub_error(error, kind="job") from error
    machines = []
    for each in offered:
        gpu = each.accelerator
        if gpu and gpu.type != "gpu":
            continue  # for example TPUs, which need a different build of PyTorch
        machines.append(
            Hardware(
                name=str(each.name),
                title=each.pretty_name,
                gpu=gpu.model if gpu else None,
                gpus=int(gpu.quantity) if gpu else 0,
                gpu_memory=_gigabytes(gpu.vram) if gpu else 0.0,
                memory=_gigabytes(each.ram),
                price=each.unit_cost_usd * {"second": 3600, "minute": 60, "hour": 1}[each.unit_label],
            )
        )
    fitting = [machine for machine in machines if machine.gpu_memory >= gpu_memory]
    return sorted(fitting, key=lambda machine: machine.price)


def offers(config: RunConfig, token: Token = None, n_prompts: int | None = None) -> list[Offer]:
    """Every machine with the estimate of `config` on it: machines that fit come first, sorted by the cost of the run.

    Reads the two models' config.json, no weights. Raises a one-line HubError if the machines cannot be listed; `fits`
    is None for models that cannot be estimated.
    """
    machines = list_hardware(token)
    try:
        offer_for = _offers_for(config, token, n_prompts)
    except SimCTError as error:
        return [Offer(machine, None, why=str(error)) for machine in machines]

    def order(offer: Offer) -> tuple[bool, bool, float, float]:
        return not offer.fits, offer.cost is None, offer.cost or 0.0, offer.machine.price

    return sorted(map(offer_for, machines), key=order)


def _offers_for(config: RunConfig, token: Token, n_prompts: int | None) -> Callable[[Hardware], Offer]:
    """A function from a machine to its Offer for `config`."""
    text = dump_config(config)
    on_cpu = _estimated(text, token, "cpu", False)
    steps = steps_of(config, n_prompts)
    parameters = sum(teacher.parameters for teacher in on_cpu.teachers) + on_cpu.student.parameters

    def offer_for(machine: Hardware) -> Offer:
        known = machine.known
        if not machine.gpus:
            if parameters > CPU_PARAMETERS:
                return Offer(machine, False, why="is too slow for models of this size")
            run, room = on_cpu, machine.memory * 1e9 * USABLE
        else:
            room = known.memory * GIB * 0.97 if known else machine.gpu_memory / machine.gpus * 1e9 * USABLE
            run = _estimated(text, token, "cuda", known is None or known.bfloat16 is not False)
        needed = run.peak()
        if needed > room:
            unit = "per GPU" if machine.gpus else "of memory"
            return Offer(machine, False, why=f"needs {needed / GIB:.1f} GiB {unit}, not {room / GIB:.1f}")
        if machine.gpus > 1 and config.training.batch_size % machine.gpus:
            why = f"needs a training.batch_size that is a multiple of its {machine.gpus} GPUs"
            return Offer(machine, False, why=f"{why}, not {config.training.batch_size}")
        if steps is None or not machine.gpus or not known:
            return Offer(machine, True)
        seconds = step_seconds(run.config, run.teachers, run.student, known, PROMPT_TOKENS, machine.gpus)
        taken = INSTALLING_SECONDS + STARTING_SECONDS + steps * sum(seconds.values())
        return Offer(machine, True, taken / 3600)

    return offer_for


@dataclass(frozen=True)
class _Estimated:
    """A run with its number formats on a kind of device, the shapes of its models, and what gives the peak in bytes."""

    config: RunConfig
    teachers: list[Shape]
    student: Shape
    peak: Callable[[], int]


@lru_cache(maxsize=64)
def _estimated(text: str, token: Token, kind: str, bfloat16: bool) -> _Estimated:
    """The run of the YAML `text` on "cuda" or "cpu", with or without bfloat16: seconds of work, done once for a
    configuration. The token is part of the key, because access differs between visitors.
    """
    config = config_from_text(text)
    configs = shape_configs(config, token)
    config = resolved(config, configs, kind, bfloat16)

    @lru_cache
    def peak() -> int:
        return estimate_memory(config, PROMPT_TOKENS, kind, 1, token, configs).peak

    return _Estimated(config, *run_shapes(config, configs), peak)


def _gigabytes(text: str) -> float:
    found = re.match(r"([\d.]+)\s*(TB|GB|MB)?", text or "")
    return float(found[1]) * {"TB": 1000.0, "MB": 0.001}.get(found[2] or "GB", 1.0) if found else 0.0
