"""What is reported about prompts before a run, on tokenizers with and without templates."""

import pytest

from simct import demo
from simct.config.sections import DataConfig
from simct.data.prompt_report import describe_prompts
from simct.data.prompts import Prompt, load_prompts
from simct.data.templates import prompt_ids
from simct.tokenization.pair import TokenizerPair
from tests.support.random_pair import TEMPLATE

NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEMPLATE
DROPS_SYSTEM = "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}"

PAIR = TokenizerPair.from_pretrained(str(demo.TEACHER), str(demo.STUDENT))


def said(*texts: str, system: str | None = None) -> list[Prompt]:
    head = [{"role": "system", "content": system}] if system else []
    return [Prompt((*head, {"role": "user", "content": text})) for text in texts]


def test_lengths_are_those_the_run_will_see():
    prompts = load_prompts(DataConfig(prompts=str(demo.PROMPTS), limit=30))
    report = describe_prompts(prompts, PAIR, 400)
    for side, tokens in (("student", PAIR.student), ("teacher", PAIR.teacher)):
        assert report.lengths[side] == [len(prompt_ids(tokens.tokenizer, prompt.messages)) for prompt in prompts]
    assert report.longest == max(map(max, report.lengths.values())) and report.answers == 30
    assert report.problems == [] and report.warnings == []


def test_repeated_and_long_prompts_are_counted():
    report = describe_prompts(said("one two three", "one two three", "word " * 300), PAIR, 60)
    assert (report.duplicates, report.too_long) == (1, 1)
    assert report.longest <= 60
    assert "1 prompt longer than the 60 tokens" in report.problems[0]
    assert "1 prompt is there more than once" in " ".join(report.warnings)


@pytest.mark.parametrize(
    ("template", "words"),
    [(NO_SYSTEM, "has no place for a system text"), (DROPS_SYSTEM, "has no place for a system text")],
)
def test_what_a_template_does_with_a_system_text_is_shown(monkeypatch, template, words):
    monkeypatch.setattr(PAIR.student.tokenizer, "chat_template", template)
    report = describe_prompts(said("hello", "bye", system="Be kind."), PAIR, 60)
    assert report.problems == [] and words in report.warnings[0] and "2 prompts" in report.warnings[0]
    assert describe_prompts(said("hello"), PAIR, 60).warnings == []


def test_a_template_that_loses_the_text_stops_the_run(monkeypatch):
    monkeypatch.setattr(PAIR.teacher.tokenizer, "chat_template", "<s>")
    report = describe_prompts(said("hello"), PAIR, 60)
    assert "cannot start" in report.problems[0] and "drops a user's text" in report.problems[0]
    assert report.lengths["teacher"] == [None] and report.longest == 0


def test_a_prompt_that_cannot_be_rendered_is_a_problem(monkeypatch):
    monkeypatch.setattr(PAIR.teacher.tokenizer, "chat_template", None)
    report = describe_prompts(said("hello", system="Be kind."), PAIR, 60)
    assert report.lengths["teacher"] == [None] and "no chat template" in report.problems[0]
    assert describe_prompts(said("hello"), PAIR, 60).problems == []
    assert "plain text" in " ".join(describe_prompts(said("hello"), PAIR, 60).warnings)


def test_what_a_template_changes_can_be_excluded_or_leads_to_a_setting(monkeypatch):
    monkeypatch.setattr(PAIR.student.tokenizer, "chat_template", NO_SYSTEM)
    mixed = [*said("hello", system="Be kind."), *said("bye")]
    [found] = describe_prompts(mixed, PAIR, 60).findings
    assert found.change == {"exclude_rows": ["1"]}
    # nothing would be left
    [found] = describe_prompts(mixed[:1], PAIR, 60).findings
    assert found.change == {} and found.setting == "student.model"
    # the same text in every row, as the settings say
    [found] = describe_prompts(mixed, PAIR, 60, data=DataConfig(held_out=0, system="Be kind.")).findings
    assert found.change == {"system": ""}
    monkeypatch.setattr(PAIR.teacher.tokenizer, "chat_template", NO_SYSTEM)
    [found] = describe_prompts(said("bye"), PAIR, 60, teacher_system="Be wise.").findings
    assert found.change == {} and found.setting == "teacher.system"
    monkeypatch.setattr(PAIR.teacher.tokenizer, "chat_template", None)
    [found] = describe_prompts(said("bye"), PAIR, 60).findings
    assert found.change == {} and found.setting == "teacher.model"
    # no room for an answer, whatever is left out
    assert "rollout.max_new_tokens" in [each.setting for each in describe_prompts(said("bye"), PAIR, 0).findings]
