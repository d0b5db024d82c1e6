"""Every dialect of the ecosystem gives the prompts, system texts and answers that it holds."""

import json

import pytest

from simct.config.sections import DataConfig
from simct.data.columns import answer_of
from simct.data.prompts import PromptSet, prompts_in
from simct.errors import DataError

CHAT = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
SHARED = [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]
# row, format, what is asked, system text, answer
DIALECTS = {
    "Alpaca": ({"instruction": "I", "input": "X", "output": "A"}, "Alpaca", "I\n\nX", None, "A"),
    "Alpaca without input": ({"instruction": "I", "input": "", "output": "A"}, "Alpaca", "I", None, "A"),
    "Alpaca, response": ({"instruction": "I", "response": "A"}, "Alpaca", "I", None, "A"),
    "Dolly": ({"instruction": "I", "context": "X", "response": "A", "category": "qa"}, "Dolly", "I\n\nX", None, "A"),
    "OpenOrca": ({"id": "1", "system_prompt": "S", "question": "Q", "response": "A"}, "OpenOrca", "Q", "S", "A"),
    "ShareGPT": ({"conversations": SHARED}, "ShareGPT conversations", "Q", None, "A"),
    "ShareGPT, system": ({"system": "S", "conversations": SHARED}, "ShareGPT conversations", "Q", "S", "A"),
    "OpenAI": ({"messages": CHAT}, "chat messages", "Q", None, "A"),
    "OpenAI as JSON": ({"messages": json.dumps(CHAT)}, "chat messages", "Q", None, "A"),
    "OpenAI as Python": ({"messages": repr(CHAT)}, "chat messages", "Q", None, "A"),
    "conversation": ({"conversation": CHAT, "model": "m"}, "chat messages", "Q", None, "A"),
    "prompt": ({"prompt": "Q"}, "prompts", "Q", None, None),
    "prompt and completion": ({"prompt": "Q", "completion": "A"}, "prompt and completion", "Q", None, "A"),
    "both as messages": ({"prompt": CHAT[:1], "completion": CHAT[1:]}, "chat messages", "Q", None, "A"),
    "question and answer": ({"question": "Q", "answer": "A"}, "question and answer", "Q", None, "A"),
    "capitals": ({"Question": "Q", "Answer": "A"}, "Question and Answer", "Q", None, "A"),
    "problem and solution": ({"problem": "Q", "solution": "A"}, "problem and solution", "Q", None, "A"),
    "MATH": ({"problem": "Q", "solution": "steps", "answer": "A"}, "problem and answer", "Q", None, "A"),
    "query and response": ({"query": "Q", "response": "A"}, "query and response", "Q", None, "A"),
    "input and output": ({"input": "Q", "output": "A"}, "input and output", "Q", None, "A"),
    "system": ({"prompt": "Q", "system": "S"}, "prompts", "Q", "S", None),
    "preferences": ({"prompt": "Q", "chosen": "A", "rejected": "B"}, "preference pairs", "Q", None, "A"),
    "preferences as messages": (
        {"prompt": "Q", "chosen": CHAT, "rejected": CHAT[:1]}, "preference pairs", "Q", None, "A",
    ),
    "preferences without a prompt": ({"chosen": CHAT, "rejected": CHAT}, "preference pairs", "Q", None, "A"),
    "preferences as transcripts": (
        {"chosen": "\n\nHuman: Q\n\nAssistant: A", "rejected": "\n\nHuman: Q\n\nAssistant: B"},
        "preference pairs", "Q", None, "A",
    ),
    "numbers": ({"question": "Q", "answer": 4}, "question and answer", "Q", None, "4"),
    "SQuAD": (
        {"question": "Q", "answers": {"text": ["A", "B"], "answer_start": [1, 2]}}, "question and answers", "Q", None,
        "A",
    ),
}  # fmt: skip


def read(*rows: dict, **options) -> PromptSet:
    return prompts_in(rows, DataConfig(prompts="rows", **options))


@pytest.mark.parametrize("name", DIALECTS)
def test_dialects(name):
    row, kind, asked, system, answer = DIALECTS[name]
    found = read(row, row)
    assert found.summary.format == kind and len(found.prompts) == 2
    prompt = found.prompts[1]
    assert (prompt.text, prompt.answer, prompt.row) == (asked, answer, 2)
    roles = {message["role"]: message["content"] for message in prompt.messages}
    assert roles == {"user": asked} | ({"system": system} if system else {})
    assert set(found.summary.unread) <= {"id", "category", "model"}


@pytest.mark.parametrize(
    ("value", "text"),
    [(42, "42"), (0, "0"), (["1", 2], "1\n2"), ([{"type": "text", "text": "X"}], "X"), ({"content": "X"}, "X")],
)
def test_no_text_next_to_the_prompt_is_left_out(value, text):
    [prompt] = read({"instruction": "Add", "input": value, "output": "A"}).prompts
    assert prompt.text == f"Add\n\n{text}"
    [prompt] = read({"system": value, "question": "Q"}).prompts
    assert prompt.messages[0] == {"role": "system", "content": text}


@pytest.mark.parametrize("value", [{"a": 1}, True, [{"type": "image"}], b"x"])
def test_a_row_whose_context_is_not_text_is_skipped(value):
    rows = [{"instruction": "Add", "input": value, "output": "A"}, {"instruction": "Add", "input": None, "output": "A"}]
    found = read(*rows)
    assert [prompt.row for prompt in found.prompts] == [2] and "its input is" in found.summary.skipped_line
    found = read({"system": value, "question": "Q"}, {"system": "", "question": "Q"})
    assert [prompt.row for prompt in found.prompts] == [2] and "its system is" in found.summary.skipped_line


def test_a_column_without_a_name_is_no_text_that_somebody_misses():
    assert read({"": "0", "prompt": "Q"}).summary.unread_line == ""


def test_rows_without_columns_are_one_line():
    with pytest.raises(DataError, match="rows without any column"):
        read({})


def test_rows_may_differ_in_their_optional_columns():
    found = read({"prompt": "Q"}, {"prompt": "Q", "system": "S", "answer": "A"}, {"prompt": "Q", "response": "B"})
    assert [prompt.answer for prompt in found.prompts] == [None, "A", "B"]
    assert [len(prompt.messages) for prompt in found.prompts] == [1, 2, 1]
    assert found.summary.columns == {"prompt": "prompt", "system": "system", "answer": "answer or response"}


def test_a_conversation_keeps_its_own_system_text():
    own = [{"role": "developer", "content": "own"}, *CHAT]
    found = read({"messages": own, "system": "other"}, {"messages": CHAT}, system="of the run")
    assert [prompt.messages[0]["content"] for prompt in found.prompts] == ["own", "of the run"]
    assert found.prompts[0].messages[0]["role"] == "system"


def test_tools_of_a_row_come_with_its_prompt():
    bare = {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "int"}, "b": None}}}
    wrapped = {"type": "function", "function": {"name": "sub", "description": None}, "strict": None}
    rows = [
        {"messages": CHAT, "tools": [bare]},
        {"messages": CHAT, "tools": json.dumps([wrapped, bare])},
        {"messages": CHAT, "tools": [json.dumps(wrapped)]},
        {"messages": CHAT, "tools": "[]"},
        {"messages": CHAT, "tools": None},
        {"messages": CHAT, "tools": "[{"},
    ]
    found = read(*rows)
    names = [[tool["function"]["name"] for tool in prompt.tools] for prompt in found.prompts]
    assert names == [["add"], ["sub", "add"], ["sub"], [], []]
    # a table gives every row the fields of all
    assert found.prompts[0].tools[0]["function"]["parameters"]["properties"] == {"a": {"type": "int"}}
    assert found.prompts[2].tools[0]["function"] == {
        "name": "sub",
        "description": "",
        "parameters": {"type": "object", "properties": {}},
    }
    xlam = read({"query": "Q", "tools": json.dumps([{"name": "f", "parameters": {"x": {"type": "int"}}}])})
    assert xlam.prompts[0].tools[0]["function"]["parameters"]["properties"] == {"x": {"type": "int"}}
    assert found.summary.columns["tools"] == "tools" and "tools" in found.summary.used
    assert [*found.summary.skipped] == ["its tools are not functions with names"]


def test_tools_that_are_other_things_are_text():
    found = read({"prompt": "Build it", "tools": "hammer, saw"}, {"prompt": "Paint it", "tools": ["brush"]})
    assert not any(prompt.tools for prompt in found.prompts) and list(found.summary.unread) == ["tools"]


def test_a_cell_that_is_not_a_number_is_empty():
    found = read({"prompt": "Q", "answer": float("nan")}, {"prompt": float("nan"), "answer": 1.5})
    assert [prompt.answer for prompt in found.prompts] == [None]
    assert list(found.summary.skipped) == ["an empty prompt"]
    assert read({"a": "x", "b": float("nan")}, template="{a}{b}").prompts[0].text == "x"


def test_columns_can_be_named():
    row = {"prompt": "no", "task": "T", "gold": "G", "persona": "P"}
    found = read(row, column="task", answer_column="gold", system_column="persona")
    (prompt,) = found.prompts
    assert [message["content"] for message in prompt.messages] == ["P", "T"] and prompt.answer == "G"
    assert found.summary.unread == {"prompt": 1}
    assert read({"instruction": "I", "input": "X"}, column="instruction").summary.unread == {"input": 1}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{instruction}\n\n{input}", "I\n\nX"),
        ("{instruction}\\n\\n{input}", "I\n\nX"),
        ("Answer in \\boxed{{}}: {input}", "Answer in \\boxed{}: X"),
        ("{n}) {a column} {a.b}", "3) Y Z"),
        ("{choices}", "one\ntwo"),
        ("{instruction} {nothing}", "I"),
    ],
)
def test_a_template_joins_columns(template, text):
    row = {
        "instruction": "I",
        "input": "X",
        "n": 3,
        "a column": "Y",
        "a.b": "Z",
        "choices": ["one", "two"],
        "nothing": None,
    }
    found = read(row, template=template)
    assert found.prompts[0].text == text and found.summary.format == "template"


def test_what_a_template_reads_is_not_also_the_answer():
    row = {"question": "Q", "answer": "A", "output": "B"}
    assert read(row, template="{question} {answer}").prompts[0].answer == "B"
    assert read(row, template="{question} {answer}", answer_column="answer").prompts[0].answer == "A"
    assert read({**row, "system": "S"}, template="{question}").prompts[0].messages[0]["content"] == "S"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"template": "{instruction} {missing}"}, "column 'missing', and 'rows' has instruction, input"),
        ({"template": "{instruction"}, "Write {{ and }} for braces"),
        ({"template": '{"a": {instruction}}'}, "Write {{ and }} for braces"),
        ({"template": "no column"}, "names no column"),
        ({"column": "question"}, r"no column 'question' \(data.column\); it has instruction, input"),
        ({"answer_column": "gold"}, "no column 'gold'"),
        ({"system_column": "persona"}, "no column 'persona'"),
    ],
)
def test_a_column_that_is_not_there_is_one_line(options, words):
    with pytest.raises(DataError, match=words) as caught:
        read({"instruction": "I", "input": "X"}, **options)
    assert "\n" not in str(caught.value)


def test_text_that_nothing_reads_is_reported():
    rows = [{"prompt": "Q", "n": 1, "note": None, "tags": []}, {"prompt": "Q", "note": "N", "tags": ["a"], "late": "L"}]
    summary = read(*rows).summary
    assert sorted(summary.unread) == ["late", "note", "tags"] and set(summary.unread.values()) == {2}
    assert "late" in summary.notices()[0] and "data.template" in summary.notices()[0]
    assert read({"prompt": "Q", "chosen": "A", "rejected": "B"}).summary.notices() == []


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ("A", "A"),
        ("  ", None),
        (None, None),
        (0, "0"),
        (2.5, "2.5"),
        (True, "True"),
        (["A", "B"], "A"),
        ([], None),
        (CHAT, "A"),
        ({"value": "A", "aliases": ["a"]}, "A"),
        ({"text": []}, None),
        ([{"x": 1}], None),
        ([["A"], "B"], "A"),
        ({}, None),
    ],
)
def test_answers(value, answer):
    assert answer_of(value) == answer


def test_a_template_that_adds_unread_text_to_the_prompt():
    def templates(row: dict, **settings) -> dict[str, str]:
        return read(row, **settings).summary.templates

    assert templates({"question": "Q", "note": "N"}) == {"note": "{question}\n\n{note}"}
    assert templates({"instruction": "I", "input": "X", "note": "N"}) == {"note": "{instruction}\n\n{input}\n\n{note}"}
    assert templates({"q": "Q", "note": "N"}, template="Say {q}!") == {"note": "Say {q}!\n\n{note}"}
    # a template cannot hold a conversation, nor such a name
    assert templates({"messages": [{"role": "user", "content": "Q"}], "note": "N"}) == {}
    assert templates({"question": "Q", "no{te": "N"}) == templates({"question": "Q", "no:te": "N"}) == {}
    again = read({"question": "Q", "note": "N"}, template="{question}\n\n{note}")
    assert again.prompts[0].text == "Q\n\nN" and again.summary.unread == {}
