"""The numbers of an estimate with their labels and explanations: memory, time, cost, and use of a server."""

from simct.estimate.records import Estimate, MachineEstimate
from simct.report.facts import Fact
from simct.report.formats import count, dollars, hours, plural, seconds, size, yes_or_no


def estimate_facts(estimate: Estimate) -> list[Fact]:
    return [
        Fact("Peak memory", estimate.peak, size, "The most memory that a device needs at once"),
        Fact("Steps", estimate.steps, count, "Optimizer steps of the run", missing="depend on the data"),
        Fact("Trained weights", estimate.student.trainable, count, "Parameters of the student that are trained"),
        Fact("Longest prompt", estimate.prompt_tokens, lambda n: plural(n, "token"), "The prompts that are assumed"),
    ]


def served_facts(estimate: Estimate) -> list[Fact]:
    """The run's use of the teacher's server; empty if the teacher is not on a server."""
    used, missing = estimate.served, "depend on the data"
    if used is None:
        return []
    unpriced = missing if used.tokens is None else "unknown; give teacher.price_per_million_tokens"
    return [
        Fact("Server requests", used.requests, count, "Texts that the teacher's server reads or writes", missing),
        Fact("Server tokens", used.tokens, count, "Tokens of those texts, with completions of full length", missing),
        Fact("Server cost", used.cost, dollars, "Those tokens at teacher.price_per_million_tokens", unpriced),
    ]


def memory_facts(sizes: dict[str, int]) -> list[Fact]:
    """The parts or phases of an estimate."""
    return [Fact(name.capitalize() if name.islower() else name, n, size, "") for name, n in sizes.items()]


def machine_facts(machine: MachineEstimate) -> list[Fact]:
    """A run on one kind of machine."""
    return [
        Fact("Memory", machine.memory, size, "Memory of one device"),
        Fact("Fits", machine.fits, yes_or_no, "Whether the run's peak memory fits one device"),
        Fact("A step", sum(machine.seconds_per_step.values()), seconds, "One optimizer step, full-length completions"),
        Fact("Time", machine.hours, hours, "An order of magnitude: full-length completions, without scored tasks"),
        Fact("Cost", machine.cost, dollars, "US dollars at the list price"),
    ]


def machine_name(machine: MachineEstimate) -> str:
    return machine.name if machine.devices == 1 else f"{machine.devices} × {machine.name}"
