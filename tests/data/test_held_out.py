"""Held-out prompts: chosen by their text alone, never on both sides, the same after a resume."""

import json
import random

import pytest

from simct.config import dump_config, load_run_config
from simct.config.sections import DataConfig
from simct.data.held_out import held_out_count, prompt_key, split_of_run, split_prompts
from simct.data.prompts import Prompt, load_prompts
from simct.errors import DataError
from simct.runs.folder import RunFolder
from tests.support import stand_in_runs


def prompt(text: str, system: str | None = None, answer: str | None = None) -> Prompt:
    messages = [{"role": "system", "content": system}] if system else []
    return Prompt((*messages, {"role": "user", "content": text}), answer)


def keys(prompts) -> set[str]:
    return {prompt_key(each) for each in prompts}


def some(count: int) -> list[Prompt]:
    return [prompt(f"What is {number}?") for number in range(count)]


@pytest.mark.parametrize(("count", "wanted"), [(9, 0), (10, 1), (200, 20), (1000, 64)])
def test_at_most_a_tenth_of_the_data_is_held_out(count, wanted):
    split = split_prompts(some(count), DataConfig())
    assert len(split.held_out) == wanted == held_out_count(DataConfig(), count)
    assert len(split.trained) == count - wanted and not keys(split.trained) & keys(split.held_out)


def test_the_choice_depends_on_the_texts_alone():
    prompts = some(100)
    shuffled = random.Random(1).sample(prompts, 100)
    assert keys(split_prompts(prompts, DataConfig()).held_out) == keys(split_prompts(shuffled, DataConfig()).held_out)
    assert split_prompts(prompts, DataConfig(held_out=0)).trained == prompts


def test_duplicates_are_on_one_side_whatever_their_system_text_and_spaces():
    prompts = some(100)
    again = [prompt(f"What  is {number}? ", system="Be kind.") for number in range(100)]
    split = split_prompts(prompts + again, DataConfig(held_out=5))
    assert not keys(split.trained) & keys(split.held_out)
    assert len(split.held_out) == 5 == split.left_out and len(split.trained) == 190


def test_a_source_of_its_own_is_not_trained_on(tmp_path):
    path = tmp_path / "held.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": text}) for text in ("What is 3?", "What is 1000?", "And 7?")))
    data = DataConfig(held_out_prompts=str(path))
    split = split_prompts(some(20), data)
    assert keys(split.held_out) == keys(load_prompts(DataConfig(prompts=str(path))))
    assert len(split.trained) == 19 and split.left_out == 1
    with pytest.raises(DataError, match="Every prompt of the data is also held out"):
        split_prompts(some(4)[3:], data)
    with pytest.raises(DataError, match="There is no file"):
        split_prompts(some(20), DataConfig(held_out_prompts="nowhere.jsonl"))


def test_a_resumed_run_holds_out_what_it_held_out_before(tmp_path):
    run = RunFolder.create(tmp_path, stand_in_runs.config())
    first = split_of_run(run, DataConfig(), some(50))
    grown = split_of_run(run, DataConfig(), some(400))
    assert keys(grown.held_out) == keys(first.held_out) and len(grown.trained) == 395
    assert not keys(grown.trained) & keys(grown.held_out)


def test_a_run_from_before_there_were_held_out_prompts_trains_on_the_same_data(tmp_path):
    run = RunFolder.create(tmp_path, stand_in_runs.config())
    path = run.path / "run.yaml"
    path.write_text("\n".join(line for line in dump_config(run.config()).splitlines() if "held_out" not in line))
    assert run.config().data.held_out == 0 == load_run_config(path).data.held_out
    assert split_of_run(run, run.config().data, some(50)).trained == some(50)
    assert not (run.path / "held_out.jsonl").exists()
