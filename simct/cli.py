"""The command: `simct inspect | estimate | warmup | distill | evaluate | publish | jobs | presets | demo`.

Whatever a person can mend ends in one line on standard error and exit status 2.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from simct.config import CHECKERS, METHODS, DataConfig, ModelConfig, RunConfig, load_config, set_option, validate
from simct.errors import ConfigError, DataError, RunError, SimCTError

RUNS = "runs"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = build_parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except SimCTError as error:
        print(f"simct: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # the reader of our output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        print(f"simct: {error.strerror}: {error.filename or ''}. Check the path and the free space.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("simct: interrupted", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="simct", description="On-policy distillation between models that tokenize text differently."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    inspect = commands.add_parser("inspect", help="where two tokenizers disagree and what SimCT recovers (no weights)")
    add_pair(inspect)
    inspect.add_argument("--text", help="a text file; by default the embedded pair's prompts")
    inspect.add_argument("--weights", type=int, metavar="N", help="load both models and judge the pair on N answers")
    inspect.add_argument("--prompts", help="with --weights: prompts to answer; by default the embedded pair's")
    inspect.add_argument("--json", help="write the report here")
    inspect.set_defaults(run=run_inspect)

    distill = commands.add_parser("distill", help="train a student on its own rollouts, graded by a teacher")
    add_run_options(distill)
    distill.add_argument("--resume", metavar="RUN", help="go on with a run that stopped (its folder or id)")
    distill.add_argument("--detach", action="store_true", help="start it in the background and return")
    distill.set_defaults(run=run_distill)

    warmup = commands.add_parser("warmup", help="a warm start: the student imitates checked answers of the teacher")
    add_run_options(warmup)
    warmup.add_argument("--samples-per-prompt", type=int, metavar="K", help="answers of the teacher to each prompt")
    warmup.add_argument("--checker", choices=CHECKERS, help="which answers to keep")
    warmup.add_argument(
        "--allow-code-execution", action="store_true", help="let the checker 'code' run answers, shut in"
    )
    warmup.add_argument("--push-to", metavar="OWNER/NAME", help="push the answers as a dataset when done")
    warmup.add_argument("--private", action="store_true", help="push it privately")
    warmup.add_argument("--resume", metavar="RUN", help="go on with a warm-up that stopped (its folder or id)")
    warmup.set_defaults(run=run_warmup)

    estimate = commands.add_parser("estimate", help="memory, time and cost of a run before it starts (no weights)")
    add_run_options(estimate)
    estimate.add_argument("--hardware", help="one machine by name, or cpu; by default all that are known")
    estimate.add_argument("--devices", type=int, default=1, help="how many GPUs (default: %(default)s)")
    estimate.add_argument("--prompt-tokens", type=int, default=256, help="length of a prompt (default: %(default)s)")
    estimate.add_argument("--n-prompts", type=int, help="prompts in the data, for runs given in epochs")
    estimate.add_argument("--json", help="write the estimate here")
    estimate.set_defaults(run=run_estimate)

    evaluate = commands.add_parser("evaluate", help="score a model on tasks with checkable answers")
    evaluate.add_argument("--model", required=True, help="Hub id or local folder")
    evaluate.add_argument(
        "--tasks", default="demo", help="comma-separated: demo, JSONL files, lm-eval tasks (default: %(default)s)"
    )
    evaluate.add_argument("--seed", type=int, default=0, help="of lm-eval's few-shot examples (default: %(default)s)")
    evaluate.add_argument(
        "--allow-code-execution", action="store_true", help="let tasks run what the model wrote, in a sandbox"
    )
    evaluate.add_argument("--samples", type=int, help="only the first N prompts of each task")
    evaluate.add_argument("--max-new-tokens", type=int, default=64)
    evaluate.add_argument("--json", help="write the scores here")
    evaluate.set_defaults(run=run_evaluate)

    publish = commands.add_parser("publish", help="push a run's student to the Hub with its model card")
    publish.add_argument("folder", metavar="RUN", help="run folder or id")
    publish.add_argument("--repo-id", required=True, help="owner/name on the Hub")
    publish.add_argument("--private", action="store_true")
    publish.add_argument("--rollouts", action="store_true", help="also push the rollouts as a dataset")
    publish.add_argument("--space", action="store_true", help="also create a chat demo Space")
    publish.add_argument("--runs", default=RUNS)
    publish.set_defaults(run=run_publish)

    presets = commands.add_parser("presets", help="list the runs that are described beforehand")
    presets.set_defaults(run=run_presets)

    jobs = commands.add_parser("jobs", help="list runs, or stop, kill or delete one")
    jobs.add_argument("action", nargs="?", choices=("list", "stop", "kill", "delete", "log"), default="list")
    jobs.add_argument("folder", metavar="RUN", nargs="?")
    jobs.add_argument("--runs", default=RUNS)
    jobs.set_defaults(run=run_jobs)

    demo = commands.add_parser("demo", help="the main job on the embedded pair: inspect, distil, evaluate")
    demo.add_argument("--runs", default=RUNS)
    demo.add_argument("--steps", type=int, help="fewer steps for a quicker look")
    demo.set_defaults(run=run_demo)
    return parser


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


def add_pair(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--teacher", required=True, help="Hub id or local folder")
    parser.add_argument("--student", required=True, help="Hub id or local folder")
    parser.add_argument("--teacher-revision")
    parser.add_argument("--student-revision")


def settle(*names: str | None) -> None:
    """Quiet the Hub's clients, and look once whether the Hub answers if one of `names` is on it."""
    from simct.clients import settle_clients

    settle_clients([name for name in names if name])


def run_inspect(options) -> int:
    from simct.coverage import format_report, inspect_pair
    from simct.demo import PROMPTS
    from simct.prompts import load_prompts
    from simct.tokenizer_pair import TokenizerPair

    settle(options.teacher, options.student)
    if options.text:
        texts = [_read_text(options.text)]
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
    _write_json(options.json, report)
    return 0


def run_distill(options) -> int:
    from simct.jobs import local_job
    from simct.jobs.run_folder import RunFolder
    from simct.train import check_run

    if options.resume:
        run = _find_run(options.resume, options.runs)
        if run.status().get("state") == "finished":
            raise RunError(f"Run {run.id} is finished; there is nothing to resume.")
        local_job.launch(run, resume=True)
    else:
        config = config_from_options(options)
        settle(config.teacher.model, config.student.model, config.data.prompts)
        check_run(config)
        run = RunFolder.create(options.runs, config)
        local_job.launch(run)
    print(f"run folder: {run.path}", flush=True)
    if options.detach:
        return 0
    return follow(run)


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


def run_warmup(options) -> int:
    from simct.jobs import local_job
    from simct.jobs.run_folder import RunFolder
    from simct.train import check_run

    if options.resume:
        run = _find_run(options.resume, options.runs)
        local_job.launch(run, resume=True)
    else:
        flags = {"warmup.samples_per_prompt": options.samples_per_prompt, "warmup.checker": options.checker}
        flags |= {"warmup.allow_code_execution": options.allow_code_execution or None, "kind": "warmup"}
        options.set = [f"{name}={value}" for name, value in flags.items() if value is not None] + options.set
        config = config_from_options(options)
        settle(config.teacher.model, config.student.model, config.data.prompts)
        check_run(config)
        run = RunFolder.create(options.runs, config)
        local_job.launch(run)
    print(f"run folder: {run.path}", flush=True)
    status = follow(run)
    if run.status().get("state") == "finished":
        print(f"student: {run.model_dir}")
        if options.push_to:
            from simct.hub.publish import publish_dataset

            print(publish_dataset(run.path / "data", options.push_to, private=options.private))
    return status


def run_estimate(options) -> int:
    from simct.cost_estimate import estimate_run, format_estimate

    config = config_from_options(options)
    settle(config.teacher.model, config.student.model)
    report = estimate_run(config, options.hardware, options.devices, options.prompt_tokens, options.n_prompts)
    print(format_estimate(report))
    _write_json(options.json, report)
    return 0


def run_presets(options) -> int:
    from simct.presets import list_presets

    for name, description in list_presets().items():
        print(f"{name:34} {description}")
    return 0


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


def run_evaluate(options) -> int:
    from simct.evaluate import evaluate_model

    settle(options.model)
    tasks = [task.strip() for task in options.tasks.split(",") if task.strip()]
    scores = evaluate_model(
        options.model,
        tasks,
        options.samples,
        options.max_new_tokens,
        seed=options.seed,
        allow_code_execution=options.allow_code_execution,
    )
    for task, result in scores.items():
        error = f" ± {result['stderr']:.3f}" if result.get("stderr") is not None else ""
        how = result.get("metric", "exact")
        ended = f", {result['ended']:.0%} ended by themselves" if "ended" in result else ""
        print(f"{task}: {result['score']:.3f}{error} {how} on {result['n']} prompts{ended}")
    _write_json(options.json, {"model": options.model, "tasks": scores})
    return 0


def run_publish(options) -> int:
    from simct.hub.publish import publish_run

    run = _find_run(options.folder, options.runs)
    url = publish_run(run, options.repo_id, private=options.private, rollouts=options.rollouts, space=options.space)
    print(url)
    return 0


def run_jobs(options) -> int:
    from simct.jobs import local_job
    from simct.jobs.run_folder import list_runs

    if options.action == "list":
        for run in list_runs(options.runs):
            status = local_job.refresh(run)
            progress = f"{status.get('step', 0)}/{status.get('total_steps', 0)}"
            told = status.get("error") or status.get("message")
            print(f"{run.id:44} {status.get('state', '?'):9} {progress:>11}  {told}")
        return 0
    if not options.folder:
        raise ConfigError(f"`simct jobs {options.action}` needs a run id. See `simct jobs` for the list.")
    run = _find_run(options.folder, options.runs)
    if options.action == "log":
        print(run.log_tail())
    elif options.action == "delete":
        local_job.refresh(run)
        run.delete()
    else:
        status = (local_job.stop if options.action == "stop" else local_job.kill)(run)
        print(f"{run.id}: {status['state']}")
    return 0


def run_demo(options) -> int:
    from simct.tour import run_tour

    return run_tour(options.runs, options.steps)


def _find_run(name: str, runs_dir: str):
    from simct.jobs.run_folder import RunFolder, open_run

    path = Path(name).expanduser()
    if (path / "status.json").is_file():
        return RunFolder(path.resolve())
    if os.sep in name:
        raise RunError(f"{name!r} is not a run folder: it has no status.json.")
    return open_run(runs_dir, name)


def _read_text(path: str) -> str:
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path!r} is not UTF-8 text (byte {error.start}). Convert it first.") from error
    except OSError as error:
        raise DataError(f"Cannot read {path!r}: {error.strerror}. Check the path.") from error
    if not text:
        raise DataError(f"{path!r} is empty. Give a file with some text.")
    return text


def _write_json(path: str | None, report: dict) -> None:
    if path:
        Path(path).expanduser().write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"written: {path}")


if __name__ == "__main__":
    sys.exit(main())
