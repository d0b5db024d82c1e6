"""What a visitor of a Space names: the Hub, the package, their own uploads and runs, and nothing else that is here."""

import json
import os
from pathlib import Path

import pytest
import yaml

from app.compare import models
from app.data import prompt_source
from app.server import model_facts, paths
from app.server.studio import Studio
from app.server.uploads import KEPT_SECONDS
from app.server.visitor import Visitor
from app.server.work import Work
from app.train import where
from app.train.form import base_config
from app.train.where import HERE, Place
from simct import demo
from simct.config import RunConfig, config_from_dict
from simct.config.sections import DataConfig
from simct.errors import ConfigError, DataError, ModelError, SimCTError
from simct.jobs import actions
from tests.support.hub_runs import finished_run

ANN, BOB, NOBODY = Visitor("hf_ann", "ann"), Visitor("hf_bob", "bob"), Visitor(False, None)
ROWS = '{"prompt": "secret question", "answer": "secret answer"}\n'


@pytest.fixture
def space(tmp_path, monkeypatch) -> Studio:
    """A public studio with a run of ann, in a working directory that has folders of its own."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "temporary"))
    studio = Studio(tmp_path / "data" / "runs", public=True)
    run = finished_run(studio.runs_dir / "run-of-ann")
    run.set_status(owner="ann")
    (run.path / "inputs").mkdir()
    (run.path / "inputs" / "prompts.jsonl").write_text(ROWS)
    (tmp_path / "here" / "simct").mkdir(parents=True)
    (tmp_path / "secret.jsonl").write_text(ROWS)
    monkeypatch.chdir(tmp_path / "here")
    return studio


def uploaded(space: Studio, visitor: Visitor, content: str = ROWS, name: str = "mine.jsonl") -> str:
    temporary = space.runs_dir.parents[1] / "temporary" / "x"
    temporary.mkdir(parents=True, exist_ok=True)
    (temporary / name).write_text(content)
    return prompt_source.keep_upload(space, str(temporary / name), visitor)


def unchecked(**values: str) -> DataConfig:
    """Settings with values that no reader of run.yaml would let pass."""
    return DataConfig.model_construct(**{**DataConfig().model_dump(), **values})


def names_of_others(space: Studio) -> list[str]:
    """Every way to write a path of the machine, or of ann's run, that somebody thought of."""
    run, secret = space.runs_dir / "run-of-ann", space.runs_dir.parents[1] / "secret.jsonl"
    link = space.uploads.folder / (BOB.folder or "") / "0123.jsonl"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(secret)
    relative = f"simct/../../data/runs/{run.name}"
    return [
        str(run / "model"), f"{relative}/model", f"{relative}/model@main", f"{run}/model@main", f"x@{run}/model",
        f"{relative}/inputs/prompts.jsonl", str(run / "rollouts.jsonl"), str(run / "inputs" / "prompts.jsonl"),
        str(secret), f"./../{secret.name}", f"../{secret.name}", f"simct/../../{secret.name}", str(link), "~/x",
        "/etc/passwd", "/proc/self/environ", "simct", ".", "..", "simct/..", f"{secret}\0", "a\0b",
        f"file://{secret}", "http://127.0.0.1:1/x.jsonl", "hf://datasets/a/b/x.jsonl", "a/b/c", "a//b", "a/../b",
        str(space.uploads.folder), f"{space.uploads.folder}/../run-of-ann/rollouts.jsonl",
    ]  # fmt: skip


def test_models_are_of_the_hub_or_embedded(space):
    for name in names_of_others(space):
        with pytest.raises(ModelError):
            paths.check_model(space, name)
        with pytest.raises(ModelError):
            model_facts.facts(space, name, False)
        with pytest.raises(ModelError):
            model_facts.pair_of(space, str(demo.TEACHER), name, False)
    assert paths.check_model(space, " acme/model@main ") == "acme/model@main"
    for revision in ("../../x", "/etc", "a b", "x/../y", "a\0b", "-x"):
        with pytest.raises(ModelError):
            paths.check_model(space, f"acme/model@{revision}")


def test_prompts_are_of_the_hub_embedded_or_an_upload_of_the_visitor_s_own(space):
    for visitor in (BOB, NOBODY):
        for name in (*names_of_others(space), uploaded(space, ANN)):
            with pytest.raises(DataError):
                paths.check_data(space, visitor, unchecked(prompts=name))
            with pytest.raises(DataError):
                paths.check_data(space, visitor, unchecked(prompts="a/b", held_out_prompts=name))
    for visitor in (ANN, NOBODY):
        mine = uploaded(space, visitor)
        assert paths.check_data(space, visitor, DataConfig(prompts=mine)).prompts == mine
    assert paths.check_data(space, ANN, DataConfig(prompts=str(space.runs_dir / "run-of-ann/inputs/prompts.jsonl")))


def test_an_upload_from_before_the_sign_in_becomes_the_account_s(space):
    before = uploaded(space, NOBODY)
    now = paths.check_data(space, BOB, DataConfig(prompts=before)).prompts
    assert now != before and Path(now).read_text() == ROWS and Path(now).parent.name == BOB.folder
    assert paths.check_data(space, BOB, DataConfig(prompts=now)).prompts == now
    with pytest.raises(DataError):
        paths.check_data(space, ANN, DataConfig(prompts=now))
    assert Path(now).parent.stat().st_mode & 0o077 == 0


def test_tasks_are_names_or_data_of_the_visitor_s_own(space, tmp_path):
    mine = uploaded(space, BOB)
    assert paths.check_tasks(space, BOB, ["demo", "gsm8k", mine]) == ["demo", "gsm8k", mine]
    task = tmp_path / "task.yaml"
    task.write_text("task: x\nprocess_docs: !function evil.run\n")
    # kept by a version that accepted files of any kind
    own_task = space.uploads.keep_bytes(b"task: x", ".yaml", BOB, True)
    for name in (*names_of_others(space), uploaded(space, ANN), str(task), own_task):
        if name == "simct":
            continue  # reads as the name of a task, of which there is none
        with pytest.raises(ConfigError):
            paths.check_tasks(space, BOB, [name])
    # on a machine of one's own a data file may lie anywhere, and a task's file is refused all the same
    own = Studio(space.runs_dir, public=False)
    assert paths.check_tasks(own, own.nobody, [mine]) == [mine]
    with pytest.raises(ConfigError):
        paths.check_tasks(own, own.nobody, [str(task)])


# every setting that takes a text, and what it can name
NAMES_NOTHING = {
    "data.split", "data.config_name", "data.column", "data.answer_column", "data.system", "data.template",
    "data.system_column", "teacher.device", "student.device", "teacher.chat_template", "student.chat_template",
    "training.optimizer", "training.freeze", "lora.targets",
}  # fmt: skip
# simct.models.server_address lets a Space connect to public addresses only
CHECKED_ELSEWHERE = {"teacher.server", "student.server"}
TASKS = ("evaluation.tasks", "evaluation.tracked_tasks", "evaluation.best_by")
RESOLVED = {
    "teacher.model", "student.model", "teacher.revision", "student.revision", "data.prompts", "data.held_out_prompts",
    "data.revision", "evaluation.tasks", "evaluation.tracked_tasks", "evaluation.best_by", "rollout.vllm_url",
    "notify.webhook", "output", "teacher.scores", "student.scores",
}  # fmt: skip


def test_every_setting_that_takes_a_text_is_known():
    """A new one must be listed: either it names nothing of a machine, or check_run resolves it."""
    from simct.setting import every_setting

    free = {name for name, each in every_setting(RunConfig) if {str, list} & set(each.kinds) and not each.choices}
    known = NAMES_NOTHING | RESOLVED | CHECKED_ELSEWHERE
    assert free >= RESOLVED
    for name in free - known:
        meaning = dict(every_setting(RunConfig))[name].help.lower()
        assert not any(word in meaning for word in ("folder", "file", "path", "address", "server")), name


@pytest.mark.parametrize("setting", sorted(RESOLVED - {"output", "rollout.vllm_url", "notify.webhook"}))
def test_a_run_names_nothing_of_others(space, setting):
    for name in names_of_others(space):
        # what reads as the name of a task, or as a branch
        if (setting in TASKS and name == "simct") or ("revision" in setting and name in ("simct", "a/b/c")):
            continue
        config = config_from_dict({"teacher": "a/b", "student": "a/c", "data": {"prompts": "a/d"}})
        section, field = setting.split(".")
        setattr(getattr(config, section), field, [name] if field.endswith("tasks") else name)
        with pytest.raises(SimCTError):
            paths.check_run(space, BOB, config)
        with pytest.raises(SimCTError):
            where.start(space, config, Place(where.JOBS), BOB)


def test_where_a_run_lies_is_never_the_visitor_s_to_say(space, tmp_path, monkeypatch):
    kept = {"teacher": {"model": "a/b"}, "output": str(tmp_path / "elsewhere"), "data": {"prompts": "a/d"}}
    for described in (kept, {**kept, "output": {"": "/x"}}, {**kept, ".output": "/x"}, {**kept, "output.": "/x"}):
        assert base_config(described).output is None
    seen = []
    monkeypatch.setattr(actions, "start_here", lambda runs, config, owner, token: seen.append(config.output))
    studio = Studio(space.runs_dir, public=False)
    config = config_from_dict({**kept, "student": "a/c"})
    where.start(studio, config, Place(HERE), studio.nobody)
    assert seen == [None]


def test_a_space_sends_no_requests_for_its_visitors(space):
    config = config_from_dict({"teacher": "a/b", "student": "a/c", "data": {"prompts": "a/d"}})
    config.rollout.engine, config.rollout.vllm_url = "vllm", "http://169.254.169.254/"
    with pytest.raises(ConfigError, match="vllm_url"):
        paths.check_run(space, ANN, config, here=True)
    with pytest.raises(ConfigError, match="webhook"):
        config.rollout.vllm_url, config.notify.webhook = None, "http://169.254.169.254/"
        paths.check_run(space, ANN, config, here=True)
    assert paths.check_run(space, ANN, config)  # in a Job it is their own machine's


def test_a_student_from_a_job_that_is_an_adapter_reads_no_base(space):
    run = finished_run(space.runs_dir / "run-of-bob")
    base = str(space.runs_dir / "run-of-ann" / "model")
    run.model_dir.mkdir(exist_ok=True)
    (run.model_dir / "config.json").write_text("{}")
    (run.model_dir / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    with pytest.raises(ModelError, match="adapter"):
        models.load(space, "after", run, run.config(), False, Work())


def test_uploads_are_forgotten_once_old_and_named_by_no_run(space, monkeypatch):
    used, unused, new = (uploaded(space, ANN, ROWS * count) for count in (1, 2, 3))
    path = space.runs_dir / "run-of-ann" / "run.yaml"
    described = yaml.safe_load(path.read_text())
    described["data"]["prompts"] = used
    path.write_text(yaml.safe_dump(described))
    for old in (used, unused):
        os.utime(old, (0, Path(old).stat().st_mtime - KEPT_SECONDS - 60))
    space.uploads.forget_old(space.runs_dir)
    assert [Path(each).exists() for each in (used, unused, new)] == [True, False, True]


def test_a_file_that_is_uploaded_again_is_kept_as_long_as_a_new_one(space):
    name = uploaded(space, ANN, ROWS)
    os.utime(name, (0, Path(name).stat().st_mtime - KEPT_SECONDS - 60))
    assert uploaded(space, ANN, ROWS) == name
    space.uploads.forget_old(space.runs_dir)
    assert Path(name).exists()
