"""Every check in a case that passes and one that does not, on a pair of this machine; and what a failure may not do."""

import json
from functools import partial

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, MambaConfig

from simct.config import config_from_dict, set_option
from simct.config.teachers import TeacherConfig
from simct.errors import ConfigError, DataError
from simct.models.server_check import ServerReport
from simct.preflight import account, checklist, machine, models, packages, prompts, settings, tasks, tokenizers
from simct.preflight.checklist import run_checks
from simct.preflight.planned import Place, PlannedRun
from simct.preflight.records import OK, PROBLEM, WARNING
from simct.runs.folder import RunFolder
from simct.train import train_run
from simct.training import loaded
from simct.training.warmup_answers import _plan
from tests.support.random_pair import random_model, student_tokenizer
from tests.support.tiny_models import save_tiny_model


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"the cat {n}", "answer": str(n)}) + "\n" for n in range(20)))
    return path


@pytest.fixture
def planned(folders, rows, tmp_path):
    """A function from changes, such as {"training.tracker": "wandb"}, to a run that is planned with them."""

    def plan(changes=None, **place):
        config = config_from_dict(
            {
                "teacher": folders[0],
                "student": folders[1],
                "data": {"prompts": str(rows)},
                "rollout": {"max_new_tokens": 16},
                "training": {"steps": 10, "batch_size": 4, "max_length": 100},
            }
        )
        for name, value in (changes or {}).items():
            set_option(config, name, value)
        return PlannedRun(config, place=Place(runs_dir=str(tmp_path / "runs"), **place))

    return plan


def states(found):
    return {each.state for each in found}


def the_one(found, state):
    [one] = [each for each in found if each.state == state]
    assert "\n" not in one.text and one.message.rstrip("…").endswith((".", "%", ")")), one.message
    return one


def test_a_run_that_can_start_is_ready_and_says_so_about_every_subject(planned):
    found = run_checks(planned())
    assert not found.problems and not found.warnings, found.warnings
    subjects = list(dict.fromkeys(each.subject for each in found.checks))
    assert subjects == ["Settings", "Models", "Tokenizers", "Prompts", "Chat templates", "Answers", "Machine"]


def test_problems_hide_nothing_and_each_reason_is_given_once(planned, tmp_path):
    changes = {"teacher.model": "/no/teacher", "data.prompts": "/no/prompts.jsonl", "training.optimizer": "Adamm"}
    found = run_checks(planned(changes | {"training.tracker": "wandb"}))
    texts = [each.text for each in found.problems]
    for words in ("no folder '/no/teacher'", "no file '/no/prompts.jsonl'", "no such optimizer", "package wandb"):
        assert sum(words in text for text in texts) == 1, texts
    assert sum("/no/teacher" in text for text in texts) == 1, texts
    assert {each.setting for each in found.problems} >= {"teacher.model", "data.prompts", "training.optimizer"}
    # the student was still looked at
    assert any("Student" in each.message for each in found.checks if each.state == OK)
    with pytest.raises(ConfigError, match="no such optimizer"):
        found.refuse()


def test_whatever_goes_wrong_inside_a_check_is_one_line_that_hides_no_other(planned, monkeypatch):
    def broken(planned):
        raise ZeroDivisionError("a\nb")

    monkeypatch.setattr(checklist, "CHECKS", (("Machine", broken), *checklist.CHECKS))
    found = run_checks(planned(), checks=checklist.CHECKS)
    line = the_one(found.checks, WARNING)
    assert "ZeroDivisionError: a b" in line.message and not found.problems and len(found.checks) > 8


# Settings and packages


@pytest.mark.parametrize(
    ("changes", "words", "setting"),
    [
        ({"rollout.max_new_tokens": 4000}, "greater than rollout.max_new_tokens", "training.max_length"),
        ({"lora.rank": 4, "lora.targets": "nothing"}, "lora.targets", "lora.targets"),
        ({"training.freeze": "nowhere"}, "nowhere", "training.freeze"),
        ({"method_options.mass": 1}, "mass", "method_options"),
    ],
)
def test_settings_that_do_not_go_together(planned, changes, words, setting):
    found = the_one(settings.check_settings(planned(changes)), PROBLEM)
    assert words in found.text and found.setting == setting
    assert states(settings.check_settings(planned())) == {OK}


def test_a_run_folder_that_is_not_empty(planned, tmp_path):
    assert settings.check_output(planned({"output": str(tmp_path / "new")})) == []
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").write_text("")
    assert the_one(settings.check_output(planned({"output": str(tmp_path / "old")})), PROBLEM).setting == "output"


PACKAGES = [
    ({"training.tracker": "wandb"}, "wandb"),
    ({"teacher.quantization": "4bit"}, "bitsandbytes"),
    ({"training.optimizer": "bitsandbytes.AdamW8bit"}, "bitsandbytes"),
    ({"rollout.engine": "vllm"}, "vllm"),
    ({"lora.rank": 4}, "peft"),
    ({"evaluation.tasks": "gsm8k"}, "lm_eval"),
    ({"kind": "warmup", "warmup.checker": "maths"}, "math-verify"),
]


@pytest.mark.parametrize(("changes", "name"), PACKAGES)
def test_packages_that_the_settings_ask_for(planned, monkeypatch, changes, name):
    monkeypatch.setattr(packages, "is_installed", lambda module: False)
    found = the_one(packages.check_packages(planned(changes)), PROBLEM)
    assert f"the package {name} is not installed" in found.message and f"pip install {name}" in found.remedy
    assert found.setting in changes
    monkeypatch.setattr(packages, "is_installed", lambda module: True)
    assert states(packages.check_packages(planned(changes))) == {OK}
    assert "Job installs" in the_one(packages.check_packages(planned(changes, on_jobs=True)), OK).message


def test_deepspeed_is_needed_by_several_gpus_only(planned, monkeypatch):
    monkeypatch.setattr(packages, "is_installed", lambda module: False)
    changes = {"training.parallel": "zero2"}
    assert packages.check_packages(planned(changes)) == []
    assert "deepspeed" in the_one(packages.check_packages(planned(changes, gpus=2)), PROBLEM).message


def test_wandb_needs_a_key_here_and_gets_none_on_jobs(planned, monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wandb = {"training.tracker": "wandb"}
    assert "wandb login" in the_one(packages.check_tracker(planned(wandb)), PROBLEM).remedy
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    assert states(packages.check_tracker(planned(wandb))) == {OK}
    assert "gets no wandb key" in the_one(packages.check_tracker(planned(wandb, on_jobs=True)), PROBLEM).message
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert packages.check_tracker(planned(wandb)) == []


def test_other_trackers_need_no_login_and_lose_what_a_job_keeps(planned, monkeypatch):
    monkeypatch.delenv("TRACKIO_SPACE_ID", raising=False)
    trackio = {"training.tracker": "trackio"}
    assert packages.check_tracker(planned(trackio)) == []
    assert "lost" in the_one(packages.check_tracker(planned(trackio, on_jobs=True)), WARNING).message
    monkeypatch.setenv("TRACKIO_SPACE_ID", "me/space")
    monkeypatch.setattr(packages, "get_token", lambda: None)
    assert "signed in" in the_one(packages.check_tracker(planned(trackio)), PROBLEM).message


def test_a_missing_tracker_ends_training_before_any_model_is_loaded(planned, monkeypatch, tmp_path):
    def load_model(*arguments):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(loaded, "load_model", load_model)
    monkeypatch.setattr(packages, "is_installed", lambda module: module != "wandb")
    run = RunFolder.create(tmp_path / "runs", planned({"training.tracker": "wandb"}).config)
    with pytest.raises(ConfigError, match="the package wandb is not installed"):
        train_run(run)


def test_tasks_are_looked_up_one_by_one(planned, rows, monkeypatch):
    assert "demo" in the_one(tasks.check_evaluation(planned({"evaluation.tasks": f"demo,{rows}"})), OK).message
    found = tasks.check_evaluation(planned({"evaluation.tasks": "demo,no-such-task,other-task"}))
    assert [each.state for each in found] == [PROBLEM, PROBLEM, OK]
    assert "no-such-task" in found[0].message and found[0].setting == "evaluation.tasks"
    monkeypatch.setattr(tasks.lm_eval, "is_installed", lambda: False)
    assert states(tasks.check_evaluation(planned({"evaluation.tasks": "gsm8k"}, on_jobs=True))) == {WARNING}


# Models, tokenizers and prompts


def test_models_by_the_files_that_they_have(planned, tmp_path):
    assert [each.state for each in models.check_models(planned())] == [OK, OK]
    (tmp_path / "gguf").mkdir()
    (tmp_path / "gguf" / "model.gguf").write_bytes(b"GGUF")
    found = models.check_models(planned({"student.model": str(tmp_path / "gguf")}))
    assert [each.state for each in found] == [OK, PROBLEM]
    assert "GGUF" in found[1].text and found[1].setting == "student.model"


def test_the_same_model_on_both_sides_is_worth_a_warning(planned, folders):
    found = models.check_models(planned({"teacher.model": folders[1]}))
    assert "same model" in the_one(found, WARNING).message


def test_a_model_that_is_no_language_model(planned, tmp_path, folders):
    save_tiny_model(tmp_path / "odd")
    config = json.loads((tmp_path / "odd" / "config.json").read_text())
    (tmp_path / "odd" / "config.json").write_text(json.dumps(config | {"model_type": "vit", "architectures": None}))
    found = models.check_models(planned({"teacher.model": str(tmp_path / "odd")}))
    assert "does not load as a language model" in the_one(found, PROBLEM).message


@pytest.mark.parametrize("lost", ["model.layers.1.mlp.up_proj.weight", "lm_head.weight"])
def test_weights_that_are_missing_are_found_by_the_header(planned, tmp_path, lost):
    tokenizer = student_tokenizer()
    random_model(tokenizer, 4).save_pretrained(tmp_path / "whole")
    tokenizer.save_pretrained(tmp_path / "whole")
    changes = {"student.model": str(tmp_path / "whole")}
    assert states(models.check_models(planned(changes))) == {OK}
    file = tmp_path / "whole" / "model.safetensors"
    tensors = load_file(file)
    del tensors[lost]
    save_file(tensors, file, {"format": "pt"})
    found = the_one(models.check_models(planned(changes)), PROBLEM)
    assert f"lacks {lost}, which would stay random" in found.message
    file.write_bytes(b"not safetensors")
    assert "model.safetensors" in the_one(models.check_models(planned(changes)), PROBLEM).message


def test_a_shard_that_is_missing(planned, tmp_path):
    save_tiny_model(tmp_path / "m").save_pretrained(tmp_path / "m", max_shard_size="4KB")
    (tmp_path / "m" / "model.safetensors").unlink(missing_ok=True)
    changes = {"student.model": str(tmp_path / "m")}
    assert PROBLEM not in states(models.check_models(planned(changes)))
    sorted((tmp_path / "m").glob("model-*.safetensors"))[-1].unlink()
    assert "its index names" in the_one(models.check_models(planned(changes)), PROBLEM).message


def test_tied_heads_are_not_missing(planned, tmp_path):

    tokenizer = student_tokenizer()
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    tied = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=True, **shape))
    tied.save_pretrained(tmp_path / "tied")
    tokenizer.save_pretrained(tmp_path / "tied")
    assert "lm_head.weight" not in load_file(tmp_path / "tied" / "model.safetensors")
    assert states(models.check_models(planned({"student.model": str(tmp_path / "tied")}))) == {OK}


def test_licenses_of_folders_with_cards(planned, tmp_path):
    assert models.check_licenses(planned()) == []
    save_tiny_model(tmp_path / "m")
    for name, state in (("apache-2.0", OK), ("cc-by-nc-4.0", WARNING)):
        (tmp_path / "m" / "README.md").write_text(f"---\nlicense: {name}\n---\n")
        found = models.check_licenses(planned({"teacher.model": str(tmp_path / "m")}))
        assert name in the_one(found, state).message


def test_tokenizers_one_by_one_and_what_they_share(planned, tmp_path):
    assert [each.state for each in tokenizers.check_tokenizers(planned())] == [OK, OK]
    assert "shared tokens" in the_one(tokenizers.check_overlap(planned()), OK).message
    save_tiny_model(tmp_path / "m")
    (tmp_path / "m" / "tokenizer.json").write_text("{")
    found = tokenizers.check_tokenizers(planned({"teacher.model": str(tmp_path / "m")}))
    assert [each.state for each in found] == [PROBLEM, OK] and found[0].setting == "teacher.model"


def test_prompts_with_skipped_rows_and_unread_columns(planned, tmp_path):
    assert states(prompts.check_prompts(planned())) == {OK}
    lines = [{"prompt": "hello", "notes": "some text"}, {"prompt": ""}]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = prompts.check_prompts(planned({"data.prompts": str(tmp_path / "p.jsonl")}))
    assert [each.state for each in found] == [OK, WARNING, WARNING]
    assert "1 row of 2 is skipped" in found[1].message
    assert "notes" in found[2].message and found[2].setting == "data.template"


@pytest.mark.parametrize(
    ("template", "state", "words"),
    [
        ("{{ messages[0].content[:2] }}", PROBLEM, "cuts off|drops"),
        (None, WARNING, "no chat template"),
        ("{{ raise_exception('never') }}", PROBLEM, "never"),
    ],
)
def test_templates_are_rendered_on_real_rows(planned, tmp_path, template, state, words):
    assert states(prompts.check_templates(planned())) == {OK}
    tokenizer = student_tokenizer(template=template)
    random_model(tokenizer, 4).save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    found = [each for each in prompts.check_templates(planned({"student.model": str(tmp_path / "m")}))]
    [one] = [each for each in found if each.state == state]
    assert any(word in one.text for word in words.split("|")), one
    if state == PROBLEM:
        # no prompt can help against a template that refuses all of them
        assert one.setting == "student.model" and "model" in one.remedy


def test_prompts_that_leave_no_room(planned, tmp_path):
    assert "leave room for 16 new ones" in the_one(prompts.check_lengths(planned()), OK).message
    found = prompts.check_lengths(planned({"rollout.max_new_tokens": 99}))
    assert the_one(found, PROBLEM).setting == "rollout.max_new_tokens"
    # the models read 128 tokens, whatever the run allows
    assert states(prompts.check_lengths(planned({"training.max_length": 4096, "rollout.max_new_tokens": 127}))) == {
        PROBLEM
    }
    long = [json.dumps({"prompt": "the cat " * (80 if n % 2 else 1)}) + "\n" for n in range(20)]
    (tmp_path / "long.jsonl").write_text("".join(long))
    found = prompts.check_lengths(planned({"data.prompts": str(tmp_path / "long.jsonl")}))
    assert "About 50% of the prompts" in the_one(found, WARNING).message


def test_a_warm_up_checks_the_lengths_that_its_run_has(planned, tmp_path):
    """The models read 128 tokens, of which at most half are for the teacher's answers at first."""
    warm = {"kind": "warmup", "training.max_length": 4096, "data.held_out": 0}
    assert "64 leave room for 64 new ones" in the_one(prompts.check_lengths(planned(warm)), OK).message
    for words, share in ((70, 1.0), (140, 1.0), (30, 0.0)):
        lines = [json.dumps({"prompt": f"{'the ' * words}{n}"}) + "\n" for n in range(20)]
        (tmp_path / "p.jsonl").write_text("".join(lines))
        plan = planned(warm | {"data.prompts": str(tmp_path / "p.jsonl")})
        lengths = plan.lengths()
        assert sum(not each.fits for each in lengths) == share * len(lengths)
        tokens, accelerator = plan.tokens("teacher"), Accelerator(cpu=True)
        sampled = partial(_plan, plan.config, tokens, plan.split.trained, accelerator, plan.context("teacher"))
        if share:
            with pytest.raises(DataError, match="No prompt leaves room for 64 new tokens of the teacher within 128"):
                sampled()
            assert "leaves room for 64 new tokens within 128" in the_one(prompts.check_lengths(plan), PROBLEM).text
        else:
            assert len(sampled().fitting) == len(lengths) == 20


def test_a_warm_up_warns_of_prompts_that_fill_what_the_student_reads(planned, tmp_path, monkeypatch):
    monkeypatch.setattr(PlannedRun, "context", lambda self, side: 8 if side == "student" else 4096)
    found = prompts.check_lengths(planned({"kind": "warmup", "warmup.max_new_tokens": 16}))
    assert "The student reads 8 tokens" in the_one(found, PROBLEM).message


def test_a_server_s_own_limit_decides_the_lengths(planned, monkeypatch):
    report = ServerReport("m", 20, 64, True, 0.1, 1000.0)
    monkeypatch.setattr("simct.preflight.planned.look_at_server", lambda *_: report)
    found = prompts.check_lengths(planned({"teacher.server": "http://127.0.0.1:1"}))
    assert "leaves room for 16 new tokens within 20" in the_one(found, PROBLEM).text


def test_a_row_needs_to_fit_only_the_teachers_that_grade_it(planned, folders, tmp_path, monkeypatch):
    lines = [json.dumps({"prompt": "the cat " * (12 if n % 2 else 1), "kind": "ab"[n % 2]}) + "\n" for n in range(20)]
    (tmp_path / "p.jsonl").write_text("".join(lines))
    plan = planned({"data.prompts": str(tmp_path / "p.jsonl"), "data.teacher_column": "kind"})
    plan.config.teachers = [TeacherConfig(model=folders[0], name=name) for name in "ab"]
    contexts = {"teachers[0]": 30, "teachers[1]": 90, "student": None}
    monkeypatch.setattr(PlannedRun, "context", lambda self, side: contexts[side])
    lengths = plan.lengths()
    assert {each.room for each in lengths} == {14, 74} and max(each.tokens for each in lengths) > 14
    assert all(each.fits for each in lengths)


def test_lengths_that_the_data_excludes(planned):
    found = prompts.check_lengths(planned({"data.max_tokens": 2}))
    assert the_one(found, PROBLEM).setting == "data.max_tokens"


def test_answers_of_the_data_that_the_pair_cannot_supervise(planned, tmp_path):
    assert "100%" in the_one(prompts.check_answers(planned()), OK).message
    lines = [{"prompt": "hi", "answer": "<|user|> x" if n % 2 else "x"} for n in range(10)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = the_one(prompts.check_answers(planned({"data.prompts": str(tmp_path / "p.jsonl")})), WARNING)
    assert "50% of the answers" in found.message


def test_tokens_beyond_the_embedding(planned, tmp_path):
    assert prompts.check_unreadable_ids(planned()) == []
    tokenizer = student_tokenizer()
    model = random_model(tokenizer, 4)
    tokenizer.add_special_tokens({"additional_special_tokens": [f"<|more{n}|>" for n in range(9)]})
    tokenizer.chat_template = "<|more8|>{% for m in messages %}{{ m.content }}{% endfor %}"
    model.save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    found = prompts.check_unreadable_ids(planned({"student.model": str(tmp_path / "m")}))
    assert "embedding" in the_one(found, PROBLEM).message


def test_a_warm_up_s_checker_needs_answers(planned, tmp_path):
    warm = {"kind": "warmup", "warmup.checker": "text", "warmup.max_new_tokens": 16}
    assert prompts.check_references(planned(warm)) == []
    (tmp_path / "p.jsonl").write_text('{"prompt": "hi"}\n')
    found = run_checks(planned(warm | {"data.prompts": str(tmp_path / "p.jsonl")}))
    assert "needs a reference answer" in the_one(found.checks, PROBLEM).message


# The machine


def test_devices_that_are_not_there(planned, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert states(machine.check_device(planned())) == {OK}
    found = machine.check_device(planned({"teacher.device": "cuda:1", "training.mixed_precision": "fp16"}))
    assert {each.setting for each in found if each.state == PROBLEM} == {"teacher.device", "training.mixed_precision"}
    monkeypatch.setattr(machine, "CPU_PARAMETERS", 10)
    assert "very long" in the_one(machine.check_device(planned()), WARNING).message
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    assert the_one(machine.check_device(planned(gpus=4)), PROBLEM).remedy == "Lower --gpus."
    assert states(machine.check_device(planned(gpus=2))) == {OK}


@pytest.mark.parametrize(("free", "total", "state"), [(90, 99, OK), (0.1, 99, WARNING), (0.1, 0.1, PROBLEM)])
def test_memory_against_the_estimate(planned, monkeypatch, free, total, state):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine, "_ram", lambda: (int(free * 2**30), int(total * 2**30)))
    assert the_one(machine.check_memory(planned()), state)


def test_a_kind_of_model_without_an_estimate_is_worth_a_warning(planned, tmp_path):
    MambaConfig(vocab_size=950, hidden_size=32, num_hidden_layers=1).save_pretrained(tmp_path / "mamba")
    run = planned({"student.model": str(tmp_path / "mamba")})
    assert "could not be estimated" in the_one(machine.check_memory(run), WARNING).message
    assert PROBLEM not in states([*machine.check_device(run), *machine.check_disk(run)])


def test_disk_space_against_what_is_kept(planned, monkeypatch):
    run = planned()
    [fine] = machine.check_disk(run)
    assert fine.state == OK
    wanted = machine.disk_bytes(run.config, run.shape("student"))
    usage = machine.shutil.disk_usage(".")
    for free, state in ((wanted - 1, PROBLEM), (wanted * 1.1, WARNING), (wanted * 2, OK)):
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda path, free=free: usage._replace(free=int(free)))
        assert the_one(machine.check_disk(planned()), state)


def test_a_vllm_server_must_answer(planned, hub):
    def at(url, **place):
        return machine.check_server(planned({"rollout.engine": "vllm", "rollout.vllm_url": url}, **place))

    assert "does not answer" in the_one(at("http://127.0.0.1:9"), PROBLEM).message
    assert states(at(hub.url)) == {OK}
    before = len(hub.requests)
    assert at(hub.url, public=True) == [] and len(hub.requests) == before  # a stranger's address is not opened


def test_a_run_of_this_machine_asks_for_no_account(planned):
    assert account.check_account(planned()) == [] and account.check_job_machine(planned()) == []
