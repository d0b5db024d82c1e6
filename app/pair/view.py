"""The chosen pair as HTML: what both models have in common, what each is, and what their licenses mean."""

from collections.abc import Sequence

from app.page import markup
from app.reading.records import PairReading
from app.server.model_facts import Facts
from simct.report.formats import human_size

# bounds on the share of the student's vocabulary that the teacher also has
HIGH, LOW = 0.6, 0.3


def summary(pair: PairReading, teacher: Facts, student: Facts, same: bool = False) -> str:
    """The headline numbers with their meaning, one column per model, and lines about licenses and origins.

    `same`: both sides are the same model.
    """
    rows = [
        ("Vocabulary", *(f"{model.vocabulary:,} tokens" for model in (teacher, student))),
        ("Architecture", teacher.family, student.family),
        ("Tokenizer", teacher.tokenizer, student.tokenizer),
        ("Weights", *(human_size(model.size) if model.size else "unknown" for model in (teacher, student))),
        ("License", teacher.license or "not stated", student.license or "not stated"),
        ("Access", *("gated, granted" if model.gated else "open" for model in (teacher, student))),
        ("Revision", *((model.revision or "–")[:12] for model in (teacher, student))),
    ]
    table = markup.facts(rows, ("Teacher", "Student"))
    meaning = markup.note(*judged(pair.shared_tokens / max(1, student.vocabulary), pair.same, same))
    numbers = f'{_numbers(pair, student.vocabulary)}<div class="meaning" data-testid="meaning">{meaning}</div>'
    return f'{numbers}{table}<div class="pair-lines">{_lines((teacher, student), same)}</div>'


def _numbers(pair: PairReading, student_vocabulary: int) -> str:
    return markup.tiles(
        [
            (f"{pair.shared_tokens:,}", "shared tokens", "Tokens of both vocabularies with exactly the same bytes"),
            (f"{pair.jaccard:.1%}", "vocabulary overlap", "Shared tokens divided by all tokens of both (Jaccard)"),
            (
                f"{pair.shared_tokens / max(1, student_vocabulary):.1%}",
                "of the student's tokens",
                "Share of the student's vocabulary that the teacher also has",
            ),
        ]
    )


def judged(of_student: float, same_vocabulary: bool, same_model: bool) -> tuple[str, str]:
    """(kind of note, sentence): whether the vocabularies share many tokens, and what that means."""
    if same_model:
        return "warn", (
            "Teacher and student are the same model, so there is nothing to learn unless the teacher reads its own "
            "system text. Choose a larger teacher."
        )
    if same_vocabulary:
        return "ok", (
            "Both models have the same vocabulary, so exact matching covers everything. The method strict is enough."
        )
    shared = f"{of_student:.1%} of the student's tokens are shared"
    if of_student >= HIGH:
        return "ok", f"Good: {shared}, so most of a text can be compared token by token. 60% or more is good."
    if of_student >= LOW:
        return "quiet", f"Usual: {shared}. Between 30% and 60% is usual for models of different families."
    return "warn", (
        f"Low: {shared}. Frequent tokens may still match, so measure the pair to see what can be learned from it."
    )


def _lines(models: Sequence[Facts], same: bool) -> str:
    from simct.hub.licenses import license_compatibility, license_concerns
    from simct.hub.search import base_model_line

    concerns = license_concerns(*models)
    lines = markup.note("warn" if concerns else "quiet", license_compatibility(*models))
    hits = [model.hit for model in models if model.hit]
    origin = base_model_line(*hits) if len(hits) == len(models) and not same else None
    return lines + markup.note("warn", origin or "")
