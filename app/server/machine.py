"""The machine that the studio runs on, in the form that estimates use."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simct.estimate.machines import Machine


def this_machine() -> "Machine":
    """The GPU of this machine in the form that estimates use; without one, its CPU."""
    import torch

    from simct.estimate.machines import MACHINES, this_cpu

    if torch.cuda.is_available():
        name = torch.cuda.get_device_name().lower()
        return next((machine for machine in MACHINES if machine.name in name), this_cpu())
    return this_cpu()
