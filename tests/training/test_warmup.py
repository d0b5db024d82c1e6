"""The warm-up: which answers are kept, what the student learns from them, and resuming after stops and kills."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
import torch
from accelerate import Accelerator

from simct import demo
from simct.config import config_from_dict, load_config, save_config, set_option
from simct.config.sections import ModelConfig
from simct.data.prompts import Prompt, load_prompts, read_prompts
from simct.data.templates import prompt_ids
from simct.errors import ConfigError, DataError, HubError, RunError
from simct.estimate.time_and_cost import total_steps
from simct.evaluation.sandbox.program import why_unavailable
from simct.files import read_jsonl
from simct.losses.head import Head
from simct.models.loading import hidden_rows, load_model
from simct.models.rollout import Rollout
from simct.preflight.checklist import run_checks
from simct.preflight.planned import PlannedRun
from simct.publishing.push import publish_dataset
from simct.runs.folder import RunFolder
from simct.tokenization.token_bytes import load_tokenizer, token_bytes
from simct.training.fine_tuning import Example, FineTuningStep, completion_loss, fine_tune, warmup_training
from simct.training.warmup import check_warmup, warm_up
from simct.training.warmup_answers import check_answers, repetition, sample_answers
from simct.training.warmup_data import load_examples, write_dataset
from tests.support.hub_server import TOKEN, HubServer
from tests.support.waiting import until
from tools.demo.exercises import load_exercises

N = 24


def new_config(**warmup):
    warmup = {"checker": "text", "max_new_tokens": 40, "generation_batch_size": 8, "batch_size": 8, **warmup}
    return config_from_dict(
        {
            "kind": "warmup",
            "teacher": str(demo.TEACHER),
            "student": str(demo.STUDENT),
            "data": {"prompts": str(demo.PROMPTS), "limit": N, "held_out": 0},
            "rollout": {"temperature": 1.0, "top_p": 1.0},
            "training": {"checkpoint_every": 2, "micro_batch_size": 4},
            "warmup": {"learning_rate": 1e-3, **warmup},
        }
    )


def carry_out(run: RunFolder, stop_after: int | None = None):
    """The warm-up in this process, stopped when it has asked that often whether to stop."""
    looks = iter(range(10**6))
    trained, tokens = warm_up(
        run, run.config(), Accelerator(cpu=True), lambda: stop_after is not None and next(looks) >= stop_after
    )
    return trained.student, tokens, trained.step, trained.done


@pytest.fixture(scope="module")
def student_tokens():
    return token_bytes(load_tokenizer(str(demo.STUDENT)))


@pytest.fixture(scope="module")
def teacher_tokens():
    return token_bytes(load_tokenizer(str(demo.TEACHER)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run = RunFolder.create(tmp_path_factory.mktemp("runs"), new_config(samples_per_prompt=2))
    student, tokens, step, done = carry_out(run)
    assert done
    student.save_pretrained(run.model_dir)
    tokens.tokenizer.save_pretrained(run.model_dir)
    return run, student, step


def test_the_data_is_a_dataset_of_checked_conversations(finished, monkeypatch, tmp_path):
    run, _, _ = finished
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    rows = datasets.load_dataset(str(run.path / "data"), split="train")
    counts = json.loads((run.path / "data" / "warmup.json").read_text())
    assert len(rows) == counts["kept"] and counts["sampled"] == 2 * N
    assert counts["kept"] + sum(counts["left_out"].values()) == 2 * N
    assert 0 < len(rows) < 2 * N
    references = {row["prompt"]: row["answer"] for row in load_exercises(demo.PROMPTS)[:N]}
    for row in rows:
        user, answer = row["messages"]
        assert (user["role"], answer["role"]) == ("user", "assistant")
        assert answer["content"].strip() == references[user["content"]] == row["reference"]
        assert (row["teacher"], row["checker"]) == ("teacher", "text")
    assert len({(row["prompt"], row["messages"][1]["content"]) for row in rows}) == len(rows)
    card = (run.path / "data" / "README.md").read_text()
    assert f"{counts['kept']} of {2 * N} answers" in card and str(demo.TEACHER) not in card


def test_the_student_learns_the_answers_and_can_be_distilled(finished, student_tokens):
    run, student, step = finished
    config = run.config()
    examples, left_out = load_examples(run.path / "data", student_tokens, config)
    assert not left_out
    metrics = run.metrics()
    assert [record["step"] for record in metrics] == list(range(1, step + 1))
    assert step == warmup_training(config, len(examples), 1).steps

    def nats(model) -> float:
        with torch.no_grad():
            return float(FineTuningStep(model.eval(), 0)(examples)) / sum(len(each.completion_ids) for each in examples)

    assert nats(student) < 0.7 * nats(load_model(config.student))
    assert torch.equal(
        load_model(ModelConfig(model=str(run.model_dir))).get_input_embeddings().weight,
        student.get_input_embeddings().weight,
    )
    distilling = config.model_copy(update={"kind": "distill"})
    set_option(distilling, "student.model", str(run.model_dir))
    distilling.output = None
    run_checks(PlannedRun(distilling)).refuse()


def test_only_the_completion_and_its_end_are_learned(student_tokens):
    model = load_model(ModelConfig(model=str(demo.STUDENT)))
    prompts = load_prompts(new_config().data)[:3]
    examples = [
        Example(
            prompt_ids(student_tokens.tokenizer, prompt.messages),
            [*student_tokens.encode(prompt.answer.encode()), student_tokens.end_ids[0]],
        )
        for prompt in prompts
    ]
    step = FineTuningStep(model, 0)
    loss = step(examples)
    loss.backward()
    ours = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    reference = 0.0
    for example in examples:
        ids = torch.tensor([example.prompt_ids + example.completion_ids])
        labels = ids.clone()
        labels[:, : len(example.prompt_ids)] = -100
        reference = reference + model(input_ids=ids, labels=labels).loss * len(example.completion_ids)
    reference.backward()
    assert loss.item() == pytest.approx(reference.item(), rel=1e-5)
    for name, parameter in model.named_parameters():
        assert torch.allclose(ours[name], parameter.grad, atol=1e-4), name


def test_the_loss_is_the_same_in_blocks(student_tokens, monkeypatch):
    model = load_model(ModelConfig(model=str(demo.STUDENT)))
    ids = list(range(40, 70))
    hidden, _ = hidden_rows(model, [[5, 6]], [ids], 0)
    whole = completion_loss(hidden, Head.of(model), torch.tensor(ids))
    monkeypatch.setattr("simct.training.fine_tuning.chunk_rows_for", lambda device, vocabulary: 7)
    assert float(completion_loss(hidden, Head.of(model), torch.tensor(ids)).detach()) == pytest.approx(
        float(whole), rel=1e-5
    )


def test_splitting_a_step_changes_nothing(finished, student_tokens, tmp_path):
    run, student, _ = finished
    config = run.config()
    config.training.micro_batch_size = 8
    examples, _ = load_examples(run.path / "data", student_tokens, config)
    other = load_model(config.student)
    fine_tune(config, Accelerator(cpu=True), other, student_tokens, examples, tmp_path)
    for mine, theirs in zip(student.parameters(), other.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize("stop_after", [1, 4, 9])
def test_a_stopped_warmup_resumes_to_the_same_weights(finished, tmp_path, stop_after):
    _, expected, last = finished
    run = RunFolder.create(tmp_path, new_config(samples_per_prompt=2))
    student, _, step, done = carry_out(run, stop_after)
    assert not done and step < last
    assert (student is None) == (stop_after < 2 * N / 8), "stopped while sampling"
    student, _, step, done = carry_out(run)
    assert done and step == last
    for mine, theirs in zip(student.parameters(), expected.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_killed_warmup_resumes_to_the_same_weights(finished, tmp_path):
    _, expected, _ = finished
    run = RunFolder.create(tmp_path, new_config(samples_per_prompt=2))
    save_config(run.config(), run.path / "run.yaml")
    command = [sys.executable, "-m", "simct.train", str(run.path / "run.yaml")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    process = subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[2])
    answers = run.path / "samples" / "0.jsonl"
    until(lambda: read_jsonl(answers) or process.poll() is not None, 120, 0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    known = answers.read_text()
    assert known and not run.model_dir.exists()
    # a line that was being written when the machine went down
    answers.write_text(known + '{"index": 40, "comple')
    assert subprocess.run(command, env=environment, cwd=Path(__file__).parents[2]).returncode == 0
    assert run.status().state == "finished"
    assert answers.read_text().startswith(known)
    trained = load_model(ModelConfig(model=str(run.model_dir)))
    for mine, theirs in zip(trained.parameters(), expected.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_what_is_left_out_and_why(teacher_tokens, tmp_path):
    config = new_config(samples_per_prompt=4)
    prompt = Prompt(({"role": "user", "content": "Say it."},), "hello")
    end = teacher_tokens.end_ids[0]
    right, wrong = teacher_tokens.encode(b"hello"), teacher_tokens.encode(b"goodbye")
    special = next(index for index, data in enumerate(teacher_tokens.bytes_of) if data is None and index != end)
    rollouts = [
        Rollout([], [*right, end], True),
        Rollout([], right, False),
        Rollout([], [*wrong, end], True),
        Rollout([], [special, end], True),
        Rollout([], [end], True),
        Rollout([], [*right, end], True),
    ]
    numbers = [0, 1, 2, 3, 4, 3 * 4]
    records = check_answers(config, teacher_tokens, numbers, [prompt] * 6, rollouts)
    assert [record["reason"] for record in records] == [
        "", "did not end", "failed the text check", "holds special tokens or broken text", "empty", "",
    ]  # fmt: skip
    run = RunFolder.create(tmp_path, config)
    same = [*records[:5], {"index": 1, "completion": "hello", "reason": ""}]
    write_dataset(run, config, [prompt] * 4, sorted(same, key=lambda record: record["index"]), too_long=2)
    counts = json.loads((run.path / "data" / "warmup.json").read_text())
    assert counts["kept"] == 1 and counts["left_out"]["same answer again"] == 1
    assert counts["left_out"]["prompt too long"] == 2
    with pytest.raises(DataError, match=r"None of the teacher's 4 answers was kept .*did not end"):
        write_dataset(run, config, [prompt] * 4, records[1:5], too_long=0)


def answers(tokens, *texts, ended=True):
    end = [tokens.end_ids[0]] * ended
    return [Rollout([], [*tokens.encode(text), *end], ended) for text in texts]


def dataset_of(run):
    return [row["messages"][1]["content"] for row in read_jsonl(run.path / "data" / "train.jsonl")]


def test_the_shortest_correct_answer_of_each_prompt_is_kept(teacher_tokens, tmp_path):
    config = new_config(samples_per_prompt=4, keep="shortest", checker="number")
    prompts = [Prompt(({"role": "user", "content": "How many?"},), answer) for answer in ("12", "3")]
    texts = [b"it is 12", b"7", b"12", b"there are 12 of them", b"3", b"so it is 3", b"4", b"5"]
    asked = [prompts[0]] * 4 + [prompts[1]] * 4
    records = check_answers(config, teacher_tokens, list(range(8)), asked, answers(teacher_tokens, *texts))
    run = RunFolder.create(tmp_path, config)
    write_dataset(run, config, prompts, records, too_long=0)
    assert dataset_of(run) == ["12", "3"]
    counts = json.loads((run.path / "data" / "warmup.json").read_text())
    assert counts["kept"] + sum(counts["left_out"].values()) == 8
    assert counts["left_out"]["longer than another answer that is kept"] == 3
    config.warmup.keep = "all"
    write_dataset(run, config, prompts, records, too_long=0)
    assert len(dataset_of(run)) == 5


def test_each_row_may_name_its_checker(teacher_tokens, tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": "a", "answer": "12", "checker": "number"}, {"prompt": "b", "checker": "none"}]
    rows += [{"prompt": "c", "answer": "x"}, {"prompt": "d", "checker": "vibes"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    config = new_config(checker="text")
    config.data.prompts, config.data.checker_column = str(path), "checker"
    found = read_prompts(config.data)
    assert [prompt.checker for prompt in found.prompts] == ["number", "none", None]
    assert "a checker that is none of" in next(iter(found.summary.skipped))
    check_warmup(config, found.prompts)
    given = answers(teacher_tokens, b"it is 12", b"anything", b"y")
    records = check_answers(config, teacher_tokens, [0, 1, 2], found.prompts, given)
    assert [record["reason"] for record in records] == ["", "", "failed the text check"]
    with pytest.raises(ConfigError, match="'number' needs a reference answer"):
        check_warmup(config, [Prompt(found.prompts[0].messages, None, checker="number")])


def test_answers_are_left_out_by_length_and_repetition(teacher_tokens):
    config = new_config(checker="none", min_tokens=2, max_tokens=90, max_repetition=0.5)
    prompt = Prompt(({"role": "user", "content": "?"},))
    sentence = b"one two three four five six seven eight nine ten. "
    given = answers(teacher_tokens, b"a", b"one two", sentence * 2, b"ab" * 60)
    records = check_answers(config, teacher_tokens, list(range(4)), [prompt] * 4, given)
    lengths = [len(each.completion_ids) - 1 for each in given]
    assert lengths[0] < 2 <= lengths[1] and [record["tokens"] for record in records] == lengths
    expected = ["shorter than 2 tokens", "", "", "repeats itself"]
    assert [record["reason"] for record in records] == [
        "longer than 90 tokens" if length > 90 else reason for length, reason in zip(lengths, expected, strict=True)
    ]
    assert repetition("short") == 0 and repetition("abc" * 200) > 0.9
    assert repetition(" ".join(map(str, range(100)))) < 0.05


def test_answers_that_were_cut_are_written_again_at_twice_the_length(tmp_path):
    config = new_config(checker="none", max_new_tokens=3, retry_budget=100)
    config.data.limit = 12
    run = RunFolder.create(tmp_path / "raised", config)
    carry_out(run)
    limits = [record["limit"] for record in read_jsonl(run.path / "samples" / "0.jsonl")]
    assert limits[:12] == [3] * 12 and limits[12] == 6 and limits == sorted(limits)
    assert {limit / 3 for limit in limits} <= {1, 2, 4, 8, 16}
    whole = RunFolder.create(tmp_path / "whole", new_config(checker="none", max_new_tokens=48))
    whole_config = whole.config()
    whole_config.data.limit = 12
    save_config(whole_config, whole.path / "run.yaml")
    carry_out(whole)
    # with a higher limit the same draws are continued, so that nothing but the limit decides
    raised = {row["prompt"]: row["messages"] for row in read_jsonl(run.path / "data" / "train.jsonl")}
    expected = {row["prompt"]: row["messages"] for row in read_jsonl(whole.path / "data" / "train.jsonl")}
    assert len(raised) > 10 and all(expected[place] == messages for place, messages in raised.items())
    # stopped in the middle of a later round, it continues to the same data
    again = RunFolder.create(tmp_path / "stopped", config.model_copy(update={"output": None}))
    carry_out(again, stop_after=3)
    assert not (again.path / "data").exists()
    carry_out(again)
    assert (again.path / "data" / "train.jsonl").read_text() == (run.path / "data" / "train.jsonl").read_text()


def test_a_warmup_of_which_most_is_cut_is_refused(tmp_path):
    config = new_config(checker="none", max_new_tokens=3, retry_budget=0)
    run = RunFolder.create(tmp_path, config)
    with pytest.raises(DataError, match=r"of 24 prompts have an answer|None of the teacher's 24 answers"):
        carry_out(run)
    assert not (run.path / "data" / "train.jsonl").exists()
    # one short answer in three, as if the length had been chosen for
    records = [{"index": n, "completion": "a", "reason": "" if n < 8 else "did not end"} for n in range(24)]
    prompts = [Prompt(({"role": "user", "content": "?"},))] * 24
    with pytest.raises(DataError, match=r"Only 8 of 24 prompts have an answer: those to 16 were cut at up to 3 tokens"):
        write_dataset(run, config, prompts, records, too_long=0)
    records = [record | {"reason": "" if record["index"] < 12 else "did not end"} for record in records]
    write_dataset(run, config, prompts, records, too_long=0)
    assert len(dataset_of(run)) == 12


@pytest.mark.skipif(why_unavailable() is not None, reason=f"no sandbox here: {why_unavailable()}")
def test_code_is_checked_by_its_tests(teacher_tokens):
    config = new_config(checker="code", allow_code_execution=True)
    prompt = Prompt(({"role": "user", "content": "Code."},), "assert x == 1")
    rollouts = [
        Rollout([], [*teacher_tokens.encode(text), teacher_tokens.end_ids[0]], True) for text in (b"x = 1", b"x = 2")
    ]
    records = check_answers(config, teacher_tokens, [0, 1], [prompt] * 2, rollouts)
    assert [record["reason"] for record in records] == ["", "failed the code check"]


def test_what_is_refused_before_sampling(tmp_path):
    with pytest.raises(ConfigError, match="--allow-code-execution"):
        run_checks(PlannedRun(new_config(checker="code"))).refuse()
    bare = tmp_path / "prompts.jsonl"
    bare.write_text('{"prompt": "one"}\n')
    config = new_config(checker="number")
    config.data.prompts = str(bare)
    with pytest.raises(ConfigError, match="needs a reference answer"):
        run_checks(PlannedRun(config)).refuse()
    with pytest.raises(ConfigError, match=r"warmup\.checker is 'vibes'"):
        new_config(checker="vibes")


def test_no_text_is_longer_than_a_model_reads(finished, student_tokens, teacher_tokens, tmp_path):
    """Beyond its context a model of learned positions fails, and others write and learn nonsense."""
    teacher = shutil.copytree(demo.TEACHER, tmp_path / "teacher")
    config = new_config(checker="none")
    prompts = load_prompts(config.data)
    lengths = [len(prompt_ids(teacher_tokens.tokenizer, prompt.messages)) for prompt in prompts]
    longest = sorted(lengths)[N // 2]
    described = json.loads((teacher / "config.json").read_text())
    (teacher / "config.json").write_text(json.dumps(described | {"max_position_embeddings": 2 * longest}))
    config.teacher.model = str(teacher)
    run = RunFolder.create(tmp_path / "runs", config)
    assert sample_answers(run, config, Accelerator(cpu=True), prompts, lambda: False)
    records = list(read_jsonl(run.path / "samples" / "0.jsonl"))
    written = {record["index"] for record in records}
    assert written == {index for index, length in enumerate(lengths) if length <= longest} and len(written) < N
    # half of the context is for the prompts
    assert longest < config.warmup.max_new_tokens and {record["limit"] for record in records} >= {longest}

    examples, _ = load_examples(finished[0].path / "data", student_tokens, config)
    sizes = sorted(len(each.prompt_ids) + len(each.completion_ids) for each in examples)
    kept, left_out = load_examples(finished[0].path / "data", student_tokens, config, context=sizes[len(sizes) // 2])
    assert len(kept) + left_out["too long for the student"] == len(examples) and 0 < len(kept) < len(examples)


def test_epochs_decide_the_steps(tmp_path):
    config = new_config()
    assert total_steps(config, 1000) == config.training.steps == 100
    config.training.epochs, config.training.batch_size, config.rollout.samples_per_prompt = 2, 64, 4
    assert total_steps(config, 1000) == 125
    save_config(config, tmp_path / "run.yaml")
    config = load_config(tmp_path / "run.yaml")
    assert config.training.epochs == 2
    set_option(config, "training.steps", "7")
    assert total_steps(config, 1000) == 7
    with pytest.raises(ConfigError, match=r"training\.epochs"):
        config_from_dict({"teacher": "a", "student": "b", "data": {"prompts": "c"}, "training": {"epochs": 0}})


def test_the_data_is_pushed_and_updated_but_never_over_something_else(finished, monkeypatch):
    run, _, _ = finished
    with HubServer() as hub:
        hub.use(monkeypatch)
        for _ in range(2):
            assert publish_dataset(run.path / "data", "tester/answers", private=True, token=TOKEN).endswith(
                "/datasets/tester/answers"
            )
        held = hub.repos["datasets/tester/answers"]
        assert {"train.jsonl", "README.md", "warmup.json"} <= set(held.files) and held.private
        hub.add_dataset("tester/other", demo.FOLDER / "stress")
        with pytest.raises(HubError, match="was not made by"):
            publish_dataset(run.path / "data", "tester/other", token=TOKEN)
    with pytest.raises(RunError, match="not the data of a warm-up"):
        publish_dataset(run.path, "tester/answers")
