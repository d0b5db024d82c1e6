"""What is known about prompts before a run: their lengths for both models, and what may go wrong with them."""

from collections import Counter
from dataclasses import dataclass, field

import jinja2

from simct.data.prompts import Prompt
from simct.data.templates import prompt_ids
from simct.errors import DataError
from simct.tokenization.pair import TokenizerPair

SIDES = ("student", "teacher")


@dataclass(frozen=True)
class PromptReport:
    """Counts over the prompts looked at. `lengths` are in tokens of each side, None where a prompt cannot be rendered.

    `problems` are what will stop or shrink a run, `warnings` what is worth knowing; both are sentences.
    """

    prompts: int
    empty: int
    duplicates: int
    answers: int
    room: int
    lengths: dict[str, list[int | None]]
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt that leaves room for its completion, on either side; 0 without one."""
        both = zip(*(self.lengths[side] for side in SIDES), strict=True)
        return max((max(pair) for pair in both if None not in pair and max(pair) <= self.room), default=0)

    @property
    def too_long(self) -> int:
        both = zip(*(self.lengths[side] for side in SIDES), strict=True)
        return sum(max(length or 0 for length in pair) > self.room for pair in both)


def system_handling(tokenizer, messages) -> str:
    """What the template makes of a system text: "none given", "kept", "folded" into a user's, "dropped", "refused"."""
    if not messages or messages[0]["role"] != "system":
        return "none given"
    if not tokenizer.chat_template:
        return "refused"
    try:
        text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    except jinja2.TemplateError:
        return "folded"
    return "kept" if messages[0]["content"].strip() in text else "dropped"


def describe_prompts(
    prompts: list[Prompt],
    pair: TokenizerPair,
    room: int,
    empty: int = 0,
    enable_thinking: tuple[bool | None, bool | None] = (None, None),
) -> PromptReport:
    """Render and tokenize every prompt for both models. `room` is the most tokens a prompt may have."""
    sides = dict(zip(SIDES, (pair.student.tokenizer, pair.teacher.tokenizer), strict=True))
    lengths: dict[str, list[int | None]] = {side: [] for side in SIDES}
    refused: Counter = Counter()
    for (side, tokenizer), thinking in zip(sides.items(), enable_thinking, strict=True):
        for prompt in prompts:
            try:
                lengths[side].append(len(prompt_ids(tokenizer, prompt.messages, thinking)))
            except DataError as error:
                lengths[side].append(None)
                refused[side, str(error)] += 1
    report = PromptReport(
        prompts=len(prompts),
        empty=empty,
        duplicates=len(prompts) - len({str(prompt.messages) for prompt in prompts}),
        answers=sum(prompt.answer is not None for prompt in prompts),
        room=room,
        lengths=lengths,
    )
    report.problems.extend(f"{_counted(count)} stop the run: {told}" for (_, told), count in refused.items())
    if report.too_long:
        report.problems.append(
            f"{_counted(report.too_long)} longer than the {room:,} tokens that leave room for an answer; "
            "these are left out."
        )
    report.warnings.extend(_warnings(prompts, sides, report))
    return report


def _counted(count: int) -> str:
    return "1 prompt" if count == 1 else f"{count:,} prompts"


def _warnings(prompts: list[Prompt], sides: dict, report: PromptReport) -> list[str]:
    told = []
    if report.empty:
        told.append(f"{report.empty:,} empty {'row is' if report.empty == 1 else 'rows are'} left out.")
    if report.duplicates:
        again = "is there" if report.duplicates == 1 else "are there"
        told.append(f"{_counted(report.duplicates)} {again} more than once, and will be answered as often.")
    with_system = next((prompt for prompt in prompts if prompt.messages[0]["role"] == "system"), None)
    for side, tokenizer in sides.items():
        if not tokenizer.chat_template:
            told.append(f"The {side} has no chat template: it reads the prompt as plain text.")
        elif with_system:
            handling = system_handling(tokenizer, with_system.messages)
            if handling == "folded":
                told.append(f"The {side}'s template takes no system text: it is put before the user's.")
            elif handling == "dropped":
                told.append(f"The {side}'s template drops the system text: the {side} never reads it.")
    return told
