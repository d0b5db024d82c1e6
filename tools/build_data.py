"""The data preset: ten thousand prompts, half math and half code, from datasets on the Hub.

    python -m tools.build_data [--output data/maths_code_10k.jsonl] [--size 10000] [--seed 0]

Each line has `prompt`, `answer`, `kind` ("maths" or "code"), `checker` ("maths", or "none" for code, whose answers are
programs and not tests) and `source`. Every source contributes its share, drawn by the seed; if one has too few prompts,
the others of its kind contribute more. A prompt that occurs in several sources is kept once. Only training splits are
read, so the test problems of GSM8K, MATH, MBPP and HumanEval stay unseen.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simct.config.sections import DataConfig
from simct.data.prompts import load_prompts
from simct.errors import DataError, SimCTError
from simct.files import write_atomically


@dataclass(frozen=True)
class Source:
    """A data set, where its prompts and answers are, and its share among the sources of its kind."""

    dataset: str
    kind: str
    share: float
    column: str
    answer_column: str
    config_name: str | None = None
    split: str = "train"


SOURCES = (
    Source("openai/gsm8k", "maths", 0.5, "question", "answer", "main"),
    Source("microsoft/orca-math-word-problems-200k", "maths", 0.5, "question", "answer"),
    Source("google-research-datasets/mbpp", "code", 0.1, "text", "code", "full"),
    Source("iamtarun/python_code_instructions_18k_alpaca", "code", 0.9, "instruction", "output"),
)


CHECKER_OF = {"maths": "maths", "code": "none"}


def build(size: int, seed: int = 0, sources: tuple[Source, ...] = SOURCES, token: str | None = None) -> list[dict]:
    """`size` rows, half of each kind, in an order drawn by `seed`. Raises DataError if the sources have too few."""
    kinds = sorted({source.kind for source in sources})
    rows: list[dict] = []
    for place, kind in enumerate(kinds):
        wanted = size * (place + 1) // len(kinds) - size * place // len(kinds)
        rows += _of_kind(kind, wanted, seed, [source for source in sources if source.kind == kind], token)
    order = _generator(seed, 1).permutation(len(rows))
    return [rows[index] for index in order]


def _of_kind(kind: str, wanted: int, seed: int, sources: list[Source], token: str | None) -> list[dict]:
    """`wanted` rows of a kind: each source's share first, then more of any source."""
    chosen: list[dict] = []
    spare: list[dict] = []
    seen: set[str] = set()
    for number, source in enumerate(sources):
        prompts = load_prompts(
            DataConfig(
                prompts=source.dataset,
                split=source.split,
                config_name=source.config_name,
                column=source.column,
                answer_column=source.answer_column,
            ),
            token,
        )
        fresh = []
        for index in _generator(seed, 2, number).permutation(len(prompts)):
            prompt = prompts[index]
            key = " ".join(prompt.text.split()).lower()
            if key not in seen:
                seen.add(key)
                row = {"prompt": prompt.text, "answer": prompt.answer, "kind": kind, "checker": CHECKER_OF[kind]}
                fresh.append(row | {"source": source.dataset})
        share = round(wanted * source.share)
        chosen += fresh[:share]
        spare += fresh[share:]
    if len(chosen) + len(spare) < wanted:
        raise DataError(
            f"The sources of kind {kind!r} hold {len(chosen) + len(spare):,} different prompts, {wanted:,} were asked "
            "for. Ask for fewer with --size."
        )
    order = _generator(seed, 3).permutation(len(spare))
    return (chosen + [spare[index] for index in order])[:wanted]


def _generator(*seeds: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(list(seeds))))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Build the math and code prompts from datasets on the Hub.")
    parser.add_argument("--output", type=Path, default=Path("data/maths_code_10k.jsonl"))
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        rows = build(options.size, options.seed)
    except SimCTError as error:
        print(f"build_data: {error}", file=sys.stderr)
        return 2
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.output, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    for source in SOURCES:
        print(f"{sum(row['source'] == source.dataset for row in rows):6,} {source.kind:6} {source.dataset}")
    print(f"written: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
