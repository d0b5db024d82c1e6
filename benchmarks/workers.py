"""The time that a child process adds to reading a tokenizer: the same work in a child and in this process, in turn.

    python -m benchmarks.workers [--models FOLDER ...] [--repeats 7] [--json OUT]

Each model's tokenizer is read from a fresh copy of its folder, so that neither side remembers it, then paired with
itself, and a text is cut by it. "again" is the same with everything remembered: the cost of a request that needs no
reading. Without --models it is the embedded student and one with a vocabulary of 150,000 tokens, as large models have.
Times are wall-clock, the fastest of the repeats; both sides take turns, so that other work falls on both.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from app.reading import models, texts
from app.reading.records import Source
from app.reading.setup import reading_workers
from simct import demo
from simct.workers.child import Worker
from simct.workers.pool import Workers

TEXT = "Say it plainly: the adolescent should purchase documentation expeditiously. " * 40
LARGE = 150_000


def large_student(folder: Path) -> Path:
    """The embedded student with a vocabulary as large as those of large models."""
    shutil.copytree(demo.STUDENT, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    first = 1 + max([*vocabulary.values(), *(token["id"] for token in tokenizer["added_tokens"])])
    vocabulary |= {f"~{number}": first + number for number in range(LARGE - first)}
    file.write_text(json.dumps(tokenizer), encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": LARGE}), encoding="utf-8")
    return folder


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure(workers: Workers, model: Path, scratch: Path, repeats: int) -> dict[str, float]:
    """The minimum seconds of reading the model here and in a child, and of reading it again."""
    times: dict[str, list[float]] = {"here": [], "child": [], "here again": [], "child again": []}
    for number in range(repeats):
        folder = scratch / f"{model.name}-{number}"
        shutil.copytree(model, folder, ignore=shutil.ignore_patterns("*.safetensors"))
        source = Source(model.name, str(folder))
        here = Worker()

        def in_child(source: Source = source) -> object:
            return workers.run(texts.read_text, source, source, TEXT, 12, what="The text", near=source)

        def in_this_process(source: Source = source, here: Worker = here) -> object:
            return texts.read_text(here, source, source, TEXT, 12)

        sides = {"child": in_child, "here": in_this_process}
        for again in ("", " again"):
            # the second one finds more in the processor's caches
            for side in sorted(sides, reverse=number % 2 == 0):
                times[side + again].append(seconds(sides[side]))
    return {name: min(each) for name, each in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, nargs="*", help="folders of models")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    workers = reading_workers()
    began = time.perf_counter()
    workers.run(models.read_pair, *[Source("student", str(demo.STUDENT))] * 2, what="The pair")
    print(f"The first child was ready {time.perf_counter() - began:.1f} s after it was asked for.")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        chosen = options.models or [demo.STUDENT, large_student(scratch / "large")]
        for model in chosen:
            found = measure(workers, model, scratch, options.repeats)
            rows.append({"model": model.name, **found})
    workers.close()
    print(f"{'model':12} {'here':>9} {'child':>9} {'more':>9} {'ratio':>6} {'again, here':>12} {'again, child':>12}")
    for row in rows:
        more = row["child"] - row["here"]
        print(
            f"{row['model']:12} {row['here']:7.3f} s {row['child']:7.3f} s {1000 * more:6.0f} ms "
            f"{row['child'] / row['here']:6.2f} {1000 * row['here again']:9.1f} ms {1000 * row['child again']:9.1f} ms"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
