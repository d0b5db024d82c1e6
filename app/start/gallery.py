"""The gallery of recipes on the Pair page: what each needs, what to expect, and a button that fills it in."""

from html import escape

import gradio as gr

from app.page import hub_notes, markup, scripts
from app.server.model_facts import display_name
from app.server.paths import EMBEDDED_PROMPTS
from app.server.studio import Studio
from simct.config import RunConfig
from simct.data.formats import suffix_of
from simct.presets import load_preset
from simct.presets.recipes import RECIPES, Recipe
from simct.report import formats

LEAD = (
    "A recipe fills in Pair, Data and Train. Time and cost are rough estimates by this studio. Each result names its "
    "source."
)


class Gallery:
    """The recipes that this studio can read, folded.

    `panel.select` fires when one is chosen (`recipe_of` says which), and `note` says what was filled in.
    """

    def __init__(self, studio: Studio) -> None:
        presets = {recipe.preset: load_preset(recipe.preset) for recipe in RECIPES}
        self.recipes = {name: config for name, config in presets.items() if _is_readable(studio, config)}
        shown = [recipe for recipe in RECIPES if recipe.preset in self.recipes]
        cards = "".join(_card(recipe, self.recipes[recipe.preset]) for recipe in shown)
        with gr.Accordion("Recipes", open=False, elem_id="recipes"):
            recipes = f'<p class="lead">{LEAD}</p><div class="recipes">{cards}</div>'
            self.panel = markup.panel(recipes, js_on_load=scripts.when_loaded("recipes"))
        self.note = markup.panel(elem_id="recipe-note")

    def recipe_of(self, event: gr.EventData) -> str | None:
        """The recipe whose button was pressed."""
        name = (event._data or {}).get("recipe")
        return name if isinstance(name, str) and name in self.recipes else None

    def taken(self, name: str) -> str:
        """The line that says what was filled in."""
        return markup.note("ok", f"Pair, data and settings now come from the recipe {_title(self.recipes[name])}.")


def _is_readable(studio: Studio, config: RunConfig) -> bool:
    """Whether a visitor may read its prompts; in public, a file that must be built first is not readable."""
    prompts = config.data.prompts
    return not studio.public or prompts in EMBEDDED_PROMPTS or not suffix_of(prompts)


def _title(config: RunConfig) -> str:
    return " → ".join(display_name(each.model).rpartition("/")[2] for each in (config.teacher, config.student))


def _card(recipe: Recipe, config: RunConfig) -> str:
    title = escape(_title(config))
    source = hub_notes.link(recipe.address, recipe.source)
    facts = [
        ("Data", escape(recipe.data)),
        ("Machine", escape(recipe.gpu)),
        ("Time", f"about {formats.hours(recipe.hours)}, estimated" if recipe.hours else "a minute or two"),
        ("Cost", f"about {formats.dollars(recipe.cost)}, estimated" if recipe.cost else "nothing"),
        ("Expect", escape(recipe.expected)),
        ("Source", source),
    ]
    listed = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts)
    button = f'data-recipe="{escape(recipe.preset)}" aria-label="Use this recipe: {title}"'
    return (
        f'<article class="recipe"><h2>{title}</h2><dl>{listed}</dl>'
        f'<button type="button" class="fix" {button}>Use this recipe</button></article>'
    )
