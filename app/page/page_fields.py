"""The fields of the page by the settings of run.yaml, so that a message about a setting can lead to its field."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape

from simct.hub.redact import SET_KEY

# what a visitor does about a key that is missing or refused; SET_KEY is for the command
_ENTER_KEY = "Enter it on the Pair step, under “Key of the server”."
_NAME = re.compile(r"\b[a-z]+(?:_[a-z]+)*\.[a-z]+(?:_[a-z]+)*\b")


@dataclass(frozen=True)
class Field:
    """A field of the page: its label, its id, its step, and its folded group, if it is in one."""

    label: str
    elem_id: str
    step: str = "train"
    group: str = ""

    def button(self) -> str:
        """A button that leads to the field (static/checklist.js)."""
        place = f'data-field="{escape(self.elem_id)}" data-step="{self.step}" data-group="{escape(self.group)}"'
        return f'<button type="button" class="to-field" {place}>Go to {escape(self.label)}</button>'


@dataclass(frozen=True)
class PageFields:
    """The fields of the page, by setting."""

    by_setting: Mapping[str, Field]

    def get(self, setting: str | None) -> Field | None:
        return self.by_setting.get(setting or "")

    def with_own(self, own: "PageFields") -> "PageFields":
        """These fields, with those of a part of the page that has fields of its own for the same settings."""
        return PageFields({**self.by_setting, **own.by_setting})

    def in_labels(self, text: str, here: str = "") -> str:
        """`text` with the labels of fields instead of the names that they have in run.yaml.

        With the step that it is read on, `here`, a field on another step is named with its step.
        """

        def labeled(name: re.Match[str]) -> str:
            found = self.get(name[0])
            if found is None:
                return name[0]
            return f"“{found.label}”" + (
                f" on the {found.step.capitalize()} step" if here not in ("", found.step) else ""
            )

        return _NAME.sub(labeled, text.replace(SET_KEY, _ENTER_KEY))

    def named_in(self, text: str) -> Iterator[Field]:
        """The fields of the settings that `text` names, in the same order."""
        for name in dict.fromkeys(_NAME.findall(text)):
            if name in self.by_setting:
                yield self.by_setting[name]
