"""The chosen pair as HTML: what both models have in common, what each is, and what their licenses mean."""

from collections.abc import Sequence

from app.page import markup
from app.reading.records import PairReading
from app.server import model_facts
from app.server.model_facts import Facts


def summary(pair: PairReading, teacher: Facts, student: Facts) -> str:
    """The headline numbers, a column a model, and lines on licenses and origins."""
    rows = [
        ("Vocabulary", *(f"{model.vocabulary:,} tokens" for model in (teacher, student))),
        ("Architecture", teacher.family, student.family),
        ("Tokenizer", teacher.tokenizer, student.tokenizer),
        ("Weights", *(model_facts.human_size(model.size) if model.size else "unknown" for model in (teacher, student))),
        ("License", teacher.license or "not stated", student.license or "not stated"),
        ("Access", *("gated, granted" if model.gated else "open" for model in (teacher, student))),
        ("Revision", *((model.revision or "–")[:12] for model in (teacher, student))),
    ]
    table = markup.facts(rows, ("Teacher", "Student"))
    return f'{_numbers(pair, student.vocabulary)}{table}<div class="pair-lines">{_lines((teacher, student))}</div>'


def _numbers(pair: PairReading, student_vocabulary: int) -> str:
    return markup.tiles(
        [
            (f"{pair.shared_tokens:,}", "shared tokens", "Tokens of both vocabularies with exactly the same bytes"),
            (f"{pair.jaccard:.1%}", "vocabulary overlap", "Shared tokens over all tokens of both (Jaccard)"),
            (
                f"{pair.shared_tokens / max(1, student_vocabulary):.1%}",
                "of the student's tokens",
                "Share of the student's vocabulary that the teacher also has",
            ),
        ]
    )


def _lines(models: Sequence[Facts]) -> str:
    from simct.hub.licenses import license_compatibility, license_concerns
    from simct.hub.search import base_model_line

    concerns = license_concerns(*models)
    lines = markup.note("warn" if concerns else "quiet", license_compatibility(*models))
    hits = [model.hit for model in models if model.hit]
    origin = base_model_line(*hits) if len(hits) == len(models) else None
    return lines + markup.note("warn", origin or "")
