"""All prompts of a run in a model's own template: their ids, what the template refuses, and what was changed to fit
it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from simct.data.conversations import with_system
from simct.data.prompts import Prompt, RowCount, reasons
from simct.data.templates import FOLDED, MERGED, UNTOOLED, ids_of, rendering
from simct.errors import DataError, TemplateLosesText
from simct.tokenization.chat_templates import chat_template_of

# A template that loses text of a larger share of the prompts is refused; below that, those prompts are skipped.
MOST_LOST = 0.1
# the notice about a side without a chat template
NO_TEMPLATE = "no template"


@dataclass
class RenderedPrompts:
    """One side's prompts. `ids` is empty for a prompt that the template refuses; `skipped` counts them by reason.

    changes: the rows whose conversations were changed for the template, by templates.MERGED, FOLDED and UNTOOLED.
    """

    side: str
    has_template: bool
    ids: list[list[int]] = field(default_factory=list)
    skipped: dict[str, RowCount] = field(default_factory=dict)
    changes: dict[str, RowCount] = field(default_factory=dict)

    def noticed(self) -> dict[str, str]:
        """What the template changes in the conversations, as a sentence by NO_TEMPLATE and the kind of change."""
        lines = {}
        if not self.has_template:
            lines[NO_TEMPLATE] = f"The {self.side} has no chat template: it reads the prompt as plain text."
        untooled = "has no place for tools, which are" if self.has_template else "does not exist, so tools are"
        words = {
            FOLDED: "has no place for a system text, which is put before the user's",
            MERGED: "refuses two turns of a user in a row, which are joined",
            UNTOOLED: f"{untooled} left out",
        }
        for kind, change in words.items():
            if rows := self.changes.get(kind):
                lines[kind] = f"The {self.side}'s template {change} ({_prompts(rows.count)})."
        return lines

    def notices(self) -> list[str]:
        """The same sentences, for a log or a list."""
        return list(self.noticed().values())

    def losses(self) -> list[str]:
        """A sentence about the prompts that the side cannot read, if there are any."""
        count = sum(each.count for each in self.skipped.values())
        verb = "is" if count == 1 else "are"
        why = reasons(self.skipped)
        return [f"{_prompts(count)} {verb} skipped, which the {self.side} cannot read: {why}."] if count else []


def _prompts(count: int) -> str:
    return "1 prompt" if count == 1 else f"{count:,} prompts"


def render_prompts(
    side: str,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    enable_thinking: bool | None = None,
    system: str | None = None,
) -> RenderedPrompts:
    """Render and tokenize every prompt for one side ("student" or "teacher"); `system` is a text for this side alone.

    Raises DataError where the tokenizer has several templates and none is chosen, and TemplateLosesText where the
    template drops, cuts off or reorders text of more than a tenth of the prompts.
    """
    rendered = RenderedPrompts(side, chat_template_of(tokenizer) is not None)
    lost = RowCount()
    for number, prompt in enumerate(prompts, 1):
        row = prompt.row or number
        try:
            found = rendering(tokenizer, with_system(prompt.messages, system), enable_thinking, prompt.tools)
        except DataError as error:
            rendered.skipped.setdefault(str(error).rstrip("."), RowCount()).add(row)
            rendered.ids.append([])
            if isinstance(error, TemplateLosesText):
                lost.add(row)
                reason = str(error)
            continue
        for change in found.changes:
            rendered.changes.setdefault(change, RowCount()).add(row)
        rendered.ids.append(ids_of(tokenizer, found.text))
    if lost.count > MOST_LOST * len(prompts):
        share = f"{lost.count:,} of {_prompts(len(prompts))}"
        refused = TemplateLosesText(f"{reason} This affects {share}, first in row {lost.row:,}.")
        refused.rows = lost.rows
        raise refused
    return rendered
