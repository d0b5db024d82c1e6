"""Tasks of lm-eval on the embedded pair: local task files, so that nothing is fetched."""

import importlib
import json
from pathlib import Path

import pytest

from simct import demo
from simct.config.evaluation import EvaluationConfig
from simct.config.sections import ModelConfig
from simct.errors import ConfigError, DataError
from simct.evaluation import lm_eval as lm_eval_tasks
from simct.evaluation.lm_eval import SandboxedCodeMetric, check_task, evaluate_task, pass_at_k
from simct.evaluation.sandbox.program import why_unavailable
from simct.evaluation.task_names import is_own_task
from simct.evaluation.tasks import check_tasks, evaluate_loaded, standard_error
from simct.models.loading import load_model
from simct.presets import list_presets, load_preset
from simct.tokenization.token_bytes import load_tokenizer, token_bytes
from tools.demo.exercises import load_exercises

N = 12
TASK = """\
task: local_plain_words
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: generate_until
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs:
  until: ["\\n\\n"]
  max_gen_toks: 40
  do_sample: false
metric_list:
- metric: exact_match
  aggregation: mean
  higher_is_better: true
"""
CODE_TASK = """\
task: local_code
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
unsafe_code: true
test_split: test
output_type: generate_until
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{tests}}}}"
generation_kwargs:
  until: ["\\n\\n"]
  max_gen_toks: 4
  do_sample: false
metric_list:
- metric: !function code_utils.pass_at_1
  aggregation: mean
  higher_is_better: true
filter_list:
- name: program
  filter:
  - function: custom
    filter_fn: !function code_utils.programs
"""
# as lm-eval's own humaneval has it: the metric is loaded by the module and run on what the filter made
CODE_UTILS = """\
import evaluate
metric = evaluate.load("code_eval")
def pass_at_1(references, predictions):
    return metric.compute(references=references, predictions=predictions, k=[1])[0]["pass@1"]
def programs(resps, docs):
    return [[doc["program"] for _ in resp] for resp, doc in zip(resps, docs)]
"""


@pytest.fixture(scope="module")
def teacher():
    tokens = token_bytes(load_tokenizer(str(demo.TEACHER)))
    return load_model(ModelConfig(model=str(demo.TEACHER))).eval(), tokens


@pytest.fixture
def installed():
    pytest.importorskip("lm_eval")


def plain_task(folder: Path) -> str:
    rows = load_exercises(demo.EVAL)[:N]
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "plain.yaml"
    path.write_text(TASK.format(data=data))
    return str(path)


def code_task(folder: Path, utils: str = CODE_UTILS) -> str:
    program = "def double(x):\n    return 2 * x"
    rows = [
        {"prompt": "Double it.", "program": program, "tests": "assert double(2) == 4"},
        {"prompt": "Triple it.", "program": program, "tests": "assert double(2) == 6"},
        {"prompt": "Leave.", "program": "import os; os._exit(0)", "tests": "assert False"},
        {"prompt": "Read.", "program": "open('/etc/passwd').read()", "tests": ""},
    ]
    data = folder / "code.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "code_utils.py").write_text(utils)
    path = folder / "code.yaml"
    path.write_text(CODE_TASK.format(data=data))
    return str(path)


def test_a_score_that_is_better_when_lower_is_refused(installed, teacher, tmp_path):
    task = Path(plain_task(tmp_path))
    task.write_text(task.read_text().replace("higher_is_better: true", "higher_is_better: false"))
    with pytest.raises(ConfigError, match="scored by exact_match, which is better when it is lower"):
        evaluate_task(*teacher, str(task), EvaluationConfig(tasks=[str(task)], max_new_tokens=4))


def test_a_task_file_scores_as_our_own_evaluation_does(installed, teacher, tmp_path):
    model, tokens = teacher
    task, own = plain_task(tmp_path), str(tmp_path / "data.jsonl")
    settings = EvaluationConfig(tasks=[task, own], max_new_tokens=40, seed=3)
    check_tasks(settings)
    scores = evaluate_loaded(model, tokens, settings)
    theirs, ours = scores[task], scores[own]
    exact = sum(sample["correct"] for sample in theirs["samples"])
    assert theirs["n"] == ours["n"] == N and theirs["seed"] == ours["seed"] == 3
    assert 0 < theirs["score"] <= ours["score"]
    assert theirs["metric"].startswith("exact_match")
    assert theirs["stderr"] == pytest.approx(standard_error(theirs["score"], N) or 0.0, abs=1e-9)
    assert len(theirs["samples"]) == 8 and 0 < exact <= 8
    first = theirs["samples"][0]
    assert load_exercises(demo.EVAL)[0]["prompt"] in first["prompt"]
    assert first["answer"] and first["completion"]


def test_what_presets_and_the_studio_name_can_be_scored_as_installed(installed):
    from app.train.fields import TASKS

    named = {*TASKS, *(task for name in list_presets() for task in load_preset(name).evaluation.tasks)}
    check_tasks(EvaluationConfig(tasks=sorted(named), allow_code_execution=True))
    # refuses to load unless the versions of its packages fit each other
    importlib.import_module("lm_eval.tasks.minerva_math.utils")


def test_samples_limit_the_prompts(installed, teacher, tmp_path):
    result = evaluate_task(*teacher, plain_task(tmp_path), EvaluationConfig(samples=3))
    assert result["n"] == 3


@pytest.mark.skipif(why_unavailable() is not None, reason=f"no sandbox here: {why_unavailable()}")
def test_generated_code_runs_in_the_sandbox_and_only_when_asked(installed, teacher, tmp_path):
    pytest.importorskip("evaluate")
    task = code_task(tmp_path)
    with pytest.raises(ConfigError, match="--allow-code-execution"):
        evaluate_task(*teacher, task, EvaluationConfig(), allow_task_code=True)
    allowed = EvaluationConfig(allow_code_execution=True)
    result = evaluate_task(*teacher, task, allowed, allow_task_code=True)
    assert result["score"] == pytest.approx(0.25) and result["n"] == 4
    # again, as after training: the module that holds the metric is not loaded a second time
    assert evaluate_task(*teacher, task, allowed, allow_task_code=True)["score"] == pytest.approx(0.25)


def test_code_run_by_other_means_is_refused(installed, teacher, tmp_path):
    pytest.importorskip("evaluate")
    marker = tmp_path / "ran"
    utils = f"def pass_at_1(references, predictions):\n    open({str(marker)!r}, 'w')\n    return 1.0\n"
    task = code_task(tmp_path, utils + "def programs(resps, docs):\n    return resps\n")
    with pytest.raises(ConfigError, match="outside the sandbox"):
        evaluate_task(*teacher, task, EvaluationConfig(allow_code_execution=True), allow_task_code=True)
    assert not marker.exists()


@pytest.mark.skipif(why_unavailable() is not None, reason=f"no sandbox here: {why_unavailable()}")
def test_pass_at_k():
    assert pass_at_k(10, 0, 1) == 0 and pass_at_k(10, 10, 5) == 1
    assert pass_at_k(4, 1, 1) == pytest.approx(0.25)
    assert pass_at_k(4, 2, 2) == pytest.approx(1 - 1 / 6)
    scores, details = SandboxedCodeMetric().compute(
        references=["assert f() == 1"], predictions=[["def f(): return 1", "def f(): return 2"]], k=[1, 2, 10]
    )
    assert scores == {"pass@1": pytest.approx(0.5), "pass@2": 1.0}
    assert [each["passed"] for _, each in details[0]] == [True, False]


def test_what_is_reported_in_one_line(installed, teacher, tmp_path, monkeypatch):
    broken = tmp_path / "broken.yaml"
    broken.write_text("dataset_path: json\n")
    with pytest.raises(ConfigError, match="no 'task' name"):
        check_task(str(broken))
    missing = tmp_path / "missing.yaml"
    missing.write_text(TASK.format(data=tmp_path / "nowhere.jsonl"))
    with pytest.raises(DataError, match="could not be scored") as got:
        evaluate_task(*teacher, str(missing), EvaluationConfig())
    assert "\n" not in str(got.value)


def test_without_lm_eval(monkeypatch):
    monkeypatch.setattr(lm_eval_tasks.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install lm_eval"):
        check_tasks(EvaluationConfig(tasks=["gsm8k"]))
    check_tasks(EvaluationConfig(tasks=["demo"]))


def test_tasks_of_ours(tmp_path):
    assert is_own_task("demo") and not is_own_task("gsm8k")
    path = tmp_path / "no_answers.jsonl"
    path.write_text('{"prompt": "a"}\n')
    with pytest.raises(DataError, match="answer"):
        check_tasks(EvaluationConfig(tasks=[str(path)]))
    assert standard_error(0.5, 1) is None
    assert standard_error(0.5, 101) == pytest.approx(0.05)
