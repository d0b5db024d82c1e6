"""Tokens per second from sampled student ids to teacher ids and aligned units, compared with TRL's GOLD on the same
input.

    python -m benchmarks.alignment [--teacher A --student B] [--text FILE] [--tokens 32768] [--json OUT]

Both start from a student's sampled ids and end with the groups of tokens that spell the same bytes. TRL (1.16.0,
optional: pip install --no-deps trl==1.16.0) takes byte-level tokenizers only: it derives the student's offsets token by
token, re-encodes the decoded text with encode_with_byte_offsets, and walks both lists; groups are compared with ours.
Without --teacher and --student the pairs are the real tokenizers of the tests (requirements-test-tokenizers.txt).
Times are the process time of the fastest of five runs, so that other work on the machine matters less.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from simct.tokenization.pair import TokenizerPair
from simct.tokenization.units import build_units

REPEATS = 5


def best_of(run: Callable[[], object]) -> tuple[float, object]:
    """Seconds of the fastest of REPEATS runs, and the last result."""
    best, result = float("inf"), None
    for _ in range(REPEATS):
        start = time.process_time()
        result = run()
        best = min(best, time.process_time() - start)
    return best, result


def sample_text(path: str | None, tokens: int) -> str:
    """A file, or the standard library's source, long enough for `tokens` student tokens."""
    if path:
        return Path(path).read_text("utf-8")
    folder = Path(argparse.__file__).parent
    text = "".join(file.read_text("utf-8") for file in sorted(folder.glob("*.py"))[:120])
    return (text * (1 + 8 * tokens // len(text)))[: 8 * tokens]


def measure(pair: TokenizerPair, text: str, tokens: int) -> dict:
    """Time each stage on the first `tokens` student ids of `text`."""
    student_ids = pair.student.encode(text.encode())[:tokens]
    backend = getattr(pair.teacher.tokenizer, "backend_tokenizer", None)
    encode, teacher = best_of(lambda: pair.teacher_ids_for(student_ids))
    kept = student_ids[: teacher.n_student]
    align, units = best_of(lambda: pair.align(teacher.ids, kept))
    index, _ = best_of(lambda: build_units(pair, [(teacher.ids, kept)]))
    row = {
        "student_tokens": len(kept),
        "teacher_tokens": len(teacher.ids),
        "units": len(units),
        "seconds_teacher_ids": encode,
        "seconds_align": align,
        "seconds_index": index,  # build_units: alignment and index tensors
        "tokens_per_second": len(kept) / (encode + align),
        "align_tokens_per_second": len(kept) / align,
        "align_share_of_encoding": align / encode,
        "index_share_of_encoding": index / encode,
    }
    return row | trl_row(pair, backend, kept, units)


def trl_row(pair: TokenizerPair, backend, student_ids: list[int], units) -> dict:
    """The same with TRL, or the reason why it is absent."""
    warnings.filterwarnings("ignore")
    try:
        from trl.experimental.gold.gold_trainer import ULDLoss
        from trl.experimental.utils import encode_with_byte_offsets, piece_byte_len
    except ImportError as error:
        return {"trl": f"absent ({error}): pip install --no-deps trl==1.16.0"}
    tokenizer = pair.student.tokenizer

    def student_offsets() -> list[tuple[int, int]]:
        offsets, cursor = [], 0
        for token_id in student_ids:
            length = piece_byte_len(tokenizer.convert_ids_to_tokens([token_id])[0])
            offsets.append((cursor, cursor + length))
            cursor += length
        return offsets

    def teacher() -> list:
        text = tokenizer.decode(student_ids, clean_up_tokenization_spaces=False)
        return encode_with_byte_offsets(backend, [text])[0][1]

    try:
        encode, teacher_offsets = best_of(teacher)
    except Exception as error:
        return {"trl": f"refused: {error}"}
    offsets_seconds, own_offsets = best_of(student_offsets)
    walk, (student_groups, _) = best_of(lambda: ULDLoss._align_by_byte_offsets(own_offsets, teacher_offsets))
    align = offsets_seconds + walk
    ends = np.array([group[-1] + 1 for group in student_groups])
    return {
        "trl": "ran",
        "trl_seconds_teacher_ids": encode,
        "trl_seconds_align": align,
        "trl_tokens_per_second": len(student_ids) / (encode + align),
        "trl_align_tokens_per_second": len(student_ids) / align,
        "trl_same_groups": bool(np.array_equal(ends, units.student_end)),
    }


def pairs(teacher: str | None, student: str | None) -> list[tuple[str, Callable[[], TokenizerPair]]]:
    if teacher and student:
        return [(f"{teacher} > {student}", lambda: TokenizerPair.from_pretrained(teacher, student))]
    from tests.support import real_tokenizers as real

    return [
        ("Qwen2.5 > Llama-3", lambda: TokenizerPair.from_pretrained(real.qwen25(), real.llama3())),
        ("DeepSeek > Qwen2.5", lambda: TokenizerPair.from_pretrained(real.deepseek(), real.qwen25())),
        ("Qwen2.5 > Mistral-v1", lambda: TokenizerPair.from_pretrained(real.qwen25(), real.mistral_v1())),
        ("Mistral-v1 > Qwen2.5", lambda: TokenizerPair.from_pretrained(real.mistral_v1(), real.qwen25())),
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher")
    parser.add_argument("--student")
    parser.add_argument("--text", help="a UTF-8 file; the standard library's source without it")
    parser.add_argument("--tokens", type=int, nargs="+", default=[2_048, 32_768, 100_000])
    parser.add_argument("--json", default="benchmarks/alignment.json")
    options = parser.parse_args(arguments)
    text = sample_text(options.text, max(options.tokens))
    rows = []
    heads = (
        f"{'encode s':>10}{'align s':>9}{'index s':>9}{'tok/s':>11}{'TRL tok/s':>11}{'TRL align s':>13}  same groups"
    )
    print(f"{'teacher > student':<22}{'tokens':>8}{heads}")
    for name, build in pairs(options.teacher, options.student):
        build()  # loads the tokenizers
        ready, pair = best_of(build)
        for tokens in options.tokens:
            row = {"pair": name, "seconds_pair_ready": ready, **measure(pair, text, tokens)}
            rows.append(row)
            other = f"  {row['trl'][:60]}"
            if row["trl"] == "ran":
                times = f"{row['trl_tokens_per_second']:>11,.0f}{row['trl_seconds_align']:>13.4f}"
                other = f"{times}  {row['trl_same_groups']}"
            print(
                f"{name:<22}{row['student_tokens']:>8,}{row['seconds_teacher_ids']:>10.4f}{row['seconds_align']:>9.4f}"
                f"{row['seconds_index']:>9.4f}{row['tokens_per_second']:>11,.0f}{other}"
            )
    Path(options.json).write_text(json.dumps(rows, indent=1))
    print(f"Written to {options.json}", file=sys.stderr)


if __name__ == "__main__":
    main()
