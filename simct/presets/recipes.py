"""Recipes: presets with what they need and what to expect, each number with its source.

`hours` and `cost` are this package's own estimates (simct.estimate.time_and_cost) for the machine, at its list price
and without scored tasks; tests/test_recipes.py computes them again. Results are quoted only where they were measured.
"""

from dataclasses import dataclass

PAPER = "https://arxiv.org/abs/2605.07711"
PAPER_SAYS = (
    "The paper reports consistent gains over matching shared tokens, on mathematics and code. This project has "
    "not repeated the experiment: docs/reproduce.md explains how."
)
UNPUBLISHED = "Unknown: no result for this pair is quoted here. The run scores it before and after on 200 problems."
GSM8K = "GSM8K, 7,473 problems"
MATHS_AND_CODE = "10,000 problems of mathematics and code, built by python -m tools.build_data"


@dataclass(frozen=True)
class Recipe:
    """A preset as a gallery shows it.

    prompts: how many the estimate counts. machine: its name in simct.estimate.machines, or cpu. gpu: the name to show.
    hours, cost (US dollars): estimates; None where they depend on the visitor's own machine. source: who says what to
    expect, with its address on the web if it has one.
    """

    preset: str
    data: str
    prompts: int
    machine: str
    gpu: str
    hours: float | None
    cost: float | None
    expected: str
    source: str
    address: str | None = None


RECIPES = (
    Recipe(
        "demo-cpu", "embedded prompts, 2,000", 2000, "cpu", "any CPU", None, 0.0,
        "From 50% to 99.8% of exact answers, mean of three seeds. Both models are toys.", "simct/demo/README.md",
    ),
    Recipe("gpu-16gb", GSM8K, 7473, "t4", "one T4, 16 GB", 0.97, 0.39, UNPUBLISHED, "not measured"),
    Recipe("gpu-24gb", GSM8K, 7473, "l4", "one L4, 24 GB", 1.36, 1.09, UNPUBLISHED, "not measured"),
    Recipe("gpu-80gb", GSM8K, 7473, "a100", "one A100, 80 GB", 1.05, 2.63, UNPUBLISHED, "not measured"),
    *(
        Recipe(
            preset, MATHS_AND_CODE, 10_000, "h200", "one H200, 141 GB", hours, cost, PAPER_SAYS, "arXiv 2605.07711",
            PAPER,
        )
        for preset, hours, cost in (
            ("phi-4-mini-to-gemma-2-2b", 14.5, 72.7),
            ("qwen2.5-7b-to-gemma-2-2b", 15.1, 75.3),
            ("qwen2.5-7b-to-phi-4-mini", 18.9, 94.7),
        )
    ),
)  # fmt: skip
