"""A report on prompts before a run: their lengths for both models, and possible problems."""

from dataclasses import dataclass, field

from simct.data.prompts import Prompt
from simct.data.rendering import render_prompts
from simct.errors import TemplateLosesText
from simct.tokenization.pair import TokenizerPair

SIDES = ("student", "teacher")


@dataclass(frozen=True)
class PromptReport:
    """Counts over the prompts. `lengths` are in tokens of each side, None for a prompt that cannot be rendered.

    `problems` will stop or shrink a run, `warnings` are good to know; both are sentences.
    """

    prompts: int
    duplicates: int
    answers: int
    room: int
    lengths: dict[str, list[int | None]]
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt that leaves room for its completion, on either side; 0 if there is none."""
        return max((length for length in self._longer() if length <= self.room), default=0)

    @property
    def too_long(self) -> int:
        """How many prompts leave no room for a completion, on either side."""
        return sum(length > self.room for length in self._longer())

    def _longer(self) -> list[int]:
        """The greater of the two lengths, for every prompt that both sides can read."""
        student, teacher = (self.lengths[side] for side in SIDES)
        return [max(s, t) for s, t in zip(student, teacher, strict=True) if s is not None and t is not None]


def describe_prompts(
    prompts: list[Prompt],
    pair: TokenizerPair,
    room: int,
    enable_thinking: tuple[bool | None, bool | None] = (None, None),
    teacher_system: str | None = None,
) -> PromptReport:
    """Render and tokenize every prompt for both models. `room` is the most tokens a prompt may have.

    teacher_system: a system text that only the teacher reads.
    """
    lengths: dict[str, list[int | None]] = {}
    problems: list[str] = []
    warnings: list[str] = []
    for side, tokens, thinking in zip(SIDES, (pair.student, pair.teacher), enable_thinking, strict=True):
        try:
            rendered = render_prompts(
                side, tokens.tokenizer, prompts, thinking, teacher_system if side == "teacher" else None
            )
        except TemplateLosesText as error:
            lengths[side] = [None] * len(prompts)
            problems.append(f"The run cannot start: {error}")
            continue
        lengths[side] = [len(ids) or None for ids in rendered.ids]
        problems.extend(rendered.losses())
        warnings.extend(rendered.notices())
    report = PromptReport(
        prompts=len(prompts),
        duplicates=len(prompts) - len({str((prompt.messages, prompt.tools)) for prompt in prompts}),
        answers=sum(prompt.answer is not None for prompt in prompts),
        room=room,
        lengths=lengths,
        problems=problems,
        warnings=warnings,
    )
    if report.too_long:
        problems.append(
            f"{_counted(report.too_long)} longer than the {room:,} tokens that leave room for an answer; "
            "these are left out."
        )
    if report.duplicates:
        again = "is there" if report.duplicates == 1 else "are there"
        warnings.append(f"{_counted(report.duplicates)} {again} more than once, and will be answered as often.")
    return report


def _counted(count: int) -> str:
    return "1 prompt" if count == 1 else f"{count:,} prompts"
