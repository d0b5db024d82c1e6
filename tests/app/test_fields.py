"""What a visitor types into a field: it counts as typed, and what is not allowed is said beside the field."""

import math

import gradio as gr
import pytest

from app.compare.answers import MOST_TOKENS, sampling
from app.data import choice, prompt_source
from app.inspect.corpus import measure_corpus
from app.inspect.reliability import Measurement, measure_reliability
from app.inspect.text_source import CHOSEN, EMBEDDED, UPLOAD, TextSource, one_text
from app.page import amounts
from app.server import model_facts, paths
from app.server.visitor import Visitor
from app.server.work import Work
from app.studio import build
from simct import demo
from simct.errors import ConfigError, DataError, ModelError, listed

PAIR = str(demo.TEACHER), str(demo.STUDENT)


def test_gradio_checks_no_number_itself(local):
    """Its message names no field, and every other change of the step would be refused with it."""
    page = build(local)
    numbers = [block for block in page.blocks.values() if isinstance(block, gr.Number) and block.visible]
    assert len(numbers) > 40
    limited = [each.label for each in numbers if (each.minimum, each.maximum, each.precision) != (None, None, None)]
    assert limited == []


def test_code_has_no_line_numbers(local):
    """Those of an editor that has not been scrolled into view yet are out of step with its lines."""
    code = [block for block in build(local).blocks.values() if isinstance(block, gr.Code)]
    assert code and not any(block.show_line_numbers for block in code)


@pytest.mark.parametrize("value", [0, -1, 2.5, 11, 1e300, math.inf, math.nan])
def test_a_number_that_is_not_allowed_is_refused_by_its_label(value):
    with pytest.raises(ConfigError, match=r"“Answers” is .*; it must be a whole number from 1 to 10\."):
        amounts.whole("Answers", value, 3, 1, 10)
    assert [amounts.whole("Answers", each, 3, 1, 10) for each in (None, 1, 10.0)] == [3, 1, 10]


@pytest.mark.parametrize("value", [-0.1, 2.1, math.inf, math.nan])
def test_so_is_one_that_need_not_be_whole(value):
    with pytest.raises(ConfigError, match=r"“Temperature” is .*; it must be a number from 0 to 2\."):
        amounts.real("Temperature", value, 1.0, 0, 2)
    assert [amounts.real("Temperature", each, 1.0, 0, 2) for each in (None, 0, 0.5)] == [1.0, 0.0, 0.5]


def test_every_step_says_which_number_is_wrong(local):
    measurement = Measurement(*PAIR, choice.START, TextSource(CHOSEN, number=0))
    longest = Measurement(*PAIR, choice.START, TextSource(CHOSEN), 0)
    wrong = {
        "Temperature": lambda: sampling(-1, None, 64),
        "Tokens at most": lambda: sampling(0, MOST_TOKENS + 1, 64),
        "Answers": lambda: measure_reliability(local, measurement, None, Work()),
        "Tokens per answer, at most": lambda: measure_reliability(local, longest, None, Work()),
        "At most": lambda: measure_corpus(local, *PAIR, TextSource(EMBEDDED, number=-4), None, Work()),
        "Row": lambda: one_text(local, TextSource(UPLOAD, number=-1), None),
    }
    for label, ask in wrong.items():
        with pytest.raises(ConfigError, match=f"“{label}” is "):
            ask()


@pytest.mark.parametrize(
    ("setting", "value"),
    [("exclude_rows", ["a"]), ("exclude_rows", ["5-2"]), ("limit", 0), ("limit", 2.5), ("held_out_seed", -1)],
)
def test_the_data_step_refuses_what_a_run_would(setting, value):
    with pytest.raises(ConfigError, match=f"data.{setting}"):
        prompt_source.data_config({**choice.START, setting: value})


def test_a_number_too_large_for_the_page_still_reaches_it(local):
    fields = choice.Fields(choice.EMBEDDED, held_out_seed=10**20, limit=10**40)
    kept = choice.chosen(local, choice.START, {}, fields)
    assert (kept["held_out_seed"], kept["limit"]) == (1e20, 1e40)
    gr.JSON().postprocess(kept)


def test_prompts_that_were_removed_are_gone(local):
    written = choice.chosen(local, choice.START, {}, choice.Fields(choice.WRITTEN, text="One\nTwo"))
    reloaded = choice.chosen(local, written, {}, choice.Fields(choice.WRITTEN, text=""))
    assert reloaded["prompts"] == written["prompts"]
    removed = choice.chosen(local, choice.without_prompts(written), {}, choice.Fields(choice.WRITTEN, text=""))
    assert not removed["prompts"]
    with pytest.raises(DataError, match="There are no prompts"):
        paths.check_data(local, Visitor(None, None), prompt_source.data_config(removed))


@pytest.mark.parametrize("name", ["x" * 3000, "/" + "x" * 3000, "~nobody-is-called-so/model", "a/" + "b" * 5000])
def test_a_name_that_no_path_can_have_is_refused_in_one_line(local, public, name):
    for studio in (local, public):
        with pytest.raises(ModelError) as refused:
            model_facts.facts(studio, name, False)
        assert len(str(refused.value)) < 300 and "\n" not in str(refused.value)
    assert paths.owned_file(public, Visitor("hf_ann", "ann"), name) is None


def test_a_file_with_thousands_of_columns_is_refused_in_a_readable_line(local, tmp_path):
    (tmp_path / "wide.csv").write_text(",".join(f"c{n}" for n in range(3000)) + "\n" + ",".join("1" * 3000) + "\n")
    with pytest.raises(DataError, match=r"c0, c1, .* and 2,988 more") as refused:
        prompt_source.read(local, prompt_source.data_config({"prompts": str(tmp_path / "wide.csv")}), None)
    assert len(str(refused.value)) < 500


def test_a_list_of_names_is_as_long_as_it_can_be_read():
    assert listed(["a", "b"]) == "a, b"
    assert listed("abcdefgh", 3) == "a, b, c and 5 more"
    assert len(listed(["x" * 10_000])) <= 80
    assert listed([]) == ""
