"""teacher.system: a system text that the teacher reads everywhere, and the student nowhere."""

import pytest

from simct import demo
from simct.config import config_from_dict
from simct.config.evaluation import EvaluationConfig
from simct.data.conversations import with_system
from simct.data.prompt_report import describe_prompts
from simct.data.prompts import Prompt
from simct.data.samples import prepare_prompts
from simct.errors import ConfigError
from simct.evaluation import tasks
from simct.evaluation.distance import distance
from simct.models.rollout import Rollout
from simct.tokenization.pair import TokenizerPair
from simct.training.warmup_answers import _plan

SYSTEM = "one two"
PAIR = TokenizerPair.from_pretrained(str(demo.TEACHER), str(demo.STUDENT))
PROMPTS = [Prompt(({"role": "user", "content": text},)) for text in ("three", "four and five")]


def new_config(system=None, **settings):
    sides = {"teacher": {"model": str(demo.TEACHER), "system": system}, "student": {"model": str(demo.STUDENT)}}
    return config_from_dict(sides | {"data": {"prompts": str(demo.PROMPTS)}} | settings)


def read_by(tokens, ids):
    return tokens.tokenizer.decode(ids)


def test_it_stands_at_the_head_of_the_conversation():
    user = {"role": "user", "content": "b"}
    assert with_system([user], None) == [user]
    assert with_system([user], "a") == [{"role": "system", "content": "a"}, user]
    own = {"role": "system", "content": "own"}
    assert with_system([own, user], "a") == [{"role": "system", "content": "a\n\nown"}, user]
    assert own["content"] == "own"


def test_only_the_teacher_reads_it_in_training():
    plain, _ = prepare_prompts(PROMPTS, PAIR, new_config(), [])
    found, _ = prepare_prompts(PROMPTS, PAIR, new_config(SYSTEM), [])
    for before, after in zip(plain, found, strict=True):
        assert after.student_ids == before.student_ids and after.prompt == before.prompt
        assert SYSTEM in read_by(PAIR.teacher, after.teacher_ids)
        assert SYSTEM not in read_by(PAIR.student, after.student_ids)


def test_only_the_teacher_reads_it_in_previews():
    plain, found = (describe_prompts(PROMPTS, PAIR, 400, teacher_system=each) for each in (None, SYSTEM))
    assert found.lengths["student"] == plain.lengths["student"]
    assert all(a > b for a, b in zip(found.lengths["teacher"], plain.lengths["teacher"], strict=True))


def test_the_teacher_of_a_warm_up_reads_it(monkeypatch):
    class Alone:
        def print(self, *texts, **options):
            pass

    plan = _plan(new_config(SYSTEM, kind="warmup"), PAIR.teacher, PROMPTS, Alone(), None)
    assert all(SYSTEM in read_by(PAIR.teacher, ids) for ids in plan.prompt_ids)


def test_scores_of_the_teacher_are_with_it(monkeypatch):
    seen = []

    def generate(model, prompts, *arguments, **options):
        seen.extend(prompts)
        return [Rollout(ids, [PAIR.teacher.end_ids[0]], True) for ids in prompts]

    monkeypatch.setattr(tasks, "generate", generate)
    tasks.evaluate_loaded(None, PAIR.teacher, EvaluationConfig(tasks=["demo"], samples=2), None, SYSTEM)
    assert len(seen) == 2 and all(SYSTEM in read_by(PAIR.teacher, ids) for ids in seen)


def test_the_distance_is_to_the_teacher_that_reads_it():
    names = (str(demo.STUDENT), str(demo.TEACHER), str(demo.PROMPTS))
    plain = distance(*names, samples=2, max_new_tokens=4)
    again = distance(*names, samples=2, max_new_tokens=4, teacher_system=None)
    other = distance(*names, samples=2, max_new_tokens=4, teacher_system=SYSTEM)
    assert plain == again and plain != other


def test_a_student_has_none_of_its_own():
    with pytest.raises(ConfigError, match=r"student\.system.*data\.system"):
        new_config(student={"model": "a/b", "system": "x"})
