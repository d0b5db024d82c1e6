"""Whether a completion is right, for warm-up data and for scores.

none    everything passes
text    the same text, number or choice; the reference may be the last words
number  the stated number equals the reference's
maths   the expressions are equal as math-verify reads them; without that package, as numbers or texts
code    the reference is Python tests, which the program in the completion must pass in the sandbox

Completion and reference are reduced in the same way: reasoning is left out, and what is stated last counts ("#### 72",
\\boxed{72}, "the answer is 72"), so that references may carry their solution.
"""

import importlib.util
import logging
import re
import threading

from simct.config.sections import CHECKERS
from simct.errors import ConfigError
from simct.evaluation.answers.choices import choices, labeled_choice, stated_choices
from simct.evaluation.answers.numbers import quantity, stated_number
from simct.evaluation.answers.statements import conclusion, without_reasoning
from simct.evaluation.answers.texts import same_text, squeezed, states_text
from simct.evaluation.sandbox.program import DEFAULT_LIMITS, Limits, run_program

FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
# longer expressions are not answers, and a computer algebra system might never finish them
MAX_EXPRESSION = 4000
# expressions that can take a computer algebra system forever: only evaluated with a time limit
_COSTLY = re.compile(r"\^|\*\*|!|\d[eE]\d|\\(?:sum|prod|int|lim|binom)")

# texts with an expression that is found by its markup or position; other texts are expressions themselves
_MATHS_OR_PROSE = re.compile(r"\$|\\[(\[]|[A-Za-z]{2}")


def check(
    checker: str,
    completion: str,
    reference: str | None,
    allow_code_execution: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> bool:
    """Whether `completion` passes `checker` against `reference`.

    Raises ConfigError for an unknown checker, for a missing reference, and for code without `allow_code_execution`;
    RunError if this machine cannot confine code.
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


def answer_matches(completion: str, reference: str) -> bool:
    """Whether a completion gives `reference`, compared as a choice, a number or a text, whichever the reference is."""
    said, wanted = without_reasoning(completion), conclusion(reference)
    if same_text(said, wanted):
        return True
    letters, labeled = choices(wanted), labeled_choice(wanted)
    if letters or labeled:
        right = stated_choices(said) == (letters or frozenset(labeled[0] if labeled else ""))
        return right or bool(labeled and states_text(said, labeled[1]))
    number = quantity(wanted)
    if number is not None:
        found = stated_number(said)
        return found is not None and found.agrees(number)
    return states_text(said, wanted) or _same_expression(said, wanted)


def numbers_match(completion: str, reference: str) -> bool:
    """Whether the number that the completion gives as its answer is the reference's."""
    wanted = stated_number(without_reasoning(reference))
    if wanted is None:
        return _same_expression(without_reasoning(completion), conclusion(reference))
    found = stated_number(without_reasoning(completion))
    return found is not None and found.agrees(wanted)


def maths_match(completion: str, reference: str) -> bool:
    """Whether two answers are equal as mathematics: by math-verify if it is installed, else as numbers or texts."""
    completion, wanted = without_reasoning(completion), conclusion(reference)
    said = conclusion(completion)
    if choices(wanted) and "/" not in wanted:  # a/b is a fraction
        return answer_matches(completion, reference)
    if _same_expression(completion, wanted) or numbers_match(completion, reference):
        return True
    if importlib.util.find_spec("math_verify") is None or max(len(wanted), len(said)) > MAX_EXPRESSION:
        return False
    # its time limits use signals, which only work in the main thread
    main = threading.current_thread() is threading.main_thread()
    if not main and any(map(_COSTLY.search, (wanted, said))):
        return False
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # without a limit it would warn at each call
    limits = {} if main else {"parsing_timeout": None}

    def read(text: str) -> list:
        marked = _MATHS_OR_PROSE.search(re.sub(r"\\[a-zA-Z]+", "", text))
        return (parse(text, **limits) if marked else []) or parse(f"${text}$", **limits) or parse(text, **limits)

    return bool(verify(read(wanted), read(said), **({} if main else {"timeout_seconds": None})))


def program_in(completion: str) -> str:
    """The Python in a completion: its longest fenced block, or the text itself."""
    completion = without_reasoning(completion)
    blocks = FENCE.findall(completion)
    return max(blocks, key=len) if blocks else completion


def _same_expression(said: str, wanted: str) -> bool:
    return bool(squeezed(wanted)) and squeezed(conclusion(said)) == squeezed(wanted)
