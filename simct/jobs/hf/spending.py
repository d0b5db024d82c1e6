"""The spending limit of a Job: how long it may run for the money, which becomes its time limit."""

from typing import TYPE_CHECKING

from simct.errors import ConfigError

if TYPE_CHECKING:
    from simct.jobs.hf.hardware import Hardware

MAX_HOURS = 24.0 * 14


def hours_for(machine: "Hardware", spend_limit: float) -> float:
    """How long `spend_limit` US dollars last on `machine`: the time limit that keeps a Job within them."""
    if not spend_limit or spend_limit <= 0:
        raise ConfigError(f"The spending limit is {spend_limit}; it must be more than 0 US dollars.")
    return min(spend_limit / machine.price, MAX_HOURS) if machine.price else MAX_HOURS


def chosen_hours(machine: "Hardware", timeout: float | None, spend_limit: float) -> float:
    """The time limit of the Job in hours: the timeout, or when the money is spent. Raises ConfigError."""
    if timeout is not None and not 0 < timeout <= MAX_HOURS:
        raise ConfigError(f"The timeout is {timeout:g} hours; it must be above 0 and at most {MAX_HOURS:g}.")
    return min(timeout or MAX_HOURS, hours_for(machine, spend_limit))
