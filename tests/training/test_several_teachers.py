"""Several teachers: the weighted mean over the rows of all of them, and each row only by the teachers it goes to."""

import json
import shutil
from collections import Counter

import pytest
import torch
from accelerate import Accelerator
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from simct.cli.main import main
from simct.config import config_from_dict, save_config
from simct.data.prompts import load_prompts
from simct.data.routing import drawn_writer, grading_teachers, prepare_for_teachers, unused_routes
from simct.errors import ConfigError
from simct.evaluation.records import DIRECTIONS, evaluations_of
from simct.models.loading import load_model
from simct.models.teachers import load_teachers
from simct.runs.folder import RunFolder
from simct.tokenization.pair import TokenizerPair
from simct.training.trainer import Trainer
from tests.support import reference_losses
from tests.support.random_pair import random_model, trained_tokenizer
from tests.support.short_runs import assert_same_end, train_here

ROWS = [("the cat", "math"), ("a 12 and", "code"), ("hand and band", "math"), ("1223", "code"), ("the theatre", "math")]
KINDS = dict(ROWS)


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    """A second teacher, with a tokenizer of its own."""
    folder = tmp_path_factory.mktemp("second") / "specialist"
    tokenizer = trained_tokenizer(shutil, 500)
    random_model(tokenizer, 5, hidden=24).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "prompts.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": text, "kind": kind}) for text, kind in ROWS))
    return str(path)


def new_config(folders, data, teachers, column=None, training=(), **changes):
    training = {"steps": 2, "batch_size": 5, "micro_batch_size": 5, "learning_rate": 1e-3, **dict(training)}
    who = {"teachers": teachers} if isinstance(teachers, list) else {"teacher": teachers}
    return config_from_dict(
        {
            "student": folders[1],
            "data": {"prompts": data, "held_out": 0, "teacher_column": column},
            "rollout": {"max_new_tokens": 8, "temperature": 1.0},
            "training": {"max_length": 64, **training},
            "evaluation": {"every": 0},
            **who,
            **changes,
        }
    )


def weighted(folders, second, **changes):
    return [
        {"model": folders[0], "name": "math", "weight": 3, **changes},
        {"model": second, "name": "code", "weight": 0.5, "method": "strict"},
    ]


class Double:
    """A trainer in float64 that stops before its first update."""

    def __init__(self, config, folder, double=True):
        self.config, self.teachers = config, load_teachers(config)
        self.student = load_model(config.student)
        if double:
            for model in (self.student, *(each.teacher.model for each in self.teachers)):
                model.double()
        prompts, _ = prepare_for_teachers(load_prompts(config.data), self.teachers, config, 128)
        self.records = []
        self.trainer = Trainer(
            config, Accelerator(cpu=True), self.teachers, self.student, self.teachers[0].pair, prompts, folder,
            on_step=lambda record, samples: self.records.append(record),
        )  # fmt: skip

    def gradients(self):
        """(loss, gradients) of the first step, by the trainer."""
        taken = []

        def keep(loss):
            taken.append({name: each.grad.clone() for name, each in self.student.named_parameters()})
            return 0.0

        self.trainer.loop.update = keep
        for step in self.trainer.loop.steps(lambda: bool(taken)):
            written = self.trainer.rollout(step)
            totals, loss = self.trainer.grade(written.samples)
            weighted_rows = totals.weighted_rows
            self.trainer.update({"rows": totals.rows, "weighted_rows": weighted_rows, "loss": 0.0}, loss)
            self.samples = [sample for each in written.samples for sample in each]
            return totals, taken[0]

    def reference(self):
        """(loss, gradients) by a slow reference: each teacher's own losses, one sample at a time, then their mean."""
        losses, weights = [], []
        for sample in self.samples:
            each = self.teachers[sample.prompt.teacher]
            student = logits(self.student, sample.prompt.student_ids, sample.student_ids)
            with torch.no_grad():
                teacher = logits(each.teacher.model, sample.prompt.teacher_ids, sample.teacher_ids)
            compare = getattr(reference_losses, each.config.method)
            rows = compare(each.pair, [(sample.teacher_ids, sample.student_ids)], student, teacher, "reverse_kl")
            losses += [each.weight * row for row in rows]
            weights += [each.weight] * len(rows)
        expected = sum(losses) / sum(weights)
        gradients = torch.autograd.grad(expected, list(self.student.parameters()))
        return float(expected.detach()), dict(zip(dict(self.student.named_parameters()), gradients, strict=True))


def logits(model, prompt, ids):
    return model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]


def assert_gradients(found, expected, rtol=1e-7, atol=1e-10):
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=rtol, atol=atol)


@pytest.fixture
def exact_norms(monkeypatch):
    """Llama's norms compute in float32, which differs in the last digits with what else is in a batch."""

    def forward(norm, hidden):
        return norm.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)

    monkeypatch.setattr(LlamaRMSNorm, "forward", forward)


@pytest.mark.usefixtures("exact_norms")
@pytest.mark.parametrize("column", [None, "kind"], ids=["combined", "routed"])
def test_loss_and_gradients_are_those_of_a_slow_reference(folders, second, data, tmp_path, column):
    found = Double(new_config(folders, data, weighted(folders, second), column), tmp_path)
    totals, gradients = found.gradients()
    graders = Counter((sample.prompt.prompt.text, sample.prompt.teacher) for sample in found.samples)
    for text, kind in ROWS:
        expected = [0, 1] if column is None else [["math", "code"].index(kind)]
        assert [teacher for teacher in (0, 1) if graders[text, teacher]] == expected
    expected, by_hand = found.reference()
    assert totals.loss_sum / totals.weighted_rows == pytest.approx(expected, rel=1e-9)
    assert totals.rows == sum(totals.rows_by.values()) and set(totals.rows_by) == {"math", "code"}
    assert totals.weighted_rows == pytest.approx(3 * totals.rows_by["math"] + 0.5 * totals.rows_by["code"])
    assert_gradients(gradients, by_hand)


@pytest.mark.usefixtures("exact_norms")
@pytest.mark.parametrize("column", [None, "kind"], ids=["combined", "routed"])
def test_splitting_a_step_changes_nothing(folders, second, data, tmp_path, column):
    found = [
        Double(
            new_config(folders, data, weighted(folders, second), column, {"micro_batch_size": size}),
            tmp_path / str(size),
        ).gradients()
        for size in (5, 2, 1)
    ]
    for totals, gradients in found[1:]:
        assert totals.loss_sum == pytest.approx(found[0][0].loss_sum, rel=1e-12)
        assert totals.weighted_rows == found[0][0].weighted_rows
        assert_gradients(gradients, found[0][1])


def test_one_teacher_of_weight_one_gives_the_bits_of_a_run_with_it_alone(folders, data, tmp_path):
    found = []
    for name, teachers in (("alone", folders[0]), ("listed", [{"model": folders[0], "weight": 1}])):
        run = RunFolder.create(tmp_path / name, new_config(folders, data, teachers, training={"steps": 3}))
        assert train_here(run) == 0
        found.append(run)
    assert_same_end(found[1], found[0])
    assert [each.keys() for each in found[0].metrics()] == [each.keys() for each in found[1].metrics()]


@pytest.mark.parametrize("column", [None, "kind"], ids=["combined", "routed"])
def test_a_stopped_run_resumes_to_the_same_bits(folders, second, data, tmp_path, column):
    settings = {"steps": 4, "batch_size": 4, "checkpoint_every": 2, "keep_checkpoints": 3}
    mixed = {"on_policy_fraction": 0.5, "max_new_tokens": 6}
    config = new_config(folders, data, weighted(folders, second), column, settings, rollout=mixed)
    config.evaluation.every, config.data.held_out_prompts, config.data.held_out = 2, data, 2
    config.evaluation.time_share = 0.99
    config.data.prompts = str(tmp_path / "more.jsonl")
    rows = [{"prompt": f"{text} {number}", "kind": kind} for number in range(3) for text, kind in ROWS]
    (tmp_path / "more.jsonl").write_text("\n".join(map(json.dumps, rows)))
    straight = RunFolder.create(tmp_path / "straight", config.model_copy(deep=True))
    assert train_here(straight) == 0
    run = RunFolder.create(tmp_path / "again", config.model_copy(deep=True))
    assert train_here(run) == 0
    # as if the run had been killed after its second step
    shutil.rmtree(run.checkpoints_dir / "step-4")
    assert train_here(run, "--resume") == 0
    assert_same_end(run, straight)
    for record in run.metrics():
        assert record["share_math"] + record["share_code"] == pytest.approx(1)
        weights = {"math": 3 * record["share_math"], "code": 0.5 * record["share_code"]}
        mean = sum(weight * record[f"loss_{name}"] for name, weight in weights.items() if weight)
        assert record["loss"] == pytest.approx(mean / sum(weights.values()), rel=1e-5)
    expected, found = (evaluations_of(each) for each in (straight, run))
    assert [each.step for each in found] == [0, 2, 4]
    assert [each.to_dict()["teachers"] for each in found] == [each.to_dict()["teachers"] for each in expected]
    log = (run.path / "log.txt").read_text() if (run.path / "log.txt").exists() else ""
    assert "Traceback" not in log


@pytest.mark.parametrize("column", [None, "kind"], ids=["combined", "routed"])
def test_the_distance_to_each_teacher_is_that_of_a_run_with_it_alone(folders, second, data, tmp_path, column):
    rows = [{"prompt": "a", "kind": "math"}, {"prompt": "b", "kind": "code"}]
    (tmp_path / "more.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def measured(name, teachers, column):
        config = new_config(folders, str(tmp_path / "more.jsonl"), teachers, column, {"steps": 1})
        config.data.held_out, config.data.held_out_prompts = 5, data
        config.evaluation.every, config.evaluation.time_share = 2, 0.99
        run = RunFolder.create(tmp_path / name, config)
        assert train_here(run) == 0
        return evaluations_of(run)[0], run

    several, run = measured("several", weighted(folders, second), column)
    alone = {"math": measured("math", folders[0], None)[0], "code": measured("code", second, None)[0]}
    assert set(several.teachers) == {"math", "code"}
    texts = [record["prompt"] for record in run.teacher_answers()][:5]
    for name, evaluation in alone.items():
        graded = {index for index, text in enumerate(texts) if column is None or KINDS[text] == name}
        for direction in DIRECTIONS:
            found = several.teachers[name][direction].bits
            # an answer that cannot be compared is left out of both
            expected = {index: bits for index, bits in evaluation.directions[direction].bits.items() if index in graded}
            assert found and found == pytest.approx(expected, abs=1e-4)
    weights = {"math": 3, "code": 0.5}
    for direction in DIRECTIONS:
        for index, bits in several.directions[direction].bits.items():
            theirs = {
                name: each[direction].bits[index]
                for name, each in several.teachers.items()
                if index in each[direction].bits
            }
            mean = sum(weights[name] * value for name, value in theirs.items()) / sum(weights[name] for name in theirs)
            assert bits == pytest.approx(mean)
    assert {record["teacher"] for record in run.teacher_answers()} == {"math", "code"}
    assert "distance_student_to_teacher_math" in several.numbers()


def test_each_row_goes_to_the_teachers_whose_routes_name_its_value(folders, second, data):
    teachers = [
        {"model": folders[0], "name": "general", "routes": ["math", "code"]},
        {"model": second, "name": "code"},
    ]
    config = new_config(folders, data, teachers, "kind")
    places = {prompt.text: grading_teachers(prompt, config) for prompt in load_prompts(config.data)}
    assert places == {text: (0,) if kind == "math" else (0, 1) for text, kind in ROWS}
    assert unused_routes(load_prompts(config.data), config) is None


def test_rows_of_no_teacher_are_left_out_and_counted(folders, data):
    config = new_config(folders, data, [{"model": folders[0], "routes": ["math"]}], "kind")
    notices = []
    found, too_long = prepare_for_teachers(
        load_prompts(config.data), load_teachers(config), config, 128, notices.append
    )
    assert [prompt.prompt.route for prompt in found] == ["math"] * 3 and too_long == 0
    assert notices == [
        "2 of 5 prompts are left out, because no teacher has a route for their value in 'kind': 'code' (2)."
    ]


def test_a_route_that_no_row_has_ends_the_run_with_what_there_is(folders, second, data, tmp_path):
    teachers = [{"model": folders[0], "routes": ["math"]}, {"model": second, "routes": ["code", "cod"]}]
    run = RunFolder.create(tmp_path, new_config(folders, data, teachers, "kind"))
    assert train_here(run) == 2
    error = run.status().error
    assert error.startswith(
        "teachers[1].routes is ['code', 'cod'], and no row has 'cod' in the column 'kind', which has"
    )
    assert "'math' (3), 'code' (2)" in error and "\n" not in error


def test_the_teacher_that_writes_is_drawn_by_weight(folders, second, data):
    config = new_config(folders, data, weighted(folders, second))
    teachers = load_teachers(config)
    [prompt, *_] = prepare_for_teachers(load_prompts(config.data), teachers, config, 128)[0]
    drawn = Counter(drawn_writer(prompt, teachers, config, 1, index).teacher for index in range(700))
    assert drawn[0] / 700 == pytest.approx(3 / 3.5, abs=0.04)


def test_a_teacher_of_its_own_method_and_template_is_compared_as_if_it_were_alone(folders, second, data):
    entry = {"model": second, "name": "b", "method": "strict", "method_options": {"top_k": 8}, "system": "Be brief."}
    config = new_config(folders, data, [folders[0], entry], method_options={"mass_mask": 0.25})
    first, other = load_teachers(config)
    assert (first.name, first.config.method, first.config.method_options) == ("teacher", "simct", {"mass_mask": 0.25})
    assert (other.config.method, other.config.method_options) == ("strict", {"top_k": 8})
    [prompt, *_] = prepare_for_teachers(load_prompts(config.data), [first, other], config, 128)[0]
    assert b"Be brief." in other.pair.teacher.decode([i for i in prompt.further[0].teacher_ids if i < 490])
    assert isinstance(other.pair, TokenizerPair) and other.pair.shared_tokens != first.pair.shared_tokens


def test_teachers_of_several_kinds_are_combined(folders, second, tmp_path, capsys):
    data = tmp_path / "data.jsonl"
    rows = [{"prompt": text, "completion": f"{text} and the {kind}", "kind": kind} for text, kind in ROWS]
    data.write_text("\n".join(map(json.dumps, rows)))
    given = {"rollout": {"max_new_tokens": 12, "on_policy_fraction": 0, "dataset_fraction": 1}, "method": "marginal"}
    whole = [{"model": folders[0], "name": "math", "top_logprobs": 100_000}, {"model": second, "name": "code"}]
    config = new_config(folders, str(data), whole, **given)
    save_config(config, tmp_path / "run.yaml")
    arguments = ["teach", str(tmp_path / "run.yaml"), "--output", str(tmp_path / "scores")]
    assert main(arguments) == 2 and "--teacher is None; it must be one of the teachers" in capsys.readouterr().err
    assert main([*arguments, "--teacher", "math"]) == 0
    losses = []
    for name, scores in (("whole", None), ("stored", str(tmp_path / "scores"))):
        config.teachers[0].scores, config.data.held_out = scores, 2
        config.evaluation.every, config.evaluation.time_share = 1, 0.99
        config.data.held_out_prompts = str(data.with_name("held.jsonl"))
        data.with_name("held.jsonl").write_text('{"prompt": "hand"}\n{"prompt": "cat"}')
        run = RunFolder.create(tmp_path / name, config.model_copy(deep=True))
        assert train_here(run) == 0
        losses.append([(record["loss_math"], record["loss_code"]) for record in run.metrics()])
        # what is stored cannot be asked anything else
        assert set(evaluations_of(run)[0].teachers) == ({"math", "code"} if scores is None else {"code"})
    for expected, found in zip(*losses, strict=True):
        assert found == pytest.approx(expected, abs=1e-5)
    assert "The distance to the teacher math is not measured" in capsys.readouterr().out


BAD = {
    "empty": ([], None, "teacher.model is ''; it must be a Hub id or a local folder."),
    "no list": ("a/b", None, "teachers: expected a list, got 'a/b'."),
    "no mapping": ([5], None, "teachers[0]: expected a mapping of settings, got 5."),
    "weight": ([{"model": "a", "weight": 0}], None, "teachers[0].weight is 0.0; it must be above 0"),
    "setting": ([{"model": "a", "wieght": 1}], None, "Unknown setting 'teachers[0].wieght'."),
    "names": (["x/a", "y/a"], None, "teachers[1].name is 'a', but another teacher has the same name."),
    "model": ([{"name": "a"}], None, "teachers[0].model is ''; it must be a Hub id or a local folder."),
    "routes": ([{"model": "a", "routes": ["m"]}], None, "teachers[0].routes is ['m'], but no column chooses"),
    "option": ([{"model": "a", "method_options": {"z": 1}}], None, "teachers[0].method_options: Unknown option 'z'"),
    "sharded": ([{"model": "a", "sharded": True}], None, "teachers[0].sharded is True; it must be false"),
    "server": ([{"model": "a", "server": "ftp://a"}], None, "teachers[0].server is 'ftp://a'; it must be an address"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_list_is_one_line(name):
    teachers, column, message = BAD[name]
    with pytest.raises(ConfigError) as error:
        config_from_dict({"teachers": teachers, "student": "s", "data": {"prompts": "p", "teacher_column": column}})
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_one_teacher_and_several_are_not_both_given():
    about = {"student": "s", "data": {"prompts": "p"}}
    with pytest.raises(ConfigError, match=r"^Both teacher and teachers are given"):
        config_from_dict(about | {"teacher": "a", "teachers": ["b"]})
    with pytest.raises(ConfigError, match="a warm-up needs one teacher"):
        config_from_dict(about | {"teachers": ["b"], "kind": "warmup"})
    with pytest.raises(ConfigError, match=r"^data\.teacher_column is 'k'; it must be empty without a list of teachers"):
        config_from_dict(about | {"teacher": "a", "data": {"prompts": "p", "teacher_column": "k"}})
