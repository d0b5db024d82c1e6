"""The warm-up: the teacher answers prompts, checked answers are kept, and the student is fine-tuned on them.

The teacher reads each prompt in its own template. The text of its answers is checked and stored as chat messages under
data/ in the run folder, a dataset that `datasets.load_dataset` reads and that can be pushed. The student then learns
them in its own template: cross-entropy on the completion and its end of turn only. Draws depend on (seed, prompt,
sample) alone, and answers are on disk after every batch, so that a stopped or killed warm-up continues where it was;
fine-tuning resumes from checkpoints as distillation does. Only one of the two models is in memory at a time.
"""

import gc
import json
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from transformers import PreTrainedModel

from simct.config import RunConfig, dump_config, local_path
from simct.data.held_out import split_of_run
from simct.data.prompts import Prompt, load_prompts
from simct.data.rendering import render_prompts
from simct.data.samples import teacher_rollouts
from simct.data.templates import prompt_ids
from simct.errors import ConfigError, DataError
from simct.evaluation.answers.check import check
from simct.evaluation.sandbox.program import why_unavailable
from simct.files import append_jsonl, read_jsonl, write_atomically
from simct.losses.head import check_head
from simct.models.adapters import merged_student, trainable_student
from simct.models.loading import load_model
from simct.models.rollout import Rollout
from simct.models.teachers import Teacher, load_teacher
from simct.runs.folder import RunFolder
from simct.tokenization.model_tokens import load_tokens
from simct.tokenization.token_bytes import TokenBytes
from simct.training.fine_tuning import Example, fine_tune
from simct.training.metrics import write_record
from simct.training.sharding import on_any_process
from simct.training.trainer import Trained

DATA_FILE = "train.jsonl"
# the run.yaml that the teacher's answers were sampled with
SAMPLED_WITH = "samples/run.yaml"


def check_warmup(config: RunConfig, prompts: list[Prompt]) -> None:
    """Raise ConfigError for what would otherwise fail only after sampling."""
    warmup = config.warmup
    if warmup.checker != "none" and any(prompt.answer is None for prompt in prompts):
        raise ConfigError(
            f"The checker {warmup.checker!r} needs a reference answer for every prompt of {config.data.prompts!r}. "
            "Name its column with data.answer_column, or set warmup.checker to none."
        )
    if warmup.checker == "code":
        if not warmup.allow_code_execution:
            raise ConfigError(
                "The checker 'code' runs what the teacher wrote, in a sandbox. Allow it with --allow-code-execution "
                "(warmup.allow_code_execution in run.yaml)."
            )
        if why_unavailable():
            raise ConfigError(f"The checker 'code' cannot be used: {why_unavailable()}.")


def warm_up(
    run: RunFolder,
    accelerator: Accelerator,
    stop_requested: Callable[[], bool],
    token: str | None = None,
    checkpoint: Path | None = None,
) -> tuple[Trained, TokenBytes]:
    """Carry out the warm-up of `run`, its fine-tuning from `checkpoint` if there is one.

    Returns what was trained and the student's tokens.

    The student is None if the run was stopped while the teacher was still answering. Raises SimCTErrors for what a
    person can fix.
    """
    config = run.config()
    # prompts that are held out here are held out of a distillation on the same data as well
    prompts = split_of_run(run, config.data, load_prompts(config.data, token), token).trained
    check_warmup(config, prompts)
    tokens = load_tokens(config.student.model, config.student.revision, token, config.student.chat_template)
    data = run.path / "data"
    if not (data / DATA_FILE).is_file():
        # a student that cannot be trained is refused before the teacher spends hours on answers
        _load_student(config, accelerator, token)
        gc.collect()
        if not sample_answers(run, config, accelerator, prompts, stop_requested, token):
            return Trained(0, False, None), tokens
    examples, left_out = load_examples(data, tokens, config)
    if accelerator.is_main_process:
        print(f"{len(examples)} answers to learn from{_in_brackets(left_out)}", flush=True)
    student = trainable_student(_load_student(config, accelerator, token), config)

    def on_step(record: dict[str, Any], total: int) -> None:
        write_record(run, accelerator, record, total, "Warming up")
        print(f"step {record['step']}/{total}  loss {record['loss']:.4f}  rows {record['rows']}", flush=True)

    step, done = fine_tune(
        config,
        accelerator,
        student,
        tokens,
        examples,
        run.checkpoints_dir,
        on_step,
        stop_requested,
        checkpoint,
    )
    return Trained(step, done, merged_student(student, config, token)), tokens


def _load_student(config: RunConfig, accelerator: Accelerator, token: str | None) -> PreTrainedModel:
    student = load_model(config.student, accelerator.device, token)
    check_head(student)
    return student


def sample_answers(
    run: RunFolder,
    config: RunConfig,
    accelerator: Accelerator,
    prompts: list[Prompt],
    stop_requested: Callable[[], bool],
    token: str | None = None,
) -> bool:
    """Let the teacher answer every prompt: samples/ after every batch, data/ at the end. False if it was stopped.

    Raises DataError when no answer passed the check.
    """
    rank, size = accelerator.process_index, config.warmup.generation_batch_size
    tokens = load_tokens(config.teacher.model, config.teacher.revision, token, config.teacher.chat_template)
    plan = _plan(config, tokens, prompts, accelerator)
    own_file = run.path / "samples" / f"{rank}.jsonl"
    own_file.parent.mkdir(exist_ok=True)
    if accelerator.is_main_process:
        write_atomically(run.path / SAMPLED_WITH, dump_config(config))
    pending = _pending(run, own_file, plan, accelerator)
    teacher = load_teacher(config.teacher, tokens, accelerator.device, token, grades=False) if pending else None
    stride = size * accelerator.num_processes
    for start in range(0, len(pending), stride):
        if on_any_process(accelerator, stop_requested()):
            return False
        first = start + rank * size
        records = _answer(config, teacher, plan, prompts, pending[first : first + size])
        append_jsonl(own_file, records)
        if accelerator.is_main_process:
            done, total = len(plan.samples) - max(0, len(pending) - start - stride), len(plan.samples)
            run.set_status(message=f"The teacher is answering: {done:,} of {total:,}")
            print(f"answers {done}/{total}", flush=True)
    accelerator.wait_for_everyone()
    del teacher
    gc.collect()
    if accelerator.is_main_process:
        write_dataset(run, config, prompts, read_samples(run), len(prompts) - len(plan.fitting))
    accelerator.wait_for_everyone()
    return True


@dataclass(frozen=True)
class SamplingPlan:
    """The teacher's ids of every prompt, the prompts that leave room for an answer, and the samples to draw.

    Sample n is the answer n % samples_per_prompt to prompt n // samples_per_prompt.
    """

    prompt_ids: list[list[int]]
    fitting: list[int]
    samples: list[int]
    samples_per_prompt: int

    def ids_for(self, sample: int) -> list[int]:
        return self.prompt_ids[sample // self.samples_per_prompt]


def _plan(config: RunConfig, tokens: TokenBytes, prompts: list[Prompt], accelerator: Accelerator) -> SamplingPlan:
    count = config.warmup.samples_per_prompt
    rendered = render_prompts(
        "teacher", tokens.tokenizer, prompts, config.teacher.enable_thinking, config.teacher.system
    )
    for line in (*rendered.notices(), *rendered.losses()):
        accelerator.print(line, flush=True)
    ids = rendered.ids
    room = config.training.max_length - config.warmup.max_new_tokens
    fitting = [index for index in range(len(prompts)) if 0 < len(ids[index]) <= room]
    return SamplingPlan(ids, fitting, [index * count + sample for index in fitting for sample in range(count)], count)


def _pending(run: RunFolder, own_file: Path, plan: SamplingPlan, accelerator: Accelerator) -> list[int]:
    """The samples that no process has on disk, the same list on all processes."""
    known = {record["index"] for record in read_samples(run)}
    accelerator.wait_for_everyone()
    # the longest first: what does not fit in memory fails at once, and prompts of similar length share a batch
    return sorted((n for n in plan.samples if n not in known), key=lambda n: -len(plan.ids_for(n)))


def _answer(
    config: RunConfig,
    teacher: Teacher | None,
    plan: SamplingPlan,
    prompts: list[Prompt],
    batch: list[int],
) -> list[dict]:
    """The checked answers to one batch of samples; none where this process has nothing left to answer."""
    if teacher is None:
        return []
    settings = config.model_copy()
    settings.rollout = config.rollout.model_copy()
    settings.rollout.max_new_tokens = config.warmup.max_new_tokens
    rollouts = teacher_rollouts(teacher, settings, [plan.ids_for(sample) for sample in batch], 0, batch)
    asked = [prompts[sample // plan.samples_per_prompt] for sample in batch]
    return check_answers(config, teacher.tokens, batch, asked, rollouts)


def check_answers(
    config: RunConfig, tokens: TokenBytes, indices: list[int], prompts: list[Prompt], rollouts: list[Rollout]
) -> list[dict]:
    """One record per answer: {"index", "completion", "reason"}; the reason is empty for answers that are kept."""

    def record(index: int, prompt: Prompt, rollout: Rollout) -> dict:
        body = rollout.completion_ids[:-1] if rollout.ended else rollout.completion_ids
        try:
            text = tokens.decode(body).decode("utf-8")
        except ValueError:
            return {"index": index, "completion": None, "reason": "holds special tokens or broken text"}
        return {"index": index, "completion": text, "reason": _reason(config, prompt, rollout, text)}

    rows = list(zip(indices, prompts, rollouts, strict=True))
    if config.warmup.checker != "code":
        return [record(*row) for row in rows]
    # each check is a process of its own, and this one mostly waits for them
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda row: record(*row), rows))


def _reason(config: RunConfig, prompt: Prompt, rollout: Rollout, text: str) -> str:
    """Why an answer is left out; empty for one to keep."""
    warmup = config.warmup
    if not rollout.ended:
        return "did not end"
    if not text.strip():
        return "empty"
    if check(warmup.checker, text, prompt.answer, warmup.allow_code_execution):
        return ""
    return f"failed the {warmup.checker} check"


def read_samples(run: RunFolder) -> list[dict]:
    """Every answer on disk once, by index."""
    records: dict[int, dict] = {}
    for path in sorted((run.path / "samples").glob("*.jsonl")):
        records |= {record["index"]: record for record in read_jsonl(path) if _is_sample(record)}
    return [records[index] for index in sorted(records)]


def _is_sample(record: dict) -> bool:
    """Whether a line is an answer: one that is damaged is drawn again."""
    return type(record.get("index")) is int and "completion" in record and isinstance(record.get("reason"), str)


def write_dataset(run: RunFolder, config: RunConfig, prompts: list[Prompt], records: list[dict], too_long: int) -> None:
    """Write data/train.jsonl (messages, reference, source) and a README that says how it was made.

    The same answer to one prompt is kept once. Raises DataError when no answer is kept.
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
        if prompt.tools:
            line["tools"] = list(prompt.tools)
        lines.append(json.dumps(line, ensure_ascii=False))
    print(f"{len(lines)} of {len(records)} answers kept{_in_brackets(reasons)}", flush=True)
    if not lines:
        raise DataError(
            f"None of the teacher's {len(records)} answers was kept{_in_brackets(reasons)}. Raise "
            "warmup.max_new_tokens, or choose another warmup.checker."
        )
    folder = run.path / "data"
    folder.mkdir(exist_ok=True)
    counts = {"kept": len(lines), "sampled": len(records), "left_out": dict(reasons)}
    write_atomically(folder / "warmup.json", json.dumps(counts, indent=1) + "\n")
    write_atomically(folder / "README.md", _card(config, len(lines), len(records), reasons))
    write_atomically(folder / DATA_FILE, "\n".join(lines) + "\n")


def _in_brackets(reasons: Counter) -> str:
    if not reasons:
        return ""
    return f" (left out: {', '.join(f'{count} {reason}' for reason, count in reasons.most_common())})"


def _public(name: str) -> str:
    """A Hub id unchanged; only the last part of a local path, as paths say something about a machine."""
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
    """The dataset in the student's template and tokens, and how many rows are left out by reason.

    Raises DataError if all are.
    """
    examples: list[Example] = []
    left_out: Counter[str] = Counter()
    for row in read_jsonl(folder / DATA_FILE):
        *messages, answer = row["messages"]
        try:
            prompt = prompt_ids(tokens.tokenizer, messages, config.student.enable_thinking, row.get("tools", ()))
        except DataError:
            left_out["the student's chat template cannot take"] += 1
            continue
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
        raise DataError(
            f"No answer in {str(folder)!r} fits the student{_in_brackets(left_out)}. Raise training.max_length."
        )
    return examples, left_out
