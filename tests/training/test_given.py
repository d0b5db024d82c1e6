"""The data's own completions together with those of student and teacher, and their cross-entropy."""

import json
from collections import Counter

import pytest
import torch
from accelerate import Accelerator

from simct.config import config_from_dict
from simct.data.prompts import Prompt, read_prompts
from simct.data.samples import (
    PreparedPrompt,
    Sample,
    prepare_prompts,
    prompts_of_step,
    samples_of_dataset,
    student_writes,
    to_samples,
    writer_of,
)
from simct.errors import ConfigError
from simct.losses.head import Head
from simct.losses.teacher_rows import HiddenRows
from simct.models.loading import hidden_rows, load_model
from simct.models.rollout import Rollout
from simct.models.teachers import LocalTeacher, paired
from simct.preflight.planned import PlannedRun
from simct.preflight.prompts import check_completions
from simct.preflight.records import Preflight
from simct.tokenization.pair import TokenizerPair
from simct.training.distillation_step import DistillationStep, Graded
from simct.training.trainer import Trainer
from tests.support import reference_losses

GIVEN = ["theatre and 12", "naïve 🙂", "the end", "a cat, 1223"]
ROWS = [{"prompt": text, "completion": given} for text, given in zip("abcd", GIVEN, strict=True)]


def new_config(folders, **sections):
    settings = {
        "teacher": str(folders[0]),
        "student": str(folders[1]),
        "data": {"prompts": "prompts"},
        "rollout": {"max_new_tokens": 24, "temperature": 1.0, "on_policy_fraction": 0.0, "dataset_fraction": 1.0},
        "training": {"steps": 2, "batch_size": 4, "micro_batch_size": 4, "learning_rate": 1e-3},
    }
    for name, section in sections.items():
        settings[name] = {**settings.get(name, {}), **section}
    return config_from_dict(settings)


@pytest.fixture(scope="module")
def pair(folders):
    return TokenizerPair.from_pretrained(*map(str, folders))


def prompts_of(pair, config, completions=GIVEN):
    prompts = [
        Prompt(({"role": "user", "content": text},), completion=completion)
        for text, completion in zip("abcd", completions, strict=True)
    ]
    return prepare_prompts(prompts, pair, config, [])[0]


def test_each_sample_has_one_writer_in_the_shares_that_were_given(folders):
    config = new_config(folders, rollout={"on_policy_fraction": 0.3, "dataset_fraction": 0.5})
    places = [(step, index) for step in range(60) for index in range(25)]
    counts = Counter(writer_of(config, *place) for place in places)
    shares = {writer: count / len(places) for writer, count in counts.items()}
    assert shares == pytest.approx({"student": 0.3, "dataset": 0.5, "teacher": 0.2}, abs=0.04)
    # the student writes what it wrote before the data had a share
    assert all((writer_of(config, *place) == "student") == student_writes(0, *place, 0.3) for place in places)
    whole = new_config(folders, rollout={"on_policy_fraction": 0.3, "dataset_fraction": 0.7})
    assert {writer_of(whole, *place) for place in places} == {"student", "dataset"}
    plain = new_config(folders, rollout={"on_policy_fraction": 0.3, "dataset_fraction": 0.0})
    assert {writer_of(plain, *place) for place in places} == {"student", "teacher"}


def test_a_prompt_without_a_completion_is_answered_by_the_student(folders, pair):
    config = new_config(folders)
    batch = prompts_of_step(prompts_of(pair, config, ["x", None, "y", None]), config, 1)
    assert len(batch.own) == 2 and len(batch.given) == 2 and not batch.others
    assert all(each.prompt.completion is None for each in batch.own.values())


def test_both_models_read_the_bytes_of_the_completion_and_its_end(folders, pair):
    config, excluded = new_config(folders), Counter()
    samples = samples_of_dataset(pair, prompts_of(pair, config), config, excluded)
    assert not excluded and all(sample.given for sample in samples)
    for sample, text in zip(samples, GIVEN, strict=True):
        assert pair.student.decode(sample.student_ids[:-1]).decode() == text
        assert pair.teacher.decode(sample.teacher_ids[:-1]).decode() == text
        assert sample.student_ids[-1] in pair.student.end_ids and sample.teacher_ids[-1] in pair.teacher.end_ids


def test_a_long_completion_is_cut_without_an_end(folders, pair):
    config = new_config(folders, rollout={"max_new_tokens": 3})
    for sample, text in zip(samples_of_dataset(pair, prompts_of(pair, config), config, Counter()), GIVEN, strict=True):
        assert len(sample.student_ids) <= 3 and not {*sample.student_ids} & {*pair.student.end_ids}
        assert text.startswith(pair.student.decode(sample.student_ids).decode())


@pytest.mark.parametrize("weight", [0.0, 0.3])
@pytest.mark.parametrize("method", ["simct", "strict"])
def test_the_loss_and_its_gradients_are_those_of_a_slow_reference(folders, pair, method, weight):
    config = new_config(folders, training={"sft_weight": weight})
    config.method = method
    student, teacher = (load_model(side).double() for side in (config.student, config.teacher))
    prompts = prompts_of(pair, config)
    samples = samples_of_dataset(pair, prompts[:2], config, Counter())
    written = [Rollout(prompts[2].student_ids, pair.student.encode(b"and 23 the"), False)]
    samples += to_samples(pair, prompts[2:3], written, Counter())
    assert [sample.given for sample in samples] == [True, True, False]
    sides = [(s.prompt.teacher_ids, s.teacher_ids) for s in samples]
    teacher_hidden_TH, _ = hidden_rows(teacher, *map(list, zip(*sides, strict=True)), 0)
    step = DistillationStep(student, paired(config, LocalTeacher(teacher, pair.teacher), pair), 0)
    [result] = step([Graded(0, samples, HiddenRows(teacher_hidden_TH.detach(), Head.of(teacher)))])
    result.loss.backward()
    ours = {name: parameter.grad.clone() for name, parameter in student.named_parameters()}
    student.zero_grad()

    def logits(model, prompt, ids):
        return model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]

    student_logits = [logits(student, s.prompt.student_ids, s.student_ids) for s in samples]
    with torch.no_grad():
        teacher_logits = torch.cat([logits(teacher, s.prompt.teacher_ids, s.teacher_ids) for s in samples])
    sequences = [(s.teacher_ids, s.student_ids) for s in samples]
    losses = getattr(reference_losses, method)(pair, sequences, torch.cat(student_logits), teacher_logits, "reverse_kl")
    cross_entropy = sum(
        -rows.log_softmax(-1)[torch.arange(len(s.student_ids)), s.student_ids].sum()
        for rows, s in zip(student_logits, samples, strict=True)
        if s.given
    )
    expected = (sum(losses) + weight * cross_entropy) / len(losses)
    expected.backward()
    assert result.rows == len(losses)
    torch.testing.assert_close(result.loss, expected, rtol=1e-9, atol=1e-12)
    for name, parameter in student.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-7, atol=1e-10, msg=name)
    if weight:
        assert result.stats["sft"] == pytest.approx(float(cross_entropy.detach()) / len(losses))
    else:
        assert "sft" not in result.stats


def train(config, pair, folder, **options):
    records = []
    student = load_model(config.student)
    Trainer(
        config, Accelerator(cpu=True), load_model(config.teacher), student, pair, prompts_of(pair, config), folder,
        on_step=lambda record, samples: records.append(record), **options,
    ).train()  # fmt: skip
    return student, records


def test_training_splits_and_resumes_to_the_same_step(folders, pair, tmp_path):
    shares = {"on_policy_fraction": 0.4, "dataset_fraction": 0.4}
    config = new_config(folders, rollout=shares, training={"sft_weight": 0.5, "steps": 4})
    whole, records = train(config, pair, tmp_path / "a")
    config.training.micro_batch_size = 1
    split, parts = train(config, pair, tmp_path / "b")
    for one, other in zip(records, parts, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4) and one["rows"] == other["rows"]
        assert one["sft"] == pytest.approx(other["sft"], rel=1e-4)
    assert any(record["sft"] > 0 for record in records)
    for a, b in zip(whole.parameters(), split.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_the_cross_entropy_teaches_the_completions(folders, pair, tmp_path):
    plain, _ = train(new_config(folders, training={"steps": 6, "learning_rate": 1e-2}), pair, tmp_path / "a")
    config = new_config(folders, training={"steps": 6, "learning_rate": 1e-2, "sft_weight": 5.0})
    taught, records = train(config, pair, tmp_path / "b")
    assert records[-1]["sft"] < records[0]["sft"]

    def cross_entropy(model):
        total = 0.0
        for sample in samples_of_dataset(pair, prompts_of(pair, config), config, Counter()):
            prompt = sample.prompt.student_ids
            with torch.no_grad():
                rows = model.eval()(torch.tensor([prompt + sample.student_ids])).logits[0, len(prompt) - 1 : -1]
            total -= float(rows.log_softmax(-1)[torch.arange(len(rows)), sample.student_ids].sum())
        return total

    assert cross_entropy(taught) < cross_entropy(plain)


@pytest.mark.parametrize(
    ("row", "options", "completion"),
    [
        ({"prompt": "Q", "answer": "A"}, {}, "A"),
        ({"prompt": "Q", "answer": "A", "text": "T"}, {"completion_column": "text"}, "T"),
        ({"prompt": "Q", "answer": "A", "text": ""}, {"completion_column": "text"}, "A"),
        (
            {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "R"}], "answer": "A"},
            {},
            "R",
        ),
        ({"prompt": "Q"}, {}, None),
    ],
)
def test_where_a_completion_is_read(tmp_path, row, options, completion):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row))
    data = config_from_dict({"teacher": "a/b", "student": "c/d", "data": {"prompts": str(path), **options}}).data
    found = read_prompts(data)
    assert found.prompts[0].completion == completion
    if options:
        assert "text" not in found.summary.unread


def test_what_does_not_fit_is_refused(folders, tmp_path):
    for sections, words in (
        ({"rollout": {"on_policy_fraction": 0.8, "dataset_fraction": 0.4}}, "on_policy_fraction"),
        ({"rollout": {"dataset_fraction": 0.0}, "training": {"sft_weight": 0.1}}, "rollout.dataset_fraction"),
    ):
        with pytest.raises(ConfigError, match=words):
            new_config(folders, **sections)
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in [*ROWS, {"prompt": "e"}]))
    config = new_config(folders, data={"prompts": str(path)})
    said = [check.text for check in check_completions(PlannedRun(config))]
    assert said == ["1 of 5 prompts have no completion: the student answers these itself."]
    path.write_text(json.dumps({"prompt": "e"}))
    with pytest.raises(ConfigError, match=r"data\.completion_column"):
        Preflight(check_completions(PlannedRun(config))).refuse()


def test_samples_are_not_given_unless_said():
    assert not Sample(PreparedPrompt(Prompt(()), [], []), [1], [1]).given
