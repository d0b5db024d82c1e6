"""Functions that several commands use: flags that describe a run, finding and following a run, reading and writing."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tqdm import tqdm

from simct.config import RunConfig, load_config, set_option, validate
from simct.errors import ConfigError, DataError, HubError, RunError
from simct.files import expanded
from simct.methods import METHODS

if TYPE_CHECKING:
    # these are imported when they are used, because `simct --help` does not need them
    from simct.runs.folder import RunFolder
    from simct.runs.status import RunStatus

RUNS = "runs"
# Seconds between two queries about a Job.
REMOTE_SECONDS = 5.0


# the flags that add_run_options adds, without --runs
RUN_OPTIONS = ("config", "preset", "teacher", "student", "prompts", "method", "steps", "seed", "output", "set")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the flags that describe a run, for every command that takes one."""
    parser.add_argument("--config", help="run.yaml; the flags below override it")
    parser.add_argument("--preset", help="a ready-made run; `simct presets` lists them")
    parser.add_argument("--teacher", help="Hub id or local folder")
    parser.add_argument("--student", help="Hub id or local folder")
    parser.add_argument("--prompts", help="JSONL, CSV or Parquet file, or Hub dataset id")
    parser.add_argument("--method", choices=tuple(METHODS), help="how the two models are compared")
    parser.add_argument("--steps", help="optimizer steps")
    parser.add_argument("--seed", help="decides the order of prompts and all random numbers")
    parser.add_argument("--output", help="the run folder (new or empty); by default one under --runs")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="A.B=C",
        help="any other setting of run.yaml; `simct settings` lists them",
    )
    parser.add_argument("--runs", default=RUNS, help="where runs are kept (default: %(default)s)")


def refuse_unused(options: argparse.Namespace, names: Iterable[str], why: str) -> None:
    """Raise ConfigError if one of these flags was given, because nothing would read it; `why` completes "--name …"."""
    for name in names:
        value = getattr(options, name, None)
        if not (value is None or value is False or value == []):
            raise ConfigError(f"--{name.replace('_', '-')} {why}")


def check_output_file(path: str | None) -> None:
    """Raise ConfigError if a file cannot be written here, before the work whose result it gets."""
    if not path:
        return
    file = expanded(path).absolute()
    if file.is_dir():
        raise ConfigError(f"Cannot write {path!r}: it is a folder. Give the name of a file.")
    if not file.parent.is_dir():
        raise ConfigError(f"There is no folder to write {path!r} in: create it first.")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise ConfigError(f"Cannot write {path!r}: permission denied. Choose another file.")


def methods_help() -> str:
    """What each method compares, for the end of a command's --help text."""
    lines = [f"  {name:10} {method.line.replace('`', '')}" for name, method in METHODS.items()]
    return "\n".join(["methods:", *lines, "", "Their options: simct settings method_options"])


def config_from_options(options: argparse.Namespace) -> RunConfig:
    """The run that the file and the flags describe, checked. Raises ConfigError."""
    return validate(described_run(options))


def described_run(options: argparse.Namespace) -> RunConfig:
    """The run that the file and the flags describe. Raises ConfigError; rules between settings are left to validate."""
    if options.config and options.preset:
        raise ConfigError("Give --config or --preset, not both.")
    if options.preset:
        from simct.presets import load_preset

        config = load_preset(options.preset)
    else:
        config = load_config(options.config) if options.config else RunConfig()
    if not options.config:
        config.output = None
    flags = {
        "teacher.model": options.teacher,
        "student.model": options.student,
        "data.prompts": options.prompts,
        "method": options.method,
        "training.steps": options.steps,
        "training.seed": options.seed,
        "output": options.output,
        "publish.repo_id": getattr(options, "publish", None),
        "publish.what": getattr(options, "publish_what", None),
    }
    for name, value in flags.items():
        if value is not None:
            set_option(config, name, value)
    for setting in options.set:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set takes a.b=value, got {setting!r}.")
        set_option(config, name.strip(), value)
    return config


def prepare_hub(*names: str | None) -> None:
    """Configure the Hub's clients. If one of `names` is on the Hub, check once whether the Hub answers."""
    from simct.hub.client import prepare_clients

    prepare_clients([name for name in names if name])


def follow(run: RunFolder) -> int:
    """Print the run's place in the queue, then its log until it ends. Ctrl-C asks it to write a checkpoint and stop.

    Returns the exit status; raises RunError when the run fails.
    """
    from simct.jobs import actions

    stopping = False
    log = FollowedLog(run)
    while True:
        try:
            log.update()
            if not run.status().active and not actions.publishes(run):
                log.update()
                break
            time.sleep(0.3)
        except KeyboardInterrupt:
            if stopping:
                actions.kill(run)
                break
            stopping = True
            print("\nStopping: a checkpoint is being written. Press Ctrl-C again to end it immediately.", flush=True)
            actions.stop(run)
    log.bar.close()
    status = run.status()
    if status.state == "failed":
        raise RunError(f"Run {run.id} failed: {status.error}")
    print(f"{status.state}: {status.message}  ({run.path})")
    return 0


class FollowedLog:
    """Prints new lines of a run's log, and changes of its place in the queue or its Job."""

    def __init__(self, run: RunFolder):
        from simct.hub.retry import BackOff

        self.run, self.position, self.message, self.stage = run, 0, "", ""
        self.look = BackOff(REMOTE_SECONDS if run.status().remote else 1.0)
        self.bar = progress_bar()

    def update(self) -> None:
        if self.look.due():
            self._refresh()
        path = self.run.log_path
        if path.is_file():
            with open(path, encoding="utf-8", errors="replace") as log:
                # a Job's log is downloaded as a whole, and the log of a second Job may be shorter than the printed part
                log.seek(self.position if self.position <= path.stat().st_size else 0)
                show_log(log.read(), self.bar, self.run.status())
                self.position = log.tell()
        self._show_stage()

    def _show_stage(self) -> None:
        """Show the stage of the run: in a terminal, next to the bar; elsewhere, one line when a stage begins."""
        from simct.report.progress import progress_line
        from simct.runs.progress import Progress

        status = self.run.status()
        stage = Progress.of(status)
        text = stage.text if stage else ""
        if self.bar.disable:
            if text and text != self.stage:
                print(text, flush=True)
        elif text or self.stage:
            self.bar.set_description_str(progress_line(status))
        self.stage = text

    def _refresh(self) -> None:
        """Update the run's status, and print a new message of the queue or the Job."""
        from simct.jobs import actions

        try:
            actions.advance(self.run.path.parent)
            status = actions.refresh(self.run)
            self.look.succeeded()
            message = actions.waiting_reason(self.run, status) or (status.message if status.remote else None)
        except HubError as error:
            self.look.failed(error)
            message = f"{error} Trying again in {self.look.wait:.0f} s; the Job continues."
        if message and message != self.message:
            print(message, flush=True)
            self.message = message


def progress_bar() -> tqdm:
    """A bar of steps with the remaining time; only shown in a terminal."""
    return tqdm(disable=not sys.stdout.isatty(), file=sys.stdout, unit="step", dynamic_ncols=True, leave=False)


def show_log(text: str, bar: tqdm, status: RunStatus) -> None:
    """Print a piece of the log; in a terminal, lines of steps move the bar instead."""
    if bar.disable:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    for line in text.splitlines():
        if line.startswith("step "):
            bar.set_postfix_str(line.partition("  ")[2], refresh=False)
        else:
            bar.write(line, file=sys.stdout)
    step, total = status.step, status.total_steps
    if total and step and bar.n == 0:
        # a resumed run took its first steps earlier
        bar.reset(total)
        bar.initial = bar.n = step - 1
    if step > bar.n:
        bar.update(step - bar.n)


def find_run(name: str, runs_dir: str) -> RunFolder:
    """The run with this id under `runs_dir`, or in this folder. Raises RunError if there is none."""
    from simct.runs.folder import RunFolder
    from simct.runs.listing import open_run

    try:
        # also a folder under runs_dir that has a name of its own, such as one with a space
        for folder in (expanded(name), expanded(runs_dir) / name):
            run = RunFolder(folder.resolve())
            if name and run.exists:
                return run
    except (OSError, ValueError, RuntimeError):
        pass  # some texts cannot be a path
    if os.sep in name:
        raise RunError(f"{name!r} is not a run folder: it has no status.json.")
    return open_run(runs_dir, name)


def read_text(path: str) -> str:
    try:
        text = expanded(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path!r} is not UTF-8 text (byte {error.start}). Convert it first.") from error
    except OSError as error:
        raise DataError(f"Cannot read {path!r}: {error.strerror}. Check the path.") from error
    if not text:
        raise DataError(f"{path!r} is empty. Give a file with some text.")
    return text


def write_json(path: str | None, report: dict) -> None:
    if path:
        expanded(path).write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"written: {path}")
