"""What the commands share: the flags that describe a run, finding a run, following it, reading and writing files."""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from tqdm import tqdm

from simct.config import RunConfig, load_config, set_option, validate
from simct.errors import ConfigError, DataError, HubError, RunError
from simct.methods import METHODS

RUNS = "runs"
# Between two looks at a Job.
REMOTE_SECONDS = 5.0


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """What describes a run, for every command that takes one."""
    parser.add_argument("--config", help="run.yaml; flags below override it")
    parser.add_argument("--preset", help="a run that is ready to start; `simct presets` lists them")
    parser.add_argument("--teacher", help="Hub id or local folder")
    parser.add_argument("--student", help="Hub id or local folder")
    parser.add_argument("--prompts", help="JSONL, CSV or Parquet file, or Hub dataset id")
    parser.add_argument("--method", choices=tuple(METHODS), help="how the two models are compared")
    parser.add_argument("--steps", type=int, help="optimizer steps")
    parser.add_argument("--seed", type=int, help="decides the order of prompts and every random draw")
    parser.add_argument("--output", help="the run folder (new or empty); by default one under --runs")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="A.B=C",
        help="any other setting of run.yaml; `simct settings` lists them",
    )
    parser.add_argument("--runs", default=RUNS, help="where runs are kept (default: %(default)s)")


def methods_help() -> str:
    """What each method compares, for the end of a command's --help."""
    lines = [f"  {name:10} {method.line.replace('`', '')}" for name, method in METHODS.items()]
    return "\n".join(["methods:", *lines, "", "Their options: simct settings method_options"])


def config_from_options(options: argparse.Namespace) -> RunConfig:
    """The run that the file and the flags describe, checked. Raises ConfigError."""
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
    }
    for name, value in flags.items():
        if value is not None:
            set_option(config, name, value)
    for setting in options.set:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set takes a.b=value, got {setting!r}.")
        set_option(config, name.strip(), value)
    return validate(config)


def settle(*names: str | None) -> None:
    """Quiet the Hub's clients, and look once whether the Hub answers if one of `names` is on it."""
    from simct.hub.client import prepare_clients

    prepare_clients([name for name in names if name])


def follow(run) -> int:
    """Tell the run's place in the queue, then print its log until it is over; Ctrl-C asks it to checkpoint and stop.

    Returns the exit status; raises RunError when the run fails.
    """
    from simct.hub.retry import BackOff
    from simct.jobs import actions
    from simct.runs.folder import ACTIVE_STATES

    position, asked, told, remote = 0, False, None, actions.on_jobs(run)
    look = BackOff(REMOTE_SECONDS if remote else 1.0)
    bar = progress_bar()
    while True:
        try:
            if look.due():
                told = _look(run, look, told)
            if run.log_path.exists():
                with open(run.log_path, encoding="utf-8", errors="replace") as log:
                    # a Job's log is brought home whole, and that of a second Job is longer than what was shown
                    log.seek(position if position <= run.log_path.stat().st_size else 0)
                    show_log(log.read(), bar, run.status())
                    position = log.tell()
            if run.status()["state"] not in ACTIVE_STATES:
                break
            time.sleep(0.3)
        except KeyboardInterrupt:
            if asked:
                actions.kill(run)
                break
            asked = True
            print("\nStopping: a checkpoint is being written. Press Ctrl-C again to end it at once.", flush=True)
            actions.stop(run)
    bar.close()
    status = run.status()
    if status["state"] == "failed":
        raise RunError(f"Run {run.id} failed: {status.get('error')}")
    print(f"{status['state']}: {status.get('message')}  ({run.path})")
    return 0


def progress_bar() -> tqdm:
    """Steps done, with the time that is left; shown in a terminal only."""
    return tqdm(disable=not sys.stdout.isatty(), file=sys.stdout, unit="step", dynamic_ncols=True, leave=False)


def show_log(text: str, bar: tqdm, status: dict) -> None:
    """Print what is new of the log; in a terminal the lines of steps move the bar instead."""
    if bar.disable:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    for line in text.splitlines():
        if line.startswith("step "):
            bar.set_postfix_str(line.partition("  ")[2], refresh=False)
        else:
            bar.write(line, file=sys.stdout)
    step, total = status.get("step", 0), status.get("total_steps")
    if total and step and bar.n == 0:
        # a resumed run has its earlier steps from before
        bar.reset(total)
        bar.initial = bar.n = step - 1
    if step > bar.n:
        bar.update(step - bar.n)


def _look(run, look, told: str | None) -> str | None:
    """Bring the run's status up to date and print what is news of the queue or the Job; returns what was told last."""
    from simct.jobs import actions
    from simct.jobs.local import queue

    try:
        queue.advance(run.path.parent)
        status = actions.refresh(run)
        look.succeeded()
        line = queue.waiting_words(run, status) or (status.get("message") if actions.on_jobs(run) else None)
    except HubError as error:
        look.failed(error)
        line = f"{error} Looking again in {look.wait:.0f} s; the Job goes on."
    if line and line != told:
        print(line, flush=True)
    return line or told


def find_run(name: str, runs_dir: str):
    from simct.runs.folder import RunFolder
    from simct.runs.listing import open_run

    path = Path(name).expanduser()
    if (path / "status.json").is_file():
        return RunFolder(path.resolve())
    if os.sep in name:
        raise RunError(f"{name!r} is not a run folder: it has no status.json.")
    return open_run(runs_dir, name)


def read_text(path: str) -> str:
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path!r} is not UTF-8 text (byte {error.start}). Convert it first.") from error
    except OSError as error:
        raise DataError(f"Cannot read {path!r}: {error.strerror}. Check the path.") from error
    if not text:
        raise DataError(f"{path!r} is empty. Give a file with some text.")
    return text


def write_json(path: str | None, report: dict) -> None:
    if path:
        Path(path).expanduser().write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"written: {path}")
