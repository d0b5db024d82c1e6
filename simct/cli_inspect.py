"""`simct inspect`: where two tokenizers disagree, what SimCT recovers, and with weights whether to trust it."""

import argparse

from simct.cli_common import read_text, settle, write_json
from simct.config import DataConfig, ModelConfig, RunConfig, validate


def add_parser(commands) -> None:
    inspect = commands.add_parser("inspect", help="where two tokenizers disagree and what SimCT recovers (no weights)")
    add_pair(inspect)
    inspect.add_argument("--text", help="a text file; by default the embedded pair's prompts")
    inspect.add_argument("--weights", type=int, metavar="N", help="load both models and judge the pair on N answers")
    inspect.add_argument("--prompts", help="with --weights: prompts to answer; by default the embedded pair's")
    inspect.add_argument("--json", help="write the report here")
    inspect.set_defaults(run=run_inspect)


def add_pair(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--teacher", required=True, help="Hub id or local folder")
    parser.add_argument("--student", required=True, help="Hub id or local folder")
    parser.add_argument("--teacher-revision")
    parser.add_argument("--student-revision")


def run_inspect(options) -> int:
    from simct.coverage import format_report, inspect_pair
    from simct.demo import PROMPTS
    from simct.prompts import load_prompts
    from simct.tokenizer_pair import TokenizerPair

    settle(options.teacher, options.student)
    if options.text:
        texts = [read_text(options.text)]
    else:
        prompts = load_prompts(DataConfig(prompts=str(PROMPTS), limit=500))
        texts = [f"{prompt.text} {prompt.answer or ''}".strip() for prompt in prompts]
    pair = TokenizerPair.from_pretrained(
        options.teacher,
        options.student,
        teacher_revision=options.teacher_revision,
        student_revision=options.student_revision,
    )
    report = {"teacher": options.teacher, "student": options.student, **inspect_pair(pair, texts)}
    print(format_report(report))
    if options.weights:
        from simct.reliability import format_reliability, measure_pair

        config = RunConfig(
            ModelConfig(options.teacher, options.teacher_revision),
            ModelConfig(options.student, options.student_revision),
            DataConfig(options.prompts or str(PROMPTS)),
        )
        report["reliability"] = measure_pair(validate(config), options.weights)
        print(format_reliability(report["reliability"]))
    write_json(options.json, report)
    return 0
