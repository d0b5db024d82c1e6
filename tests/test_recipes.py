"""Recipes: every preset of a pair has one, its figures are those of the estimate, and its results have a source."""

from pathlib import Path

import pytest

from simct.config import local_path
from simct.estimate.time_and_cost import estimate_run
from simct.presets import list_presets, load_preset
from simct.presets.recipes import RECIPES, Recipe
from tests.support.known_configs import known_config

ROOT = Path(__file__).parents[1]


def test_every_preset_is_a_recipe_but_for_variants_of_another():
    assert [recipe.preset for recipe in RECIPES] == list(dict.fromkeys(recipe.preset for recipe in RECIPES))
    assert set(list_presets()) - {recipe.preset for recipe in RECIPES} == {"qwen2.5-7b-to-gemma-2-2b-released"}


@pytest.mark.parametrize("recipe", [each for each in RECIPES if each.hours], ids=lambda recipe: recipe.preset)
def test_time_and_cost_are_those_of_the_estimate(recipe: Recipe):
    config = load_preset(recipe.preset)
    configs = known_config(config.teacher.model), known_config(config.student.model)
    (found,) = estimate_run(config, recipe.machine, configs=configs, n_prompts=recipe.prompts).hardware
    assert found.fits
    assert (recipe.hours, recipe.cost) == pytest.approx((found.hours, found.cost), rel=0.1)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.preset)
def test_what_to_expect_has_a_source(recipe: Recipe):
    assert recipe.expected.endswith(".") and recipe.source
    if recipe.address is None and recipe.source != "not measured":
        assert (ROOT / recipe.source).is_file()
    # a file to build is named as one
    prompts = load_preset(recipe.preset).data.prompts
    assert ("tools.build_data" in recipe.data) == (prompts == "data/maths_code_10k.jsonl")
    assert local_path(prompts) is None or "embedded" in recipe.data or "built by" in recipe.data


def test_the_embedded_recipe_quotes_its_table():
    table = (ROOT / "simct/demo/README.md").read_text(encoding="utf-8")
    assert "| mean | 0.500 | 0.700 | 0.998 |" in table and "50% to 99.8%" in RECIPES[0].expected
