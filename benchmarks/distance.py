"""The cost of an evaluation of the distance, compared with the bare passes that it needs.

    python -m benchmarks.distance [--answers 64] [--tokens 128] [--teacher T --student S --prompts P] [--json OUT]

An evaluation lets the student write an answer to every prompt, lets both models read these answers, and lets the
student read the teacher's kept answers. Bare is the same work with nothing around it: transformers' `generate` of the
same prompts in the same batches with a key-value cache, and forward passes of the same ids, with logits of the rows
that predict an answer's tokens. Both write as many tokens as the longest answer of a batch has, at temperature 1. The
fastest of several repetitions counts, in wall-clock time. The goal is at most 1.3 times the bare passes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import GenerationConfig

from simct import demo
from simct.config.sections import DataConfig, ModelConfig
from simct.data.prompts import load_prompts
from simct.data.templates import prompt_ids
from simct.evaluation.distance import (
    Speaker,
    distance_from,
    draw_some,
    even_batches,
    log_probabilities,
    readings,
)
from simct.losses.head import Head
from simct.models.decoding import left_pad
from simct.models.loading import device_for_training, hidden_rows, load_model
from simct.tokenization.model_tokens import load_tokens
from simct.tokenization.pair import TokenizerPair

BATCH = 50
READ = 32
REPEATS = 3


def fastest(work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return best


@torch.no_grad()
def bare_writing(speaker: Speaker, written: dict[int, list[int]]) -> None:
    order = sorted(range(len(speaker.prompts)), key=lambda index: len(speaker.prompts[index]))
    for some in even_batches(order, BATCH):
        tokens = max(len(written[index]) for index in some if index in written)
        ids_BL, mask_BL = left_pad([speaker.prompts[index] for index in some], speaker.pad_id, speaker.model.device)
        speaker.model.generate(
            input_ids=ids_BL,
            attention_mask=mask_BL,
            generation_config=GenerationConfig(
                max_new_tokens=tokens, min_new_tokens=tokens, do_sample=True, top_k=0, pad_token_id=speaker.pad_id
            ),
        )


@torch.no_grad()
def bare_reading(speaker: Speaker, completions: dict[int, list[int]]) -> None:
    head = Head.of(speaker.model)
    order = sorted(completions, key=lambda index: len(speaker.prompts[index]) + len(completions[index]))
    for some in even_batches(order, READ):
        ids = [completions[index] for index in some]
        hidden_RH, _ = hidden_rows(speaker.model, [speaker.prompts[index] for index in some], ids, speaker.pad_id)
        log_p_RV = head.logits(hidden_RH).log_softmax(-1)
        log_p_RV.gather(1, torch.tensor([token for each in ids for token in each], device=log_p_RV.device)[:, None])


def measure(teacher: str, student: str, prompts: str, answers: int, tokens: int) -> dict:
    device = device_for_training()
    read = load_prompts(DataConfig(prompts=prompts, limit=answers))
    sides = {}
    for name in (student, teacher):
        loaded, known = load_model(ModelConfig(model=name), device).eval(), load_tokens(name)
        sides[name] = Speaker(loaded, known, [prompt_ids(known.tokenizer, prompt.messages) for prompt in read])
    writer, reader = sides[student], sides[teacher]
    pair = TokenizerPair(teacher=reader.tokens, student=writer.tokens)
    reverse = TokenizerPair(teacher=writer.tokens, student=reader.tokens)
    indices = range(len(read))
    theirs = readings(reverse, draw_some(reader, indices, tokens, 0, BATCH))
    own = log_probabilities(reader, theirs.written, READ)
    found = readings(pair, draw_some(writer, indices, tokens, 0, BATCH))

    def evaluation() -> None:
        written = readings(pair, draw_some(writer, indices, tokens, 0, BATCH))
        first = log_probabilities(writer, written.written, READ), log_probabilities(reader, written.read, READ)
        distance_from(written, *first)
        distance_from(theirs, own, log_probabilities(writer, theirs.read, READ))

    def bare() -> None:
        bare_writing(writer, found.written)
        bare_reading(writer, found.written)
        bare_reading(reader, found.read)
        bare_reading(writer, theirs.read)

    seconds = {"evaluation": fastest(evaluation), "bare passes": fastest(bare)}
    return {
        "teacher": Path(teacher).name, "student": Path(student).name, "device": str(device), "answers": len(read),
        "tokens": tokens, "tokens_written": sum(map(len, found.written.values())), **seconds,
        "ratio": seconds["evaluation"] / seconds["bare passes"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default=str(demo.TEACHER))
    parser.add_argument("--student", default=str(demo.STUDENT))
    parser.add_argument("--prompts", default=str(demo.EVAL))
    parser.add_argument("--answers", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--json", metavar="OUT")
    options = parser.parse_args()
    row = measure(options.teacher, options.student, options.prompts, options.answers, options.tokens)
    print(f"evaluation {row['evaluation']:.2f} s, bare passes {row['bare passes']:.2f} s: {row['ratio']:.2f} times")
    if options.json:
        Path(options.json).write_text(json.dumps(row, indent=1) + "\n")


if __name__ == "__main__":
    main()
