"""Results of checks as typed records: OK, a warning, or a problem, with what to do about it."""

import re
from dataclasses import dataclass, field, replace

from simct import errors
from simct.config import RunConfig
from simct.errors import SimCTError
from simct.records import ABSENT, Record
from simct.setting import every_setting

OK, WARNING, PROBLEM = "ok", "warning", "problem"
# an entry of a list, such as teachers[0].model, is a setting of the list
_SETTING = re.compile(r"^([a-z_]+(?:\.[a-z_]+)?)(?:\[\d+\][\w.]*)?(?: is |: )")
_SENTENCE = re.compile(r"(?<=[.!?]) (?=[A-Z`])")
_SETTINGS = frozenset(name for name, _ in every_setting(RunConfig))


@dataclass(frozen=True)
class Check(Record):
    """One line of the checklist. `state` is OK, WARNING or PROBLEM; a problem would end the run.

    setting: the setting of run.yaml to change, or "flavor" or "namespace" of a Job; else None.
    kind: the class of simct.errors that a run would end with.
    fix: a value of the setting that solves it, if one is known.
    """

    state: str
    message: str
    remedy: str = ""
    setting: str | None = None
    subject: str = ""
    kind: str = "ConfigError"
    fix: int | float | None = field(default=None, metadata=ABSENT)

    @property
    def text(self) -> str:
        """Message and remedy in one line."""
        return f"{self.message} {self.remedy}".strip()


@dataclass(frozen=True)
class Preflight(Record):
    """All checks before a run, in order."""

    checks: list[Check] = field(default_factory=list)

    @property
    def problems(self) -> list[Check]:
        return [check for check in self.checks if check.state == PROBLEM]

    @property
    def warnings(self) -> list[Check]:
        return [check for check in self.checks if check.state == WARNING]

    def refuse(self) -> None:
        """Raise the first problem, if any, as the error with which the run would have ended."""
        for check in self.problems:
            raise getattr(errors, check.kind, errors.ConfigError)(check.text)


def ok(message: str) -> Check:
    return Check(OK, message)


def warning(message: str, remedy: str = "", setting: str | None = None) -> Check:
    return Check(WARNING, message, remedy, setting)


def problem(message: str, remedy: str = "", setting: str | None = None, fix: int | float | None = None) -> Check:
    return Check(PROBLEM, message, remedy, setting, fix=fix)


def from_text(state: str, text: str, setting: str | None = None) -> Check:
    """A check from a text whose first sentence says what is wrong, and the others what to do."""
    message, *rest = _SENTENCE.split(text, maxsplit=1)
    return Check(state, message, "".join(rest), setting)


def from_error(error: SimCTError, setting: str | None = None, state: str = PROBLEM) -> Check:
    """A check from an error. The setting is the one that the error begins with, if it names one."""
    text = " ".join(str(error).split())
    named = _SETTING.match(text)
    if named and (named[1] in _SETTINGS or named[1].startswith("method_options.")):
        setting = "method_options" if named[1].startswith("method_options.") else named[1]
    kind = next((each.__name__ for each in type(error).__mro__ if hasattr(errors, each.__name__)), "ConfigError")
    return replace(from_text(state, text, setting), kind=kind, fix=getattr(error, "fix", None))
