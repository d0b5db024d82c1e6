"""`simct evaluate`: a model's scores on tasks with checkable answers, and its distance to its teacher."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from simct.cli.arguments import at_once, rows, seed, tokens
from simct.cli.common import check_output_file, prepare_hub, write_json
from simct.errors import ConfigError

if TYPE_CHECKING:
    from simct.evaluation.records import Distances

PROMPTS_MEASURED = 64


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    evaluate = commands.add_parser("evaluate", help="score a model on tasks, and measure its distance to a teacher")
    evaluate.add_argument("--model", required=True, help="Hub id or local folder")
    evaluate.add_argument(
        "--tasks", help="comma-separated: demo, JSONL files, lm-eval tasks (default: demo; with --teacher none)"
    )
    evaluate.add_argument(
        "--seed", type=seed, default=0, help="seed of samples and few-shot examples (default: %(default)s)"
    )
    evaluate.add_argument(
        "--allow-code-execution", action="store_true", help="let tasks run code that the model wrote, in a sandbox"
    )
    evaluate.add_argument(
        "--allow-task-code",
        action="store_true",
        help="let your own lm-eval task file run the Python code that it names",
    )
    evaluate.add_argument(
        "--samples",
        type=rows,
        metavar="N",
        help=f"only the first N prompts of each task (default: all; of --prompts {PROMPTS_MEASURED})",
    )
    evaluate.add_argument("--max-new-tokens", type=tokens, default=64, help="longest answer (default: %(default)s)")
    evaluate.add_argument("--json", metavar="FILE", help="write the scores here")
    distance = evaluate.add_argument_group("distance to the teacher (bits per byte, no labels needed)")
    distance.add_argument(
        "--teacher",
        metavar="T",
        action="append",
        help="Hub id or local folder, ID@REVISION for a revision; repeat it for several teachers",
    )
    distance.add_argument("--prompts", metavar="P", help="a file or Hub dataset with prompts that both models answer")
    distance.add_argument("--teacher-system", metavar="TEXT", help="a system text that only the teacher reads")
    distance.add_argument("--teacher-server", metavar="URL", help="the teacher is on this server; see docs/running.md")
    distance.add_argument(
        "--top-logprobs", type=at_once, metavar="K", help="tokens that the server lists at each position"
    )
    evaluate.set_defaults(run=run_evaluate)


def run_evaluate(options: argparse.Namespace) -> int:
    if bool(options.teacher) != bool(options.prompts):
        raise ConfigError("The distance needs both --teacher and --prompts. Give the one that is missing.")
    if options.teacher_server and not options.teacher:
        raise ConfigError(
            "--teacher-server needs --teacher: the model whose tokenizer and chat template the server uses."
        )
    if options.top_logprobs is not None and not options.teacher_server:
        raise ConfigError("--top-logprobs needs --teacher-server, which was not given.")
    if options.teacher_server and len(options.teacher or ()) > 1:
        raise ConfigError("--teacher-server serves one teacher. Give --teacher once.")
    if options.teacher_system and not options.teacher:
        raise ConfigError("--teacher-system needs --teacher, which was not given.")
    check_output_file(options.json)
    named = options.tasks if options.tasks is not None else "" if options.teacher else "demo"
    tasks = [task.strip() for task in named.split(",") if task.strip()]
    if not tasks and not options.teacher:
        raise ConfigError(f"--tasks is {options.tasks!r}; give at least one task, such as demo.")
    prepare_hub(*(name for name in (options.model, *(options.teacher or ()), options.prompts) if name))
    report: dict = {"model": options.model}
    if tasks:
        report["tasks"] = _score(options, tasks)
    if options.teacher:
        found = {teacher: _measure(options, teacher) for teacher in dict.fromkeys(options.teacher)}
        if len(found) == 1:
            [(teacher, measured)] = found.items()
            report |= {"teacher": teacher, **_served(options), "distance": measured}
        else:
            report["distances"] = found
    write_json(options.json, report)
    return 0


def _score(options: argparse.Namespace, tasks: list[str]) -> dict:
    from simct.evaluation.tasks import evaluate_model

    scores = evaluate_model(
        options.model,
        tasks,
        options.samples,
        options.max_new_tokens,
        seed=options.seed,
        allow_code_execution=options.allow_code_execution,
        allow_task_code=options.allow_task_code,
    )
    for task, result in scores.items():
        error = f" ± {result['stderr']:.3f}" if result.get("stderr") is not None else ""
        how = result.get("metric", "exact")
        ended = f", {result['ended']:.0%} ended by themselves" if "ended" in result else ""
        print(f"{task}: {result['score']:.3f}{error} {how} on {result['n']} prompts{ended}")
    return scores


def _served(options: argparse.Namespace) -> dict[str, int]:
    """The report's fields about a teacher on a server, without the server's address, which is private."""
    return {"teacher_top_logprobs": listed_tokens(options)} if options.teacher_server else {}


def listed_tokens(options: argparse.Namespace) -> int:
    """The number of tokens that the server lists at each position: as requested, else the setting's default."""
    from simct.config.sections import ModelConfig

    return options.top_logprobs or ModelConfig().top_logprobs


def _measure(options: argparse.Namespace, teacher: str) -> dict:
    from simct.cli.terminal import progress
    from simct.evaluation.distance import distance

    with progress("Answering", "prompts") as on_progress:
        found = distance(
            options.model,
            teacher,
            options.prompts,
            options.samples or PROMPTS_MEASURED,
            options.max_new_tokens,
            seed=options.seed,
            on_progress=on_progress,
            teacher_system=options.teacher_system,
            teacher_server=options.teacher_server,
            top_logprobs=options.top_logprobs,
        )
    print(format_distances(found, teacher if len(options.teacher) > 1 else None))
    if options.teacher_server:
        print(f"The teacher's server listed the {listed_tokens(options)} most likely tokens at each position.")
    return found.to_dict()


def format_distances(found: Distances, teacher: str | None = None) -> str:
    """Both directions for a terminal, with standard errors and counts of what was left out; `teacher` names one of
    several.
    """
    lines = [f"Distance to {teacher or 'the teacher'}, in bits per byte (0: they write the same way)"]
    for label, direction in (
        ("Student to teacher", found.student_to_teacher),
        ("Teacher to student", found.teacher_to_student),
    ):
        error = f" ± {direction.standard_error:.3f}" if direction.standard_error is not None else ""
        lines.append(f"{label:20}{direction.mean:.3f}{error} on {direction.answers} answers, {direction.bytes:,} bytes")
        lines += [f"{'':20}{count} left out or cut: {reason}" for reason, count in direction.excluded.items()]
    return "\n".join(lines)
