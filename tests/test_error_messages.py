"""Errors for people: one complete line, with the value and what to do, reported before a run starts."""

import ast
import re
from contextlib import nullcontext
from pathlib import Path

import gradio as gr
import pytest
import torch
from transformers import MambaConfig

from app import api
from app.__main__ import check_port
from app.data import prompt_source
from app.inspect import corpus, document, other_pairs, other_pairs_view, position_view, reliability_view
from app.server.studio import Studio
from app.server.visitor import Visitor
from app.server.work import Work
from app.train import prepare, where
from simct import errors, losses
from simct.cli.common import find_run, read_text
from simct.cli.main import main as cli
from simct.config import validate
from simct.config.sections import DataConfig, ModelConfig
from simct.data.prompts import load_prompts
from simct.errors import ConfigError, DataError, SimCTError, quoted
from simct.estimate.memory import check_trained, load_shape_config
from simct.estimate.time_and_cost import estimate_run
from simct.hub.redact import redact
from simct.jobs.hf import hardware as hf_hardware
from simct.jobs.hf import spending
from simct.jobs.local import job as local_job
from simct.methods import METHODS
from simct.models.loading import load_model
from simct.preflight.checklist import run_checks
from simct.preflight.planned import PlannedRun
from simct.presets import load_preset
from simct.runs.folder import RunFolder
from simct.train import main as train_main
from tests.support.loss_cases import sequence, tiny_pair

ROOT = Path(__file__).parents[1]
CLASSES = {name for name, kind in vars(errors).items() if isinstance(kind, type)}


# As they are written


def last_words(node: ast.expr) -> str | None:
    """How a message ends; None where it ends with a value."""
    if isinstance(node, ast.JoinedStr):
        node = node.values[-1]
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def test_every_message_is_a_sentence_on_one_line():
    wrong, count = [], 0
    for path in [*ROOT.glob("simct/**/*.py"), *ROOT.glob("app/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CLASSES):
                continue
            texts = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant)]
            ending = last_words(node.args[0]) if node.args else None
            count += 1
            if any(isinstance(text, str) and "\n" in text for text in texts) or (ending and ending.strip()[-1] != "."):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert count > 250 and not wrong, wrong


# Before a run starts

SETTINGS = {
    "method_options.mass": ("1", r"Unknown option 'mass' of method 'simct'"),
    "method_options.mass_mask": (
        "often",
        r"method_options.mass_mask: expected true or false, or a number, got 'often'",
    ),
    "method_options.unit_mask_ratio": (
        "2",
        r"method_options.unit_mask_ratio is 2.0; it must be 0 or more and at most 1",
    ),
    "method_options.scoring": ("none", r"scoring is 'none'; it must be one of log_probs, raw_logits"),
    "method_options.temperature": ("0", r"temperature is 0.0; it must be above 0"),
    "method_options.chunk_rows": ("0", r"chunk_rows is 0; it must be empty or 1 or more"),
    "training.optimizer": ("Adamm", r"'Adamm'; torch.optim has no such optimizer"),
    "training.freeze": ("nowhere", r"no parameter of the student has 'nowhere'"),
    "lora.targets": ("nothing", r"lora.targets is \['nothing'\]"),
    "evaluation.tasks": ("no-such-task", r"There is no task 'no-such-task'"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_could_only_fail_later_is_refused_before_anything_starts(tmp_path, capsys, name):
    value, got = SETTINGS[name]
    rank = ["--set", "lora.rank=4"] if name.startswith("lora") else []
    command = ["distill", "--preset", "demo-cpu", *rank, "--set", f"{name}={value}", "--runs", str(tmp_path / "runs")]
    assert cli(command) == 2
    printed = capsys.readouterr().err.strip().splitlines()
    assert len(printed) == 1 and re.search(got, printed[0]) and not (tmp_path / "runs").exists()


def test_the_studio_tells_a_wrong_option_at_its_field_and_refuses_to_launch_it(tmp_path):
    local, config = Studio(tmp_path, public=False), load_preset("demo-cpu")
    config.method_options = {"mass": 1}
    with pytest.raises(ConfigError, match=r"^method_options: Unknown option 'mass'"):
        validate(config)
    with pytest.raises(ConfigError, match="Unknown option 'mass'"):
        prepare.pin_and_check(local, config, None)
    config.method_options = {"mass_mask": 0.5, "diagnostics": False}
    assert prepare.pin_and_check(local, validate(config), None) is config


@pytest.mark.parametrize("method", METHODS)
def test_what_every_method_takes_is_let_through(method):
    config = load_preset("demo-cpu")
    config.method, config.divergence, config.method_options = method, "js", {"beta": 0.3}
    run_checks(PlannedRun(config)).refuse()


def test_a_student_of_any_architecture_is_checked_and_none_is_refused_for_being_unusual(tmp_path):
    config = load_preset("demo-cpu")
    # no attention heads, and no config that could be read
    MambaConfig(vocab_size=950, hidden_size=32, num_hidden_layers=1).save_pretrained(tmp_path / "mamba")
    for student in (str(tmp_path / "mamba"), written(tmp_path / "odd" / "config.json", "{}").rpartition("/")[0]):
        config.student.model, config.training.freeze = student, []
        check_trained(config)
        config.training.freeze = ["nowhere"]
        with pytest.raises(ConfigError, match="nowhere") if "mamba" in student else nullcontext():
            check_trained(config)


# Whatever else can be wrong, each made to happen


def written(path: Path, content: str | bytes) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def loss(method="simct", teacher_ids=None, more_rows=0, **options):
    pair = tiny_pair()
    teacher, student = sequence(pair, "the 12 abcd")
    student_logits = torch.zeros(len(student) + more_rows, len(pair.student.bytes_of))
    teacher_logits = torch.zeros(len(teacher), len(pair.teacher.bytes_of))
    return losses.compute(method, pair, student_logits, teacher_logits, student, teacher_ids or teacher, **options)


def run_in(folder: Path, output: str | None = None) -> RunFolder:
    config = load_preset("demo-cpu")
    config.output = output
    return RunFolder.create(folder, config)


def estimated_by_api(folder: Path, text: str):
    with gr.Blocks() as page:
        api.build(studio(folder))
    return next(fn.fn for fn in page.fns.values() if fn.api_name == "estimate")(text)


def studio(folder: Path, public=False) -> Studio:
    return Studio(folder, public=public)


def launched(folder: Path, place=where.HERE, owner=None):
    visitor = Visitor(False, owner)
    return where.start(studio(folder, public=True), load_preset("demo-cpu"), where.Place(place), visitor)


MACHINE = hf_hardware.Hardware("cpu-basic", "CPU Basic", 1.0, 16.0, 0, "", 0.0)
CASES = {
    "preset": lambda tmp: load_preset("none"),
    "port": lambda tmp: check_port("127.0.0.1", 70_000),
    "file name": lambda tmp: read_text(str(tmp / "absent.txt")),
    "empty file": lambda tmp: read_text(written(tmp / "a.txt", "")),
    "encoding": lambda tmp: read_text(written(tmp / "b.txt", b"\xff\xfe\xff")),
    "empty table": lambda tmp: load_prompts(DataConfig(prompts=written(tmp / "rows.csv", "prompt\n"))),
    "run name": lambda tmp: find_run(f"{tmp}/nowhere", str(tmp)),
    "full run folder": lambda tmp: run_in(tmp, str(Path(written(tmp / "full" / "x", "x")).parent)),
    "runs folder": lambda tmp: run_in(Path(written(tmp / "file", ""))),
    "killing nothing": lambda tmp: local_job.kill(run_with(tmp, "finished")),
    "waiting too long": lambda tmp: local_job.wait(run_in(tmp), 0.01, timeout=0.05),
    "no model": lambda tmp: load_model(ModelConfig(model=str(tmp))),
    "model type": lambda tmp: load_shape_config(
        ModelConfig(model=str(Path(written(tmp / "odd" / "config.json", '{"model_type": "no-such-kind"}')).parent))
    ),
    "devices": lambda tmp: estimate_run(load_preset("demo-cpu"), devices=0),
    "hardware": lambda tmp: estimate_run(load_preset("demo-cpu"), "abacus"),
    "timeout": lambda tmp: spending.chosen_hours(MACHINE, 10_000.0, 5.0),
    "spending": lambda tmp: spending.chosen_hours(MACHINE, 1.0, 0.0),
    "divergence": lambda tmp: loss(divergence="chi"),
    "beta": lambda tmp: loss(divergence="js", beta=1.0),
    "method": lambda tmp: loss("none"),
    "temperature": lambda tmp: loss(temperature=0.0),
    "scoring": lambda tmp: loss(scoring="none"),
    "mass_mask": lambda tmp: loss(mass_mask=1.5),
    "top_k": lambda tmp: loss("strict", top_k=1),
    "min_mass": lambda tmp: loss("marginal", min_mass=1.5),
    "min_mass of bpm": lambda tmp: loss("bpm", min_mass=-1.0),
    "one weight": lambda tmp: loss("gold", matched_weight=1.0),
    "chunk_temperature": lambda tmp: loss("alm", chunk_temperature=0.0),
    "rows": lambda tmp: loss(more_rows=1),
    "sequences": lambda tmp: loss(teacher_ids=[[0], [0]]),
    "nothing compared": lambda tmp: other_pairs_view.given([]),
    "no other models": lambda tmp: other_pairs.inspect_others(
        studio(tmp), ("a/b", "c/d"), other_pairs.STUDENTS, [" "], False, None, Work()
    ),
    "no corpus": lambda tmp: corpus.given(None),
    "no document": lambda tmp: document.given(None),
    "no position": lambda tmp: position_view.given(None),
    "not measured": lambda tmp: reliability_view.given(None, "a/b", "c/d"),
    "no prompts": lambda tmp: prompt_source.guard_prompts(studio(tmp), ""),
    "empty prompts": lambda tmp: prompt_source.read(
        studio(tmp), DataConfig(prompts=written(tmp / "e.jsonl", '{"prompt": ""}\n')), None
    ),
    "not signed in": launched,
    "not signed in for Jobs": lambda tmp: launched(tmp, where.JOBS),
    "no hardware": lambda tmp: launched(tmp, owner="someone"),
}


def run_with(folder: Path, state: str) -> RunFolder:
    run = run_in(folder)
    run.set_status(state=state)
    return run


@pytest.mark.parametrize("name", CASES)
def test_it_is_reported_in_one_line(tmp_path, name):
    with pytest.raises(SimCTError) as got:
        CASES[name](tmp_path)
    text = str(got.value)
    # what another library says may end in its own way, or be cut
    assert "\n" not in text and 20 < len(text) < 500 and text[-1] in ".!…" and "Traceback" not in text


def test_a_program_is_reported_the_same_line(tmp_path):
    for text, got in (
        ("x" * 30_000, "30,000 characters"),
        ("a: [", "not valid YAML"),
        ("student: 1", "student: expected a mapping"),
    ):
        with pytest.raises(gr.Error) as error:
            estimated_by_api(tmp_path, text)
        assert got in error.value.message and "\n" not in error.value.message


def test_the_trainer_reported_of_no_run_says_so(tmp_path, capsys):
    assert train_main([str(tmp_path / "run.yaml")]) == 2
    assert "is not a run folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "address",
    [
        "http://user:swordfish@example.com:8000/v1",
        "https://swordfish@example.com",
        "https://example.com/v1?model=a&api_key=swordfish",
        "https://user:" + "x" * 200 + "swordfish@example.com",
    ],
)
def test_no_error_repeats_the_password_of_an_address(tmp_path, capsys, address):
    assert "swordfish" not in quoted(address) + str(DataError(f"Cannot read {address!r}.")) + redact(address)
    assert "example.com" in str(DataError(f"Cannot read {address!r}. Check it.")) and "Check it." in str(
        DataError(f"Cannot read {address!r}. Check it.")
    )
    for setting in ("teacher.server", "rollout.vllm_url", "data.prompts", "teacher.model"):
        given = ["--set", f"{setting}={address}", "--runs", str(tmp_path)]
        assert cli(["distill", "--preset", "demo-cpu", *given]) == 2
    shown = capsys.readouterr()
    assert "swordfish" not in shown.out + shown.err


def test_an_error_never_quotes_much_of_a_value_nor_grows_without_end():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    for value in ("x" * 10**7, ["x"] * 10**5, deep, 10**5000, {"a": "b" * 10**6}):
        assert len(quoted(value)) <= 80
    assert quoted("a'b") == repr("a'b") and quoted(None) == "None"
    many = ", ".join(map(str, range(10**6)))
    line = str(DataError(f"'a.csv' has no column 'b'; it has {many}."))
    assert len(line) < 1600 and line.startswith("'a.csv' has no column") and line.endswith("999999.")
