"""The code that tests a program on the tests of a competition problem, inside the sandbox. Standard library only.

`livecodebench.py` sends this file's text with a call of `judge` behind it. A program either defines `Solution`, whose
method is called with the arguments that a test lists as JSON, one per line, or reads standard input and prints. Texts
are compared line by line without the spaces around them, and lines of numbers also by value.
"""

import io
import json
import os
import signal
import sys
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from types import CodeType
from typing import Any

# the imports that the sites of these problems put before a program
PREAMBLE = """
import bisect, collections, copy, functools, heapq, itertools, math, operator, random, re, string, sys
from bisect import *
from collections import *
from functools import *
from heapq import *
from itertools import *
from math import *
from typing import *
from builtins import *
"""


def judge(code: str, tests: list[dict], function: str | None, seconds: float) -> None:
    """Raise AssertionError unless `code` passes every test, each {"input", "output"}, within `seconds` of its own."""
    sys.setrecursionlimit(50_000)
    signal.signal(signal.SIGALRM, _too_long)
    program = compile(PREAMBLE + code, "<solution>", "exec")
    method = _method(program, function) if function else None
    for number, test in enumerate(tests, 1):
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            if method:
                right = _called(method, test)
            else:
                right = same_output(_printed(program, test["input"]), test["output"])
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        assert right, f"test {number} of {len(tests)} failed"


def _too_long(number: int, frame: object) -> None:
    raise TimeoutError("a test took too long")


def _method(program: CodeType, function: str) -> Callable[..., Any]:
    scope: dict = {"__name__": "solution"}
    exec(program, scope)
    return getattr(scope["Solution"](), function) if "Solution" in scope else scope[function]


def _called(method: Callable[..., Any], test: dict) -> bool:
    arguments = [json.loads(line) for line in test["input"].split("\n") if line.strip()]
    return json.loads(json.dumps(method(*arguments))) == json.loads(test["output"])


def _printed(program: CodeType, text: str) -> str:
    """What the program prints when it reads `text` from input(), sys.stdin or descriptor 0."""
    with open("input", "wb") as file:
        file.write(text.encode())
    descriptor = os.open("input", os.O_RDONLY)
    if descriptor:  # it is 0 itself where the program before has closed that
        os.dup2(descriptor, 0)
        os.close(descriptor)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 (the program reads it)
    printed, sys.stdout = sys.stdout, io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    try:
        exec(program, {"__name__": "__main__"})
    except SystemExit:
        pass
    finally:
        captured, sys.stdout = sys.stdout, printed
    return captured.buffer.getvalue().decode("utf-8", errors="replace")


def same_output(printed: str, expected: str) -> bool:
    """Whether two outputs agree; see the top of the file."""
    lines, wanted = ([line.strip() for line in text.strip().split("\n")] for text in (printed, expected))
    return len(lines) == len(wanted) and all(map(_same_line, lines, wanted))


def _same_line(line: str, wanted: str) -> bool:
    if line == wanted:
        return True
    try:
        return [Decimal(word) for word in line.split()] == [Decimal(word) for word in wanted.split()]
    except InvalidOperation:
        return False
