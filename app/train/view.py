"""Lines of the Train step as HTML: the pair and the prompts, and the verdict on the chosen method."""

from typing import Any

from app.page import markup
from app.server.model_facts import display_name


def pair_line(teacher: str | None, student: str | None, prompts: str) -> str:
    """The pair and the prompts of the run."""
    pair = " → ".join(display_name(model) for model in (teacher or "?", student or "?"))
    return f'<p class="lead">{markup.escape(pair)} · {markup.escape(prompts)}</p>'


def is_measured(verdict: dict[str, Any] | None, teacher: str, student: str) -> bool:
    """Whether the verdict is about this pair."""
    verdict = verdict or {}
    return (verdict.get("teacher"), verdict.get("student")) == (teacher, student)


def method_line(verdict: dict[str, Any] | None, teacher: str, student: str, method: str) -> str:
    """The verdict on this pair's methods, compared with the chosen method."""
    if not verdict or not is_measured(verdict, teacher, student):
        return markup.note("quiet", "It has not been measured yet which method suits this pair.")
    words = str(verdict.get("words") or "")
    if verdict.get("method") == method:
        return markup.note("ok", f"Measured for this pair: {words}")
    return markup.note("warn", f"Measured for this pair, {verdict.get('method')} suits it better: {words}")
