"""LiveCodeBench: problems of programming competitions, scored by running what the model wrote (arXiv 2403.07974).

The task `livecodebench_v6` is release v6: the six files of livecodebench/code_generation_lite on the Hub, 1,055
problems, of which the last file has the newest 175. A problem is solved if the program passes all its tests, public and
private, in the sandbox. The prompt is our own and the answer is greedy, so scores are comparable with each other, and
only roughly with those of other harnesses.
"""

import base64
import binascii
import io
import json
import pickle
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from simct.data.prompts import Prompt
from simct.errors import DataError, SimCTError
from simct.evaluation.answers.check import FENCE
from simct.evaluation.answers.statements import without_reasoning
from simct.evaluation.sandbox.program import Limits, check_can_confine, needs_permission, run_program
from simct.hub.errors import hub_error

TASK = "livecodebench_v6"
REPOSITORY = "livecodebench/code_generation_lite"
FILES = ("test.jsonl", "test2.jsonl", "test3.jsonl", "test4.jsonl", "test5.jsonl", "test6.jsonl")
JUDGE = Path(__file__).with_name("sandbox") / "judge.py"
# one test may take this long, as in the benchmark's own harness
TEST_SECONDS = 6.0
LIMITS = Limits(seconds=120.0, cpu_seconds=110, memory_mb=4096)
MOST_BYTES_OF_TESTS = 1 << 29


@dataclass(frozen=True)
class Problem:
    """A problem. function: the method to call; None reads standard input. file, start: where its line is in the data.

    Its tests are read when they are needed, because the tests of all problems together take gigabytes.
    """

    question: str
    starter: str
    function: str | None
    file: Path
    start: int

    @property
    def tests(self) -> list[dict[str, str]]:
        """Public, then private tests, each {"input", "output"}."""
        with open(self.file, "rb") as file:
            file.seek(self.start)
            return _tests(json.loads(file.readline()))

    @property
    def prompt(self) -> Prompt:
        """What the model is asked."""
        if self.function:
            ask = f"Complete this code. Keep its names and arguments.\n\n```python\n{self.starter}\n```"
        else:
            ask = "The program reads from standard input and prints its answer to standard output."
        text = (
            "Solve this problem with a Python program that is correct and fast enough for every test.\n\n"
            f"{self.question}\n\n{ask}\n\nGive the whole program in one block that starts with ```python."
        )
        return Prompt(({"role": "user", "content": text},))

    def solved_by(self, completion: str) -> bool:
        """Whether the last program in `completion` passes every test. Raises RunError where nothing can be run."""
        blocks = FENCE.findall(without_reasoning(completion))
        if not blocks:
            return False
        call = json.dumps([blocks[-1], self.tests, self.function, TEST_SECONDS])
        return run_program(f"{JUDGE.read_text(encoding='utf-8')}\n\njudge(*json.loads({call!r}))\n", LIMITS).passed


def check_livecodebench(allow_code_execution: bool) -> None:
    """Raise ConfigError unless the task may run what the model wrote, and can."""
    if not allow_code_execution:
        raise needs_permission(TASK)
    check_can_confine(TASK)


def load_problems(samples: int | None = None) -> list[Problem]:
    """The first `samples` problems, or all. Raises HubError or DataError (one line)."""
    problems = list(islice(_problems(), samples))
    if not problems:
        raise DataError(f"{REPOSITORY} has no problems.")
    return problems


def _problems() -> Iterator[Problem]:
    """One file after another, so that files without a requested problem are not downloaded."""
    from huggingface_hub import hf_hub_download

    for name in FILES:
        try:
            path = hf_hub_download(REPOSITORY, name, repo_type="dataset")
        except Exception as error:
            raise hub_error(error, REPOSITORY, kind="dataset") from error
        start = 0
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield _problem(json.loads(line), Path(path), start)
                except SimCTError:
                    raise
                except (ValueError, KeyError, TypeError, RecursionError) as error:
                    reason = f"{error!r:.80}"
                    raise DataError(f"Line {number} of {name} in {REPOSITORY} is not a problem: {reason}.") from error
                start += len(line)


def _problem(row: dict[str, Any], file: Path, start: int) -> Problem:
    _tests(row)  # unreadable tests end the evaluation before a model has answered
    function = json.loads(row.get("metadata") or "{}").get("func_name") or None
    return Problem(str(row["question_content"]), str(row.get("starter_code") or ""), function, file, start)


def _tests(row: dict[str, Any]) -> list[dict[str, str]]:
    tests = json.loads(row["public_test_cases"]) + _private_tests(row["private_test_cases"])
    return [{"input": str(test["input"]), "output": str(test["output"])} for test in tests]


def _private_tests(text: str) -> list[dict[str, Any]]:
    """The tests in JSON, or in JSON that was pickled, compressed and written in base64."""
    if text.lstrip().startswith("["):
        return json.loads(text)
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.b64decode(text, validate=True), MOST_BYTES_OF_TESTS)
        if unpacker.unconsumed_tail:
            raise DataError(f"A problem of {REPOSITORY} has more than {MOST_BYTES_OF_TESTS >> 20} MB of tests.")
        return json.loads(_OnlyText(io.BytesIO(data)).load())
    except (binascii.Error, zlib.error, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"its private tests cannot be read ({error})") from error


class _OnlyText(pickle.Unpickler):
    """Reads a pickled text and nothing else, because a pickle can name any function to call."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}")
