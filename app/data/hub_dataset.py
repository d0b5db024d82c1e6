"""A dataset on the Hub: searched while its name is typed, then its configuration and split."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.page import hub_notes, markup, scripts
from app.page.markup import one_line
from app.pair.model_field import MIN_QUERY
from app.reading.setup import explicit_token
from app.server.handler import Handler, Updates, in_turn
from app.server.studio import Studio
from app.server.visitor import Visitor
from simct.errors import SimCTError, quoted

KEPT = ("revision", "license")


class HubDataset:
    """The three fields and the line under them.

    `described` holds the facts about the dataset that was chosen last: id, revision, license, configs.
    """

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.dataset = gr.Dropdown(
            [],
            value="",
            label="Dataset",
            info="Type to search the Hub.",
            allow_custom_value=True,
            filterable=True,
            elem_id="prompt-dataset",
            elem_classes=["takes-text", "searched"],
        )
        with gr.Row():
            self.config = gr.Dropdown(
                [],
                label="Configuration",
                allow_custom_value=True,
                elem_classes="takes-text",
                elem_id="prompt-config",
                min_width=120,
            )
            self.split = gr.Dropdown(
                ["train"],
                value="train",
                label="Split",
                allow_custom_value=True,
                elem_classes="takes-text",
                elem_id="prompt-split",
                min_width=120,
            )
        self.line = markup.panel(elem_id="dataset-note")
        self.described, self.offered = gr.State({}), gr.State([])
        turn = in_turn("data")
        typing = Handler(
            studio, self.search, {"typed": self.dataset, "before": self.offered},
            [self.dataset, self.offered, self.line], {**turn, "js": scripts.call("typed", "prompt-dataset")},
        )  # fmt: skip
        typing.on(self.dataset.key_up)
        found = [self.config, self.split, self.described, self.line]
        known = {"name": self.dataset, "before": self.described}
        Handler(studio, self.describe, known, found, turn).on(self.dataset.input)
        splits = {"facts": self.described, "config": self.config}
        Handler(studio, self.show_splits, splits, [self.split, self.described], turn).on(self.config.input)

    def search(self, visitor: Visitor, typed: str, before: Sequence[hub_notes.Choice] = ()) -> Updates:
        """Datasets on the Hub whose id contains the text typed so far, followed by what the list offered `before`."""
        query = (typed or "").strip()
        if len(query) < MIN_QUERY:
            return {}
        from simct.hub.search import search_datasets

        try:
            found = [hit.id for hit in search_datasets(query, visitor.token)]
        except SimCTError as error:
            return {self.line: markup.note("warn", one_line(error))}
        line = (
            f"{len(found)} found on the Hub. Choose one."
            if found
            else f"No dataset on the Hub matches {quoted(query)}."
        )
        options = hub_notes.offered([(name, name) for name in found], before)
        return {
            self.dataset: gr.Dropdown(choices=options),
            self.offered: options,
            self.line: markup.note("quiet", line),
        }

    def describe(self, visitor: Visitor, name: str, before: dict[str, Any]) -> Updates:
        """Configurations, splits and license of the chosen dataset; one line if it cannot be read."""
        name = (name or "").strip()
        if not name:
            return {self.line: ""}
        if name == before.get("id") and before.get("configs"):
            # the visitor only left the field, and may have chosen the configuration in the meantime
            return {}
        from app.reading import prompts

        try:
            token = explicit_token(visitor.token)
            info = self.studio.workers.run(prompts.describe_dataset, name, token, what=repr(name))
        except SimCTError as error:
            return {self.described: {"id": name}, self.line: markup.note("error", one_line(error))}
        configs = {each.name: {split.name: split.rows for split in each.splits} for each in info.configs}
        first = next(iter(configs), None)
        line = [info.license or "no license stated", *(["gated"] if info.gated else [])]
        return {
            self.config: gr.Dropdown(choices=list(configs), value=first, interactive=len(configs) > 1),
            self.split: _splits(configs, first),
            self.described: {
                "id": name,
                "revision": info.revision,
                "license": info.license,
                "configs": configs,
                "config": first,
            },
            self.line: markup.note("ok", " · ".join(line)),
        }

    def show_splits(self, facts: dict[str, Any], config: str) -> Updates:
        """The splits of another configuration."""
        if config == facts.get("config"):
            # the visitor only left the field, and may have chosen the split in the meantime
            return {}
        return {self.split: _splits(facts.get("configs", {}), config), self.described: {**facts, "config": config}}


def _splits(configs: dict[Any, Any], config: str | None) -> gr.Dropdown:
    """The splits of a configuration, with the training split chosen if there is one."""
    names = list(configs.get(config) or ["train"])
    return gr.Dropdown(choices=names, value="train" if "train" in names else names[0], interactive=True)
