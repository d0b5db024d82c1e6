"""`simct teach`: a teacher's scores of the completions in the data, made once."""

import argparse
from pathlib import Path

from simct.cli.common import prepare_hub


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    teach = commands.add_parser("teach", help="score the data's completions by the teacher once, for runs without it")
    teach.add_argument("run_yaml", metavar="RUN.yaml", type=Path, help="the run: its teacher, student and data")
    teach.add_argument("--output", metavar="DIR", required=True, type=Path, help="the folder that gets the scores")
    teach.set_defaults(run=run_teach)


def run_teach(options: argparse.Namespace) -> int:
    from simct.cli.terminal import progress
    from simct.config import load_config
    from simct.training.teach import teach

    config = load_config(options.run_yaml)
    prepare_hub(config.teacher.model, config.student.model, config.data.prompts)
    with progress("Scoring", "texts") as on_progress:
        about = teach(config, options.output, on_notice=print, on_progress=on_progress)
    print(f"{about['texts']:,} texts, {about['tokens']:,} tokens, {about['listed']} listed at each: {options.output}")
    print(f"Train on them with teacher.scores={options.output}, on_policy_fraction 0 and dataset_fraction 1.")
    return 0
