"""What strangers may send: text that breaks out of its place, and files that stop or fill whoever reads them."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

from simct import demo

# breaks out wherever it is not escaped: of attributes, tags, comments, scripts and cells
HOSTILE = (
    '</script></span><!-- <img src=x onerror="window.hacked=1"><script>alert(2)</script><b>bold</b>'
    "'\"& =1+1 \u2028 12 日本 adolescent 🙂\x00\n"
)


# Files that were made to stop whoever reads them

LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}" + "{% endfor %}" * 3
TEMPLATES = {
    "three nested loops": LOOPS,
    "loops without range": "{% set s = 'x' * 90000 %}{% for a in s %}{% for b in s %}{% for c in s %}"
    + "{% endfor %}" * 3,
    "200 MB of text": "{{ 'x' * 200000000 }}{% for m in messages %}{{ m.content }}{% endfor %}",
    "recursion": "{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}",
    "includes itself": "{% include 'chat_template.jinja' %}",
    "divides by zero": "{{ 1 / 0 }}",
    "wrong types": "{{ messages + 1 }}",
    "a huge power": "{% set x = 9 ** (9 ** 9) %}{{ x }}",
    "no end of text": "{% for a in range(99999) %}{% for b in range(99999) %}{{ 'x' * 99999 }}{% endfor %}{% endfor %}",
}
CATASTROPHIC = r"(a|aa)+$"


def model_folder(folder: Path, template: str | None = None, tokenizer: Any = None, **config: Any) -> str:
    """The embedded student with another template, settings in its config.json, or a changed tokenizer.json."""
    shutil.copytree(demo.STUDENT, folder)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | config))
    if tokenizer is not None:
        file = folder / "tokenizer.json"
        file.write_text(tokenizer(json.loads(file.read_text())))
    return str(folder)


def with_slow_rule(tokenizer: dict) -> str:
    """The tokenizer with a regular expression that takes exponential time on a run of "a"."""
    split = {"type": "Split", "pattern": {"Regex": CATASTROPHIC}, "behavior": "Isolated", "invert": False}
    steps = [split, tokenizer["pre_tokenizer"]]
    return json.dumps(tokenizer | {"pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}})


def with_largest_id(tokenizer: dict) -> str:
    """The tokenizer with a token whose id is the largest that 32 bits hold."""
    tokenizer["model"]["vocab"]["largest"] = 2**32 - 1
    return json.dumps(tokenizer)


def with_many_tokens(tokenizer: dict, tokens: int = 10_000_000) -> str:
    """The tokenizer with a vocabulary of so many tokens."""
    text = json.dumps(tokenizer)
    more = "".join(f'"~{number}":{number + 2000},' for number in range(tokens))
    return text.replace('"vocab": {', '"vocab": {' + more, 1)


def damaged(tokenizer: dict) -> str:
    """A tokenizer on which the library panics: a merge of tokens that are not there."""
    tokenizer["model"]["merges"].append(["no such", "tokens"])
    return json.dumps(tokenizer)


def deep_json(folder: Path, levels: int = 50_000) -> str:
    """JSON nested so deep that parsers overflow their stack."""
    path = folder / "deep.json"
    path.write_text('{"prompt": ' + "[" * levels + "]" * levels + "}")
    return str(path)


def parquet_bomb(folder: Path) -> str:
    """Parquet of some kilobytes with 3.5 GB of text, one entry of a dictionary standing for all of it."""
    import pyarrow
    import pyarrow.parquet

    path = folder / "bomb.parquet"
    column = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 3500, pyarrow.int32()), ["x" * 1_000_000])
    pyarrow.parquet.write_table(pyarrow.table({"prompt": column}), path, compression="zstd")
    return str(path)


def zipped_bomb(folder: Path, suffix: str) -> str:
    """A compressed file of JSON Lines that expands to a gigabyte."""
    path = folder / f"bomb.jsonl{suffix}"
    if suffix == ".zst":
        import pyarrow

        with pyarrow.CompressedOutputStream(str(path), "zstd") as file:
            for _ in range(100):
                file.write(b'{"prompt": "' + b"x" * 10_000_000)
    else:
        with gzip.open(path, "wb") as file:
            for _ in range(100):
                file.write(b'{"prompt": "' + b"x" * 10_000_000)
    return str(path)


def long_line(folder: Path) -> str:
    """A file of one line of 100 MB."""
    path = folder / "long.jsonl"
    path.write_bytes(b'{"prompt": "' + b"x" * 100_000_000 + b'"}')
    return str(path)


def yaml_bomb(levels: int = 10) -> str:
    """Anchors within anchors, each ten times: 10^levels values."""
    lines = ["method_options:", f"  a0: &a0 [{', '.join('x' * 10)}]"]
    lines += [f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)
