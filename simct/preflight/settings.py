"""Whether run.yaml is valid: every value, the rules between them, the optimizer, the trained parts, the folder."""

from collections.abc import Callable

import torch

from simct.config import validate
from simct.errors import SimCTError
from simct.estimate.memory import check_trained
from simct.files import expanded
from simct.preflight.planned import NotRead, PlannedRun
from simct.preflight.records import Check, from_error, ok, problem
from simct.training.optimizer import build_optimizer


def check_settings(planned: PlannedRun) -> list[Check]:
    """Check the values, the rules between them, the optimizer's name, frozen parts and adapter layers."""
    config = planned.config
    found: list[Check] = []

    def attempt(check: Callable[[], object]) -> None:
        try:
            check()
        except SimCTError as error:
            found.append(from_error(error))

    attempt(lambda: validate(config))
    if config.training.optimizer.partition(".")[0] != "bitsandbytes":
        # bitsandbytes is a package to install, which packages.py looks for
        attempt(lambda: build_optimizer([torch.nn.Parameter(torch.zeros(1))], config.training))
    try:
        planned.model("student")
        attempt(lambda: check_trained(config, planned.token))
    except NotRead:
        pass
    length = f"{config.training.epochs:g} epochs" if config.training.epochs else f"{config.training.steps:,} steps"
    what = "warm-up" if config.kind == "warmup" else f"{config.method}, {length}"
    return found or [ok(f"All settings are valid ({what}).")]


def check_output(planned: PlannedRun) -> list[Check]:
    """Check that the run folder is new or empty."""
    output = planned.config.output
    if not output:
        return []
    path = expanded(output)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        return [problem(f"The run folder {output!r} is not empty.", "Choose another with --output.", "output")]
    return []
