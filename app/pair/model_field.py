"""One model of the pair: a search while its name is typed, its revision, and the facts about it next to the field."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from app.page import hub_notes, markup, scripts
from app.page.markup import one_line
from app.server import model_facts
from app.server.handler import Handler, Updates, in_turn
from app.server.studio import Studio
from app.server.visitor import Visitor
from simct.errors import SimCTError, quoted
from simct.hub.repo_ids import is_folder, split_revision

MIN_QUERY = 2
HELP = "Type to search the Hub. A local folder works too."
PUBLIC_HELP = "Type to search the Hub."
SERVER_HELP = "Type to search the Hub. {}he address of a server works too."
TRAINED_HERE = "Only a teacher can be on a server, because the student is trained here."
NEWEST = ("newest of main", "")


@dataclass(frozen=True)
class Reading:
    """What was found out about the model of a field, or one line that says what is wrong.

    Both are set if the typed text is not a model, so that the field keeps `model`.
    """

    model: str
    facts: model_facts.Facts | None = None
    error: str = ""


class ModelField:
    """The field, the line under it, and the folded choice of a revision.

    A new page shows the default model, about which `default` is known. `asked` holds what was typed last, until
    something is chosen; `offered` is what the list offers, and `read` is the model that was chosen last.

    After `connect`, `revised` is the event that follows the choice of a revision, and `search_arguments` turns the
    values of the filters into arguments of search_models.
    """

    def __init__(self, studio: Studio, label: str, side: str) -> None:
        self.studio, self.side = studio, side
        self.default = model_facts.facts(studio, studio.default_pair[side], studio.nobody.token)
        self.field = gr.Dropdown(
            choices([]),
            value=studio.default_pair[side],
            label=label,
            info=help_text(side, studio.public),
            allow_custom_value=True,
            filterable=True,
            elem_id=side,
            elem_classes=["takes-text", "searched"],
        )
        self.note = markup.panel(markup.note("ok", self.default.line()), elem_id=f"{side}-note")
        with gr.Accordion("Revision", open=False, elem_id=f"{side}-revisions") as self.accordion:
            self.revision = gr.Dropdown(
                [NEWEST],
                value="",
                label=f"Revision of the {side}",
                info="A run is pinned to the commit that this names when it starts.",
                filterable=False,
                elem_id=f"{side}-revision",
            )
        self.asked = gr.State("")
        self.offered = gr.State(choices([]))
        self.read = gr.State(studio.default_pair[side])

    def connect(self, filters: Mapping[str, gr.Dropdown], search_arguments: Callable[..., dict[str, Any]]) -> None:
        """Search while typing and when a filter changes; offer the revisions when they are opened."""
        self.search_arguments = search_arguments
        outputs = [self.field, self.note, self.asked, self.offered]
        typed = {"typed": self.field, **filters, "before": self.offered}
        typing = Handler(self.studio, self.search, typed, outputs)
        typing.on(self.field.key_up, how={**in_turn("pair"), "js": scripts.call("typed", self.side)})
        again = Handler(self.studio, self.search, {"typed": self.asked, **filters}, outputs, in_turn("pair"))
        again.on(*(each.input for each in filters.values()))
        Handler(self.studio, self.revisions, {"model": self.field}, [self.revision]).on(self.accordion.expand)
        revise = Handler(
            self.studio, self.revise, {"model": self.field, "revision": self.revision}, [self.field], in_turn("pair")
        )
        self.revised = revise.on(self.revision.input)

    def search(self, visitor: Visitor, typed: str, before: Sequence[hub_notes.Choice] = (), **filters: str) -> Updates:
        """Models on the Hub whose id contains the text typed so far, followed by what the list offered `before`."""
        query = (typed or "").strip()
        if len(query) < MIN_QUERY or is_folder(query) or is_address(query) or query in model_facts.EMBEDDED.values():
            return {}
        # key events may be handled after the choice that followed them; the field then holds the label from the list
        if hub_notes.is_label(query):
            return {}
        from simct.hub.search import search_models

        try:
            found = search_models(split_revision(query)[0], visitor.token, **self.search_arguments(**filters))
        except SimCTError as error:
            return {self.note: hub_notes.linked_note("warn", one_line(error)), self.asked: query}
        options = hub_notes.offered(choices([(hub_notes.label(hit, query), hit.id) for hit in found]), before)
        updates: Updates = {self.asked: query}
        if found:
            updates |= {self.field: gr.Dropdown(choices=options), self.offered: options}
        if query in {hit.id for hit in found}:
            # the line for a typed and chosen id comes from reading the model; a late search result must not replace it
            return updates
        narrowed = ", with these filters" if any(filters[name] for name in ("size", "license", "access")) else ""
        line = (
            f"{len(found)} found on the Hub. Choose one."
            if found
            else f"No model on the Hub matches {quoted(query)}{narrowed}."
        )
        return {**updates, self.note: markup.note("quiet", line)}

    def revisions(self, visitor: Visitor, model: str) -> Updates:
        """Branches, tags and the newest commits of the chosen model."""
        name, chosen = split_revision(model)
        if name in model_facts.EMBEDDED or is_folder(name) or not name:
            return {self.revision: _no_choice("a folder has no revisions")}
        from simct.hub.search import list_revisions

        try:
            found = list_revisions(name, visitor.token)
        except SimCTError as error:
            return {self.revision: _no_choice(one_line(error))}
        ids = {revision for _, revision in found}
        known = [] if not chosen or chosen in ids else [(chosen, chosen)]
        options = [NEWEST, *known, *found]
        return {self.revision: gr.Dropdown(choices=options, value=chosen or "", interactive=True)}

    def shows(self, typed: str, reading: Reading) -> Updates:
        """The line about what was read, next to the field with the model; a word that is not a model is replaced."""
        known = [reading.model] if reading.model and reading.model not in model_facts.EMBEDDED else []
        options = choices(known)
        kept = reading.model == typed
        updates: Updates = {
            self.field: gr.Dropdown(choices=options) if kept else gr.Dropdown(choices=options, value=reading.model),
            self.offered: options,
        }
        if reading.error:
            # the typed text stays in `asked`, because it may be searched again with other filters
            return {**updates, self.note: hub_notes.linked_note("error", reading.error)}
        line = reading.facts.line() if reading.facts else ""
        return {**updates, self.note: markup.note("ok", line), self.asked: "", self.read: reading.model}

    def revise(self, model: str, revision: str) -> Updates:
        """The same model at another revision."""
        return {self.field: shown(model_facts.joined(split_revision(model)[0], revision))}


def help_text(side: str, public: bool) -> str:
    """The text that says what may be typed into the field of a side."""
    if side == "teacher":
        return SERVER_HELP.format("T" if public else "A local folder or t")
    return PUBLIC_HELP if public else HELP


def is_address(typed: str | None) -> bool:
    """Whether the typed text is meant as an address."""
    return (typed or "").strip().lower().startswith(("http://", "https://"))


def read_or_keep(studio: Studio, side: str, model: str, before: str, visitor: Visitor) -> Reading:
    """What was found out about `model`. A word that is not a model does not replace the model chosen `before`, and
    neither does the address of a server, which has its own field.
    """
    if is_address(model) and before:
        kept = read_or_keep(studio, side, before, before, visitor)
        return kept if side == "teacher" else replace(kept, error=kept.error or TRAINED_HERE)
    try:
        return Reading(model, model_facts.facts(studio, model, visitor.token))
    except SimCTError as error:
        line = one_line(error)
        if "/" in (model or "") or not before or before == model:
            return Reading(model, error=line)
    try:
        facts = model_facts.facts(studio, before, visitor.token)
    except SimCTError:
        return Reading(model, error=line)
    typed = f"{line} " if model else ""
    return Reading(before, facts, f"{typed}It is still {model_facts.display_name(before)}.")


def _no_choice(reason: str) -> gr.Dropdown:
    return gr.Dropdown(choices=[(reason, "")], value="", interactive=False)


def choices(found: Sequence[str] | Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The options of the list: what was found (ids, or labels with ids), then the embedded models."""
    embedded = [(name, path) for path, name in model_facts.EMBEDDED.items()]
    return [(each, each) if isinstance(each, str) else each for each in found] + embedded


def shown(model: str) -> gr.Dropdown:
    """The field with `model`, which may not have been in any list yet."""
    known = [] if model in model_facts.EMBEDDED else [model]
    return gr.Dropdown(choices=choices(known), value=model)
