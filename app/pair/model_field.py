"""One model of the pair: found as it is typed, its revision chosen, what was found out about it beside the field."""

from collections.abc import Sequence
from dataclasses import dataclass

import gradio as gr

from app.page import hub_notes as hub_view
from app.page import markup
from app.page.markup import one_line
from app.server import model_facts as models
from app.server.settings import Settings
from simct.errors import SimCTError

MIN_QUERY = 2
# What stands in the field now, once: the event's own data may be an earlier key's when several come quickly, and keys
# that change nothing (arrows, Enter) must not replace the list they move in. What is already chosen is not searched,
# or a late answer would take the place of what was found out about it.
TYPED = """(chosen, ...rest) => {
  const field = document.querySelector('#SIDE input');
  const fresh = field === document.activeElement && field.value !== field.dataset.searched && field.value !== chosen;
  field.dataset.searched = field.value;
  return [fresh ? field.value : '', ...rest];
}"""
HELP = "Type to search the Hub. A local folder works too."
PUBLIC_HELP = "Type to search the Hub."
NEWEST = ("newest of main", "")


@dataclass(frozen=True)
class ModelField:
    """`asked` holds what was typed last, until something is chosen."""

    side: str
    field: gr.Dropdown
    note: gr.HTML
    asked: gr.State
    accordion: gr.Accordion
    revision: gr.Dropdown


def build(settings: Settings, label: str, side: str) -> ModelField:
    """The field, the line under it, and the choice of a revision folded away."""
    field = gr.Dropdown(
        choices([]),
        value=settings.default_pair[side],
        label=label,
        info=PUBLIC_HELP if settings.public else HELP,
        allow_custom_value=True,
        filterable=True,
        elem_id=side,
    )
    note = markup.panel(markup.note("busy", "Reading…"), elem_id=f"{side}-note")
    with gr.Accordion("Revision", open=False, elem_id=f"{side}-revisions") as accordion:
        revision = gr.Dropdown(
            [NEWEST],
            value="",
            label=f"Revision of the {side}",
            info="A run is pinned to the commit that this names when it starts.",
            filterable=False,
            elem_id=f"{side}-revision",
        )
    return ModelField(side, field, note, gr.State(""), accordion, revision)


def choices(found: Sequence[str] | Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """What the list offers: what was found (ids, or labels with ids), then the embedded models."""
    embedded = [(name, path) for path, name in models.EMBEDDED.items()]
    return [(each, each) if isinstance(each, str) else each for each in found] + embedded


def shown(model: str) -> gr.Dropdown:
    """The field holding `model`, which may be one that no list has offered yet."""
    known = [] if model in models.EMBEDDED else [model]
    return gr.Dropdown(choices=choices(known), value=model)


def connect(settings: Settings, field: ModelField, filters: Sequence[gr.components.Component], asking) -> None:
    """Search while typing and when a filter changes; offer the revisions when they are opened.

    `asking` turns the filters' values into arguments of search_models.
    """

    # Gradio fills in who is visiting by position, so that comes before the filters
    def search(typed: str, visitor: gr.OAuthToken | None, *values) -> tuple[dict, dict | str, dict | str]:
        """Models on the Hub whose id holds what has been typed so far: (list, line, what was asked)."""
        query = (typed or "").strip()
        if len(query) < MIN_QUERY or models.is_folder(query) or query in models.EMBEDDED.values():
            return gr.skip(), gr.skip(), gr.skip()
        from simct.hub.search import search_models

        try:
            found = search_models(models.split_revision(query)[0], settings.token(visitor), **asking(values))
        except SimCTError as error:
            return gr.skip(), hub_view.linked_note("warn", one_line(error)), query
        options = choices([(hub_view.label(hit, query), hit.id) for hit in found])
        narrowed = ", with these filters" if any(values[1:-1]) else ""
        told = (
            f"{len(found)} on the Hub. Choose one." if found else f"No model on the Hub is called {query!r}{narrowed}."
        )
        # an id typed whole and chosen is told about by what reads it, which a late answer must not replace
        line = gr.skip() if query in {hit.id for hit in found} else markup.note("quiet", told)
        return gr.Dropdown(choices=options), line, query

    def revisions(model: str, visitor: gr.OAuthToken | None = None) -> dict:
        """Branches, tags and the newest commits of the chosen model."""
        name, chosen = models.split_revision(model)
        if name in models.EMBEDDED or models.is_folder(name) or not name:
            return gr.Dropdown(choices=[("a folder has no revisions", "")], value="", interactive=False)
        from simct.hub.search import list_revisions

        try:
            found = list_revisions(name, settings.token(visitor))
        except SimCTError as error:
            return gr.Dropdown(choices=[(one_line(error), "")], value="", interactive=False)
        known = [] if not chosen or chosen in dict(map(reversed, found)) else [(chosen, chosen)]
        return gr.Dropdown(choices=[NEWEST, *known, *found], value=chosen or "", interactive=True)

    outputs = [field.field, field.note, field.asked]
    field.field.key_up(
        search,
        [field.field, *filters],
        outputs,
        js=TYPED.replace("SIDE", field.side),
        **settings.in_turn("pair"),
    )
    gr.on(
        [each.input for each in filters],
        search,
        [field.asked, *filters],
        outputs,
        **settings.in_turn("pair"),
    )
    field.accordion.expand(revisions, field.field, field.revision, **settings.quiet)
