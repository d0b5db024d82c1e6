"""Whether a completion is right, for warm-up data and for scores.

none    everything passes
text    the same text, the same last number, or the reference as the last words
number  the last number (or the boxed one) equals the reference's
maths   the expressions are equal as math-verify reads them; without that package, as `number`
code    the reference is Python tests, which the program in the completion must pass in the sandbox

References may carry their reasoning: GSM8K's "…#### 72" and a \\boxed{…} are read as what they conclude.
"""

import importlib.util
import re
import threading

from simct.config.sections import CHECKERS
from simct.errors import ConfigError
from simct.evaluation.sandbox.program import DEFAULT_LIMITS, Limits, run_program

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
# expressions longer than this are no answers, and could keep a computer algebra system busy for ever
MAX_EXPRESSION = 4000


def check(
    checker: str,
    completion: str,
    reference: str | None,
    allow_code_execution: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> bool:
    """Whether `completion` passes `checker` against `reference`.

    Raises ConfigError for an unknown checker, for a missing reference, and for code without `allow_code_execution`;
    RunError where this machine cannot confine code.
    """
    if checker not in CHECKERS:
        raise ConfigError(f"There is no checker {checker!r}. Choose one of {', '.join(CHECKERS)}.")
    if checker == "none":
        return True
    if reference is None:
        raise ConfigError(
            f"The checker {checker!r} needs a reference answer for every prompt. Name data.answer_column."
        )
    if checker == "text":
        return answer_matches(completion, reference)
    if checker == "number":
        return numbers_match(completion, reference)
    if checker == "maths":
        return maths_match(completion, reference)
    if not allow_code_execution:
        raise ConfigError(
            "The checker 'code' runs what a model wrote, in a sandbox. Permit it with --allow-code-execution."
        )
    return run_program(f"{program_in(completion)}\n\n{reference}\n", limits).passed


def answer_matches(completion: str, answer: str) -> bool:
    """Whether a completion gives `answer`: the same text, the same last number, or the answer as its last words."""
    said, wanted = " ".join(completion.split()).lower().rstrip(" ."), " ".join(answer.split()).lower().rstrip(" .")
    if said == wanted:
        return True
    if NUMBER.fullmatch(wanted):
        return _last_number(said) == _value(wanted)
    return bool(re.search(rf"(?<!\w){re.escape(wanted)}$", said)) if wanted else False


def numbers_match(completion: str, reference: str) -> bool:
    """Whether the completion's number is the reference's: the boxed one if there is one, else the last."""
    wanted = _last_number(conclusion(reference))
    return wanted is not None and _last_number(conclusion(completion)) == wanted


def maths_match(completion: str, reference: str) -> bool:
    """Whether two answers are equal as mathematics: by math-verify where it is installed, else as numbers or texts."""
    wanted, said = conclusion(reference), conclusion(completion)
    if importlib.util.find_spec("math_verify") is None or max(len(wanted), len(said)) > MAX_EXPRESSION:
        return numbers_match(completion, reference) or _squeezed(said) == _squeezed(wanted)
    from math_verify import parse, verify

    # its time limits are signals, which only the main thread can have
    main = threading.current_thread() is threading.main_thread()
    limits = {} if main else {"parsing_timeout": None}
    gold = parse(f"${wanted}$", **limits) or parse(wanted, **limits)
    answer = parse(said if "####" in completion else completion, **limits) or parse(f"${said}$", **limits)
    return bool(verify(gold, answer, **({} if main else {"timeout_seconds": None})))


def conclusion(text: str) -> str:
    """What a worked answer concludes: the text after the last "####", else in the last \\boxed{}, else all of it."""
    if "####" in text:
        return text.rsplit("####", 1)[1].strip()
    start = text.rfind("\\boxed{")
    if start < 0:
        return text.strip()
    depth, begin = 1, start + len("\\boxed{")
    for position in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[begin:position].strip()
    return text[begin:].strip()


def program_in(completion: str) -> str:
    """The Python in a completion: its longest fenced block, or the text itself."""
    blocks = FENCE.findall(completion)
    return max(blocks, key=len) if blocks else completion


def _last_number(text: str) -> float | None:
    numbers = NUMBER.findall(text)
    return _value(numbers[-1]) if numbers else None


def _value(number: str) -> float:
    return float(number.replace(",", ""))


def _squeezed(text: str) -> str:
    return re.sub(r"\s|\\!|\\,|\\left|\\right", "", text)
