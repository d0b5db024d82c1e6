"""What each model reads: all of the text, by its own template, the same on every day; or the reason why not."""

import json
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

import pytest

from simct.data import templates
from simct.data.conversations import conversation
from simct.data.prompts import Prompt
from simct.data.rendering import render_prompts
from simct.data.templates import fold_system, lost_text, merge_turns, prompt_ids, render, rendering
from simct.errors import DataError, TemplateLosesText
from simct.tokenization.chat_templates import chat_template_of, select_chat_template
from simct.tokenization.token_bytes import load_tokenizer
from tests.support.random_pair import TEMPLATE, student_tokenizer

ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}"
)
# as the templates of SmolVLM and Idefics write a message
LISTS = (
    "{% for m in messages %}[{{ m.role }}]{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}"
    "{% endif %}{% endfor %}{% endfor %}"
)
# templates of models, where the package is installed that has them
_TRL = find_spec("trl")
WRITTEN = Path(_TRL.submodule_search_locations[0] if _TRL else "absent") / "chat_templates"


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def assistant(text: str, **more) -> dict:
    return {"role": "assistant", "content": text, **more}


def system(text: str) -> dict:
    return {"role": "system", "content": text}


HELLO = [user("Hello there")]
TURNS = [system("Be brief."), user("Hello there"), assistant("What is it?"), user("Nothing much")]
TOOLS, _ = conversation(
    [
        user("How warm is it?"),
        {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "São \\"Paulo\\"", "days": 3}}'},
        {"from": "observation", "value": '{"temp": 21, "note": "warm & <b>"}'},
        assistant("It is warm"),
        user("Thanks, and now?"),
    ]
)


@pytest.mark.parametrize(
    ("template", "messages", "text", "changes"),
    [
        (TEMPLATE, HELLO, "<|user|>Hello there<|end|><|assistant|>", ()),
        (LISTS, HELLO, "[user]Hello there", ()),
        ("{{ messages[0].content | trim }}", [user("  Hello\n\n there ")], "Hello\n\n there", ()),
        (ALTERNATING, HELLO, "[user]Hello there", ()),
        (ALTERNATING, [user("One"), user("Two")], "[user]One\n\nTwo", ("merged",)),
        (ALTERNATING, [system("S"), user("One")], "[user]S\n\nOne", ("folded",)),
        (ALTERNATING, [system("S"), user("One"), user("Two")], "[user]S\n\nOne\n\nTwo", ("folded", "merged")),
        ("{{ messages[-1].content }}", [system("S"), user("One")], "S\n\nOne", ("folded",)),
        ("{{ messages[0].content | tojson }}", [user('say "é"\n')], '"say \\"é\\"\\n"', ()),
    ],
)
def test_a_conversation_is_given_in_the_form_that_the_template_takes(template, messages, text, changes):
    found = rendering(student_tokenizer(template=template), messages)
    assert (found.text, found.changes) == (text, changes)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("<s>", "drops a user's text"),
        ("{{ messages[-1].content }}", "drops a user's text"),
        ("{% for m in messages %}{{ m.content[:14] }}{% endfor %}", "cuts off a user's text"),
        ("{% for m in messages | reverse %}{{ m.content }}{% endfor %}", "reorders an assistant's text"),
        ("{% for m in messages if m.role != 'assistant' %}{{ m.content }}{% endfor %}", "drops an assistant's text"),
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "drops a user's text"),
    ],
)
def test_a_template_that_loses_text_is_refused(template, words):
    turns = [user("Hello there, whoever you are"), assistant("What is it?"), user("Nothing much, or is it?")]
    with pytest.raises(TemplateLosesText, match=words) as caught:
        render(student_tokenizer(template=template), turns)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ raise_exception('never') }}", "refuses a conversation: never"),
        ("{{ messages[0].content + 1 }}", "fails on a conversation: TypeError: can only concatenate str"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{% for %}", "refuses a conversation: "),
        ("{{ messages[9].content.x }}", "refuses a conversation: "),
        ("{{ nothing() }}", "'nothing' is undefined"),
        ("{{ messages.append(1) }}", "refuses a conversation: "),
    ],
)
def test_whatever_a_template_raises_is_one_line(template, words):
    with pytest.raises(DataError, match=words) as caught:
        render(student_tokenizer(template=template), HELLO)
    assert "\n" not in str(caught.value)


def test_a_system_text_may_stand_anywhere_and_thinking_may_be_left_out():
    assert lost_text(TURNS, "Hello there What is it? Be brief. Nothing much") is None
    thought = [user("Hello"), assistant("<think>\nhm\n</think>\n\nHi"), user("Bye")]
    assert lost_text(thought, "Hello Hi Bye") is None
    assert lost_text(thought, "Hello hm Bye") == "drops an assistant's text"
    assert lost_text([user("twice"), user("twice")], "twice") == "reorders a user's text"
    assert lost_text([user("a  b\n\nc")], "a b c") is None


@pytest.mark.parametrize("name", sorted(path.name for path in WRITTEN.glob("*.jinja")))
def test_templates_that_models_come_with_keep_every_text(name):
    tokenizer = student_tokenizer(template=(WRITTEN / name).read_text())
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    for messages in (HELLO, TURNS, [system("Be brief."), user("One"), user("Two")]):
        text = render(tokenizer, messages)
        assert all(message["content"] in text for message in messages)


@pytest.mark.parametrize("name", ["qwen3", "qwen2_5", "llama3_1", "deepseekv3", "gptoss", "glm4moe", "lfm2_v2"])
@pytest.mark.skipif(_TRL is None, reason="trl is absent: pip install --no-deps -r requirements-test-tokenizers.txt")
def test_tool_calls_and_results_are_rendered(name):
    tokenizer = student_tokenizer(template=(WRITTEN / f"{name}.jinja").read_text())
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    text = render(tokenizer, TOOLS)
    for part in ("weather", "São", "21", "It is warm", "Thanks, and now?"):
        assert part in text, part


@pytest.mark.parametrize("name", ["gemma", "phi3", "cohere", "smolvlm"])
@pytest.mark.skipif(_TRL is None, reason="trl is absent: pip install --no-deps -r requirements-test-tokenizers.txt")
def test_templates_without_tool_calls_say_so(name):
    tokenizer = student_tokenizer(template=(WRITTEN / f"{name}.jinja").read_text())
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    with pytest.raises(DataError, match="cannot take a conversation with tool calls"):
        render(tokenizer, TOOLS)


WEATHER = {"name": "get_weather", "description": "Now", "parameters": {"type": "object", "properties": {}}}
OFFERED = [{"type": "function", "function": WEATHER}]


@pytest.mark.parametrize("name", ["qwen3", "qwen2_5", "llama3_1", "gptoss", "glm4moe", "lfm2_v2"])
@pytest.mark.skipif(_TRL is None, reason="trl is absent: pip install --no-deps -r requirements-test-tokenizers.txt")
def test_tools_are_given_to_the_templates_of_models(name):
    tokenizer = student_tokenizer(template=(WRITTEN / f"{name}.jinja").read_text())
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    found = rendering(tokenizer, HELLO, None, OFFERED)
    assert "get_weather" in found.text and found.changes == ()
    assert "get_weather" not in render(tokenizer, HELLO)


def test_tools_are_left_out_where_a_template_has_no_place_for_them():
    tokenizer = student_tokenizer()
    mentioned = [user("call get_weather please")]
    assert rendering(tokenizer, mentioned, None, OFFERED).changes == (templates.UNTOOLED,)
    assert rendering(tokenizer, mentioned, None, OFFERED).text == render(tokenizer, mentioned)
    rendered = render_prompts("student", tokenizer, [Prompt((user("Hi"),), tools=tuple(OFFERED))] * 2)
    assert rendered.notices() == ["The student's template has no place for tools, which are left out (2 prompts)."]
    tokenizer.chat_template = None
    rendered = render_prompts("student", tokenizer, [Prompt((user("Hi"),), tools=tuple(OFFERED))])
    assert rendered.ids == [prompt_ids(tokenizer, [user("Hi")])] and len(rendered.notices()) == 2


def test_tools_go_to_the_template_called_tool_use():
    tokenizer = student_tokenizer()
    tool_use = "{% for t in tools %}({{ t.function.name }}){% endfor %}" + TEMPLATE
    tokenizer.chat_template = {"default": TEMPLATE, "tool_use": tool_use}
    assert rendering(tokenizer, HELLO, None, OFFERED).text == "(get_weather)" + render(tokenizer, HELLO)
    assert render(tokenizer, HELLO) == "<|user|>Hello there<|end|><|assistant|>"
    # the one in use comes first
    tokenizer.chat_template["default"] = "!" + tool_use
    assert rendering(tokenizer, HELLO, None, OFFERED).text.startswith("!(get_weather)")


def test_the_clock_does_not_change_a_prompt(monkeypatch):
    clock = "{{ strftime_now('%d %b %Y %H:%M:%S.%f') }}"
    with_date = "{%- set date = strftime_now('%d %b %Y') if strftime_now is defined -%}\n{{ date }}: " + TEMPLATE
    texts = [render(student_tokenizer(template=clock + TEMPLATE), HELLO) for _ in range(2)]
    assert texts[0] == texts[1] and texts[0].startswith("01 Jan 2026 12:00:00.000000<|user|>")
    assert render(student_tokenizer(template=with_date), HELLO).startswith("01 Jan 2026: <|user|>")
    assert str(datetime.now().year) not in texts[0] or templates.TEMPLATE_DATE.year == datetime.now().year
    formats = "%Y-%m-%d %-d %B %A %I %p %j %y %%"
    shown = render(student_tokenizer(template=f"{{{{ strftime_now('{formats}') }}}} {TEMPLATE}"), HELLO)
    assert shown.startswith(templates.TEMPLATE_DATE.strftime(formats) + " <|user|>")


@pytest.mark.parametrize(
    "start", ["", "\n", "  ", "\n  {% if true %}x{% endif %}\n", "{# a #}\n", "{%- if true %}y{% endif %}"]
)
def test_a_fixed_date_changes_nothing_else(start):
    dated = "{% set now = strftime_now('%Y') %}"
    with_clock = render(student_tokenizer(template=start + dated + TEMPLATE), HELLO)
    without = render(student_tokenizer(template=start + "{% set now = '2026' %}" + TEMPLATE), HELLO)
    assert with_clock == without


def test_of_several_templates_the_default_or_the_named_one_is_used():
    tokenizer = student_tokenizer(template={"default": "[d]" + TEMPLATE, "other": "[o]" + TEMPLATE})
    assert render(tokenizer, HELLO).startswith("[d]")
    select_chat_template(tokenizer, "other")
    assert render(tokenizer, HELLO).startswith("[o]") and set(tokenizer.chat_template) == {"default", "other"}
    with pytest.raises(DataError, match="no chat template called 'third'; it has default, other"):
        select_chat_template(tokenizer, "third")


def test_several_templates_without_a_default_ask_for_a_name():
    tokenizer = student_tokenizer(template={"rag": TEMPLATE, "tool_use": TEMPLATE})
    with pytest.raises(DataError, match=r"several chat templates \(rag, tool_use\).*chat_template"):
        render(tokenizer, HELLO)
    select_chat_template(tokenizer, "rag")
    assert render(tokenizer, HELLO) == "<|user|>Hello there<|end|><|assistant|>"
    only = student_tokenizer(template={"rag": "[r]" + TEMPLATE})
    assert render(only, HELLO).startswith("[r]")
    with pytest.raises(DataError, match="it has one without a name"):
        select_chat_template(student_tokenizer(), "rag")
    with pytest.raises(DataError, match="it has none at all"):
        select_chat_template(student_tokenizer(template=None), "default")


@pytest.mark.parametrize("file", ["chat_template.json", "processor_config.json"])
def test_a_template_of_the_processor_is_the_tokenizers(tmp_path, file):
    student_tokenizer(template=None).save_pretrained(tmp_path)
    assert chat_template_of(load_tokenizer(str(tmp_path))) is None
    (tmp_path / file).write_text(json.dumps({"chat_template": LISTS}))
    assert render(load_tokenizer(str(tmp_path)), HELLO) == "[user]Hello there"
    (tmp_path / file).write_text("[")
    assert chat_template_of(load_tokenizer(str(tmp_path))) is None


def test_a_named_template_comes_with_the_tokenizer(tmp_path):
    student_tokenizer(template={"default": TEMPLATE, "short": "{{ messages[0].content }}"}).save_pretrained(tmp_path)
    assert render(load_tokenizer(str(tmp_path), chat_template="short"), HELLO) == "Hello there"
    with pytest.raises(DataError, match="no chat template called 'long'"):
        load_tokenizer(str(tmp_path), chat_template="long")


@pytest.mark.parametrize("template", [None, TEMPLATE])
def test_a_prompt_never_ends_with_an_eos_that_the_tokenizer_adds(template):
    from tokenizers.processors import TemplateProcessing

    tokenizer = student_tokenizer(template=template)
    eos = tokenizer.eos_token
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single=f"$A {eos}", special_tokens=[(eos, tokenizer.eos_token_id)]
    )
    assert tokenizer("Hello there")["input_ids"][-1] == tokenizer.eos_token_id
    ids = prompt_ids(tokenizer, HELLO)
    assert ids[-1] != tokenizer.eos_token_id and ids
    assert tokenizer.decode(ids) == ("Hello there" if template is None else "<|user|>Hello there<|end|><|assistant|>")


def test_conversations_in_other_forms():
    assert fold_system([user("a"), system("S"), user("b")]) == [user("a"), user("S\n\nb")]
    assert fold_system([user("a"), system("S")]) == [user("a"), system("S")]
    assert merge_turns([user("a"), user("b"), assistant("c"), assistant("")]) == [user("a\n\nb"), assistant("c")]
    calls = [{"function": {"name": "f", "arguments": {}}}]
    assert merge_turns([assistant("c"), assistant("", tool_calls=calls)]) == [assistant("c", tool_calls=calls)]


# All prompts of a run


def prompts(*conversations: list[dict]) -> list[Prompt]:
    return [Prompt(tuple(messages), row=row) for row, messages in enumerate(conversations, 10)]


def test_prompts_that_a_template_refuses_are_skipped_and_counted():
    several = prompts(HELLO, [assistant("first"), user("then")], [user("One"), user("Two")], [system("S"), user("x")])
    found = render_prompts("student", student_tokenizer(template=ALTERNATING), several)
    assert [bool(ids) for ids in found.ids] == [True, False, True, True]
    (reason,) = found.skipped
    assert "roles must alternate" in reason and (found.skipped[reason].count, found.skipped[reason].row) == (1, 11)
    assert found.notices() == [
        "The student's template has no place for a system text, which is put before the user's (1 prompt).",
        "The student's template refuses two turns of a user in a row, which are joined (1 prompt).",
    ]
    assert found.losses()[0].startswith("1 prompt is skipped, which the student cannot read: 1 × The chat template")


def test_a_model_without_a_template_is_reported():
    found = render_prompts("teacher", student_tokenizer(template=None), prompts(HELLO, TURNS))
    assert found.notices() == ["The teacher has no chat template: it reads the prompt as plain text."]
    assert [len(ids) > 0 for ids in found.ids] == [True, False] and "no chat template" in found.losses()[0]


def test_a_template_that_loses_the_text_of_many_prompts_is_refused():
    cut = student_tokenizer(template="{{ messages[0].content[:20] }}")
    long, short = [user("a text of more than twenty letters")], [user("short")]
    with pytest.raises(TemplateLosesText, match=r"cuts off a user's text.*3 of 4 prompts, first in row 10"):
        render_prompts("student", cut, prompts(long, long, long, short))
    found = render_prompts("student", cut, prompts(*[short] * 12, long))
    assert [bool(ids) for ids in found.ids] == [True] * 12 + [False] and "cuts off" in found.losses()[0]
