"""LiveCodeBench's problems, from a small file of the same shape on the loopback Hub, run in the sandbox."""

import base64
import json
import os
import pickle
import zlib

import pytest

from simct import demo
from simct.config.evaluation import EvaluationConfig
from simct.config.sections import ModelConfig
from simct.errors import ConfigError, DataError
from simct.evaluation import livecodebench
from simct.evaluation.livecodebench import load_problems
from simct.evaluation.sandbox import program
from simct.evaluation.sandbox.judge import same_output
from simct.evaluation.task_names import is_own_task
from simct.evaluation.tasks import check_tasks, evaluate_loaded
from simct.models.loading import load_model
from simct.tokenization.model_tokens import load_tokens
from tests.support.hub_server import HubServer

sandboxed = pytest.mark.skipif(program.why_unavailable() is not None, reason=f"no sandbox: {program.why_unavailable()}")
SUM = {"question_content": "Read two numbers. Print their sum.", "starter_code": "", "metadata": "{}"}
TWICE = {
    "question_content": "Return twice every number.",
    "starter_code": "class Solution:\n    def twice(self, numbers: List[int], times: int) -> List[int]:\n        ",
    "metadata": json.dumps({"func_name": "twice"}),
}


def packed(tests) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


def row(about: dict, public: list, private: str) -> dict:
    tests = [{"input": given, "output": wanted, "testtype": "stdin"} for given, wanted in public]
    return about | {"public_test_cases": json.dumps(tests), "private_test_cases": private}


ROWS = [
    row(SUM, [("1 2\n", "3\n")], packed([{"input": "-4 4", "output": "0"}, {"input": "2.5 1", "output": "3.50"}])),
    row(TWICE, [("[1, 2]\n2", "[2, 4]")], json.dumps([{"input": "[]\n2", "output": "[]"}])),
]


@pytest.fixture
def problems_on_hub(monkeypatch):
    def put(rows: list[dict]) -> None:
        """Each row in a file of its own, and the last files empty."""
        texts = [json.dumps(each) + "\n" for each in rows] + [""] * (len(livecodebench.FILES) - len(rows))
        files = {name: text.encode() for name, text in zip(livecodebench.FILES, texts, strict=True)}
        hub.add_dataset(livecodebench.REPOSITORY, files=files)

    with HubServer() as hub:
        hub.use(monkeypatch)
        yield put


def test_problems_are_read_with_their_private_tests(problems_on_hub):
    problems_on_hub(ROWS)
    first, second = load_problems()
    assert [test["output"].strip() for test in first.tests] == ["3", "0", "3.50"] and first.function is None
    assert second.function == "twice" and len(second.tests) == 2 and "def twice" in second.prompt.text
    assert "standard input" in first.prompt.text and len(load_problems(1)) == 1


class Harmful:
    def __reduce__(self):
        return os.getenv, ("HOME",)


@pytest.mark.parametrize(
    "private",
    ["%%%", "aGVsbG8=", base64.b64encode(zlib.compress(pickle.dumps(Harmful()))).decode(), packed({"input": 1}), "[7]"],
)
def test_private_tests_that_are_not_tests_are_one_line(problems_on_hub, private):
    problems_on_hub([row(SUM, [], private)])
    with pytest.raises(DataError, match=r"Line 1 of test\.jsonl"):
        load_problems()


def test_a_bomb_of_tests_is_refused(problems_on_hub, monkeypatch):
    monkeypatch.setattr(livecodebench, "MOST_BYTES_OF_TESTS", 10_000)
    problems_on_hub([row(SUM, [], packed([{"input": "1" * 100_000, "output": ""}]))])
    with pytest.raises(DataError, match="tests"):
        load_problems()


def test_a_missing_dataset_is_one_line(problems_on_hub):
    with pytest.raises(DataError, match="There is no dataset"):
        load_problems()


def fenced(code: str) -> str:
    return f"Here it is:\n```python\n{code}\n```\nIt works."


READERS = (
    "a, b = map(float, input().split())\nprint(a + b)",
    "import sys\nprint(sum(map(float, sys.stdin.read().split())))",
    "import sys\nprint(sum(float(each) for each in sys.stdin.buffer.read().split()))\nsys.exit(0)",
    "print(sum(map(float, open(0).read().split())))",
    "def main():\n    print(sum(map(float, input().split())))\nif __name__ == '__main__':\n    main()",
)
WRONG = (
    "print(3)",
    "print(input())",
    "while True: pass",
    "raise SystemExit",
    "this is not Python",
    "import socket\nsocket.socket()",
    "print(pow(2, 3, 5))",
)


@sandboxed
@pytest.mark.parametrize("code", READERS)
def test_programs_that_read_standard_input(problems_on_hub, code):
    problems_on_hub(ROWS)
    assert load_problems(1)[0].solved_by(fenced(code))


@sandboxed
def test_wrong_programs_do_not_count(problems_on_hub, monkeypatch):
    monkeypatch.setattr(livecodebench, "TEST_SECONDS", 0.5)
    problems_on_hub(ROWS)
    problem = load_problems(1)[0]
    assert [code for code in WRONG if problem.solved_by(fenced(code))] == []
    assert not problem.solved_by("I do not know.") and not problem.solved_by(f"<think>{fenced(READERS[0])}")
    assert not problem.solved_by(fenced(READERS[0]) + fenced(WRONG[0]))


@sandboxed
def test_methods_are_called_with_what_a_test_lists(problems_on_hub):
    problems_on_hub(ROWS)
    problem = load_problems()[1]
    head = "class Solution:\n    def twice(self, numbers: List[int], times: int) -> List[int]:\n        return "
    assert problem.solved_by(fenced(head + "[times * number for number in numbers]"))
    assert problem.solved_by(fenced(head + "tuple(times * number for number in numbers)"))
    assert not problem.solved_by(fenced(head + "numbers"))
    assert not problem.solved_by(fenced("class Other: pass"))


@pytest.mark.parametrize(
    ("printed", "expected", "same"),
    [
        ("1 2 \n3\n\n", "1 2\n3", True),
        ("1.50", "1.5", True),
        ("YES", "yes", False),
        ("1\n2", "1 2", False),
        ("1 2", "1 2 3", False),
        ("", "", True),
        ("nan", "0", False),
    ],
)
def test_outputs_are_compared_by_line_and_value(printed, expected, same):
    assert same_output(printed, expected) is same


def test_it_needs_permission_and_is_a_task_of_ours():
    assert is_own_task(livecodebench.TASK)
    with pytest.raises(ConfigError, match="allow-code-execution"):
        check_tasks(EvaluationConfig(tasks=[livecodebench.TASK]))


@sandboxed
def test_a_model_is_scored_on_it(problems_on_hub, monkeypatch):
    problems_on_hub(ROWS)
    model = str(demo.STUDENT)
    settings = EvaluationConfig(tasks=[livecodebench.TASK], allow_code_execution=True, max_new_tokens=8)
    monkeypatch.setattr(livecodebench.Problem, "solved_by", lambda self, completion: self.function is not None)
    scores = evaluate_loaded(load_model(ModelConfig(model=model)).eval(), load_tokens(model, None), settings)
    found = scores[livecodebench.TASK]
    assert found["score"] == 0.5 and found["outcomes"] == [0, 1] and found["n"] == 2
