"""Distance to the teacher: against enumeration of every text, of a model to itself, and by hand."""

import itertools
import json
import math

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from simct import demo
from simct.cli.main import main as command
from simct.errors import DataError
from simct.evaluation.distance import Speaker, distance, distance_of, draw, log_probabilities
from simct.evaluation.noise import Change
from simct.evaluation.records import Distance, change
from simct.models.rollout import Rollout
from simct.tokenization.token_bytes import token_bytes
from tests.support.teacher_server import TeacherServer

PROMPT = "ab"


def tiny_tokens(merges: list[tuple[str, str]]):
    """A tokenizer of the letters a and b, the merges, and an end of turn."""
    vocabulary = {"a": 0, "b": 1} | {"".join(pair): 2 + place for place, pair in enumerate(merges)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return token_bytes(PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>"))


def speaker(merges: list[tuple[str, str]], seed: int, prompts: int, double: bool = True) -> Speaker:
    tokens = tiny_tokens(merges)
    torch.manual_seed(seed)
    shape = dict(hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    # one row of the lm_head that belongs to no token; sharp enough for the two to differ
    config = LlamaConfig(vocab_size=len(tokens.bytes_of) + 1, initializer_range=1.0, **shape)
    model = LlamaForCausalLM(config).eval()
    return Speaker(model.double() if double else model, tokens, [tokens.encode(PROMPT.encode())] * prompts)


def naive_log_p(who: Speaker, ids: list[int]) -> float:
    """One forward pass a token, with the model's own logits."""
    total, context = 0.0, list(who.prompts[0])
    for token in ids:
        with torch.no_grad():
            logits_V = who.model(input_ids=torch.tensor([context])).logits[0, -1, : len(who.tokens.bytes_of)]
        log_p_V = logits_V.double().log_softmax(-1)
        total += float(log_p_V[token])
        context.append(token)
    return total


def every_text(who: Speaker, length: int) -> list[list[int]]:
    """Every completion of at most `length` tokens: those that end, and those that are cut."""
    end = who.tokens.end_ids[0]
    texts = [token for token in range(len(who.tokens.bytes_of)) if token != end]
    found = [[*ids, end] for size in range(length) for ids in itertools.product(texts, repeat=size)]
    return [list(ids) for ids in found] + [list(ids) for ids in itertools.product(texts, repeat=length)]


def exact(writer: Speaker, reader: Speaker, length: int) -> float:
    """The expectation over every text, by definition."""
    total = mass = 0.0
    for ids in every_text(writer, length):
        ended = ids[-1] == writer.tokens.end_ids[0]
        text = ids[:-1] if ended else ids
        data = writer.tokens.decode(text)
        read = reader.tokens.encode(data) + ([reader.tokens.end_ids[0]] if ended else [])
        own = naive_log_p(writer, ids)
        total += math.exp(own) * (own - naive_log_p(reader, read)) / math.log(2) / max(1, len(data))
        mass += math.exp(own)
    assert mass == pytest.approx(1.0, abs=1e-9)
    return total


def test_the_mean_is_the_expectation_over_every_text_in_both_directions():
    student, teacher = speaker([], 1, 3000), speaker([("a", "b"), ("b", "b")], 2, 3000)
    for writer, reader in ((student, teacher), (teacher, student)):
        measured = distance_of(writer, reader, draw(writer, max_new_tokens=3, seed=5, batch_size=500), batch_size=500)
        wanted = exact(writer, reader, 3)
        assert measured.answers == 3000 and wanted > 0.1
        assert abs(measured.mean - wanted) < 4 * measured.standard_error
        assert measured.standard_error < 0.1 * wanted + 0.02


def test_log_probabilities_are_those_of_one_pass_a_token():
    who = speaker([("a", "b")], 3, 6)
    end = who.tokens.end_ids[0]
    completions = {0: [0], 1: [2, 1, end], 2: [end], 3: [0, 0, 1, 2], 5: [1, end]}
    found = log_probabilities(who, completions, batch_size=2)
    assert found == pytest.approx({index: naive_log_p(who, ids) for index, ids in completions.items()}, abs=1e-10)


def test_a_model_is_at_no_distance_from_itself():
    who = speaker([], 4, 64)  # every tokenization of its own is the canonical one
    measured = distance_of(who, who, draw(who, max_new_tokens=5))
    assert measured.mean == pytest.approx(0.0, abs=1e-12)
    assert measured.standard_error == pytest.approx(0.0, abs=1e-12)


def test_any_end_of_turn_token_stands_for_the_end():
    who = speaker([], 4, 1)
    end = who.tokens.end_ids[0]
    both = Speaker(who.model, token_bytes(who.tokens.tokenizer, [end, 1]), who.prompts)
    assert both.tokens.end_ids == (end, 1)
    ended = naive_log_p(who, [end]), naive_log_p(who, [1])
    wanted = math.log(sum(map(math.exp, ended)))
    assert log_probabilities(both, {0: [end]})[0] == pytest.approx(wanted, abs=1e-10)


def test_batches_and_their_order_make_no_difference():
    student, teacher = speaker([], 1, 12, double=False), speaker([("a", "b")], 2, 12, double=False)
    results = []
    for size in (1, 5, 12):
        answers = draw(student, max_new_tokens=4, seed=9, batch_size=size)
        results.append((answers, distance_of(student, teacher, answers, batch_size=size)))
    for answers, measured in results[1:]:
        assert [answer.completion_ids for answer in answers] == [answer.completion_ids for answer in results[0][0]]
        assert measured.bits == pytest.approx(results[0][1].bits, abs=1e-5)


def test_other_seeds_write_other_answers():
    student = speaker([], 1, 12)
    first, second = (draw(student, max_new_tokens=4, seed=seed) for seed in (0, 1))
    assert [answer.completion_ids for answer in first] != [answer.completion_ids for answer in second]


def test_what_cannot_be_compared_is_left_out_and_counted():
    student, teacher = speaker([], 1, 3), speaker([], 2, 3)
    end = student.tokens.end_ids[0]
    answers = [Rollout([], [0, end], True), Rollout([], [end, 0], False), Rollout([], [1], False)]
    measured = distance_of(student, teacher, answers)
    assert sorted(measured.bits) == [0, 2] and measured.bytes == 2
    assert measured.excluded == {"special token inside the completion": 1}
    with pytest.raises(DataError, match="none of the 1 answers can be used"):
        distance_of(student, teacher, answers[1:2])


def test_changes_are_paired_by_prompt():
    before = Distance({0: 1.0, 1: 3.0, 2: 2.0}, 30)
    after = Distance({0: 0.5, 1: 2.4, 3: 9.0}, 30)
    found = change(before, after)
    # differences -0.5 and -0.6: mean -0.55, standard deviation 0.0707, over sqrt(2)
    assert (found.mean, found.standard_error, found.answers) == pytest.approx((-0.55, 0.05, 2))
    # Student's t asks two answers for 12.7 standard errors, and these are 11
    assert not found.exceeds_noise and Change(-0.55, 0.05, 5).exceeds_noise
    assert not Change(-0.1, 0.06, 5).exceeds_noise and not Change(-0.1, None, 1).exceeds_noise
    with pytest.raises(DataError):
        change(before, Distance({7: 1.0}, 3))


def test_a_distance_is_kept_as_plain_data():
    kept = Distance({0: 1.0, 4: 3.0}, 12, {"reason": 2})
    assert Distance.from_dict(kept.to_dict()) == kept
    assert kept.to_dict()["bits_per_byte"] == 2.0 and kept.to_dict()["stderr"] == pytest.approx(1.0)


def test_two_models_by_name_in_both_directions():
    reports = []
    found = distance(
        str(demo.STUDENT), str(demo.TEACHER), str(demo.EVAL), samples=6, max_new_tokens=24,
        on_progress=lambda done, total: reports.append((done, total)),
    )  # fmt: skip
    assert found.student_to_teacher.answers == found.teacher_to_student.answers == 6
    assert found.student_to_teacher.mean > 0.05 and found.teacher_to_student.mean > 0.005
    assert reports[-1] == (12, 12) and reports == sorted(reports)
    again = distance(str(demo.STUDENT), str(demo.TEACHER), str(demo.EVAL), samples=6, max_new_tokens=24)
    assert again.to_dict() == found.to_dict()


def test_the_command_prints_and_writes_the_distance(tmp_path, capsys):
    models = ["--model", str(demo.TEACHER), "--teacher", str(demo.TEACHER)]
    path = tmp_path / "distance.json"
    options = ["--prompts", str(demo.EVAL), "--samples", "4", "--max-new-tokens", "16", "--json", str(path)]
    assert command(["evaluate", *models, *options]) == 0
    printed = capsys.readouterr().out
    assert "Student to teacher" in printed and "Teacher to student" in printed and "demo:" not in printed
    kept = json.loads(path.read_text())["distance"]
    for direction in ("student_to_teacher", "teacher_to_student"):
        # a model compared with itself: only sampled ids that are not the canonical ones make a difference
        assert abs(kept[direction]["bits_per_byte"]) < 0.2 and kept[direction]["answers"] == 4
    assert command(["evaluate", *models]) == 2
    assert "--prompts" in capsys.readouterr().err


def test_a_served_teacher_that_lists_everything_is_as_far_away_as_the_local_one(tmp_path, capsys):
    prompts = tmp_path / "prompts.jsonl"
    texts = ("Say it plainly: A cook.", "The infant sleeps.", "Hand")
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    teacher, student = str(demo.TEACHER), str(demo.STUDENT)
    wanted = distance(student, teacher, str(prompts), max_new_tokens=8)
    with TeacherServer(teacher) as server:
        found = distance(student, teacher, str(prompts), max_new_tokens=8, teacher_server=server.url, top_logprobs=9999)
        # the same answers of the student; those of the teacher are drawn by its server
        assert found.student_to_teacher.mean == pytest.approx(wanted.student_to_teacher.mean, abs=1e-4)
        assert found.teacher_to_student.answers == 3 and math.isfinite(found.teacher_to_student.mean)
        assert sum("prompt_logprobs" not in body for body in server.asked) == 3
        options = ["--prompts", str(prompts), "--max-new-tokens", "8", "--json", str(tmp_path / "d.json")]
        served = ["--teacher", teacher, "--teacher-server", server.url, "--top-logprobs", "16"]
        assert command(["evaluate", "--model", student, *served, *options]) == 0
        assert {body["prompt_logprobs"] for body in server.asked[-4:] if "prompt_logprobs" in body} == {16}
        assert command(["evaluate", "--model", student, *served[2:], "--prompts", str(prompts)]) == 2
    printed = capsys.readouterr()
    assert "The teacher's server listed the 16 most likely tokens" in printed.out and "--teacher" in printed.err
    kept = json.loads((tmp_path / "d.json").read_text())
    assert kept["teacher_top_logprobs"] == 16 and server.url not in json.dumps(kept)
