"""Bad input of every family ends in one line and exit status 2, in time, in memory, with nothing left behind."""

import json
import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from simct import demo
from simct.cli.main import main
from tests.support import bad_input
from tests.support.attacked_command import MOST_BYTES, MOST_SECONDS, what_is_wrong
from tests.support.bad_input import DISTILL, FAMILIES, Attack

IN_CI, IN_ALL = 300, 10_000


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    """No name that an example makes up is looked for on the Hub."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


def carry_out(family: str, examples: int, always_the_same: bool) -> None:
    @settings(
        max_examples=examples // len(FAMILIES),
        deadline=None,
        database=None,
        derandomize=always_the_same,
        # shrinking carries out hundreds of examples more; families are small enough to read as they are
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    @given(FAMILIES[family])
    def each(attack: Attack) -> None:
        wrong = what_is_wrong(attack)
        assert wrong is None, f"{wrong}\n{attack.arguments}\n{attack.files}"

    each()


@pytest.mark.parametrize("family", FAMILIES)
def test_bad_input_is_one_line(family):
    carry_out(family, IN_CI, always_the_same=True)


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_much_bad_input_is_one_line(family):
    carry_out(family, IN_ALL, always_the_same=False)


def test_the_fuzzer_notices_every_way_to_end_badly(monkeypatch):
    """It would be of no use if it could not fail."""
    endings = {
        "ends in ValueError": lambda arguments: int("x"),
        "ends in KeyError": lambda arguments: {}["x"],
        "ends with status 1": lambda arguments: 1,
        "says 0 lines": lambda arguments: 2,
        "says 2 lines": lambda arguments: print("simct: a\nb", file=sys.stderr) or 2,
        "says 1 lines": lambda arguments: print("what?", file=sys.stderr) or 2,
        "leaves ['runs'] behind": lambda arguments: os.mkdir("runs") or print("simct: no", file=sys.stderr) or 2,
    }
    for words, ending in endings.items():
        monkeypatch.setattr("tests.support.attacked_command.main", ending)
        assert what_is_wrong(Attack(("jobs",))).startswith(words)
    monkeypatch.setattr(
        "tests.support.attacked_command.main", lambda arguments: print("simct: no", file=sys.stderr) or 2
    )
    assert what_is_wrong(Attack(("jobs",))) is None


def test_a_template_that_never_ends_is_given_up(tmp_path):
    loops = "".join("{% for " + name + " in range(99999) %}" for name in "abc") + "{% endfor %}" * 3
    config = json.loads((demo.STUDENT / "tokenizer_config.json").read_text()) | {"chat_template": loops}
    files = {"student/tokenizer_config.json": json.dumps(config).encode(), "p.jsonl": b'{"prompt": "a"}'}
    assert what_is_wrong(Attack((*DISTILL, *bad_input.PAIR, "--prompts", "{here}/p.jsonl"), files)) is None


PAIR = ["--teacher", str(demo.TEACHER), "--student", str(demo.STUDENT), "--prompts", str(demo.PROMPTS)]
COMMANDS = (
    ["distill", *PAIR, "--resume", ""],
    ["distill", *PAIR, "--gpus", "-1"],
    ["distill", *PAIR, "--set", "training.epochs=inf"],
    ["evaluate", "--model", "x", "--tasks", ","],
)


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_process_of_its_own_ends_alike(tmp_path, arguments):
    """What only a whole process shows: its exit status, what is printed while it ends, its memory and time."""
    limits = f"import resource; resource.setrlimit(resource.RLIMIT_DATA, ({MOST_BYTES}, {MOST_BYTES})); "
    code = limits + "from simct.cli.main import main; raise SystemExit(main())"
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=2 * MOST_SECONDS,
    )
    assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("simct: ") and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["distill", "--resume", ""], ["distill", "--resume", " "], ["warmup", "--resume", ""],
        ["distill", "--gpus", "0"],
        ["distill", "--gpus", "-1"], ["distill", "--gpus", "1e9"], ["distill", "--steps", "1" + "0" * 30],
        ["distill", "--spend-limit", "nan"], ["distill", "--spend-limit", "-1"], ["distill", "--timeout", "0"],
        ["distill", "--timeout", "9" * 400], ["distill", "--set", "training.batch_size=1e23"],
        ["distill", "--set", "lora.rank=1e23"], ["distill", "--set", "evaluation.samples=-1"],
        ["distill", "--set", "data.limit=-1"], ["distill", "--set", "training.epochs=nan"], ["jobs", "--lines", "-5"],
        ["jobs", "log", ""], ["jobs", "resume", "\x00"], ["jobs", "stop", "x" * 5000], ["estimate", "--devices", "0"],
        ["estimate", "--n-prompts", "-3"], ["estimate", "--prompt-tokens", "1" * 30], ["evaluate", "--samples", "-1"],
        ["evaluate", "--tasks", ","], ["evaluate", "--seed", "-1"], ["inspect", "--top", "-1"], ["nonsense"], [],
    ],
    ids=lambda arguments: " ".join(arguments)[:40].replace("\x00", "NUL"),
)  # fmt: skip
def test_flags_that_were_accepted_once(monkeypatch, arguments):
    needed = {"evaluate": ["--model", str(demo.STUDENT)], "inspect": PAIR[:4], "estimate": PAIR}
    needed |= {"distill": [*PAIR, "--runs", "{here}/runs"], "warmup": PAIR, "jobs": ["--runs", "{here}/runs"]}
    command = [*arguments[:1], *needed.get("".join(arguments[:1]), []), *arguments[1:]]
    ended: list[int] = []
    monkeypatch.setattr("tests.support.attacked_command.main", lambda given: ended.append(main(given)) or ended[0])
    assert what_is_wrong(Attack(tuple(command))) is None and ended == [2]
