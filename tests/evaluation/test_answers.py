"""Answer checkers: right and wrong values by the hundred, in the forms in which models write them."""

import importlib.util
import threading
import time

import pytest

from simct.errors import ConfigError
from simct.evaluation.answers import check as checkers
from simct.evaluation.answers.check import answer_matches, check, maths_match, numbers_match, program_in
from simct.evaluation.answers.statements import conclusion, has_reasoning, without_reasoning
from simct.evaluation.sandbox import program as sandbox

MINUS = "\u2212"
GSM8K = (
    "Janet sells 16 - 3 - 4 = <<16-3-4=9>>9 duck eggs a day.\n"
    "She makes 9 * 2 = $<<9*2=18>>18 every day at the farmer\u2019s market.\n#### 18"
)

# (completion, reference) that are right
NUMBERS = [
    # the reference carries its solution
    (GSM8K, GSM8K),
    ("18", GSM8K),
    ("She makes $18 every day.", GSM8K),
    ("The answer is 18.", GSM8K),
    ("\\boxed{18}", GSM8K),
    ("It is 1,200 in all.", "reasoning with 5\n#### 1200"),
    ("1200", "so\n#### 1,200"),
    ("7", "so it is \\boxed{7}"),
    ("7", "Adding 3 and 4, the answer is 7."),
    ("7", "<think>5 or 6?</think>The answer is 7"),
    ("7", "7.0"),
    ("1 234", "1234"),
    ("1 234 km", "1,234"),
    ("7.00", "7"),
    (".5", "0.5"),
    # the last stated answer beats what comes after it
    ("The answer is 18. Let me know if you want 3 more examples!", "18"),
    ("\\boxed{7} since 3 + 4", "7.0"),
    ("\\boxed{18}. I checked it in 2 ways.", "18"),
    ("#### 18\nShe has 16 eggs and 7 are used.", "18"),
    ("**Answer:** 18\n\nThis took 3 steps.", "18"),
    ("**Final Answer**\n\n18\n\nI used 2 rules.", "18"),
    ("### Final Answer:\n$18$ dollars, found in 3 steps", "18"),
    ("Final answer: 18 (see step 2)", "18"),
    ("<answer>18</answer> in 3 steps", "18"),
    ('{"answer": 18, "steps": 3}', "18"),
    ("The answer is 12. Wait, no. The answer is 18. That is 6 more.", "18"),
    ("\\boxed{12} is wrong, so \\boxed{18} it is, not 12", "18"),
    ("The answer to 9 * 2 is 18, which took 2 numbers.", "18"),
    ("The final answer is 16 - 3 - 4 = 9, 9 * 2 = 18.", "18"),
    ("She makes **$18** every day. I hope these 2 steps help!", "18"),
    ("She makes **$18** a day.\n\nThe market opens at 9.", "18"),
    ("She has **2** eggs left and 16 more, so 18 in all.", "18"),
    ("She makes 18 a day. Let me know if you have 2 more questions.", "18"),
    ("The answer is not 20. It is 18.", "18"),
    ("The correct answer is therefore 18 dollars for 9 eggs.", "18"),
    ("The answer is that she makes $18", "18"),
    ("Step 1: 16 - 7 = 9\nStep 2: 9 * 2 = 18", "18"),
    ("#### Step 1\n16 - 7 = 9\n#### Step 2\n9 * 2 = 18", "18"),
    ("Let me see what the answer is:\n\n18", "18"),
    # markup, currency, separators, units
    ("\\boxed{\\$18}", "18"),
    ("\\boxed{18\\text{ dollars}}", "18"),
    ("\\boxed{18 \\, \\mathrm{cm}}", "18"),
    ("\\boxed{\\text{18 dollars}}", "18"),
    ("\\boxed{\\textbf{18}}", "18"),
    ("\\boxed{x = 18}", "18"),
    ("\\[ \\boxed{1{,}200} \\]", "1200"),
    ("\\boxed{1,\\!200}", "1200"),
    ("\\boxed{1\\,200}", "1200"),
    ("\\boxed{12\\,345\\,678}", "12345678"),
    ("1\u202f200", "1200"),
    ("1\u00a0200 people", "1200"),
    ("1'200", "1200"),
    ("1,00,000 rupees", "100000"),
    ("1.234.567", "1234567"),
    ("$1,234.50", "1234.5"),
    ("18,50 €", "18.50 €"),
    ("€18", "18"),
    ("£18.00", "18"),
    ("US$18", "18"),
    ("₹1,500", "1500"),
    ("18 USD", "$18"),
    ("18 dollars", "$18"),
    ("18€", "18"),
    ("**18**", "18"),
    ("`18`", "18"),
    ('"18"', "18"),
    ("'18'.", "18"),
    ("\u201c18\u201d", "18"),
    ("\\(18\\)", "18"),
    ("$18$", "18"),
    ("The answer is $\\boxed{18}$.", "18"),
    ("The answer is: **18**.", "18"),
    ("The answer is **$18$**.", "18"),
    ("18%", "18"),
    ("18\\%", "18%"),
    ("18 percent", "18%"),
    ("90^\\circ", "90"),
    ("90^{\\circ}", "90°"),
    ("The area is 18 cm^2.", "18"),
    ("\\boxed{18\\text{ cm}^2}", "18"),
    ("18 cm\u00b2", "18 cm^2"),
    ("18 square meters", "18 m^2"),
    ("18", "18\\text{ cm}"),
    ("18 cm", "18\\text{ cm}"),
    ("18 eggs", "18"),
    ("18kg", "18"),
    ("\uff11\uff18", "18"),
    ("\u0661\u0668", "18"),
    ("Total: 18/day", "18"),
    # signs
    (f"{MINUS}5", "-5"),
    ("-5", f"{MINUS}5"),
    ("\u20135", "-5"),
    (f"x = {MINUS}5", "-5"),
    ("\\boxed{-5}", "-5"),
    ("-$5", "-5"),
    ("$-5", "-5"),
    (f"the temperature is {MINUS}5°", "-5"),
    ("(-5)", "-5"),
    # fractions, mixed numbers, powers of ten
    ("\\frac{1}{2}", "0.5"),
    ("\\boxed{\\frac{1}{2}}", "1/2"),
    ("\\boxed{\\dfrac{1}{2}}", "\\frac12"),
    ("$\\tfrac12$", "0.5"),
    ("-\\frac{1}{2}", "-0.5"),
    ("\\frac{-1}{2}", "-0.5"),
    ("½", "0.5"),
    ("2½ cups", "2.5"),
    ("2\\frac{1}{2}", "2.5"),
    ("2 1/2", "2.5"),
    ("2 and 1/2", "2.5"),
    ("1/2 cup", "0.5"),
    ("\\boxed{\\frac{3}{4}\\text{ cup}}", "0.75"),
    ("3 \\times 10^{5}", "300000"),
    ("3 × 10^5", "300,000"),
    ("3e5", "300000"),
    # reasoning is left out
    ("<think>Maybe 20? No, 18.</think>18", "18"),
    ("<think>\nThe answer is 20\n</think>\n\nThe answer is 18", "18"),
    ("Maybe 20?</think>18", "18"),
    ("<thinking>20</thinking> 18", "18"),
    ("[THINK]20[/THINK]18", "18"),
    ("◁think▷20◁/think▷18", "18"),
    ("<seed:think>20</seed:think>18", "18"),
    ("<|begin_of_thought|>20<|end_of_thought|>18", "18"),
    ("<think>a</think>18<think>then 20</think>", "18"),
    ("<|channel|>analysis<|message|>It is 20.<|end|><|start|>assistant<|channel|>final<|message|>18<|return|>", "18"),
    ("<|channel|>final<|message|>18", "18"),
    ("analysisIs it 20? No.assistantfinalThe answer is 18.", "18"),
    ("<|channel>thought\nIs it 20?<channel|>18", "18"),
    ("18<|im_end|>", "18"),
]  # fmt: skip

# (completion, reference) that are wrong
NOT_NUMBERS = [
    ("3-5", "-5"),
    ("It is 7, not 8", "7"),
    ("seven", "7"),
    ("", "7"),
    ("17", GSM8K),
    ("The answer is 16.", GSM8K),
    ("The answer is 20. But 18 was close.", "18"),
    ("\\boxed{20} or maybe 18", "18"),
    ("#### 20\n18", "18"),
    ("\\frac{1}{2}", "2"),
    ("\\frac{1}{2}", "1"),
    ("\\boxed{\\frac{1}{2}}", "2"),
    ("\\boxed{\\frac12}", "12"),
    ("1/2", "2"),
    ("The answer is \\frac{1}{2}.", "2"),
    ("It is $\\frac{\\sqrt{3}}{2}$", "2"),
    ("\\boxed{2\\sqrt{3}}", "3"),
    ("\\boxed{2\\sqrt{3}}", "2"),
    ("\\boxed{2x}", "2"),
    ("\\boxed{3x + 2}", "2"),
    ("\\boxed{2\\pi}", "2"),
    ("\\boxed{x^2}", "2"),
    ("2^3", "3"),
    ("the answer is 2√3", "2"),
    ("3:2", "2"),
    (f"{MINUS}5", "5"),
    ("5", "-5"),
    ("1,200", "1"),
    ("1,200", "200"),
    ("1 200 and 3", "200"),
    ("1.5", "5"),
    ("1.200", "1200"),
    ("0.18", "18"),
    ("18 cm", "18\\text{ m}"),
    ("18 cents", "$18"),
    ("18 cm", "18 cm^2"),
    ("2 1/2", "1/2"),
    ("2½", "2"),
    ("18", "180"),
    ("180", "18"),
    ("3 \\times 10^{5}", "5"),
    ("3e5", "3"),
    ("<think>18</think>20", "18"),
    ("<think>The answer is 18", "18"),
    ("<think>18</think>", "18"),
    ("<think>20</think>20<think>18", "18"),
    ("<|channel|>analysis<|message|>It is 18.", "18"),
    ("<|channel|>analysis<|message|>18<|end|><|start|>assistant<|channel|>final<|message|>20", "18"),
    ("analysisIt is 18.assistantfinal20", "18"),
    ("analysisIt is 18", "18"),
    ("<|channel>thought\n18<channel|>20", "18"),
    ("1/0", "1"),
    ("1e999999999", "1"),
    ("9" * 5000, "9"),
    ("Option 18 was rejected, so the answer is 20", "18"),
]  # fmt: skip

CHOICES = [
    *[(said, "B") for said in (
        "B", "(B)", "B.", "B)", "[B]", "b", "(b)", "\\boxed{B}", "\\boxed{\\text{B}}", "\\boxed{\\textbf{(B)}}",
        "\\boxed{\\mathrm{B}}", "$\\boxed{\\text{(B) } 5}$", "**B**", "**(B)**", "**B.**", "`B`", "'B'", '"B"',
        "Answer: B.", "Answer: B", "Answer: (B)", "Answer: **B**", "**Answer:** B", "**Answer: B**",
        "ANSWER: B", "answer - B",
        "Answer:\nB", "**Final Answer**\n\nB", "Answer: B) Paris", "Answer: B. Paris", "The answer is B.",
        "The answer is (B) Paris.", "The answer is: B", "The correct answer is B: Paris", "The correct option is B",
        "The correct choice is (B), because A is too small.", "The best answer is option B.",
        "The answer is choice B",
        "B) Paris", "(B) Paris", "B. Paris", "B: Paris", "B\n\nBecause Paris is the capital, not A.", "B is correct.",
        "B, because A is wrong.", "Option B", "Option B is the correct answer, not A.",
        "(B) is the best answer, not (A).",
        "I would choose B.", "I think the answer is B", "So it must be (B).", "A is wrong. C is wrong. So it's B",
        "The answer is not A. The answer is B.", "<answer>B</answer>", '{"answer": "B"}', "#### B",
        "<think>A or C?</think>B",
        "<|channel|>analysis<|message|>A?<|end|><|start|>assistant<|channel|>final<|message|>**B**",
        "analysisA?assistantfinalB", "\uff22", "The answer is B. Let me know if A is unclear.",
    )],
    *[("B", wanted) for wanted in (
        "(B)", "B.", "B)", "Answer: B", "The answer is (B).", "\\boxed{B}", "**B**", "It is so.\n#### B", "b",
        "B) Paris", "B. Paris"
    )],
    ("Paris", "B) Paris"), ("The answer is Paris.", "(B) Paris"), ("A, C", "A and C"),
    ("The answer is A and C.", "A, C"),
    ("C and A", "A,C"), ("A", "A"), ("The answer is A.", "A"), ("The answer is A", "A"), ("I", "I"), ("(I)", "I"),
]  # fmt: skip

NOT_CHOICES = [
    *[(said, "B") for said in (
        "", "A", "(A)", "Answer: A", "The answer is A, not B.", "A, B", "A or B", "Answer: A/B",
        "Both A and B", "The answer is not B.",
        "<think>B</think>A", "<think>B", "\\boxed{A} and not B", "BC", "Banana", "Because", "Answer: Banana", "Paris",
        "The answer is A. B is wrong.", "The answer is B. No wait, the answer is A.",
        "The answer is A because B is too small",
        "B or C, but the answer is C", "It cannot be B", "Not B",
    )],
    ("The answer is a dog.", "A"), ("I think it is B", "I"), ("a dog", "A"), ("A dog barks.", "A"), ("A", "A, C"),
    ("A, B, C", "A, C"), ("Rome", "B) Paris"), ("C", "B) Paris"), ("I'd say it depends", "I"),
]  # fmt: skip

TEXTS = [
    ("The answer is Paris.", "paris"),
    ("Paris", "Paris"),
    ("paris.", "Paris"),
    ("**Paris**", "Paris"),
    ('"Paris"', "Paris"),
    ("\u201cParis\u201d", '"Paris"'),
    ("\\boxed{\\text{Paris}}", "Paris"),
    ("Answer: Paris", "Paris"),
    ("**Answer:** *Paris*", "Paris"),
    ("It is Paris", "Paris"),
    ("It is Paris. Let me know if you need more.", "Paris"),
    ("The answer is Paris. London is larger.", "Paris"),
    ("Paris", "The capital of France.\nThe answer is Paris"),
    ("Paris", "#### Paris"),
    ("<think>Rome?</think>\n\nParis", "Paris"),
    ("The answer is St. Louis.", "St. Louis"),
    ("New  York\n", "new york"),
    ("Ben can hide the blue table now for 5 days.", "Ben can hide the blue table now for 5 days."),
    ("It is 90 and 60 and 14", "It is 90 and 60 and 14."),
    ("yes", "Yes"),
    ("Yes, it is.", "yes"),
    ("The answer is yes, because it is.", "yes"),
    ("No. It is not.", "no"),
    ("False", "false"),
    ("\\boxed{\\dfrac{\\sqrt{3}}{2}}", "\\frac{\\sqrt{3}}{2}"),
    ("\\boxed{x+1}", "x + 1"),
    ("don\u2019t", "don't"),
    ("3:2", "3:2"),
    ("The ratio is 3:2.", "3:2"),
]

NOT_TEXTS = [
    ("The answer is Paris, France", "paris"),
    ("The answer is London. Some say Paris", "Paris"),
    ("It is not Paris", "Paris"),
    ("Comparis", "paris"),
    ("", "Paris"),
    ("Paris", ""),
    ("<think>Paris</think>", "Paris"),
    ("Ben can hide the blue table now for 6 days.", "Ben can hide the blue table now for 5 days."),
    ("It is 90 and 60 and 14.", "It is 90 and 60 and 15."),
    ("No, that is not a yes", "yes"),
    ("yes", "no"),
    ("\\boxed{x+2}", "x+1"),
    ("2:3", "3:2"),
    ("12 Monkeys", "12 Angry Men"),
]


@pytest.mark.parametrize(("completion", "reference"), NUMBERS)
def test_right_numbers(completion, reference):
    assert check("number", completion, reference)
    assert check("text", completion, reference)


@pytest.mark.parametrize(("completion", "reference"), NOT_NUMBERS)
def test_wrong_numbers(completion, reference):
    assert not check("number", completion, reference)
    assert not check("text", completion, reference)


@pytest.mark.parametrize(("completion", "reference"), [*CHOICES, *TEXTS])
def test_right_choices_and_texts(completion, reference):
    assert check("text", completion, reference)


@pytest.mark.parametrize(("completion", "reference"), [*NOT_CHOICES, *NOT_TEXTS])
def test_wrong_choices_and_texts(completion, reference):
    assert not check("text", completion, reference)


def test_raw_gsm8k_rows_score_what_plain_rows_score():
    completions = [
        "so it is 18.",
        "#### 3",
        "The answer is 70,000.",
        "\\boxed{540}",
        "She needs 20 cups.",
        "I cannot say.",
    ]
    plain = ["18", "3", "70000", "540", "20", "64"]
    raw = [f"Some 2 * 3 = <<2*3=6>>6 steps.\n#### {number}" for number in ("18", "3", "70,000", "540", "20", "64")]
    assert [answer_matches(*each) for each in zip(completions, plain, strict=True)] == [True] * 5 + [False]
    assert [answer_matches(*each) for each in zip(completions, raw, strict=True)] == [True] * 5 + [False]
    for one in raw:
        assert answer_matches(one, one)


def test_conclusions():
    assert conclusion("3 + 4 is\n#### 7") == "7"
    assert conclusion("so \\boxed{\\frac{1}{2}} is it") == "\\frac{1}{2}"
    assert conclusion("first \\boxed{1}, no, \\boxed{2}") == "2"
    assert conclusion("cut off \\boxed{12") == "12"
    assert conclusion("\\boxed{\\left\\{1, 2\\right\\}}") == "\\left\\{1, 2\\right\\}"
    assert conclusion(" plain ") == "plain"


def test_reasoning_is_recognized_and_left_out():
    for text in ("<think>a", "a</think>b", "<|channel|>analysis<|message|>a", "[THINK]a[/THINK]b"):
        assert has_reasoning(text)
    for text in ("a < b > c", "think", "channel", "i think so [1]"):
        assert not has_reasoning(text)
        assert without_reasoning(text) == text
    assert without_reasoning("<|channel|>commentary<|message|>I call a tool.<|end|>") == ""
    assert without_reasoning("<think>a</think>\n\nb<think>c</think>d") == "b d"
    assert without_reasoning("The analysis is final.") == "The analysis is final."


MATH_CASES = [
    ("\\boxed{\\frac{a}{b}}", "a/b"),
    ("\\boxed{\\begin{pmatrix}1\\\\2\\end{pmatrix}}", "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}"),
    ("So it is $\\boxed{\\frac{1}{2}}$.", "0.5"),
    ("x = 3/4", "\\frac{3}{4}"),
    ("\\boxed{2\\sqrt{3}}", "\\sqrt{12}"),
    ("\\boxed{(1,2)}", "(1, 2)"),
    ("The total is 1,200 dollars", "thus\n#### 1200"),
    ("We get\n#### 72", "48 + 24\n#### 72"),
    ("<think>\\boxed{5}</think>\\boxed{\\sqrt{12}}", "We get \\boxed{2\\sqrt{3}}"),
    ("The answer is $x^2 + 2x + 1$.", "(x+1)^2"),
    ("The answer is x^2 + 2x + 1.", "(x+1)^2"),
    ("The answer is \\(\\sqrt{12}\\).", "2\\sqrt{3}"),
    ("#### $\\sqrt{12}$", "\\boxed{2\\sqrt{3}}"),
    ("So the sum is $\\sqrt{12}$", "2\\sqrt{3}"),
    ("3/4 of a cup", "0.75"),
    ("$\\{1, 2\\}$", "\\{2, 1\\}"),
    ("\\boxed{B}", "B"),
    (f"\\boxed{{{MINUS}5}}", "-5"),
    ("\\boxed{18\\text{ cm}}", "18"),
]

NOT_MATH_CASES = [
    ("\\boxed{7}", "#### 8"),
    ("no idea", "5"),
    ("\\boxed{x+1}", "x+2"),
    ("<think>\\boxed{5}</think>\\boxed{6}", "5"),
    ("<think>\\boxed{5}", "5"),
    ("\\boxed{\\frac{1}{2}}", "2"),
    ("\\boxed{A}", "B"),
    ("The answer is 6. I checked 5 cases.", "5"),
]


def test_maths_by_math_verify():
    pytest.importorskip("math_verify")
    for completion, reference in MATH_CASES:
        assert maths_match(completion, reference), (completion, reference)
    for completion, reference in NOT_MATH_CASES:
        assert not maths_match(completion, reference), (completion, reference)


def in_a_thread(completion: str, reference: str) -> bool:
    found = []
    thread = threading.Thread(target=lambda: found.append(maths_match(completion, reference)), daemon=True)
    thread.start()
    thread.join(60)
    return found == [True]


def test_maths_in_a_thread_which_has_no_signals():
    pytest.importorskip("math_verify")
    assert in_a_thread("\\boxed{1/2}", "0.5")
    assert in_a_thread("\\boxed{2\\sqrt{3}}", "\\sqrt{12}")
    assert not in_a_thread("\\boxed{2\\sqrt{3}}", "\\sqrt{13}")


@pytest.mark.parametrize("costly", ["9^{9^{9^{9}}}", "99999999999!", "10^{10^{10}}", "9**9**9**9", "1e999999999"])
def test_an_expression_without_end_does_not_hang(costly):
    began = time.monotonic()
    for checker in ("text", "number"):
        assert not check(checker, f"\\boxed{{{costly}}}", "5")
        assert not check(checker, "5", costly)
    assert time.monotonic() - began < 2
    thread = threading.Thread(target=maths_match, args=(f"\\boxed{{{costly}}}", "5"), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    "text",
    ["(" * 20_000, "<think>" * 20_000, "\\boxed{" * 5_000, "**" * 20_000, "answer is " * 5_000, "1," * 20_000,
     "1 " * 20_000,
     "\\frac{1}{" * 5_000, "\\text{" * 10_000, "A, " * 10_000, "#### 1\n" * 5_000, " " * 50_000,
     "<|channel|>a" * 5_000, f"x{' ' * 50_000}y", f"7{' ' * 50_000}y", "$" * 20_000, "the answer to " * 5_000],
)  # fmt: skip
def test_long_repetitions_are_read_in_a_moment(text):
    began = time.monotonic()
    for checker in ("text", "number"):
        for reference in ("7", "B", "Paris"):
            check(checker, text, reference)
    assert time.monotonic() - began < 6


def test_maths_by_math_verify_ends_in_time():
    pytest.importorskip("math_verify")
    began = time.monotonic()
    assert not maths_match("\\boxed{9^{9^{9^{9}}}}", "5")
    assert time.monotonic() - began < 60


def test_maths_without_math_verify(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert maths_match("so \\boxed{7}", "#### 7")
    assert maths_match("so \\boxed{x + 1}", "x+1")
    assert not maths_match("so \\boxed{x + 1}", "x+2")


def test_what_is_no_number_is_compared_as_it_is_written():
    assert numbers_match("\\boxed{2\\sqrt{3}}", "2\\sqrt{3}")
    assert not numbers_match("7", "seven")
    assert check("none", "anything", None)


def test_programs_are_found():
    assert program_in("x = 1") == "x = 1"
    assert program_in("Here:\n```python\ndef f():\n    pass\n```\nand\n```\n1\n```") == "def f():\n    pass\n"
    assert program_in("```py\nx = 1\n(cut off") == "x = 1\n(cut off"


@pytest.mark.skipif(sandbox.why_unavailable() is not None, reason=f"no sandbox here: {sandbox.why_unavailable()}")
def test_code():
    right = "Sure:\n```python\ndef add(a, b):\n    return a + b\n```\nDone."
    tests = "assert add(1, 2) == 3\nassert add(-1, 1) == 0"
    assert check("code", right, tests, allow_code_execution=True)
    assert check("code", f"<think>\n```python\nx\n```\n</think>{right}", tests, allow_code_execution=True)
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
