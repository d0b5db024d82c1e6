"""Answers to the held-out prompts, sampled and greedy, by a teacher wherever it is, and by the student."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

from simct.config.sections import RolloutConfig
from simct.evaluation.distance import Speaker
from simct.evaluation.records import FixedAnswer
from simct.models.rollout import Rollout, generate
from simct.models.served import ServedTeacher
from simct.models.teachers import LocalTeacher, Teacher
from simct.tokenization.token_bytes import TokenBytes


@dataclass(frozen=True)
class TeacherAnswer:
    """A sampled answer of the teacher, its log p (nats) by the teacher itself (None if it cannot be used), its text."""

    rollout: Rollout
    log_p: float | None
    text: str

    def to_dict(self) -> dict[str, Any]:
        rollout = self.rollout
        return {"ids": rollout.completion_ids, "ended": rollout.ended, "log_p": self.log_p, "text": self.text}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self | None:
        """None for a damaged record."""
        try:
            rollout = Rollout([], [int(each) for each in record["ids"]], bool(record["ended"]))
            log_p = record["log_p"]
            return cls(rollout, None if log_p is None else float(log_p), str(record["text"]))
        except (KeyError, TypeError, ValueError):
            return None


def teacher_greedy_answers(teacher: Teacher, prompts: Sequence[list[int]], max_new_tokens: int) -> list[FixedAnswer]:
    """The most likely answer to each prompt, token by token."""
    if isinstance(teacher, ServedTeacher):
        settings = RolloutConfig(max_new_tokens=max_new_tokens, temperature=1.0, top_p=1.0, top_k=1)
        return described(teacher.tokens, teacher.write(prompts, settings, [0] * len(prompts)))
    speaker = Speaker(cast(LocalTeacher, teacher).model, teacher.tokens, prompts)
    return greedy_answers(speaker, len(prompts), max_new_tokens)


def greedy_answers(speaker: Speaker, count: int, max_new_tokens: int) -> list[FixedAnswer]:
    """The greedy answers to the first `count` prompts."""
    prompts = list(speaker.prompts[:count])
    if not prompts:
        return []
    tokens = speaker.tokens
    rollouts = generate(speaker.model, prompts, tokens.end_ids, speaker.pad_id, len(tokens.bytes_of), max_new_tokens)
    return described(tokens, rollouts)


def described(tokens: TokenBytes, rollouts: Sequence[Rollout]) -> list[FixedAnswer]:
    return [FixedAnswer(text_of(tokens, each), each.ended, len(each.completion_ids)) for each in rollouts]


def text_of(tokens: TokenBytes, rollout: Rollout) -> str:
    """A completion as text for people."""
    return cast(str, tokens.tokenizer.decode(rollout.completion_ids, skip_special_tokens=True))
