"""Prompts from every kind of file, rendered by each model's own template; every bad source is one line."""

import json

import datasets
import pytest

from simct.config.sections import DataConfig
from simct.data.prompts import load_prompts
from simct.data.templates import prompt_ids, render
from simct.errors import DataError
from tests.support.random_pair import TEMPLATE, student_tokenizer

ROWS = [{"prompt": "What is 2+2?", "answer": 4}, {"prompt": "Naïve 日本 🙂?", "answer": 5}]
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + TEMPLATE
)


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet"])
def test_files_of_each_kind_give_the_same_prompts(tmp_path, suffix):
    path = tmp_path / f"prompts.{suffix}"
    rows = datasets.Dataset.from_list(ROWS)
    {"jsonl": rows.to_json, "json": rows.to_json, "csv": rows.to_csv, "parquet": rows.to_parquet}[suffix](str(path))
    prompts = load_prompts(DataConfig(prompts=str(path)))
    assert [prompt.text for prompt in prompts] == [row["prompt"] for row in ROWS]
    assert [prompt.answer for prompt in prompts] == ["4", "5"]


def test_messages_are_cut_after_the_last_user_turn(tmp_path):
    path = tmp_path / "chat.jsonl"
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Bye"), ("assistant", "Ciao")]
    path.write_text(json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]}))
    (prompt,) = load_prompts(DataConfig(prompts=str(path)))
    assert [message["role"] for message in prompt.messages] == ["system", "user", "assistant", "user"]
    assert prompt.text == "Bye"


def test_share_gpt_turns_are_understood(tmp_path):
    path = tmp_path / "chat.jsonl"
    path.write_text(json.dumps({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}]}))
    (prompt,) = load_prompts(DataConfig(prompts=str(path)))
    assert prompt.messages == ({"role": "user", "content": "Hi"},)


def test_a_named_column_a_system_text_and_a_limit(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(json.dumps({"task": f"t{n}", "prompt": "no"}) for n in range(5)))
    prompts = load_prompts(DataConfig(prompts=str(path), column="task", system="Be kind.", limit=2))
    assert [prompt.text for prompt in prompts] == ["t0", "t1"]
    assert prompts[0].messages[0] == {"role": "system", "content": "Be kind."}


@pytest.mark.parametrize(
    ("name", "content", "options", "words"),
    [
        ("missing.jsonl", None, {}, "no file"),
        ("empty.jsonl", "", {}, "empty"),
        ("blank.jsonl", '{"prompt": "  "}', {}, "no prompt"),
        ("other.jsonl", '{"input": "x", "id": 3}', {}, "data.column"),
        ("named.jsonl", '{"prompt": "x"}', {"column": "question"}, "no column 'question'"),
        ("answers.jsonl", '{"prompt": "x"}', {"answer_column": "gold"}, "no column 'gold'"),
        ("broken.jsonl", '{"prompt": "x"', {}, "Cannot load"),
        ("numbers.jsonl", '{"prompt": 5}', {}, "text or messages"),
        ("roles.jsonl", '{"messages": [{"role": "robot", "content": "x"}]}', {}, "role"),
        ("notes.docx", "x", {}, "not JSONL"),
    ],
)
def test_a_bad_source_is_one_line(tmp_path, name, content, options, words):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=words) as caught:
        load_prompts(DataConfig(prompts=str(path), **options))
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_the_template_renders_with_the_generation_prompt():
    tokenizer = student_tokenizer()
    messages = [{"role": "user", "content": "the 12"}]
    assert render(tokenizer, messages) == "<|user|>the 12<|end|><|assistant|>"
    ids = prompt_ids(tokenizer, messages)
    assert ids[0] == tokenizer.convert_tokens_to_ids("<|user|>")
    assert ids[-1] == tokenizer.convert_tokens_to_ids("<|assistant|>")


def test_a_template_without_a_system_role_gets_it_with_the_first_user_message():
    tokenizer = student_tokenizer(template=NO_SYSTEM)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert render(tokenizer, messages) == "<|user|>Be brief.\n\nHi<|end|><|assistant|>"


def test_a_template_that_refuses_everything_is_reported():
    tokenizer = student_tokenizer(template="{{ raise_exception('never') }}")
    with pytest.raises(DataError, match="refuses a conversation: never"):
        render(tokenizer, [{"role": "user", "content": "Hi"}])


def test_thinking_can_be_switched():
    template = TEMPLATE + "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
    tokenizer = student_tokenizer(template=template)
    messages = [{"role": "user", "content": "Hi"}]
    assert not render(tokenizer, messages).endswith("</think>")
    assert render(tokenizer, messages, enable_thinking=False).endswith("<think></think>")


def test_without_a_template_one_user_message_is_read_as_it_is():
    tokenizer = student_tokenizer(template=None)
    assert render(tokenizer, [{"role": "user", "content": "Once upon"}]) == "Once upon"
    assert tokenizer.decode(prompt_ids(tokenizer, [{"role": "user", "content": "Once upon"}])) == "Once upon"
    with pytest.raises(DataError, match="no chat template"):
        render(tokenizer, [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}])
