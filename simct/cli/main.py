"""The command: `simct inspect | check | distill | warmup | teach | estimate | evaluate | publish | presets | settings |
jobs | demo`.

Errors that a person can fix are one line on standard error, with exit status 2.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from simct import __version__
from simct.cli import check as cli_check
from simct.cli import evaluate as cli_evaluate
from simct.cli import inspect as cli_inspect
from simct.cli import jobs as cli_jobs
from simct.cli import seeds as cli_seeds
from simct.cli import settings as cli_settings
from simct.cli import teach as cli_teach
from simct.cli.arguments import at_once, command_parser, rows, steps, tokens
from simct.cli.common import (
    RUN_OPTIONS,
    RUNS,
    add_run_options,
    check_output_file,
    config_from_options,
    find_run,
    follow,
    methods_help,
    prepare_hub,
    read_text,
    refuse_unused,
    write_json,
)
from simct.config.optimization import KEPT
from simct.config.publish import WEIGHTS
from simct.config.sections import CHECKERS
from simct.errors import ConfigError, SimCTError, brief

if TYPE_CHECKING:
    # these are imported when they are used, because `simct --help` does not need them
    from simct.config import RunConfig
    from simct.runs.folder import RunFolder

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


# the most characters of a message, which may quote the input
LONGEST_LINE = 1000


# flags that describe a new run
OF_WARMUP = ("samples_per_prompt", "checker", "keep", "allow_code_execution")
NOT_RESUMED = (*RUN_OPTIONS, *OF_WARMUP, "publish", "publish_what", "gpus")
NO_CHANGES = (
    "is not read with --resume: the run continues as its run.yaml says. Edit that file, or make a changed copy with "
    "`simct jobs duplicate`."
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    _print_any_text()
    try:
        options = build_parser().parse_args(arguments)
        return options.run(options) or 0
    except SimCTError as error:
        print(f"simct: {brief(error, LONGEST_LINE)}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # the program that reads our output, such as head, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        where = f": {error.filename}" if error.filename else ""
        line = f"{(error.strerror or str(error)).rstrip('.')}{where}. Check the path and the free space."
        print(f"simct: {brief(line, LONGEST_LINE)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("simct: interrupted", file=sys.stderr)
        return 130


def _print_any_text() -> None:
    """Print a question mark for a character that the terminal's encoding lacks, instead of ending with an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(
        prog="simct", description="On-policy distillation between models that tokenize text differently."
    )
    parser.add_argument("--version", action="version", version=f"simct {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    cli_inspect.add_parser(commands)
    cli_check.add_parser(commands)
    _add_distill(commands)
    _add_warmup(commands)
    cli_teach.add_parser(commands)
    _add_estimate(commands)
    cli_evaluate.add_parser(commands)
    _add_publish(commands)
    presets = commands.add_parser("presets", help="list the presets, which are ready-made runs")
    presets.set_defaults(run=run_presets)
    cli_settings.add_parser(commands)
    cli_jobs.add_parser(commands)
    demo = commands.add_parser("demo", help="the main steps on the embedded pair: inspect, distill, evaluate")
    demo.add_argument("--runs", default=RUNS)
    demo.add_argument("--steps", type=steps, help="fewer steps, for a quick look")
    demo.set_defaults(run=run_demo)
    return parser


def _add_distill(commands: Commands) -> None:
    distill = commands.add_parser(
        "distill",
        help="train a student on its own rollouts, graded by a teacher",
        epilog=methods_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_run_options(distill)
    distill.add_argument("--resume", metavar="RUN", help="continue a run that stopped (its folder or id)")
    distill.add_argument("--publish", metavar="OWNER/NAME", help="push the student here when the run has finished")
    distill.add_argument("--publish-what", choices=WEIGHTS, help="after LoRA: the merged model, the adapter, or both")
    distill.add_argument(
        "--seeds",
        type=at_once,
        metavar="N",
        help="run N seeds, each in its own run folder, and print their means; repeat the command to continue",
    )
    distill.add_argument("--detach", action="store_true", help="start it in the background and return")
    _add_no_check(distill)
    cli_jobs.add_where_options(distill)
    distill.set_defaults(run=run_distill)


def _add_warmup(commands: Commands) -> None:
    warmup = commands.add_parser("warmup", help="a warm start: the student imitates checked answers of the teacher")
    add_run_options(warmup)
    warmup.add_argument("--samples-per-prompt", type=at_once, metavar="K", help="answers of the teacher to each prompt")
    warmup.add_argument("--checker", choices=CHECKERS, help="how answers are checked")
    warmup.add_argument(
        "--keep", choices=KEPT, help="which answers that pass are kept: all, or the shortest one per prompt"
    )
    warmup.add_argument(
        "--allow-code-execution", action="store_true", help="let the checker 'code' run answers, in a sandbox"
    )
    warmup.add_argument("--push-to", metavar="OWNER/NAME", help="push the answers as a dataset when done")
    warmup.add_argument("--private", action="store_true", help="push them to a private dataset")
    warmup.add_argument("--resume", metavar="RUN", help="continue a warm-up that stopped (its folder or id)")
    warmup.add_argument("--detach", action="store_true", help="start it in the background and return")
    _add_no_check(warmup)
    cli_jobs.add_where_options(warmup)
    warmup.set_defaults(run=run_warmup)


def _add_no_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-check", action="store_true", help="start without the checks of `simct check`")


def _add_estimate(commands: Commands) -> None:
    estimate = commands.add_parser(
        "estimate",
        help="memory, time and cost of a run before it starts (no weights)",
        epilog=methods_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_run_options(estimate)
    estimate.add_argument("--hardware", help="one machine by name, or cpu; by default all known ones")
    estimate.add_argument("--devices", type=at_once, default=1, help="how many GPUs (default: %(default)s)")
    estimate.add_argument("--prompt-tokens", type=tokens, default=256, help="length of a prompt (default: %(default)s)")
    estimate.add_argument("--n-prompts", type=rows, help="prompts in the data, for runs given in epochs")
    estimate.add_argument("--json", help="write the estimate here")
    estimate.set_defaults(run=run_estimate)


def _add_publish(commands: Commands) -> None:
    publish = commands.add_parser("publish", help="push a run's student to the Hub with its model card")
    publish.add_argument("folder", metavar="RUN", help="run folder or id")
    publish.add_argument("--repo-id", required=True, help="owner/name on the Hub")
    publish.add_argument("--private", action="store_true", help="only you, or your organization, can see it")
    publish.add_argument(
        "--what",
        choices=WEIGHTS,
        default="merged",
        help="after LoRA: the merged model, the adapter alone, or both (default: %(default)s)",
    )
    publish.add_argument("--rollouts", action="store_true", help="also push the rollouts as a dataset")
    publish.add_argument("--space", action="store_true", help="also create a chat demo Space")
    publish.add_argument("--card", metavar="FILE", help="the model card to publish, instead of the generated one")
    publish.add_argument("--runs", default=RUNS)
    publish.set_defaults(run=run_publish)


def run_distill(options: argparse.Namespace) -> int:
    if options.seeds is not None:
        return cli_seeds.run_seeds(options, lambda some, config: start_or_resume(some, lambda: config))
    run = start_or_resume(options, lambda: config_from_options(options))
    return 0 if options.detach else follow(run)


def start_or_resume(options: argparse.Namespace, describe: Callable[[], RunConfig]) -> RunFolder:
    """The run that the options describe, started or queued; `describe` returns the RunConfig of a new run."""
    from simct.jobs import actions

    if options.resume is not None:
        refuse_unused(options, NOT_RESUMED, NO_CHANGES)
        run = find_run(options.resume, options.runs)
        print(actions.resume(run, rental=cli_jobs.rental_again(options, run)), flush=True)
    else:
        config = describe()
        if options.no_check:
            data = config.data
            prepare_hub(*(model.model for model in config.models), data.prompts, data.held_out_prompts)
        else:
            cli_check.refuse_problems(options, config)
        run = cli_jobs.start(options, config)
    print(f"run folder: {run.path}", flush=True)
    if options.detach and (words := actions.waiting_line(run)):
        print(f"it starts{words}")
    return run


def run_warmup(options: argparse.Namespace) -> int:
    def describe() -> RunConfig:
        flags = {"warmup.samples_per_prompt": options.samples_per_prompt, "warmup.checker": options.checker}
        flags["warmup.keep"] = options.keep
        flags |= {"warmup.allow_code_execution": options.allow_code_execution or None, "kind": "warmup"}
        options.set = [f"{name}={value}" for name, value in flags.items() if value is not None] + options.set
        return config_from_options(options)

    if options.private and not options.push_to:
        raise ConfigError("--private needs --push-to, which was not given.")
    if options.push_to and options.detach:
        raise ConfigError("--push-to pushes the answers when the warm-up is done. Leave out --detach.")
    run = start_or_resume(options, describe)
    if options.detach:
        return 0
    status = follow(run)
    if run.status().state == "finished":
        from simct.jobs import actions

        print(f"student: {actions.fetch_model(run)}")
        if options.push_to:
            from simct.publishing.push import publish_dataset

            print(publish_dataset(run.path / "data", options.push_to, private=options.private))
    return status


def run_estimate(options: argparse.Namespace) -> int:
    from simct.estimate.time_and_cost import estimate_run
    from simct.report.text import format_estimate

    check_output_file(options.json)
    config = config_from_options(options)
    prepare_hub(*(model.model for model in config.models))
    report = estimate_run(config, options.hardware, options.devices, options.prompt_tokens, options.n_prompts)
    print(format_estimate(report))
    write_json(options.json, report.to_dict())
    return 0


def run_presets(options: argparse.Namespace) -> int:
    from simct.presets import list_presets

    for name, description in list_presets().items():
        print(f"{name:34} {description}")
    return 0


def run_publish(options: argparse.Namespace) -> int:
    from simct.publishing.push import publish_run

    run = find_run(options.folder, options.runs)
    url = publish_run(
        run,
        options.repo_id,
        private=options.private,
        rollouts=options.rollouts,
        space=options.space,
        what=options.what,
        card=read_text(options.card) if options.card else None,
    )
    print(url)
    return 0


def run_demo(options: argparse.Namespace) -> int:
    from simct.cli.demo import run_tour

    return run_tour(options.runs, options.steps)


if __name__ == "__main__":
    sys.exit(main())
