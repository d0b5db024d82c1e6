"""Pair: which teacher, which student, and whether both can be read at all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gradio as gr

from app import markup, models
from app.settings import Settings, one_line
from simct.errors import SimCTError

MIN_QUERY = 2
# What stands in the field now, once: the event's own data may be an earlier key's when several come quickly, and keys
# that change nothing (arrows, Enter) must not replace the list they move in. What is already chosen is not searched,
# or a late answer would take the place of what was found out about it.
TYPED = """(chosen) => {
  const field = document.querySelector('#SIDE input');
  const fresh = field === document.activeElement && field.value !== field.dataset.searched && field.value !== chosen;
  field.dataset.searched = field.value;
  return [fresh ? field.value : ''];
}"""
HELP = "Type to search the Hub. A local folder works too."
PUBLIC_HELP = "Type to search the Hub."


@dataclass(frozen=True)
class PairTab:
    teacher: gr.Dropdown
    student: gr.Dropdown
    next: gr.Button
    refresh: Callable
    inputs: Sequence[gr.Dropdown]
    outputs: Sequence[gr.HTML | gr.Button]


def build(settings: Settings) -> PairTab:
    """Two fields, the line beside each, and what the pair has in common."""
    markup.panel(
        '<h2>Choose a pair</h2><p class="lead">The student writes; the teacher shows how it would have gone on.</p>'
    )
    with gr.Row(equal_height=False):
        with gr.Column(min_width=280):
            teacher, teacher_note = _field(settings, "Teacher", "teacher")
        with gr.Column(min_width=280):
            student, student_note = _field(settings, "Student", "student")
    summary = markup.panel(markup.empty("Reading both tokenizers…"), elem_id="pair-summary", min_height=220)
    next_step = gr.Button("Inspect this pair →", variant="primary", elem_classes="next")

    def refresh(teacher_id: str, student_id: str, visitor: gr.OAuthToken | None = None) -> tuple[str, str, str, dict]:
        """Check both fields; the pair's summary once both can be read."""
        token = settings.token(visitor)
        told, facts = [], []
        for model in (teacher_id, student_id):
            try:
                found = models.facts(settings, model, token)
                facts.append(found)
                told.append(markup.note("ok", found.line()))
            except SimCTError as error:
                told.append(markup.note("error", one_line(error)))
        if len(facts) < 2:
            return (
                *told,
                markup.empty("The comparison appears when both models can be read."),
                gr.Button(interactive=False),
            )
        try:
            return *told, _summary(settings, facts, teacher_id, student_id, token), gr.Button(interactive=True)
        except SimCTError as error:
            return *told, markup.note("error", one_line(error)), gr.Button(interactive=False)

    inputs, outputs = [teacher, student], [teacher_note, student_note, summary, next_step]
    for field, line in ((teacher, teacher_note), (student, student_note)):
        typed = TYPED.replace("SIDE", field.elem_id)
        field.key_up(
            _search(settings),
            field,
            [field, line],
            js=typed,
            trigger_mode="always_last",
            **settings.in_turn("pair"),
        )
        field.input(refresh, inputs, outputs, trigger_mode="always_last", **settings.in_turn("pair"))
    return PairTab(teacher, student, next_step, refresh, inputs, outputs)


def _field(settings: Settings, label: str, side: str) -> tuple[gr.Dropdown, gr.HTML]:
    field = gr.Dropdown(
        _choices([]),
        value=settings.default_pair[side],
        label=label,
        info=PUBLIC_HELP if settings.public else HELP,
        allow_custom_value=True,
        filterable=True,
        elem_id=side,
    )
    return field, markup.panel(markup.note("busy", "Reading…"), elem_id=f"{side}-note")


def _choices(found: Sequence[str]) -> list[tuple[str, str]]:
    embedded = [(name, path) for path, name in models.EMBEDDED.items()]
    return [(model, model) for model in found] + embedded


def shown(model: str) -> gr.Dropdown:
    """The field holding `model`, which may be one that no list has offered yet."""
    known = [] if model in models.EMBEDDED else [model]
    return gr.Dropdown(choices=_choices(known), value=model)


def _search(settings: Settings):
    def search(typed: str, visitor: gr.OAuthToken | None = None) -> tuple[dict, dict | str]:
        """Models on the Hub whose id holds what has been typed so far."""
        query = (typed or "").strip()
        if len(query) < MIN_QUERY or models.is_folder(query) or query in models.EMBEDDED.values():
            return gr.skip(), gr.skip()
        from simct.hub.search import search_models

        try:
            found = [hit.id for hit in search_models(query, settings.token(visitor))]
        except SimCTError as error:
            return gr.skip(), markup.note("warn", one_line(error))
        told = f"{len(found)} on the Hub. Choose one." if found else f"No model on the Hub is called {query!r}."
        return gr.Dropdown(choices=_choices(found)), markup.note("quiet", told)

    return search


def _summary(
    settings: Settings, facts: list[models.Facts], teacher: str, student: str, token: str | bool | None
) -> str:
    pair = models.pair_of(settings, teacher, student, token)
    numbers = markup.tiles(
        [
            (f"{pair.shared_tokens:,}", "shared tokens", "Tokens of both vocabularies with exactly the same bytes"),
            (f"{pair.jaccard:.1%}", "vocabulary overlap", "Shared tokens over all tokens of both (Jaccard)"),
            (
                f"{pair.shared_tokens / max(1, facts[1].vocabulary):.1%}",
                "of the student's tokens",
                "Share of the student's vocabulary that the teacher also has",
            ),
        ]
    )
    rows = [
        ("Vocabulary", *(f"{model.vocabulary:,} tokens" for model in facts)),
        ("Architecture", *(model.family for model in facts)),
        ("Tokenizer", *(model.tokenizer for model in facts)),
        ("Weights", *(models.human_size(model.size) if model.size else "unknown" for model in facts)),
        ("Licence", *(model.license or "not stated" for model in facts)),
        ("Access", *("gated, granted" if model.gated else "open" for model in facts)),
        ("Revision", *((model.revision or "–")[:12] for model in facts)),
    ]
    return numbers + markup.facts(rows, ("Teacher", "Student"))
