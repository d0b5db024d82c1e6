"""`simct teach`: a teacher's scores of the completions in the data, computed once."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from simct.cli.common import prepare_hub
from simct.errors import ConfigError

if TYPE_CHECKING:
    from simct.config import RunConfig


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    teach = commands.add_parser(
        "teach", help="let the teacher score the data's completions once, for runs that then do not load it"
    )
    teach.add_argument("run_yaml", metavar="RUN.yaml", type=Path, help="the run: its teacher, student and data")
    teach.add_argument("--output", metavar="DIR", required=True, type=Path, help="the folder to write the scores to")
    teach.add_argument("--teacher", metavar="NAME", help="which of several teachers, by its name in run.yaml")
    teach.set_defaults(run=run_teach)


def run_teach(options: argparse.Namespace) -> int:
    from simct.cli.terminal import progress
    from simct.config import load_config
    from simct.training.teach import teach

    config = only_teacher(load_config(options.run_yaml), options.teacher)
    prepare_hub(config.teacher.model, config.student.model, config.data.prompts)
    with progress("Scoring", "texts") as on_progress:
        about = teach(config, options.output, on_notice=print, on_progress=on_progress)
    print(f"{about['texts']:,} texts, {about['tokens']:,} tokens, {about['listed']} listed at each: {options.output}")
    where = f"scores: {options.output} of {options.teacher}" if options.teacher else f"teacher.scores={options.output}"
    print(f"Train on them with {where}, on_policy_fraction 0 and dataset_fraction 1.")
    return 0


def only_teacher(config: "RunConfig", name: str | None) -> "RunConfig":
    """The run with only the teacher of this name. Raises ConfigError if the name is missing or unknown."""
    from simct.config.teachers import with_one_teacher

    if not config.teachers and name is None:
        return config
    named = {teacher.name: teacher for teacher in config.teachers}
    if name not in named:
        known = ", ".join(named) or "it has one teacher, which needs no name"
        raise ConfigError(f"--teacher is {name!r}; it must be one of the teachers in run.yaml: {known}.")
    return with_one_teacher(config, named[name])
