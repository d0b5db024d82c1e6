"""Bad input by kind: hypothesis strategies of commands together with the files that they read.

Each example is an `Attack`. In its arguments {here} is the folder of its files, {teacher} and {student} are folders of
models; a name of the files such as student/config.json replaces that one file of a copy of the student.
"""

import json
import string
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from simct import demo
from simct.config import RunConfig
from simct.config.sections import CHECKERS
from simct.methods import METHODS
from simct.setting import every_setting


@dataclass(frozen=True)
class Attack:
    arguments: tuple[str, ...]
    files: dict[str, bytes] = field(default_factory=dict)


PAIR = ("--teacher", "{teacher}", "--student", "{student}")
DISTILL = ("distill", "--detach", "--runs", "{here}/runs")
PROMPTS = ("--prompts", str(demo.PROMPTS), "--set", "data.limit=20")
SETTINGS = [name for name, _ in every_setting(RunConfig)]

NUMBERS = (
    0, -1, 1, 2**31, 2**32 - 1, 2**63, 10**9, 10**23, 1e-320, 1e300, float("inf"), float("-inf"), float("nan"), 0.5,
    -0.0,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    *NUMBERS,
    None,
    True,
    "",
    "x",
    "a/b",
    "..",
    "x" * 5000,
    "\x00",
    "\ud800",
    "ü 日本 🙂",
    [],
    {},
    [[]],
)


def plain(value: Any) -> bytes:
    return json.dumps(value).encode()


# run.yaml

SCALARS = st.one_of(
    st.sampled_from(
        [
            "2024-99-99", "2024-01-01", "!!int ''", "!!float x", "!!binary '@'", "!!timestamp 1", "!!set {a, b}",
            "!!omap [a]",
            "!!python/object/apply:os.system ['true']", "!!python/name:os.system", "!include /etc/passwd", "0x",
            "0b2", "1_0",
            "9" * 5000, "-" + "9" * 400, "1e400", ".inf", "-.inf", ".nan", "~", "''", "'\\0'", "\"\\0\"",
            "\"\\ud800\"", "yes", "on",
            "{}", "[]", "[[[[]]]]", "{a: {b: {c: d}}}", "&a [*a]", "*none", "<<: 1", "? [a]", "{? {a: 1} : b}", "- ",
            ": ", "|", ">",
            "x" * 6000, "../../etc/passwd", "%", "@", "`", "[" * 500, "{a: " * 30 + "}" * 30, "1:1:1", "1e23", "-1",
            "0", "1.5",
        ]
    ),
    st.text(alphabet=string.printable, max_size=12),
    st.integers().map(str),
    st.floats().map(str),
)  # fmt: skip


@st.composite
def run_yaml(draw: st.DrawFn) -> Attack:
    name = draw(
        st.sampled_from([*SETTINGS, "method_options.top_k", "method_options.beta", "nothing", "teacher", "data.x"])
    )
    *parents, last = name.split(".")
    line = f"{last}: {draw(SCALARS)}\n"
    for depth, parent in enumerate(reversed(parents)):
        line = f"{parent}:\n" + "".join(f"  {each}\n" for each in line.splitlines()) if depth == 0 else line
    base = f"teacher: {{teacher}}\nstudent: {{student}}\ndata: {{{{prompts: '{demo.PROMPTS}', limit: 20}}}}\n"
    before = draw(st.sampled_from([base, "", "---\n", "teacher: 1\n"]))
    return Attack(
        (*DISTILL, "--config", "{here}/run.yaml"),
        {"run.yaml": _with_models(before) + line.encode(errors="surrogatepass")},
    )


def _with_models(text: str) -> bytes:
    pair = {"teacher": str(demo.TEACHER), "student": str(demo.STUDENT)}
    return (text.format(**pair) if "{teacher}" in text else text).encode()


@st.composite
def run_yaml_bytes(draw: st.DrawFn) -> Attack:
    bombs = [
        b"a: &a [x]\n" + b"".join(b"%c: &%c [*%c,*%c,*%c]\n" % (c + 1, c + 1, c, c, c) for c in range(97, 110)),
        b"[" * 100_000, b"{a: " * 5000, b"\xff\xfe\x00", b"\x00", b"a: b\x07", b"- " * 20_000, b"x" * 200_000,
        b"%YAML 9.9\n---\na: b", b"--- a\n--- b\n", b"!!map [", b"&a " * 50, b"*a", b"\t- a", b"'", b"\"\\x",
        b"a: 'b\n\n c",
    ]  # fmt: skip
    content = draw(
        st.one_of(
            st.sampled_from(bombs),
            st.binary(max_size=60),
            st.text(max_size=60).map(lambda t: t.encode(errors="replace")),
        )
    )
    return Attack((*DISTILL, "--config", "{here}/run.yaml"), {"run.yaml": content})


# Flags

FLAG_VALUES = st.one_of(
    st.sampled_from(

        ["", " ", "0", "-1", "1e9", "1e23", "inf", "nan", "-inf", "9" * 5000, "x" * 5000, ",", ",,", "None", "null",
         "true", ".", "..", "/", "/dev/null", "/nowhere/at/all", "~", "~nobody/x", "a\nb", "ü", "--", "'", "a=b", "@", "a@b@c", "[", "{",
         "{}"]
    ),
    st.text(alphabet=string.printable, max_size=8),
    st.integers(-(10**12), 10**12).map(str),
)  # fmt: skip
RUN_FLAGS = (
    "--teacher", "--student", "--prompts", "--method", "--steps", "--seed", "--output", "--config", "--preset",
    "--resume",
    "--gpus", "--on", "--flavor", "--namespace", "--timeout", "--spend-limit", "--runs",
)  # fmt: skip
FLAGS = {
    "distill": RUN_FLAGS,
    "warmup": (*RUN_FLAGS, "--samples-per-prompt", "--checker", "--push-to"),
    "estimate": (*RUN_FLAGS[:9], "--hardware", "--devices", "--prompt-tokens", "--n-prompts", "--json"),
    "evaluate": ("--tasks", "--seed", "--samples", "--max-new-tokens", "--json", "--teacher", "--prompts", "--model"),
    "inspect": (
        "--text", "--dataset", "--column", "--split", "--subset", "--dataset-revision", "--limit", "--weights",
        "--prompts",
        "--dtype", "--at", "--before", "--compare", "--compare-teacher", "--sort", "--top", "--json", "--html", "--csv",
        "--teacher-revision", "--student-revision",
    ),
    "jobs": ("--runs", "--state", "--lines", "--set", "--flavor", "--timeout", "--spend-limit", "--namespace"),
    "publish": ("--repo-id", "--card", "--runs"),
    "settings": (),
}  # fmt: skip
BEFORE_FLAGS = {
    "distill": (*DISTILL, *PAIR, *PROMPTS),
    "warmup": ("warmup", "--detach", "--runs", "{here}/runs", *PAIR, *PROMPTS),
    "estimate": ("estimate", *PAIR, *PROMPTS),
    "evaluate": ("evaluate", "--model", "{here}/none", "--tasks", "none"),
    "inspect": ("inspect", *PAIR, "--limit", "3"),
    "jobs": ("jobs",),
    "publish": ("publish", "none", "--runs", "{here}/runs"),
    "settings": ("settings",),
}
# where a text as path or address would be looked for on the Hub or outside the example's folder
ELSEWHERE = ("--json", "--html", "--csv", "--output", "--runs")


@st.composite
def flags(draw: st.DrawFn) -> Attack:
    command = draw(st.sampled_from(list(FLAGS)))
    arguments = list(BEFORE_FLAGS[command])
    for flag in draw(st.lists(st.sampled_from(FLAGS[command]), max_size=2)) if FLAGS[command] else ():
        value = draw(FLAG_VALUES)
        if flag in ELSEWHERE and value and value not in ("/dev/null", "/nowhere/at/all"):
            value = "{here}/" + value.strip("/~").replace("..", "")[:200]
        arguments.append(f"{flag}={value}")
    if command in ("jobs", "settings"):
        arguments += draw(st.lists(FLAG_VALUES.filter(lambda text: not text.startswith("-")), max_size=2))
    return Attack(tuple(arguments))


@st.composite
def set_flags(draw: st.DrawFn) -> Attack:
    name = draw(
        st.one_of(
            st.sampled_from([*SETTINGS, *(f"method_options.{each}" for each in ("top_k", "beta", "chunk_rows"))]),
            FLAG_VALUES,
        )
    )
    value = draw(st.one_of(FLAG_VALUES, SCALARS, st.sampled_from([*METHODS, *CHECKERS])))
    return Attack((*DISTILL, *PAIR, *PROMPTS, f"--set={name}={value}"))


# Prompts

ROLES: tuple[Any, ...] = ("user", "assistant", "system", "tool", ["user"], {"a": 1}, None, 3, "", "x" * 100, True)
TEXTS = st.one_of(
    st.sampled_from([*VALUES, [{"type": "text", "text": "a"}], [{"type": "image"}], ["a", 3]]), st.text(max_size=8)
)
MESSAGES = st.lists(st.fixed_dictionaries({"role": st.sampled_from(ROLES), "content": TEXTS}), max_size=4)
ROWS = st.one_of(
    st.fixed_dictionaries({"prompt": TEXTS}, optional={"answer": TEXTS, "system": TEXTS}),
    st.fixed_dictionaries({"messages": st.one_of(MESSAGES, TEXTS)}),
    st.sampled_from(VALUES),
)


@st.composite
def prompt_rows(draw: st.DrawFn) -> Attack:
    rows = draw(st.lists(ROWS, min_size=1, max_size=4))
    text = "\n".join(json.dumps(row) for row in rows)
    return Attack((*DISTILL, *PAIR, "--prompts", "{here}/p.jsonl"), {"p.jsonl": text.encode()})


@st.composite
def prompt_bytes(draw: st.DrawFn) -> Attack:
    ending = draw(
        st.sampled_from(
            [".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet", ".arrow", ".jsonl.gz", ".csv.zst", ".json.xz", ""]
        )
    )
    known = [
        b"\xff\xfe\xfa", b"\xc3\x28", b'{"prompt": "a\xff"}', b"\x00" * 50, b'{"prompt": ' + b"[" * 60_000,
        b'{"prompt": "' + b"x" * 3_000_000 + b'"}',
        b"x" * 30_000_000, b"PAR1" + b"\x00" * 20 + b"PAR1", b"ARROW1\x00\x00", b"\x1f\x8b\x08" + b"\x00" * 20,
        b"\x28\xb5\x2f\xfd\x00",
        b"prompt,answer\n1", b'prompt\n"', b"prompt;answer\na;b;c\n", b"prompt\r\ra\rb", b"[]", b"{}", b"null",
        b"[[[]]]", b'{"train": {}}',
        b'{"prompt": {"0": "a", "1": 3}}', b'{"prompt": "\\ud800"}', b'[{"prompt": "a"}, 3, null, "b"]', b'"text"',
        b"\xef\xbb\xbf", b"1" * 5000,
    ]  # fmt: skip
    content = draw(st.one_of(st.sampled_from(known), st.binary(min_size=1, max_size=80)))
    return Attack((*DISTILL, *PAIR, "--prompts", "{here}/p" + ending), {"p" + ending: content})


# Models


def _changed(value: Any, path: list[Any], new: Any) -> Any:
    """`value` with what is at `path` replaced, or removed where `new` is ...; the rest shared."""
    if not path:
        return new
    first, *rest = path
    copy = list(value) if isinstance(value, list) else dict(value)
    if rest or new is not ...:
        copy[first] = _changed(copy[first], rest, new)
    else:
        del copy[first]
    return copy


@st.composite
def mutated_json(draw: st.DrawFn, value: Any) -> bytes:
    """One or two changes somewhere in a JSON value, or its text cut short."""
    for _ in range(draw(st.integers(1, 2))):
        path: list[Any] = []
        at = value
        while isinstance(at, dict | list) and at and (not path or draw(st.booleans())):
            keys = sorted(at) if isinstance(at, dict) else list(range(len(at)))
            path.append(draw(st.sampled_from(keys)))
            at = at[path[-1]]
        value = _changed(value, path, draw(st.sampled_from([*VALUES, ..., ...]))) if path else value
    data = plain(value)
    return data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 9)) == 0 else data


def _read(name: str) -> Any:
    return json.loads((demo.STUDENT / name).read_text(encoding="utf-8"))


MODEL_COMMANDS = st.sampled_from([("inspect", *PAIR), ("estimate", *PAIR, *PROMPTS), (*DISTILL, *PAIR, *PROMPTS)])


@st.composite
def config_json(draw: st.DrawFn) -> Attack:
    return Attack(draw(MODEL_COMMANDS), {"student/config.json": draw(mutated_json(_read("config.json")))})


@st.composite
def tokenizer_json(draw: st.DrawFn) -> Attack:
    name = draw(
        st.sampled_from(["tokenizer.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
    )
    return Attack(draw(MODEL_COMMANDS), {f"student/{name}": draw(mutated_json(_read(name)))})


TEMPLATES = (
    "{{ 1 / 0 }}", "{{ 'a' + 1 }}", "{{ messages[0].x.y }}", "{% include 'a' %}", "{% include self %}",
    "{% extends 'x' %}", "{% import 'os' as os %}",
    "{% set x = 'x' %}{% for i in range(40) %}{% set x = x ~ x %}{% endfor %}{{ x }}",
    "{{ 9 ** 9 ** 9 }}", 
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{% for x in range(10**9) %}{% endfor %}", "{{ 'x' * 10**9 }}",
    "{{ raise_exception('no') }}", "{{ raise_exception(3) }}",
    "{% if %}", "{{", "{% for %}", "{% endfor %}", "", " ", "{{ messages }}", "{{ messages | tojson }}",
    "{{ self.__class__ }}", "{{ ''.__class__.__mro__ }}",
    "{{ cycler.__init__.__globals__ }}", "{{ messages[0]['content'] * 1000 }}", "{{ messages[5] }}", "{{ none.a }}",
    "{{ [] | first }}", "{{ {}['a'] }}",
    "{{ 'a' | int / 0 }}", "{{ messages | sum }}", "{{ messages[0].content | indent(-1) }}",
    "{% set messages = 3 %}{{ messages[0] }}", "{{ strftime_now(3) }}",
    "{{ '%d' | format('x') }}", "{{ 'x'.encode('nope') }}", "{{ 'x'.join(3) }}", "{{ (1).__add__('a') }}",
    "{{ dict(**3) }}", "{{ 'x' | nofilter }}",
    "{% generation %}x{% endgeneration %}", "{{ namespace(a=1).b.c }}", "{{ 'a'.split('') }}", "{{ range(3)[9] }}",
    "{{ messages.pop() }}", "\x00", "\ud7ff",
    "{{ '{' * 100 }}", "{{ lipsum(1) }}", "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "{{ messages[0].content }}",
)  # fmt: skip


@st.composite
def chat_templates(draw: st.DrawFn) -> Attack:
    text = draw(
        st.one_of(
            st.sampled_from(TEMPLATES), st.tuples(st.sampled_from(TEMPLATES), st.sampled_from(TEMPLATES)).map("".join)
        )
    )
    described: Any = draw(
        st.sampled_from([text, text, text, [{"name": "default", "template": text}], {"default": text}, [text], 3])
    )
    files = {"student/tokenizer_config.json": plain(_read("tokenizer_config.json") | {"chat_template": described})}
    files["student/chat_template.jinja"] = text.encode() if draw(st.booleans()) else b""
    if not files["student/chat_template.jinja"]:
        del files["student/chat_template.jinja"]
    files["p.jsonl"] = b'{"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]}'
    return Attack((*DISTILL, *PAIR, "--prompts", "{here}/p.jsonl"), files)


FAMILIES: dict[str, st.SearchStrategy[Attack]] = {
    "settings in run.yaml": run_yaml(),
    "run.yaml as a file": run_yaml_bytes(),
    "flags": flags(),
    "--set": set_flags(),
    "rows of prompts": prompt_rows(),
    "prompt files": prompt_bytes(),
    "config.json": config_json(),
    "tokenizer files": tokenizer_json(),
    "chat templates": chat_templates(),
}
