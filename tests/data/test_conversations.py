"""Who speaks by any name, text in any form, tool calls and their results; what cannot be read says why."""

import json

import pytest

from simct.config.sections import DataConfig
from simct.data.conversations import Unusable, conversation, messages_in
from simct.data.prompts import prompts_in
from simct.errors import DataError

USER = {"role": "user", "content": "Q"}
SAID = {"role": "assistant", "content": "A"}


@pytest.mark.parametrize(
    ("name", "role"),
    [
        *((name, "user") for name in ("user", "human", "User", " HUMAN ", "prompter")),
        *((name, "assistant") for name in ("assistant", "gpt", "model", "bot", "chatgpt", "bing", "bard", "AI")),
        *((name, "system") for name in ("system", "developer")),
        *((name, "tool") for name in ("tool", "function", "observation", "tool_response")),
    ],
)
def test_roles_of_every_dialect(name, role):
    messages, _ = conversation([{"from": name, "value": "x"}, {"from": "human", "value": "Q"}])
    assert messages[0]["role"] == role


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("Hi", "Hi"),
        ([{"type": "text", "text": "Hi"}], "Hi"),
        ([{"type": "text", "text": "Hi "}, {"type": "text", "text": "you", "image": None}], "Hi you"),
        ([{"type": "input_text", "text": "Hi"}], "Hi"),
        ([{"text": "Hi"}], "Hi"),
        ([{"type": "text", "content": "Hi"}], "Hi"),
        (["Hi", " you"], "Hi you"),
        ({"text": "Hi"}, "Hi"),
    ],
)
def test_text_in_every_form(content, text):
    messages, _ = conversation([{"role": "user", "content": content}])
    assert messages == [{"role": "user", "content": text}]


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([{"role": ["user"], "content": "Q"}], "a role is not text"),
        ([{"role": 7, "content": "Q"}], "a role is not text"),
        ([{"role": None, "content": "Q"}], "a message has no role"),
        ([{"content": "Q"}], "a message has no role"),
        ([{"role": "narrator", "content": "Q"}], "an unknown role 'narrator'"),
        ([{"role": "user", "content": None}], "a message has no text"),
        ([{"role": "user", "content": 7}], "a message has no text"),
        ([{"role": "user"}], "a message has no text"),
        ([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Q"}]}], "a part of type 'image'"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "a part of type 'image_url'"),
        ([{"role": "user", "content": "  "}], "an empty prompt"),
        ([SAID], "no message of a user"),
        ([{"role": "system", "content": "S"}], "no message of a user"),
        (["Q", "A"], "not an object"),
        ([USER, {"role": "function_call", "content": "{}"}, {"role": "tool", "content": "7"}], "no name"),
        ([USER, {"role": "function_call", "content": "{"}, {"role": "tool", "content": "7"}], "not valid JSON"),
        ([USER, {**SAID, "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}, USER], "not a JSON object"),
        ([USER, {**SAID, "tool_calls": [7]}, USER], "no name"),
    ],
)
def test_what_cannot_be_used_says_why(turns, reason):
    with pytest.raises(Unusable, match=reason):
        conversation(turns)


def test_a_prompt_ends_where_the_model_is_to_answer():
    system = {"role": "system", "content": "S"}
    assert conversation([system, USER, SAID, {**USER, "content": "Q2"}, {**SAID, "content": "A2"}]) == (
        [system, USER, SAID, {**USER, "content": "Q2"}], "A2",
    )  # fmt: skip
    assert conversation([USER]) == ([USER], None)
    assert conversation([USER, SAID, SAID]) == ([USER], "A")


CALLS = {
    "OpenAI": {
        "role": "assistant", "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": "1"}'}}],
    },
    "an object": {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"x": "1"}}}]},
    "function_call": {"role": "assistant", "content": "", "function_call": {"name": "f", "arguments": '{"x": "1"}'}},
    "ShareGPT": {"from": "function_call", "value": '{"name": "f", "arguments": {"x": "1"}}'},
    "ShareGPT in Python": {"from": "function_call", "value": "{'name': 'f', 'arguments': {'x': '1'}}"},
    "several as text": {"role": "assistant", "tool_calls": '[{"name": "f", "parameters": {"x": "1"}}]'},
}  # fmt: skip


@pytest.mark.parametrize("dialect", CALLS)
def test_tool_calls_of_every_dialect(dialect):
    messages, answer = conversation([USER, CALLS[dialect], {"from": "observation", "value": {"temp": 7}}, SAID])
    _, call, result = messages
    assert call["content"] == "" and [each["function"] for each in call["tool_calls"]] == [
        {"name": "f", "arguments": {"x": "1"}}
    ]
    assert result["content"] == '{"temp": 7}' and result["name"] == "f"
    assert result["tool_call_id"] == call["tool_calls"][0]["id"] and answer == "A"


def test_results_find_their_calls_by_id_or_in_order():
    call = {"function": {"name": "f", "arguments": {}}}
    other = {"id": "mine12345", "function": {"name": "g", "arguments": {}}}
    results = [{"role": "tool", "content": "1", "tool_call_id": "mine12345"}, {"role": "tool", "content": "2"}]
    messages, _ = conversation([USER, {"role": "assistant", "tool_calls": [call, other]}, *results])
    assert [(m["name"], m["tool_call_id"]) for m in messages[2:]] == [("g", "mine12345"), ("f", "call00001")]


def test_texts_that_look_like_messages():
    assert messages_in("[a list] of things") is None and messages_in('[{"a": 1}]') is None
    assert messages_in('[{"role": "user", "content": "Q"}]') == [USER]
    with pytest.raises(Unusable, match="not valid JSON"):
        messages_in('[{"role": "user", "content": "Q"')


def test_rows_that_cannot_be_used_are_counted_and_the_rest_is_used():
    human, call = {"from": "human", "value": "Q"}, {"from": "function_call", "value": "{}"}
    rows = [
        {"conversations": [human, call, {"from": "tool", "value": "7"}]},
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
        {"conversations": []},
        {"conversations": None},
        {"conversations": [{"from": ["human"], "value": "Q"}]},
        {"conversations": [{"from": "human", "value": "half \ud83d"}]},
    ]  # fmt: skip
    found = prompts_in(rows, DataConfig(prompts="rows"))
    assert [prompt.row for prompt in found.prompts] == [2] and found.summary.rows == 6
    counted = {reason: (skipped.count, skipped.row) for reason, skipped in found.summary.skipped.items()}
    assert counted == {
        "a tool call has no name": (1, 1),
        "an empty prompt": (2, 3),
        "a role is not text": (1, 5),
        "text that is not valid Unicode": (1, 6),
    }
    assert found.summary.notices() == [
        "5 rows of 6 are skipped: 2 × an empty prompt (first: row 3), 1 × a tool call has no name (first: row 1), "
        "1 × a role is not text (first: row 5), 1 × text that is not valid Unicode (first: row 6)."
    ]


def test_many_reasons_are_cut_and_nothing_left_is_an_error():
    rows = [{"messages": [{"role": f"role {n}", "content": "Q"}]} for n in range(20)]
    with pytest.raises(DataError, match="no prompt that can be used: 1 × an unknown role 'role 0'") as caught:
        prompts_in(rows, DataConfig(prompts="rows"))
    assert "14 for other reasons" in str(caught.value) and "\n" not in str(caught.value)


def test_a_json_text_of_messages_survives_json(tmp_path):
    rows = [{"messages": json.dumps([USER, SAID])}]
    assert prompts_in(json.loads(json.dumps(rows)), DataConfig(prompts="rows")).prompts[0].messages == (USER,)
