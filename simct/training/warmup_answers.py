"""The teacher's answers of a warm-up: drawn, checked, and on disk after every batch.

Draws depend on (seed, prompt, sample) alone, so that an answer written again with a higher limit begins as before, and
a warm-up that was stopped or killed continues where it was, on any number of processes.
"""

import gc
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from accelerate import Accelerator

from simct.config import RunConfig, dump_config
from simct.data.prompts import Prompt
from simct.data.rendering import render_prompts
from simct.data.samples import teacher_rollouts
from simct.data.selection import has_allowed_length
from simct.errors import DataError
from simct.evaluation.answers.check import check
from simct.files import append_jsonl, read_jsonl, write_atomically
from simct.hub.model_config import context_of
from simct.models.rollout import Rollout
from simct.models.teachers import Teacher, load_teacher
from simct.runs.folder import RunFolder
from simct.runs.progress import Reporter
from simct.tokenization.model_tokens import load_tokens
from simct.tokenization.token_bytes import TokenBytes
from simct.training.precision import config_of
from simct.training.sharding import on_any_process
from simct.training.warmup_data import CUT, checker_of, write_dataset

# the run.yaml that the teacher's answers were sampled with
SAMPLED_WITH = "samples/run.yaml"
# the acceptable share of prompts that have no answer because theirs were cut off
FEW_CUT = 0.1


def sample_answers(
    run: RunFolder,
    config: RunConfig,
    accelerator: Accelerator,
    prompts: list[Prompt],
    stop_requested: Callable[[], bool],
    token: str | None = None,
) -> bool:
    """Let the teacher answer every prompt: samples/ after every batch, data/ at the end. False if it was stopped.

    Where more than a tenth of the prompts have no answer because theirs were cut, these are written again at twice the
    length, as often as `warmup.retry_budget` and `training.max_length` allow. Raises DataError when no answer passed
    the check, or most were cut.
    """
    tokens = load_tokens(config.teacher.model, config.teacher.revision, token, config.teacher.chat_template)
    teacher: Teacher | None = None
    if config.teacher.server:
        teacher = load_teacher(config.teacher, tokens, accelerator.device, token, grades=False)
    context = teacher.context_length if teacher else context_of(config_of(config.teacher, token))
    plan = _plan(config, tokens, prompts, accelerator, context)
    (run.path / "samples").mkdir(exist_ok=True)
    if accelerator.is_main_process:
        write_atomically(run.path / SAMPLED_WITH, dump_config(config))
    first_limit = limit = plan.limit
    wanted, budget = plan.samples, config.warmup.retry_budget * first_limit * len(plan.samples)
    while wanted:
        pending = _pending(run, plan, wanted, limit, first_limit, accelerator)
        if pending and teacher is None:
            teacher = load_teacher(config.teacher, tokens, accelerator.device, token, grades=False)
        rollouts = _Round(run, config, accelerator, prompts, plan, limit, len(wanted))
        if not rollouts.write(teacher, pending, stop_requested):
            return False
        accelerator.wait_for_everyone()
        limit *= 2
        wanted = cut_samples(plan, read_samples(run, first_limit, below=limit), limit)
        budget -= limit * len(wanted)
        if wanted and budget < 0:
            accelerator.print(f"{len(wanted)} answers stay cut: writing them again exceeds warmup.retry_budget.")
            break
    del teacher
    gc.collect()
    if accelerator.is_main_process:
        write_dataset(run, config, prompts, read_samples(run, first_limit), len(prompts) - len(plan.fitting))
    accelerator.wait_for_everyone()
    return True


@dataclass(frozen=True)
class SamplingPlan:
    """The teacher's ids of every prompt, the prompts that leave room for an answer, and the samples to draw.

    limit: the most tokens of an answer at first; longest: those of a prompt and its answer together. Sample n is the
    answer n % samples_per_prompt to prompt n // samples_per_prompt.
    """

    prompt_ids: list[list[int]]
    fitting: list[int]
    samples: list[int]
    samples_per_prompt: int
    limit: int
    longest: int

    def ids_for(self, sample: int) -> list[int]:
        return self.prompt_ids[sample // self.samples_per_prompt]


def _plan(
    config: RunConfig, tokens: TokenBytes, prompts: list[Prompt], accelerator: Accelerator, context: int | None
) -> SamplingPlan:
    count = config.warmup.samples_per_prompt
    rendered = render_prompts(
        "teacher", tokens.tokenizer, prompts, config.teacher.enable_thinking, config.teacher.system
    )
    for line in (*rendered.notices(), *rendered.losses()):
        accelerator.print(line, flush=True)
    ids = rendered.ids
    longest = config.training.longest([context])
    limit = config.warmup.first_limit(longest, config.training)
    if limit < config.warmup.max_new_tokens:
        accelerator.print(
            f"The teacher reads at most {longest:,} tokens, so its answers have up to {limit:,}, not "
            f"{config.warmup.max_new_tokens:,} (warmup.max_new_tokens).",
            flush=True,
        )
    room = longest - limit
    fitting = [
        index
        for index in range(len(prompts))
        if 0 < len(ids[index]) <= room and has_allowed_length(config.data, [len(ids[index])])
    ]
    if not fitting:
        raise DataError(
            f"No prompt leaves room for {limit:,} new tokens of the teacher within {longest:,}. Lower "
            "warmup.max_new_tokens or raise training.max_length."
            if any(len(each) > room for each in ids)
            else "The teacher's chat template, data.min_tokens and data.max_tokens leave out all prompts. Change them."
        )
    samples = [index * count + sample for index in fitting for sample in range(count)]
    return SamplingPlan(ids, fitting, samples, count, limit, longest)


def cut_samples(plan: SamplingPlan, records: list[dict], limit: int) -> list[int]:
    """The samples to write again with up to `limit` tokens: those cut, to prompts without an answer.

    None where these are at most a tenth of the prompts; a sample without room for `limit` tokens stays cut.
    """
    per_prompt = plan.samples_per_prompt
    answered = {record["index"] // per_prompt for record in records if not record["reason"]}
    cut = [record["index"] for record in records if record["reason"] == CUT]
    cut = [index for index in cut if index // per_prompt not in answered]
    if len({index // per_prompt for index in cut}) <= FEW_CUT * len(plan.fitting):
        return []
    return [index for index in cut if len(plan.ids_for(index)) + limit <= plan.longest]


def _pending(
    run: RunFolder, plan: SamplingPlan, wanted: list[int], limit: int, first_limit: int, accelerator: Accelerator
) -> list[int]:
    """The wanted samples that no process has on disk at this limit, the same list on all processes."""
    known = {record["index"] for record in read_samples(run, first_limit) if _limit(record, first_limit) >= limit}
    accelerator.wait_for_everyone()
    # the longest first: whatever does not fit in memory fails immediately, and prompts of similar length share a batch
    return sorted((n for n in wanted if n not in known), key=lambda n: -len(plan.ids_for(n)))


@dataclass(frozen=True)
class _Round:
    """One pass over samples with up to `limit` tokens each; `total` is how many there are, written before or not."""

    run: RunFolder
    config: RunConfig
    accelerator: Accelerator
    prompts: list[Prompt]
    plan: SamplingPlan
    limit: int
    total: int

    def write(self, teacher: Teacher | None, pending: list[int], stop_requested: Callable[[], bool]) -> bool:
        """Write this process's part of `pending`, a batch at a time; False if it was stopped."""
        accelerator, size = self.accelerator, self.config.warmup.generation_batch_size
        rank, stride = accelerator.process_index, size * accelerator.num_processes
        again = f" again, up to {self.limit:,} tokens" if self.limit > self.plan.limit else ""
        progress = Reporter(self.run, accelerator.is_main_process)
        if pending:
            progress.stage(f"The teacher is answering{again}", self.total, "answers", self.total - len(pending))
        for start in range(0, len(pending), stride):
            if on_any_process(accelerator, stop_requested()):
                return False
            first = start + rank * size
            batch = pending[first : first + size]
            append_jsonl(self.run.path / "samples" / f"{rank}.jsonl", self._answer(teacher, batch))
            if accelerator.is_main_process:
                done = self.total - max(0, len(pending) - start - stride)
                self.run.set_status(message=f"The teacher is answering{again}: {done:,} of {self.total:,}")
                progress.update(done)
                print(f"answers{again} {done}/{self.total}", flush=True)
        return True

    def _answer(self, teacher: Teacher | None, batch: list[int]) -> list[dict]:
        """The checked answers to one batch of samples; none where this process has nothing left to answer."""
        if teacher is None:
            return []
        settings = self.config.model_copy()
        settings.rollout = self.config.rollout.model_copy()
        settings.rollout.max_new_tokens = self.limit
        ids = [self.plan.ids_for(sample) for sample in batch]
        rollouts = teacher_rollouts(teacher, settings, ids, 0, batch)
        asked = [self.prompts[sample // self.plan.samples_per_prompt] for sample in batch]
        records = check_answers(self.config, teacher.tokens, batch, asked, rollouts)
        return [record | {"limit": self.limit} for record in records]


def check_answers(
    config: RunConfig, tokens: TokenBytes, indices: list[int], prompts: list[Prompt], rollouts: list[Rollout]
) -> list[dict]:
    """One record per answer: {"index", "completion", "tokens", "reason"}; no reason for answers that are kept."""

    def record(index: int, prompt: Prompt, rollout: Rollout) -> dict:
        body = rollout.completion_ids[:-1] if rollout.ended else rollout.completion_ids
        text: str | None = None
        try:
            text = tokens.decode(body).decode("utf-8")
            reason = _reason(config, prompt, rollout, text)
        except ValueError:
            reason = "holds special tokens or broken text" if rollout.ended else CUT
        return {"index": index, "completion": text, "tokens": len(body), "reason": reason}

    rows = list(zip(indices, prompts, rollouts, strict=True))
    if not any(checker_of(config, prompt) == "code" for prompt in prompts):
        return [record(*row) for row in rows]
    # each check is a separate process, and this one mostly waits for them
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda row: record(*row), rows))


def _reason(config: RunConfig, prompt: Prompt, rollout: Rollout, text: str) -> str:
    """Why an answer is left out; empty for one to keep."""
    warmup, checker = config.warmup, checker_of(config, prompt)
    if not rollout.ended:
        return CUT
    if not text.strip():
        return "empty"
    length = len(rollout.completion_ids) - 1
    if length < warmup.min_tokens:
        return f"shorter than {warmup.min_tokens} tokens"
    if warmup.max_tokens is not None and length > warmup.max_tokens:
        return f"longer than {warmup.max_tokens} tokens"
    if warmup.max_repetition is not None and repetition(text) > warmup.max_repetition:
        return "repeats itself"
    if check(checker, text, prompt.answer, warmup.allow_code_execution):
        return ""
    return f"failed the {checker} check"


def repetition(text: str, size: int = 32) -> float:
    """The share of an answer's stretches of `size` characters that repeat an earlier one.

    0 for a text without repetition, near 1 for a text that repeats itself in circles. White space counts as one space.
    """
    text = " ".join(text.split())
    stretches = [text[place : place + size] for place in range(len(text) - size + 1)]
    return 1 - len(set(stretches)) / len(stretches) if stretches else 0.0


def read_samples(run: RunFolder, first_limit: int, below: int | None = None) -> list[dict]:
    """Every answer on disk once, by index: the one that was written with the highest limit, or with one below `below`.

    `first_limit`: that of records which do not say theirs.
    """
    records: dict[int, dict] = {}
    for path in sorted((run.path / "samples").glob("*.jsonl")):
        for record in filter(_is_sample, read_jsonl(path)):
            limit, known = _limit(record, first_limit), records.get(record["index"])
            if (below is None or limit < below) and (known is None or limit >= _limit(known, first_limit)):
                records[record["index"]] = record
    return [records[index] for index in sorted(records)]


def _limit(record: dict, first_limit: int) -> int:
    """The most tokens that an answer could have."""
    return record.get("limit", first_limit)


def _is_sample(record: dict) -> bool:
    """Whether a line is an answer: one that is damaged is drawn again."""
    return type(record.get("index")) is int and "completion" in record and isinstance(record.get("reason"), str)
