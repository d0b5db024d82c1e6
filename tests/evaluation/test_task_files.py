"""A task given as a file is data: whatever could run code is refused before anything of it runs."""

import subprocess
import sys
from pathlib import Path

import pytest

from simct.config import RunConfig, config_from_dict
from simct.config.evaluation import EvaluationConfig
from simct.errors import ConfigError
from simct.evaluation.task_files import read_task_file
from simct.evaluation.task_names import check_task_names, is_own_task, is_task_name
from simct.evaluation.tasks import check_tasks
from simct.jobs.hf.inputs import portable_config

PLAIN = """\
task: plain
dataset_path: json
dataset_kwargs: {data_files: {test: data.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "Q: {{question}} {{ choices[0] | trim }}\\nA:"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n"], do_sample: false}
filter_list:
- name: first
  filter: [{function: take_first}]
metric_list:
- metric: exact_match
  aggregation: mean
  higher_is_better: true
"""
OBJECTS = "{{ cycler.__init__.__globals__.os.system('touch MARKER') }}"
CODE = {
    "a function": "process_docs: !function evil.run\n",
    "a function as a metric": "metric_list:\n- metric: !function evil.run\n",
    "a function as a filter": "filter_list:\n- {name: x, filter: [{function: custom, fn: !function evil.run}]}\n",
    "a function in a list": "doc_to_choice: [!function evil.run]\n",
    "a function as a text": "process_results: evil.run\n",
    "an include": "include: other.yaml\n",
    "a class": "class: evil.run\n",
    "a python name": "metadata: !!python/name:os.system\n",
    "a python call": "metadata: !!python/object/apply:os.system ['touch MARKER']\n",
    "another tag": "metadata: !include other.yaml\n",
    "a template that reaches objects": f'doc_to_text: "{OBJECTS}"\n',
    "a template as a target": f'doc_to_target: "{OBJECTS}"\n',
    "a template as a choice": f'doc_to_choice: ["{OBJECTS}"]\n',
    "a template as a description": f'description: "{OBJECTS}"\n',
    "a template that calls": 'doc_to_text: "{{ question.format(answer) }}"\n',
    "a template with a hidden attribute": "doc_to_text: \"{{ question['__class__'] }}\"\n",
    "a template with an index from a row": 'doc_to_text: "{{ question[answer] }}"\n',
    "a template with an attribute by filter": "doc_to_text: \"{{ question | attr('__class__') }}\"\n",
    "a template that loops": 'doc_to_text: "{% for a in question %}{% for b in question %}x{% endfor %}{% endfor %}"\n',
    "a template that includes": "doc_to_text: \"{% include '/etc/passwd' %}\"\n",
    "a metric from the Hub": "metric_list:\n- metric: attacker/metric\n",
    "a metric by evaluate": "metric_list:\n- {metric: exact_match, hf_evaluate: true}\n",
    "a pattern": "filter_list:\n- {name: x, filter: [{function: regex, regex_pattern: '(a+)+$'}]}\n",
    "a pattern in a metric": "metric_list:\n- {metric: exact_match, regexes_to_ignore: ['(a+)+$']}\n",
    "code of a dataset": "dataset_kwargs: {trust_remote_code: true}\n",
    "a dataset that is a folder": "dataset_path: ../other\n",
    "a request": "dataset_kwargs: {data_files: 'http://127.0.0.1/x.json'}\n",
    "a chained request": "dataset_kwargs: {data_files: {test: ['zip://a.json::http://127.0.0.1/x.zip']}}\n",
    "code that the model wrote": "unsafe_code: true\n",
}


@pytest.fixture(autouse=True)
def installed():
    pytest.importorskip("lm_eval")


def written(folder: Path, extra: str = "") -> str:
    """The plain task with `extra` settings in place of its own; code in them would make the file `ran`."""
    names = {line.split(":")[0] for line in extra.splitlines() if not line.startswith((" ", "-"))}
    blocks, keep = [], True
    for line in PLAIN.splitlines():
        if not line.startswith((" ", "-")):
            keep = line.split(":")[0] not in names
        blocks += [line] if keep else []
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\ndef run(*given, **named): return given\n")
    (folder / "other.yaml").write_text("process_docs: !function evil.run\n")
    path = folder / "task.yaml"
    path.write_text("\n".join(blocks) + "\n" + extra.replace("MARKER", str(folder / "ran")))
    return str(path)


def test_a_plain_file_is_data(tmp_path):
    path = written(tmp_path)
    assert read_task_file(path)["task"] == "plain"
    check_tasks(EvaluationConfig(tasks=[path]))


@pytest.mark.parametrize("kind", CODE)
def test_a_file_with_code_is_refused_by_name(tmp_path, kind):
    path = written(tmp_path, CODE[kind])
    with pytest.raises(ConfigError, match="contains code") as got:
        check_tasks(EvaluationConfig(tasks=[path], allow_code_execution=True))
    assert "--allow-task-code" in str(got.value) and "\n" not in str(got.value)
    assert not (tmp_path / "ran").exists()


def test_only_a_flag_of_the_command_allows_code_and_no_run_yaml_can_hold_it(tmp_path):
    path = written(tmp_path, CODE["a function"])
    check_tasks(EvaluationConfig(tasks=[path]), allow_task_code=True)
    for place in ({"allow_task_code": True}, {"evaluation": {"allow_task_code": True}}):
        with pytest.raises(ConfigError, match="allow_task_code"):
            config_from_dict({"teacher": "a", "student": "b", "data": {"prompts": "c"}, **place})
    refused = subprocess.run(
        [sys.executable, "-m", "simct", "evaluate", "--model", "nowhere", "--tasks", path],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert refused.returncode == 2 and "contains code" in refused.stderr and refused.stderr.count("\n") == 1
    assert not (tmp_path / "ran").exists()


def test_jobs_take_names_and_data_only(tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text('{"prompt": "a", "answer": "b"}\n')
    config = RunConfig()
    config.evaluation.tasks = ["demo", "gsm8k", str(data)]
    carried, inputs = portable_config(config)
    assert carried.evaluation.tasks == ["demo", "gsm8k", "inputs/task-2.jsonl"]
    assert inputs["inputs/task-2.jsonl"] == data
    for task in (written(tmp_path), str(tmp_path), "/etc/passwd", "../x.yaml", "a/b"):
        config.evaluation.tasks = [task]
        with pytest.raises(ConfigError, match="given by name"):
            portable_config(config)


def test_a_name_is_a_name(tmp_path):
    for name in ("demo", "gsm8k", "minerva_math500", "darijammlu_arabic_language_(general)", "mmlu-pro.x"):
        assert is_task_name(name)
    for path in ("x.yaml", "a/b", "/etc/passwd", "../x", "~/x", "", ".", "x.jsonl", "a\0b", "x y"):
        assert not is_task_name(path) and not is_own_task(path)
        with pytest.raises(ConfigError, match="given by name"):
            check_task_names([path], "in the studio")
