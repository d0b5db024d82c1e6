"""The command on real input, and every kind of bad input as one line with exit status 2."""

import io
import json
import os
import shutil
import subprocess
import sys

import pytest
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer

import simct
from simct.cli.common import progress_bar, show_log
from simct.cli.main import main
from simct.jobs import actions
from simct.jobs.local import job as local_job
from simct.runs.folder import RunFolder
from simct.runs.status import RunStatus
from tests.support.commands import refused
from tests.support.hub_server import HubServer
from tests.support.random_pair import TEMPLATE, random_model, student_tokenizer
from tests.support.run_folders import made_up_run, runs_in
from tests.support.waiting import until


@pytest.fixture(scope="module")
def prompts_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "prompts.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": text, "answer": "12"}) for text in ("the cat", "a 12", "1223")))
    return str(path)


def test_inspect_prints_and_writes_what_it_promises(folders, tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("def wrap(text, width=70):\n    return the 日本 🙂 parser.add_argument('--x')\n" * 3)
    arguments = ["--teacher", folders[0], "--student", folders[1], "--text", str(text)]
    assert main(["inspect", *arguments, "--json", str(tmp_path / "report.json")]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    wanted = (
        "shared_tokens jaccard student_strict_coverage teacher_strict_coverage student_recovered_coverage unit_shapes "
        "top_disagreements"
    )
    assert set(wanted.split()) <= report.keys()
    assert 256 < report["shared_tokens"] < 600
    assert report["student_strict_coverage"] + report["student_recovered_coverage"] == pytest.approx(1)
    assert f"{report['shared_tokens']:,}" in capsys.readouterr().out


def test_distil_evaluate_resume_and_delete(folders, prompts_file, tmp_path, capfd):
    config = tmp_path / "run.yaml"
    config.write_text(
        f"teacher: {folders[0]}\nstudent: {folders[1]}\ndata: {{prompts: {prompts_file}}}\n"
        f"training: {{steps: 50, batch_size: 4}}\nrollout: {{max_new_tokens: 8}}\n"
        f"evaluation: {{tasks: ['{prompts_file}'], max_new_tokens: 4}}\n"
    )
    output = tmp_path / "out"
    arguments = ["--config", str(config), "--steps", "3", "--method", "strict", "--seed", "5", "--output", str(output)]
    assert main(["distill", *arguments, "--set", "training.learning_rate=1e-3"]) == 0
    run = RunFolder(output)
    assert run.status().state == "finished" and run.status().step == 3
    settings = run.config()
    assert (settings.method, settings.training.seed, settings.training.learning_rate) == ("strict", 5, 1e-3)
    assert [record["step"] for record in run.metrics()] == [1, 2, 3]
    assert {"before", "after", "teacher"} <= run.evaluation().keys()
    assert run.rollouts() and run.inspection()["shared_tokens"] > 256
    AutoModelForCausalLM.from_pretrained(run.model_dir)
    assert AutoTokenizer.from_pretrained(run.model_dir).chat_template == TEMPLATE
    assert "step 3/3" in capfd.readouterr().out
    assert (
        main(["evaluate", "--model", str(run.model_dir), "--tasks", prompts_file, "--json", str(tmp_path / "e")]) == 0
    )
    assert json.loads((tmp_path / "e").read_text())["tasks"][prompts_file]["n"] == 3
    assert main(["distill", "--resume", str(output)]) == 2
    refusal = capfd.readouterr().err
    assert "nothing to resume" in refusal and f"duplicate out --set student.model={run.model_dir}" in refusal
    config = actions.duplicate(run, {"student.model": str(run.model_dir)})
    assert config.student.model == str(run.model_dir) and config.training == run.config().training
    assert main(["jobs", "--runs", str(tmp_path)]) == 0
    assert "finished" in capfd.readouterr().out
    assert main(["jobs", "delete", "out", "--runs", str(tmp_path)]) == 0
    assert runs_in(tmp_path) == []


def test_models_that_cannot_be_used_are_refused_in_a_line(folders, tmp_path, capsys):
    def inspect(teacher):
        return refused(capsys, "inspect", "--teacher", teacher, "--student", folders[1])

    (tmp_path / "empty").mkdir()
    assert "empty" in inspect(str(tmp_path / "empty"))
    assert "no/such" in inspect("./no/such/folder")


def test_data_that_cannot_be_used_is_refused_in_a_line(folders, tmp_path, capfd):
    pair = ["--teacher", folders[0], "--student", folders[1], "--runs", str(tmp_path / "runs")]
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "other.jsonl").write_text('{"x": 1}')
    for name, word in (("empty.jsonl", "is empty"), ("other.jsonl", "data.column"), ("none.jsonl", "no file")):
        assert word in refused(capfd, "distill", *pair, "--prompts", str(tmp_path / name), "--steps", "1")
    assert runs_in(tmp_path / "runs") == []  # what cannot start leaves no run behind


def test_settings_out_of_range_and_files_that_do_not_exist(folders, prompts_file, tmp_path, capsys):
    base = ["distill", "--teacher", folders[0], "--student", folders[1], "--prompts", prompts_file]
    base += ["--runs", str(tmp_path)]
    assert "training.steps" in refused(capsys, *base, "--steps", "0")
    assert "rollout.top_p" in refused(capsys, *base, "--set", "rollout.top_p=7")
    assert "a.b=value" in refused(capsys, *base, "--set", "rollout")
    assert "Unknown setting" in refused(capsys, *base, "--set", "rollout.heat=1")
    assert "student.model" in refused(capsys, "distill", "--teacher", "x", "--prompts", prompts_file)
    assert "Cannot read" in refused(capsys, "distill", "--config", str(tmp_path / "none.yaml"))
    assert "not empty" in refused(capsys, *base, "--output", folders[0])
    assert "Cannot read" in refused(capsys, "inspect", "--teacher", "x", "--student", "y", "--text", "none.txt")
    assert "astrology" in refused(capsys, "evaluate", "--model", folders[0], "--tasks", "astrology")
    assert "no run" in refused(capsys, "publish", "missing", "--repo-id", "me/x", "--runs", str(tmp_path))
    assert "needs a run id" in refused(capsys, "jobs", "stop")
    assert runs_in(tmp_path) == []


def test_a_flag_that_nothing_would_read_is_refused(folders, prompts_file, tmp_path, capsys):
    run = made_up_run(tmp_path, steps=2, state="stopped")
    resumed = ["distill", "--resume", str(run.path)]
    for flag in (["--steps", "9"], ["--set", "training.steps=9"], ["--publish", "me/x"], ["--config", "run.yaml"]):
        assert f"{flag[0]} is not read with --resume" in refused(capsys, *resumed, *flag)
    assert "--flavor is about a run on Hugging Face Jobs" in refused(capsys, *resumed, "--flavor", "t4-small")
    assert "--checker is not read" in refused(capsys, "warmup", "--resume", str(run.path), "--checker", "none")
    pair = ["--teacher", folders[0], "--student", folders[1], "--prompts", prompts_file]
    for command in ("distill", "check"):
        assert "Add --on hf-jobs" in refused(capsys, command, *pair, "--timeout", "4h")
        assert "--gpus is about this machine" in refused(capsys, command, *pair, "--on", "hf-jobs", "--gpus", "2")
    assert "--private needs --push-to" in refused(capsys, "warmup", *pair, "--private")
    assert "Leave out --detach" in refused(capsys, "warmup", *pair, "--push-to", "me/x", "--detach")
    assert "--teacher-system needs --teacher" in refused(
        capsys, "evaluate", "--model", folders[1], "--teacher-system", "Be brief."
    )


def test_a_file_for_results_is_checked_before_the_work(folders, tmp_path, capsys, monkeypatch):
    def never(*arguments, **options):
        raise AssertionError("the work began")

    monkeypatch.setattr("simct.evaluation.tasks.evaluate_model", never)
    monkeypatch.setattr("simct.estimate.time_and_cost.estimate_run", never)
    (tmp_path / "file").touch()
    pair = ["--teacher", folders[0], "--student", folders[1]]
    for command in (["evaluate", "--model", folders[0]], ["estimate", *pair], ["inspect", *pair]):
        assert "it is a folder" in refused(capsys, *command, "--json", tmp_path)
        assert "no folder" in refused(capsys, *command, "--json", tmp_path / "none" / "x.json")
        assert "no folder" in refused(capsys, *command, "--json", "~no-such-user/x.json")
    assert "takes a folder" in refused(capsys, "inspect", *pair, "--csv", tmp_path / "file")


def test_the_home_of_a_user_who_does_not_exist_is_a_name_like_any_other(folders, prompts_file, tmp_path, capsys):
    assert main(["jobs", "--runs", "~no-such-user"]) == 0
    assert "There are no runs in" in capsys.readouterr().out
    assert "no-such-user" in refused(capsys, "inspect", "--teacher", "~no-such-user/x", "--student", folders[1])
    assert "no-such-user" in refused(capsys, "publish", "~no-such-user/run", "--repo-id", "me/x")


def test_a_run_is_found_by_the_name_that_lists_show(tmp_path, capsys):
    named = made_up_run(tmp_path, steps=1)
    named.path.rename(tmp_path / "été 🙂 'x'")
    assert main(["jobs", "--runs", str(tmp_path)]) == 0 and "été 🙂 'x'" in capsys.readouterr().out
    assert main(["jobs", "log", "été 🙂 'x'", "--runs", str(tmp_path)]) == 0
    assert "step 1/1" in capsys.readouterr().out
    for name in ("no such run", "..", "", "a" * 3000):
        assert "See `simct jobs`" in refused(capsys, "jobs", "log", name, "--runs", tmp_path) or not name


def test_a_model_that_reads_like_a_path_is_said_to_be_missing(folders, capsys):
    line = refused(capsys, "inspect", "--teacher", "models/my/teacher", "--student", folders[1])
    assert "there is no such folder" in line


def test_any_encoding_of_the_terminal_can_show_the_output(folders, prompts_file):
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    pair = ["--teacher", folders[0], "--student", folders[1], "--prompts", prompts_file]
    done = run_command(environment, "check", *pair)
    assert done.returncode in (0, 2) and "? All settings are valid" in done.stdout and not done.stderr


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"simct {simct.__version__}\n"


def test_an_unwritable_or_full_disk_is_a_line(folders, capsys):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    message = refused(capsys, "inspect", "--teacher", *(folders[0], "--student", folders[1]), "--json", "/dev/full")
    assert "space" in message


def test_a_model_without_a_chat_template_reads_prompts_but_no_conversations(folders, tmp_path, capfd):
    plain = tmp_path / "plain"
    tokenizer = student_tokenizer(template=None)
    random_model(tokenizer, seed=4).save_pretrained(plain)
    tokenizer.save_pretrained(plain)
    rows = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]}
    (tmp_path / "chat.jsonl").write_text(json.dumps(rows))
    arguments = ["distill", "--teacher", folders[0], "--student", str(plain), "--prompts", str(tmp_path / "chat.jsonl")]
    message = refused(capfd, *arguments, "--steps", "1", "--runs", str(tmp_path / "runs"))
    assert "no chat template" in message


def run_command(environment, *arguments):
    """The command in a process of its own, since the Hub's client reads its environment once."""
    command = [sys.executable, "-m", "simct.cli.main", *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in result.stderr, result.stderr
    return result


def test_a_gated_or_unknown_model_on_the_hub_and_one_that_is_found(folders, tmp_path):
    with HubServer() as hub:
        hub.add_model("open/student", folders[1])
        hub.add_model("gated/teacher", folders[0], gated="manual")
        environment = hub.env(HF_HOME=str(tmp_path))
        for teacher, words in (("gated/teacher", "gated"), ("open/none", "open/none")):
            result = run_command(environment, "inspect", "--teacher", teacher, "--student", "open/student")
            assert result.returncode == 2 and words in result.stderr
            assert len(result.stderr.strip().splitlines()) == 1, result.stderr
        result = run_command(environment, "inspect", "--teacher", folders[0], "--student", "open/student")
        assert result.returncode == 0 and "Shared tokens" in result.stdout


def test_an_unreachable_hub_is_a_line(folders, tmp_path):
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    result = run_command(environment, "inspect", "--teacher", "some/model", "--student", folders[1])
    assert result.returncode == 2 and "Cannot reach the Hub" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr


def test_a_run_that_loses_its_model_fails_with_the_reason(folders, prompts_file, tmp_path, capfd):
    copy = shutil.copytree(folders[1], tmp_path / "student")
    (copy / "model.safetensors").write_bytes(b"not safetensors")
    arguments = ["--teacher", folders[0], "--student", str(copy), "--prompts", prompts_file, "--steps", "1"]
    arguments += ["--runs", str(tmp_path / "runs"), "--set", "rollout.max_new_tokens=8"]
    assert "model.safetensors" in refused(capfd, "distill", *arguments) and not (tmp_path / "runs").exists()
    message = refused(capfd, "distill", "--no-check", *arguments)
    assert "Cannot load the model" in message and str(copy) in message
    (run,) = runs_in(tmp_path / "runs")
    assert run.status().state == "failed" and "Cannot load" in run.status().error
    until(lambda: not local_job.is_locked(run))
    log = run.log_path.read_text()
    assert "Traceback" not in log and "Cannot load the model" in log.splitlines()[-1]


def test_in_a_terminal_the_lines_of_steps_move_a_bar(capsys):
    screen = io.StringIO()
    bar = tqdm(file=screen, disable=False, ncols=100, mininterval=0)
    show_log("8 prompts\nstep 5/20  loss 0.5000  rows 3\n", bar, RunStatus(step=5, total_steps=20))
    show_log("step 6/20  loss 0.2500  rows 3\n", bar, RunStatus(step=6, total_steps=20))
    assert capsys.readouterr().out == "8 prompts\n"
    assert (bar.n, bar.total) == (6, 20) and "6/20" in str(bar) and "loss 0.2500" in str(bar)


def test_elsewhere_the_log_is_printed_as_it_is(capsys):
    show_log("8 prompts\nstep 1/4  loss 1.0\n", progress_bar(), RunStatus(step=1, total_steps=4))
    assert capsys.readouterr().out == "8 prompts\nstep 1/4  loss 1.0\n"
