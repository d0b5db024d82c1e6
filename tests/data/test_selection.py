"""Which prompts are used: excluded rows, duplicates and lengths, the same for a preview, a report and a run."""

import json
import random

import pytest

from simct import demo
from simct.config import RunConfig, config_from_dict, dump_config, load_run_config
from simct.config.sections import DataConfig
from simct.data.held_out import prompt_key, split_prompts
from simct.data.prompt_report import describe_prompts
from simct.data.prompts import load_prompts, read_prompts
from simct.data.samples import prepare_prompts
from simct.data.selection import ExcludedRows, row_ranges
from simct.data.templates import prompt_ids
from simct.errors import ConfigError, DataError
from simct.tokenization.pair import TokenizerPair

PAIR = TokenizerPair.from_pretrained(str(demo.TEACHER), str(demo.STUDENT))


def written(tmp_path, rows) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def run_config(**data) -> RunConfig:
    described = {"teacher": {"model": str(demo.TEACHER)}, "student": {"model": str(demo.STUDENT)}, "data": data}
    return config_from_dict(described)


def test_ranges_hold_what_a_plain_set_holds():
    draw = random.Random(3)
    for _ in range(200):
        rows = {draw.randint(1, 40) for _ in range(draw.randint(0, 25))}
        entries = row_ranges(rows)
        excluded = ExcludedRows(entries)
        assert {row for row in range(0, 45) if row in excluded} == rows
        assert row_ranges([], entries) == entries
    assert row_ranges([3, 4, 5, 9], ["5-7", "1"]) == ["1", "3-7", "9"]
    assert 8 in ExcludedRows(["1-100", "3-4"]) and 101 not in ExcludedRows(["1-100", "3-4"])


@pytest.mark.parametrize("wrong", [["0"], ["a"], ["7-3"], ["3", "-4"], ["1e3"]])
def test_what_is_no_row_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"data\.exclude_rows"):
        run_config(prompts="a/b", exclude_rows=wrong)


def test_limits_that_leave_nothing_are_refused():
    with pytest.raises(ConfigError, match=r"data\.min_tokens"):
        run_config(prompts="a/b", min_tokens=20, max_tokens=10)


def test_numbers_in_run_yaml_are_rows(tmp_path):
    config = run_config(prompts="a/b", exclude_rows=[3, "7-9"], deduplicate="exact")
    assert config.data.exclude_rows == ["3", "7-9"]
    (tmp_path / "run.yaml").write_text(dump_config(config))
    assert load_run_config(tmp_path / "run.yaml") == config


def test_excluded_rows_are_counted_from_one_and_keep_their_numbers(tmp_path):
    path = written(tmp_path, [{"prompt": f"What is {n}?"} for n in range(1, 11)])
    found = read_prompts(DataConfig(prompts=path, exclude_rows=["1", "4-6"]))
    assert [prompt.row for prompt in found.prompts] == [2, 3, 7, 8, 9, 10]
    assert found.summary.left_out == {"excluded rows": 4} and "4 excluded rows" in found.summary.lines()[0]
    assert [prompt.row for prompt in load_prompts(DataConfig(prompts=path, exclude_rows=["1"], limit=2))] == [2, 3]
    with pytest.raises(DataError, match="10 excluded rows"):
        load_prompts(DataConfig(prompts=path, exclude_rows=["1-10"]))


def test_the_first_of_equal_prompts_stays(tmp_path):
    texts = ["What is it?", "what  is it?", "What is it?", "What else?", "WHAT IS\nIT?"]
    path = written(tmp_path, [{"prompt": text, "answer": str(number)} for number, text in enumerate(texts)])
    rows = {
        kind: [prompt.row for prompt in load_prompts(DataConfig(prompts=path, deduplicate=kind))]
        for kind in (None, "exact", "normalized")
    }
    assert rows == {None: [1, 2, 3, 4, 5], "exact": [1, 2, 4, 5], "normalized": [1, 4]}
    system = [{"system": system, "prompt": "Hi"} for system in ("Be kind.", "Be brief.", "Be kind.")]
    assert len(load_prompts(DataConfig(prompts=written(tmp_path, system), deduplicate="normalized"))) == 2


def test_another_seed_holds_out_others_of_the_same_number(tmp_path):
    prompts = load_prompts(DataConfig(prompts=written(tmp_path, [{"prompt": f"What is {n}?"} for n in range(400)])))
    chosen = [
        {prompt_key(prompt) for prompt in split_prompts(prompts, DataConfig(held_out_seed=seed)).held_out}
        for seed in (0, 1, 1, 2)
    ]
    assert [len(each) for each in chosen] == [40] * 4
    assert chosen[1] == chosen[2] and chosen[0] != chosen[1] != chosen[3]
    # as it was before there was a seed
    assert chosen[0] == set(sorted(map(prompt_key, prompts))[:40])


def test_lengths_are_those_of_both_models(tmp_path):
    path = written(tmp_path, [{"prompt": "word " * n} for n in range(1, 31)])
    prompts = load_prompts(DataConfig(prompts=path))
    lengths = [
        [len(prompt_ids(side.tokenizer, prompt.messages)) for side in (PAIR.student, PAIR.teacher)]
        for prompt in prompts
    ]
    low, high = sorted(map(min, lengths))[5], sorted(map(max, lengths))[-6]
    config = run_config(prompts=path, min_tokens=low, max_tokens=high)
    notices: list[str] = []
    prepared, too_long = prepare_prompts(prompts, PAIR, config, [], notices.append)
    wanted = [n for n, each in enumerate(lengths, 1) if min(each) >= low and max(each) <= high]
    assert [each.prompt.row for each in prepared] == wanted and too_long == 0
    assert 0 < len(wanted) < 30 and f"{30 - len(wanted)} prompts are left out by their length" in notices[-1]
    with pytest.raises(DataError, match=r"data\.min_tokens"):
        prepare_prompts(prompts, PAIR, run_config(prompts=path, min_tokens=5000), [])


def test_the_report_names_the_rows_that_a_run_trains_on(tmp_path):
    rows = [{"prompt": f"Say {n % 35} plainly. " + "Please. " * (n % 11)} for n in range(120)]
    rows += [{"prompt": "word " * 900}]
    path = written(tmp_path, rows)
    config = run_config(
        prompts=path, deduplicate="normalized", exclude_rows=["2-4", "50"], max_tokens=40, held_out=5, held_out_seed=7
    )
    prompts = load_prompts(config.data)
    split = split_prompts(prompts, config.data)
    prepared, _ = prepare_prompts(split.trained, PAIR, config, [])
    room = config.training.max_length - config.rollout.max_new_tokens
    report = describe_prompts(prompts, PAIR, room, data=config.data)
    assert report.trained_rows == [each.prompt.row for each in prepared]
    assert report.held_out == len(split.held_out) == 5 and report.filtered > 0
    assert 0 < len(report.trained_rows) < 110


def test_a_finding_has_the_change_that_makes_it_go(tmp_path):
    path = written(tmp_path, [{"prompt": text} for text in ("one", "one", "ONE", "two", "word " * 300)])
    data = DataConfig(prompts=path)
    changes: dict = {}
    for _ in range(4):
        report = describe_prompts(load_prompts(data), PAIR, 60, data=data)
        change = next((each.change for each in report.findings if each.change), None)
        if change is None:
            break
        changes |= change
        data = data.model_copy(update=change)
    assert changes == {"max_tokens": 60, "deduplicate": "normalized"}
    assert report.findings == [] and report.trained_rows == [1, 4]


def test_rows_that_a_template_loses_can_be_excluded(monkeypatch, tmp_path):
    lossy = "{% for m in messages %}{{ m.content if 'secret' not in m.content }}{% endfor %}"
    monkeypatch.setattr(PAIR.teacher.tokenizer, "chat_template", lossy)
    path = written(tmp_path, [{"prompt": text} for text in ("a", "secret b", "c", "secret d", "e")])
    data = DataConfig(prompts=path)
    report = describe_prompts(load_prompts(data), PAIR, 60, data=data)
    [finding] = [each for each in report.findings if each.problem]
    assert "cannot start" in finding.text and finding.change == {"exclude_rows": ["2", "4"]}
    data = data.model_copy(update=finding.change)
    report = describe_prompts(load_prompts(data), PAIR, 60, data=data)
    assert report.problems == [] and report.trained_rows == [1, 3, 5]
