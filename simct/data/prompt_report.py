"""A report on prompts before a run: their lengths for both models, and possible problems."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from simct.config.sections import DataConfig
from simct.data.held_out import PromptSplit, has_own_source, split_prompts
from simct.data.prompts import Prompt
from simct.data.rendering import NO_TEMPLATE, RenderedPrompts, render_prompts
from simct.data.selection import Duplicates, has_allowed_length, row_ranges
from simct.data.templates import FOLDED
from simct.errors import DataError, TemplateLosesText
from simct.tokenization.pair import TokenizerPair

SIDES = ("student", "teacher")


@dataclass(frozen=True)
class Finding:
    """A problem or a warning about the prompts before a run, in one sentence.

    problem: whether it stops or shrinks a run. change: what to set in `data` of run.yaml to solve it,
    which usually leaves prompts out; rows of exclude_rows are added to the present ones. setting: the setting to look
    at if nothing can be left out.
    """

    text: str
    problem: bool = False
    change: dict[str, Any] = field(default_factory=dict)
    setting: str | None = None


@dataclass(frozen=True)
class PromptReport:
    """Counts over the prompts. `lengths` are in tokens of each side, None for a prompt that cannot be rendered.

    room: the most tokens that a prompt may have. trained_rows: the rows that a run would train on. held_out: how many
    prompts it holds out. filtered: how many prompts data.min_tokens and data.max_tokens leave out. duplicates, similar:
    how many repeat an earlier prompt, exactly, and apart from case and spacing.
    """

    prompts: int
    duplicates: int
    similar: int
    answers: int
    room: int
    lengths: dict[str, list[int | None]]
    findings: list[Finding] = field(default_factory=list)
    trained_rows: list[int] = field(default_factory=list)
    held_out: int = 0
    filtered: int = 0

    @property
    def problems(self) -> list[str]:
        """What will stop or shrink a run."""
        return [each.text for each in self.findings if each.problem]

    @property
    def warnings(self) -> list[str]:
        """What is worth knowing."""
        return [each.text for each in self.findings if not each.problem]

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt that leaves room for its completion, on either side; 0 if there is none."""
        return max((length for length in self._longer() if length <= self.room), default=0)

    @property
    def too_long(self) -> int:
        """How many prompts leave no room for a completion, on either side."""
        return sum(length > self.room for length in self._longer())

    def _longer(self) -> list[int]:
        """The longer of both lengths for every prompt that both sides can read."""
        return [max(both) for both in self.both_lengths() if both]

    def both_lengths(self) -> list[tuple[int, int] | None]:
        """(student, teacher) length of every prompt; None for one that a side cannot read."""
        student, teacher = (self.lengths[side] for side in SIDES)
        return [(s, t) if s is not None and t is not None else None for s, t in zip(student, teacher, strict=True)]


def describe_prompts(
    prompts: list[Prompt],
    pair: TokenizerPair,
    room: int,
    enable_thinking: tuple[bool | None, bool | None] = (None, None),
    teacher_system: str | None = None,
    data: DataConfig | None = None,
) -> PromptReport:
    """Render and tokenize every prompt for both models. `room` is the most tokens a prompt may have.

    teacher_system: a system text that only the teacher reads. data: the settings that the prompts were read with, for
    what a run trains on and holds out; held-out prompts from a separate source are not looked at.
    """
    data = data or DataConfig(held_out=0)
    lengths: dict[str, list[int | None]] = {}
    findings: list[Finding] = []
    for side, tokens, thinking in zip(SIDES, (pair.student, pair.teacher), enable_thinking, strict=True):
        try:
            rendered = render_prompts(
                side, tokens.tokenizer, prompts, thinking, teacher_system if side == "teacher" else None
            )
        except TemplateLosesText as error:
            lengths[side] = [None] * len(prompts)
            line = f"The run cannot start: {error}"
            findings.append(_about_rows(line, True, error.rows, prompts, f"{side}.model"))
            continue
        lengths[side] = [len(ids) or None for ids in rendered.ids]
        rows = [row for skipped in rendered.skipped.values() for row in skipped.rows]
        findings += [_about_rows(line, True, rows, prompts, f"{side}.model") for line in rendered.losses()]
        own = teacher_system if side == "teacher" else None
        findings += [_changed_by_template(kind, rendered, prompts, own or "", data) for kind in rendered.noticed()]
    report = PromptReport(
        prompts=len(prompts),
        duplicates=_repeated(prompts, "exact"),
        similar=_repeated(prompts, "normalized"),
        answers=sum(prompt.answer is not None for prompt in prompts),
        room=room,
        lengths=lengths,
        findings=findings,
    )
    report = replace(report, **_used(report, prompts, data))
    return replace(report, findings=[*findings, *_counted_findings(report, data)])


def _repeated(prompts: Sequence[Prompt], kind: str) -> int:
    duplicates = Duplicates(kind)
    return sum(duplicates.again(prompt.messages, prompt.tools) for prompt in prompts)


def _used(report: PromptReport, prompts: Sequence[Prompt], data: DataConfig) -> dict[str, Any]:
    """What a run trains on and holds out, as fields of the report."""
    both = report.both_lengths()
    allowed = [lengths is not None and has_allowed_length(data, lengths) for lengths in both]
    filtered = sum(lengths is not None and not fits for lengths, fits in zip(both, allowed, strict=True))
    try:
        split = PromptSplit(list(prompts), []) if has_own_source(data) else split_prompts(prompts, data)
    except DataError:
        return {"filtered": filtered}
    trained = set(map(id, split.trained))
    rows = [
        prompt.row or number
        for number, (prompt, lengths, fits) in enumerate(zip(prompts, both, allowed, strict=True), 1)
        if id(prompt) in trained and lengths and fits and max(lengths) <= report.room
    ]
    return {"trained_rows": rows, "held_out": len(split.held_out), "filtered": filtered}


def _counted_findings(report: PromptReport, data: DataConfig) -> list[Finding]:
    """Prompts that are too long beyond data.max_tokens, and prompts that occur more than once."""
    findings = []
    both = [each for each in report.both_lengths() if each and has_allowed_length(data, each)]
    if too_long := sum(max(each) > report.room for each in both):
        line = f"{_counted(too_long)} longer than the {report.room:,} tokens that leave room for an answer; "
        change = {"max_tokens": report.room} if report.room > 0 else {}
        findings.append(Finding(f"{line}these are left out.", True, change, "rollout.max_new_tokens"))
    if report.duplicates:
        again = "is there" if report.duplicates == 1 else "are there"
        line = f"{_counted(report.duplicates)} {again} more than once, and will be answered each time."
        findings.append(Finding(line, False, {"deduplicate": "exact"}))
    if similar := report.similar - report.duplicates:
        line = f"{_counted(similar)} {'differs' if similar == 1 else 'differ'} from another only in case or spacing."
        findings.append(Finding(line, False, {"deduplicate": "normalized"}))
    return findings


def _changed_by_template(
    kind: str, rendered: RenderedPrompts, prompts: Sequence[Prompt], side_system: str, data: DataConfig
) -> Finding:
    """What a side's template changes. `side_system` is the system text that this side alone reads."""
    line, model = rendered.noticed()[kind], f"{rendered.side}.model"
    if kind == NO_TEMPLATE:
        return Finding(line, setting=model)
    if kind == FOLDED and side_system:
        return Finding(line, setting=f"{rendered.side}.system")
    if kind == FOLDED and data.system and any(_system_of(prompt) == data.system for prompt in prompts):
        return Finding(line, change={"system": ""})
    return _about_rows(line, False, rendered.changes[kind].rows, prompts, model)


def _system_of(prompt: Prompt) -> str | None:
    first = prompt.messages[0]
    return first["content"] if first["role"] == "system" else None


def _about_rows(line: str, problem: bool, rows: Sequence[int], prompts: Sequence[Prompt], setting: str) -> Finding:
    """A finding with the change that excludes its rows, or with `setting` where nothing would be left."""
    change = {"exclude_rows": row_ranges(rows)} if 0 < len(rows) < len(prompts) else {}
    return Finding(line, problem, change, setting)


def _counted(count: int) -> str:
    return "1 prompt" if count == 1 else f"{count:,} prompts"
