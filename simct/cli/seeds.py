"""`simct distill --seeds N`: one run per seed, each in its own folder, and one table of their means.

Repeating the command continues them: finished seeds are kept, and stopped ones are resumed.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from simct.cli.common import config_from_options, follow
from simct.config import RunConfig, leaves
from simct.errors import ConfigError, RunError
from simct.files import expanded
from simct.setting import quoted

if TYPE_CHECKING:
    # these are imported when they are used, because `simct --help` does not need them
    from simct.runs.folder import RunFolder

MOST_SEEDS = 1000
MISSING = "–"
# settings that differ between the seeds, or that are filled in when a run starts
OWN = ("output", "training.seed", "training.steps")


def run_seeds(options: argparse.Namespace, start: Callable[[argparse.Namespace, RunConfig], RunFolder]) -> int:
    """Run `options.seeds` seeds, starting with the run's own, one after another; `start(options, config)` starts one.

    Prints one table of the finished runs. Raises ConfigError if a folder contains another run, RunError if a seed
    failed.
    """
    if not 1 <= options.seeds <= MOST_SEEDS:
        raise ConfigError(f"--seeds must be from 1 to {MOST_SEEDS:,}, got {options.seeds}.")
    if options.resume:
        raise ConfigError("--seeds resumes its runs by itself. Repeat the command without --resume.")
    config = config_from_options(options)
    runs = [_run_of(options, config, config.training.seed + place, start) for place in range(options.seeds)]
    if options.detach:
        return 0
    failed = []
    for run in runs:
        try:
            follow(run)
        except RunError as error:
            failed.append(str(error))
    print(f"\n{seeds_table(runs)}")
    if failed:
        raise RunError(f"{len(failed)} of {len(runs)} seeds failed. {failed[0]}")
    return 0


def folder_of(options: argparse.Namespace, config: RunConfig, seed: int) -> Path:
    """The folder of a seed's run: --output, or a descriptive name under --runs, followed by the seed."""
    named = options.preset or (Path(options.config).stem if options.config else config.method)
    base = options.output or str(Path(options.runs) / named)
    return expanded(f"{base}-seed-{seed}").resolve()


def _run_of(
    options: argparse.Namespace,
    config: RunConfig,
    seed: int,
    start: Callable[[argparse.Namespace, RunConfig], RunFolder],
) -> RunFolder:
    """The run of a seed: started, resumed, or unchanged if it is active or finished."""
    from simct.jobs import actions
    from simct.runs.folder import RunFolder, make_paths_absolute

    wanted = config.model_copy(deep=True)
    wanted.training.seed = seed
    wanted.output = str(folder_of(options, config, seed))
    run = RunFolder(folder_of(options, config, seed))
    if not run.exists:
        return start(copy.copy(options), wanted)
    make_paths_absolute(wanted)
    _check_same(run, wanted)
    status = run.status()
    if status.state != "finished" and not status.active:
        print(f"seed {seed}: {actions.resume(run)}", flush=True)
    return run


def _check_same(run: RunFolder, wanted: RunConfig) -> None:
    """Raise ConfigError unless the run in this folder is the run of the command."""
    there = leaves(run.config().model_dump())
    for name, value in leaves(wanted.model_dump()).items():
        steps_follow = name == "training.steps" and wanted.training.epochs is None
        if there[name] != value and (name not in OWN or steps_follow):
            raise ConfigError(
                f"{str(run.path)!r} contains a run with {name} = {quoted(there[name])}, but this run has "
                f"{quoted(value)}. Choose another --output, or delete it."
            )


def seeds_table(runs: Sequence[RunFolder]) -> str:
    """Scores before and after as mean ± standard deviation over the finished runs."""
    finished = [run for run in runs if run.status().state == "finished"]
    lines = [f"{len(finished)} of {len(runs)} seeds finished; mean ± standard deviation over seeds"]
    records = [run.evaluation() for run in finished]
    tasks = dict.fromkeys(task for record in records for task in record.get("after", {}))
    rows = [("task", "student before", "student after", "teacher")]
    for task in tasks:
        columns = ([_score(record, side, task) for record in records] for side in ("before", "after", "teacher"))
        rows.append((task, *map(_mean, columns)))
    rows += _distance_rows(finished)
    rows.append(("loss, last step", "", _mean([_last_loss(run) for run in finished]), ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def _distance_rows(runs: Sequence[RunFolder]) -> list[tuple[str, str, str, str]]:
    """Both directions in bits per byte, at the start and for the student that was kept."""
    from simct.evaluation.records import DIRECTIONS, Evaluation, evaluations_of
    from simct.publishing.card_results import kept_evaluation

    first = [next(iter(evaluations_of(run)), None) for run in runs]
    kept = [kept_evaluation(run) for run in runs]

    def mean(evaluations: Sequence[Evaluation | None], direction: str) -> str:
        measured = [each.directions.get(direction) if each and each.directions else None for each in evaluations]
        return _mean([each.mean if each else None for each in measured])

    rows = [
        (f"{words.lower()} (bits/byte)", mean(first, name), mean(kept, name), "") for name, words in DIRECTIONS.items()
    ]
    return [row for row in rows if row[2] != MISSING]


def _score(record: dict, side: str, task: str) -> float | None:
    return record.get(side, {}).get(task, {}).get("score")


def _last_loss(run: RunFolder) -> float | None:
    metrics = run.metrics()
    return metrics[-1]["loss"] if metrics else None


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return MISSING
    spread = f" ± {statistics.stdev(known):.3f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.3f}{spread} ({len(known)})"
