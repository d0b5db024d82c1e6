"""The warm start: the teacher answers prompts, checked answers are kept, the student is fine-tuned on them.

The teacher reads each prompt in its own template; its answers' text is checked and stored as chat messages under data/
in the run folder, a dataset that `datasets.load_dataset` reads and that can be pushed. The student then learns them in
its own template: cross-entropy on the completion and its end of turn only. Sampling draws depend on (seed, prompt,
sample) alone, and what is sampled is on disk after every batch, so that a stopped or killed warm-up goes on where it
was; fine-tuning resumes from checkpoints as distillation does. Only one of the two models is in memory at a time.
"""

import gc
import json
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator

from simct.config import RunConfig, local_path
from simct.data.prompts import Prompt, load_prompts
from simct.data.samples import write_rollouts
from simct.data.templates import prompt_ids
from simct.errors import ConfigError, DataError
from simct.evaluation.answers.check import check
from simct.evaluation.sandbox.program import why_unavailable
from simct.files import read_jsonl, write_atomically
from simct.models.adapters import merged_student, trainable_student
from simct.models.loading import load_model
from simct.models.rollout import Rollout
from simct.runs.folder import RunFolder
from simct.tokenization.model_tokens import load_tokens
from simct.tokenization.token_bytes import TokenBytes
from simct.training.fine_tuning import Example, fine_tune
from simct.training.sharding import on_any_process

DATA_FILE = "train.jsonl"


def check_warmup(config: RunConfig, prompts: list[Prompt]) -> None:
    """Refuse what could only fail after sampling. Raises ConfigError."""
    warmup = config.warmup
    if warmup.checker != "none" and any(prompt.answer is None for prompt in prompts):
        raise ConfigError(
            f"The checker {warmup.checker!r} needs a reference answer for every prompt of {config.data.prompts!r}. "
            "Name its column with data.answer_column, or set warmup.checker to none."
        )
    if warmup.checker == "code":
        if not warmup.allow_code_execution:
            raise ConfigError(
                "The checker 'code' runs what the teacher wrote, in a sandbox. Permit it with --allow-code-execution "
                "(warmup.allow_code_execution in run.yaml)."
            )
        if why_unavailable():
            raise ConfigError(f"The checker 'code' cannot be used: {why_unavailable()}.")


def warm_up(
    run: RunFolder, accelerator: Accelerator, stop_requested: Callable[[], bool], token: str | None = None
) -> tuple[torch.nn.Module | None, TokenBytes | None, int, bool]:
    """Carry out the warm-up of `run`; returns (student, its tokens, last step, whether all was done).

    The student is None when it was stopped while the teacher was still answering. Raises SimCTErrors for what a person
    can mend.
    """
    config = run.config()
    prompts = load_prompts(config.data, token)
    check_warmup(config, prompts)
    student_tokens = load_tokens(config.student.model, config.student.revision, token)
    if not (run.path / "data" / DATA_FILE).is_file() and not sample_answers(
        run, config, accelerator, prompts, stop_requested, token
    ):
        return None, None, 0, False
    examples, left_out = load_examples(run.path / "data", student_tokens, config)
    if accelerator.is_main_process:
        print(f"{len(examples)} answers to learn from{_told(left_out)}", flush=True)
    student = trainable_student(load_model(config.student, accelerator.device, token), config)

    def on_step(record: dict, total: int) -> None:
        run.append("metrics.jsonl", record)
        accelerator.log({name: value for name, value in record.items() if name != "step"}, step=record["step"])
        run.set_status(step=record["step"], total_steps=total, message=f"Warming up, step {record['step']} of {total}")
        print(f"step {record['step']}/{total}  loss {record['loss']:.4f}  rows {record['rows']}", flush=True)

    step, done = fine_tune(
        config,
        accelerator,
        student,
        student_tokens,
        examples,
        run.checkpoints_dir,
        on_step,
        stop_requested,
        run.latest_checkpoint(),
    )
    return merged_student(student, config, token), student_tokens, step, done


def sample_answers(
    run: RunFolder,
    config: RunConfig,
    accelerator: Accelerator,
    prompts: list[Prompt],
    stop_requested: Callable[[], bool],
    token: str | None = None,
) -> bool:
    """Let the teacher answer every prompt; write samples/ as it goes and data/ at the end. Whether it got there.

    Raises DataError when no answer passed.
    """
    warmup, rank, world = config.warmup, accelerator.process_index, accelerator.num_processes
    tokens = load_tokens(config.teacher.model, config.teacher.revision, token)
    ids = [prompt_ids(tokens.tokenizer, prompt.messages, config.teacher.enable_thinking) for prompt in prompts]
    room = config.training.max_length - warmup.max_new_tokens
    fitting = [index for index in range(len(prompts)) if 0 < len(ids[index]) <= room]
    total = len(fitting) * warmup.samples_per_prompt
    own_file = run.path / "samples" / f"{rank}.jsonl"
    own_file.parent.mkdir(exist_ok=True)
    if own_file.exists():
        # drop a line that a crash cut short, so that the next one starts afresh
        write_atomically(own_file, "".join(json.dumps(each) + "\n" for each in read_jsonl(own_file)))
    accelerator.wait_for_everyone()
    known = {record["index"] for record in _sampled(run)}
    numbers = [
        prompt * warmup.samples_per_prompt + sample for prompt in fitting for sample in range(warmup.samples_per_prompt)
    ]
    # the longest first: what does not fit in memory fails at once, and like lengths share a batch
    pending = sorted((n for n in numbers if n not in known), key=lambda n: -len(ids[n // warmup.samples_per_prompt]))
    accelerator.wait_for_everyone()
    teacher = load_model(config.teacher, accelerator.device, token).eval() if pending else None
    writing = replace(config, rollout=replace(config.rollout, max_new_tokens=warmup.max_new_tokens))
    stride = warmup.generation_batch_size * world
    for start in range(0, len(pending), stride):
        if on_any_process(accelerator, stop_requested()):
            return False
        first = start + rank * warmup.generation_batch_size
        batch = pending[first : first + warmup.generation_batch_size]
        places = [number // warmup.samples_per_prompt for number in batch]
        rollouts = write_rollouts(teacher, tokens, writing, [ids[place] for place in places], 0, batch)
        records = judge(config, tokens, batch, [prompts[place] for place in places], rollouts)
        with open(own_file, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        if accelerator.is_main_process:
            done = total - len(pending) + min(start + stride, len(pending))
            run.set_status(message=f"The teacher answers, {done:,} of {total:,}")
            print(f"answers {done}/{total}", flush=True)
    accelerator.wait_for_everyone()
    del teacher
    gc.collect()
    if accelerator.is_main_process:
        write_dataset(run, config, prompts, _sampled(run), len(prompts) - len(fitting))
    accelerator.wait_for_everyone()
    return True


def judge(
    config: RunConfig, tokens: TokenBytes, numbers: list[int], prompts: list[Prompt], rollouts: list[Rollout]
) -> list[dict]:
    """One record an answer: {"index", "completion", "reason"}, the reason empty for those to keep."""
    warmup = config.warmup

    def record(number: int, prompt: Prompt, rollout: Rollout) -> dict:
        body = rollout.completion_ids[:-1] if rollout.ended else rollout.completion_ids
        try:
            text = tokens.decode(body).decode("utf-8")
        except ValueError:
            return {"index": number, "completion": None, "reason": "holds special tokens or broken text"}
        if not rollout.ended:
            reason = "did not end"
        elif not text.strip():
            reason = "empty"
        elif check(warmup.checker, text, prompt.answer, warmup.allow_code_execution):
            reason = ""
        else:
            reason = f"failed the {warmup.checker} check"
        return {"index": number, "completion": text, "reason": reason}

    rows = list(zip(numbers, prompts, rollouts, strict=True))
    if warmup.checker != "code":
        return [record(*row) for row in rows]
    # each check is a process of its own, and they mostly wait
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda row: record(*row), rows))


def _sampled(run: RunFolder) -> list[dict]:
    """Every answer on disk, by index, once."""
    records: dict[int, dict] = {}
    for path in sorted((run.path / "samples").glob("*.jsonl")):
        records |= {record["index"]: record for record in read_jsonl(path)}
    return [records[index] for index in sorted(records)]


def write_dataset(run: RunFolder, config: RunConfig, prompts: list[Prompt], records: list[dict], too_long: int) -> None:
    """data/train.jsonl (messages, reference, where each came from) and a README that says how it was made.

    The same answer twice to one prompt is kept once. Raises DataError when nothing is left.
    """
    reasons = Counter({"prompt too long": too_long} if too_long else {})
    lines, seen = [], set()
    for record in records:
        place, sample = divmod(record["index"], config.warmup.samples_per_prompt)
        if record["reason"] or (place, record["completion"]) in seen:
            reasons[record["reason"] or "same answer again"] += 1
            continue
        seen.add((place, record["completion"]))
        prompt = prompts[place]
        line = {
            "messages": [*prompt.messages, {"role": "assistant", "content": record["completion"]}],
            "reference": prompt.answer,
            "prompt": place,
            "sample": sample,
            "teacher": _public(config.teacher.model),
            "checker": config.warmup.checker,
        }
        lines.append(json.dumps(line, ensure_ascii=False))
    print(f"{len(lines)} of {len(records)} answers kept{_told(reasons)}", flush=True)
    if not lines:
        raise DataError(
            f"None of the teacher's {len(records)} answers was kept{_told(reasons)}. Raise warmup.max_new_tokens, or "
            "choose another warmup.checker."
        )
    folder = run.path / "data"
    folder.mkdir(exist_ok=True)
    counts = {"kept": len(lines), "sampled": len(records), "left_out": dict(reasons)}
    write_atomically(folder / "warmup.json", json.dumps(counts, indent=1) + "\n")
    write_atomically(folder / "README.md", _card(config, len(lines), len(records), reasons))
    write_atomically(folder / DATA_FILE, "\n".join(lines) + "\n")


def _told(reasons: Counter) -> str:
    return (
        f" (left out: {', '.join(f'{count} {reason}' for reason, count in reasons.most_common())})" if reasons else ""
    )


def _public(name: str) -> str:
    """A Hub id as it is; of a local folder or file the last part only, as paths tell about a machine."""
    path = local_path(name)
    return name if path is None else path.resolve().name


def _card(config: RunConfig, kept: int, sampled: int, reasons: Counter) -> str:
    teacher, source = json.dumps(_public(config.teacher.model)), json.dumps(_public(config.data.prompts))
    left_out = "".join(f"- {count:,} {reason}\n" for reason, count in reasons.most_common())
    return f"""---
configs:
- config_name: default
  data_files: {DATA_FILE}
tags:
- simct
- distillation
---
# Answers of a teacher

{kept:,} of {sampled:,} answers that the teacher {teacher} gave to the prompts of {source}, sampled at temperature
{config.rollout.temperature} and top-p {config.rollout.top_p} with seed {config.training.seed},
{config.warmup.samples_per_prompt} a prompt, checker `{config.warmup.checker}`.

{left_out and "Left out:" + chr(10) + chr(10) + left_out}
Columns: `messages` (the conversation with the answer), `reference`, `prompt` and `sample` (indices), `teacher`,
`checker`. The licenses of the teacher and of the prompts apply.
"""


def load_examples(folder: Path, tokens: TokenBytes, config: RunConfig) -> tuple[list[Example], Counter]:
    """The dataset in the student's template and tokens, and what had to be left out. Raises DataError if all had."""
    examples: list[Example] = []
    left_out: Counter[str] = Counter()
    for row in read_jsonl(folder / DATA_FILE):
        *messages, answer = row["messages"]
        prompt = prompt_ids(tokens.tokenizer, messages, config.student.enable_thinking)
        try:
            completion = [*tokens.encode(answer["content"].encode("utf-8")), tokens.end_ids[0]]
        except ValueError:
            left_out["the student's tokenizer cannot spell"] += 1
            continue
        if len(prompt) + len(completion) > config.training.max_length:
            left_out["too long for the student"] += 1
            continue
        examples.append(Example(prompt, completion))
    if not examples:
        raise DataError(f"No answer in {str(folder)!r} fits the student{_told(left_out)}. Raise training.max_length.")
    return examples, left_out
