"""A dataset on the Hub: found as it is typed, then its configuration and split."""

from dataclasses import dataclass

import gradio as gr

from app.page import markup
from app.page.markup import one_line
from app.pair.model_field import MIN_QUERY, TYPED
from app.server.settings import Settings
from simct.errors import SimCTError

KEPT = ("revision", "license")


@dataclass(frozen=True)
class HubDataset:
    """`described` holds what was found out about the dataset that was chosen last: id, revision, license."""

    dataset: gr.Dropdown
    config: gr.Dropdown
    split: gr.Dropdown
    described: gr.State


def build(settings: Settings) -> HubDataset:
    """The three fields and the line under them."""
    dataset = gr.Dropdown(
        [],
        value="",
        label="Dataset",
        info="Type to search the Hub.",
        allow_custom_value=True,
        filterable=True,
        elem_id="prompt-dataset",
    )
    with gr.Row():
        config = gr.Dropdown([], label="Configuration", allow_custom_value=True, elem_id="prompt-config", min_width=120)
        split = gr.Dropdown(
            ["train"], value="train", label="Split", allow_custom_value=True, elem_id="prompt-split", min_width=120
        )
    line = markup.panel(elem_id="dataset-note")
    described = gr.State({})

    def search(typed: str, visitor: gr.OAuthToken | None = None) -> tuple[dict, dict | str]:
        """Datasets on the Hub whose id holds what has been typed so far."""
        query = (typed or "").strip()
        if len(query) < MIN_QUERY:
            return gr.skip(), gr.skip()
        from simct.hub.search import search_datasets

        try:
            found = [hit.id for hit in search_datasets(query, settings.token(visitor))]
        except SimCTError as error:
            return gr.skip(), markup.note("warn", one_line(error))
        told = f"{len(found)} on the Hub. Choose one." if found else f"No dataset on the Hub is called {query!r}."
        return gr.Dropdown(choices=found), markup.note("quiet", told)

    def describe(name: str, visitor: gr.OAuthToken | None = None):
        """Configurations, splits and license of the dataset chosen; one line if it cannot be read."""
        name = (name or "").strip()
        if not name:
            return gr.skip(), gr.skip(), gr.skip(), ""
        from simct.hub.datasets import dataset_info

        try:
            info = dataset_info(name, settings.token(visitor))
        except SimCTError as error:
            return gr.skip(), gr.skip(), {"id": name}, markup.note("error", one_line(error))
        configs = {each.name: {split.name: split.rows for split in each.splits} for each in info.configs}
        first = next(iter(configs), None)
        facts = {"id": name, "revision": info.revision, "license": info.license, "configs": configs}
        told = " · ".join(part for part in (info.license or "no license stated", "gated" if info.gated else "") if part)
        return (
            gr.Dropdown(choices=list(configs), value=first, interactive=len(configs) > 1),
            _splits(configs, first),
            facts,
            markup.note("ok", told),
        )

    def settle_split(facts: dict, config: str) -> tuple[dict, dict]:
        return _splits(facts.get("configs", {}), config), {**facts, "config": config}

    typed = TYPED.replace("SIDE", "prompt-dataset")
    dataset.key_up(search, dataset, [dataset, line], js=typed, **settings.in_turn("data"))
    dataset.input(describe, dataset, [config, split, described, line], **settings.in_turn("data"))
    config.input(settle_split, [described, config], [split, described], **settings.in_turn("data"))
    return HubDataset(dataset, config, split, described)


def _splits(configs: dict, config: str | None) -> gr.Dropdown:
    """The splits of a configuration; the training one where there is one."""
    names = list(configs.get(config) or ["train"])
    return gr.Dropdown(choices=names, value="train" if "train" in names else names[0], interactive=True)
