"""The data of a warm-up: which of the teacher's answers are kept, as a dataset, and that dataset in student tokens."""

import json
from collections import Counter
from pathlib import Path

from simct.config import RunConfig, local_path
from simct.data.prompts import Prompt
from simct.data.templates import prompt_ids
from simct.errors import DataError
from simct.files import read_jsonl, write_atomically
from simct.runs.folder import RunFolder
from simct.tokenization.token_bytes import TokenBytes
from simct.training.fine_tuning import Example

DATA_FILE = "train.jsonl"
# the reason of an answer that reached the limit of its length
CUT = "did not end"


def checker_of(config: RunConfig, prompt: Prompt) -> str:
    """The checker for the answers to a prompt: its row's own checker, else the warm-up's."""
    return prompt.checker or config.warmup.checker


def write_dataset(run: RunFolder, config: RunConfig, prompts: list[Prompt], records: list[dict], too_long: int) -> None:
    """Write data/train.jsonl (messages, reference, source) and a README that says how it was made.

    The same answer to one prompt is kept once, and with `warmup.keep: shortest` only one. Raises DataError when no
    answer is kept, or when most prompts have none because their answers were cut: the rest would be the short ones.
    """
    reasons = Counter({"prompt too long": too_long} if too_long else {})
    kept = _kept(config, records, reasons)
    if not kept:
        raise DataError(
            f"None of the teacher's {len(records)} answers was kept{in_brackets(reasons)}. Raise "
            "warmup.max_new_tokens, or choose another warmup.checker."
        )
    _check_lengths(config, records, kept, len(prompts) - too_long)
    print(f"{len(kept)} of {len(records)} answers kept{in_brackets(reasons)}", flush=True)
    lines = []
    for record in kept:
        place, sample = divmod(record["index"], config.warmup.samples_per_prompt)
        prompt = prompts[place]
        line = {
            "messages": [*prompt.messages, {"role": "assistant", "content": record["completion"]}],
            "reference": prompt.answer,
            "prompt": place,
            "sample": sample,
            "teacher": _public(config.teacher.model),
            "checker": checker_of(config, prompt),
        }
        if prompt.tools:
            line["tools"] = list(prompt.tools)
        lines.append(json.dumps(line, ensure_ascii=False))
    folder = run.path / "data"
    folder.mkdir(exist_ok=True)
    counts = {"kept": len(lines), "sampled": len(records), "left_out": dict(reasons)}
    write_atomically(folder / "warmup.json", json.dumps(counts, indent=1) + "\n")
    write_atomically(folder / "README.md", _card(config, len(lines), len(records), reasons))
    write_atomically(folder / DATA_FILE, "\n".join(lines) + "\n")


def _kept(config: RunConfig, records: list[dict], reasons: Counter[str]) -> list[dict]:
    """The answers to learn from, in order; `reasons` counts why the others are left out."""
    per_prompt, seen, kept = config.warmup.samples_per_prompt, set(), []
    for record in records:
        known = (record["index"] // per_prompt, record["completion"])
        if record["reason"] or known in seen:
            reasons[record["reason"] or "same answer again"] += 1
            continue
        seen.add(known)
        kept.append(record)
    if config.warmup.keep == "all":
        return kept
    shortest: dict[int, dict] = {}
    for record in kept:
        place = record["index"] // per_prompt
        if place not in shortest or _length(record) < _length(shortest[place]):
            shortest[place] = record
    if len(shortest) < len(kept):
        reasons["longer than another answer that is kept"] += len(kept) - len(shortest)
    return list(shortest.values())


def _length(record: dict) -> int:
    """Tokens of an answer; its characters if an earlier version did not record them."""
    return record.get("tokens", len(record["completion"] or ""))


def _check_lengths(config: RunConfig, records: list[dict], kept: list[dict], prompts: int) -> None:
    """Raise DataError if most prompts have no answer because all of theirs were cut."""
    per_prompt = config.warmup.samples_per_prompt
    answered = {record["index"] // per_prompt for record in kept}
    cut = {record["index"] // per_prompt for record in records if record["reason"] == CUT} - answered
    if 2 * len(cut) > prompts:
        longest = max(record.get("limit", config.warmup.max_new_tokens) for record in records)
        raise DataError(
            f"Only {len(answered)} of {prompts} prompts have an answer: those to {len(cut)} were cut at up to "
            f"{longest:,} tokens, and from the rest the student would learn to answer briefly. Raise "
            "warmup.max_new_tokens, or warmup.retry_budget and training.max_length."
        )


def in_brackets(reasons: Counter) -> str:
    if not reasons:
        return ""
    return f" (left out: {', '.join(f'{count} {reason}' for reason, count in reasons.most_common())})"


def _public(name: str) -> str:
    """A Hub id unchanged; only the last part of a local path, because paths reveal something about a machine."""
    path = local_path(name)
    return name if path is None else path.resolve().name


def _card(config: RunConfig, kept: int, sampled: int, reasons: Counter) -> str:
    teacher, source = json.dumps(_public(config.teacher.model)), json.dumps(_public(config.data.prompts))
    shortest = ", of which the shortest is kept" if config.warmup.keep == "shortest" else ""
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
{config.warmup.samples_per_prompt} a prompt, checker `{config.warmup.checker}`{shortest}.

{left_out and "Left out:" + chr(10) + chr(10) + left_out}
Columns: `messages` (the conversation with the answer), `reference`, `prompt` and `sample` (indices), `teacher`,
`checker`. The licenses of the teacher and of the prompts apply.
"""


def load_examples(
    folder: Path, tokens: TokenBytes, config: RunConfig, context: int | None = None
) -> tuple[list[Example], Counter]:
    """The dataset in the student's template and tokens, and how many rows are left out by reason.

    `context`: the most tokens that the student reads, if known.

    Raises DataError if all are.
    """
    examples: list[Example] = []
    left_out: Counter[str] = Counter()
    longest = config.training.longest([context])
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
        if len(prompt) + len(completion) > longest:
            left_out["too long for the student"] += 1
            continue
        examples.append(Example(prompt, completion))
    if not examples:
        raise DataError(
            f"No answer in {str(folder)!r} fits the student{in_brackets(left_out)}. Raise training.max_length."
        )
    return examples, left_out
