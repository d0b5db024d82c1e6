"""What the commands share: the flags that describe a run, finding a run, following it, reading and writing files."""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from simct.config import METHODS, RunConfig, load_config, set_option, validate
from simct.errors import ConfigError, DataError, RunError

RUNS = "runs"


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """What describes a run, for every command that takes one."""
    parser.add_argument("--config", help="run.yaml; flags below override it")
    parser.add_argument("--preset", help="a run described beforehand; `simct presets` lists them")
    parser.add_argument("--teacher", help="Hub id or local folder")
    parser.add_argument("--student", help="Hub id or local folder")
    parser.add_argument("--prompts", help="JSONL, CSV or Parquet file, or Hub dataset id")
    parser.add_argument("--method", choices=METHODS)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--output", help="the run folder (new or empty); by default one under --runs")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="any other setting of run.yaml")
    parser.add_argument("--runs", default=RUNS, help="where runs are kept (default: %(default)s)")


def config_from_options(options) -> RunConfig:
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
    from simct.clients import settle_clients

    settle_clients([name for name in names if name])


def follow(run) -> int:
    """Print the run's log until it is over; Ctrl-C asks it to checkpoint and stop. Returns the exit status."""
    from simct.jobs import local_job
    from simct.jobs.run_folder import ACTIVE_STATES

    position, asked = 0, False
    while True:
        try:
            status = local_job.refresh(run)
            if run.log_path.exists():
                with open(run.log_path, encoding="utf-8", errors="replace") as log:
                    log.seek(position)
                    sys.stdout.write(log.read())
                    sys.stdout.flush()
                    position = log.tell()
            if status["state"] not in ACTIVE_STATES:
                break
            time.sleep(0.3)
        except KeyboardInterrupt:
            if asked:
                local_job.kill(run)
                break
            asked = True
            print("\nStopping: a checkpoint is being written. Press Ctrl-C again to end it at once.", flush=True)
            local_job.stop(run)
    status = run.status()
    if status["state"] == "failed":
        raise RunError(f"Run {run.id} failed: {status.get('error')}")
    print(f"{status['state']}: {status.get('message')}  ({run.path})")
    return 0


def find_run(name: str, runs_dir: str):
    from simct.jobs.run_folder import RunFolder, open_run

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
