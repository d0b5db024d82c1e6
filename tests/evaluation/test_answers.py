"""Answer checkers: numbers, mathematics, tests of code."""

import importlib.util
import threading

import pytest

from simct.errors import ConfigError
from simct.evaluation import answers as checkers
from simct.evaluation.answers import check, conclusion, maths_match, numbers_match, program_in
from simct.evaluation.sandbox import program as sandbox


def test_conclusions():
    assert conclusion("3 + 4 is\n#### 7") == "7"
    assert conclusion("so \\boxed{\\frac{1}{2}} is it") == "\\frac{1}{2}"
    assert conclusion("first \\boxed{1}, no, \\boxed{2}") == "2"
    assert conclusion("cut off \\boxed{12") == "12"
    assert conclusion(" plain ") == "plain"


def test_numbers():
    assert numbers_match("He has 3 and buys 4, so 1,200 in all.", "reasoning with 5\n#### 1200")
    assert numbers_match("\\boxed{7} since 3 + 4", "7.0")
    assert not numbers_match("It is 7, not 8", "7")
    assert not numbers_match("seven", "7")
    assert not numbers_match("7", "seven")


def test_text_and_none():
    assert check("none", "anything", None)
    assert check("text", "The answer is Paris.", "paris")
    assert not check("text", "The answer is Paris, France", "paris")


EQUAL = [
    ("So it is $\\boxed{\\frac{1}{2}}$.", "0.5"),
    ("x = 3/4", "\\frac{3}{4}"),
    ("\\boxed{2\\sqrt{3}}", "\\sqrt{12}"),
    ("\\boxed{(1,2)}", "(1, 2)"),
    ("The total is 1,200 dollars", "thus\n#### 1200"),
    ("We get\n#### 72", "48 + 24\n#### 72"),
]


def test_maths_by_math_verify():
    pytest.importorskip("math_verify")
    for completion, reference in EQUAL:
        assert maths_match(completion, reference), (completion, reference)
    assert not maths_match("\\boxed{7}", "#### 8")
    assert not maths_match("no idea", "5")
    assert not maths_match("\\boxed{x+1}", "x+2")


def test_maths_in_a_thread_which_has_no_signals():
    pytest.importorskip("math_verify")
    found = []
    thread = threading.Thread(target=lambda: found.append(maths_match("\\boxed{1/2}", "0.5")))
    thread.start()
    thread.join()
    assert found == [True]


def test_maths_without_math_verify(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert maths_match("so \\boxed{7}", "#### 7")
    assert maths_match("so \\boxed{x + 1}", "x+1")
    assert not maths_match("so \\boxed{x + 1}", "x+2")


def test_programs_are_found():
    assert program_in("x = 1") == "x = 1"
    assert program_in("Here:\n```python\ndef f():\n    pass\n```\nand\n```\n1\n```") == "def f():\n    pass\n"
    assert program_in("```py\nx = 1\n(cut off") == "x = 1\n(cut off"


@pytest.mark.skipif(sandbox.why_unavailable() is not None, reason=f"no sandbox here: {sandbox.why_unavailable()}")
def test_code():
    right = "Sure:\n```python\ndef add(a, b):\n    return a + b\n```\nDone."
    tests = "assert add(1, 2) == 3\nassert add(-1, 1) == 0"
    assert check("code", right, tests, allow_code_execution=True)
    assert not check("code", right.replace("+", "-"), tests, allow_code_execution=True)
    assert not check("code", "```python\nimport os; os._exit(0)\n```", tests, allow_code_execution=True)


def test_what_is_refused(monkeypatch):
    def never(*arguments):
        raise AssertionError("code was run without permission")

    monkeypatch.setattr(checkers, "run_program", never)
    with pytest.raises(ConfigError, match="--allow-code-execution"):
        check("code", "x = 1", "assert x")
    with pytest.raises(ConfigError, match="There is no checker 'vibes'"):
        check("vibes", "", "")
    with pytest.raises(ConfigError, match="reference answer"):
        check("number", "1", None)
